"""The SQL of this store, read once from `sql/` and `migrations/`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from jobcard.backends.sqlite.rows import CLAIMED_COLUMNS, JOB_COLUMNS


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
    """Every migration, oldest first."""
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


def marks(count: int) -> str:
    """So many places for values."""
    return ", ".join("?" * count)


def _read(folder: str) -> dict[str, str]:
    return {file.name: file.read_text("utf-8") for file in files(__package__).joinpath(folder).iterdir()}


def _fill(text: str, prefix: str) -> str:
    # Comments are for readers; without them SQLite has less to parse when it prepares the statement.
    text = re.sub(r"--[^\n]*\n", "", text).strip()
    return (
        text.replace("{prefix}", prefix).replace("{columns}", JOB_COLUMNS).replace("{claimed_columns}", CLAIMED_COLUMNS)
    )


def _split(script: str) -> tuple[str, ...]:
    return tuple(statement.strip() for statement in script.split(";") if statement.strip())
