"""Which SQLite files this process has open, through which library; opening and closing them safely.

Two SQLite libraries on one file in one process lose committed rows: POSIX locks belong to the process, so
neither sees the other's, and closing any descriptor of the file drops the locks of all.
"""

from __future__ import annotations

import os
import stat
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import apsw

from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.options import MEMORY, Options
from jobcard.backends.verbs import NotUnderstoodError
from jobcard.errors import ConfigError, StoreError

FileKey = tuple[int, int]
"""Device and inode: the file itself, whatever it is called."""

_DESCRIPTORS = Path("/proc/self/fd")

_lock = threading.RLock()  # a finalizer may run wherever this thread is
_open_files: dict[FileKey, tuple[str, int]] = {}  # library and number of our connections
_unsafe_files: set[FileKey] = set()  # open in the parent while it forked


class NoFileError(NotUnderstoodError):
    """There is no such file yet; `migrate` makes it."""


class FileConnection:
    """A connection together with the file that it has open."""

    def __init__(self, path: str, options: Options, *, create: bool) -> None:
        self.path = path
        self.key: FileKey | None = None
        self.close: Callable[[], object]
        if path == MEMORY:
            self.connection = Connection(path, options, create=True)
            self.close = weakref.finalize(self, self.connection.close)
            return
        with _lock:
            self.key = _find_or_create(path, options, create=create)
            _check_library(self.key, path, options.library)
            _count(self.key, options.library, +1)
        try:
            self.connection = Connection(path, options, create=False)
        except BaseException:
            with _lock:
                _count(self.key, options.library, -1)
            raise
        # Also when it was forgotten instead of closed.
        self.close = weakref.finalize(self, _close, self.connection, self.key, options.library, os.getpid())

    def is_current(self) -> bool:
        """False: the file was deleted or replaced, and writing on would lose what is written."""
        if self.key is None:
            return True
        try:
            found = os.stat(self.path)  # noqa: PTH116 - in every call; Path would cost more than the answer
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self.key


def connections_to(key: FileKey | None) -> int:
    """How many connections this process has to a file."""
    with _lock:
        return _open_files.get(key, ("", 0))[1] if key else 1


def forget_after_fork() -> None:
    """In a forked child: what the parent could not close is not ours, and that file is not safe here."""
    global _lock
    _lock = threading.RLock()
    _unsafe_files.update(_open_files)
    _open_files.clear()


def file_key(path: str) -> FileKey | None:
    """The file behind a path; None: there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def _close(connection: Connection, key: FileKey, library: str, process: int) -> None:
    if os.getpid() != process:
        return  # a forked child must not touch what belongs to its parent
    try:
        connection.close()
    finally:
        with _lock:
            _count(key, library, -1)


def _count(key: FileKey, library: str, step: int) -> None:
    number = _open_files.get(key, (library, 0))[1] + step
    if number:
        _open_files[key] = (library, number)
    else:
        _open_files.pop(key, None)


def _find_or_create(path: str, options: Options, *, create: bool) -> FileKey:
    file = Path(path)
    try:
        found = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        if not file.parent.is_dir():
            raise ConfigError(f"the directory of the SQLite file {path!r} does not exist") from None
        if options.readonly:
            raise ConfigError(f"the SQLite file {path!r} does not exist, and readonly=1 makes none") from None
        if not create:
            raise NoFileError(f"the SQLite file {path!r} does not exist") from None
        return _create(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the SQLite file {path[:200]!r} cannot be reached: {error}") from error
    if stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path!r} is a directory, not a SQLite file")
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(
            f"{path!r} is a symbolic link: give the file it points to ({str(file.resolve())!r}), "
            "or a changed link would part engines from clients"
        )
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path!r} is a device, pipe or socket, not a SQLite file")
    if found.st_nlink > 1:
        raise ConfigError(f"{path!r} has a second name (hard link): SQLite would damage it; remove the other name")
    if not options.readonly and not (found.st_mode & 0o222 and os.access(path, os.W_OK)):
        raise ConfigError(f"the SQLite file {path!r} is read-only; open it with ?readonly=1 to look only")
    return (found.st_dev, found.st_ino)


def _create(file: Path) -> FileKey:
    """Make the file ourselves, readable by its owner only: jobs hold whatever applications put in them."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        found = file.stat()
        return (found.st_dev, found.st_ino)
    except OSError as error:
        raise ConfigError(f"the SQLite file {str(file)!r} cannot be made: {error.strerror}") from error
    found = os.fstat(descriptor)
    os.close(descriptor)
    return (found.st_dev, found.st_ino)


def _check_library(key: FileKey, path: str, library: str) -> None:
    if key in _unsafe_files:
        raise StoreError(
            f"this process was forked while another thread was using {path!r}, and its locks cannot be trusted "
            "here: start child processes by spawn, or fork while no thread uses the store"
        )
    used = _open_files.get(key, (library, 0))[0]
    if used != library:
        raise ConfigError(
            f"this process has {path!r} open through {used} already; a second SQLite library on one file loses "
            f"rows: use ?library={used} here too, or give jobs a file of their own"
        )
    is_ours = key in _open_files or (library == "apsw" and _is_open_through_apsw(key))
    if not is_ours and library != "sqlite3" and _is_open_by_a_stranger(key):
        raise ConfigError(
            f"this process has {path!r} open by other means already; a second SQLite library on one file loses "
            "rows: give jobs a file of their own, or use ?library=sqlite3 if the application uses Python's sqlite3"
        )


def _is_open_through_apsw(key: FileKey) -> bool:
    """Whether the application has the file open by the very library that we use."""
    with suppress(apsw.Error):  # a connection that another thread is closing
        return any(connection.filename and file_key(connection.filename) == key for connection in apsw.connections())
    return False


def _is_open_by_a_stranger(key: FileKey) -> bool:
    """Whether a descriptor of this process stands for the file; only Linux can tell."""
    if not _DESCRIPTORS.is_dir():
        return False
    for descriptor in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - names only, no objects
        with suppress(OSError):
            found = (_DESCRIPTORS / descriptor).stat()
            if (found.st_dev, found.st_ino) == key:
                return True
    return False
