"""What only the PostgreSQL store has: its tables, its plans, its options, what its server says."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterator
from functools import partial

import psycopg
import pytest
from psycopg import sql

from helpers.postgres import new_prefix, plan_of, raw
from jobcard.backends import registry
from jobcard.backends.base import Completions, Fate, Filter, Outcome, RecordKind, Verdict, Want
from jobcard.backends.postgres import PostgresBackend, changes
from jobcard.backends.postgres.connection import Step
from jobcard.backends.postgres.errors import translate
from jobcard.backends.postgres.options import read_options
from jobcard.backends.ready import make_ready
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import LAST_LINES, LINES_TEXT
from jobcard.errors import (
    AccessDeniedError,
    ConfigError,
    CorruptRecordError,
    InvalidJobError,
    JobcardError,
    SchemaVersionError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)

pytestmark = pytest.mark.slow

SECRET = "s3cr3t"


@pytest.fixture
def opened(postgres_url: str) -> Iterator[Callable[..., PostgresBackend]]:
    """Opens stores, and closes them at the end; each has a prefix of its own unless one is given."""
    stores: list[PostgresBackend] = []

    def open_one(url: str = postgres_url, **options: object) -> PostgresBackend:
        stores.append(PostgresBackend(url, **{"prefix": new_prefix(), **options}))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


# ------------------------------------------------------------------ the tables


class TestTables:
    def test_another_applications_tables_are_left_alone(self, postgres_store: PostgresBackend) -> None:
        """Beside somebody else's tables, only those with our prefix come and go."""
        raw(postgres_store, "create table {prefix}other (n integer)")
        raw(postgres_store, "insert into {prefix}other values (7)")
        factory.enqueue(postgres_store)
        postgres_store.truncate()
        assert [postgres_store.rollback() for _ in range(4)] == [3, 2, 1, None]
        assert raw(postgres_store, "select n from {prefix}other") == [(7,)]
        found = raw(postgres_store, "select relname from pg_class where relname like '{prefix}%%' and relkind <> 'i'")
        assert found == [(f"{postgres_store._options.prefix}other",)]

    @pytest.mark.parametrize("table", ["jobs", "meta", "records"])
    def test_a_foreign_table_of_our_name_stops_the_migration(
        self, opened: Callable[..., PostgresBackend], table: str
    ) -> None:
        """A table that has our name but is not ours is neither used nor changed."""
        store = opened()
        raw(store, f"create table {{prefix}}{table} (a integer)")
        with pytest.raises(ConfigError, match="choose another prefix"):
            store.migrate()
        assert raw(store, "select count(*) from {prefix}" + table) == [(0,)]  # noqa: S608 - the test's own words

    def test_prefixes_part_stores_in_one_database(self, opened: Callable[..., PostgresBackend]) -> None:
        """Two prefixes are two stores."""
        one, other = opened(), opened()
        one.migrate()
        other.migrate()
        factory.enqueue(other)
        assert (one.tally().counts["waiting"], other.tally().counts["waiting"]) == (0, 1)
        assert one.facts().identity != other.facts().identity

    def test_a_schema_that_was_named_is_made(self, opened: Callable[..., PostgresBackend]) -> None:
        """Two schemas are two stores, and the tables are where they were said to be."""
        schemas = [f"jobs_{secrets.token_hex(3)}" for _ in range(2)]
        stores = [opened(schema=schema, prefix="x_") for schema in schemas]
        with pytest.raises(SchemaVersionError):
            stores[0].check_schema()
        assert [store.migrate() for store in stores] == [[1, 2, 3], [1, 2, 3]]
        assert [store.migrate() for store in stores] == [[], []]
        factory.enqueue(stores[0])
        assert [store.tally().counts["waiting"] for store in stores] == [1, 0]
        tables = raw(stores[0], "select count(*) from pg_tables where schemaname = %s", schemas[0])
        assert tables == [(7,)]
        assert stores[0].facts().size_bytes

    def test_eight_that_start_together_migrate_once(self, postgres_url: str) -> None:
        """The schema, too, is made once; everybody goes on with it."""
        for _ in range(3):
            schema = f"jobs_{secrets.token_hex(3)}"
            stores = [PostgresBackend(postgres_url, schema=schema) for _ in range(8)]
            assert sorted(at_once([store.migrate for store in stores])) == [[]] * 7 + [[1, 2, 3]]
            assert at_once([store.check_schema for store in stores]) == [None] * 8
            for store in stores:
                store.close()

    def test_a_user_who_may_make_no_schema_can_use_one(
        self, postgres_url: str, opened: Callable[..., PostgresBackend]
    ) -> None:
        """Where the schema is there, the right to make tables in it is enough; without that it is said."""
        name = f"jobs_{secrets.token_hex(3)}"
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(sql.SQL("create role {} login password 'x'").format(sql.Identifier(name)))
            admin.execute(sql.SQL("create schema {0} authorization {0}").format(sql.Identifier(name)))
        _, _, place = postgres_url.rpartition("@")
        url = f"postgresql://{name}:x@{place}"
        assert opened(url, schema=name).migrate() == [1, 2, 3]
        with pytest.raises(ConfigError, match="may not do that"):
            opened(url, schema=f"{name}_2").migrate()
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(name)))
            admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))

    def test_rows_that_make_no_sense_cannot_be_stored(self, postgres_store: PostgresBackend) -> None:
        """Types, states and holds are checked by the tables themselves."""
        job_id = factory.enqueue(postgres_store)
        for nonsense in ("state = 'zombie'", "hold = 'x'", "attempt = -1", "claim_token = null", "id = null"):
            with pytest.raises(psycopg.IntegrityError):
                raw(postgres_store, "update {prefix}jobs set " + nonsense)  # noqa: S608 - the test's own words
        assert factory.row_of(postgres_store, job_id).state == "waiting"

    def test_a_number_is_never_given_twice(self, postgres_store: PostgresBackend) -> None:
        """A late outcome for a job that was deleted, even by a truncate, cannot meet the next job."""
        old = factory.claimed_job(postgres_store)
        postgres_store.truncate()
        new = factory.claimed_job(postgres_store)
        assert (new.token, new.ref == old.ref) == (old.token, False)
        assert [refusal.verdict for refusal in factory.complete(postgres_store, old)] == [Verdict.LOST]


