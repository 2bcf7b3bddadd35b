"""The judgement: what was acknowledged is there, ran, ran once at a time, and ended once.

After the "total queue" check of Jepsen (lost, unexpected, duplicated, recovered), made finer by claim tokens: they
rise with every claim, so that no clock of the store is needed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from checker.history import Event, alive, read_history
from checker.stored import Ending, Row, Stored

ENDED = ("completed", "failed", "canceled")
SHOWN = 5
THAW_NANOSECONDS = 1_000_000_000


@dataclass
class Figures:
    """How often each rule was broken; all are 0 for a queue that keeps its promises.

    lost: acknowledged, but not stored any more, or ended without ever having run.
    unexpected: stored or run, but never enqueued.
    double_stored: more than one row of one id, or living row of one unique key.
    overlap: two runs of one job at the same time; a killed run ends with its process. When a whole host was frozen, for
        more than a second after it thawed: that much is not promised.
    zombie_accepted: ended with the result of a claim that was not the last, or a token that fell.
    multi_terminal: ended more than once without an operator's retry in between.
    needless_rerun: begun again although its result had been accepted.
    stuck: not ended.
    orphans: processes that ran jobs and still live.
    unearned: completed, but no run of that claim came to its end.
    overspent: more attempts counted than runs begun.
    half_stored: batches of a killed producer of which a part is there.
    canceled_run: begun after the store had said that it is canceled.
    hurt: failed although it is a job that cannot fail by itself: others' deaths are not its own.
    """

    lost: int = 0
    unexpected: int = 0
    double_stored: int = 0
    overlap: int = 0
    zombie_accepted: int = 0
    multi_terminal: int = 0
    needless_rerun: int = 0
    stuck: int = 0
    orphans: int = 0
    unearned: int = 0
    overspent: int = 0
    half_stored: int = 0
    canceled_run: int = 0
    hurt: int = 0
    # Not faults:
    jobs: int = 0
    runs: int = 0
    recovered: int = 0
    """Enqueues whose answer was lost, and that are there."""
    extra_runs: int = 0
    cases: dict[str, list[str]] = field(default_factory=dict)
    """The first few of each fault."""

    @property
    def faults(self) -> dict[str, int]:
        """The figures that are not 0 but should be."""
        return {name: getattr(self, name) for name in FAULTS if getattr(self, name)}

    def add(self, fault: str, case: str) -> None:
        """Count one fault."""
        setattr(self, fault, getattr(self, fault) + 1)
        examples = self.cases.setdefault(fault, [])
        if len(examples) < SHOWN:
            examples.append(case)

    def __str__(self) -> str:
        counts = " ".join(f"{each.name}={getattr(self, each.name)}" for each in fields(self) if each.name != "cases")
        return counts + "".join(f"\n  {fault}: {case}" for fault, cases in self.cases.items() for case in cases)


FAULTS = [each.name for each in fields(Figures)][:14]


class Run(NamedTuple):
    """One time that a job's code began. end: None when it never came to its end."""

    begin: int
    end: int | None
    token: int
    process: str
    others: frozenset[str] | None
    """Who was alive at the beginning; None: nobody looked."""


def check(
    history: Path | Iterable[Event],
    store: Stored,
    *,
    processes: Iterable[str] = (),
    workers_killed: bool = False,
    sound: Collection[str] = (),
) -> Figures:
    """Judge what happened, after everything was drained and stopped.

    processes: others beside those that ran jobs that must be gone, as `process_name` calls them.
    workers_killed: at any moment, and so perhaps between the start of a job and its first line of history.
    sound: names of jobs that cannot fail by themselves, however often they are killed.
    """
    events = read_history(history) if isinstance(history, Path) else sorted(history)
    figures = Figures()
    runs = _runs_of(events)
    rows: dict[str, Row] = {}
    for row in store.rows:
        if row.id in rows:
            figures.add("double_stored", f"{row.id} twice")
        rows[row.id] = row
    _check_enqueued(figures, events, rows, runs)
    _check_batches(figures, events, rows)
    _check_races(figures, events)
    _check_cancels(figures, events, runs)
    _check_rows(figures, store, runs, workers_killed)
    for row in store.rows:
        if row.state == "failed" and row.name in sound:
            figures.add("hurt", f"{row.id} failed with reason {row.reason}")
    _check_endings(figures, store.endings)
    deaths = {event.facts[0]: event.at for event in events if event.kind == "dead"}
    begins = _begins_of(events)
    thaws = _thaws_of(events)
    for job_id, tries in runs.items():
        _check_overlap(figures, job_id, tries, deaths, begins, thaws)
    ran = {event.process for event in events if event.kind == "run-begin"}
    for process in alive(sorted(ran | set(processes))):
        figures.add("orphans", process)
    figures.jobs = len(rows)
    figures.runs = sum(map(len, runs.values()))
    figures.extra_runs = sum(len(tries) - 1 for tries in runs.values())
    return figures


