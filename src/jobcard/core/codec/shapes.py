"""How values of one annotation are written as plain JSON and rebuilt from it: the user's classes.

Both sides take a shape from the job function itself; nothing about it is stored. Values it does not own
pass as they are, so a caller that lacks the class may give the plain form; None always passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import zip_longest
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from jobcard.core.codec.refused import Refused, name_of, step_to
from jobcard.core.codec.tags import tagged

if TYPE_CHECKING:
    from jobcard.core.codec.writer import Writer


class Shape:
    """What one annotation says about a value."""

    writes: bool = True
    """Whether it changes values on their way to JSON, not only on the way back."""

    def owns(self, value: object) -> bool:
        """Whether `write` is for this value."""
        raise NotImplementedError

    def write(self, value: Any, writer: Writer, depth: int) -> Any:
        """The value as plain JSON; only for a value it owns."""
        raise NotImplementedError

    def read(self, stored: Any) -> Any:
        """The value back from what was stored; unchanged if it is of the right class already."""
        raise NotImplementedError

    def form(self, value: Any) -> Any:
        """What `fits` would see of this value once it is stored: its outermost level is enough."""
        return value

    def fits(self, stored: object) -> bool:
        """Whether something stored looks like a value of this shape; a union chooses by it."""
        raise NotImplementedError


class EnumShape(Shape):
    """An Enum: stored as the member's value."""

    def __init__(self, kind: type[Enum]) -> None:
        self._kind = kind

    def owns(self, value: object) -> bool:
        return type(value) is self._kind

    def write(self, value: Any, writer: Writer, depth: int) -> Any:
        if value.value is None:
            raise Refused("an Enum member whose value is None cannot be told from None once it is stored")
        return writer.write(value.value, None, depth)

    def read(self, stored: Any) -> Any:
        if stored is None or self.owns(stored):
            return stored
        try:
            return self._kind(stored)
        except Exception:
            raise Refused(f"the stored {name_of(type(stored))} is no value of {name_of(self._kind)}") from None

    def form(self, value: Any) -> Any:
        return value.value

    def fits(self, stored: object) -> bool:
        return any(type(member.value) is type(stored) and member.value == stored for member in self._kind)


class PathShape(Shape):
    """A pathlib path: stored as its text."""

    def __init__(self, kind: type[PurePath]) -> None:
        self._kind = kind
        try:
            self._made: type | None = type(kind(""))
        except Exception:
            self._made = None  # a path of another system

    def owns(self, value: object) -> bool:
        # Not any path: a Path would come back as a PurePath where the annotation says so.
        return type(value) is self._made

    def write(self, value: Any, writer: Writer, depth: int) -> Any:
        return writer.write(str(value), None, depth)

    def read(self, stored: Any) -> Any:
        if stored is None or self.owns(stored):
            return stored
        if type(stored) is not str or self._made is None:
            raise Refused(f"no {name_of(self._kind)} can be made of {name_of(type(stored))} here")
        return self._kind(stored)

    def form(self, value: Any) -> Any:
        return ""

    def fits(self, stored: object) -> bool:
        return type(stored) is str


class ItemsShape(Shape):
    """A list, tuple, set or frozenset whose items have a shape, or one that may have been given as a list.

    target: what a plain list is rebuilt as; None: it stays a list.
    """

    def __init__(self, target: type | None, item: Shape | None) -> None:
        self._target = target
        self._item = item
        self.writes = item is not None and item.writes

    def owns(self, value: object) -> bool:
        kind = type(value)
        return self.writes and (
            kind is list or kind is tuple or ((kind is set or kind is frozenset) and kind is self._target)
        )

    def write(self, value: Any, writer: Writer, depth: int) -> Any:
        if type(value) is list:
            return writer.items(value, self._item, depth)
        if type(value) is tuple:
            return tagged("tuple", writer.items(value, self._item, depth))
        # No tag: the items may be dicts until they are rebuilt, and those do not go into a set.
        return writer.unordered(value, self._item, depth)

    def read(self, stored: Any) -> Any:
        kind = type(stored)
        if kind not in (list, tuple, set, frozenset):
            return stored
        items = stored if self._item is None else read_items(stored, self._item)
        return _make(self._target if kind is list and self._target is not None else kind, items)

    def form(self, value: Any) -> Any:
        return [] if type(value) is self._target else value

    def fits(self, stored: object) -> bool:
        return type(stored) is list or type(stored) is self._target


