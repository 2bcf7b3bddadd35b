"""Engines and jobs whose work is enqueued within transactions: never run before the commit, and soon after it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from helpers.apps import App
from helpers.places import new_place

pytestmark = pytest.mark.slow

SHOP = """
    import os
    from jobcard import Jobcard
    from driver import connect, make, MARK

    # Only a hint brings the engine to look so soon.
    jobs = Jobcard(poll_interval=60)

    def orders(conn, number):
        cursor = conn.cursor()
        cursor.execute("select count(*) from orders where number = " + str(number))
        return cursor.fetchone()[0]

    def add(conn, number):
        conn.cursor().execute("insert into orders values (" + MARK + ")", [number])

    @jobs.job(max_attempts=1)
    def order(number: int, fails: bool) -> str:
        with connect() as conn:
            add(conn, number)
            handle = receipt.options(within=conn).enqueue(number)
            if fails:
                raise LookupError(handle.id)
            conn.commit()
        return str(handle.id)

    @jobs.job
    def receipt(number: int) -> int:
        with connect() as conn:
            return orders(conn, number)

    if __name__ == "__main__":
        # Only here: a worker is told by its engine.
        jobs.configure(os.environ["STORE"])
        jobs.migrate()
        with connect() as conn, jobs.running():
            make(conn)
            for number in range(20):
                handle = receipt.options(within=conn).enqueue(number)
                add(conn, number)
                conn.commit()
                assert handle.result(timeout=30) == 1
            # By a job, in a worker that has no store of its own until then.
            good, bad = order.enqueue(100, False), order.enqueue(101, True)
            print(jobs.handle(good.result(timeout=30)).result(timeout=30))
            try:
                bad.result(timeout=30)
            except Exception as error:
                lost = jobs.get(bad.id).error["message"]
                print(type(error).__name__, jobs.find(lost))
            print(orders(conn, 101), jobs.count(name="shop.receipt").total)
"""

DRIVERS = {
    "sqlite": """
        import sqlite3
        from contextlib import closing

        MARK = "?"

        def connect():
            return closing(sqlite3.connect("jobs.db", timeout=30))
    """,
    "postgres": """
        import os, psycopg

        MARK = "%s"

        def connect():
            return psycopg.connect(os.environ["STORE"].partition("?")[0])
    """,
    "mariadb": """
        import os, pymysql
        from urllib.parse import urlsplit

        MARK = "%s"

        def connect():
            url = urlsplit(os.environ["STORE"])
            return pymysql.connect(host=url.hostname, port=url.port, user=url.username, password=url.password,
                                   database=url.path[1:], ssl_disabled=True)
    """,
}
MAKE = """
def make(conn):
    cursor = conn.cursor()
    cursor.execute("drop table if exists orders")
    cursor.execute("create table orders (number integer)")
    conn.commit()
"""


@pytest.mark.parametrize("kind", DRIVERS)
def test_an_engine_and_its_jobs(kind: str, tmp_path: Path) -> None:
    """What is committed runs at once, whoever enqueued it; what is rolled back was never there."""
    app = App(tmp_path)
    app.write("shop.py", SHOP)
    app.write("driver.py", dedent(DRIVERS[kind]) + MAKE)
    with new_place(kind, tmp_path) as place:
        url = f"{place.url}?library=sqlite3" if kind == "sqlite" else place.url
        ran = app.python("shop.py", env={"STORE": url})
    assert (ran.code, ran.out.splitlines()) == (0, ["1", "JobFailedError None", "0 21"]), ran.err