# ------------------------------------------------------------------ what is stored


class TestRows:
    def test_one_bad_value_takes_nobody_with_it(self, postgres_store: PostgresBackend) -> None:
        """Completions and outcomes that PostgreSQL cannot take are refused, the others of the exchange are stored."""
        factory.enqueue_several(postgres_store, 8)
        claims = factory.claim_some(postgres_store, 7)
        completions = factory.completions_of(claims[:3])._replace(results=["1", '"\x00"', "3"])

        def broken(**sets: object) -> states.Change:
            return states.Change(verb="x", sources=states.AT_WORK, target=states.JobState.FAILED, sets=sets)

        outcomes = [
            Outcome(claims[3].ref, claims[3].token, broken(crashes=1 << 40)),
            Outcome(claims[4].ref, claims[4].token, broken(crashes=1 << 70)),
            Outcome(claims[5].ref, claims[5].token, broken(**{"n = 1; --": 1})),
            Outcome(claims[6].ref, claims[6].token, states.hand_back(claims[6])),
        ]
        want = Want([("default", 5)], 1)
        answer = postgres_store.exchange(
            "engine", completions=completions, outcomes=outcomes, want=want, lease=micros(60)
        )
        assert [(refusal.ref, refusal.verdict) for refusal in answer.refusals] == [
            (claim.ref, Verdict.REFUSED) for claim in (claims[1], claims[3], claims[4], claims[5])
        ]
        assert [claim.id for claim in answer.claimed] == [claims[6].id]
        found = [factory.row_of(postgres_store, claim.id).state for claim in claims]
        assert found == ["completed", "claimed", "completed", "claimed", "claimed", "claimed", "claimed"]

    def test_a_value_that_does_not_fit_stores_nothing(self, postgres_store: PostgresBackend) -> None:
        """One job that PostgreSQL cannot take: an error, and none of its call is stored."""
        for bad in ({"priority": 1 << 40}, {"priority": 1 << 70}, {"args": '"\x00"'}, {"name": "\ud800"}):
            with pytest.raises(InvalidJobError):
                postgres_store.enqueue([factory.new_job(rank=0), factory.new_job(rank=0, **bad)])
        assert postgres_store.tally().counts["waiting"] == 0

    def test_texts_no_job_can_have_find_none(self, postgres_store: PostgresBackend) -> None:
        """A filter with NUL or half a surrogate pair is no error: it matches nothing."""
        job_id = factory.enqueue(postgres_store, name="a", tags='["t"]')
        for bad in ("\x00", "a\x00", "\ud800"):
            for where in (
                Filter(names=[bad]), Filter(queues=[bad]), Filter(args=bad), Filter(error_kind=bad),
                Filter(search=bad), Filter(tags=[bad]),
            ):  # fmt: skip
                assert list(postgres_store.list(where, limit=5).rows) == []
                assert postgres_store.count(where) == {}
            assert [row.id for row in postgres_store.list(Filter(names=[bad, "a"]), limit=5).rows] == [job_id]
            assert postgres_store.unpark([bad]) == 0
            assert postgres_store.find_held([bad], lapsed=False, limit=5).claims == []

    def test_repeated_and_taken_ids_in_a_large_call(self, postgres_store: PostgresBackend) -> None:
        """Jobs that are there already stop none of the others of their call."""
        jobs = [factory.new_job() for _ in range(300)]
        postgres_store.enqueue(jobs[:1])
        taken = jobs[0]._replace(args="[1]")
        fates = [answer.fate for answer in postgres_store.enqueue([taken, *jobs, jobs[7]])]
        assert fates == [Fate.ID_TAKEN, Fate.REPEATED, *[Fate.STORED] * 299, Fate.REPEATED]
        assert postgres_store.tally().counts["waiting"] == 300

    def test_an_id_whose_first_job_was_not_stored_is_free(self, postgres_store: PostgresBackend) -> None:
        """Twice the same id in one call: when the key of the first is taken, the second is stored."""
        holder = factory.enqueue(postgres_store, unique_key="k")
        job = factory.new_job(unique_key="k")
        answers = postgres_store.enqueue([job, job._replace(unique_key=None), job])
        assert [answer.fate for answer in answers] == [Fate.KEY_TAKEN, Fate.STORED, Fate.REPEATED]
        assert answers[0].existing == holder

    def test_the_log_names_verbs_and_no_values(
        self, postgres_store: PostgresBackend, caplog: pytest.LogCaptureFixture
    ) -> None:
        """At DEBUG each verb says how long it took, and nothing about the job."""
        with caplog.at_level(logging.DEBUG, "jobcard.store"):
            factory.enqueue(postgres_store, name="secret.name", args='["secret"]')
        assert "enqueue took" in caplog.text
        assert "secret" not in caplog.text

    def test_a_quiet_exchange_writes_nothing(self, opened: Callable[..., PostgresBackend]) -> None:
        """With nothing to claim or settle no transaction gets a number, so nothing reaches the log of the server."""
        clock = FrozenClock()
        store = opened(clock=clock)
        store.migrate()
        factory.enqueue(store, delay=micros(5))
        with store._pool.use() as connection:
            [(wrote,)] = connection.run(
                [
                    Step(store._sql["release"], {"now": clock.now()}),
                    Step("select pg_current_xact_id_if_assigned() is not null"),
                ]
            )[1]
        assert not wrote
        assert store.exchange("engine", want=Want([("default", 5)], 5), lease=1).next_due == micros(5)


