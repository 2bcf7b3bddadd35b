"""The SQL of this store, read once from `sql/` and `migrations/`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, partial
from typing import NamedTuple

from jobcard.backends.base import RELEASED_AT_ONCE
from jobcard.backends.postgres.rows import (
    CLAIMED_COLUMNS,
    JOB_COLUMNS,
    JOB_VALUES,
    NEW_JOB_COLUMNS,
    NEW_JOB_VALUES,
    TEXT_COLUMNS,
)
from jobcard.backends.sqlfiles import Migration, read_migrations, read_statements
from jobcard.core.rates import MOST_KEPT_OUT

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


@cache
def statements(tables: Tables) -> Mapping[str, str]:
    """Every statement by the name of its file, for these tables."""
    texts = read_statements(__package__)
    return {name: _fill(tables, texts, text) for name, text in texts.items()}


@cache
def migrations(tables: Tables) -> tuple[Migration, ...]:
    """Every migration, oldest first."""
    return read_migrations(__package__, partial(_fill, tables, {}))


def _fill(tables: Tables, parts: Mapping[str, str], text: str) -> str:
    """Put in what `{…}` stands for: another file by its name in capitals, our tables, our column lists, the time."""
    for name in re.findall(r"\{([A-Z_]+)\}", text):
        text = text.replace(f"{{{name}}}", parts[name.lower()])
    return (
        text.replace("{prefix}", tables.qualified)
        .replace("{bare}", tables.prefix)
        .replace("{schema}", f'"{tables.schema}"')
        .replace("{columns}", JOB_COLUMNS)
        .replace("{job_values}", JOB_VALUES)
        .replace("{text_columns}", TEXT_COLUMNS)
        .replace("{claimed_columns}", CLAIMED_COLUMNS)
        .replace("{new_job_columns}", NEW_JOB_COLUMNS)
        .replace("{new_job_values}", NEW_JOB_VALUES)
        .replace("{released_at_once}", str(RELEASED_AT_ONCE))
        .replace("{most_kept_out}", str(MOST_KEPT_OUT))
        .replace("{now}", _NOW)
    )
