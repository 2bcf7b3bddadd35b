"""A `Change` of core as one guarded UPDATE."""

from __future__ import annotations

from functools import lru_cache

from jobcard.core.states import ENDED, After, Change, Hold, JobState, Now, check_settable


def bind(template: str, change: Change, now: int) -> tuple[str, list[object]]:
    """The statement for a change and its values, up to those that say which job."""
    sets = change.sets
    ends = change.target in ENDED and "expires_at" not in sets
    sql = _text(template, tuple(sets), change.sources, change.takes, change.lapsed, change.hold, ends)
    values: list[object] = [change.target.value]
    for value in sets.values():
        if isinstance(value, Now):
            value = now
        elif isinstance(value, After):
            value = now + value.delay
        values.append(value)
    if ends:
        values.append(now)
    if change.lapsed:
        values.append(now)
    return sql, values


@lru_cache(maxsize=256)
def _text(
    template: str,
    names: tuple[str, ...],
    sources: frozenset[JobState],
    takes: bool,
    lapsed: bool,
    hold: Hold | None,
    ends: bool,
) -> str:
    check_settable(names)
    assignments = ["state = ?", *(f"{name} = ?" for name in names)]
    if ends:
        assignments.append("expires_at = ? + keep")
    if takes:
        assignments.append("claim_token = claim_token + 1")
    assignments.append("version = version + 1")
    guard = f"state in ({', '.join(repr(state.value) for state in sorted(sources))})"
    if lapsed:
        guard += " and lease_until <= ?"
    if hold is not None:
        guard += f" and hold = {hold.value!r}"
    return template.replace("{assignments}", ", ".join(assignments)).replace("{guard}", guard)
