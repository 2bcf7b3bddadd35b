"""What the service manager hears of us: systemd's protocol, one datagram for each word.

READY=1        the first exchange with the store has come through
STATUS=…       what we do now, for `systemctl status`
WATCHDOG=1     every half of the time that systemd allows, while the engine says that it is alive
STOPPING=1     at the first signal
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

SEND_SECONDS = 1.0
ENGINE_SILENCE = 3.0  # seconds: an engine says every second that it is alive


class ServiceManager:
    """systemd, or nobody where $NOTIFY_SOCKET is not set."""

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        """pid: who we are; a watchdog set for another process is none of ours."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        watched = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        allowed = environment.get("WATCHDOG_USEC", "") if watched and self._address else ""
        self._interval = int(allowed) / 2e6 if allowed.isdecimal() else 0.0
        self._beat_at = 0.0

    def say(self, *words: str) -> None:
        """Say something, if there is somebody who listens."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(SEND_SECONDS)  # a manager that does not read must not stop us
            sock.sendto("\n".join(" ".join(word.split()) for word in words).encode(), address)

    def next_beat(self) -> float:
        """When the watchdog is to be fed, in monotonic seconds."""
        return self._beat_at if self._interval else float("inf")

    def beat(self, now: float, alive: float) -> None:
        """Feed the watchdog if it is time and the engine is well. alive: when it last said so."""
        if now < self.next_beat():
            return
        self._beat_at = now + self._interval
        if now - alive <= max(ENGINE_SILENCE, self._interval):
            self.say("WATCHDOG=1")


def manager_of_this_process() -> ServiceManager:
    """The service manager that started us."""
    return ServiceManager(os.environ, os.getpid())
