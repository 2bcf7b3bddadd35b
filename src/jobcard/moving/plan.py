"""What a copy would do, without doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobcard.moving.copying import by_state, obstacles
from jobcard.moving.pages import ALL, Selection, differences
from jobcard.moving.settings import Settled, count_settings
from jobcard.moving.stores import Stores, engines_of, is_empty


@dataclass(slots=True)
class Plan:
    """What there is to copy, and what stands in the way. same, others: jobs that the target has already, or alone."""

    jobs: Mapping[str, int]
    settled: Settled
    unreadable: int = 0
    same: int = 0
    changed: int = 0
    others: int = 0
    engines: dict[str, Sequence[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def plan(stores: Stores, selection: Selection = ALL, *, merge: bool = False, live: bool = False) -> Plan:
    """Look at both stores; nothing is changed."""
    found = Plan(by_state(stores, selection), count_settings(stores.source, selection))
    for difference in differences(stores.source, stores.target):
        found.unreadable += len(difference.unreadable)
        found.same += len(difference.same)
        found.changed += len(difference.changed)
        found.others += len(difference.gone)
    found.engines = {"source": engines_of(stores.source), "target": engines_of(stores.target)}
    if live:
        if found.engines["target"]:
            found.problems.append("engines are at work on the target: stop them, and start them on the source")
        if found.same or found.changed or found.others or not is_empty(stores.target):
            found.problems.append("the target has jobs or schedules: a live move needs an empty one")
        if (seal := stores.source.facts().seal) is not None:
            found.problems.append(f"the source is sealed ({seal}): its jobs live elsewhere")
    else:
        found.problems += obstacles(stores, selection, merge=merge)
        if not merge and (found.changed or found.others):
            found.problems.append("the target has jobs of its own: name an empty one, or say --merge")
    return found