class RowShape(Shape):
    """A tuple with a shape for each place."""

    def __init__(self, items: Sequence[Shape | None]) -> None:
        self._items = items
        self.writes = any(item is not None and item.writes for item in items)

    def owns(self, value: object) -> bool:
        return self.writes and (type(value) is tuple or type(value) is list)

    def write(self, value: Any, writer: Writer, depth: int) -> Any:
        return tagged("tuple", writer.row(self._places(value), depth))

    def read(self, stored: Any) -> Any:
        if type(stored) not in (list, tuple):
            return stored
        return tuple(read_at(f"[{place}]", item, value) for place, (value, item) in enumerate(self._places(stored)))

    def fits(self, stored: object) -> bool:
        return type(stored) in (list, tuple)

    def _places(self, values: Sequence[Any]) -> list[tuple[Any, Shape | None]]:
        return list(zip_longest(values, self._items[: len(values)]))


class MappingShape(Shape):
    """A dict whose values have a shape."""

    def __init__(self, item: Shape) -> None:
        self._item = item
        self.writes = item.writes

    def owns(self, value: object) -> bool:
        return self.writes and type(value) is dict

    def write(self, value: Any, writer: Writer, depth: int) -> Any:
        return writer.mapping(value, self._item, depth)

    def read(self, stored: Any) -> Any:
        if type(stored) is not dict:
            return stored
        return {key: read_at(step_to(key), self._item, value) for key, value in stored.items()}

    def fits(self, stored: object) -> bool:
        return type(stored) is dict


class PlainShape(Shape):
    """A class that needs no work; it takes part in a union's choice only."""

    writes = False

    def __init__(self, kind: type) -> None:
        self._kinds = (float, int) if kind is float else (kind,)

    def owns(self, value: object) -> bool:
        return type(value) in self._kinds

    def write(self, value: Any, writer: Writer, depth: int) -> Any:
        return writer.write(value, None, depth)

    def read(self, stored: Any) -> Any:
        return stored

    def fits(self, stored: object) -> bool:
        return type(stored) in self._kinds


class UnionShape(Shape):
    """Several classes: what is stored goes to the first that fits.

    A value that would come back as another class than it has is refused when it is written.
    """

    def __init__(self, members: Sequence[Shape]) -> None:
        # Paths last: any text would fit them.
        self._members = sorted(
            members, key=lambda member: (isinstance(member, PathShape), isinstance(member, PlainShape))
        )
        self.writes = any(member.writes for member in members)

    def owns(self, value: object) -> bool:
        return any(member.owns(value) for member in self._members)

    def write(self, value: Any, writer: Writer, depth: int) -> Any:
        owner = next(member for member in self._members if member.owns(value))
        if self._choose(owner.form(value)) is not owner:
            raise Refused(
                f"once stored, this {name_of(type(value))} cannot be told from another class of its annotation; "
                "annotate it with one class"
            )
        return owner.write(value, writer, depth)

    def read(self, stored: Any) -> Any:
        member = self._choose(stored)
        return stored if member is None else member.read(stored)

    def fits(self, stored: object) -> bool:
        return self._choose(stored) is not None

    def _choose(self, stored: object) -> Shape | None:
        return next((member for member in self._members if member.fits(stored)), None)


# ------------------------------------------------------------------ reading, with paths


def read_at(step: str, shape: Shape | None, stored: Any) -> Any:
    if shape is None:
        return stored
    try:
        return shape.read(stored)
    except Refused as problem:
        problem.steps.append(step)
        raise


def read_items(stored: Any, shape: Shape) -> list[Any]:
    """Every item read by one shape."""
    return [read_at(f"[{place}]", shape, value) for place, value in enumerate(stored)]


def _make(kind: Any, items: Any) -> Any:
    try:
        return kind(items)
    except TypeError:
        raise Refused(f"its items do not go into a {kind.__name__}") from None
