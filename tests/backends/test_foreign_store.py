"""Stores that are not jobcard's own, or not all there: found by entry point, or told by the extra that is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from checker.lab import Lab
from helpers.waiting import wait_until
from jobcard.backends.registry import installed_schemes
from samples import install

SHOP = """
import os, time
from pathlib import Path
from jobcard import Backoff, Jobcard

jobs = Jobcard(worker_client="direct")


@jobs.job
def double(number: int) -> int:
    return 2 * number


@jobs.job
def store() -> str:
    return jobs.health().store  # this process has a way of its own


@jobs.job(max_attempts=3, backoff=Backoff.fixed(0.05))
def killed_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).with_suffix(".new").write_text(str(os.getpid()))
        Path(mark).with_suffix(".new").rename(mark)
        time.sleep(600)
    return "done at the second try"
"""

CUSTOMER = """
from shop import double, jobs, killed_once, store

victim = killed_once.enqueue("mark")
handles = jobs.enqueue_many([double.call(number) for number in range(200)])
print(jobs.health().store, store.enqueue().result(timeout=60))
print(sum(handle.result(timeout=60) for handle in handles), victim.result(timeout=60))
print(len(victim.refresh().errors), jobs.count().total)
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Its processes find the sample package as any other that is installed; this one does not."""
    monkeypatch.setenv("PYTHONPATH", str(install("notebook_store", tmp_path / "site")))
    lab = Lab(tmp_path, f"notebook:///{tmp_path / 'notes.db'}")
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "customer.py").write_text(CUSTOMER)
    yield lab
    lab.close()


def test_a_store_of_somebody_else_runs_an_engine(lab: Lab) -> None:
    """A scheme that an installed package registers works in client, engine and workers; a worker's death harms no job.

    The application names neither the package nor its class; the engine gets the URL on its command line alone.
    """
    assert "notebook" not in installed_schemes()
    tree = lab.start("shop", "--url", lab.url, env={"JOBCARD_URL": "sqlite:///elsewhere.db"})
    customer = lab.python("customer.py")
    wait_until((lab.folder / "mark").exists, "the job that is to be killed")
    os.kill(int((lab.folder / "mark").read_text()), signal.SIGKILL)
    out, _ = customer.communicate(timeout=60)
    assert out.decode().splitlines() == ["Notebook Notebook", "39800 done at the second try", "1 202"]
    assert tree.stop() == 0
    lab.wait_gone()
    assert (lab.folder / "notes.db").exists() and not (lab.folder / "elsewhere.db").exists()


def run(environment: dict[str, str], url: str, *, without: str = "") -> subprocess.CompletedProcess[str]:
    """`jobcard stats --url …` in a process that cannot import one package."""
    code = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {without.split()}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from jobcard.cli.main import main
sys.argv = ["jobcard", "stats", "--url", {url!r}]
main()
"""
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


WITH_DRIVER = {scheme: entry for scheme, entry in installed_schemes().items() if entry.extras}
DRIVERS = {"mongodb": "pymongo bson", "mysql": "pymysql MySQLdb", "postgres": "psycopg", "redis": "redis"}


@pytest.mark.parametrize("entry", WITH_DRIVER.values(), ids=list(WITH_DRIVER))
def test_a_missing_driver_says_what_to_install(entry: EntryPoint, tmp_path: Path) -> None:
    """Whoever names a store whose driver is not there is told the package and the extra, in one line, and exits 2."""
    [extra] = entry.extras
    ran = run(Lab(tmp_path).environment(), f"{entry.name}://localhost/x", without=DRIVERS[extra])
    package = DRIVERS[extra].split()[0]
    assert ran.stderr == f"jobcard: {entry.name}:// needs the package {package!r}: pip install 'jobcard[{extra}]'\n"
    assert (ran.returncode, ran.stdout) == (2, "")


def test_every_extra_of_a_store_is_tried() -> None:
    """A new store with a driver of its own gets its line above."""
    assert {extra for entry in WITH_DRIVER.values() for extra in entry.extras} == DRIVERS.keys()


def test_the_extra_is_that_of_the_package_that_has_the_store(lab: Lab) -> None:
    """A driver that a package of somebody else lacks comes with an extra of theirs, not of ours."""
    ran = run(lab.environment(), "notebook+ink:///notes.db")
    wanted = "needs the package 'no_such_ink_driver': pip install 'notebook-store[ink]'"
    assert (ran.returncode, ran.stderr) == (2, f"jobcard: notebook+ink:// {wanted}\n")


def test_without_the_package_its_scheme_is_unknown(tmp_path: Path) -> None:
    """The message names the schemes that are installed."""
    ran = run(Lab(tmp_path).environment(), "notebook:///notes.db")
    assert ran.returncode == 2
    assert "no store is installed for notebook://" in ran.stderr and "postgresql" in ran.stderr
