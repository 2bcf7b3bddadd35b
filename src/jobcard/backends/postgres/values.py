"""How values travel: columns as binary arrays, every number as a bigint, ids as 16 bytes.

psycopg picks a number's type by its size and a list's by its items. A prepared statement is one per signature, so
that would prepare the same statement again and again; these always have the same types. They are three times as fast
as lists, too: 0.1 µs an item. A value that cannot travel fails where the column is made, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, repeat
from struct import Struct, pack
from struct import error as StructError

from psycopg import adapters as standard
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Dumper, Loader
from psycopg.pq import Format
from psycopg.types.numeric import Int8BinaryDumper

from jobcard.errors import InvalidJobError

_BIGINT, _TEXT, _UUID = 20, 25, 2950
_BIGINTS, _TEXTS, _UUIDS = 1016, 1009, 2951
_NULL = b"\xff\xff\xff\xff"
_number = Struct("!iq").pack
_length = Struct("!i").pack


def _head(item_type: int, count: int) -> bytes:
    # As array_recv() reads it: dimensions, whether there may be nulls, type of the items, how many, lower bound.
    return pack("!iiIii", 1, 1, item_type, count, 1)


def encode(text: str) -> bytes:
    """A text as it is sent; `InvalidJobError` when PostgreSQL has no such text."""
    if "\x00" in text:
        raise InvalidJobError("PostgreSQL cannot store a text with a NUL")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidJobError(f"PostgreSQL cannot store a text: {error.reason}") from error


class Numbers(bytes):
    """A column of whole numbers: `bigint[]`."""

    __slots__ = ()

    def __new__(cls, numbers: Iterable[int | None]) -> Numbers:
        several = tuple(numbers)
        try:
            body = pack("!" + "iq" * len(several), *chain.from_iterable(zip(repeat(8), several)))
        except StructError:
            try:
                body = b"".join([_NULL if number is None else _number(8, number) for number in several])
            except StructError as error:
                raise InvalidJobError("PostgreSQL cannot store a number: it takes more than 64 bits") from error
        return super().__new__(cls, _head(_BIGINT, len(several)) + body)


class Texts(bytes):
    """A column of texts: `text[]`."""

    __slots__ = ()

    def __new__(cls, texts: Iterable[str | None]) -> Texts:
        count = 0
        parts: list[bytes] = []
        for text in texts:
            count += 1
            if text is None:
                parts.append(_NULL)
            else:
                encoded = encode(text)
                parts += (_length(len(encoded)), encoded)
        return super().__new__(cls, _head(_TEXT, count) + b"".join(parts))


class Ids(bytes):
    """A column of ids: `uuid[]`."""

    __slots__ = ()

    def __new__(cls, ids: Iterable[bytes | None]) -> Ids:
        items = [_NULL if one is None else _length(len(one)) + one for one in ids]
        return super().__new__(cls, _head(_UUID, len(items)) + b"".join(items))


class Id(bytes):
    """One id: `uuid`."""

    __slots__ = ()


class _AsTheyAre(Dumper):
    format = Format.BINARY
    oid = _BIGINTS

    def dump(self, obj: bytes) -> Buffer:
        return bytes(obj)


class _TextsDumper(_AsTheyAre):
    oid = _TEXTS


class _IdsDumper(_AsTheyAre):
    oid = _UUIDS


class _IdDumper(_AsTheyAre):
    oid = _UUID


class _IdLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


def _make() -> AdaptersMap:
    ours = AdaptersMap(standard)
    for cls, dumper in ((Numbers, _AsTheyAre), (Texts, _TextsDumper), (Ids, _IdsDumper), (Id, _IdDumper)):
        ours.register_dumper(cls, dumper)
    ours.register_dumper(int, Int8BinaryDumper)
    ours.register_loader("uuid", _IdLoader)
    return ours


adapters = _make()
"""What connections of this store adapt values by."""