class TestOutcomes:
    def test_followers_come_with_their_leader_or_not_at_all(self, postgres_store: PostgresBackend) -> None:
        """Jobs that follow are stored if the outcome applies now, and not again when it had applied before."""
        claim = factory.claimed_job(postgres_store)
        jobs = tuple(factory.new_job(queue="next", parent_id=claim.id) for _ in range(2))
        done = Outcome(claim.ref, claim.token, states.complete("1"), jobs)
        stale = Outcome(claim.ref, claim.token - 1, states.complete("1"), (factory.new_job(queue="never"),))
        assert [refusal.verdict for refusal in postgres_store.exchange("e", outcomes=[stale]).refusals] == [
            Verdict.LOST
        ]
        want = Want([("next", 1)], 1)
        answer = postgres_store.exchange("e", outcomes=[done], want=want, lease=micros(60))
        assert ([one.id for one in answer.claimed], answer.refusals) == ([jobs[0].id], [])
        assert postgres_store.delete([job.id for job in jobs]) == 0
        factory.complete(postgres_store, answer.claimed)
        postgres_store.delete([jobs[0].id])
        again = postgres_store.exchange("e", outcomes=[done])
        assert [refusal.verdict for refusal in again.refusals] == [Verdict.MINE]
        assert postgres_store.get([jobs[0].id]) == []
        assert postgres_store.count(Filter(queues=["next", "never"])) == {"next": {"waiting": 1}}
        assert {record.key for record in postgres_store.read_records(RecordKind.QUEUE)} >= {"next"}

    def test_a_follower_whose_id_or_key_is_there_is_left_as_it_is(self, postgres_store: PostgresBackend) -> None:
        """An id that is there and a key that is taken stop neither the leader nor the other followers."""
        there = factory.new_job(unique_key="k", queue="there")
        postgres_store.enqueue([there])
        before = factory.row_of(postgres_store, there.id)
        claims = [factory.claimed_job(postgres_store) for _ in range(2)]
        fresh, taken = factory.new_job(), factory.new_job(unique_key="k")
        outcomes = [
            Outcome(claims[0].ref, claims[0].token, states.complete("1"), (there._replace(args="[9]"), taken, fresh)),
            Outcome(claims[1].ref, claims[1].token, states.complete("2"), (fresh, factory.new_job())),
        ]
        assert postgres_store.exchange("e", outcomes=outcomes).refusals == []
        assert factory.row_of(postgres_store, there.id) == before
        assert postgres_store.count(Filter(states=["waiting"])) == {"there": {"waiting": 1}, "default": {"waiting": 2}}

    def test_many_outcomes_of_few_forms_are_few_statements(self, postgres_store: PostgresBackend) -> None:
        """A hundred retries and a hundred notes are two statements, and each job gets its own values."""
        clock_ids = factory.enqueue_several(postgres_store, 200, max_attempts=9)
        claims = factory.claim_some(postgres_store, 200)
        outcomes = []
        for place, claim in enumerate(claims):
            if place % 2:
                change = states.note(claim, ago=place, progress=f"[{place}]", lines=((5, f"line {place}"), (1, "é")))
            else:
                error = f'{{"n": {place}}}'
                change = states.retry(claim, reason="error", delay=place, error=error, kind=f"K{place}")
            outcomes.append(Outcome(claim.ref, claim.token, change))
        assert postgres_store.exchange("engine", outcomes=outcomes).refusals == []
        rows = factory.rows_of(postgres_store, clock_ids)
        tries = {one.job_id: one.error for one in postgres_store.attempts(clock_ids)}
        lines: dict[bytes, list[str]] = {}
        for line in postgres_store.log_lines(clock_ids):
            lines.setdefault(line.job_id, []).append(line.text)
        for place, claim in enumerate(claims):
            row = rows[claim.id]
            if place % 2:
                assert (row.state, row.progress) == ("running", f"[{place}]")
                assert lines[claim.id] == [f"line {place}", "é"]
            else:
                assert (row.state, row.error_kind, tries[claim.id]) == ("waiting", f"K{place}", f'{{"n": {place}}}')

    def test_of_many_lines_the_last_are_kept(self, postgres_store: PostgresBackend) -> None:
        """The last thousand lines stay, and of long ones as many as the limit of characters lets in; no others go."""
        short, long, other = (factory.running_job(postgres_store) for _ in range(3))

        def log(claim: object, texts: list[str]) -> None:
            change = states.note(claim, ago=None, lines=tuple((0, text) for text in texts))  # type: ignore[arg-type]
            assert factory.settle(postgres_store, claim, change) == []  # type: ignore[arg-type]

        log(other, ["stays"])
        for first in range(0, LAST_LINES + 200, 300):
            log(short, [str(number) for number in range(first, first + 300)])
        log(long, ["x" * 2_000] * 40)
        texts = [line.text for line in postgres_store.log_lines([short.id])]
        assert texts == [str(number) for number in range(200, LAST_LINES + 200)]
        assert len(postgres_store.log_lines([long.id])) == LINES_TEXT // 2_000
        assert [line.text for line in postgres_store.log_lines([other.id])] == ["stays"]
        factory.complete(postgres_store, short)
        postgres_store.delete([short.id])
        assert raw(postgres_store, "select count(distinct n) from {prefix}log_lines") == [(2,)]

    def test_what_was_touched_since(self, opened: Callable[..., PostgresBackend]) -> None:
        """Jobs created, claimed, started or finished at an instant or later, in whatever state they are."""
        clock = FrozenClock()
        store = opened(clock=clock)
        store.migrate()
        old = [factory.job_in_state(store, state) for state in ("waiting", "claimed", "running", "completed")]
        moved = [factory.claimed_job(store), factory.claimed_job(store)]
        clock.advance(10)
        since = clock.now()
        new = {state: factory.job_in_state(store, state) for state in ("waiting", "claimed", "running", "failed")}
        delayed = factory.enqueue(store, delay=micros(5))
        factory.settle(store, moved[0], states.start(moved[0], ago=0))
        factory.complete(store, moved[1])
        expected = {*new.values(), delayed, *(claim.id for claim in moved)}
        where = Filter(touched_since=since)
        assert {row.id for row in store.list(where, limit=100).rows} == expected
        assert [row.id for row in store.list(where, limit=2).rows] == sorted(expected, reverse=True)[:2]
        assert sum(n for by_state in store.count(where).values() for n in by_state.values()) == len(expected)
        assert {row.id for row in store.list(Filter(touched_since=since, states=["failed"]), limit=9).rows} == {
            new["failed"]
        }
        assert {row.id for row in store.list(Filter(touched_since=since - micros(10)), limit=99).rows} == {
            *expected,
            *old,
        }
        assert list(store.list(Filter(touched_since=since + 1), limit=99).rows) == []


