"""Looking jobs up: get, ended, list and its filters."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from jobcard.backends.base import Backend, Ended, Filter
from jobcard.conformance import factory
from jobcard.conformance.check_counts import EVERY_STATE, counts_of
from jobcard.conformance.harness import micros
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import JobRow


def _ids(backend: Backend, where: Filter, limit: int = 100) -> set[bytes]:
    rows = backend.list(where, limit=limit).rows
    assert len(rows) == len({row.id for row in rows})
    return {row.id for row in rows}


def check_get_finds_those_that_exist(backend: Backend) -> None:
    """Each job that exists comes once, however often it was asked for; unknown ids are passed over."""
    ids = factory.enqueue_several(backend, 3)
    assert backend.get([]) == []
    assert backend.get([factory.new_id()]) == []
    found = backend.get([ids[2], factory.new_id(), ids[0]])
    assert {row.id for row in found} == {ids[0], ids[2]} and len(found) == 2
    assert {type(row) for row in found} == {JobRow}


def check_get_takes_many_ids(backend: Backend) -> None:
    """A thousand ids in one call are fine."""
    ids = factory.enqueue_several(backend, 1_000)
    assert {row.id for row in backend.get(ids)} == set(ids)


def check_ended_tells_the_end_and_only_that(backend: Backend) -> None:
    """Of the jobs asked for, those that ended come with state, result and reason."""
    ids = {
        state: factory.job_in_state(backend, state)
        for state in ("waiting", "claimed", "running", "completed", "failed", "canceled")
    }
    assert backend.ended([]) == []
    ends = {end.id: end for end in backend.ended([*ids.values(), factory.new_id()])}
    assert ends == {
        ids["completed"]: Ended(ids["completed"], "completed", "null", None),
        ids["failed"]: Ended(ids["failed"], "failed", None, "error"),
        ids["canceled"]: Ended(ids["canceled"], "canceled", None, "canceled"),
    }
    assert {type(end) for end in ends.values()} == {Ended}


def check_an_empty_filter_lists_all_newest_first(backend: Backend) -> None:
    """Jobs come by id, falling, whatever the order they were stored in."""
    ids = sorted(bytes([first]) + bytes([second] * 15) for first in (0, 127, 128, 255) for second in (0, 97, 200))
    backend.enqueue([factory.new_job(id=job_id) for job_id in ids[::2] + ids[1::2]])
    assert [row.id for row in backend.list(Filter(), limit=100).rows] == ids[::-1]


def check_an_empty_store_lists_nothing(backend: Backend) -> None:
    """No jobs, no rows."""
    for where in (Filter(), Filter(states=["failed"], queues=["x"]), Filter(touched_since=0)):
        rows, below = backend.list(where, limit=10)
        assert (list(rows), below) == ([], None)


def check_listed_rows_are_the_rows(backend: Backend) -> None:
    """A listed row is field by field what `get` gives."""
    job_id = factory.job_in_state(backend, "failed", tags='["a"]', meta="{}", keep=9)
    assert list(backend.list(Filter(), limit=1).rows) == [factory.row_of(backend, job_id)]


def check_pages_follow_each_other(backend: Backend) -> None:
    """Page after page to the end gives every job once, also when new ones come in between."""
    ids = factory.enqueue_several(backend, 23)
    seen: list[bytes] = []
    for page in factory.pages(backend, Filter(), 5):
        seen += [row.id for row in page]
        factory.enqueue(backend)
    assert seen == ids[::-1]


def check_states_queues_and_names_are_lists(backend: Backend) -> None:
    """One of the given states, queues or names is enough; different fields must all hold."""
    a = factory.job_in_state(backend, "waiting", queue="q1", name="n1")
    b = factory.job_in_state(backend, "failed", queue="q2", name="n1")
    c = factory.job_in_state(backend, "failed", queue="q3", name="n2")
    assert _ids(backend, Filter(states=["failed"])) == {b, c}
    assert _ids(backend, Filter(states=["failed", "waiting"])) == {a, b, c}
    assert _ids(backend, Filter(states=["running"])) == set()
    assert _ids(backend, Filter(queues=["q1", "q3"])) == {a, c}
    assert _ids(backend, Filter(names=["n1"])) == {a, b}
    assert _ids(backend, Filter(names=["n1"], states=["failed"])) == {b}
    assert _ids(backend, Filter(names=["n1"], states=["failed"], queues=["q1"])) == set()
    assert _ids(backend, Filter(names=["n1", "n2"], states=["failed"], queues=["q3", "q2"])) == {b, c}


def check_wildcards_are_plain_text(backend: Backend) -> None:
    """`%`, `_`, `*`, quotes and backslashes in a filter stand for themselves."""
    job_id = factory.enqueue(backend, queue="mail", name="mail_x", args='["a%b"]')
    for text in ("%", "_", "m%", "m_il", "mail%", "*", "ma*", ".*", "mail'", 'mail"', "ma\\il", "MAIL"):
        for where in (Filter(queues=[text]), Filter(names=[text]), Filter(args=text), Filter(tags=[text])):
            assert _ids(backend, where) == set(), where
    for text in ("%", "m%l", "ail%x", "*", ".*", "[m]", "mail.x", "\\", "'"):
        assert _ids(backend, Filter(search=text)) == set(), text
    assert _ids(backend, Filter(search="l_x")) == {job_id}


def check_all_tags_must_be_there(backend: Backend) -> None:
    """A job matches when it has every tag asked for, each compared whole."""
    ab = factory.enqueue(backend, tags='["a", "b"]')
    b = factory.enqueue(backend, tags='["b"]')
    long = factory.enqueue(backend, tags='["abc", "x/y:z"]')
    factory.enqueue(backend, tags="[]")
    factory.enqueue(backend)
    assert _ids(backend, Filter(tags=["b"])) == {ab, b}
    assert _ids(backend, Filter(tags=["b", "a"])) == {ab}
    assert _ids(backend, Filter(tags=["a"])) == {ab}
    assert _ids(backend, Filter(tags=["x/y:z"])) == {long}
    assert _ids(backend, Filter(tags=["ab"])) == _ids(backend, Filter(tags=['a", "b'])) == set()


def check_arguments_are_compared_as_text(backend: Backend) -> None:
    """`args` matches the same stored text and nothing that merely means the same."""
    job_id = factory.enqueue(backend, args="[1, 2]")
    factory.enqueue(backend, args="[1,2]")
    factory.enqueue(backend, args="[1, 2, 3]")
    assert _ids(backend, Filter(args="[1, 2]")) == {job_id}


def check_error_kind_and_batch_are_exact(backend: Backend) -> None:
    """Jobs are found by the kind of their last error and by their batch."""
    batch = factory.new_id()
    failed, _ = factory.job_in_state(backend, "failed"), factory.enqueue(backend)
    mine = factory.enqueue_several(backend, 2, batch_id=batch)
    factory.enqueue(backend, batch_id=factory.new_id())
    assert _ids(backend, Filter(error_kind="ValueError")) == {failed}
    assert _ids(backend, Filter(error_kind="Value")) == set()
    assert _ids(backend, Filter(batch_id=batch)) == set(mine)
    assert _ids(backend, Filter(batch_id=factory.new_id())) == set()


def check_a_range_includes_its_start_and_not_its_end(backend: Backend, clock: FrozenClock) -> None:
    """`after <= created_at < before`, either end open."""
    ids, times = [], []
    for _ in range(3):
        ids.append(factory.enqueue(backend))
        times.append(clock.now())
        clock.advance(10)
    assert _ids(backend, Filter(after=times[1])) == set(ids[1:])
    assert _ids(backend, Filter(before=times[1])) == {ids[0]}
    assert _ids(backend, Filter(after=times[0], before=times[2])) == set(ids[:2])
    assert _ids(backend, Filter(after=times[0] + 1_000, before=times[1])) == set()
    assert _ids(backend, Filter(after=times[1], before=times[1])) == set()
    assert _ids(backend, Filter(after=times[2] + 1_000)) == set()
    assert _ids(backend, Filter(after=times[0], before=times[2] + micros(1))) == set(ids)


def check_search_looks_in_name_and_id(backend: Backend) -> None:
    """A text is found anywhere in the name or in the id as users see it."""
    job_id = factory.enqueue(backend, name="shop.orders.export")
    other = factory.enqueue(backend, name="shop.mail")
    text = str(UUID(bytes=job_id))
    assert _ids(backend, Filter(search="orders")) == {job_id}
    assert _ids(backend, Filter(search="shop.")) == {job_id, other}
    assert _ids(backend, Filter(search=text)) == {job_id}
    assert job_id in _ids(backend, Filter(search=text[10:20]))
    assert _ids(backend, Filter(search=text[:-1] + ("0" if text[-1] != "0" else "1"))) == set()
    assert _ids(backend, Filter(search="nothing")) == set()


def check_filters_and_pages_go_together(backend: Backend) -> None:
    """A page of filtered jobs is filled from all that match, not cut from an unfiltered one."""
    factory.enqueue_several(backend, 20, queue="a")
    wanted = factory.enqueue_several(backend, 7, queue="b")
    factory.enqueue_several(backend, 20, queue="a")
    first, second = factory.pages(backend, Filter(queues=["b"]), 4)
    assert [row.id for row in [*first, *second]] == wanted[::-1]


def check_jobs_touched_since_are_those_something_happened_to(backend: Backend, clock: FrozenClock) -> None:
    """A job counts when it was created, claimed, started or ended at the instant or later, the instant included."""
    moments: list[int] = []

    def next_moment() -> None:
        clock.advance(10)
        moments.append(clock.now())

    next_moment()
    old = {state: factory.job_in_state(backend, state) for state in EVERY_STATE}
    claimed, started, ended, back = (factory.enqueue(backend, queue=name) for name in ("c", "s", "e", "b"))
    next_moment()
    claims = {queue: factory.claim_one(backend, queue=queue) for queue in ("c", "s", "e", "b")}
    next_moment()
    factory.settle(backend, claims["s"], states.start(claims["s"], ago=0))
    next_moment()
    factory.complete(backend, claims["e"])
    factory.settle(backend, claims["b"], states.hand_back(claims["b"]))
    next_moment()
    new = factory.enqueue(backend)
    everything = {*old.values(), claimed, started, ended, back, new}
    since = [_ids(backend, Filter(touched_since=moment)) for moment in moments]
    assert since == [everything, {claimed, started, ended, new}, {started, ended, new}, {ended, new}, {new}]
    assert _ids(backend, Filter(touched_since=moments[3] + 1_000)) == {new}
    assert _ids(backend, Filter(touched_since=moments[4] + 1_000)) == set()


def check_of_a_job_that_ended_only_the_end_counts_as_touched(backend: Backend, clock: FrozenClock) -> None:
    """A job that ended before the instant was not touched since, though the clock stepped back after its creation."""
    clock.advance(100)
    ended, waiting = factory.claimed_job(backend), factory.enqueue(backend)
    clock.step(-60)
    factory.complete(backend, ended)
    assert _ids(backend, Filter(touched_since=clock.now())) == {ended.id, waiting}
    assert _ids(backend, Filter(touched_since=clock.now() + micros(30))) == {waiting}


def check_touched_since_goes_with_other_filters(backend: Backend, clock: FrozenClock) -> None:
    """States, queues, names, tags, search and the range of creation narrow what was touched, in lists and counts."""
    for state in EVERY_STATE:
        factory.job_in_state(backend, state)
    clock.advance(60)
    moment = clock.now()
    jobs = {
        (state, name): factory.job_in_state(backend, state, queue=f"q-{state}", name=name, tags='["t"]')
        for state in EVERY_STATE
        for name in ("a", "b")
    }
    clock.advance(60)
    late = factory.job_in_state(backend, "failed", queue="q-failed", name="a")
    since = partial(Filter, touched_since=moment)
    assert _ids(backend, since()) == {*jobs.values(), late}
    for state in EVERY_STATE:
        assert _ids(backend, since(states=[state], names=["b"])) == {jobs[state, "b"]}
        assert _ids(backend, since(states=[state], tags=["t"])) == {jobs[state, "a"], jobs[state, "b"]}
    assert _ids(backend, since(states=["waiting", "failed"], queues=["q-failed"])) == {
        jobs["failed", "a"],
        jobs["failed", "b"],
        late,
    }
    assert _ids(backend, since(error_kind="ValueError", before=clock.now())) == {
        jobs["failed", "a"],
        jobs["failed", "b"],
    }
    for nothing in (since(search="no such name"), since(states=["claimed"], queues=["x"])):
        assert _ids(backend, nothing) == set()
    counts = {"q-failed": {"failed": 2}, "q-running": {"running": 1}}
    assert counts_of(backend.count(since(states=["failed", "running"], names=["a"]), limit=None)) == counts
    assert counts_of(backend.count(since(), limit=1)) == {f"q-{state}": {state: 1} for state in EVERY_STATE}


def check_pages_of_touched_jobs_follow_each_other(backend: Backend, clock: FrozenClock) -> None:
    """Touched jobs come newest id first, page by page, however long ago they were created."""
    ids = factory.enqueue_several(backend, 40)
    clock.advance(60)
    moment = clock.now()
    touched = [claim.id for claim in factory.claim_some(backend, 12)]
    touched += factory.enqueue_several(backend, 7)
    seen = [row.id for page in factory.pages(backend, Filter(touched_since=moment), 5) for row in page]
    assert seen == sorted(touched, reverse=True) and len(ids) == 40