def _runs_of(events: Sequence[Event]) -> dict[str, list[Run]]:
    """The runs of each job, by their beginning."""
    ends: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for event in events:
        if event.kind == "run-end":
            ends[(event.process, *event.facts[:2])].append(event.at)  # type: ignore[index]
    runs: dict[str, list[Run]] = defaultdict(list)
    for event in events:
        if event.kind == "run-begin":
            job_id, token, _attempt, *others = event.facts
            found = ends.get((event.process, job_id, token))
            seen = frozenset(others[0].split(",")) if others else None
            runs[job_id].append(Run(event.at, found.pop(0) if found else None, int(token), event.process, seen))
    return runs


def _begins_of(events: Sequence[Event]) -> dict[str, list[int]]:
    begins: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event.kind == "run-begin":
            begins[event.process].append(event.at)
    return begins


def _thaws_of(events: Sequence[Event]) -> dict[str, list[tuple[int, int]]]:
    """By process: from when until when it was frozen with its whole host."""
    frozen: dict[str, int] = {}
    thaws: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for event in events:
        if event.kind == "frozen":
            frozen[event.facts[0]] = event.at
        elif event.kind == "thawed":
            thaws[event.facts[0]].append((frozen[event.facts[0]], event.at))
    return thaws


def _check_enqueued(
    figures: Figures, events: Sequence[Event], rows: dict[str, Row], runs: dict[str, list[Run]]
) -> None:
    said: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if event.kind.startswith("enq-"):
            said[event.facts[0]].add(event.kind)
    for job_id, words in said.items():
        row = rows.get(job_id)
        if "enq-ok" in words:
            if row is None:
                figures.add("lost", f"{job_id} is not stored")
            elif row.state in ("completed", "failed") and job_id not in runs and not _may_not_have_begun(row):
                figures.add("lost", f"{job_id} is {row.state} and never ran")
        elif "enq-fail" in words and "enq-unknown" not in words:
            if row is not None or job_id in runs:
                figures.add("unexpected", f"{job_id} was said not to be stored")
        elif row is not None:
            figures.recovered += 1
    for job_id in (rows.keys() | runs.keys()) - said.keys():
        figures.add("unexpected", f"{job_id} was never enqueued")


def _check_batches(figures: Figures, events: Sequence[Event], rows: dict[str, Row]) -> None:
    batches: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event in events:
        if event.kind == "enq-invoke" and len(event.facts) > 1:
            batches[event.process, event.facts[1]].append(event.facts[0])
    for (process, number), ids in batches.items():
        there = sum(job_id in rows for job_id in ids)
        if 0 < there < len(ids):
            figures.add("half_stored", f"{there} of {len(ids)} jobs of batch {number} of {process}")


def _check_races(figures: Figures, events: Sequence[Event]) -> None:
    winners: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if event.kind == "key":
            winners[event.facts[0]].add(event.facts[1])
    for key, ids in winners.items():
        if len(ids) > 1:
            figures.add("double_stored", f"unique key {key} belongs to {sorted(ids)}")


def _check_cancels(figures: Figures, events: Sequence[Event], runs: dict[str, list[Run]]) -> None:
    for event in events:
        if event.kind == "cancel" and event.facts[1] == "canceled":
            for run in runs.get(event.facts[0], ()):
                if run.begin > event.at:
                    figures.add("canceled_run", f"{event.facts[0]} began as claim {run.token} after it was canceled")


