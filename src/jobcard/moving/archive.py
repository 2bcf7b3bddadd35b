"""The file of a backup: what is in it, how it is written, and what is checked before anything of it is believed.

It is a gzip file of JSON lines, so that any tool can read it: `zcat shop.backup | head`.

    header        {"jobcard_backup": 1, …, "columns": [names of the fields of a row]}
    ["record", kind, key, value]                    queues, how far schedules are, schedules
    ["job", row, tries, log lines]                  by ascending id, so that none is there twice
    ["once", key, id of its job, until]
    ["end", jobs, records, once keys, [ids of jobs that could not be read]]

Behind it stands a second, empty gzip member whose header carries the SHA-256 of every byte before it.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import msgspec

from jobcard.core.job import JobRow, OnceKey
from jobcard.core.states import JobState
from jobcard.errors import BackupError
from jobcard.moving.whole import RECORDS, PlainJob

VERSION = 1
MAX_LINE = 64 << 20
"""Bytes of the longest line: more than a job can have, and little enough to be held while it is looked at."""

# RFC 1952: magic, deflate, a comment follows; no time, any system.
START = b"\x1f\x8b\x08\x10\0\0\0\0\0\xff" + b"jobcard backup\0"
# The same with an extra field of 36 bytes: "JC", its length, the sum. Then an empty body, its CRC and length.
_BEFORE_SUM = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + b"\x24\0" + b"JC\x20\0"
_BEHIND_SUM = b"\x03\0" + bytes(8)
_END_SIZE = len(_BEFORE_SUM) + 32 + len(_BEHIND_SUM)

_LEVEL = 4
_READ_AT_ONCE = 256 << 10
_PLAIN_AT_ONCE = 1 << 20
_WHOLE_NUMBERS = range(-(1 << 63), 1 << 63)
"""What every store can keep as a number."""


class Header(msgspec.Struct, forbid_unknown_fields=True):
    """The first line. made_at: ISO 8601, by the store's clock. made_by: a version of jobcard. store: which kind."""

    jobcard_backup: int
    made_at: str
    made_by: str
    store: str
    columns: list[str]


class RecordLine(msgspec.Struct, array_like=True, tag="record", forbid_unknown_fields=True):
    """A small record."""

    kind: str
    key: str
    value: str


class OnceLine(msgspec.Struct, array_like=True, tag="once", forbid_unknown_fields=True):
    """A once key in force."""

    key: str
    job_id: bytes
    until: int

    def whole(self) -> OnceKey:
        """As stores have it."""
        return OnceKey(self.key, self.job_id, self.until)


class EndLine(msgspec.Struct, array_like=True, tag="end", forbid_unknown_fields=True):
    """The last line: how many there are of each, and the jobs of the store that could not be read."""

    jobs: int
    records: int
    once_keys: int
    unreadable: list[bytes]


Line = RecordLine | PlainJob | OnceLine
_ORDER = (RecordLine, PlainJob, OnceLine, EndLine)
_AnyLine = RecordLine | PlainJob | OnceLine | EndLine
_decode = msgspec.json.Decoder(_AnyLine).decode
_encode = msgspec.json.Encoder().encode


_LATER = ("waits_for",)
"""Fields that backups of earlier versions lack: None in their jobs."""
_EARLIER = tuple(name for name in JobRow._fields if name not in _LATER)


def _decode_earlier(text: bytes) -> _AnyLine:
    plain = msgspec.json.decode(text)
    match plain:
        case ["job", [*row], *_]:
            for name in _LATER:
                row.insert(JobRow._fields.index(name), None)
            plain[1] = row
    line: _AnyLine = msgspec.convert(plain, _AnyLine)
    return line


def is_backup(path: Path) -> bool:
    """Whether a file begins as backups do; an empty one may become one, too."""
    with path.open("rb") as file:
        return file.read(len(START)) in (START, b"")


# ------------------------------------------------------------------ writing


