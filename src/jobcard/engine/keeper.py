"""The tiny parent: starts the engine, restarts it, adopts and kills whatever it leaves behind.

It imports neither user code nor a driver, so nothing a job or a store does can hurt it.

    keeper → engine   one JSON line: the boot document; later "stop" lines: the first to drain, the second at once
    engine → keeper   JSON lines: {"owner", "lease", "stop_timeout", "safe"} · {"ready"} · {"safe": monotonic seconds}
                      {"alive"} · {"rescued": [owners]} · {"fatal": text, "code": exit code}
                      {"stopping"}: an operator told it to, so no other is started after it

What a job started ends with its worker: whatever becomes ours while the engine lives has lost its own parent and
is killed within a second, with its group if it leads one. When an engine ends, every process below it is killed and
waited for before the next one starts: the next one is told the dead one's owner id and takes its jobs over at once,
since nobody runs them any more.

SIGTERM, SIGINT   stop: what runs may end; a second one stops at once
SIGHUP            the terminal is gone: stop as gently as at first, however often it comes; ignored under `nohup`

All of this holds for a process 1 too, in a container without an init: every orphan comes to us, is ended and reaped.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from jobcard.engine import exits
from jobcard.engine.notify import manager_of_this_process
from jobcard.engine.shares import UNSAFE_SHARE
from jobcard.workers.death import adopt_orphans

TYPE_CHECKING = False  # see jobcard/__init__.py
if TYPE_CHECKING:
    from typing import Any

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - tiny
_ENGINE = f"import sys; sys.path.append({_ROOT!r}); from jobcard.engine.engine import main; main()"

HUNG_SECONDS = 30.0  # an engine that says nothing for so long, and is not stopped by somebody, is started anew
HEALTHY_SECONDS = 5.0  # an engine that was ready for so long may be started anew at once when it ends
FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.25, 30.0
PARENT_GONE_SECONDS = 1.5


class Keeper:
    """One engine at a time, from the first to the last."""

    def __init__(
        self, boot: dict[str, Any], *, report: Callable[[dict[str, Any]], None], lifeline: int | None = None
    ) -> None:
        """report: hears "ready" and "failed". lifeline: a descriptor that ends when our parent does."""
        self._boot = boot
        self._report = report
        self._lifeline = lifeline
        self._engine: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._heard = b""
        self._owner: str | None = None
        self._dead_owners: list[str] = []
        self._lease = 60.0
        self._stop_timeout = 25.0
        self._safe = 0.0
        self._alive = 0.0
        self._ready_at: float | None = None
        self._ever_ready = False
        self._back_off = 0.0
        self._start_at = 0.0
        self._signals = 0
        self._kill_at: float | None = None
        self._fatal: tuple[int, str] | None = None
        self._elders: set[int] = set()
        self._manager = manager_of_this_process()

    def run(self) -> int:
        """Keep an engine running until told to stop; the exit code."""
        self._elders = set(_own_children())  # not ours to kill: who started us may have left them
        adopt_orphans()
        waker, woken = os.pipe()
        for fd in (waker, woken):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, lambda *_: None)
        try:
            while True:
                now = time.monotonic()
                if self._engine is None and now >= self._start_at:
                    self._start(now)
                sources = [source for source in (waker, self._lifeline, self._sock) if source is not None]
                ready = select.select(sources, (), (), self._patience(now))[0]
                if waker in ready:
                    self._on_signals(os.read(waker, 512))
                if self._sock in ready:
                    self._hear()
                if self._lifeline is not None and self._lifeline in ready and not os.read(self._lifeline, 512):
                    self._parent_gone()
                self._watch(time.monotonic())
                code = self._reap()
                if code is not None:
                    return code
        finally:
            self._kill_everything()

    # -------------------------------------------------------------- the engine

    def _start(self, now: float) -> None:
        try:
            ours, engine = self._spawn()
        except OSError as error:
            self._start_again(now, f"no engine can be started ({error})")
            return
        self._engine = engine
        boot = {**self._boot, "dead_owners": self._dead_owners, "again": self._ever_ready, "keeper_pid": os.getpid()}
        with contextlib.suppress(OSError):
            ours.sendall(json.dumps(boot).encode() + b"\n")
        ours.setblocking(False)
        self._sock = ours
        self._heard = b""
        self._ready_at = None
        self._safe = self._alive = now

    @staticmethod
    def _spawn() -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            engine = subprocess.Popen(
                [sys.executable, "-P", "-c", _ENGINE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # Of its own session, so that Ctrl-C in a terminal reaches the keeper alone.
                start_new_session=True,
            )
            undo.pop_all()
            return ours, engine

    def _hear(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._sock.close()
            self._sock = None
            return
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self._heed(json.loads(line))

    def _heed(self, word: dict[str, Any]) -> None:
        self._alive = time.monotonic()
        if "alive" in word:
            self._kill_orphans()
        if "owner" in word:
            self._owner = word["owner"]
            self._lease = word["lease"]
            self._stop_timeout = word["stop_timeout"]
        if "safe" in word:
            self._safe = word["safe"]
        if "rescued" in word:
            self._dead_owners = [owner for owner in self._dead_owners if owner not in word["rescued"]]
        if "stopping" in word and not self._signals:
            self._stop(tell_engine=False)
        if "fatal" in word:
            self._fatal = (word["code"], word["fatal"])
        if "ready" in word:
            self._ready_at = time.monotonic()
            if not self._ever_ready:
                self._ever_ready = True
                self._report({"ready": word["ready"], "engine_pid": self._engine.pid if self._engine else None})
                self._manager.say("READY=1")
            self._manager.say(f"STATUS=engine {word['ready']} takes jobs")

    def _kill_orphans(self) -> None:
        engine = self._engine.pid if self._engine else 0
        for pid in _own_children():
            if pid != engine and pid not in self._elders:
                _kill_orphan(pid)

    def _reap(self) -> int | None:
        """Take note of what ended; the exit code if that was the end of everything."""
        ended: int | None = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if self._engine is not None and pid == self._engine.pid:
                ended = os.waitstatus_to_exitcode(status)
                self._engine.returncode = ended
        return None if ended is None else self._engine_ended(ended)

    def _engine_ended(self, code: int) -> int | None:
        if self._sock is not None:
            while self._sock is not None and select.select((self._sock,), (), (), 0)[0]:
                self._hear()
            if self._sock is not None:
                self._sock.close()
                self._sock = None
        self._engine = None
        self._kill_everything()
        if self._owner is not None and code != 0:
            self._dead_owners.append(self._owner)
        self._owner = None
        if self._fatal is not None and not self._ever_ready:
            self._report({"failed": self._fatal[1], "code": self._fatal[0]})
            return self._fatal[0]
        if self._signals:
            return exits.INTERRUPTED if self._signals > 1 else code if code >= 0 else exits.FAILED
        why = self._fatal[1] if self._fatal is not None else _status(code)
        self._fatal = None
        now = time.monotonic()
        if self._ready_at is not None and now - self._ready_at >= HEALTHY_SECONDS:
            self._back_off = 0.0
        self._start_again(now, f"the engine ended ({why})")
        return None

    def _start_again(self, now: float, why: str) -> None:
        self._start_at = now + self._back_off
        with contextlib.suppress(OSError):  # nobody may be left to read it
            print(f"jobcard: {why}; starting another in {self._back_off:g} s", file=sys.stderr, flush=True)
        self._manager.say(f"STATUS={why}; starting another")
        self._back_off = min(LONGEST_BACK_OFF, max(FIRST_BACK_OFF, 2 * self._back_off))

    # -------------------------------------------------------------- watching

    def _patience(self, now: float) -> float:
        at = now + 5.0
        if self._engine is None:
            at = min(at, self._start_at)
        elif self._owner is not None:
            at = min(at, max(self._safe + UNSAFE_SHARE * self._lease, now + 0.2))
        if self._kill_at is not None:
            at = min(at, self._kill_at)
        at = min(at, self._manager.next_beat())
        return max(0.0, at - now)

    def _watch(self, now: float) -> None:
        # An engine that stops says nothing more of itself; its end is our business then.
        self._manager.beat(now, now if self._signals else self._alive)
        if self._engine is None:
            return
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._engine.kill()
            return
        if self._owner is None:
            return
        if now - self._safe >= UNSAFE_SHARE * self._lease:
            # Its claims end soon elsewhere: nobody may still run them by then, whatever the engine does.
            for pid in _below(self._engine.pid):
                _kill_group(pid, spared=self._engine.pid)
            self._kill_orphans()
        if now - self._alive >= HUNG_SECONDS and not _is_stopped(self._engine.pid):
            self._engine.kill()

    # -------------------------------------------------------------- the end

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT) or (number == signal.SIGHUP and not self._signals):
                self._stop()

    def _stop(self, *, tell_engine: bool = True) -> None:
        self._signals += 1
        self._manager.say("STOPPING=1", "STATUS=stopping")
        if self._engine is None:
            self._start_at = float("inf")
            raise SystemExit(exits.INTERRUPTED if self._signals > 1 else exits.OK)
        # A line and not a signal: two signals in one breath are one.
        if self._sock is not None and tell_engine:
            with contextlib.suppress(OSError):
                self._sock.send(b"stop\n")
        patience = self._stop_timeout + 2.0 if self._signals == 1 else PARENT_GONE_SECONDS
        self._kill_at = time.monotonic() + patience

    def _parent_gone(self) -> None:
        self._lifeline = None
        self._stop()
        if self._signals == 1:
            self._stop()

    def _kill_everything(self) -> None:
        """Kill every process below us and wait until none is left; as a sub-reaper all of them become ours."""
        while left := [pid for pid in _children_of(os.getpid()) if pid not in self._elders]:
            for pid in left:
                _kill_group(pid)
            for pid in left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)


# ------------------------------------------------------------------ processes


def _families() -> dict[int, list[int]]:
    """The children of every process that has some."""
    families: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - no pathlib here, for size
        if name.isdigit():
            families.setdefault(_stat(int(name))[1], []).append(int(name))
    return families


def _children_of(parent: int) -> list[int]:
    return _families().get(parent, [])


def _below(ancestor: int) -> list[int]:
    """Every process below one: its children first, then theirs, as those of a template are."""
    families = _families()
    found = list(families.get(ancestor, ()))
    for pid in found:
        found += families.get(pid, ())
    return found


def _own_children() -> list[int]:
    """The processes whose parent we are; one small read, made every second."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:  # noqa: PTH123
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return _children_of(os.getpid())  # a kernel without that file


