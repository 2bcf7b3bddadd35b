"""What a project says about itself in pyproject.toml, and where the stores' URLs come from when code gives none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jobcard.core.settings import check_names
from jobcard.errors import ConfigError

VARIABLE = "JOBCARD_URL"
MOVING_TO = "JOBCARD_MOVING_TO"
DEFAULT_URL = "sqlite:///jobcard.db"
NAMES = ("url", "app")
"""What `[tool.jobcard]` may say: the store, and the application that the command line means."""
_MAX_FILE = 1 << 20


def find_url() -> str:
    """$JOBCARD_URL, else `[tool.jobcard] url` of the nearest pyproject.toml that has it, else a SQLite file here."""
    return os.environ.get(VARIABLE) or find_in_project("url") or DEFAULT_URL


def find_moving_to() -> str | None:
    """$JOBCARD_MOVING_TO: the store that the jobs may move to while this process runs; it follows them there."""
    return os.environ.get(MOVING_TO) or None


def find_in_project(name: str) -> str | None:
    """One of `NAMES` from `[tool.jobcard]` of the nearest pyproject.toml that has this table, or None."""
    directory = Path.cwd()
    for folder in (directory, *directory.parents):
        path = folder / "pyproject.toml"
        table = _table(path) if path.is_file() else None
        if table is not None:
            check_names(table, set(NAMES), f"[tool.jobcard] in {path}")
            for each, value in table.items():
                if not isinstance(value, str):
                    raise ConfigError(f"[tool.jobcard] {each} in {path} must be text, not {type(value).__name__}")
            return table.get(name)
    return None


def _table(path: Path) -> dict[str, Any] | None:
    import tomllib  # only here: most applications give the URL, and then nothing is parsed

    try:
        if path.stat().st_size > _MAX_FILE:
            raise ConfigError(f"{path} is larger than {_MAX_FILE:,} bytes")
        document = tomllib.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} cannot be read: {error}") from error
    tool = document.get("tool")
    table = tool.get("jobcard") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"tool.jobcard in {path} must be a table")
    return table
