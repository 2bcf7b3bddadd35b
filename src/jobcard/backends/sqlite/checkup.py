"""What an operator should know about a SQLite store: what weakens it, and where its file is."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from jobcard.backends.sqlite.connection import OLDEST_LIBRARY
from jobcard.backends.sqlite.options import MEMORY, Options
from jobcard.core import findings
from jobcard.core.findings import Finding, error, note, ok, warning

_BUG_FREE_LIBRARY = (3, 51, 3)
"""Older ones may lose a commit when a WAL is reset under two writers."""

_NEWER = {
    "apsw": "pip install --upgrade apsw",
    "sqlite3": "leave the option library at apsw, which brings its own",
    "sqlcipher": "pip install --upgrade sqlcipher3",
}
"""The way to a newer SQLite."""

_LARGE_WAL = 256 << 20

_MOUNTS = Path("/proc/self/mountinfo")

# By what the kernel calls them. On all of these the locks of two machines, or the memory that a WAL's readers and
# writers share, may not hold; of FUSE nobody knows what is behind it.
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gfs2", "ocfs2", "ncpfs",
     "vboxsf", "virtiofs", "beegfs", "gpfs", "orangefs", "pvfs2"}
)  # fmt: skip
_MEMORY = frozenset({"tmpfs", "ramfs"})


def durability(path: str, options: Options, library: str) -> list[Finding]:
    """What the newest confirmed jobs outlive."""
    return [
        _library(options, library),
        _synchronous(options.synchronous),
        _filesystem(path),
        _survives(path, options.synchronous),
    ]


def _library(options: Options, library: str) -> Finding:
    code, subject = "durability.wal_reset", f"SQLite {library}"
    if findings.numbers(library) >= _BUG_FREE_LIBRARY:
        return ok(code, subject, "two writers that reset the WAL lose nothing in it")
    if options.journal_mode != "wal":
        return ok(code, subject, f"journal_mode={options.journal_mode} has no WAL that could be reset")
    return error(
        code,
        subject,
        f"SQLite {library} may lose a commit when the WAL is reset under two writers (fixed in 3.51.3)",
        f"{_NEWER[options.library]}, or set journal_mode=delete",
    )


def _synchronous(mode: str) -> Finding:
    code, subject = "durability.synchronous", "synchronous"
    fix = "leave the option synchronous at full"
    if mode == "off":
        text = "synchronous=off: the newest jobs are lost with the power, and the file may be damaged"
        return error(code, subject, text, fix)
    if mode == "normal":
        return warning(code, subject, "synchronous=normal: the newest jobs may be lost with the power", fix)
    return ok(code, subject, f"synchronous={mode}: each commit waits for the disk")


def _filesystem(path: str) -> Finding:
    code, subject = "durability.filesystem", path
    if path == MEMORY:
        return note(code, subject, "the jobs are in the memory of this process alone", "give a file, sqlite:///jobs.db")
    kind = filesystem_of(path, _mounts())
    if kind is None:
        return note(code, subject, "this system does not say on which file system the file is", "see that it is local")
    if kind in _NETWORK:
        return error(
            code,
            subject,
            f"the file is on a network file system ({kind}), where SQLite's locks do not hold",
            "move it to a local disk, or keep jobs in a server that all machines reach, for example PostgreSQL",
        )
    if kind.startswith("fuse"):
        return warning(
            code,
            subject,
            f"the file is on {kind}: whether SQLite's locks hold there is up to the program behind it",
            "move it to a local disk",
        )
    if kind in _MEMORY:
        return note(code, subject, f"the file is in memory ({kind}), gone with the next boot", "move it to a disk")
    return ok(code, subject, f"the file is on a local file system ({kind})")


def _mounts() -> str | None:
    try:
        return _MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return None


def filesystem_of(path: str, mounts: str | None) -> str | None:
    """The kind of file system a file is on, by the kernel's list of mounts; None: it does not say."""
    real = Path(path).resolve()
    found: tuple[int, str] | None = None
    for line in (mounts or "").splitlines():
        # 36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw
        front, separator, back = line.partition(" - ")
        fields = front.split(" ")
        if not separator or len(fields) < 5:
            continue
        place = Path(fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        # Of two mounts at one place the later one lies above.
        if real.is_relative_to(place) and (found is None or len(place.parts) >= found[0]):
            found = len(place.parts), back.partition(" ")[0]
    return found[1] if found else None


def _survives(path: str, synchronous: str) -> Finding:
    if path == MEMORY:
        return findings.survives("this store", "it is gone with its process")
    power = {
        "full": "and the loss of power, if the disk keeps its word",
        "extra": "and the loss of power, if the disk keeps its word",
        "normal": "but not the loss of power: the newest may be gone",
        "off": "but not the loss of power: the newest are gone, and the file may be damaged",
    }[synchronous]
    return findings.survives(
        "this store", f"confirmed jobs outlive every process that uses it, {power}; there is no fail-over: back it up"
    )


# ------------------------------------------------------------------ beyond durability


def versions(options: Options, library: str) -> Iterator[Finding]:
    """The driver, and the library that is its server."""
    if options.library == "apsw":
        import apsw

        yield findings.version("versions.driver", "apsw", apsw.apsw_version(), (3, 37), "pip install --upgrade apsw")
    elif options.library == "sqlcipher":
        from importlib.metadata import version  # only now: it is slow to import

        found = version("sqlcipher3")
        yield findings.version("versions.driver", "sqlcipher3", found, (0, 6, 2), "pip install --upgrade sqlcipher3")
    else:
        yield ok("versions.driver", options.library, "Python's own")
    yield findings.version(
        "versions.server",
        "SQLite",
        library,
        OLDEST_LIBRARY[:2],
        _NEWER[options.library],
    )


def file(path: str, wal_size: int) -> Iterator[Finding]:
    """Who may read the file, and how much waits to be written back."""
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError:
        return
    if mode & 0o077:
        yield warning(
            "file.permissions",
            path,
            f"others than its owner may use the file (mode {mode:04o}), and so everything that jobs hold",
            f"chmod 600 {path} {path}-wal {path}-shm",
        )
    else:
        yield ok("file.permissions", path, f"only its owner may use the file (mode {mode:04o})")
    if wal_size > _LARGE_WAL:
        yield warning(
            "file.wal",
            path + "-wal",
            f"the WAL has {wal_size >> 20:,} MiB: a long read keeps it from being written back",
            "end the process that has been reading for so long",
        )
    else:
        yield ok("file.wal", path + "-wal", f"the WAL has {wal_size >> 20:,} MiB")
