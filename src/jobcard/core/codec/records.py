"""Classes with named fields, written as JSON objects: dataclasses, attrs, msgspec, NamedTuple, TypedDict, pydantic.

No library is imported for it: a class says by its own attributes what it is.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, is_typeddict

from jobcard.core.codec.refused import Refused, name_of, step_to
from jobcard.core.codec.shapes import Shape, read_at

if TYPE_CHECKING:
    from jobcard.core.codec.writer import Writer


class Field(NamedTuple):
    """One field: the attribute it is read from, the argument that sets it, whether that must be given."""

    attribute: str
    key: str
    required: bool
    shape: Shape | None = None


FieldShapes = Callable[[Any], Mapping[str, Shape | None]]
"""The shapes of a class's annotated fields, by name."""


class RecordShape(Shape):
    """A class whose objects are made from named fields: stored as an object of these.

    A field that is not stored takes its default, so a class may grow; one that the class lacks is refused.
    Subclasses are not written: they would come back as this class.
    """

    def __init__(self, kind: type, list_fields: Callable[[Any], list[Field]], field_shapes: FieldShapes) -> None:
        self._kind = kind
        self._list_fields = list_fields
        self._field_shapes = field_shapes

    @cached_property
    def _fields(self) -> dict[str, Field]:
        # Not before it is needed: a class may refer to itself.
        shapes = self._field_shapes(self._kind)
        return {field.key: field._replace(shape=shapes.get(field.attribute)) for field in self._list_fields(self._kind)}

    def owns(self, value: object) -> bool:
        return type(value) is self._kind

    def write(self, value: Any, writer: Writer, depth: int) -> Any:
        found = []
        for field in self._fields.values():
            try:
                found.append((field.key, getattr(value, field.attribute), field.shape))
            except Exception as error:
                raise Refused(
                    f"reading {field.attribute} of this {name_of(self._kind)} raised {name_of(type(error))}"
                ) from error
        return writer.fields(found, depth)

    def read(self, stored: Any) -> Any:
        if stored is None or type(stored) is self._kind:
            return stored
        if issubclass(self._kind, tuple) and type(stored) in (list, tuple):
            stored = dict(zip(self._fields, stored, strict=False)) if len(stored) <= len(self._fields) else stored
        if type(stored) is not dict:
            raise Refused(f"the fields of {name_of(self._kind)} are expected here, this is {name_of(type(stored))}")
        values = {}
        for key, value in stored.items():
            field = self._fields.get(key)
            if field is None:
                raise Refused(f"{name_of(self._kind)} has no field {key[:40]!a}")
            values[key] = read_at(step_to(key), field.shape, value)
        return self._make(values)

    def _make(self, values: dict[str, Any]) -> Any:
        missing = [field.key for field in self._fields.values() if field.required and field.key not in values]
        if missing:
            raise Refused(f"{name_of(self._kind)} needs {', '.join(missing)}")
        try:
            return self._kind(**values)
        except Exception as error:
            raise Refused(f"making the {name_of(self._kind)} raised {name_of(type(error))}") from error

    def form(self, value: Any) -> Any:
        return dict.fromkeys(self._fields)

    def fits(self, stored: object) -> bool:
        if type(stored) is self._kind:
            return True
        return (
            type(stored) is dict
            and stored.keys() <= self._fields.keys()
            and all(field.key in stored for field in self._fields.values() if field.required)
        )


class TypedDictShape(Shape):
    """A TypedDict: a dict whose keys have shapes of their own; keys it does not name pass."""

    def __init__(self, kind: Any, field_shapes: FieldShapes) -> None:
        self._kind = kind
        self._field_shapes = field_shapes

    @cached_property
    def _shapes(self) -> Mapping[str, Shape | None]:
        return self._field_shapes(self._kind)

    def owns(self, value: object) -> bool:
        return type(value) is dict

    def write(self, value: Any, writer: Writer, depth: int) -> Any:
        return writer.fields([(key, item, self._shape(key)) for key, item in value.items()], depth)

    def read(self, stored: Any) -> Any:
        if type(stored) is not dict:
            return stored
        return {key: read_at(step_to(key), self._shape(key), item) for key, item in stored.items()}

    def fits(self, stored: object) -> bool:
        return type(stored) is dict and stored.keys() >= self._kind.__required_keys__

    def _shape(self, key: object) -> Shape | None:
        return self._shapes.get(key) if type(key) is str else None


class PydanticShape(Shape):
    """A pydantic model: it writes and checks itself."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def owns(self, value: object) -> bool:
        return type(value) is self._kind

    def write(self, value: Any, writer: Writer, depth: int) -> Any:
        try:
            plain = value.model_dump(mode="json", by_alias=True, round_trip=True)
        except Exception as error:
            raise Refused(f"writing this {name_of(self._kind)} raised {name_of(type(error))}") from error
        return writer.write(plain, None, depth)

    def read(self, stored: Any) -> Any:
        if stored is None or type(stored) is self._kind:
            return stored
        try:
            # From JSON text: a strict model takes a date from text there, and only there.
            return self._kind.model_validate_json(json.dumps(stored))
        except Exception as error:
            raise Refused(f"making the {name_of(self._kind)} raised {name_of(type(error))}") from error

    def form(self, value: Any) -> Any:
        return {}

    def fits(self, stored: object) -> bool:
        return type(stored) in (dict, self._kind)


def record_shape(kind: Any, field_shapes: FieldShapes) -> Shape | None:
    """The shape of a class with named fields; None: it is none."""
    if is_typeddict(kind):
        return TypedDictShape(kind, field_shapes)
    if hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_validate_json"):
        return PydanticShape(kind)
    for mark, list_fields in _LISTS.items():
        if hasattr(kind, mark) and (mark != "_field_defaults" or issubclass(kind, tuple)):
            return RecordShape(kind, list_fields, field_shapes)
    return None


# ------------------------------------------------------------------ the fields of each kind


def _of_attrs(kind: Any) -> list[Field]:
    nothing = getattr(sys.modules.get("attr"), "NOTHING", None)
    return [
        Field(
            item.name,
            getattr(item, "alias", None) or item.name.lstrip("_"),
            item.default is nothing,
        )
        for item in kind.__attrs_attrs__
        if item.init
    ]


def _of_msgspec(kind: Any) -> list[Field]:
    absent = getattr(sys.modules.get("msgspec"), "NODEFAULT", None)
    names: Sequence[str] = kind.__struct_fields__
    defaults = kind.__struct_defaults__
    first = len(names) - len(defaults)
    return [
        Field(
            name,
            name,
            place < first or defaults[place - first] is absent,
        )
        for place, name in enumerate(names)
    ]


def _of_dataclass(kind: Any) -> list[Field]:
    missing = dataclasses.MISSING
    return [
        Field(
            item.name,
            item.name,
            item.default is missing and item.default_factory is missing,
        )
        for item in dataclasses.fields(kind)
        if item.init
    ]


def _of_named_tuple(kind: Any) -> list[Field]:
    return [
        Field(
            name,
            name,
            name not in kind._field_defaults,
        )
        for name in kind._fields
    ]


_LISTS: dict[str, Callable[[Any], list[Field]]] = {
    "__attrs_attrs__": _of_attrs,
    "__struct_fields__": _of_msgspec,
    "__dataclass_fields__": _of_dataclass,
    "_field_defaults": _of_named_tuple,
}
