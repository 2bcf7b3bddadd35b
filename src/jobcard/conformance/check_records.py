"""The small records beside the jobs: queues, schedules, engines, orders."""

from __future__ import annotations

from functools import partial

from jobcard.backends.base import SETTINGS, Backend, Record, RecordKind
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once
from jobcard.core.clock import FrozenClock


def check_a_record_is_written_and_read(backend: Backend, clock: FrozenClock) -> None:
    """A record keeps its text as it is, starts at version 1 and tells its age."""
    value = ' {"priority": 0, "é": "😀"} '
    assert backend.write_record(RecordKind.QUEUE, "mail", value) == 1
    clock.advance(2.5)
    assert list(backend.read_records(RecordKind.QUEUE)) == [Record("mail", value, 1, micros(2.5))]


def check_no_records_are_none(backend: Backend) -> None:
    """A new store has no records of any kind."""
    assert not any(list(backend.read_records(kind)) for kind in RecordKind)


def check_each_write_raises_the_version_and_resets_the_age(backend: Backend, clock: FrozenClock) -> None:
    """The version rises by one with every write, of the same text too."""
    for version in (1, 2, 3):
        clock.advance(10)
        assert backend.write_record(RecordKind.ENGINE, "e", "{}") == version
    clock.advance(1)
    assert list(backend.read_records(RecordKind.ENGINE)) == [Record("e", "{}", 3, micros(1))]


def check_an_expected_version_guards_the_write(backend: Backend) -> None:
    """A write over another version than expected is refused with None and changes nothing."""
    backend.write_record(RecordKind.QUEUE, "q", '{"n": 1}')
    backend.write_record(RecordKind.QUEUE, "q", '{"n": 2}')
    for wrong in (0, 1, 3, 99):
        assert backend.write_record(RecordKind.QUEUE, "q", '{"n": 9}', expect=wrong) is None
    [record] = backend.read_records(RecordKind.QUEUE)
    assert (record.value, record.version) == ('{"n": 2}', 2)
    assert backend.write_record(RecordKind.QUEUE, "q", '{"n": 3}', expect=2) == 3


def check_expecting_nothing_creates_once(backend: Backend) -> None:
    """Version 0 means absent: the first write makes the record, the second is refused."""
    assert backend.write_record(RecordKind.QUEUE, "q", "1", expect=0) == 1
    assert backend.write_record(RecordKind.QUEUE, "q", "2", expect=0) is None
    assert backend.write_record(RecordKind.QUEUE, "other", "3", expect=1) is None
    assert [(record.key, record.value) for record in backend.read_records(RecordKind.QUEUE)] == [("q", "1")]


def check_kinds_are_kept_apart(backend: Backend) -> None:
    """The same key under two kinds is two records."""
    for kind in RecordKind:
        backend.write_record(kind, "x", f'"{kind}"')
    backend.remove_record(RecordKind.ENGINE, "x")
    found = {kind: [record.value for record in backend.read_records(kind)] for kind in RecordKind}
    assert found == {kind: [] if kind is RecordKind.ENGINE else [f'"{kind}"'] for kind in RecordKind}


def check_settings_rise_with_the_records_engines_obey(backend: Backend) -> None:
    """Every write or removal of a queue, schedule or order raises `settings`, so that running engines read it."""
    seen = [backend.exchange("e").settings]
    for kind in sorted(SETTINGS):
        for _ in range(2):
            backend.write_record(kind, "x", "{}")
            seen.append(backend.exchange("e").settings)
        backend.remove_record(kind, "x")
        seen.append(backend.exchange("e").settings)
    assert seen == sorted(set(seen))


def check_other_records_do_not_lower_settings(backend: Backend) -> None:
    """What changes nothing for engines, and a write that was refused, leaves `settings` where it was or higher."""
    backend.write_record(RecordKind.ORDER, "e", '{"order": "quiet"}')
    before = backend.exchange("e").settings
    assert backend.write_record(RecordKind.QUEUE, "x", "{}", expect=7) is None
    assert backend.remove_record(RecordKind.ORDER, "nobody") is False
    backend.write_record(RecordKind.ENGINE, "e", "{}")
    factory.complete(backend, factory.claimed_job(backend, queue="default"))
    assert backend.exchange("e").settings >= before


def check_records_come_by_key(backend: Backend) -> None:
    """Keys are sorted, and differ by case and accent."""
    keys = ["b", "a", "B", "ab", "a/b", "é", "e", "10", "9"]
    for key in keys:
        backend.write_record(RecordKind.SCHEDULE, key, "{}")
    assert [record.key for record in backend.read_records(RecordKind.SCHEDULE)] == sorted(keys)


def check_a_record_is_removed_once(backend: Backend) -> None:
    """Removing says whether it was there; others stay."""
    for key in ("a", "b"):
        backend.write_record(RecordKind.SCHEDULE, key, "{}")
    assert backend.remove_record(RecordKind.SCHEDULE, "a") is True
    assert backend.remove_record(RecordKind.SCHEDULE, "a") is False
    assert [record.key for record in backend.read_records(RecordKind.SCHEDULE)] == ["b"]
    assert backend.write_record(RecordKind.SCHEDULE, "a", "{}", expect=0) == 1


def check_removing_a_queues_record_leaves_its_jobs(backend: Backend) -> None:
    """A record is settings: without it the jobs of the queue are claimed as before."""
    job_id = factory.enqueue(backend, queue="q")
    backend.remove_record(RecordKind.QUEUE, "q")
    assert [claim.id for claim in factory.claim_some(backend, 5, queues=["q"])] == [job_id]


def check_one_of_many_creators_wins(harness: Harness) -> None:
    """Of engines that make one record at once exactly one does."""
    backend = harness.ready()
    writers = [harness.open() for _ in range(6)]
    for round_ in range(5):
        answers = at_once(
            [
                partial(at.write_record, RecordKind.SCHEDULE, f"k{round_}", str(n), expect=0)
                for n, at in enumerate(writers)
            ]
        )
        assert sorted(map(str, answers)) == ["1"] + ["None"] * 5
        [value] = [record.value for record in backend.read_records(RecordKind.SCHEDULE) if record.key == f"k{round_}"]
        assert answers[int(value)] == 1
    harness.close()


def check_no_update_is_lost(harness: Harness) -> None:
    """Writers that read, add one and write over what they read count every one of their steps."""
    backend = harness.ready()
    backend.write_record(RecordKind.SCHEDULE, "n", "0")
    writers, steps = [harness.open() for _ in range(4)], 10

    def add(at: Backend) -> None:
        done = 0
        while done < steps:
            [record] = at.read_records(RecordKind.SCHEDULE)
            done += (
                at.write_record(RecordKind.SCHEDULE, "n", str(int(record.value) + 1), expect=record.version) is not None
            )

    at_once([partial(add, at) for at in writers])
    [record] = backend.read_records(RecordKind.SCHEDULE)
    assert (record.value, record.version) == (str(4 * steps), 4 * steps + 1)
    harness.close()
