"""An application on MariaDB and on MySQL, from outside: the same few lines as on SQLite."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from helpers.apps import App
from helpers.mysql_servers import direct_connection, new_prefix

pytestmark = [pytest.mark.turns, pytest.mark.slow]

SHOP = """
    import os, signal
    from jobcard import Jobcard, JobFailedError

    jobs = Jobcard()

    @jobs.job(max_attempts=3)
    def thumbnail(path: str, width: int = 200) -> str:
        return f"{path}@{width}"

    @jobs.job(max_attempts=1)
    def broken() -> None:
        raise ValueError("it broke")

    @jobs.job(max_attempts=2, max_crashes=1)
    def crashes() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @jobs.job
    def outer(n: int) -> str:
        return thumbnail.enqueue("inner", n).id.hex

    if __name__ == "__main__":
        with jobs.running():
            handles = jobs.enqueue_many([thumbnail.call("cat.jpg", width) for width in range(300)])
            assert [handle.result(timeout=60) for handle in handles] == [f"cat.jpg@{width}" for width in range(300)]
            assert jobs.handle(outer.enqueue(7).result(timeout=60)).result(timeout=60) == "inner@7"
            for job, reason in ((broken, "error"), (crashes, "crash")):
                handle = job.enqueue()
                try:
                    handle.result(timeout=60)
                except JobFailedError as error:
                    assert error.reason == reason, error
                else:
                    raise AssertionError(f"{job} did not fail")
        health = jobs.health()
        assert health.ok and health.store == "mysql", health
        print({str(state): number for state, number in jobs.count().items()})
"""

UNDER_FIRE = """
    import os, time
    from helpers.mysql_servers import direct_connection
    from jobcard import Jobcard

    jobs = Jobcard()

    @jobs.job
    def work(n: int) -> int:
        time.sleep(0.005)
        return n

    def cut(cursor):
        cursor.execute("select id from information_schema.processlist where id != connection_id() and db = database()")
        for (number,) in cursor.fetchall():
            try:
                cursor.execute(f"kill {number}")
            except Exception:
                pass  # it has ended by itself

    if __name__ == "__main__":
        admin = direct_connection(os.environ["SERVER"])
        with admin.cursor() as cursor, jobs.running():
            handles = []
            for round_ in range(6):
                handles += [work.enqueue(n) for n in range(10)]
                handles += jobs.enqueue_many([work.call(n) for n in range(40)])
                assert handles[-1].result(timeout=60) == 39
                cut(cursor)
            assert sorted(handle.result(timeout=60) for handle in handles) == sorted([*range(10), *range(40)] * 6)
            print("ended", len(jobs.list(state="completed", limit=1000)), jobs.count()["completed"])
"""


@pytest.fixture(params=["mariadb", "mysql"])
def url(request: pytest.FixtureRequest) -> str:
    """Either server."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def test_an_application_runs_its_jobs_there(tmp_path: Path, url: str) -> None:
    """Results, failures, a crash and jobs enqueued by jobs: all is in the tables when the program has ended."""
    app = App(tmp_path)
    app.write("shop.py", SHOP)
    env = {"JOBCARD_URL": f"{url}?prefix={new_prefix()}"}
    ran = app.python("shop.py", env=env, timeout=120)
    assert ran.code == 0, ran.err
    assert "'completed': 302" in ran.out and "'failed': 2" in ran.out, ran.out
    stats = app.jobcard("stats", "--json", env=env)
    assert json.loads(stats.out)["completed"] == 302, stats
    secret = url.partition("@")[0].rpartition(":")[2]
    assert secret not in ran.out + ran.err + stats.out + stats.err


def test_connections_that_are_cut_lose_nothing(tmp_path: Path, url: str) -> None:
    """While an administrator ends every connection again and again, each job runs to its end."""
    name = new_prefix()
    with contextlib.closing(direct_connection(url)) as server, server.cursor() as cursor:
        cursor.execute(f"create database {name}")
    alone = f"{url.rpartition('/')[0]}/{name}"
    app = App(tmp_path)
    app.write("shop.py", UNDER_FIRE)
    env = {"JOBCARD_URL": alone, "SERVER": alone, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    ran = app.python("shop.py", env=env, timeout=120)
    assert (ran.code, ran.out) == (0, "ended 300 300\n"), ran.err


def test_the_bench_leaves_nothing_behind(tmp_path: Path, url: str) -> None:
    """`jobcard bench --url` measures on a prefix of its own, and takes its tables away."""
    app = App(tmp_path)
    ran = app.jobcard("bench", "--url", url, "--jobs", "500", "--json", timeout=120)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["jobs"] == 500
    with contextlib.closing(direct_connection(url)) as beside, beside.cursor() as cursor:
        cursor.execute("select count(*) from information_schema.tables where table_name like 'bench%'")
        assert cursor.fetchall() == ((0,),)