def _check_rows(figures: Figures, store: Stored, runs: dict[str, list[Run]], workers_killed: bool) -> None:
    keys = Counter(row.unique_key for row in store.rows if row.unique_key and row.state not in ENDED)
    for key, count in keys.items():
        if count > 1:
            figures.add("double_stored", f"unique key {key} {count} times")
    for row in store.rows:
        tries = runs.get(row.id, [])
        if row.state not in ENDED:
            figures.add("stuck", f"{row.id} is {row.state}")
        unseen = max(row.crashes if workers_killed else 0, _may_not_have_begun(row))
        if row.attempt > len(tries) + unseen and row.state != "canceled":
            figures.add("overspent", f"{row.id} counts {row.attempt} attempts and ran {len(tries)} times")
        if row.state != "completed":
            continue
        # Jobs of the checker return the token of their claim.
        if row.result is not None and row.result.isdecimal() and int(row.result) != row.token:
            figures.add("zombie_accepted", f"{row.id} has the result of claim {row.result}, not {row.token}")
        if not any(run.token == row.token and run.end is not None for run in tries):
            figures.add("unearned", f"{row.id} is completed, and no run of claim {row.token} ended")
        for run in tries:
            if run.token > row.token:
                figures.add("needless_rerun", f"{row.id} began again as claim {run.token} after {row.token} completed")


def _may_not_have_begun(row: Row) -> int:
    """How many tries may be counted that never reached the job's code.

    A job that may start only once, or was too often near a crash, is counted as begun before it is handed over; when
    everything dies in that moment nobody can know, and it is recorded as crashed, or interrupted.
    """
    interrupted = row.max_attempts == 1 and row.reason == "interrupted"
    return max(row.crashes, interrupted) if row.max_attempts == 1 or row.crashes > row.max_crashes else 0


def _check_endings(figures: Figures, endings: Sequence[Ending]) -> None:
    ended: dict[str, Ending] = {}
    highest: dict[str, int] = {}
    for ending in endings:
        job_id = ending.id
        if ending.token < highest.get(job_id, 0):
            figures.add("zombie_accepted", f"{job_id} went from token {highest[job_id]} to {ending.token}")
        highest[job_id] = max(ending.token, highest.get(job_id, 0))
        before = ended.pop(job_id, None)
        if ending.ended:
            if before is not None:
                figures.add("multi_terminal", f"{job_id} was {before.state} and became {ending.state}")
            ended[job_id] = ending


def _check_overlap(
    figures: Figures,
    job_id: str,
    tries: Sequence[Run],
    deaths: dict[str, int],
    begins: dict[str, list[int]],
    thaws: dict[str, list[tuple[int, int]]],
) -> None:
    for place, later in enumerate(tries):
        for earlier in tries[:place]:
            end = _end_of(earlier, later, deaths, begins)
            if end > later.begin and not _was_frozen(earlier, later, end, deaths, thaws):
                figures.add(
                    "overlap",
                    f"{job_id}: claim {later.token} began in {later.process} while {earlier.token} ran in "
                    f"{earlier.process}",
                )


def _was_frozen(
    earlier: Run, later: Run, end: float, deaths: dict[str, int], thaws: dict[str, list[tuple[int, int]]]
) -> bool:
    """Whether one of two runs stood still with its host, and was over soon after that thawed."""
    for run, until in ((earlier, end), (later, later.end or deaths.get(later.process, float("inf")))):
        for frozen, thawed in thaws.get(run.process, ()):
            # What it was given before may begin in the moment between its thaw and its end.
            touched = frozen <= later.begin <= thawed + THAW_NANOSECONDS
            if touched and min(until, end) <= thawed + THAW_NANOSECONDS:
                return True
    return False


def _end_of(run: Run, later: Run, deaths: dict[str, int], begins: dict[str, list[int]]) -> float:
    """When a run was over, as far as anybody can tell at the beginning of a later one."""
    if run.end is not None:
        return run.end
    if later.others is not None and run.process not in later.others and run.process != later.process:
        return later.begin
    after = [at for at in begins[run.process] if at > run.begin]
    return min([*after, deaths.get(run.process, float("inf"))])