class Writer:
    """Writes a backup, piece by piece. put: takes the next bytes of the file."""

    def __init__(self, put: Callable[[bytes], None], header: Header) -> None:
        self.size = 0
        self._put = put
        self._sum = sha256()
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._crc = self._length = 0
        self._counts = dict.fromkeys(_ORDER, 0)
        self._send(START)
        self._write(_encode(header) + b"\n")

    def write(self, lines: Iterable[Line]) -> None:
        """These lines, in the order that the file has; `BackupError` for one that is too long to be read again."""
        for line in lines:
            encoded = _encode(line)
            if len(encoded) >= MAX_LINE:
                raise BackupError(f"{_named(line)} has {len(encoded):,} bytes, more than a backup can hold")
            self._counts[type(line)] += 1
            self._write(encoded + b"\n")

    @property
    def jobs(self) -> int:
        """How many jobs it has so far."""
        return self._counts[PlainJob]

    def finish(self, unreadable: list[bytes]) -> None:
        """Nothing more comes."""
        counts = self._counts
        self._write(_encode(EndLine(counts[PlainJob], counts[RecordLine], counts[OnceLine], unreadable)) + b"\n")
        self._send(self._deflate.flush())
        self._send(self._crc.to_bytes(4, "little") + (self._length & 0xFFFFFFFF).to_bytes(4, "little"))
        self._send(_BEFORE_SUM + self._sum.digest() + _BEHIND_SUM)

    def _write(self, plain: bytes) -> None:
        self._crc = zlib.crc32(plain, self._crc)
        self._length += len(plain)
        self._send(self._deflate.compress(plain))

    def _send(self, piece: bytes) -> None:
        if piece:
            self._sum.update(piece)
            self.size += len(piece)
            self._put(piece)


# ------------------------------------------------------------------ reading


