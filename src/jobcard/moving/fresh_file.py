"""A file that is there whole or not at all: written beside its place, and put there when it is complete."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobcard.errors import BackupError, ConfigError

MODE = 0o600
"""Whoever reads a backup reads every argument of every job."""


@contextmanager
def fresh_file(
    path: Path, *, overwrite: bool, may_go: Callable[[Path], bool], check: Callable[[Path], object]
) -> Iterator[Callable[[bytes], None]]:
    """Yields what to call with each piece of the file; at the end it stands at `path`, unless something was raised.

    overwrite: a file that is there goes, if `may_go` says so of it; until then it stays as it is. check: looks at the
    complete file before it takes its place. `ConfigError` for a place that is taken, `BackupError` for a file that
    cannot be written.
    """
    _check_place(path, overwrite, may_go)
    beside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.part")
    try:
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            os.fchmod(file, MODE)
            yield lambda piece: _write(file, piece)
            os.fsync(file)
        finally:
            os.close(file)
        check(beside)
        # Something else may stand there by now.
        _check_place(path, overwrite, may_go)
        _put(beside, path, overwrite)
        _sync_directory(path.parent)
    except OSError as error:
        raise BackupError(f"the file {str(path)!r} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            beside.unlink()


def _check_place(path: Path, overwrite: bool, may_go: Callable[[Path], bool]) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise BackupError(f"the file {str(path)[:200]!r} cannot be written: {error}") from error
    if not stat.S_ISREG(mode):
        what = "a symbolic link" if stat.S_ISLNK(mode) else "a directory" if stat.S_ISDIR(mode) else "no ordinary file"
        raise ConfigError(f"{str(path)!r} is {what}: name a file that is to be made")
    if not overwrite:
        raise ConfigError(f"the file {str(path)!r} is there already: name another, or say overwrite")
    if not may_go(path):
        raise ConfigError(f"the file {str(path)!r} is no backup, and is not overwritten")


def _write(file: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(file, left) :]


def _put(beside: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        beside.replace(path)
        return
    try:
        os.link(beside, path)  # takes the place only if it is free, whoever else wants it
    except FileExistsError:
        raise ConfigError(f"the file {str(path)!r} is there already: name another, or say overwrite") from None
    except OSError:
        beside.rename(path)  # a file system without links


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
