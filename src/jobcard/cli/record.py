"""A job as the command line shows it: the record's field names, times in ISO 8601 UTC, durations in seconds."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from jobcard.core.view import Job


def job_to_plain(job: Job) -> dict[str, Any]:
    """Every public field of a job as plain JSON data."""
    return {field.name: to_plain(getattr(job, field.name)) for field in fields(job)}


def to_plain(value: object) -> Any:
    """A value as plain JSON data. Bytes are written in base64; what JSON has no word for, as text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return to_plain(value._asdict())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: to_plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return str(value)


def moment(instant: datetime) -> str:
    """An instant as ISO 8601 in UTC. A datetime without a zone, as only a job's own data has, stays as it is."""
    if instant.tzinfo is None:
        return instant.isoformat()
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def short_moment(instant: datetime | None) -> str | None:
    """An instant for people: to the second."""
    return None if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
