"""9. A claim counts as lost some seconds after it was made, renewed or not."""

from collections.abc import Callable
from typing import Any

from planted import method, sqlite_text

AGE = "claimed_at + 2000000"


def _by_age(true: Callable[..., str]) -> Callable[..., str]:
    def text(*given: Any) -> str:
        return true(*given).replace("lease_until <= ?", f"{AGE} <= ?")

    return text


BREAKS = {
    **sqlite_text(lapsed=("lease_until <= ?1", f"{AGE} <= ?1")),
    **method("jobcard.backends.sqlite.changes:_text", _by_age),
}