class Reader:
    """A backup file; each walk through its lines checks all of it. One that is damaged raises `BackupError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decode: Callable[[bytes], _AnyLine] = _decode
        try:
            # Only an ordinary file can be read twice; opening something else might wait for ever.
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise BackupError(f"the file {str(path)[:200]!r} cannot be read: {error}") from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise self._bad("is no ordinary file")
        self._file = os.fdopen(handle, "rb", buffering=0)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> tuple[Header, EndLine]:
        """Read it whole; its first and its last line."""
        lines = self._lines()
        header = self._header(next(lines, b""))
        for line in self._checked(lines):
            if isinstance(line, EndLine):
                end = line
        return header, end

    def __iter__(self) -> Iterator[Line]:
        lines = self._lines()
        self._header(next(lines, b""))
        for line in self._checked(lines):
            if not isinstance(line, EndLine):
                yield line

    def _bad(self, why: str) -> BackupError:
        return BackupError(f"the file {str(self._path)!r} {why}")

    def _damaged(self, why: str) -> BackupError:
        return self._bad(f"is damaged ({why}); nothing of it was used")

    # -- what the lines say

    def _header(self, line: bytes) -> Header:
        try:
            first = msgspec.json.decode(line, type=dict[str, object])
            version = first.get("jobcard_backup")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            version = None
        if type(version) is not int:
            raise self._bad("is no backup of jobcard's")
        if version != VERSION:
            raise self._bad(f"is a backup of version {version}, and this jobcard reads {VERSION}: use a newer one")
        try:
            header = msgspec.json.decode(line, type=Header)
        except msgspec.DecodeError as error:
            raise self._newer(str(error)) from None
        if unknown := [name for name in header.columns if name not in JobRow._fields]:
            raise self._newer(f"jobs have {unknown[0][:80]!r}")
        if tuple(header.columns) == _EARLIER:
            self._decode = _decode_earlier
        elif tuple(header.columns) != JobRow._fields:
            raise self._damaged("its jobs lack something")
        return header

    def _newer(self, why: str) -> BackupError:
        return self._bad(f"holds what this jobcard does not know ({why}): it was written by a newer one, use that")

    def _checked(self, lines: Iterator[bytes]) -> Iterator[Line | EndLine]:
        counts = [0] * len(_ORDER)
        place = 0
        last = b""
        for number, text in enumerate(lines, start=2):
            try:
                line = self._decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise self._damaged(f"line {number}: {error}") from None
            if isinstance(line, EndLine):
                if (line.records, line.jobs, line.once_keys) != tuple(counts[:3]):
                    raise self._damaged("it does not hold what it says it holds")
                if next(lines, None) is not None:
                    raise self._damaged("something follows its end")
                yield line
                return
            if _ORDER.index(type(line)) < place:
                raise self._damaged(f"line {number} is not in its place")
            place = _ORDER.index(type(line))
            counts[place] += 1
            if why := _fault(line):
                raise self._damaged(f"line {number}: {why}")
            if isinstance(line, PlainJob):
                if line.row.id <= last:
                    raise self._damaged(f"line {number}: a job that is there twice, or not in its place")
                last = line.row.id
            yield line
        raise self._damaged("it has no end")

    # -- the file around them

    def _lines(self) -> Iterator[bytes]:
        """The lines as they were before compression; behind the last one the checksum has been compared."""
        begun: list[bytes] = []  # of a line whose end is not there yet
        for plain in self._plain():
            first, *others = plain.split(b"\n")
            begun.append(first)
            if sum(map(len, begun)) >= MAX_LINE:
                raise self._damaged("a line is too long")
            if others:
                yield b"".join(begun)
                yield from others[:-1]
                begun = others[-1:]
        if any(begun):
            raise self._damaged("its last line has no end")

    def _plain(self) -> Iterator[bytes]:
        file = self._file
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        if (start := _read(file, len(START))) != START:
            raise self._bad("is empty" if not start else "is no backup of jobcard's")
        left = size - len(START) - _END_SIZE
        if left <= 0:
            raise self._damaged("it was cut off")
        digest = sha256(start)
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        crc = length = 0
        behind = b""
        while left:
            piece = _read(file, min(left, _READ_AT_ONCE))
            if not piece:
                raise self._damaged("it was cut off")
            left -= len(piece)
            digest.update(piece)
            if inflate.eof:
                behind += piece
            while not inflate.eof:
                try:
                    # A little at a time: a few bytes may stand for very many.
                    plain = inflate.decompress(piece, _PLAIN_AT_ONCE)
                except zlib.error as error:
                    raise self._damaged(str(error)) from None
                piece = inflate.unconsumed_tail
                crc, length = zlib.crc32(plain, crc), length + len(plain)
                if plain:
                    yield plain
                if inflate.eof:
                    behind += inflate.unused_data
                elif not piece and len(plain) < _PLAIN_AT_ONCE:
                    break
            if len(behind) > 8:
                raise self._damaged("something follows its end")
        if not inflate.eof:
            raise self._damaged("it was cut off")
        if behind != crc.to_bytes(4, "little") + (length & 0xFFFFFFFF).to_bytes(4, "little"):
            raise self._damaged("its length or its CRC is another")
        if _read(file, _END_SIZE + 1) != _BEFORE_SUM + digest.digest() + _BEHIND_SUM:
            raise self._damaged("its checksum is another, or it was cut off")


def _named(line: Line) -> str:
    return f"job {UUID(bytes=line.row.id)}" if isinstance(line, PlainJob) else f"the record {line.key[:80]!r}"


def _read(file: BinaryIO, size: int) -> bytes:
    pieces = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _fault(line: Line) -> str | None:
    """Why a line that is well formed can be of no store of ours; None: it can."""
    if isinstance(line, RecordLine):
        return None if line.kind in RECORDS else f"no record of the kind {line.kind[:40]!r} belongs in a backup"
    if isinstance(line, OnceLine):
        return None if len(line.job_id) == 16 and line.until in _WHOLE_NUMBERS else "no once key is like this"
    row = line.row
    if len(row.id) != 16 or any(other is not None and len(other) != 16 for other in (row.batch_id, row.parent_id)):
        return "an id has 16 bytes"
    if row.state not in JobState._value2member_map_:
        return "no job is in such a state"
    numbers = [value for value in row if type(value) is int]
    numbers += [number for attempt, at, _ in line.attempts for number in (attempt, at)]
    numbers += [at for at, _ in line.lines]
    return None if all(number in _WHOLE_NUMBERS for number in numbers) else "a number is too large"
