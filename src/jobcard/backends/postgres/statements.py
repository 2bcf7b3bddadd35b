"""The SQL of this store, read once from `sql/` and `migrations/`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from jobcard.backends.postgres.rows import CLAIMED_COLUMNS, JOB_COLUMNS

# The store's time: the server's, read when the statement runs; in tests whatever they say it is.
_NOW = "coalesce(%(now)s::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint)"


class Tables(NamedTuple):
    """Where the tables are. schema: None: wherever the server looks first."""

    schema: str | None
    prefix: str

    @property
    def qualified(self) -> str:
        """What stands before the name of a table."""
        return self.prefix if self.schema is None else f'"{self.schema}".{self.prefix}'


class Migration(NamedTuple):
    """One step of the schema, statement by statement."""

    number: int
    up: tuple[str, ...]
    down: tuple[str, ...]


@cache
def statements(tables: Tables) -> Mapping[str, str]:
    """Every statement by the name of its file, for these tables."""
    texts = {name.removesuffix(".sql"): text for name, text in _read("sql").items() if name.endswith(".sql")}
    return {name: _fill(text, tables, texts) for name, text in texts.items()}


@cache
def migrations(tables: Tables) -> tuple[Migration, ...]:
    """Every migration, oldest first."""
    texts = _read("migrations")
    ups = sorted(name for name in texts if name.endswith(".up.sql"))
    return tuple(
        Migration(
            number=int(name[:4]),
            up=_split(_fill(texts[name], tables, {})),
            down=_split(_fill(texts[name.replace(".up.", ".down.")], tables, {})),
        )
        for name in ups
    )


def _read(folder: str) -> dict[str, str]:
    return {file.name: file.read_text("utf-8") for file in files(__package__).joinpath(folder).iterdir()}


def _fill(text: str, tables: Tables, parts: Mapping[str, str]) -> str:
    """Put in what `{…}` stands for: another file by its name in capitals, our tables, our column lists, the time."""
    for name in re.findall(r"\{([A-Z_]+)\}", text):
        text = text.replace(f"{{{name}}}", parts[name.lower()])
    # Comments are for readers.
    text = re.sub(r"--[^\n]*\n", "", text).strip()
    return (
        text.replace("{prefix}", tables.qualified)
        .replace("{bare}", tables.prefix)
        .replace("{schema}", f'"{tables.schema}"')
        .replace("{columns}", JOB_COLUMNS)
        .replace("{claimed_columns}", CLAIMED_COLUMNS)
        .replace("{now}", _NOW)
    )


def _split(script: str) -> tuple[str, ...]:
    return tuple(statement.strip() for statement in script.split(";") if statement.strip())
