"""The SQL of this store, read once from `sql/` and `migrations/`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from jobcard.backends.mysql.rows import CLAIMED_COLUMNS, HELD_COLUMNS, JOB_COLUMNS, NEW_COLUMNS

# The store's time: the server's when the statement began, whatever its time zone; in tests whatever they say it is.
# Not sysdate(): it moves from row to row, so no index can be searched by it.
_NOW = "coalesce(%(now)s, timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)))"


class Migration(NamedTuple):
    """One step of the schema, statement by statement."""

    number: int
    up: tuple[str, ...]
    down: tuple[str, ...]


@cache
def statements(prefix: str) -> Mapping[str, str]:
    """Every statement by the name of its file, for tables of this prefix."""
    return {
        name.removesuffix(".sql"): _fill(text, prefix) for name, text in _read("sql").items() if name.endswith(".sql")
    }


@cache
def migrations(prefix: str) -> tuple[Migration, ...]:
    """Every migration, oldest first. What it leaves open is `{collation}`, which differs between the servers."""
    texts = _read("migrations")
    ups = sorted(name for name in texts if name.endswith(".up.sql"))
    return tuple(
        Migration(
            number=int(name[:4]),
            up=_split(_fill(texts[name], prefix)),
            down=_split(_fill(texts[name.replace(".up.", ".down.")], prefix)),
        )
        for name in ups
    )


def rows_of(names: Iterable[str], column: str) -> str:
    """A table of one column: a row for each of these names, with the place of its value."""
    return " union all ".join(f"select %({name})s as {column}" for name in names)


def _read(folder: str) -> dict[str, str]:
    return {file.name: file.read_text("utf-8") for file in files(__package__).joinpath(folder).iterdir()}


def _fill(text: str, prefix: str) -> str:
    # Comments are for readers; without them the server has less to parse.
    text = re.sub(r"--[^\n]*\n", "", text).strip()
    return (
        text.replace("{prefix}", prefix)
        .replace("{columns}", JOB_COLUMNS)
        .replace("{claimed_columns}", CLAIMED_COLUMNS)
        .replace("{held_columns}", HELD_COLUMNS)
        .replace("{new_columns}", NEW_COLUMNS)
        .replace("{now}", _NOW)
    )


def _split(script: str) -> tuple[str, ...]:
    return tuple(statement.strip() for statement in script.split(";") if statement.strip())