# ------------------------------------------------------------------ damage


class TestDamage:
    def test_text_that_is_none_stops_nobody(self, postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
        """In a database without an encoding: an error alone, left out of lists, taken out of the line, kept."""
        name = f"ascii_{secrets.token_hex(3)}"
        place = postgres_url.rpartition("/")[0]
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(f"create database {name} encoding 'SQL_ASCII' template template0")
        store = PostgresBackend(f"{place}/{name}")
        store.migrate()
        good, bad, last = factory.enqueue_several(store, 3)
        damage = "update {prefix}jobs set args = convert_from('\\x22ff22', 'SQL_ASCII') where n = 2"
        raw(store, damage)
        with caplog.at_level(logging.WARNING, "jobcard.store"):
            with pytest.raises(CorruptRecordError):
                store.get([bad])
            assert [row.id for row in store.get([good, bad])] == [good]
            assert [row.id for row in store.list(Filter(), limit=10).rows] == [last, good]
            assert [claim.id for claim in factory.claim_some(store, 3)] == [good, last]
            raw(store, damage.replace("args", "meta").replace("n = 2", "n = 3"))
            assert store.list(Filter(states=["claimed"]), limit=9).rows[0].id == good
            assert [claim.id for claim in store.find_held(["engine"], lapsed=True, limit=9).claims] == [good]
        assert "left out" in caplog.text and "taken out of the line" in caplog.text
        kept = raw(store, "select hold, attempt, convert_to(args, 'SQL_ASCII') from {prefix}jobs where n = 2")
        assert [(hold, attempt, bytes(args)) for hold, attempt, args in kept] == [("broken", 0, b'"\xff"')]
        store.close()
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)")


