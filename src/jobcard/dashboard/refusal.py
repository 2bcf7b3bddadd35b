"""What ends a request early: a status and a sentence, shown as a page or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from jobcard.errors import (
    AccessDeniedError,
    ConfigError,
    DuplicateJobError,
    InvalidJobError,
    JobcardError,
    NotFoundError,
    SchemaVersionError,
    StoreError,
    TransitionError,
)

_STATUSES: Sequence[tuple[type[JobcardError], int]] = (
    (NotFoundError, 404),
    (TransitionError, 409),
    (DuplicateJobError, 409),
    (InvalidJobError, 400),
    (ConfigError, 400),
    (AccessDeniedError, 503),
    (SchemaVersionError, 503),
    (StoreError, 503),
)


class Refused(Exception):
    """The request is not answered. text: for whoever asked, so nothing of what is inside stands in it."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers


def status_of(error: JobcardError) -> int:
    """The status that an error of the client is answered with."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def refusal_of(error: JobcardError) -> str:
    """The sentence it is told in, to whoever has come in."""
    return f"{error}."
