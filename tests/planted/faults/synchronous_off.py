"""6. SQLite does not wait for the disk: what was committed last is gone when the power is."""

from collections.abc import Callable, Sequence
from typing import Any

from planted import method


def _without_sync(true: Callable[..., Any]) -> Callable[..., Any]:
    def execute(self: Any, sql: str, values: Sequence[object] = ()) -> Any:
        return true(self, "pragma synchronous = off" if sql.startswith("pragma synchronous") else sql, values)

    return execute


BREAKS = method("jobcard.backends.sqlite.connection:Connection.execute", _without_sync)