def _stat(pid: int) -> tuple[str, int]:
    """(state, parent) of a process; ("", 0) when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            # The name stands in brackets and may hold anything, brackets included.
            state, parent = file.read().rpartition(b")")[2].split()[:2]
        return state.decode(), int(parent)
    except (OSError, ValueError):
        return "", 0


def _is_stopped(pid: int) -> bool:
    return _stat(pid)[0] in ("T", "t")


def _kill_group(pid: int, *, spared: int = 0) -> None:
    # Never our own group, nor that of who is spared: the child may not have made its own yet.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) not in (os.getpgid(0), os.getpgid(spared)):
            os.killpg(os.getpgid(pid), signal.SIGKILL)
    _kill(pid)


def _kill_orphan(pid: int) -> None:
    # Another's group may be that of a living worker, which started it, does not know it any more, and goes on.
    # What a dead worker left in its group has died with it; and whoever is left without a parent now is next.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    _kill(pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _status(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def main() -> None:
    """Be the keeper of an application: boot document on standard input, reports on standard output."""
    line = bytearray()
    while not line.endswith(b"\n"):
        data = os.read(0, 1 << 16)
        if not data:
            os._exit(exits.FAILED)
        line += data
    os.set_blocking(0, False)

    def report(word: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(1, json.dumps(word).encode() + b"\n")

    os._exit(Keeper(json.loads(line), report=report, lifeline=0).run())
