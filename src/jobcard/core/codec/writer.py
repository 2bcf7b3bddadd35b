"""Checks a value and makes it plain: what comes out holds only JSON's own types, in containers of our own.

It never calls the value's code: types are compared by identity, and only exact ones pass. A value that
refers to itself runs into the depth limit; one that is small in memory but huge as text (a list of the
same list of the same list …) runs into the size limit before it is built.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from enum import Enum
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from jobcard.core.codec.refused import Refused, name_of, step_to
from jobcard.core.codec.tags import Tag, tagged
from jobcard.core.codec.text import KEY, MAX_DEPTH, MAX_DIGITS, encode

if TYPE_CHECKING:
    from jobcard.core.codec.shapes import Shape

_SMALL = 1 << 62
_TOO_MANY_DIGITS = 10**MAX_DIGITS
# JSON writes a character beyond U+FFFF as two escapes, so two lone surrogates that stand side by side
# would be read as one such character.
_FALSE_PAIR = re.compile("([\ud800-\udbff])(?=[\udc00-\udfff])")

_DICT: Any = type.__dict__["__dict__"]
_MRO: Any = type.__dict__["__mro__"]
_ANNOTATED = ("__dataclass_fields__", "__attrs_attrs__", "__struct_fields__", "__pydantic_validator__")


class Writer:
    """Makes one value, or all arguments of one call, plain."""

    def __init__(self, types: Mapping[int, Tag], limit: int) -> None:
        self._types = types
        self._limit = limit
        self._left = limit

    def write(self, value: Any, shape: Shape | None, depth: int) -> Any:
        """The value as plain JSON. depth: how many containers it stands in."""
        kind = type(value)
        if value is None:
            return value
        # What was taught comes before what the annotation says. By the class's identity: hashing a class
        # could run its metaclass's code.
        if shape is not None and id(kind) not in self._types and shape.owns(value):
            return shape.write(value, self, depth)
        if kind is bool:
            return value
        if kind is str:
            return self._text(value)
        if kind is int:
            return value if -_SMALL < value < _SMALL else self._integer(value)
        if kind is float:
            if not math.isfinite(value):
                raise Refused("a float must be finite to be stored; this one is NaN or infinite")
            return value
        tag = self._types.get(id(kind))
        if tag is not None:
            return tagged(tag.name, self._body(tag, value, depth))
        if kind is list:
            return self.items(value, None, depth)
        if kind is dict:
            return self.mapping(value, None, depth)
        if kind is tuple:
            return tagged("tuple", self.items(value, None, depth))
        if kind is set or kind is frozenset:
            return tagged(kind.__name__, self.unordered(value, None, depth))
        raise _refusal(kind)

    # -- containers; shapes call these too

    def items(self, values: Collection[Any], shape: Shape | None, depth: int) -> list[Any]:
        """A list of plain values; every item has the same shape."""
        depth = self._enter(depth, len(values))
        out: list[Any] = []
        write = self.write
        try:
            for value in values:
                # Most long lists are numbers, and a call for each would take twice as long.
                if type(value) is int and -_SMALL < value < _SMALL and shape is None:
                    out.append(value)
                else:
                    out.append(write(value, shape, depth))
        except Refused as problem:
            problem.steps.append(f"[{len(out)}]")
            raise
        return out

    def row(self, values: Collection[tuple[Any, Shape | None]], depth: int) -> list[Any]:
        """A list of plain values; every item has its own shape."""
        depth = self._enter(depth, len(values))
        out: list[Any] = []
        try:
            for value, shape in values:
                out.append(self.write(value, shape, depth))
        except Refused as problem:
            problem.steps.append(f"[{len(out)}]")
            raise
        return out

    def mapping(self, values: dict[Any, Any], shape: Shape | None, depth: int) -> dict[str, Any]:
        """A dict of plain values, all of one shape; tagged if it holds our own key."""
        return self.fields([(key, value, shape) for key, value in values.items()], depth)

    def fields(self, values: Collection[tuple[Any, Any, Shape | None]], depth: int) -> dict[str, Any]:
        """A dict of plain values, each of its own shape; tagged if it holds our own key."""
        depth = self._enter(depth, 4 * len(values))
        out: dict[str, Any] = {}
        odd = False
        for key, value, shape in values:
            if type(key) is not str:
                raise Refused(
                    f"a dict's keys must be str to be stored; this one has a key of type {name_of(type(key))}"
                )
            try:
                if not key.isascii() and _FALSE_PAIR.search(key):
                    odd = True
                out[key] = self.write(value, shape, depth)
                self._spend(len(key))
            except Refused as problem:
                problem.steps.append(step_to(key))
                raise
        if odd or KEY in out:
            return tagged("dict", [[self._text(key), value] for key, value in out.items()])
        return out

    def unordered(self, values: Collection[Any], shape: Shape | None, depth: int) -> list[Any]:
        """A list of plain values in the order of their text, so that equal sets are equal text."""
        try:
            return sorted(self.items(values, shape, depth), key=encode)
        except Refused as problem:
            problem.steps[-1] = "{…}"  # a set has no places
            raise

    # -- bounds

    def _enter(self, depth: int, characters: int) -> int:
        if depth >= MAX_DEPTH:
            raise Refused(f"it is nested more than {MAX_DEPTH} levels deep, or holds itself")
        self._spend(1 + characters)
        return depth + 1

    def _spend(self, characters: int) -> None:
        # Never more than the text will have: a value that just fits is not refused here.
        self._left -= characters
        if self._left < 0:
            raise TooLargeError(self._limit - self._left)

    # -- scalars

    def _text(self, value: str) -> Any:
        self._spend(len(value) + 2)
        if value.isascii():
            return value
        cuts = [pair.end() for pair in _FALSE_PAIR.finditer(value)]
        if not cuts:
            return value
        return tagged("str", [value[start:end] for start, end in pairwise([0, *cuts, len(value)])])

    def _integer(self, value: int) -> int:
        if not -_TOO_MANY_DIGITS < value < _TOO_MANY_DIGITS:
            raise Refused(f"an int may have {MAX_DIGITS:,} digits at most to be stored")
        self._spend(value.bit_length() // 4)
        return value

    def _body(self, tag: Tag, value: object, depth: int) -> Any:
        try:
            body = tag.dump(value)
        except Refused:
            raise
        except Exception as error:
            raise Refused(f"writing this {name_of(type(value))} raised {name_of(type(error))}") from error
        if tag.leaf:
            self._spend(len(body) if type(body) is str else 1)
            return body
        return self.write(body, None, self._enter(depth, 0))


class TooLargeError(Exception):
    """The text would have more characters than allowed: at least `size`."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def _refusal(kind: type) -> Refused:
    return Refused(f"a value of type {name_of(kind)} cannot be stored; {_way_out(kind)}")


def _way_out(kind: type) -> str:
    if issubclass(kind, Enum):
        return "annotate it with this Enum, or pass its value"
    if issubclass(kind, PurePath):
        return "annotate it as Path, or pass str(path)"
    # Looked up in the classes' own dicts: getattr would run a metaclass's code.
    owned = [_DICT.__get__(parent) for parent in _MRO.__get__(kind)]
    if any(name in members for name in _ANNOTATED for members in owned) or (
        issubclass(kind, tuple) and any("_fields" in members for members in owned)
    ):
        return "annotate the parameter (or the return value) with exactly this class, or pass plain data"
    for plain in (bool, int, float, str, list, dict, tuple, set, frozenset):
        if issubclass(kind, plain):
            return f"it is a subclass of {plain.__name__}: pass a plain {plain.__name__}"
    if kind is bytearray or kind is memoryview:
        return "pass bytes"
    return "pass plain data, or teach the type with jobs.codec.add(…)"
