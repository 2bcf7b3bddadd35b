"""Running the `jobcard` command on a terminal of a given width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

from helpers.apps import App, Ran
from helpers.waiting import PATIENCE

PROGRAM = str(Path(sys.executable).with_name("jobcard"))
"""The installed command."""

# Of its own session, with this terminal as the one whose Ctrl-C it hears.
_ON_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where tests run in the background
os.execv(sys.argv[1], sys.argv[1:])
"""
_STYLES = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(
    app: App,
    *arguments: str,
    columns: int,
    answer: str = "",
    until: str = "",
    env: Mapping[str, str] | None = None,
    color: bool = False,
    timeout: float = PATIENCE,
) -> Ran:
    """What `jobcard …` shows on a terminal, standard output and error together.

    answer: typed when it asks something, and the same again at the next question. until: what must have been shown
    for `answer` to be typed, once, instead of a question.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    settings = {**app.environment(), "TERM": "xterm-256color", **(env or {})}
    if color:
        settings.pop("NO_COLOR", None)
    settings.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _ON_TERMINAL, PROGRAM, *arguments],
        cwd=app.directory,
        env=settings,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    shown = bytearray()
    end = time.monotonic() + timeout
    try:
        while time.monotonic() < end:
            heard = select.select((master,), (), (), 0.5)[0]
            if heard:
                # Linux answers with EIO when nobody has the other side open any more.
                shown += os.read(master, 1 << 16)
            if until:
                if until.encode() in shown:
                    os.write(master, answer.encode())
                    answer = until = ""
            elif answer and shown.endswith((b": ", b"^C")) and not (heard and shown.endswith(b"^C")):
                # Again after a silence: a Ctrl-C right between its prompt and its read is not heard by Python.
                os.write(master, answer.encode())
    except OSError:
        pass
    finally:
        os.close(master)
        if time.monotonic() >= end:
            process.kill()
    text = shown.decode("utf-8", "replace").replace("\r\n", "\n")
    return Ran(process.wait(PATIENCE), text, "")


def without_styles(text: str) -> str:
    """The text a reader sees."""
    return _STYLES.sub("", text)
