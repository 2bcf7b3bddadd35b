"""Files of SQL beside the code of a store: statements one a file, migrations step by step."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Fill = Callable[[str], str]
"""Puts in what a text leaves open: `{prefix}`, lists of columns, the words of a database."""


class Migration(NamedTuple):
    """One step of the schema, statement by statement."""

    number: int
    up: tuple[str, ...]
    down: tuple[str, ...]


def read_statements(package: str) -> dict[str, str]:
    """Every statement in the folder `sql/` of a package, by the name of its file."""
    return {name.removesuffix(".sql"): text for name, text in _read(package, "sql").items()}


def read_migrations(package: str, fill: Fill) -> tuple[Migration, ...]:
    """Every migration in the folder `migrations/` of a package, oldest first; none where there is no such folder."""
    texts = _read(package, "migrations")
    return tuple(
        Migration(
            number=int(name[:4]),
            up=_split(fill(texts[name])),
            down=_split(fill(texts[name.replace(".up.", ".down.")])),
        )
        for name in sorted(texts)
        if name.endswith(".up.sql")
    )


def _read(package: str, folder: str) -> dict[str, str]:
    # Not by importlib.resources, which takes longer to import than a store.
    place = Path(str(sys.modules[package].__file__)).with_name(folder)
    found = [file for file in place.iterdir() if file.suffix == ".sql"] if place.is_dir() else []
    # Comments are for readers; without them a server has less to parse.
    return {file.name: re.sub(r"--[^\n]*\n", "", file.read_text("utf-8")).strip() for file in found}


def _split(script: str) -> tuple[str, ...]:
    return tuple(statement.strip() for statement in script.split(";") if statement.strip())
