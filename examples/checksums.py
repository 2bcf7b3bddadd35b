"""Find files with the same content, many at a time: `python checksums.py DIRECTORY`.

One job for each file; the results are put together here. Stopped half-way, it goes on where it was:
the ids of its jobs are made of path and time of change, and a stored job is not stored twice.
"""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from jobcard import Jobcard, JobFailedError

jobs = Jobcard("sqlite:///checksums.db")


@jobs.job(timeout=60, max_attempts=2)
def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(directory: str) -> None:
    """Print each group of equal files."""
    files = sorted(path for path in Path(directory).resolve().rglob("*") if path.is_file())
    calls = [
        checksum.options(id=uuid5(NAMESPACE_URL, f"{path} {path.stat().st_mtime_ns}")).call(path) for path in files
    ]
    same: defaultdict[str, list[Path]] = defaultdict(list)
    with jobs.running():
        for path, handle in zip(files, jobs.enqueue_many(calls), strict=True):
            try:
                same[handle.result(timeout=300)].append(path)
            except JobFailedError as error:
                print(f"{path}: {error.errors[-1]['message']}", file=sys.stderr)
    for digest, paths in same.items():
        if len(paths) > 1:
            print(digest[:12], *(path.name for path in paths))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ".")
