"""A live move, step by step: killed in any of them, taken back, given up; and who waits meanwhile."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mixed import Two, fill, ids_in, new_jobs

from checker.lab import Lab
from helpers.waiting import wait_until
from jobcard import Jobcard
from jobcard.backends.base import Backend, RecordKind
from jobcard.cli.main import run
from jobcard.conformance import factory
from jobcard.core import move
from jobcard.core.move import Phase
from jobcard.engine import routines
from jobcard.errors import StoreMovedError
from jobcard.moving import live
from jobcard.moving.turn import find

pytestmark = pytest.mark.turns

STEPS = list(live.STEPS)
BEFORE_THE_SEAL = [Phase.MARK, Phase.SETTINGS, Phase.PASSES]


def phase_of(target: Backend) -> Phase | None:
    record = find(target, move.KEY)
    return None if record is None else move.from_text(record.value).phase


@pytest.mark.slow
@pytest.mark.turns
class TestKilled:
    @pytest.mark.parametrize("calls", [1, 7, 1_000])
    @pytest.mark.parametrize("step", STEPS)
    def test_the_same_command_goes_on(
        self, two: Two, source: Backend, target: Backend, step: Phase, calls: int
    ) -> None:
        """Killed in the middle of a step, or at its end: the next one begins with it, and all is there once."""
        fill(source, 300)
        assert two.killed_after(step, calls) == -signal.SIGKILL
        assert phase_of(target) is step and routines.is_closed(target)
        assert run([*two.words, "--live"]) == 0
        assert phase_of(target) is Phase.OPENED and not routines.is_closed(target)
        assert ids_in(source) == ids_in(target)
        with pytest.raises(StoreMovedError):
            factory.enqueue(source)
        factory.enqueue(target)
        assert run([*two.words, "--live"]) == 0  # it is over

    @pytest.mark.parametrize("step", STEPS)
    def test_what_changes_until_the_seal_goes_along(
        self, two: Two, source: Backend, target: Backend, step: Phase
    ) -> None:
        """Jobs that came, ended, were deleted or gave their key to another while nobody moved anything."""
        early = new_jobs(source, 20)
        factory.enqueue(source, unique_key="k", queue="keyed")
        assert two.killed_after(step, 1_000) == -signal.SIGKILL
        if step in BEFORE_THE_SEAL:
            ended = factory.claim_some(source, 4)
            assert factory.complete(source, ended) == []
            assert source.delete([ended[0].id]) == 1
            assert factory.complete(source, factory.claim_one(source, queue="keyed")) == []
            heir = factory.enqueue(source, unique_key="k", queue="keyed")
            late = new_jobs(source, 20)
            assert {ended[1].id, heir, *late} <= ids_in(source)
        assert run([*two.words, "--live"]) == 0
        assert ids_in(target) == ids_in(source)
        assert ids_in(target) & {*early}


class TestWaysBack:
    @pytest.mark.parametrize("step", [step for step in STEPS if step not in BEFORE_THE_SEAL])
    def test_a_rollback_opens_the_source(self, two: Two, source: Backend, target: Backend, step: Phase) -> None:
        """And what comes then is moved by the same command again."""
        fill(source, 100)
        assert two.killed_after(step, 1_000) == -signal.SIGKILL
        assert run([*two.words, "--live", "--abort", "--yes"]) == 2
        assert run([*two.words, "--live", "--rollback"]) == 0
        late = factory.enqueue(source)
        assert routines.is_closed(target)
        assert run([*two.words, "--live"]) == 0
        assert late in ids_in(target)
        assert run([*two.words, "--live", "--rollback"]) == 2  # the target is open

    @pytest.mark.parametrize("step", BEFORE_THE_SEAL)
    def test_before_the_seal_it_can_be_given_up(self, two: Two, source: Backend, target: Backend, step: Phase) -> None:
        """Source and target are as they were."""
        fill(source, 100)
        assert two.killed_after(step, 1_000) == -signal.SIGKILL
        assert run([*two.words, "--live", "--rollback"]) == 2
        assert run([*two.words, "--live", "--abort", "--yes"]) == 0
        assert not ids_in(target) and not routines.is_closed(target)
        assert source.read_records(RecordKind.MOVE) == []
        factory.enqueue(source)
        assert run([*two.words, "--live"]) == 0

    def test_after_a_rollback_too(self, two: Two, source: Backend, target: Backend) -> None:
        """Back to where it began."""
        fill(source, 100)
        assert two.killed_after(Phase.VERIFY, 1_000) == -signal.SIGKILL
        assert run([*two.words, "--rollback"]) == 0
        assert run([*two.words, "--abort", "--yes"]) == 0
        assert not ids_in(target) and source.facts().seal is None


class TestRefused:
    def test_a_target_that_is_not_empty(self, two: Two, source: Backend, target: Backend) -> None:
        """Nothing is marked; neither store is closed."""
        new_jobs(target, 1)
        assert run([*two.words, "--live"]) == 2
        assert not routines.is_closed(target) and source.read_records(RecordKind.MOVE) == []

    def test_engines_on_the_target(self, two: Two, source: Backend, target: Backend) -> None:
        """They would run what the source may change."""
        routines.write_engine(target, "0123", {"heartbeat": 5.0})
        assert run([*two.words, "--live"]) == 2
        assert not routines.is_closed(target)

    def test_a_second_target(self, two: Two, source: Backend, target: Backend, tmp_path: Path) -> None:
        """One store goes one way; the second target is not closed by the attempt."""
        assert two.killed_after(Phase.PASSES, 1_000) == -signal.SIGKILL
        third = f"sqlite:///{tmp_path / 'third.db'}"
        assert run(["copy", "--from", two.source.url, "--to", third, "--live"]) == 2
        with Jobcard(third) as jobs:
            assert jobs.parts.connection.__enter__().read_records(RecordKind.MOVE) == []
            jobs.parts.connection.__exit__()

    def test_a_plain_copy_into_the_middle_of_it(self, two: Two, source: Backend, target: Backend) -> None:
        """It would be in nobody's interest."""
        assert two.killed_after(Phase.PASSES, 1_000) == -signal.SIGKILL
        assert run(two.words) == 2
        assert run([*two.words, "--merge"]) == 2


