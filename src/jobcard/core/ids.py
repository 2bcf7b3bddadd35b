"""Job ids: UUIDv7, rising within a process. Below the client an id is its 16 bytes."""

from __future__ import annotations

import os
import threading
import time
from uuid import UUID

from jobcard.errors import JobNotFoundError

_COUNTER_BITS = 42  # 12 bits in rand_a, 30 in rand_b: 2^41 ids a millisecond before it borrows from the next
_COUNTER_LIMIT = 1 << _COUNTER_BITS


class IdSource:
    """Makes UUIDv7 ids that rise within this process, even if the clock steps back or the process forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # A forked child must not repeat its parent's ids.
        self._lock = threading.Lock()
        self._millis = 0
        self._counter = 0

    def take(self, count: int) -> list[bytes]:
        """The next `count` ids, rising."""
        noise = os.urandom(4 * count + 6)
        now = time.time_ns() // 1_000_000
        ids = []
        with self._lock:
            if now > self._millis:
                self._millis = now
                # Half the range is left free, so that a burst has room to count up.
                self._counter = int.from_bytes(noise[-6:], "big") >> 7
            for place in range(count):
                self._counter += 1
                if self._counter >= _COUNTER_LIMIT:
                    self._millis += 1
                    self._counter = 0
                counter = self._counter
                value = (
                    self._millis << 80
                    | 0x7 << 76
                    | (counter >> 30) << 64
                    | 0b10 << 62
                    | (counter & 0x3FFFFFFF) << 32
                    | int.from_bytes(noise[4 * place : 4 * place + 4], "big")
                )
                ids.append(value.to_bytes(16, "big"))
        return ids


def follow_up_id(parent: bytes, place: int) -> bytes:
    """The id of a job's follow-up number `place`: the same at every try, a UUIDv7 of the parent's moment."""
    return _id_made_of(parent[:6], parent + place.to_bytes(4, "big"))


def tick_id(key: str, tick: int) -> bytes:
    """The id of the job of a tick: the same whoever makes it, a UUIDv7 of the tick's moment. key: see `tick_key`."""
    return _id_made_of((tick // 1000).to_bytes(6, "big"), key.encode())


def moment_of(job_id: bytes) -> int:
    """The instant in an id, to the millisecond."""
    return int.from_bytes(job_id[:6], "big") * 1000


def _id_made_of(moment: bytes, told: bytes) -> bytes:
    from hashlib import sha256  # 5 ms to import, and most processes never need it

    noise = sha256(told).digest()
    version, variant = 0x70 | noise[6] & 0x0F, 0x80 | noise[8] & 0x3F
    return moment + bytes((version, noise[7], variant)) + noise[9:16]


def parse_id(value: object) -> bytes:
    """An id as users give it (UUID, its text) as 16 bytes; `JobNotFoundError` if it is none."""
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, str) and len(value) in (32, 36):
        try:
            return UUID(value).bytes
        except ValueError:
            pass
    raise JobNotFoundError(value)
