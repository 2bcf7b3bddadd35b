"""The SQL of this store, read once from `sql/` and `migrations/`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial

from jobcard.backends.base import RELEASED_AT_ONCE
from jobcard.backends.sqlfiles import Migration, read_migrations, read_statements
from jobcard.backends.sqlite.errors import SEALED
from jobcard.backends.sqlite.rows import CLAIMED_COLUMNS, JOB_COLUMNS, JOB_OVERWRITTEN, JOB_VALUES


@cache
def statements(prefix: str) -> Mapping[str, str]:
    """Every statement by the name of its file, for tables of this prefix."""
    return {name: _fill(prefix, text) for name, text in read_statements(__package__).items()}


@cache
def migrations(prefix: str) -> tuple[Migration, ...]:
    """Every migration, oldest first."""
    return read_migrations(__package__, partial(_fill, prefix))


def marks(count: int) -> str:
    """So many places for values."""
    return ", ".join("?" * count)


def _fill(prefix: str, text: str) -> str:
    return (
        text.replace("{prefix}", prefix)
        .replace("{columns}", JOB_COLUMNS)
        .replace("{values}", JOB_VALUES)
        .replace("{overwritten}", JOB_OVERWRITTEN)
        .replace("{claimed_columns}", CLAIMED_COLUMNS)
        .replace("{sealed}", SEALED)
        .replace("{released_at_once}", str(RELEASED_AT_ONCE))
    )