# ------------------------------------------------------------------ plans


@pytest.fixture(scope="module")
def quiet_store(postgres_urls: tuple[str, str]) -> Iterator[PostgresBackend]:
    store = PostgresBackend(postgres_urls[0], prefix=new_prefix())
    store.migrate()
    raw(
        store,
        "insert into {prefix}jobs (id, order_at, available_at, created_at, rank, priority, max_attempts,"
        " max_crashes, state, queue, name, backoff, args, kwargs, finished_at)"
        " select gen_random_uuid(), n, n, n, 0, 0, 5, 3, 'completed', 'default', 'a', '{}', '[]', '{}', n"
        " from generate_series(1, 20000) as n",
    )
    raw(store, "vacuum analyze {prefix}jobs")
    factory.enqueue_several(store, 300)
    factory.enqueue_several(store, 300, delay=micros(60))
    factory.claim_some(store, 100)
    yield store
    store.close()


class TestPlans:
    """As the planner makes them with statistics of a quiet moment, when every partial index looks empty."""

    @pytest.mark.parametrize(
        ("name", "indexes"),
        [
            ("claim", {"jobs_claim", "jobs_pkey"}),
            ("candidates", {"jobs_claim"}),
            ("release", {"jobs_due", "jobs_pkey"}),
            ("news", {"jobs_due", "jobs_cancels", "jobs_keyed"}),
            ("complete", {"jobs_pkey"}),
            ("lock", {"jobs_pkey"}),
            ("renew", {"jobs_pkey"}),
            ("standing", {"jobs_pkey"}),
            ("held", {"jobs_held"}),
            ("find_ids", {"jobs_id"}),
            ("find_unique_keys", {"jobs_unique"}),
            ("ended", {"jobs_id"}),
            ("get", {"jobs_id"}),
            ("attempts", {"jobs_id", "attempts_pkey"}),
            ("unpark", {"jobs_due"}),
            ("release_dependents", {"jobs_dependents", "jobs_pkey"}),
            ("prune_finished", {"jobs_finished", "jobs_pkey", "attempts_pkey", "log_lines_pkey"}),
            ("prune_expired", {"jobs_expiry", "jobs_pkey", "attempts_pkey", "log_lines_pkey"}),
            ("trim_attempts", {"attempts_pkey"}),
            ("trim_lines", {"log_lines_pkey"}),
            ("chart_alive", {"jobs_created", "jobs_held"}),
            ("chart_ended", {"jobs_finished"}),
            ("touched_waiting", {"jobs_created"}),
            ("touched_at_work", {"jobs_held"}),
            ("touched_ended", {"jobs_finished"}),
            ("delayed_up_to", {"jobs_due"}),
            ("first_due", {"jobs_claim", "jobs_due"}),
            ("tally", {"jobs_claim", "jobs_due", "jobs_held", "jobs_finished"}),
            ("queue_use", {"jobs_held", "starts_live"}),
            ("key_use", {"jobs_limited", "starts_live"}),
            ("behind", {"jobs_pkey", "jobs_limited"}),
            ("keep_out", {"jobs_pkey"}),
            ("leave_in_line", {"jobs_pkey"}),
            ("in_line", {"jobs_claim"}),
            ("let_in", {"jobs_limited", "jobs_pkey", "jobs_id"}),
            ("held_keys", {"jobs_limited"}),
            ("lock_key_of", {"jobs_id"}),
            ("find_once_keys", {"once_pkey", "jobs_id"}),
            ("replace", {"jobs_id", "jobs_pkey"}),
            ("forget_once", {"once_pkey", "once_until"}),
            ("forget_starts", {"starts_until"}),
        ],
    )
    def test_each_statement_walks_its_index(self, quiet_store: PostgresBackend, name: str, indexes: set[str]) -> None:
        """No statement walks the table, or an index that is not made for it."""
        text = quiet_store._sql[name].replace("{what}", "*").replace("{ended}", "'completed', 'failed'")
        plan = plan_of(quiet_store, text)
        assert set(re.findall(r"using (\w+)", plan)) == indexes, plan
        assert "Seq Scan on jobs" not in plan

    @pytest.mark.parametrize("name", ["claim", "candidates", "release", "news", "behind", "held_keys"])
    def test_what_comes_first_is_not_sorted(self, quiet_store: PostgresBackend, name: str) -> None:
        """The line and the due jobs are read from their front."""
        assert "Sort" not in plan_of(quiet_store, quiet_store._sql[name].replace("{what}", "*"))

    def test_an_outcome_goes_by_number(self, quiet_store: PostgresBackend) -> None:
        """Each job that changes is looked up by its number, though the guard names states."""
        claims = quiet_store.find_held(["engine"], lapsed=False, limit=100).claims
        outcomes = [Outcome(claim.ref, claim.token, states.hand_back(claim)) for claim in claims[:20]]
        step = changes.apply(quiet_store._sql, changes.form_of(outcomes[0].change), outcomes, None)
        with quiet_store._pool.use() as connection:
            lines = connection.run([Step("explain (costs off) " + step.sql, step.values, prepare=False)])[0]
        plan = "\n".join(line for (line,) in lines)
        assert "jobs_pkey" in plan and "jobs_held" not in plan


