"""Looking jobs up: get, ended, list and its filters."""

from __future__ import annotations

from uuid import UUID

from jobcard.backends.base import Backend, Ended, Filter
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core.clock import FrozenClock
from jobcard.core.job import JobRow


def _ids(backend: Backend, where: Filter, limit: int = 100) -> set[bytes]:
    rows = backend.list(where, limit=limit)
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
    assert [row.id for row in backend.list(Filter(), limit=100)] == ids[::-1]


def check_an_empty_store_lists_nothing(backend: Backend) -> None:
    """No jobs, no rows."""
    assert list(backend.list(Filter(), limit=10)) == []
    assert list(backend.list(Filter(states=["failed"], queues=["x"]), limit=10)) == []


def check_listed_rows_are_the_rows(backend: Backend) -> None:
    """A listed row is field by field what `get` gives."""
    job_id = factory.job_in_state(backend, "failed", tags='["a"]', meta="{}", keep=9)
    assert list(backend.list(Filter(), limit=1)) == [factory.row_of(backend, job_id)]


def check_pages_follow_each_other(backend: Backend) -> None:
    """Page after page below the last id gives every job once, also when new ones come in between."""
    ids = factory.enqueue_several(backend, 23)
    seen: list[bytes] = []
    before_id: bytes | None = None
    for _ in range(5):
        page = backend.list(Filter(), limit=5, before_id=before_id)
        assert 0 < len(page) <= 5
        seen += [row.id for row in page]
        before_id = seen[-1]
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
    first = backend.list(Filter(queues=["b"]), limit=4)
    second = backend.list(Filter(queues=["b"]), limit=4, before_id=first[-1].id)
    assert [row.id for row in [*first, *second]] == wanted[::-1]
