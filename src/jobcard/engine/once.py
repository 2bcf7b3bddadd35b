"""One engine of a store and an application on a host, however many processes call `jobs.start()` at once.

The engine's place is a file in a directory of this user's own. Whoever locks it starts an engine, and its keeper
holds the lock for its life: it inherits the open file. The others wait until that engine is ready, and stand by: when
the lock is free again, because the process the engine belonged to has ended, one of them starts the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from jobcard.core.reference import AppReference
from jobcard.errors import ConfigError, JobcardError

log = logging.getLogger("jobcard.client")

START_SECONDS = 120.0  # another process's engine may take its time to import the application
LOOK_SECONDS = 0.05  # how often to look whether it is ready
STANDBY_SECONDS = 0.5  # how often those who stand by try the lock
LONGEST_PAUSE = 60.0  # between tries to start an engine that cannot be started


class Keeper(Protocol):
    """What was started: `control.KeeperHandle`."""

    @property
    def running(self) -> bool: ...

    def stop(self, timeout: float | None = None) -> int: ...


# ------------------------------------------------------------------ the lock

_ours: set[int] = set()
"""Open lock files of this process; a forked child closes them, or it would hold the lock for its own life."""
_opening = threading.Lock()


class Place:
    """The locked place of one engine; it stays taken while any process has this file open."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def sign(self, keeper: int) -> None:
        """Write down whose engine is there, for those who wait until it is ready."""
        os.pwrite(self.fd, f"{keeper}\n".encode(), 0)

    def leave(self) -> None:
        """Close it here; free, unless a keeper has inherited it."""
        with _opening:
            if self.fd in _ours:
                _ours.discard(self.fd)
                os.close(self.fd)


def find_place(identity: str, reference: AppReference) -> Path:
    """The file that stands for the engine of this store and application; `ConfigError` when it cannot be safe."""
    module = sys.modules.get(reference.module or "")
    code = reference.path or getattr(module, "__file__", None)
    # The code's place and not its name: a script that is started and imported is the same, two releases are not.
    where = os.path.realpath(code) if code else reference.module
    key = hashlib.sha256("\0".join((identity, str(where), reference.attribute)).encode()).hexdigest()
    return _own_directory() / f"engine-{key[:32]}.lock"


def _own_directory() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and _is_own(Path(runtime)):
        path = Path(runtime) / "jobcard"
    else:
        path = Path(tempfile.gettempdir()) / f"jobcard-{os.getuid()}"
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700)
    if not _is_own(path):
        raise ConfigError(
            f"{path} must be a directory of this user alone (mode 0700, no symbolic link), since it says where engines "
            "run: remove it, or set XDG_RUNTIME_DIR or TMPDIR to a directory of your own"
        )
    return path


def _is_own(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def try_place(path: Path) -> Place | None:
    """Lock the place; None: an engine is there, or about to be."""
    with _opening:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"{path} cannot be opened: {error.strerror}") from error
        _ours.add(fd)
    place = Place(fd)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)  # whoever was there is gone
            if _is_still(path, fd):
                return place
    except BlockingIOError:
        pass
    except BaseException:
        place.leave()
        raise
    place.leave()
    return None


def _is_still(path: Path, fd: int) -> bool:
    # Somebody may have cleaned up between our opening and locking it: then another file has that name.
    try:
        found, ours = path.lstat(), os.fstat(fd)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def keeper_at(path: Path) -> int | None:
    """The process id of the keeper that has the place; None: it has not signed yet."""
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _before_fork() -> None:
    _opening.acquire()


def _in_parent() -> None:
    _opening.release()


def _in_child() -> None:
    global _opening
    for fd in _ours:
        with contextlib.suppress(OSError):
            os.close(fd)
    _ours.clear()
    _opening = threading.Lock()


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


# ------------------------------------------------------------------ starting, and standing by


class OneEngine:
    """This process's part in there being one engine: its own, or the wish to start the next."""

    def __init__(self, path: Path, start: Callable[[Place], Keeper], is_ready: Callable[[int], bool]) -> None:
        """start: start a keeper that holds this place. is_ready: whether the engine of this keeper is."""
        self._path = path
        self._start = start
        self._is_ready = is_ready
        self._keeper: Keeper | None = None
        self._lock = threading.Lock()  # guards _keeper, and that none is started after the end
        self._over = threading.Event()
        self._standby: threading.Thread | None = None

    def begin(self) -> None:
        """Start the engine, or wait until somebody's is ready and stand by; raises why there is none."""
        until = time.monotonic() + START_SECONDS
        while not self._start_if_free():
            keeper = keeper_at(self._path)
            if keeper is not None and self._is_ready(keeper):
                self._standby = threading.Thread(target=self._stand_by, name="jobcard-standby", daemon=True)
                self._standby.start()
                return
            if time.monotonic() > until:
                raise JobcardError(
                    f"another process has begun to start an engine, but none was ready after {START_SECONDS:g} s"
                )
            time.sleep(LOOK_SECONDS)

    @property
    def running(self) -> bool:
        """Whether our engine runs, or we would start one."""
        with self._lock:
            if self._keeper is not None:
                return self._keeper.running
        return self._standby is not None and not self._over.is_set()

    def stop(self, timeout: float) -> None:
        """Stop the engine if it is ours, and stand by no more."""
        self._over.set()
        with self._lock:  # also: not while the other thread starts one
            keeper = self._keeper
        if keeper is not None:
            keeper.stop(timeout)
        if self._standby is not None and self._standby is not threading.current_thread():
            self._standby.join()

    def _start_if_free(self) -> bool:
        with self._lock:
            if self._over.is_set():
                return True
            place = try_place(self._path)
            if place is None:
                return False
            self._keeper = self._start(place)
            return True

    def _stand_by(self) -> None:
        pause = STANDBY_SECONDS
        while not self._over.wait(pause):
            try:
                if self._start_if_free():
                    return
                pause = STANDBY_SECONDS
            except Exception as error:
                pause = min(2 * pause, LONGEST_PAUSE)
                log.error("no engine runs on this host, and none can be started: %s; again in %g s", error, pause)
