"""The SQL of a store, read once: the statements of `sql/` here, and before them those of the store's own folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from jobcard.backends.base import RELEASED_AT_ONCE
from jobcard.backends.sql.dialect import Dialect
from jobcard.backends.sql.rows import (
    CLAIMED_COLUMNS,
    HELD_COLUMNS,
    JOB_COLUMNS,
    NEW_COLUMNS,
    REPLACING,
    STORED_COLUMNS,
    TEXTS,
)
from jobcard.backends.sql.values import can_be_sent
from jobcard.backends.sqlfiles import Migration, read_migrations, read_statements

_ALONG = re.compile(r"\{along (\w+)\}")
_WORDS = (
    "id_text", "tagged", "join", "or_skip", "for_share", "div", "some", "here", "size", "version", "unreadable",
    "number", "id", "word", "text", "random",
)  # fmt: skip


class Statements(dict[str, str]):
    """Every statement by the name of its file, in one dialect and for tables of one prefix."""

    def __init__(self, dialect: Dialect, prefix: str) -> None:
        self.dialect = dialect
        self.prefix = prefix
        self._parts: dict[str, str] = {}
        super().__init__(
            (name, self._fill(text))
            for package in (__package__, dialect.package)
            for name, text in read_statements(package).items()
        )

    def part(self, text: str) -> str:
        """A part of a statement that is put together elsewhere, its words filled in."""
        found = self._parts.get(text)
        return found if found is not None else self._parts.setdefault(text, self._fill(text))

    def can_look_for(self, text: str) -> bool:
        """Whether a job can hold this text at all; one that no job can hold may not even be sent."""
        return can_be_sent(text) and (self.dialect.holds_nul or "\x00" not in text)

    def migrations(self) -> tuple[Migration, ...]:
        """Every migration, oldest first: the store's own, or ours where it has none."""
        return read_migrations(self.dialect.package, self._fill) or read_migrations(__package__, self._fill)

    def _fill(self, text: str) -> str:
        dialect = self.dialect
        text = (
            _ALONG.sub(lambda found: dialect.along.replace("{index}", found[1]), text)
            .replace("{columns}", JOB_COLUMNS)
            .replace("{claimed_columns}", CLAIMED_COLUMNS)
            .replace("{held_columns}", HELD_COLUMNS)
            .replace("{new_columns}", NEW_COLUMNS)
            .replace("{stored_columns}", STORED_COLUMNS)
            .replace("{replacing}", REPLACING)
            .replace("{released_at_once}", str(RELEASED_AT_ONCE))
            .replace('"', dialect.quote)
        )
        for word in _WORDS:
            text = text.replace(f"{{{word}}}", getattr(dialect, word))
        text = text.replace("{texts}", TEXTS)
        # The store's time: the server's, whatever its time zone; in tests whatever they say it is.
        return text.replace("{now}", f"coalesce(%(now)s, {dialect.now})").replace("{prefix}", self.prefix)


@cache
def statements(dialect: Dialect, prefix: str) -> Statements:
    """The statements of a dialect for tables of this prefix."""
    return Statements(dialect, prefix)


def rows_of(names: Iterable[str], column: str) -> str:
    """A table of one column: a row for each of these names, with the place of its value."""
    return " union all ".join(f"select %({name})s as {column}" for name in names)


def pairs_of(number: int, first: str, second: str) -> str:
    """A table of two columns: so many rows, with the places of their values, `first_0`, `second_0`, `first_1`, …"""
    return " union all ".join(
        f"select %({first}_{row})s as {first}, %({second}_{row})s as {second}" for row in range(number)
    )
