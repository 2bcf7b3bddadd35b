"""`jobcard copy` as an operator meets it: what it says, what it refuses, and what the same command does again."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mixed import Two, environment, fill, ids_in, new_jobs

from helpers.waiting import wait_until
from jobcard.backends.base import Backend, RecordKind
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.cli.main import run
from jobcard.conformance import factory
from jobcard.core import move
from jobcard.engine import routines

pytestmark = pytest.mark.turns

Told = Callable[..., tuple[int, dict[str, Any]]]
Refused = Callable[..., str]
ENGINE = "0123456789abcdef"


@pytest.fixture
def told(two: Two, capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs the command with `--json`; its exit code and what it printed."""

    def command(*more: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = run([*two.words, "--json", *more])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}

    return command


@pytest.fixture
def refused(two: Two, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs the command, which must refuse; what it says."""

    def command(*more: str) -> str:
        capsys.readouterr()
        assert run([*two.words, *more]) == 2
        return capsys.readouterr().err

    return command


def spoil(store: Backend, job_id: bytes) -> None:
    """Make a job unreadable."""
    assert isinstance(store, SQLiteBackend)
    with store._writer.use() as connection:
        connection.execute("update jobcard_jobs set args = cast(x'ff' as text) where id = ?", (job_id,))


class TestDryRun:
    def test_it_says_what_there_is_and_changes_nothing(self, two: Two, source: Backend, told: Told) -> None:
        """Counts by state; the target's file is not even made."""
        factory.job_in_state(source, "completed")
        new_jobs(source, 3)
        code, said = told("--dry-run")
        assert code == 0 and said["problems"] == []
        assert (said["jobs"]["total"], said["jobs"]["waiting"], said["jobs"]["completed"]) == (4, 3, 1)
        assert not Path(two.target.url.removeprefix("sqlite:///")).exists()
        assert source.read_records(RecordKind.MOVE) == []

    def test_it_says_what_is_in_the_way(self, source: Backend, target: Backend, told: Told) -> None:
        """A target with other jobs."""
        new_jobs(source, 2)
        new_jobs(target, 1)
        code, said = told("--dry-run")
        assert code == 1 and said["target"]["others"] == 1 and "--merge" in said["problems"][0]
        assert told("--dry-run", "--merge")[0] == 0
        assert told("--dry-run", "--live")[0] == 1


class TestCopy:
    def test_all_is_written_once(self, source: Backend, target: Backend, told: Told) -> None:
        """Verified by one checksum of both stores. Again there is nothing to do."""
        fill(source, 1_200)
        code, said = told()
        assert code == 0 and said["ok"] and said["written"] == said["jobs"] == 1_200
        assert said["verified"]["checksum_source"] == said["verified"]["checksum_target"]
        code, said = told()
        assert code == 0 and said["ok"] and said["written"] == 0
        assert told("--verify")[0] == 0

    def test_jobs_of_any_size(self, source: Backend, target: Backend, told: Told) -> None:
        """Some are a hundred thousand times as large as others."""
        new_jobs(source, 120)
        new_jobs(source, 30, args=json.dumps(["x" * 1_000_000]))
        new_jobs(source, 120)
        code, said = told()
        assert code == 0 and said["written"] == 270

    def test_a_target_with_other_jobs_is_refused(self, source: Backend, target: Backend, refused: Refused) -> None:
        """Unless they are to stay; nothing is written."""
        new_jobs(source, 2)
        theirs = new_jobs(target, 1)
        assert "--merge" in refused()
        assert ids_in(target) == {*theirs}

    def test_a_target_that_has_gone_on_is_refused(
        self, source: Backend, target: Backend, told: Told, refused: Refused
    ) -> None:
        """It would be set back."""
        new_jobs(source, 2)
        assert told()[0] == 0
        claim = factory.claim_one(target)
        assert factory.complete(target, claim) == []
        refused()
        assert told("--verify")[0] == 1
        assert factory.row_of(target, claim.id).state == "completed"

    def test_the_same_store_twice_is_refused(self, two: Two, source: Backend) -> None:
        """By its identity, however it is written."""
        again = two.source.url.replace("/jobs.db", "/../source/jobs.db")
        assert run(["copy", "--from", two.source.url, "--to", again]) == 2

    def test_live_engines_are_refused(self, source: Backend, target: Backend, told: Told, refused: Refused) -> None:
        """On either side."""
        new_jobs(source, 1)
        for store in (source, target):
            routines.write_engine(store, ENGINE, {"heartbeat": 5.0})
            assert ENGINE in refused() and ids_in(target) == set()
            store.remove_record(RecordKind.ENGINE, ENGINE)
        assert told()[0] == 0

    def test_live_engines_may_be_there_where_all_has_ended(self, source: Backend, target: Backend, told: Told) -> None:
        """The history of a store in use can be copied."""
        factory.job_in_state(source, "completed")
        new_jobs(source, 1)
        routines.write_engine(source, ENGINE, {"heartbeat": 5.0})
        code, said = told("--states", "completed,failed,canceled")
        assert (code, said["written"]) == (0, 1)

    def test_a_sealed_source_can_be_copied(self, source: Backend, target: Backend, told: Told) -> None:
        """It is only read."""
        new_jobs(source, 2)
        source.seal("moved:elsewhere")
        assert told()[0] == 0

    def test_filters(self, source: Backend, target: Backend, told: Told) -> None:
        """By state, queue and creation; an unknown state is a usage error."""
        new_jobs(source, 2, queue="mail")
        new_jobs(source, 3)
        ended = factory.job_in_state(source, "canceled", queue="mail")
        assert told("--queues", "mail", "--states", "canceled")[0] == 0
        assert ids_in(target) == {ended}
        assert told("--queues", "mail", "--merge")[1]["written"] == 2
        assert told("--since", "1h", "--merge")[1]["written"] == 3
        assert run(["copy", "--from", "sqlite:///a", "--to", "sqlite:///b", "--states", "done"]) == 2


class TestMerge:
    def test_what_the_target_has_stays(self, source: Backend, target: Backend, told: Told) -> None:
        """Its own jobs, and what has become there of jobs that both have."""
        first = new_jobs(source, 2)
        assert told()[0] == 0
        claim = factory.claim_one(target)
        assert factory.complete(target, claim) == []
        own = new_jobs(target, 1)
        second = new_jobs(source, 1)
        code, said = told("--merge")
        assert (code, said["written"], said["kept"]) == (0, 1, 1)
        assert ids_in(target) == {*first, *own, *second}
        assert factory.row_of(target, claim.id).state == "completed"

    def test_a_key_that_is_taken(self, source: Backend, target: Backend, told: Told) -> None:
        """Two living jobs of one key cannot be; the one of the target stays, and the other is named."""
        theirs = factory.enqueue(target, unique_key="k")
        mine = factory.enqueue(source, unique_key="k")
        free = factory.enqueue(source)
        code, said = told("--merge")
        assert code == 1 and [*said["left_out"]] == [str(UUID(bytes=mine))]
        assert ids_in(target) == {theirs, free}
        assert not routines.is_closed(target)


class TestUnreadable:
    def test_it_is_counted_and_named(self, source: Backend, target: Backend, told: Told) -> None:
        """What cannot be read cannot be copied: the rest is, and the exit code says it."""
        good, bad = new_jobs(source, 2)
        spoil(source, bad)
        code, said = told()
        assert code == 1 and said["verified"]["unreadable"] == 1 and [*said["left_out"]] == [str(UUID(bytes=bad))]
        assert ids_in(target) == {good}
        assert told("--skip-unreadable")[0] == 0

    def test_a_live_move_stops_before_the_seal(self, source: Backend, target: Backend, told: Told) -> None:
        """Behind it nobody could see to that job."""
        _good, bad = new_jobs(source, 2)
        spoil(source, bad)
        assert told("--live")[0] == 1
        assert source.facts().seal is None
        assert told("--live", "--skip-unreadable")[0] == 0
        assert source.facts().seal is not None


@pytest.mark.slow
@pytest.mark.turns
class TestKilled:
    @pytest.mark.parametrize("calls", [10, 40, 48, 58, 80])
    def test_the_same_command_goes_on(self, two: Two, source: Backend, target: Backend, told: Told, calls: int) -> None:
        """After SIGKILL at any point the target is closed; afterwards all is there, once."""
        fill(source, 2_500)
        assert two.killed_after("copy", calls) == -signal.SIGKILL
        assert told()[0] == 0
        assert not routines.is_closed(target)
        assert told("--verify")[0] == 0

    def test_or_is_given_up(self, two: Two, source: Backend, target: Backend, told: Told) -> None:
        """The target is closed, and afterwards as empty as it was; asked first."""
        fill(source, 2_500)
        assert two.killed_after("copy", 55) == -signal.SIGKILL
        assert routines.is_closed(target) and ids_in(target)
        assert told("--abort")[0] == 2
        assert told("--abort", "--yes")[0] == 0
        assert not ids_in(target) and not routines.is_closed(target)
        assert told("--abort", "--yes")[0] == 2

    def test_two_at_once(self, two: Two, source: Backend, target: Backend, refused: Refused) -> None:
        """The second one says who is there: one that stands still may go on, so it is there."""
        fill(source, 100)
        process = subprocess.Popen(two.mover("copy", 12, "STOP"), env=environment())
        try:
            wait_until(lambda: _state(process.pid) == "T", "a command that stands still")
            assert str(process.pid) in refused()
        finally:
            process.kill()
            process.wait()
        assert run(two.words) == 0


class TestWhoeverIsSlow:
    def test_who_was_taken_over_writes_no_more(self, two: Two, source: Backend, target: Backend) -> None:
        """A record that another process has written since is the end of the earlier one."""
        from jobcard.moving import turn

        mine = move.Move(
            id="m", role=move.Role.TARGET, kind=move.Kind.COPY, phase=move.Phase.COPY, other=source.facts().identity
        )
        first = turn.take_turn(target, mine, None, print)
        record = turn.find(target, move.COPY_KEY)
        second = turn.take_turn(target, mine, record, print)
        with pytest.raises(turn.TakenOverError):
            first.reach(move.Phase.ABORT)
        second.end()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
