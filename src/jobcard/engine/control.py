"""Start an engine beside the calling process, or in its place: what `jobs.start()` and `jobs.run()` do."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from jobcard.core.reference import AppReference
from jobcard.core.settings import Settings, settings_to_plain
from jobcard.engine import exits
from jobcard.engine.once import Place
from jobcard.errors import ConfigError, JobcardError, StoreError

_ROOT = str(Path(__file__).resolve().parents[2])
_KEEPER = f"import sys; sys.path.append({_ROOT!r}); from jobcard.engine.keeper import main; main()"

GIVE_UP_SECONDS = 5.0
START_SECONDS = 120.0  # an application may take its time to import


def boot_document(
    reference: AppReference,
    *,
    settings: dict[str, Any],
    only_queues: list[str] | None = None,
    logging: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What a keeper hands to each engine it starts. settings: those that overrule the application's own."""
    return {
        "reference": {**reference._asdict(), "imports": list(reference.imports)},
        "settings": settings,
        "only_queues": only_queues,
        "logging": logging or {},
        "sys_path": [str(Path(entry).absolute()) if entry else str(Path.cwd()) for entry in sys.path],
        "argv": list(sys.argv),
    }


_handles: weakref.WeakSet[KeeperHandle] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked child that kept the lifeline open would keep the engine alive after our end.
    for handle in list(_handles):
        handle.close_pipes()


os.register_at_fork(after_in_child=_forget_in_child)


class KeeperHandle:
    """A keeper that runs beside this process and ends with it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        _handles.add(self)

    @property
    def pid(self) -> int:
        """The keeper's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def stop(self, timeout: float | None = None) -> int:
        """Drain and end it; a second SIGTERM when it has not ended in time. The exit code."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            self._process.wait()
        self.close_pipes()
        return self._process.returncode

    def wait(self) -> int:
        """Wait until it ends; the exit code."""
        code = self._process.wait()
        self.close_pipes()
        return code

    def give_up(self) -> None:
        """End it without a word: it did not become ready."""
        self.close_pipes()  # it takes that as our end
        try:
            self._process.wait(GIVE_UP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close_pipes(self) -> None:
        """Close our ends; the keeper takes that as the end of this process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def start_keeper(settings: Settings, reference: AppReference, *, place: Place | None = None) -> KeeperHandle:
    """Start a keeper and its engine; returns when the engine is ready, raises why it cannot be.

    place: what the keeper holds from now on, as long as it lives (see `once.py`).
    """
    return launch_keeper(boot_document(reference, settings=settings_to_plain(settings)), place=place)


def launch_keeper(boot: dict[str, Any], *, place: Place | None = None) -> KeeperHandle:
    """The same for a boot document that is made already."""
    with contextlib.ExitStack() as undo:
        if place is not None:
            undo.callback(place.leave)  # what the keeper inherited stays
        process = subprocess.Popen(
            # -S: nothing that is installed runs in the keeper, no .pth file either.
            [sys.executable, "-P", "-S", "-c", _KEEPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=() if place is None else (place.fd,),
            start_new_session=True,
        )
        if place is not None:
            place.sign(process.pid)
    handle = KeeperHandle(process)
    assert process.stdin is not None and process.stdout is not None
    try:
        # The pipe stays open: its end tells the keeper that we are gone.
        process.stdin.write(json.dumps(boot).encode() + b"\n")
        process.stdin.flush()
        word = _first_word(process)
    except BaseException:
        process.kill()
        handle.wait()
        raise
    if "ready" in word:
        return handle
    handle.give_up()
    text, code = word["failed"], word["code"]
    raise {exits.USAGE: ConfigError, exits.STORE: StoreError}.get(code, JobcardError)(text)


def _first_word(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    until = time.monotonic() + START_SECONDS
    heard = b""
    while b"\n" not in heard:
        left = until - time.monotonic()
        if left <= 0 or not select.select((process.stdout,), (), (), left)[0]:
            return {"failed": f"no engine was ready after {START_SECONDS:g} s", "code": exits.FAILED}
        data = os.read(process.stdout.fileno(), 1 << 16)
        if not data:
            return {"failed": "the engine's keeper ended before it was ready", "code": exits.FAILED}
        heard += data
    word: dict[str, Any] = json.loads(heard.split(b"\n")[0])
    return word


def run_foreground(settings: Settings, reference: AppReference, *, place: Place | None = None) -> int:
    """Run an engine until SIGTERM or SIGINT; the exit code. The signals go on to the keeper."""
    handle = start_keeper(settings, reference, place=place)
    if threading.current_thread() is not threading.main_thread():
        return handle.wait()

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(handle.pid, number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return handle.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
