"""What only the SQLite store has: its file, its rows, its plans."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from helpers.stores import LIBRARIES, in_fork, raw
from helpers.waiting import wait_until
from jobcard.backends.base import Fate, Filter, Outcome, RecordKind, Verdict, Want
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.backends.sqlite.pool import Places
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.errors import (
    ConfigError,
    CorruptRecordError,
    InvalidJobError,
    SchemaVersionError,
    StoreError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
)

# ------------------------------------------------------------------ the file


class TestFile:
    def test_only_its_owner_may_read_it(self, store: SQLiteBackend, path: Path) -> None:
        """Jobs hold what applications put in them, so the file is made with mode 0600; its WAL has the same."""
        factory.enqueue(store)
        for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_only_a_migration_makes_it(self, path: Path) -> None:
        """Looking at a store that does not exist says so and leaves no empty file behind."""
        backend = SQLiteBackend(path)
        for verb in (backend.check_schema, backend.facts, backend.tally, lambda: factory.enqueue(backend)):
            with pytest.raises(SchemaVersionError) as caught:
                verb()
            assert caught.value.found == 0
        assert not path.exists()

    def test_it_must_be_a_file_of_its_own_kind(self, tmp_path: Path) -> None:
        """What cannot be a SQLite file is refused before anything is written to it."""
        text = tmp_path / "notes.txt"
        text.write_text("not a database, and longer than the header of one would be " * 20)
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        database = tmp_path / "real.db"
        SQLiteBackend(database).migrate()
        link, second_name, locked = tmp_path / "link.db", tmp_path / "second.db", tmp_path / "locked.db"
        link.symlink_to(database)
        locked.touch(mode=0o400)
        for file, words in (
            (tmp_path, "directory"),
            (tmp_path / "missing" / "jobs.db", "does not exist"),
            (text / "jobs.db", "does not exist"),
            (Path("/dev/null"), "device"),
            (pipe, "device, pipe"),
            (text, "not a SQLite database"),
            (link, "symbolic link"),
            (locked, "read-only"),
            (tmp_path / ("x" * 300), "cannot be reached"),
        ):
            with pytest.raises(ConfigError, match=words):
                SQLiteBackend(file).migrate()
        second_name.hardlink_to(database)
        with pytest.raises(ConfigError, match="second name"):
            SQLiteBackend(second_name).migrate()
        assert text.read_text().startswith("not a database")

    def test_an_empty_file_becomes_a_store(self, path: Path) -> None:
        """An empty file is what another process has just made."""
        path.touch()
        backend = SQLiteBackend(path)
        assert backend.migrate() == [1, 2, 3, 4]
        backend.close()

    def test_another_applications_tables_are_left_alone(self, path: Path) -> None:
        """In a file of somebody else's, only tables with our prefix come and go."""
        with_data = sqlite3.connect(path)
        with_data.execute("create table jobs (n)")
        with_data.execute("insert into jobs values (7)")
        with_data.commit()
        with_data.close()
        backend = SQLiteBackend(path)
        backend.migrate()
        factory.enqueue(backend)
        backend.truncate()
        while backend.rollback():
            pass
        assert raw(backend, "select name from sqlite_schema where name not like 'sqlite_%'") == [("jobs",)]
        assert raw(backend, "select n from jobs") == [(7,)]
        backend.close()

    def test_a_foreign_table_of_our_name_stops_the_migration(self, path: Path) -> None:
        """A table that has our name but is not ours is neither used nor changed."""
        for table, sql in (("jobcard_jobs", "create table jobcard_jobs (a)"), ("jobcard_meta", None)):
            other = sqlite3.connect(path)
            other.execute(sql or "drop table jobcard_jobs")
            other.execute("create table if not exists jobcard_meta (a)") if sql is None else None
            other.commit()
            other.close()
            with pytest.raises(ConfigError, match=f"{table}.*choose another prefix"):
                SQLiteBackend(path).migrate()

    def test_a_newer_step_leaves_the_jobs_alone(self, store: SQLiteBackend, path: Path) -> None:
        """Back to the first version and up again, jobs and tries stay; a table in the way stops it, nothing is done."""
        ids = [factory.job_in_state(store, state) for state in ("waiting", "running", "failed")]
        before, tries = factory.rows_of(store, ids), store.attempts(ids)
        assert [store.rollback(), store.rollback(), store.rollback()] == [4, 3, 2]
        with pytest.raises(SchemaVersionError):
            store.check_schema()
        raw(store, "create table jobcard_lines (a)")
        with pytest.raises(ConfigError, match=r"jobcard_lines.*choose another prefix"):
            store.migrate()
        raw(store, "drop table jobcard_lines")
        assert store.migrate() == [2, 3, 4]
        assert (factory.rows_of(store, ids), store.attempts(ids)) == (before, tries)

    def test_prefixes_part_stores_in_one_file(self, store: SQLiteBackend, path: Path) -> None:
        """Two prefixes in one file are two stores."""
        other = SQLiteBackend(path, prefix="other_")
        other.migrate()
        factory.enqueue(other)
        assert (store.tally().counts["waiting"], other.tally().counts["waiting"]) == (0, 1)
        assert store.facts().identity != other.facts().identity
        other.close()

    def test_a_relative_path_is_fixed_when_it_is_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Changing the directory later does not lead to another file."""
        monkeypatch.chdir(tmp_path)
        backend = SQLiteBackend("sqlite:///jobs.db")
        monkeypatch.chdir("/")
        backend.migrate()
        assert (tmp_path / "jobs.db").exists()
        backend.close()

    def test_a_file_that_was_replaced_is_not_written_on(self, store: SQLiteBackend, path: Path) -> None:
        """After the file is deleted a job is refused, not stored where nobody will ever look."""
        factory.enqueue(store)
        path.unlink()
        with pytest.raises(SchemaVersionError):
            factory.enqueue(store)
        other = SQLiteBackend(path)
        other.migrate()
        job_id = factory.enqueue(store)
        assert factory.row_of(other, job_id).state == "waiting"
        other.close()

    def test_readonly_looks_and_never_writes(self, store: SQLiteBackend, path: Path) -> None:
        """With readonly=1 a file is opened so: looks work, and nothing is written even behind the store."""
        job_id = factory.enqueue(store)
        looker = SQLiteBackend(f"sqlite:///{path}?readonly=1")
        looker.check_schema()
        assert factory.row_of(looker, job_id).state == "waiting"
        assert looker.tally().counts["waiting"] == 1
        assert looker.facts().schema_version == 4
        with pytest.raises(ConfigError, match="readonly=1"):
            factory.enqueue(looker)
        with pytest.raises(StoreError, match="read-only"):
            raw(looker, "delete from jobcard_jobs")
        looker.close()
        with pytest.raises(ConfigError, match="readonly=1 makes none"):
            SQLiteBackend(path.with_name("none.db"), readonly=True).tally()

    def test_a_store_in_memory_is_one_for_its_process(self) -> None:
        """In memory there is one store to each backend, and it says that no other process can see it."""
        backend = SQLiteBackend("sqlite:///:memory:")
        other = SQLiteBackend("sqlite:///:memory:")
        for one in (backend, other):
            assert one.migrate() == [1, 2, 3, 4]
        job_id = factory.enqueue(backend)
        assert not backend.capabilities.survives_process
        assert (len(backend.get([job_id])), len(other.get([job_id]))) == (1, 0)

        def in_child() -> None:
            with pytest.raises(StoreError, match="forked child"):
                backend.get([job_id])

        in_fork(in_child)
        assert len(backend.get([job_id])) == 1
        backend.close()
        other.close()

    def test_a_closed_store_says_so(self, store: SQLiteBackend) -> None:
        """After close() every verb is a clear error."""
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.tally()

    def test_the_wal_stays_bounded(self, store: SQLiteBackend, path: Path) -> None:
        """Many large commits do not leave a large WAL."""
        for _ in range(40):
            factory.enqueue_several(store, 20, args='["' + "x" * 50_000 + '"]')
        assert Path(f"{path}-wal").stat().st_size <= 24 << 20


# ------------------------------------------------------------------ what is stored


class TestRows:
    def test_a_number_is_never_given_twice(self, store: SQLiteBackend) -> None:
        """A late outcome for a pruned job cannot meet the next job: refs are not used again."""
        old = factory.claimed_job(store)
        assert factory.complete(store, old) == []
        assert store.delete([old.id]) == 1
        new = factory.claimed_job(store)
        assert (new.token, new.ref == old.ref) == (old.token, False)
        assert [refusal.verdict for refusal in factory.complete(store, old)] == [Verdict.LOST]

    def test_one_bad_value_takes_nobody_with_it(self, store: SQLiteBackend) -> None:
        """Completions and outcomes that SQLite cannot take are refused, the others of the exchange are stored."""
        factory.enqueue_several(store, 6)
        claims = factory.claim_some(store, 6)
        completions = factory.completions_of(claims[:3])._replace(results=["1", "\ud800", "3"])
        broken = states.Change(
            verb="x", sources=states.AT_WORK, target=states.JobState.FAILED, sets={"crashes": 1 << 70}
        )
        unknown = states.Change(verb="x", sources=states.AT_WORK, target=states.JobState.FAILED, sets={"n = 1; --": 1})
        outcomes = [
            Outcome(claims[3].ref, claims[3].token, broken),
            Outcome(claims[4].ref, claims[4].token, unknown),
            Outcome(claims[5].ref, claims[5].token, states.hand_back(claims[5])),
        ]
        answer = store.exchange("engine", completions=completions, outcomes=outcomes)
        assert [(refusal.ref, refusal.verdict) for refusal in answer.refusals] == [
            (claim.ref, Verdict.REFUSED) for claim in (claims[1], claims[3], claims[4])
        ]
        found = [factory.row_of(store, claim.id).state for claim in claims]
        assert found == ["completed", "claimed", "completed", "claimed", "claimed", "waiting"]

    def test_a_value_that_does_not_fit_stores_nothing(self, store: SQLiteBackend) -> None:
        """One job that SQLite cannot take: an error, and none of its call is stored."""
        jobs = [factory.new_job(), factory.new_job(priority=1 << 63, rank=0)]
        with pytest.raises(InvalidJobError):
            store.enqueue(jobs)
        assert store.tally().counts["waiting"] == 0

    def test_a_full_disk_stores_nothing(self, store: SQLiteBackend) -> None:
        """When there is no room, a call is an error, none of its jobs is stored, and looking up goes on."""
        [(pages,)] = raw(store, "pragma page_count")
        raw(store, f"pragma max_page_count = {pages + 20}")
        with pytest.raises(StoreFullError):
            factory.enqueue_several(store, 500)
        assert store.tally().counts["waiting"] == 0
        raw(store, "pragma max_page_count = 1000000")
        factory.enqueue_several(store, 500)

    def test_a_sealed_store_takes_no_jobs(self, store: SQLiteBackend) -> None:
        """After the seal is set no job slips in, and nothing of the call is stored."""
        store.seal("elsewhere")
        with pytest.raises(StoreMovedError):
            factory.enqueue(store, queue="new")
        assert store.tally().counts["waiting"] == 0
        assert store.read_records(RecordKind.QUEUE) == []

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_an_unreadable_record_hides_no_other(self, path: Path, library: str) -> None:
        """An end, a try or a log line that cannot be read is an error for who asks for it alone, else left out."""
        store = SQLiteBackend(path, library=library)
        store.migrate()
        claims = [factory.claimed_job(store) for _ in range(3)]
        for claim in claims:
            failed = states.fail(claim, reason="error", error=factory.ERROR, kind="X")
            assert factory.settle(store, claim, failed._replace(lines=((0, "said"),))) == []
        ids = [claim.id for claim in claims]
        bad = claims[1]
        raw(store, "update jobcard_jobs set reason = cast(x'ff' as text) where n = ?", bad.ref)
        raw(store, "update jobcard_attempts set error = cast(x'ff' as text) where n = ?", bad.ref)
        raw(store, "update jobcard_lines set text = cast(x'ff' as text) where n = ?", bad.ref)
        assert [end.id for end in store.ended(ids)] == [ids[0], ids[2]]
        assert [attempt.job_id for attempt in store.attempts(ids)] == [ids[0], ids[2]]
        assert [line.job_id for line in store.log_lines(ids)] == [ids[0], ids[2]]
        for verb in (store.ended, store.attempts, store.log_lines):
            with pytest.raises(CorruptRecordError):
                verb([bad.id])
        store.close()

    def test_nothing_follows_in_a_sealed_store(self, store: SQLiteBackend) -> None:
        """An exchange stores nothing of what it brings, with follow-ups or without; opened again, all goes on."""
        claims = [factory.claimed_job(store) for _ in range(2)]
        store.seal("elsewhere")
        brings = Outcome(claims[0].ref, claims[0].token, states.complete("1"), [factory.new_job()])
        with pytest.raises(StoreMovedError):
            store.exchange("engine", completions=factory.completions_of(claims[1:]), outcomes=[brings])
        with pytest.raises(StoreMovedError):
            factory.complete(store, claims)
        assert (store.tally().counts["waiting"], store.tally().counts["claimed"]) == (0, 2)
        store.seal(None)
        assert factory.complete(store, claims) == []

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_an_unreadable_row_stops_nobody(self, path: Path, library: str, caplog: pytest.LogCaptureFixture) -> None:
        """It is an error alone, left out of lists, taken out of the line; its bytes are kept."""
        store = SQLiteBackend(path, library=library)
        store.migrate()
        good, bad, last = factory.enqueue_several(store, 3)
        raw(store, "update jobcard_jobs set args = cast(x'22ff22' as text) where id = ?", bad)
        with caplog.at_level(logging.WARNING, "jobcard.store"):
            with pytest.raises(CorruptRecordError):
                store.get([bad])
            assert [row.id for row in store.get([good, bad])] == [good]
            assert [row.id for row in store.list(Filter(), limit=10).rows] == [last, good]
        assert bad.hex() in caplog.text
        assert [claim.id for claim in factory.claim_some(store, 3)] == [good, last]
        raw(store, "update jobcard_jobs set meta = cast(x'ff' as text) where id = ?", last)
        assert [claim.id for claim in store.find_held(["engine"], lapsed=True, limit=9).claims] == [good]
        assert raw(store, "select hold, hex(args) from jobcard_jobs where id = ?", bad) == [("broken", "22FF22")]
        store.close()

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_an_unreadable_claim_is_not_held_for_ever(self, path: Path, library: str) -> None:
        """Once its lease has run out it is taken from its holder and set aside, its bytes kept; others are found."""
        clock = FrozenClock()
        store = SQLiteBackend(path, library=library, clock=clock)
        store.migrate()
        bad = [factory.claimed_job(store, lease=micros(60)), factory.running_job(store, lease=micros(60))]
        good, other = factory.running_job(store, lease=micros(60)), factory.claimed_job(store, owner="b", lease=1)
        raw(store, "update jobcard_jobs set tags = cast(x'5bff' as text) where n in (?, ?)", *(one.ref for one in bad))
        clock.advance(60)
        assert [[one.id for one in page] for page in factory.held_pages(store, ["engine"], lapsed=True, limit=2)] == [
            [],
            [good.id, other.id],
            [],
        ]
        assert [one.id for one in store.find_held(["engine"], lapsed=True, limit=9).claims] == [good.id, other.id]
        left = "select state, hold, reason, attempt, claim_token, claimed_by, hex(tags) from jobcard_jobs where id = ?"
        for claim, attempt in zip(bad, (0, 1), strict=True):
            assert raw(store, left, claim.id) == [
                ("waiting", "broken", "broken", attempt, claim.token + 1, None, "5BFF")
            ]
        assert [refusal.verdict for refusal in factory.complete(store, bad)] == [Verdict.LOST] * 2
        assert store.renew("engine", [(one.ref, one.token) for one in bad], lease=1) == [one.ref for one in bad]
        assert factory.claim_some(store, 9, queues=[one.queue for one in bad]) == []
        assert store.tally().counts["waiting"] == 2
        store.close()

    def test_an_unreadable_claim_with_a_lease_is_its_holders(self, path: Path) -> None:
        """While the lease holds it is only left out: its holder may still end it."""
        clock = FrozenClock()
        store = SQLiteBackend(path, clock=clock)
        store.migrate()
        claim = factory.running_job(store, lease=micros(60))
        raw(store, "update jobcard_jobs set meta = cast(x'ff' as text)")
        clock.advance(59)
        assert store.find_held(["engine"], lapsed=True, limit=9).claims == []
        assert factory.complete(store, claim) == []
        assert raw(store, "select state, hold from jobcard_jobs") == [("completed", None)]
        store.close()

    def test_rows_that_make_no_sense_cannot_be_stored(self, store: SQLiteBackend) -> None:
        """Types, states and holds are checked by the tables themselves."""
        job_id = factory.enqueue(store)
        for nonsense in ("state = 'zombie'", "hold = 'x'", "args = x'00'", "attempt = -1", "claim_token = null"):
            with pytest.raises(InvalidJobError):
                raw(store, "update jobcard_jobs set " + nonsense)  # noqa: S608 - the test's own words
        assert factory.row_of(store, job_id).state == "waiting"

    def test_the_log_names_verbs_and_no_values(self, store: SQLiteBackend, caplog: pytest.LogCaptureFixture) -> None:
        """At DEBUG each verb says how long it took, and nothing about the job."""
        with caplog.at_level(logging.DEBUG, "jobcard.store"):
            factory.enqueue(store, name="secret.name", args='["secret"]')
        assert "enqueue took" in caplog.text
        assert "secret" not in caplog.text

    def test_a_quiet_exchange_writes_nothing(self, path: Path) -> None:
        """With nothing to claim or settle the file is not touched, and no write lock is waited for."""
        clock = FrozenClock()
        store = SQLiteBackend(path, clock=clock, busy_timeout=0)
        store.migrate()
        factory.enqueue(store, delay=micros(5))
        other = SQLiteBackend(path)
        want = Want([("default", 5), ("other", 5)], 5)
        with other._writer.use() as connection, connection.transaction():
            answer = store.exchange("engine", want=want, lease=micros(60))
            assert (answer.claimed, answer.next_due) == ([], micros(5))
            clock.advance(5)
            with pytest.raises(StoreUnavailableError):
                store.exchange("engine", want=want, lease=micros(60))
        assert len(store.exchange("engine", want=want, lease=micros(60)).claimed) == 1
        other.close()
        store.close()

    def test_repeated_and_taken_ids_in_a_large_call(self, store: SQLiteBackend) -> None:
        """Jobs that are there already stop none of the others of their call."""
        jobs = [factory.new_job() for _ in range(300)]
        store.enqueue(jobs[:1])
        taken = jobs[0]._replace(args="[1]")
        fates = [answer.fate for answer in store.enqueue([taken, *jobs, jobs[7]])]
        assert fates == [Fate.ID_TAKEN, Fate.REPEATED, *[Fate.STORED] * 299, Fate.REPEATED]
        assert store.tally().counts["waiting"] == 300


# ------------------------------------------------------------------ several threads


class TestPlaces:
    def test_who_waits_longest_is_next_but_for_the_first(self) -> None:
        """Nobody who comes later passes, the one who gave a place back included; only who is to be first does."""
        places = Places(1)
        assert places.take(0)
        came: list[str] = []

        def wait(name: str, *, first: bool = False) -> threading.Thread:
            def work() -> None:
                assert places.take(60, first=first)
                came.append(name)
                places.give()

            before = len(places._waiting)
            thread = threading.Thread(target=work)
            thread.start()
            wait_until(lambda: len(places._waiting) > before, "one more who waits")
            return thread

        threads = [wait("a"), wait("b"), wait("loop", first=True)]
        assert not places.take(0.01)
        places.give()
        for thread in threads:
            thread.join(60)
        assert came == ["loop", "a", "b"]
        assert places.take(0) and not places.take(0)

    def test_a_look_up_keeps_no_exchange_waiting(self, store: SQLiteBackend) -> None:
        """With every connection for reading lent out, an engine still finds its claims, renews, settles and claims."""
        factory.enqueue_several(store, 2)
        with contextlib.ExitStack() as lent:
            for _ in range(store._options.pool_size):
                lent.enter_context(store._readers.use())
            [claim] = factory.claim_some(store, 1)
            assert store.find_held(["engine"], lapsed=True, limit=9).claims == [claim]
            assert store.renew("engine", [(claim.ref, claim.token)], lease=factory.LEASE) == []
            assert factory.complete(store, claim) == []
