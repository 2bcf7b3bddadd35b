"""What a job function's signature says about its arguments and its result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import GenericAlias
from typing import Any, NamedTuple

from jobcard.core.codec.annotations import hints_of, shape_of
from jobcard.core.codec.shapes import Shape

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class CallShape(NamedTuple):
    """The shapes of a function's parameters and result; made once per job, at its first use.

    Not earlier: annotations may name classes that the module defines further down.
    writes, reads: whether any argument needs work before it is stored, after it was read.
    """

    positional: tuple[Shape | None, ...]
    rest: Shape | None
    named: Mapping[str, Shape | None]
    others: Shape | None
    each: Mapping[str, Shape | None]
    """By the name of a parameter, whatever its kind: what all it takes looks like as one value."""
    result: Shape | None
    writes: bool
    reads: bool

    @classmethod
    def of(cls, function: Callable[..., Any], *, skip: int = 0) -> CallShape:
        """What this function's signature says. skip: leading parameters that no caller gives (self, ctx)."""
        hints = hints_of(function)
        positional: list[Shape | None] = []
        named: dict[str, Shape | None] = {}
        rest = others = None
        each: dict[str, Shape | None] = {}
        for place, parameter in enumerate(inspect.signature(function).parameters.values()):
            if place < skip:
                continue
            hint = hints.get(parameter.name, Any)
            each[parameter.name] = shape = shape_of(hint)
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                rest = shape
                each[parameter.name] = shape_of(GenericAlias(tuple, (hint, ...)))
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                others = shape
                each[parameter.name] = shape_of(GenericAlias(dict, (str, hint)))
            else:
                if parameter.kind in _BY_PLACE:
                    positional.append(shape)
                if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
                    named[parameter.name] = shape
        given = [shape for shape in (*positional, rest, *named.values(), others) if shape is not None]
        return cls(
            positional=tuple(positional),
            rest=rest,
            named=named,
            others=others,
            each=each,
            result=shape_of(hints.get("return", Any)),
            writes=any(shape.writes for shape in given),
            reads=bool(given),
        )

    def args_shapes(self, args: Sequence[Any]) -> list[tuple[Any, Shape | None]]:
        """Each positional argument with its shape."""
        known = len(self.positional)
        return [(value, self.positional[place] if place < known else self.rest) for place, value in enumerate(args)]

    def kwargs_shapes(self, kwargs: Mapping[str, Any]) -> list[tuple[str, Any, Shape | None]]:
        """Each named argument with its shape."""
        return [(key, value, self._named(key)) for key, value in kwargs.items()]

    def _named(self, key: object) -> Shape | None:
        # A key that is no text is refused later, with its path; hashing it here would run its code.
        return self.named.get(key, self.others) if type(key) is str else None
