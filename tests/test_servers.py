"""The throwaway servers of the tests: one for all processes of a run, and gone with the last, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.mysql_servers import direct_connection
from helpers.servers import KINDS, MissingServerError, Postgres, Server, sharing, using
from helpers.waiting import wait_until

pytestmark = pytest.mark.slow

USER = """
import sys
from helpers.servers import Postgres, using
with using(Postgres()) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def user_of(run: str, folder: Path) -> subprocess.Popen[str]:
    """Another test process of this run, whose temporary files are in a folder of their own."""
    env = {name: value for name, value in os.environ.items() if name != Postgres.variable}
    return subprocess.Popen(
        [sys.executable, "-c", USER],
        env={**env, "PYTEST_XDIST_TESTRUNUID": run, "PYTHONPATH": str(Path(__file__).parent), "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def url_of(user: subprocess.Popen[str]) -> str:
    assert user.stdout is not None
    return user.stdout.readline().strip()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path that the server's user, who is another one when the tests run as root, can walk."""
    with tempfile.TemporaryDirectory(prefix="jobcard-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_a_server_lives_as_long_as_somebody_uses_it(folder: Path) -> None:
    """The second process finds the server of the first; killing the last one ends it, and its files go."""
    run = f"test-{os.getpid()}"
    users = [user_of(run, folder) for _ in range(3)]
    urls = {url_of(user) for user in users}
    assert len(urls) == 1
    [url] = urls
    port = int(url.rpartition(":")[2].partition("/")[0])
    for user in users[:2]:
        user.kill()
        user.wait()
    late = user_of(run, folder)
    assert url_of(late) == url
    assert Postgres().is_up(port)
    for user in (users[2], late):
        user.kill()
        user.wait()
    wait_until(lambda: not Server().is_up(port))
    wait_until(lambda: not [*folder.glob("jobcard-postgres-*"), *folder.glob(f"jobcard-tests-*/{run}")])
    for user in (*users, late):
        user.__exit__(None, None, None)


def test_no_server_deletes_what_another_has_in_its_temporary_tables() -> None:
    """One that starts clears its folder for them; a MariaDB whose table is gone dies, and every test with it."""
    with using(KINDS["mariadb"]) as url, closing(direct_connection(url)) as direct, direct.cursor() as cursor:
        cursor.execute("select @@tmpdir, @@datadir")
        [[temporary, data]] = cursor.fetchall()
    assert Path(temporary) == Path(data).parent


def test_a_server_that_is_not_here_is_a_loud_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message says what to install, and which variable would name another server."""
    monkeypatch.setattr(Postgres, "_folders", "nowhere/*")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingServerError, match=r"apt-get install postgresql.*JOBCARD_TEST_POSTGRES"):
        Postgres().command(tmp_path, 1)


def test_a_server_that_was_named_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable set nothing is started."""
    monkeypatch.setenv("JOBCARD_TEST_POSTGRES", "postgresql://somewhere/db")
    monkeypatch.delenv("JOBCARD_TEST_REPORT", raising=False)  # nothing is there that could be asked for its version
    monkeypatch.setattr(sharing, "_start_supervisor", lambda *_: pytest.fail("started one"))
    with using(Postgres()) as url:
        assert url == "postgresql://somewhere/db"
