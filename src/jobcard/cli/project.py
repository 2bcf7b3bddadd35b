"""Writing `[tool.jobcard]` into a pyproject.toml, and nothing else in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from jobcard.errors import ConfigError

_HEADER = re.compile(r"[ \t]*\[[ \t]*tool[ \t]*\.[ \t]*jobcard[ \t]*\][ \t]*(#.*)?")
_ANY_HEADER = re.compile(r"[ \t]*\[")


def write_table(path: Path, values: Mapping[str, str], *, replace: bool, secret: bool = False) -> None:
    """Set `[tool.jobcard]` to these values, in one step: the file is the old one or the new one.

    A new file is for everybody to read, with `secret` for its owner alone; one that is there stays as it is.

    `ConfigError`, and nothing is written, when the table is there and may not be replaced, when the file cannot be
    read, or when it is written so that the table cannot be put in safely.
    """
    path = path.resolve()  # a link stays one
    try:
        text = path.read_bytes().decode("utf-8") if path.exists() else ""
        before = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    tool = before.get("tool")
    there = isinstance(tool, dict) and "jobcard" in tool
    if there and not replace:
        raise ConfigError(f"{path} has [tool.jobcard] already: say --force to replace it")
    table = _table(values)
    after = _replaced(text, table) if there else _appended(text, table)
    if _parsed(after) != _with(before, values):
        raise ConfigError(
            f"{path} is written so that this cannot be put in safely; write it by hand: {' '.join(table)}"
        )
    _write(path, after, secret=secret)


def _table(values: Mapping[str, str]) -> list[str]:
    # A JSON string of what URLs and names may hold is a TOML string too.
    return ["[tool.jobcard]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]


def _appended(text: str, table: list[str]) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text else end if text.endswith("\n") else end * 2
    return text + gap + end.join(table) + end


def _replaced(text: str, table: list[str]) -> str:
    """The text with the table's own lines exchanged; what follows the next heading stays."""
    lines = text.splitlines(keepends=True)
    first = next((place for place, line in enumerate(lines) if _HEADER.fullmatch(line.rstrip("\r\n"))), None)
    if first is None:
        return text
    end = "\r\n" if lines[first].endswith("\r\n") else "\n"
    last = next((place for place in range(first + 1, len(lines)) if _ANY_HEADER.match(lines[place])), len(lines))
    # Comments and blank lines above the next heading belong to that.
    while last > first + 1 and (not lines[last - 1].strip() or lines[last - 1].lstrip().startswith("#")):
        last -= 1
    return "".join([*lines[:first], *(line + end for line in table), *lines[last:]])


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:
        return None


def _with(document: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    tool = document.get("tool")
    return {**document, "tool": {**(tool if isinstance(tool, dict) else {}), "jobcard": dict(values)}}


def _write(path: Path, text: str, *, secret: bool) -> None:
    # A temporary file is for its owner alone: what holds a password stays so.
    with NamedTemporaryFile("wb", dir=path.parent, prefix=".pyproject-", delete=False) as file:
        try:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                shutil.copymode(path, file.name)
            elif not secret:
                Path(file.name).chmod(0o644)
            os.replace(file.name, path)  # noqa: PTH105
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
