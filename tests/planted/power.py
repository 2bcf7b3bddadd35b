"""A disk that forgets: what was written and not yet synced is gone when the power is, but for some first part of it.

One process enqueues into a SQLite file on such a disk and says of each job when it is stored; at a moment drawn from
the seed the power goes. The file is then read with a sound disk: every job that was called stored must be there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import apsw

from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import factory
from jobcard.errors import JobcardError

MOST = 60


class _Disk(apsw.VFS):
    """Passes everything on and remembers how to take back what was not synced."""

    def __init__(self) -> None:
        super().__init__("forgets", "unix", makedefault=True)
        self.unsynced: dict[str, list[tuple[int, bytes, int]]] = {}

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:
        return _File(self, name, flags)

    def cut(self, random: Random) -> None:
        """The power goes. Of what was not synced the first part may have reached the disk."""
        for path, writes in self.unsynced.items():
            if not Path(path).exists():
                continue  # deleted meanwhile, and it stays so
            for offset, before, size in reversed(writes[random.randint(0, len(writes)) :]):
                descriptor = os.open(path, os.O_RDWR)
                os.pwrite(descriptor, before, offset)
                os.ftruncate(descriptor, size)
                os.close(descriptor)
        os._exit(9)


class _File(apsw.VFSFile):
    def __init__(self, disk: _Disk, name: Any, flags: Any) -> None:
        super().__init__("unix", name, flags)
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._writes = disk.unsynced.setdefault(self._path, [])

    def xWrite(self, data: bytes, offset: int) -> None:
        size = self.xFileSize()
        before = super().xRead(min(len(data), size - offset), offset) if offset < size else b""
        self._writes.append((offset, before, size))
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._writes.clear()


def lost_with_the_power(folder: Path, seed: int) -> int:
    """How many jobs that were called stored are not there after the power was gone."""
    path = folder / "jobs.db"
    child = subprocess.run(
        [sys.executable, "-m", "planted.power", str(path), str(seed)], stdout=subprocess.PIPE, check=False, timeout=60
    )
    if child.returncode != 9:
        raise RuntimeError(f"the process that was to lose its power ended with {child.returncode}")
    Path(f"{path}-shm").unlink(missing_ok=True)  # it was never on the disk
    said = [bytes.fromhex(line) for line in child.stdout.decode().split()]
    store = SQLiteBackend(path)
    try:
        return len(set(said) - {row.id for row in store.get(said)})
    except JobcardError:
        return len(said)  # not even the schema is left
    finally:
        store.close()


def _enqueue_until_the_power_goes(path: str, seed: int) -> None:
    disk, random = _Disk(), Random(seed)
    store = SQLiteBackend(path)
    store.migrate()
    for _ in range(random.randint(1, MOST)):
        job = factory.new_job()
        store.enqueue([job])
        os.write(1, job.id.hex().encode() + b"\n")
    disk.cut(random)


if __name__ == "__main__":
    _enqueue_until_the_power_goes(sys.argv[1], int(sys.argv[2]))
