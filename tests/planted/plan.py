"""The planted faults, and who is expected to catch each."""

from __future__ import annotations

from typing import NamedTuple


class Planted(NamedTuple):
    """One fault: the name of its file, and the layers that find it, the quickest first."""

    number: int
    name: str
    layers: tuple[str, ...]


FAULTS = (
    Planted(1, "finish_without_token", ("crowd", "suite", "load")),
    Planted(2, "renew_without_token", ("crowd", "suite")),
    Planted(3, "rescue_keeps_token", ("crowd", "suite")),
    Planted(4, "claim_without_state", ("crowd", "suite", "load")),
    Planted(5, "answer_before_commit", ("crowd", "load")),
    Planted(6, "synchronous_off", ("power",)),
    Planted(7, "heartbeat_as_long_as_lease", ("simulation",)),
    Planted(8, "repeat_stores_again", ("suite",)),
    Planted(9, "sweep_by_age", ("crowd", "suite")),
    Planted(10, "tick_without_key", ("ticks",)),
    Planted(11, "unique_by_query", ("suite",)),
    Planted(12, "exit_0_is_success", ("simulation", "load")),
    Planted(13, "complete_overwrites_cancel", ("crowd", "suite")),
    Planted(14, "open_before_the_rest", ("move",)),
)


def of_today(day: int, count: int = 5) -> list[Planted]:
    """The faults whose turn it is on this day of the year."""
    return [FAULTS[(day * count + place) % len(FAULTS)] for place in range(count)]
