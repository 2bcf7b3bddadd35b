"""From an annotation to its shape."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import lru_cache, partial
from inspect import unwrap
from pathlib import PurePath
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

from jobcard.core.codec.records import record_shape
from jobcard.core.codec.shapes import (
    EnumShape,
    ItemsShape,
    MappingShape,
    PathShape,
    PlainShape,
    RowShape,
    Shape,
    UnionShape,
)

_CONTAINERS: dict[object, type | None] = {
    list: None,
    Sequence: None,
    MutableSequence: None,
    tuple: tuple,
    set: set,
    AbstractSet: set,
    MutableSet: set,
    frozenset: frozenset,
}
_DICTS = (dict, Mapping, MutableMapping)


def shape_of(annotation: Any) -> Shape | None:
    """What this annotation says; None: nothing, values pass as they are."""
    annotation = _bare(annotation)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Union or origin is UnionType:
        return _union([_bare(member) for member in inner])
    if origin is Literal:
        return _union(list({type(value): None for value in inner}))
    kind = annotation if origin is None else origin
    if not isinstance(kind, type):
        return None
    if kind in _CONTAINERS:
        return _container(kind, inner)
    if kind in _DICTS:
        item = shape_of(inner[1]) if len(inner) == 2 else None
        return None if item is None else MappingShape(item)
    if issubclass(kind, Enum):
        return EnumShape(kind)
    if issubclass(kind, PurePath):
        return PathShape(kind)
    return _record_shape(kind)


def _field_shapes(kind: Any) -> dict[str, Shape | None]:
    return {name: shape_of(hint) for name, hint in hints_of(kind).items()}


# Each class once: its fields are looked up once, and a class that refers to itself meets itself.
_record_shape: Callable[[Any], Shape | None] = lru_cache(maxsize=1_000)(
    partial(record_shape, field_shapes=_field_shapes)
)


def _bare(annotation: Any) -> Any:
    """The annotation without what says nothing about the value: Annotated, NewType, Required, aliases."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated or getattr(origin, "_name", None) in ("Required", "NotRequired", "ReadOnly", "Final"):
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def _container(kind: Any, inner: tuple[Any, ...]) -> Shape | None:
    target = _CONTAINERS[kind]
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        return RowShape([shape_of(item) for item in inner])
    item = shape_of(inner[0]) if inner else None
    return None if item is None and target is None else ItemsShape(target, item)


def _union(members: list[Any]) -> Shape | None:
    members = [member for member in members if member is not NoneType and member is not None]
    shapes = [shape_of(member) for member in members]
    if not any(shapes):
        return None
    if len(members) == 1:
        return shapes[0]
    return UnionShape([shape or PlainShape(_kind_of(member)) for member, shape in zip(members, shapes, strict=True)])


def _kind_of(member: Any) -> type:
    """The class that values of this annotation have when they are plain."""
    kind = get_origin(member) or member
    if not isinstance(kind, type):
        return object
    if kind in _DICTS:
        return dict
    if kind in _CONTAINERS:
        return _CONTAINERS[kind] or list
    return kind


def hints_of(owner: Any) -> dict[str, Any]:
    """The annotations of a function or class, those left out that cannot be resolved here."""
    try:
        return get_type_hints(owner)
    except RecursionError:
        raise
    except Exception:
        # One name that only type checkers import must not take the others with it.
        return {name: hint for parent in _annotated(owner) for name, hint in _resolvable(parent)}


def _annotated(owner: Any) -> Sequence[Any]:
    return tuple(reversed(owner.__mro__)) if isinstance(owner, type) else (owner,)


def _resolvable(owner: Any) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    try:
        annotations = dict(vars(owner).get("__annotations__") or getattr(owner, "__annotations__", None) or {})
        names = getattr(unwrap(owner), "__globals__", None) or vars(sys.modules[owner.__module__])
    except Exception:
        return found
    for name, annotation in annotations.items():
        try:
            found += get_type_hints(SimpleNamespace(__annotations__={name: annotation}), names).items()
        except Exception:
            continue
    return found