# ------------------------------------------------------------------ options


class TestOptions:
    def test_both_schemes_lead_here(self) -> None:
        """postgresql:// and postgres:// are one."""
        for scheme in ("postgresql", "postgres"):
            assert isinstance(registry.open_backend(f"{scheme}://host/db"), PostgresBackend)

    def test_a_url_becomes_what_libpq_is_told(self) -> None:
        """Parts and options of the URL arrive unescaped; ours are kept apart from libpq's."""
        options = read_options(
            "postgresql://app%40x:p%3A%2F@db.example:5433/my%20db?sslmode=verify-full&sslrootcert=/ca.pem&prefix=a_"
            "&pooler=transaction&pool_size=3&listen=off&schema=work",
            {},
        )
        told = dict(options.connection)
        assert {name: told[name] for name in ("host", "port", "user", "password", "dbname", "sslmode")} == {
            "host": "db.example", "port": 5433, "user": "app@x", "password": "p:/", "dbname": "my db",
            "sslmode": "verify-full",
        }  # fmt: skip
        assert (told["sslrootcert"], told["connect_timeout"]) == ("/ca.pem", 5)
        assert (options.prefix, options.schema, options.pooled, options.pool_size, options.listen) == (
            "a_", "work", True, 3, False,
        )  # fmt: skip
        assert "p:/" not in repr(options)

    def test_a_host_may_be_a_directory_of_sockets(self) -> None:
        """As libpq writes it: in the host, escaped, or as an option."""
        for url in ("postgresql://%2Fvar%2Frun/db", "postgresql:///db?host=/var/run"):
            assert read_options(url, {}).connection["host"] == "/var/run"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ("prefx=a_", "did you mean 'prefix'"),
            ("sslmod=require", "did you mean 'sslmode'"),
            ("sslmode=bogus", "sslmode must be one of"),
            ("pooler=session", "pooler must be one of"),
            ("pool_size=0", "pool_size must be"),
            ("prefix=Jobs_", "prefix must be"),
            ("prefix=a%3Bdrop", "prefix must be"),
            ("schema=1a", "schema must be"),
            ("listen=maybe", "listen must be"),
            ("host=elsewhere", "says host twice"),
            ("passfile=/etc/passwd", "unsafe_url_options"),
            ("service=x", "unsafe_url_options"),
            ("servicefile=/x", "unsafe_url_options"),
            ("options=-csearch_path%3Dx", "unsafe_url_options"),
            ("sslkeylogfile=/x", "unsafe_url_options"),
            ("unsafe_url_options=1", "only code"),
            ("lock_timeout=1", "no option"),
        ],
    )
    def test_a_wrong_option_is_named(self, options: str, words: str) -> None:
        """Nothing is ignored in silence, and the password is not shown."""
        with pytest.raises(ConfigError, match=words) as caught:
            PostgresBackend(f"postgresql://app:{SECRET}@host/db?{options}")
        assert SECRET not in str(caught.value)

    def test_code_may_allow_what_a_url_may_not(self) -> None:
        """With unsafe_url_options=True in code the URL may name files; code itself may always."""
        url = "postgresql://host/db?passfile=/p"
        assert read_options(url, {"unsafe_url_options": True}).connection["passfile"] == "/p"
        assert read_options("postgresql://host/db", {"passfile": "/p"}).connection["passfile"] == "/p"

    def test_a_missing_driver_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without psycopg the message says what to install."""
        import sys

        for name in [name for name in sys.modules if name.startswith(("psycopg", "jobcard.backends.postgres"))]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(ConfigError, match=r"pip install 'jobcard\[postgres\]'"):
            registry.open_backend("postgresql://host/db")

    def test_no_password_is_shown(self, postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
        """Neither by repr, nor when the server refuses it, nor when there is no server; not in the log either."""
        password = postgres_url.partition("://")[2].partition("@")[0].partition(":")[2]
        right = PostgresBackend(postgres_url)
        assert password and password not in repr(right)
        right.close()
        place = postgres_url.rpartition("@")[2]
        dead = place.partition(":")[0] + ":1/" + place.partition("/")[2]
        with caplog.at_level(logging.DEBUG):
            for where, kind in ((place, AccessDeniedError), (dead, StoreUnavailableError)):
                store = PostgresBackend(f"postgresql://jobcard:{SECRET}@{where}")
                with pytest.raises(kind) as caught:
                    store.tally()
                assert SECRET not in "".join(map(str, (caught.value, caught.value.__cause__, repr(store))))
                store.close()
        assert SECRET not in caplog.text

    def test_a_missing_password_is_a_wrong_configuration(self, postgres_url: str) -> None:
        """Trying again would not help."""
        with pytest.raises(ConfigError, match="asks for a password"):
            PostgresBackend(f"postgresql://jobcard@{postgres_url.rpartition('@')[2]}").tally()

    def test_what_a_connection_is_told(self, postgres_store: PostgresBackend) -> None:
        """Plans are pinned, and nothing waits for ever."""
        for name, value in (
            ("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("jit", "off"),
            ("statement_timeout", "15s"), ("idle_in_transaction_session_timeout", "30s"),
            ("transaction_isolation", "read committed"), ("application_name", "jobcard"),
        ):  # fmt: skip
            assert raw(postgres_store, f"show {name}") == [(value,)]


# ------------------------------------------------------------------ durability and errors


class TestServer:
    def test_facts_name_what_is_not_safe(self, postgres_urls: tuple[str, str]) -> None:
        """A server that syncs has no problems; one that confirms before the disk does is refused when asked to be."""
        for url, words in zip(postgres_urls, ([], ["synchronous_commit=off"]), strict=True):
            store = PostgresBackend(url, prefix=new_prefix())
            store.migrate()
            facts = store.facts()
            assert [problem.partition(":")[0] for problem in facts.problems] == words
            if words:
                with pytest.raises(ConfigError, match="synchronous_commit=off"):
                    make_ready(store, migrate=True, strict_durability=True)
            else:
                make_ready(store, migrate=True, strict_durability=True)
            store.close()
        assert facts.store == "postgresql"
        assert facts.version.startswith("PostgreSQL 1")
        assert facts.connections and facts.size_bytes

    def test_the_servers_clock_is_the_stores(self, postgres_store: PostgresBackend) -> None:
        """Without a clock of a test the time is the server's, in microseconds."""
        [(now,)] = raw(postgres_store, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
        row = factory.row_of(postgres_store, factory.enqueue(postgres_store))
        assert now <= row.created_at == row.available_at <= postgres_store.facts().now
        claim = factory.claim_one(postgres_store, lease=micros(60))
        row = factory.row_of(postgres_store, claim.id)
        assert row.lease_until == claim.claimed_at + micros(60)
        factory.complete(postgres_store, claim, started_ago=7)
        row = factory.row_of(postgres_store, claim.id)
        assert row.finished_at == (row.started_at or 0) + 7

    def test_a_server_that_takes_no_writes_is_unavailable(self, postgres_store: PostgresBackend) -> None:
        """After a fail-over the old primary is read-only for a while: worth trying again."""
        factory.enqueue(postgres_store)
        with postgres_store._pool.use() as connection:
            connection.raw.execute("set default_transaction_read_only = on")
        with pytest.raises(StoreUnavailableError, match="takes no writes"):
            factory.enqueue(postgres_store)
        assert postgres_store.tally().counts["waiting"] == 1

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            ("53100", StoreFullError),
            ("53300", StoreUnavailableError),
            ("57P01", StoreUnavailableError),
            ("57P02", StoreUnavailableError),
            ("57P03", StoreUnavailableError),
            ("57014", StoreUnavailableError),
            ("55P03", StoreUnavailableError),
            ("08006", StoreUnavailableError),
            ("40001", StoreUnavailableError),
            ("40P01", StoreUnavailableError),
            ("25006", StoreUnavailableError),
            ("25P03", StoreUnavailableError),
            ("0A000", StoreUnavailableError),
            ("58030", StoreUnavailableError),
            ("26000", ConfigError),
            ("42501", ConfigError),
            ("28P01", ConfigError),
            ("3D000", ConfigError),
            ("22021", CorruptRecordError),
            ("22P05", InvalidJobError),
            ("22003", InvalidJobError),
            ("23514", InvalidJobError),
            ("54000", InvalidJobError),
            ("42P01", StoreError),
            ("XX001", CorruptRecordError),
            ("XX000", StoreError),
        ],
    )
    def test_errors_go_by_their_code(self, state: str, expected: type[JobcardError]) -> None:
        """What a server says in words is in its own language; the code is what counts."""
        ours = translate(psycopg.errors.lookup(state)("anything at all"))
        assert isinstance(ours, expected)

    def test_other_errors_are_nobodys_business(self) -> None:
        """What does not come from the driver is not turned into one of ours."""
        assert translate(KeyError("x")) is None
        assert translate(KeyboardInterrupt()) is None

    def test_two_in_each_others_way_both_succeed(self, postgres_store: PostgresBackend) -> None:
        """A deadlock is undone by the server and done again by us."""
        raw(postgres_store, "create table {prefix}pairs (n integer primary key, times integer not null)")
        raw(postgres_store, "insert into {prefix}pairs values (1, 0), (2, 0)")
        text = "update {prefix}pairs set times = times + 1 where n = %(n)s"
        text = text.replace("{prefix}", postgres_store._options.prefix)
        step = {n: Step(text, {"n": n}) for n in (1, 2)}
        pause = Step("select pg_sleep(0.02)")

        def work(*order: int) -> None:
            for _ in range(5):
                with postgres_store._pool.use() as connection:
                    connection.run([step[order[0]], pause, step[order[1]]])

        at_once([partial(work, 1, 2), partial(work, 2, 1)])
        assert raw(postgres_store, "select times from {prefix}pairs") == [(10,), (10,)]
        assert raw(postgres_store, "select deadlocks > 0 from pg_stat_database where datname = current_database()") in (
            [(True,)],
            [(False,)],
        )  # its figures come late; the sums are what counts

    def test_a_lock_of_somebody_else_is_not_waited_for_for_ever(
        self, postgres_url: str, opened: Callable[..., PostgresBackend]
    ) -> None:
        """An engine gives up after its patience; nothing of the call is stored, and the next one is fine."""
        store = opened(patience=0.05)
        store.migrate()
        with psycopg.connect(postgres_url) as other:
            other.execute(f"lock table {store._options.prefix}jobs in access exclusive mode")
            with pytest.raises(StoreUnavailableError, match="busy"):
                factory.enqueue(store)
            with pytest.raises(StoreUnavailableError, match="busy"):
                store.exchange("e", want=Want([("default", 1)], 1), lease=1)
        factory.enqueue(store)
        assert store.tally().counts["waiting"] == 1

    def test_completions_that_meet_a_failing_server_are_not_half_stored(self, postgres_store: PostgresBackend) -> None:
        """When the last statement of an exchange fails, none of the others is stored."""
        factory.enqueue_several(postgres_store, 3)
        claims = factory.claim_some(postgres_store, 2)
        sql_of = dict(postgres_store._sql)
        postgres_store._sql = {**sql_of, "news": "select 1 / 0"}
        with pytest.raises(JobcardError):
            postgres_store.exchange(
                "e", completions=factory.completions_of(claims), want=Want([("default", 1)], 1), lease=micros(60)
            )
        postgres_store._sql = sql_of
        assert postgres_store.count(Filter()) == {"default": {"claimed": 2, "waiting": 1}}
        assert postgres_store.exchange("e", completions=Completions()).refusals == []
