"""Faults planted in the real product, to prove that what tests it can fail.

The product's code holds none of them and knows no switch. A process that a test starts has one when two things are so
in its environment: `switch/` of this folder stands on PYTHONPATH, which no installation does, and $PLANTED_FAULT names
a file of `faults/`. Python then runs `switch/sitecustomize.py` before anything else, and that changes the modules named
in the file as they are imported.

    python -m planted                     every fault, with three seeds each: a table of what catches it
    python -m planted --today             the five of today
    python -m planted --fault NAME --seed 7

`plan.py` says which there are and who is expected to catch them, `layers.py` how each of those is run.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

Plant = Callable[[ModuleType], None]

_SQLITE = "jobcard.backends.sqlite"


def sqlite_text(**changes: tuple[str, str]) -> dict[str, Plant]:
    """Other words in statements or migrations of the SQLite store: file=(what stands there, what shall)."""

    def plant(module: ModuleType) -> None:
        read: Callable[[str, str], dict[str, str]] = module._read

        def changed(package: str, folder: str) -> dict[str, str]:
            texts = read(package, folder)
            for name, (old, new) in changes.items() if package == _SQLITE else ():
                for file in texts:
                    if file.removesuffix(".sql").removesuffix(".up").lstrip("0123456789_") == name:
                        texts[file] = _replaced(texts[file], old, new)
            return texts

        module._read = changed  # type: ignore[attr-defined]

    return {"jobcard.backends.sqlfiles": plant}


def method(name: str, wrap: Callable[[Any], Any]) -> dict[str, Plant]:
    """Another body for `package.module:Class.method` or `package.module:function`, made from the true one."""
    path, _, inner = name.partition(":")

    def plant(module: ModuleType) -> None:
        owner: Any = module
        *classes, last = inner.split(".")
        for each in classes:
            owner = getattr(owner, each)
        setattr(owner, last, wrap(getattr(owner, last)))

    return {path: plant}


def _replaced(text: str, old: str, new: str) -> str:
    if old not in text:
        raise LookupError(f"the planted fault is out of date: {old!r} does not stand in {text!r}")
    return text.replace(old, new)
