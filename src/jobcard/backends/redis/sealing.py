"""Sealing: each script that writes asks first whether the store is sealed, see `lua/head.lua`."""

from __future__ import annotations

from jobcard.backends.redis.scripts import Run


def seal(run: Run, word: str | None) -> None:
    """Close the store with this word to every writer, or with None open it again."""
    run("seal", False if word is None else word)
