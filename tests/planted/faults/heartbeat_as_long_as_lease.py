"""7. The heartbeat has the period of the lease, so that each beat comes when it is too late."""

from collections.abc import Callable
from typing import Any

from planted import method


def _seldom(true: Callable[..., Any]) -> Callable[..., Any]:
    def beat(self: Any, held: Any, now: float) -> Any:
        old = true(self, held, now)
        self._beat_at = now + self._lease
        return old

    return beat


BREAKS = method("jobcard.engine.leases:Leases.beat", _seldom)
