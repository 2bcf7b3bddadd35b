"""What a request may say, each word with its bounds: read, checked and described by the same lines.

    Whole("limit", 50, 1, 200)   Choice("state", tuple(JobState), many=True)   Text("search")   Moment("after")

A route lists them for its query and for its form; a view then asks `ask["limit"]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from jobcard.core.limits import FIRST_YEAR, LAST_YEAR, check_instant
from jobcard.dashboard.formats import short
from jobcard.dashboard.refusal import Refused
from jobcard.errors import InvalidJobError

_NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?")

MOST_VALUES = 1_000
"""Of one field: as many jobs as a page may show."""


class Field(Protocol):
    """One word of a query or a form."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def many(self) -> bool:
        """Whether it may stand there several times; its value is a tuple then."""
        ...

    @property
    def default(self) -> Any:
        """What it is when it is not given."""
        ...

    def read(self, text: str) -> Any:
        """The value of one text; `ValueError` saying what it must be."""
        ...

    def schema(self) -> dict[str, Any]:
        """It in JSON Schema's words."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `least` to `most`."""

    name: str
    default: int | None
    least: int
    most: int
    many: bool = False

    def read(self, text: str) -> int:
        """The number."""
        # By its characters first: Python would read digits of every script, and _ between them.
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20):
            raise ValueError(f"must be a whole number from {self.least:,} to {self.most:,}")
        if not self.least <= (value := int(text)) <= self.most:
            raise ValueError(f"must be from {self.least:,} to {self.most:,}")
        return value

    def schema(self) -> dict[str, Any]:
        """It in JSON Schema's words."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `least` to `most`, with up to six decimals."""

    name: str
    default: float | None
    least: float
    most: float
    many: bool = False

    def read(self, text: str) -> float:
        """The number."""
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"must be a number from {self.least:,} to {self.most:,}")
        if not self.least <= (value := float(text)) <= self.most:
            raise ValueError(f"must be from {self.least:,} to {self.most:,}")
        return value

    def schema(self) -> dict[str, Any]:
        """It in JSON Schema's words."""
        return {"type": "number", "minimum": self.least, "maximum": self.most}


class Unsaid:
    """Stands for a field that was not given, where one that is empty means something else."""


UNSAID = Unsaid()


@dataclass(frozen=True, slots=True)
class OrNone:
    """A field that may be empty, or null, which is None; not given at all it is `UNSAID`."""

    field: Whole | Number

    @property
    def name(self) -> str:
        """What it is called."""
        return self.field.name

    @property
    def least(self) -> float:
        """The least it may be, where it is anything."""
        return self.field.least

    @property
    def most(self) -> float:
        """The most."""
        return self.field.most

    @property
    def many(self) -> bool:
        """It stands there once."""
        return False

    @property
    def default(self) -> Unsaid:
        """What it is when it is not given."""
        return UNSAID

    def read(self, text: str) -> Any:
        """The value of the field, or None."""
        return None if text == "" else self.field.read(text)

    def schema(self) -> dict[str, Any]:
        """It in JSON Schema's words."""
        schema = self.field.schema()
        return {**schema, "type": [schema["type"], "null"]}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words, or with `many` several of them."""

    name: str
    options: tuple[str, ...]
    default: Any = None
    many: bool = False

    def read(self, text: str) -> str:
        """The word."""
        if text not in self.options:
            raise ValueError(f"must be one of {', '.join(self.options)}")
        return str(text)

    def schema(self) -> dict[str, Any]:
        """It in JSON Schema's words."""
        return {"type": "string", "enum": [str(option) for option in self.options]}


@dataclass(frozen=True, slots=True)
class Text:
    """Text of at most `most` characters; empty text counts as not given."""

    name: str
    default: Any = None
    most: int = 200
    many: bool = False

    def read(self, text: str) -> str:
        """The text."""
        if len(text) > self.most:
            raise ValueError(f"has at most {self.most:,} characters")
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("holds a character that no stored text has")
        return text

    def schema(self) -> dict[str, Any]:
        """It in JSON Schema's words."""
        return {"type": "string", "maxLength": self.most}


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in ISO 8601 with a zone."""

    name: str
    default: datetime | None = None
    many: bool = False

    def read(self, text: str) -> datetime:
        """The time."""
        try:
            # A + in a query is a space unless somebody took care.
            moment = datetime.fromisoformat(text[:40].replace(" ", "+") if "T" in text else text[:40])
            if moment.tzinfo is not None:
                check_instant(moment)
                return moment
        except InvalidJobError:
            raise ValueError(f"must lie between {FIRST_YEAR} and {LAST_YEAR}") from None
        except (ValueError, OverflowError):
            pass
        raise ValueError("must be a time in ISO 8601 with a zone: 2030-01-31T08:00:00Z")

    def schema(self) -> dict[str, Any]:
        """It in JSON Schema's words."""
        return {"type": "string", "format": "date-time"}


def read_fields(fields: Sequence[Field], given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The values of all fields; `Refused` for one that cannot be, or of a name that is none of theirs."""
    texts: dict[str, list[str]] = {field.name: [] for field in fields}
    for name, text in given:
        if name not in texts:
            # Left alone, a filter that is misspelt would mean all jobs.
            raise Refused(400, f"There is no {short(name)!r} here" + (f"; {', '.join(texts)} is." if texts else "."))
        texts[name].append(text)
    return {field.name: _value(field, texts.get(field.name, ())) for field in fields}


def _value(field: Field, texts: Sequence[str]) -> Any:
    said = [text for text in texts if text != "" or isinstance(field, OrNone)]
    try:
        if len(said) > (MOST_VALUES if field.many else 1):
            raise ValueError("is given too often")
        values = tuple(map(field.read, said))
    except ValueError as error:
        raise Refused(400, f"{field.name} {error}.") from None
    if not values:
        return field.default if not field.many else field.default or ()
    return values if field.many else values[0]


def as_pairs(document: Any) -> list[tuple[str, str]]:
    """A JSON body in a form's words; `Refused` for one that is no object of plain values."""
    if not isinstance(document, Mapping):
        raise Refused(400, "The body must be a JSON object.")
    return [pair for name, value in document.items() for pair in _pairs(str(name), value)]


def _pairs(name: str, value: Any) -> list[tuple[str, str]]:
    if value is None:
        return [(name, "")]
    if isinstance(value, list) and not any(isinstance(each, list) for each in value):
        return [pair for each in value for pair in _pairs(name, each)]
    if isinstance(value, bool):
        return [(name, "true" if value else "false")]
    if isinstance(value, (str, int, float)):
        return [(name, str(value))]
    raise Refused(400, f"{name[:80]} must be text, a number, or a list of them.")
