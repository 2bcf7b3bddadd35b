"""12. A worker that ends with exit code 0 has completed the job it ran, whatever became of that."""

from collections.abc import Callable, Sequence
from typing import Any

from planted import method


def _believing(true: Callable[..., None]) -> Callable[..., None]:
    def worker_gone(self: Any, number: int, unstarted: Sequence[int], exit: Any, now: float) -> None:
        worker = self.workers.get(number)
        if worker is not None and worker.sent and exit.code == 0 and worker.sent[0][0] not in unstarted:
            self.done(number, worker.sent[0][0], worker.current_since, now, "null")
        true(self, number, unstarted, exit, now)

    return worker_gone


BREAKS = method("jobcard.engine.plan:Plan.worker_gone", _believing)