def test_engines_that_were_not_told_are_named(
    two: Two, source: Backend, target: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    """What they run at the seal is run again: whoever moves is told before it is too late. Others are not named."""
    one, other = Jobcard(two.source.url), Jobcard(two.source.url, moving_to=two.target.url)
    with one, other, one.running(in_process=True), other.running(in_process=True):
        records = source.read_records(RecordKind.ENGINE)
        engines = {record.key: json.loads(record.value)["follows"] for record in records}
        assert sorted(engines.values()) == [False, True]
        assert run([*two.words, "--live"]) == 0
    said = capsys.readouterr().err
    assert all((key in said) is not follows for key, follows in engines.items())


@pytest.fixture
def lab(two: Two, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, two.target.url)
    yield lab
    lab.close()


class TestAClosedTarget:
    def test_an_engine_waits_until_it_is_open(self, two: Two, source: Backend, target: Backend, lab: Lab) -> None:
        """It claims nothing, and says why; when the target is open it runs what came with it."""
        new_jobs(source, 5, name="load.hardy")
        assert two.killed_after(Phase.PASSES, 1_000) == -signal.SIGKILL
        tree = lab.start("load", ready=False)
        wait_until(lambda: "engine.wait" in tree.errors, "an engine that waits")
        assert target.read_records(RecordKind.ENGINE) == []
        assert run([*two.words, "--live"]) == 0
        tree.wait_ready()
        wait_until(lambda: target.tally().counts.get("completed") == 5, "the end of every job")
        assert tree.stop() == 0

    def test_an_engine_that_waits_can_be_stopped(self, two: Two, source: Backend, target: Backend, lab: Lab) -> None:
        """At once, with exit code 0."""
        assert two.killed_after(Phase.PASSES, 1_000) == -signal.SIGKILL
        tree = lab.start("load", ready=False)
        wait_until(lambda: "engine.wait" in tree.errors, "an engine that waits")
        assert tree.stop() == 0

    def test_an_engine_that_works_there_stops_claiming(
        self, two: Two, source: Backend, target: Backend, lab: Lab
    ) -> None:
        """Whoever closes the store tells it by the record of the move; and claims go on when that is gone."""
        tree = lab.start("load")
        mine = move.Move(id="m", role=move.Role.TARGET, kind=move.Kind.LIVE, phase=Phase.MARK, other="elsewhere")
        target.write_record(RecordKind.MOVE, move.KEY, move.to_text(mine))
        wait_until(lambda: "engine.quiet" in tree.errors, "an engine that claims nothing")
        job_id = factory.enqueue(target, name="load.hardy")
        wait_until(
            lambda: any('"quiet":true' in record.value for record in target.read_records(RecordKind.ENGINE)),
            "a record that says so",
        )
        assert factory.row_of(target, job_id).state == "waiting"
        target.remove_record(RecordKind.MOVE, move.KEY)
        wait_until(lambda: factory.row_of(target, job_id).state == "completed", "the end of the job")
        assert tree.stop() == 0
