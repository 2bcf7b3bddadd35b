"""Ids: UUIDv7, rising within a process whatever happens to it."""

from __future__ import annotations

import os
import threading
import time
from itertools import pairwise
from typing import Any
from uuid import RFC_4122, UUID, uuid4

import pytest

from jobcard.core.ids import IdSource, follow_up_id, parse_id
from jobcard.errors import JobNotFoundError


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the clock ids are made from, in milliseconds."""

    def set_clock(millis: int) -> None:
        monkeypatch.setattr("jobcard.core.ids.time.time_ns", lambda: millis * 1_000_000)

    return set_clock


def millis_of(value: bytes) -> int:
    return int.from_bytes(value[:6], "big")


def test_an_id_is_a_uuid_of_version_7() -> None:
    """Any tool that knows UUIDs knows ours, and its first 48 bits are the time."""
    before = time.time_ns() // 1_000_000
    (made,) = IdSource().take(1)
    value = UUID(bytes=made)
    assert (value.version, value.variant) == (7, "specified in RFC 4122")
    assert before <= millis_of(made) <= time.time_ns() // 1_000_000 + 1


def test_ids_rise_and_are_unique() -> None:
    """A hundred thousand ids, taken singly and in bulk, each above the last."""
    source = IdSource()
    made = [source.take(1)[0] for _ in range(20_000)]
    for count in (0, 1, 7, 1000, 78_992):
        made += source.take(count)
    assert len(made) == 100_000
    assert all(left < right for left, right in pairwise(made))


def test_ids_rise_when_the_clock_steps_back(at: Any) -> None:
    """A clock set back an hour, or to 1970, gives no lower id."""
    source = IdSource()
    made = []
    for millis in (1_800_000_000_000, 1_799_996_400_000, 0, 1_799_999_999_999, 1_800_000_000_000, 1_800_000_000_001):
        at(millis)
        made += source.take(3)
    assert made == sorted(set(made))
    assert millis_of(made[-1]) == 1_800_000_000_001


def test_a_burst_that_uses_up_a_millisecond_borrows_from_the_next(at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter runs over into the time, so ids keep rising."""
    at(1_800_000_000_000)
    source = IdSource()
    source.take(1)
    source._counter = (1 << 42) - 3
    made = source.take(5)
    assert made == sorted(set(made))
    assert {millis_of(value) for value in made} == {1_800_000_000_000, 1_800_000_000_001}


def test_two_sources_at_one_instant_differ(at: Any) -> None:
    """Processes that ask in the same millisecond get different ids."""
    at(1_800_000_000_000)
    made = [value for _ in range(1000) for value in IdSource().take(2)]
    assert len(set(made)) == 2000


def test_threads_share_a_source() -> None:
    """Eight threads at once: no id twice, and each thread's own rise."""
    source = IdSource()
    taken: list[list[bytes]] = [[] for _ in range(8)]

    def take(into: list[bytes]) -> None:
        for _ in range(500):
            into += source.take(5)

    threads = [threading.Thread(target=take, args=(into,)) for into in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({value for into in taken for value in into}) == 8 * 2500
    assert all(into == sorted(into) for into in taken)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_repeats_nothing(at: Any) -> None:
    """Parent and children go on from the same source in the same millisecond with different ids."""
    at(1_800_000_000_000)
    source = IdSource()
    made = source.take(10)
    # Held across the fork: a child that inherited the lock as it was would wait forever.
    with source._lock:
        pipes = [fork_and_take(source, 200) for _ in range(3)]
    for reader, child in pipes:
        with os.fdopen(reader, "rb") as stream:
            data = stream.read()
        assert os.waitpid(child, 0)[1] == 0
        assert len(data) == 200 * 16
        ids = [data[place : place + 16] for place in range(0, len(data), 16)]
        assert ids == sorted(ids)
        made += ids
    made += source.take(200)
    assert len(set(made)) == 10 + 3 * 200 + 200


def fork_and_take(source: IdSource, count: int) -> tuple[int, int]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writer, b"".join(source.take(count)))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    return reader, child


def test_an_id_is_taken_as_uuid_or_text() -> None:
    """Look-ups take both, in any of the usual spellings."""
    value = UUID("0190a1b2-c3d4-7e5f-8a6b-0123456789ab")
    for given in (value, str(value), str(value).upper(), value.hex):
        assert parse_id(given) == value.bytes


@pytest.mark.parametrize(
    "given",
    ["", "x", "x" * 32, "x" * 36, "0" * 31, "0" * 37, "0" * 10**5, "*", "%", "1 OR 1=1", "-rf", None, 5, b"0" * 16,
     b"0" * 32, ["0" * 32], "urn:uuid:0190a1b2-c3d4-7e5f-8a6b-0123456789ab"],
    ids=lambda value: ascii(value)[:30],
)  # fmt: skip
def test_what_is_no_id_is_not_found(given: object) -> None:
    """Anything else is an id that no job has; the message stays short."""
    with pytest.raises(JobNotFoundError) as caught:
        parse_id(given)
    assert len(str(caught.value)) < 200


class TestFollowUps:
    def test_the_same_place_has_the_same_id(self) -> None:
        """A job that runs again names the same follow-ups, so that none is stored twice."""
        [parent] = IdSource().take(1)
        assert follow_up_id(parent, 3) == follow_up_id(parent, 3)

    def test_all_places_of_all_parents_differ(self) -> None:
        """No follow-up takes another one's id."""
        parents = IdSource().take(50)
        ids = {follow_up_id(parent, place) for parent in parents for place in range(200)}
        assert len(ids | set(parents)) == 50 * 200 + 50

    def test_it_is_a_uuid_of_its_parents_time(self) -> None:
        """So it stands beside its parent in a list, and stores see nothing new."""
        [parent] = IdSource().take(1)
        for place in range(100):
            found = UUID(bytes=follow_up_id(parent, place))
            assert (found.version, found.variant) == (7, RFC_4122)
            assert found.bytes[:6] == parent[:6]
        assert UUID(bytes=follow_up_id(uuid4().bytes, 1)).version == 7
