"""A small shop with jobs that have ended in every way, copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.apps import App
from helpers.quick import Commands, QuickApp

SHOP = """
    from jobcard import Jobcard

    jobs = Jobcard(max_concurrent_jobs=2)

    @jobs.job(timeout=30, max_attempts=3)
    def thumbnail(path: str, width: int = 200) -> str:
        return f"{path}@{width}"

    @jobs.job(queue="mail", max_attempts=1)
    def welcome(to: str) -> None:
        print("\\x1b[31mred\\x1b[0m to", to, flush=True)
        raise ValueError(f"nobody is called {to} \\x1b[2J\\u202e\\nsecond line")
"""


@pytest.fixture(scope="session")
def ran_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the shop and its store, where one job completed, one failed, one waits and one is canceled."""
    shop = App(tmp_path_factory.mktemp("shop"))
    shop.write("shop.py", SHOP)
    shop.write(
        "seed.py",
        """
        from jobcard.errors import JobFailedError
        from shop import jobs, thumbnail, welcome

        if __name__ == "__main__":
            with jobs.running():
                thumbnail.enqueue("cat.jpg", width=80).result(timeout=60)
                try:
                    welcome.options(tags=["slow"]).enqueue("ann").result(timeout=60)
                except JobFailedError:
                    pass
            thumbnail.options(delay=3600).enqueue("dog.jpg")
            thumbnail.enqueue("fox.jpg").cancel()
        """,
    )
    seeded = shop.python("seed.py", timeout=120)
    assert seeded.code == 0, seeded.err
    return shop.directory


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """What runs the commands of most tests."""
    commands = Commands(tmp_path_factory.mktemp("commands"))
    yield commands
    commands.close()


@pytest.fixture
def shop(ran_shop: Path, tmp_path: Path, commands: Commands) -> App:
    """A copy of that directory, to change."""
    directory = tmp_path / "shop"
    shutil.copytree(ran_shop, directory)
    return QuickApp(directory, commands)


@pytest.fixture
def bare(tmp_path: Path, commands: Commands) -> App:
    """The shop before anything was stored."""
    app = QuickApp(tmp_path, commands)
    app.write("shop.py", SHOP)
    return app
