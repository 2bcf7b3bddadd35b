"""Pack the files of a directory, each in a job of its own: `python archive.py DIRECTORY`.

A folder is a job that enqueues its files, and the folders in it, into the batch that it is itself of: nobody knows
before how many there are. The list of contents is written when all are packed, and only then; how it went is told in
any case.
"""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path
from uuid import UUID

from jobcard import Ended, Fail, Jobcard, JobContext, JobFailedError

jobs = Jobcard("sqlite:///archive.db")
ARCHIVE = Path("archive")


@jobs.job
def look(ctx: JobContext, folder: Path) -> None:
    """A job for each file and each folder in it; they are stored before this one ends, so the batch has not ended."""
    for path in sorted(folder.iterdir()):
        job = look if path.is_dir() else pack
        job.options(batch=ctx.job.batch_id).enqueue(path)


@jobs.job(max_attempts=2)
def pack(path: Path) -> None:
    """The file, compressed; a try that dies half-way leaves no half file."""
    if path.suffix == ".gz":
        raise Fail(f"{path} is packed already")
    target = ARCHIVE / f"{path.as_posix().strip('/').replace('/', '_')}.gz"
    draft = target.with_suffix(".part")
    with path.open("rb") as file, gzip.open(draft, "wb") as packed:
        shutil.copyfileobj(file, packed)
    draft.rename(target)


@jobs.job
def list_contents() -> int:
    """What is in the archive; it waits for the success of the batch."""
    names = sorted(path.name for path in ARCHIVE.glob("*.gz"))
    (ARCHIVE / "contents.txt").write_text("".join(f"{name}\n" for name in names))
    return len(names)


@jobs.job
def tell(batch: UUID) -> str:
    """How it went; it waits for the end of the batch, however that is."""
    counts = jobs.count(batch=batch)
    return f"{counts.completed} of {counts.total} jobs completed"


def main(directory: str) -> int:
    """Pack it; the exit code."""
    ARCHIVE.mkdir(exist_ok=True)
    with jobs.running():
        with jobs.batch("archive") as batch:
            batch.enqueue(look.call(Path(directory)))
        contents = list_contents.options(after=batch).enqueue()
        print(tell.options(after=Ended(batch)).enqueue(batch.id).result(timeout=600))
        try:
            print(f"{contents.result(timeout=60)} files in {ARCHIVE}")
        except JobFailedError as error:
            print(f"no list of contents: {error.reason}")
            for job in jobs.iterate(batch=batch, state="failed"):
                print(job.errors[-1]["message"], file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
