"""Moving jobs into and out of a SQLite file, and the seal that closes it: what only this store has."""

from __future__ import annotations

import contextlib
import os
import select
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.stores import LIBRARIES, PATIENCE, SPAWN, in_processes, raw
from helpers.waiting import wait_until
from jobcard.backends.base import RecordKind, Want
from jobcard.backends.sqlite import SQLiteBackend, sealing
from jobcard.backends.sqlite.statements import statements
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core.clock import FrozenClock
from jobcard.core.job import LogLine, OnceKey, WholeJob
from jobcard.errors import InvalidJobError, StoreMovedError, StoreUnavailableError

CLOSED = ("jobs", "attempts", "lines", "once", "starts", "records")
"""The tables that a seal closes."""


@pytest.fixture(params=LIBRARIES)
def file(request: pytest.FixtureRequest, path: Path) -> Iterator[SQLiteBackend]:
    """A store in a file, by each of the two libraries."""
    backend = SQLiteBackend(path, library=request.param)
    backend.migrate()
    yield backend
    backend.close()


def whole(store: SQLiteBackend, job_id: bytes, lines: int = 0) -> WholeJob:
    """A job as it stands in a store, with some log lines more."""
    said = [LogLine(job_id, at, f"line {at}") for at in range(lines)]
    return WholeJob(factory.row_of(store, job_id), store.attempts([job_id]), [*store.log_lines([job_id]), *said])


def seal_of(path: Path) -> str | None:
    """What stands in the file, whatever the store that was sealed believes."""
    store = SQLiteBackend(path)
    word = store.facts().seal
    store.close()
    return word


# ------------------------------------------------------------------ putting


class TestPutting:
    def test_a_batch_that_cannot_be_stored_leaves_nothing(self, file: SQLiteBackend, tmp_path: Path) -> None:
        """One value that SQLite cannot take, and no row, try or queue of the batch is stored."""
        other = SQLiteBackend(tmp_path / "other.db")
        other.migrate()
        good = whole(other, factory.job_in_state(other, "failed", queue="mail"), lines=3)
        bad = good._replace(row=good.row._replace(id=factory.new_id(), created_at=1 << 70))
        with pytest.raises(InvalidJobError):
            file.put([good, bad])
        assert file.versions(after=None, limit=9) == []
        assert file.read_records(RecordKind.QUEUE) == []
        assert [raw(file, f"select count(*) from jobcard_{table}") for table in ("attempts", "lines")] == [[(0,)]] * 2  # noqa: S608
        assert file.put([good]) == []
        other.close()

    def test_what_was_there_of_a_job_is_gone(self, file: SQLiteBackend) -> None:
        """Written over itself, a job has the tries and lines it came with and no others."""
        job_id = factory.job_in_state(file, "failed")
        first = whole(file, job_id, lines=5)
        file.put([first])
        file.put([first._replace(lines=first.lines[3:], attempts=[])])
        assert file.attempts([job_id]) == []
        assert [line.text for line in file.log_lines([job_id])] == ["line 3", "line 4"]
        file.put([first])
        assert whole(file, job_id) == first

    def test_the_same_job_twice_in_one_call_is_the_last(self, file: SQLiteBackend) -> None:
        """Each takes the place of the one with its id, also of one in the same call."""
        job = whole(file, factory.job_in_state(file, "failed"), lines=2)
        newer = job._replace(row=job.row._replace(version=job.row.version + 1), lines=job.lines[:1])
        assert file.put([job, newer]) == []
        assert whole(file, job.row.id) == newer

    def test_an_ended_job_gives_its_key_free_first(self, file: SQLiteBackend) -> None:
        """In whatever order they come: the key that an ended job had here is free for the one that has it now."""
        old = whole(file, factory.enqueue(file, unique_key="k"))
        heir = old._replace(row=old.row._replace(id=factory.new_id()))
        assert file.put([heir]) == [heir.row.id]
        ended = old._replace(row=old.row._replace(state="canceled", finished_at=1))
        assert file.put([heir, ended]) == []
        assert {row.id: row.state for row in file.get([old.row.id, heir.row.id])} == {
            old.row.id: "canceled",
            heir.row.id: "waiting",
        }

    def test_unreadable_jobs_have_a_place_among_the_versions(self, file: SQLiteBackend) -> None:
        """-1 says that somebody stands there whom nobody can read, also where all of a page are so."""
        ids = sorted(factory.enqueue_several(file, 6))
        for job_id in ids[1:4]:
            raw(file, "update jobcard_jobs set meta = cast(x'ff' as text) where id = ?", job_id)
        found = [*file.versions(after=None, limit=2), *file.versions(after=ids[1], limit=2)]
        assert found == [(ids[0], 1), (ids[1], -1), (ids[2], -1), (ids[3], -1)]
        assert file.versions(after=ids[3], limit=3) == [(ids[4], 1), (ids[5], 1)]


