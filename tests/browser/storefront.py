"""A shop with a real engine and its dashboard beside it: what the journeys go through."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helpers.apps import App
from helpers.waiting import PATIENCE, wait_until
from jobcard.client import Jobcard

SHOP = '''
    """A shop: what it sends, charges and reports."""

    from datetime import timedelta
    from pathlib import Path

    from jobcard import JobContext, Jobcard

    jobs = Jobcard(max_concurrent_jobs=4)


    class CardDeclined(Exception):
        pass


    class Ledger:
        def __init__(self, order: int) -> None:
            self.order = order

        def book(self, amount: float) -> str:
            if not Path("cards-work-again").exists():
                raise CardDeclined(f"order {self.order}: the bank says no to {amount:.2f} EUR")
            return f"booked {amount:.2f}"


    @jobs.job(queue="mail", max_attempts=3)
    def welcome(to: str, language: str = "en") -> str:
        return f"sent to {to}"


    @jobs.job(queue="payments", max_attempts=1)
    async def charge(order: int, amount: float = 9.5) -> str:
        return Ledger(order).book(amount)


    @jobs.job(queue="reports", max_attempts=1)
    def report(ctx: JobContext, gate: str) -> dict[str, int]:
        ctx.log("reading the orders of the last month")
        ctx.progress(0.4, "400 of 1,000 orders")
        with open(gate) as told:
            told.read()
        ctx.log("done")
        return {"orders": 1000, "pages": 12}


    @jobs.job(queue="reports", max_attempts=1)
    def figures(day: str = "today") -> str:
        return f"figures of {day}"


    jobs.schedule("nightly-figures", "0 3 * * *", figures, kwargs={"day": "yesterday"}, tz="Europe/Berlin")
    jobs.schedule("stock", every=timedelta(hours=1), job=figures)
'''


@dataclass
class Shop:
    """A running engine with its dashboard."""

    app: App
    url: str
    jobs: Jobcard
    address: str

    def gate(self, name: str) -> Path:
        """What a report waits for: it goes on once this has been `opened`."""
        path = self.app.directory / name
        os.mkfifo(path)
        return path

    def mend(self) -> None:
        """From now on cards are charged."""
        (self.app.directory / "cards-work-again").touch()

    def break_(self) -> None:
        """From now on the bank says no."""
        (self.app.directory / "cards-work-again").unlink(missing_ok=True)

    def wait_for(self, number: int, state: str, **of: object) -> None:
        """Until so many jobs are in this state."""
        wait_until(lambda: self.jobs.count(**of)[state] >= number, f"{number} jobs {state}")


def opened(gate: Path) -> None:
    """Let the report behind it go on."""
    with gate.open("w"):
        pass


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(app: App, *arguments: str, until: str) -> Iterator[str]:
    """`jobcard …` in the shop's directory once its log says this; ended with SIGTERM. What it had said by then."""
    log = app.directory / f"{arguments[0]}.log"
    process = app.begin([sys.executable, "-m", "jobcard", *arguments], log)
    try:
        wait_until(lambda: until in log.read_text("utf-8") or process.poll() is not None, until, timeout=4 * PATIENCE)
        said = log.read_text("utf-8")
        assert process.poll() is None, said
        yield said
    finally:
        process.terminate()
        try:
            process.wait(2 * PATIENCE)
        finally:
            process.kill()
            process.wait()


@contextmanager
def open_shop(directory: Path, url: str) -> Iterator[Shop]:
    """The shop on a new store, with an engine and the dashboard beside it."""
    app = App(directory)
    app.write("shop.py", SHOP)
    port = free_port()
    with Jobcard(url) as jobs:
        jobs.migrate()
        address = f"http://127.0.0.1:{port}"
        with running(app, "start", "shop:jobs", "--url", url, "--dashboard-port", str(port), until="ready: engine"):
            wait_until(lambda: _listens(port), "the dashboard", timeout=4 * PATIENCE)
            yield Shop(app, url, jobs, address)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
