"""The application that `jobcard demo` runs: jobs that index source files, and jobs that misbehave on purpose."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import TypedDict

from jobcard.client import Jobcard
from jobcard.core.context import JobContext
from jobcard.core.retry import Backoff

VARIABLE = "JOBCARD_DEMO_URL"

# As many at once as there are cores, and room for those that hang.
jobs = Jobcard(os.environ.get(VARIABLE), max_concurrent_jobs=(os.cpu_count() or 1) + 2, stop_timeout=5)

_WORD = re.compile(r"[A-Za-z]{2,}")
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([A-Za-z_]\w*)[\w.]*[ \t]+import\b|import[ \t]+([A-Za-z_]\w*))", re.MULTILINE
)

MEMORY_LIMIT = 256 << 20
_CHUNK = 8 << 20
_MOST_CHUNKS = 128  # a gigabyte: if nobody stops the hog before, it stops by itself
EXIT_CODE = 7
FLAKY_FAILURES = 2


class FileIndex(TypedDict):
    """What is known about one source file. words: how often each stands in it."""

    lines: int
    words: dict[str, int]
    imports: list[str]
    sha256: str


class Index(TypedDict):
    """All files together. common: the commonest words. imported: the modules most files import."""

    files: int
    lines: int
    words: int
    different_words: int
    duplicates: int
    common: list[tuple[str, int]]
    imported: list[tuple[str, int]]


# ------------------------------------------------------------------ the work


@jobs.job(name="demo.index", timeout=30, max_attempts=3)
def index(path: str) -> FileIndex:
    """Read one source file: its words, lines, imports and checksum."""
    content = Path(path).read_bytes()
    text = content.decode("utf-8", "replace")
    return {
        "lines": len(text.splitlines()),
        "words": dict(Counter(_WORD.findall(text.lower()))),
        "imports": sorted({first or second for first, second in _IMPORT.findall(text)}),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


@jobs.job(name="demo.merge", timeout=60)
def merge() -> Index:
    """Combine what is known about each file, read from the store page by page."""
    words: Counter[str] = Counter()
    imported: Counter[str] = Counter()
    checksums = set()
    files = lines = 0
    for job in jobs.iterate(name="demo.index", state="completed"):
        found = job.result
        files += 1
        lines += found["lines"]
        words.update(found["words"])
        imported.update(found["imports"])
        checksums.add(found["sha256"])
    return {
        "files": files,
        "lines": lines,
        "words": words.total(),
        "different_words": len(words),
        "duplicates": files - len(checksums),
        "common": words.most_common(10),
        "imported": imported.most_common(10),
    }


@jobs.job(name="demo.ping")
def ping() -> None:
    """Return at once: to see how soon a job starts."""


# ------------------------------------------------------------------ on purpose


@jobs.job(name="demo.segfault", max_attempts=1)
def segfault() -> None:
    """Read from address zero."""
    ctypes.string_at(0)


@jobs.job(name="demo.endless_loop", max_attempts=1, timeout=2)
def endless_loop() -> None:
    """Never return."""
    while True:
        pass


@jobs.job(name="demo.hard_exit", max_attempts=1)
def hard_exit() -> None:
    """End the process under the job."""
    os._exit(EXIT_CODE)


@jobs.job(name="demo.memory_hog", max_attempts=1, memory_limit=MEMORY_LIMIT, timeout=30)
def memory_hog() -> None:
    """Take memory until the limit ends it; slowly, so that the machine never notices."""
    taken = []
    for _ in range(_MOST_CHUNKS):
        taken.append(b"x" * _CHUNK)
        time.sleep(0.02)


@jobs.job(name="demo.flaky", max_attempts=5, backoff=Backoff.fixed(0.2))
def flaky(ctx: JobContext) -> int:
    """Fail twice, then succeed."""
    if ctx.attempt <= FLAKY_FAILURES:
        raise ConnectionError(f"failure {ctx.attempt} of {FLAKY_FAILURES}, on purpose")
    return ctx.attempt
