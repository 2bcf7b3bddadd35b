"""A `Change` of core as the array that `lua/apply.lua` reads."""

from __future__ import annotations

from jobcard.backends.redis.rows import PLACE
from jobcard.core.states import ENDED, After, Change, Now, check_settable

_AS_IT_IS, _NOW, _AFTER = 0, 1, 2


def to_array(change: Change) -> list[object]:
    """The change; `InvalidJobError` when it sets what no change may."""
    sets: list[list[object]] = []
    check_settable(change.sets)
    for name, value in change.sets.items():
        place = PLACE[name]
        if isinstance(value, Now):
            sets.append([place, _NOW, 0])
        elif isinstance(value, After):
            sets.append([place, _AFTER, value.delay])
        else:
            sets.append([place, _AS_IT_IS, False if value is None else value])
    return [
        {state.value: True for state in change.sources},
        change.target.value,
        change.takes,
        change.hold.value if change.hold is not None else False,
        change.lapsed,
        sets,
        change.target in ENDED and "expires_at" not in change.sets,
        change.attempt,
        False if change.error is None else change.error,
        [list(line) for line in change.lines] or False,
    ]
