"""Many engines' tickers on one store, each on a thread, all at every tick in the same moment."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

from jobcard import Jobcard
from jobcard.backends.base import Filter
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.core import clock
from jobcard.core.clock import FrozenClock
from jobcard.engine.store_clock import StoreClock
from jobcard.engine.ticker import Ticker

TICKERS = 4


class FrozenStoreClock(StoreClock):
    """A frozen clock, as an engine would measure it if that took no time."""

    def __init__(self, frozen: FrozenClock) -> None:
        self._frozen = frozen

    def now(self) -> int:
        return self._frozen.now()

    def measure(self) -> int:
        return self._frozen.now()

    def is_doubtful(self) -> bool:
        return False


def race(file: Path, ticks: int) -> list[int]:
    """Let them see to so many ticks of a second; for each job that was made its tick, counted from 1."""
    frozen = FrozenClock()
    began = frozen.now()
    store = SQLiteBackend(f"sqlite:///{file}", clock=frozen)
    store.migrate()
    jobs = Jobcard(backend=store)
    jobs.schedule("beat", timedelta(seconds=1), jobs.job(name="beat")(lambda: None), overlap="allow")
    # Whoever comes last lets the next second begin.
    in_step = threading.Barrier(TICKERS, action=lambda: frozen.advance(1))

    def see_to_ticks(name: str) -> None:
        own = SQLiteBackend(f"sqlite:///{file}", clock=frozen)
        ticker = Ticker(own, name, store_clock=FrozenStoreClock(frozen))
        ticker.look()
        try:
            for _ in range(ticks):
                in_step.wait()
                ticker.look()
        except BaseException:
            in_step.abort()
            raise
        finally:
            own.close()

    threads = [threading.Thread(target=see_to_ticks, args=(f"e{number}",)) for number in range(TICKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = store.list(Filter(), limit=1_000).rows
    jobs.close()
    return sorted((row.available_at - began) // clock.SECOND for row in rows)
