"""Calls compared with a function's signature: cheaply where jobs are enqueued, in words where they are wrong."""

from __future__ import annotations

import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobcard.core.context import JobContext
from jobcard.errors import ConfigError, InvalidJobError

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BEHIND_ALL = sys.maxsize


class CallSpec:
    """What a job function takes, compiled for checking many calls.

    skip: leading parameters that no caller gives: `self`, and a first one annotated `JobContext`
    (`takes_context`), which the worker fills in.
    """

    def __init__(self, function: Callable[..., Any], *, name: str, skip: int = 0) -> None:
        try:
            signature = inspect.signature(function)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"job {name}: its parameters cannot be read: {error}") from None
        parameters = list(signature.parameters.values())
        self.takes_context = len(parameters) > skip and _is_context(parameters[skip], function)
        self.skip = skip + self.takes_context
        self._name = name
        self._signature = signature.replace(
            parameters=parameters[self.skip :], return_annotation=inspect.Signature.empty
        )
        self.names = tuple(self._signature.parameters)
        self._compile(parameters[self.skip :])

    def _compile(self, parameters: Sequence[inspect.Parameter]) -> None:
        kinds = {parameter.kind for parameter in parameters}
        by_place = [parameter for parameter in parameters if parameter.kind in _BY_PLACE]
        needed = [parameter for parameter in parameters if parameter.default is parameter.empty]
        # Where each parameter that may be given by name stands; one that may only be given so: behind all.
        self._places = {
            parameter.name: place
            for place, parameter in enumerate(by_place)
            if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        }
        self._places |= {
            parameter.name: _BEHIND_ALL for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        self._required = [(p.name, self._places[p.name]) for p in needed if p.name in self._places]
        self._any_name = inspect.Parameter.VAR_KEYWORD in kinds
        self._most = _BEHIND_ALL if inspect.Parameter.VAR_POSITIONAL in kinds else len(by_place)
        self._least_with_names = sum(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in needed)
        # Without names: as many as are needed by place, or more than there can be if one is needed by name.
        needs_a_name = any(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in needed)
        self._least = _BEHIND_ALL if needs_a_name else sum(parameter.kind in _BY_PLACE for parameter in needed)

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """`InvalidJobError` showing the signature unless the function can be called so."""
        count = len(args)
        if kwargs:
            if self._least_with_names <= count <= self._most and self._names_fit(count, kwargs):
                return
        elif self._least <= count <= self._most:
            return
        self._refuse(args, kwargs)

    def in_one_form(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, defaults: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A checked call as it is however it was written: by place where that can be. defaults: fill them in."""
        bound = self._signature.bind(*args, **kwargs)
        if defaults:
            bound.apply_defaults()
        return bound.args, bound.kwargs

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A checked call by the names of its parameters: what was given, and the defaults of all others."""
        bound = self._signature.bind(*args, **kwargs)
        given = dict(bound.arguments)
        bound.apply_defaults()
        return given, {name: value for name, value in bound.arguments.items() if name not in given}

    def _names_fit(self, count: int, kwargs: Mapping[str, Any]) -> bool:
        places = self._places
        for name in kwargs:
            place = places.get(name)
            if place is None:
                if not self._any_name:
                    return False
            elif place < count:
                return False
        for name, place in self._required:  # noqa: SIM110 (a generator would double the time of the check)
            if place >= count and name not in kwargs:
                return False
        return True

    def _refuse(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        try:
            self._signature.bind(*args, **kwargs)
            why = "the names of arguments must be text"
        except TypeError as error:
            why = str(error)
        shown = self._signature.replace(parameters=[_readable(p) for p in self._signature.parameters.values()])
        raise InvalidJobError(f"{self._name}{shown} cannot be called so: {why}")


class _Unquoted(str):
    """An annotation written as text, shown as it stands in the source."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _readable(parameter: inspect.Parameter) -> inspect.Parameter:
    annotation = parameter.annotation
    return parameter.replace(annotation=_Unquoted(annotation)) if isinstance(annotation, str) else parameter


# ------------------------------------------------------------------ is the first parameter the context?

_OPTIONAL = re.compile(r"(?:typing\.)?Optional\[(.*)\]|(.*?)\s*\|\s*None|None\s*\|\s*(.*)")


def _is_context(parameter: inspect.Parameter, function: Callable[..., Any]) -> bool:
    if parameter.kind not in _BY_PLACE:
        return False
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        return annotation is JobContext or JobContext in typing.get_args(annotation)
    text = annotation.strip(" '\"")
    optional = _OPTIONAL.fullmatch(text)
    if optional:
        text = next(group for group in optional.groups() if group is not None).strip()
    # Looked up by hand: the names of other annotations may not exist yet, or only for the type checker.
    first, *rest = text.split(".")
    value: Any = getattr(inspect.unwrap(function), "__globals__", {}).get(first)
    for name in rest:
        value = getattr(value, name, None)
    return value is JobContext or (value is None and text.rpartition(".")[2] == JobContext.__name__)
