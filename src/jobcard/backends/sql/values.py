"""How values travel: each in a place of its own, as the driver calls places."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from jobcard.errors import InvalidJobError

_PLACE = re.compile(r"%\((\w+)\)s")
_MARKS: Mapping[str, Callable[[int], str]] = {
    "format": lambda _: "%s",
    "qmark": lambda _: "?",
    "numeric": lambda number: f":{number}",
    "pyformat": lambda number: f"%(v{number})s",
    "named": lambda number: f":v{number}",
}

Arguments = Sequence[object] | Mapping[str, object]


class OwnValues(tuple[tuple[int, object], ...]):
    """Values of jobs by their numbers: `case n %(so)s end` gives each job its own."""

    __slots__ = ()


def placed(sql: str, values: Mapping[str, object], paramstyle: str) -> tuple[str, Arguments]:
    """A statement with the driver's places for those named `%(so)s`, and what stands in them.

    A list takes places with commas between them, a list in it brackets: `n in (%(refs)s)`, `values %(rows)s`.
    """
    mark = _MARKS[paramstyle]
    given: list[object] = []

    def place(value: object) -> str:
        given.append(_plain(value))
        return mark(len(given))

    def places(value: object) -> str:
        if isinstance(value, OwnValues):
            # A number is written: some databases would take one in such a place for a text.
            return " ".join([f"when {ref:d} then {own if type(own) is int else place(own)}" for ref, own in value])
        if isinstance(value, (list, tuple)):
            return ", ".join([f"({places(one)})" if isinstance(one, (list, tuple)) else place(one) for one in value])
        return place(value)

    text = _PLACE.sub(lambda found: places(values[found[1]]), sql)
    if paramstyle in ("pyformat", "named"):
        return text, {f"v{number}": value for number, value in enumerate(given, start=1)}
    return text, given


def _plain(value: object) -> object:
    if not isinstance(value, str):
        return value
    # Looked at before anything is sent: a driver that finds out in the middle of a message has spoilt its connection.
    if not (value.isascii() or can_be_sent(value)):
        raise InvalidJobError("a text with half of a surrogate pair cannot be stored")
    # A driver knows the standard types and not what is made from them.
    return str(value)


def can_be_sent(text: str) -> bool:
    """Whether a text has bytes in UTF-8: half of a surrogate pair has none, so no job can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def or_nothing(values: Sequence[object]) -> Sequence[object]:
    """A list for `in (…)`, where an empty one is not allowed: nothing equals null."""
    return values or [None]


def own(name: str, refs: Sequence[int], column: Sequence[object], own_value: str) -> tuple[str, object]:
    """What stands in a statement where each job has its own value, by the number of each, and what is sent as `name`.

    own_value: the dialect's words for it.
    """
    place = f"%({name})s"
    if len(set(column)) == 1:  # often it is the same for all
        return place, column[0]
    if own_value:
        return own_value.replace("{values}", place), column
    return f"case n {place} end", OwnValues(zip(refs, column, strict=True))


def in_pieces(rows: Sequence[Sequence[object]], size: int, most: int) -> list[Sequence[Sequence[object]]]:
    """Rows in pieces for one statement each; a row that is larger stands alone.

    size: characters that their texts together have at most, or about. most: values. All rows are of one length.
    """
    pieces: list[Sequence[Sequence[object]]] = []
    many = max(1, most // len(rows[0])) if rows else 1
    first = total = 0
    for place, row in enumerate(rows):
        own = sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in row)
        if (total + own > size or place - first == many) and place > first:
            pieces.append(rows[first:place])
            first, total = place, 0
        total += own
    pieces.append(rows[first:])
    return pieces
