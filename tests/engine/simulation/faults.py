"""What goes wrong in a simulated run, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


class Violation(Exception):
    """A promise was broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often things go wrong: shares of store calls, or events in one simulated minute of work."""

    error: float = 0.0
    """The call fails and nothing was applied."""
    lost: float = 0.0
    """The call is applied and fails."""
    late: float = 0.0
    """The call fails and is applied some time after that."""
    slow: float = 0.0
    """The answer takes up to three leases."""
    twice: float = 0.0
    """The call is applied, its answer is lost below, and the same words are said again: the second answer comes."""
    partly: float = 0.0
    """Only the first of what the call says is applied, and it fails."""
    outages: float = 0.0
    cuts: float = 0.0
    """One host does not reach the store for a while."""
    pauses: float = 0.0
    """An engine is stopped (SIGSTOP) for up to three leases; its workers and its keeper go on."""
    engine_crashes: float = 0.0
    host_losses: float = 0.0
    stops: float = 0.0
    """An engine is asked to stop; another one starts later."""
    worker_crashes: float = 0.0
    """The share of runs whose worker dies at some moment."""
    bad_spawns: float = 0.0
    """The share of workers that die before their hello."""
    producer_deaths: float = 0.0
    """The share of failed enqueues that nobody repeats."""
    cancels: float = 0.0
    moves: float = 0.0
    """An operator runs a job that has ended once more, makes one due now, or puts it off."""
    orders: float = 0.0
    """An operator tells an engine to be quiet, to work again, or to stop."""
    queue_pauses: float = 0.0
    queue_changes: float = 0.0
    """An operator gives a queue another concurrency, priority, weight or ageing."""
    steps_back: float = 0.0
    steps_forward: float = 0.0
    """The store's clock is set. Forward it frees living claims: overlaps are allowed until they are noticed."""


NO_FAULTS = Faults()


def faults_of(random: Random) -> Faults:
    """Each kind of fault is in about every third run, so that they meet in all combinations."""

    def some(most: float) -> float:
        return random.uniform(0.1, 1.0) * most if random.random() < 0.35 else 0.0

    if random.random() < 0.1:
        return NO_FAULTS
    return Faults(
        error=some(0.1),
        lost=some(0.1),
        late=some(0.03),
        slow=some(0.03),
        twice=some(0.05),
        partly=some(0.05),
        outages=some(2),
        cuts=some(2),
        pauses=some(4),
        engine_crashes=some(4),
        host_losses=some(2),
        stops=some(3),
        worker_crashes=some(0.1),
        bad_spawns=some(0.3),
        producer_deaths=some(0.5),
        cancels=some(15),
        moves=some(15),
        orders=some(3),
        queue_pauses=some(3),
        queue_changes=some(6),
        steps_back=some(2),
        steps_forward=some(2) if random.random() < 0.3 else 0.0,
    )