# ------------------------------------------------------------------ sealing


def _write_ignorant_of_seals(path: Path) -> None:
    """Every way to write to every table, with Python's own library: none gets through, and nothing has changed."""
    application = sqlite3.connect(path, isolation_level=None)
    for table in CLOSED:
        before = application.execute(f"select * from jobcard_{table}").fetchall()  # noqa: S608
        column = application.execute("select name from pragma_table_info(?)", [f"jobcard_{table}"]).fetchone()[0]
        assert before, table
        for write in (
            f"insert or replace into jobcard_{table} select * from jobcard_{table}",  # noqa: S608
            f"insert or ignore into jobcard_{table} select * from jobcard_{table}",  # noqa: S608
            f"update jobcard_{table} set {column} = {column}",  # noqa: S608
            f"delete from jobcard_{table}",  # noqa: S608
        ):
            with pytest.raises(sqlite3.IntegrityError, match="sealed"):
                application.execute(write)
        assert application.execute(f"select * from jobcard_{table}").fetchall() == before  # noqa: S608
    application.close()


def _produce_until_sealed(path: Path, acknowledged: Any) -> None:
    backend = SQLiteBackend(path, busy_timeout=PATIENCE)
    stored: list[bytes] = []
    try:
        while True:
            stored.append(factory.enqueue(backend))
            if len(stored) == 20:
                acknowledged.send("working")
    except StoreMovedError:
        acknowledged.send(stored)
    backend.close()


def filled(store: SQLiteBackend) -> None:
    """Rows in every table that a seal closes."""
    store.put([whole(store, factory.job_in_state(store, "failed"), lines=2)])
    store.put_once_keys([OnceKey("k", factory.new_id(), 1 << 60)])
    raw(store, "insert into jobcard_starts values ('key', 1, 1, 1)")


