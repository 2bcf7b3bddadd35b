"""Engines, workers, keepers, producers and a store in one thread and in simulated time: one seed, one run.

    producers ──► model store ◄── store calls that fail, hang, are said twice, or lose their answer
                      ▲
    host: keeper ─ engine (the real `Plan`, performed as the dispatcher does) ─ workers

What is real: `engine/plan.py`, `engine/outcomes.py`, `routines.rescue_lost`, `core/states.py` and the model of the
conformance suite. What is simulated: time, processes, pipes, the keeper, the dispatcher's loop. Every run of a job
is written down outside the store, and the promises are checked against that: while it goes on and at the end.

Each run lasts at least twenty minutes. `python -m simulation` replays one and plays many: see `__main__.py`.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from jobcard.conformance.model import ModelBackend
from jobcard.core.job import Claimed
from jobcard.engine import plan as plans
from jobcard.engine import routines
from simulation.faults import NO_FAULTS, Faults, Violation
from simulation.world import World

__all__ = ["NO_FAULTS", "Faults", "Report", "simulate"]


@dataclass(slots=True)
class Report:
    """What a run came to."""

    seed: int
    violation: str | None
    faults: Faults
    jobs: int = 0
    runs: int = 0
    seconds: float = 0.0
    events: int = 0
    ends: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        head = f"seed {self.seed}: {self.violation or 'fine'}"
        faults = {f.name: round(getattr(self.faults, f.name), 3) for f in fields(self.faults)}
        some = {name: value for name, value in faults.items() if value}
        return (
            f"{head}\n  {self.jobs} jobs, {self.runs} runs, {self.seconds:.0f} s simulated, {dict(self.ends)}, {some}"
        )


def simulate(
    seed: int,
    *,
    faults: Faults | None = None,
    plan_class: type[plans.Plan] = plans.Plan,
    store_class: type[ModelBackend] = ModelBackend,
    rescue: Callable[..., tuple[int, list[Claimed]]] = routines.rescue_lost,
    trace: Callable[[str], None] | None = None,
) -> Report:
    """Play one seed; the report says what was violated, if anything. faults: None draws them from the seed."""
    world = World(seed, faults=faults, plan_class=plan_class, store_class=store_class, rescue=rescue, trace=trace)
    began = world.now
    violation = None
    try:
        world.play()
    except Violation as error:
        violation = f"at {world.now:.6f}: {error}"
    except Exception:
        violation = f"at {world.now:.6f}: something raised\n{traceback.format_exc(limit=-4)}"
    return Report(
        seed,
        violation,
        world.faults,
        jobs=len(world.rows),
        runs=sum(map(len, world.runs.values())),
        seconds=world.now - began,
        events=world.events,
        ends=Counter(row.state for row in world.rows.values()),
    )
