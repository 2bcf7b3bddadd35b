"""How values travel: written into the statement, as both drivers do it with every parameter.

A statement of ours is sent as one text, so that several go in one trip and a thousand rows in one statement. What a
text must not end is its quotes: the session's `sql_mode` leaves the backslash its meaning, and in UTF-8 no byte of
another character looks like one of those escaped here.
"""

from __future__ import annotations

from collections.abc import Mapping

_ESCAPES = str.maketrans(
    {"\\": "\\\\", "'": "\\'", "\x00": "\\0", "\n": "\\n", "\r": "\\r", "\x1a": "\\Z"}  # Ctrl-Z ends a file on Windows
)


def literal(value: object) -> str:
    """A value as SQL. A list is written with commas, a list in it in brackets: `n in (%(refs)s)`, `values %(rows)s`."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"'{value.translate(_ESCAPES)}'"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, (list, tuple)):
        return ", ".join([f"({literal(one)})" if isinstance(one, (list, tuple)) else literal(one) for one in value])
    raise TypeError(f"a {type(value).__name__} cannot be written as SQL")


def bind(sql: str, values: Mapping[str, object]) -> str:
    """A statement with its values in the places named `%(so)s`."""
    return sql % {name: literal(value) for name, value in values.items()} if values else sql
