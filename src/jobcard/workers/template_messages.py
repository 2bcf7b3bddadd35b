"""What crosses the socket between an engine and its template, the process that workers are forked from.

    engine → template   [BOOT, {…}]              what to import, as a worker is told it
                        [FORK, number]           with the worker's ends: socket, permits, board, output
                        [REAP, number]           its end is dealt with: its process id may be used again
    template → engine   [READY]                  the application is imported
                        [CANNOT, why]            no worker will be forked from now on
                        [FORKED, number, pid]    with a pidfd
                        [REFUSED, number, why]   this one could not be forked
                        [EXITED, number, code]   it is dead and not yet reaped; code as in `messages.Exit`

A SOCK_SEQPACKET pair: each message is one packet, its descriptors come with it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

import msgspec

(BOOT, FORK, REAP, READY, CANNOT, FORKED, REFUSED, EXITED) = range(8)

MOST_BYTES = 1 << 18
MOST_DESCRIPTORS = 4

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Any]).decode


class GoneError(Exception):
    """The other side has closed its end, or says what nobody understands."""


def send(sock: socket.socket, message: Sequence[Any], fds: Sequence[int] = ()) -> None:
    """Say something, whole; OSError when it cannot be said."""
    if fds:
        socket.send_fds(sock, [_pack(message)], list(fds))
    else:
        sock.send(_pack(message))


def receive(sock: socket.socket) -> tuple[list[Any], list[int]]:
    """What comes next and the descriptors with it; BlockingIOError when nothing is there, `GoneError` at the end."""
    try:
        data, fds, _flags, _address = socket.recv_fds(sock, MOST_BYTES, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        raise
    except OSError as error:
        raise GoneError from error
    if not data:
        raise GoneError
    try:
        return _unpack(data), fds
    except msgspec.MsgspecError as error:
        for fd in fds:
            os.close(fd)
        raise GoneError from error
