"""The scripts of this store, put together from `lua/` and `migrations/`, and run by their hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError, TimeoutError

from jobcard.backends.base import RELEASED_AT_ONCE
from jobcard.backends.redis.keys import NAMES
from jobcard.backends.redis.rows import CARD, LIVE
from jobcard.core.job import LAST_ATTEMPTS, LAST_LINES, LINES_TEXT
from jobcard.core.rates import MOST_KEPT_OUT, SLOTS

MOST_JOBS = 200
"""Jobs that one script settles, claims or lets in line at most: no other command runs meanwhile."""
KEPT_OUT_AT_ONCE = 500
"""Jobs that one script puts aside, because their keys are at their limits, before it lets other commands run."""
MOST_BYTES = 4 << 20
"""Of rows, tries and lines that one script writes, before it lets other commands run; one job may have more."""
MOST_VERSIONS = 500
"""Jobs whose rows one script reads for their versions."""
MORE = 2
"""What a step of a migration answers that has to be called again."""
_BOUNDS = {
    "LAST_ATTEMPTS": LAST_ATTEMPTS,
    "LAST_LINES": LAST_LINES,
    "LINES_TEXT": LINES_TEXT,
    "RELEASED_AT_ONCE": min(RELEASED_AT_ONCE, MOST_JOBS),
    "MOST_JOBS": MOST_JOBS,
    "KEPT_OUT_AT_ONCE": KEPT_OUT_AT_ONCE,
    "MOST_KEPT_OUT": MOST_KEPT_OUT,
    "SLOTS": SLOTS,
    "MORE": MORE,
}
"""What scripts are told of how much is kept and done, and what they answer, by their own names for it."""
_PARTS = {
    "enqueue": ("release", "admission", "queues", "add", "enqueue"),
    "exchange": ("release", "admission", "queues", "add", "complete", "apply", "claim", "exchange"),
    "let_in": ("release", "admission", "let_in"),
    "usage": ("release", "admission", "usage"),
    "apply_by_operator": ("release", "admission", "apply", "apply_by_operator"),
    "delete_jobs": ("delete", "delete_jobs"),
    "prune": ("delete", "prune"),
    "unpark": ("come_back", "unpark"),
    "release_dependents": ("come_back", "release_dependents"),
    "count_batch": ("batch", "count_batch"),
    "find_batch": ("batch", "find_batch"),
    "put": ("queues", "clear", "put"),
    "erase": ("clear", "erase"),
}
"""Scripts of several files, in order; each has `head.lua` before it. All others are one file."""


Run = Callable[..., Any]
"""Runs a script of this store by its name, with the values it reads."""


class Script(NamedTuple):
    """One script and the hash a server knows it by."""

    text: str
    sha: str


class Migration(NamedTuple):
    """One step of the schema."""

    number: int
    up: Script
    down: Script


class Replicas(NamedTuple):
    """How many replicas must have a write before it is confirmed, and for how many seconds to wait for them."""

    number: int = 0
    seconds: float = 0.0


def run(
    client: Any,
    script: Script,
    keys: tuple[str, ...],
    *arguments: bytes | str,
    replicas: Replicas = Replicas(),  # noqa: B008 - it never changes
) -> Any:
    """Run a script; one that the server forgot, or never saw, is sent whole."""
    try:
        return _send(client, replicas, "EVALSHA", script.sha, len(keys), *keys, *arguments)
    except NoScriptError:
        return _send(client, replicas, "EVAL", script.text, len(keys), *keys, *arguments)


def _send(client: Any, replicas: Replicas, *words: object) -> Any:
    if not replicas.number:
        return client.execute_command(*words)
    # On one connection: the server waits for what came by it.
    pipe = client.pipeline(transaction=False)
    pipe.execute_command(*words)
    pipe.execute_command("WAIT", replicas.number, round(1e3 * replicas.seconds))
    for answer in (answers := pipe.execute(raise_on_error=False)):
        if isinstance(answer, Exception):
            raise answer
    answer, reached = answers
    if reached < replicas.number:
        raise TimeoutError("too few replicas have it in time")
    return answer


@cache
def script(name: str) -> Script:
    """A script by its name."""
    return _script("".join(_read("lua", f"{part}.lua") for part in _PARTS.get(name, (name,))))


@cache
def migrations() -> tuple[Migration, ...]:
    """Every migration, oldest first."""
    names = sorted(file.name for file in files(__package__).joinpath("migrations").iterdir())
    return tuple(
        Migration(
            int(name[:4]),
            _script(_read("migrations", name)),
            _script(_read("migrations", name.replace(".up.", ".down."))),
        )
        for name in names
        if name.endswith(".up.lua")
    )


def spell_out(text: str) -> str:
    """A text of Lua with keys, fields and bounds as what they stand for.

    As locals they cost more: each function that names one looks for it again whenever the script runs.
    """
    keys = {f"K_{name}": f"KEYS[{place}]" for place, name in enumerate(NAMES, 1)}
    fields = {field.upper(): place for part in (CARD, LIVE) for place, field in enumerate(part, 1)}
    words = {**keys, **fields, **_BOUNDS, "FIELDS": len(LIVE)}
    return re.sub(r"\b[A-Z]\w+", lambda word: str(words.get(word[0], word[0])), text)


def _script(body: str) -> Script:
    text = "local KEYS=KEYS\n" + spell_out(_read("lua", "head.lua") + body)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(folder: str, name: str) -> str:
    # Comments are for readers; a server would keep them for as long as it knows the script.
    text = files(__package__).joinpath(folder, name).read_text("utf-8")
    return re.sub(r"^\s*--[^\n]*\n", "", text, flags=re.MULTILINE)
