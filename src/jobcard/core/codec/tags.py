"""What JSON lacks: each tagged type, how it is written and how it is read, once.

A tagged value is a dict of one key, {"$jc": [tag, body]}. A user's dict that holds this key is itself
tagged (`dict`), so it comes back as it was. Bodies:

    datetime, time   ISO 8601 text, or [text, zone name or null, fold]
    date             ISO 8601 text
    timedelta        whole microseconds
    uuid             its text
    decimal          its text
    bytes            base64
    tuple, set, frozenset   a list; sets in the order of their items' text, so that equal sets are equal text
    dict             a list of [key, value]
    str              a list of pieces, to be joined
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any, NamedTuple
from uuid import UUID

from jobcard.core.codec.refused import Refused, name_of
from jobcard.core.codec.text import KEY

_MICROSECOND = timedelta(microseconds=1)
# Wide enough to read any decimal back exactly; a context of our own, since the caller's may raise, or write "e".
_EXACT = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX, capitals=1, clamp=0, traps=[])


class Tag(NamedTuple):
    """A type that is written under a tag; `dump` gives what JSON (or another tag) can hold."""

    kind: type
    name: str
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]
    leaf: bool = False
    """The body is plain and small as it is: nothing in it to check."""


def tagged(name: str, body: object) -> dict[str, Any]:
    """A value of this tag as it stands in JSON."""
    return {KEY: [name, body]}


# ------------------------------------------------------------------ dates and times


def _zone_name(zone: tzinfo | None) -> str | None:
    """The name to find a zone by again; None: it has a fixed offset, which the text says."""
    if zone is None or type(zone) is timezone:
        return None
    from zoneinfo import ZoneInfo  # only now, as in `_zone`

    if type(zone) is not ZoneInfo:
        raise Refused(
            f"its time zone is a {name_of(type(zone))}; use zoneinfo.ZoneInfo or datetime.timezone, "
            "for example value.astimezone(UTC)"
        )
    if type(zone.key) is not str:
        raise Refused("its time zone has no name to find it by again; use ZoneInfo(name)")
    return zone.key


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo  # only now: few values have a zone, and every process imports this module

    return ZoneInfo(name)


def _dump_moment(value: datetime | time) -> object:
    zone = _zone_name(value.tzinfo)
    text = value.isoformat()
    return text if zone is None and not value.fold else [text, zone, value.fold]


def _load_datetime(body: Any) -> datetime:
    if type(body) is str:
        return datetime.fromisoformat(body)
    text, zone, fold = body
    moment = datetime.fromisoformat(text)
    if zone is None:
        return moment.replace(fold=fold)
    local = moment.replace(tzinfo=_zone(zone), fold=fold)
    # Another host's zone data may know another offset for that wall time: then the instant counts.
    return local if local.utcoffset() == moment.utcoffset() else moment.astimezone(_zone(zone))


def _load_time(body: Any) -> time:
    if type(body) is str:
        return time.fromisoformat(body)
    text, zone, fold = body
    moment = time.fromisoformat(text).replace(fold=fold)
    return moment if zone is None else moment.replace(tzinfo=_zone(zone))


def _dump_timedelta(value: timedelta) -> int:
    return value // _MICROSECOND


def _load_timedelta(body: int) -> timedelta:
    return timedelta(microseconds=body)


# ------------------------------------------------------------------ numbers and bytes


def _dump_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Refused("a Decimal must be finite to be stored")
    return _EXACT.to_sci_string(value)


def _load_decimal(body: str) -> Decimal:
    value = _EXACT.create_decimal(body)
    if not value.is_finite():
        raise ValueError("not a finite number")
    return value


def _dump_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _load_bytes(body: str) -> bytes:
    return base64.b64decode(body, validate=True)


def _load_dict(body: Any) -> dict[str, Any]:
    found = dict(body)
    if any(type(key) is not str for key in found):
        raise TypeError("a key is no text")
    return found


def _joined(body: Any) -> str:
    return "".join(body)


# ------------------------------------------------------------------ all of them

LEAVES = (
    Tag(datetime, "datetime", _dump_moment, _load_datetime, leaf=True),
    Tag(date, "date", date.isoformat, date.fromisoformat, leaf=True),
    Tag(time, "time", _dump_moment, _load_time, leaf=True),
    Tag(timedelta, "timedelta", _dump_timedelta, _load_timedelta, leaf=True),
    Tag(UUID, "uuid", str, UUID, leaf=True),
    Tag(Decimal, "decimal", _dump_decimal, _load_decimal, leaf=True),
    Tag(bytes, "bytes", _dump_bytes, _load_bytes, leaf=True),
)
"""Types whose body holds no other values."""

CONTAINER_LOADS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": _load_dict,
    "str": _joined,
}
"""Written by the writer itself, since it walks what they hold."""

OURS = frozenset({bool, int, float, str, type(None), list, dict, tuple, set, frozenset, *(tag.kind for tag in LEAVES)})
"""Types that cannot be taught anew."""