@pytest.mark.slow
@pytest.mark.turns
class TestSealing:
    def test_the_file_itself_keeps_everybody_out(self, file: SQLiteBackend, path: Path) -> None:
        """Not our code stands in the way, but triggers: a program that knows nothing of seals can write nothing."""
        filled(file)
        file.seal("elsewhere")
        in_processes(_write_ignorant_of_seals, (path,))
        assert file.facts().seal == "elsewhere"

    def test_it_waits_for_who_writes(self, file: SQLiteBackend, path: Path) -> None:
        """A transaction that was open when the seal was asked for has ended when it stands, and its rows are there."""
        writer = SQLiteBackend(path, library=file._options.library)
        sealed = threading.Event()

        def seal() -> None:
            file.seal("elsewhere")
            sealed.set()

        with writer._writer.use() as connection:
            with connection.transaction():
                sealing = threading.Thread(target=seal)
                sealing.start()
                connection.execute("insert into jobcard_once values ('last', x'00', 1)")
                assert not sealed.wait(0.1)
            sealing.join(PATIENCE)
        assert sealed.is_set()
        assert raw(file, "select key from jobcard_once") == [("last",)]
        with pytest.raises(StoreMovedError):
            factory.enqueue(writer)
        writer.close()

    def test_whose_patience_ends_has_sealed_nothing(self, file: SQLiteBackend, path: Path) -> None:
        """A writer that does not end in time: the seal is given up, and all goes on."""
        hurried = SQLiteBackend(path, library=file._options.library, patience=0.05)
        with file._writer.use() as connection, connection.transaction(), pytest.raises(StoreUnavailableError):
            hurried.seal("elsewhere")
        assert hurried.facts().seal is None
        factory.enqueue(file)
        hurried.close()

    def test_what_was_acknowledged_before_is_there_and_nothing_after(self, store: SQLiteBackend, path: Path) -> None:
        """Producers in processes of their own meet the seal: what they were told is what is there."""
        pipes = [SPAWN.Pipe(duplex=False) for _ in range(3)]
        producers = [SPAWN.Process(target=_produce_until_sealed, args=(path, sender)) for _, sender in pipes]
        for producer in producers:
            producer.start()
        for receiver, _ in pipes:
            assert receiver.poll(PATIENCE) and receiver.recv() == "working"
        store.seal("elsewhere")
        there = dict(store.versions(after=None, limit=1_000_000))
        told: list[bytes] = []
        for receiver, sender in pipes:
            assert receiver.poll(PATIENCE)
            told += receiver.recv()
            receiver.close()
            sender.close()
        for producer in producers:
            producer.join(PATIENCE)
            assert producer.exitcode == 0
        assert set(told) == there.keys()
        assert dict(store.versions(after=None, limit=1_000_000)) == there

    def test_a_connection_from_before_meets_it_too(self, file: SQLiteBackend, path: Path) -> None:
        """Statements that another connection had prepared before the seal are no way around it."""
        early = SQLiteBackend(path, library=file._options.library)
        claim = factory.claimed_job(early)
        file.seal("elsewhere")
        for write in (
            lambda: factory.enqueue(early),
            lambda: factory.complete(early, claim),
            lambda: early.renew("engine", [(claim.ref, claim.token)], lease=micros(60)),
            lambda: early.write_record(RecordKind.ENGINE, "engine", "{}"),
        ):
            with pytest.raises(StoreMovedError):
                write()
        file.seal(None)
        assert factory.complete(early, claim) == []
        early.close()

    def test_the_schema_goes_up_and_down_behind_it(self, file: SQLiteBackend) -> None:
        """Migrations and truncate write where nobody else may; the seal stands before and after, on new tables too."""
        filled(file)
        file.seal("elsewhere")
        assert [file.rollback(), file.rollback(), file.rollback(), file.migrate()] == [4, 3, 2, [2, 3, 4]]
        file.truncate()
        assert file.tally().counts["failed"] == 0
        assert file.facts().seal == "elsewhere"
        for table in CLOSED:
            assert (
                len(
                    raw(
                        file,
                        "select name from sqlite_schema where tbl_name = ? and type = 'trigger'",
                        f"jobcard_{table}",
                    )
                )
                == 3
            )
        with pytest.raises(StoreMovedError):
            raw(file, "insert into jobcard_once values ('k', x'00', 1)")
        while file.rollback():
            pass
        assert file.migrate() == [1, 2, 3, 4]
        factory.enqueue(file)

    def test_another_store_in_the_file_goes_on(self, file: SQLiteBackend, path: Path) -> None:
        """The seal of one prefix is none of the other's, also where one's name begins with the other's."""
        others = [
            SQLiteBackend(path, prefix=prefix, library=file._options.library) for prefix in ("job", "jobcard_jobs_")
        ]
        for other in others:
            other.migrate()
        file.seal("elsewhere")
        for other in others:
            factory.enqueue(other)
            other.seal("elsewhere")
            other.seal(None)
        with pytest.raises(StoreMovedError):
            factory.enqueue(file)
        for other in others:
            other.close()

    def test_opened_again_nothing_is_left_of_it(self, file: SQLiteBackend) -> None:
        """Sealed twice and opened once, the file is as it was: no trigger, and each statement costs what it did."""
        file.seal("elsewhere")
        file.seal("somewhere else")
        assert file.facts().seal == "somewhere else"
        file.seal(None)
        assert raw(file, "select name from sqlite_schema where type = 'trigger'") == []
        factory.enqueue(file)
        assert len(factory.claim_some(file, 1)) == 1

    def test_a_claim_that_cannot_be_read_stays_as_it_is(self, path: Path) -> None:
        """Looking for claims goes on in a sealed file, though what is broken cannot be put aside."""
        clock = FrozenClock()
        store = SQLiteBackend(path, clock=clock)
        store.migrate()
        claim = factory.running_job(store, lease=micros(60))
        raw(store, "update jobcard_jobs set meta = cast(x'ff' as text)")
        store.seal("elsewhere")
        clock.advance(61)
        assert store.find_held([], lapsed=True, limit=9).claims == []
        assert raw(store, "select state, claim_token from jobcard_jobs") == [("running", claim.token)]
        store.close()

    def test_an_engine_that_waits_is_told(self, file: SQLiteBackend) -> None:
        """Whoever listens for jobs is woken by the seal, and its next exchange says that the jobs are elsewhere."""
        waker = file.waker()
        with contextlib.closing(waker):
            if waker.fd is None:
                pytest.skip("nothing to listen to here")
            file.seal("elsewhere")
            wait_until(lambda: select.select([waker.fd], [], [], 0)[0], "the seal's wake-up")
        for want in (Want(), Want([("default", 1)], 1)):
            with pytest.raises(StoreMovedError):
                file.exchange("engine", want=want, lease=micros(60))

    def test_a_death_in_the_middle_seals_all_or_nothing(self, store: SQLiteBackend, path: Path) -> None:
        """The barrier and its word are one commit: a process that dies before it leaves neither."""
        filled(store)
        in_processes(_die_while_sealing, (path,))
        assert seal_of(path) is None
        assert raw(store, "select name from sqlite_schema where type = 'trigger'") == []
        factory.enqueue(store)


def _die_while_sealing(path: Path) -> None:
    backend = SQLiteBackend(path)
    with backend._writer.use() as connection, connection.transaction():
        sealing.seal(connection, statements("jobcard_"), "elsewhere")
        os._exit(0)
