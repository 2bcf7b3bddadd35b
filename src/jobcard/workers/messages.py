"""What crosses the pipe between an engine and a worker.

    frame: 4 bytes length | 4 bytes CRC-32 | msgpack list [kind, ...]      (big endian)

    engine → worker   [BOOT, {sys_path, argv, reference, store, …}]
                      [JOBS, [[seq, claimed], …]]                 in the order they may start
                      [REPLY, call, error | nil, answer]          answer: msgpack of the verb's return value
                      [STOP]                                      end when nothing is left to do
                      [SHARE]                                     from now on run jobs side by side
                      [CANCEL, seq, why, reason]                  a job of a sharing worker shall end (see WHY)
    worker → engine   [HELLO, {settings, names, schedules: [[name, text], …], has_farewell}]
                      [IMPORT_FAILED, {message, module, line, traceback}]
                      [DONE, seq, started, ended, result]         result: JSON text
                      [FOLLOWED, seq, started, ended, result, [new job, …]]   returned, with follow-ups to store
                      [ENDED, seq, started, ended, {kind, reason, delay, error, error_kind}]
                      [STARTED, [[seq, started], …]]              a sharing worker began these
                      [NOTE, seq, {progress, checkpoint, lines: [[at, text], …]}, call | nil]
                                                                  progress, checkpoint: stored text or nil;
                                                                  REPLY to `call` when it is stored
                      [CALL, call, verb, arguments]               a store verb the job's code asked for

Times are CLOCK_MONOTONIC seconds, one clock for all processes of a host. A job may start only after the worker
has read its 4-byte number from the permit pipe: what the engine reads back from that pipe was not and will not
be started.
"""

from __future__ import annotations

import struct
import zlib
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

(BOOT, JOBS, REPLY, STOP, SHARE, CANCEL, HELLO, IMPORT_FAILED, DONE, FOLLOWED, ENDED, STARTED, NOTE, CALL) = range(14)


class Why(StrEnum):
    """Why a running job is told to end."""

    CANCEL = "cancel"
    """Somebody canceled it."""
    STOP = "stop"
    """Its engine stops: it goes back in line, its attempt returned."""
    LOST = "lost"
    """Its engine could not renew the claim; another may run it soon."""
    TIMEOUT = "timeout"
    """Its time is up (told to sharing workers only: others are killed)."""


MAX_FRAME = 64 << 20
PERMIT = struct.Struct(">I")
LAST_PERMIT = 0xFFFF_FFFF

_HEADER = struct.Struct(">II")
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class BadFrameError(Exception):
    """What came through the pipe is not ours: the job wrote on our descriptor, or its memory is gone."""


def encode(message: list[Any] | tuple[Any, ...]) -> bytes:
    """One message as a frame."""
    body = _pack(message)
    return _HEADER.pack(len(body), zlib.crc32(body)) + body


class Exit(NamedTuple):
    """How a worker process ended. code: its exit status, negative for a signal; None: not known."""

    code: int | None
    output: str
    """The last 16 KiB of what it printed."""

    @property
    def is_lost(self) -> bool:
        """Whether nobody knows how it ended: it went with the template it was forked from, no job is to blame."""
        return self.code is None


class Inbox:
    """Bytes as they arrive, frames as they are whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[list[Any]]:
        """Add bytes; the messages that are whole now. `BadFrameError` when they are not ours."""
        buffer = self._buffer
        buffer += data
        messages: list[list[Any]] = []
        at, end = 0, len(buffer)
        with memoryview(buffer) as view:
            while end - at >= _HEADER.size:
                length, checksum = _HEADER.unpack_from(buffer, at)
                if length > MAX_FRAME:
                    raise BadFrameError(f"a frame of {length} bytes")
                start, at = at + _HEADER.size, at + _HEADER.size + length
                if at > end:
                    at = start - _HEADER.size
                    break
                with view[start:at] as body:
                    messages.append(_open(body, checksum))
        del buffer[:at]
        return messages


def _open(body: memoryview, checksum: int) -> list[Any]:
    if zlib.crc32(body) != checksum:
        raise BadFrameError("wrong checksum")
    try:
        message = _unpack(body)
    except msgspec.DecodeError as error:
        raise BadFrameError("not msgpack") from error
    if not isinstance(message, list) or not message:
        raise BadFrameError("not a message")
    return message
