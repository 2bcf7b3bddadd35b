"""Looking a store over: does it keep what Jobcard promises, do its engines live, are its jobs what they can be?"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobcard.client import crew
from jobcard.client.rows import look_at_rows
from jobcard.core import clock, findings
from jobcard.core.findings import Finding, Severity, error, ok, warning
from jobcard.errors import JobcardError, SchemaVersionError, StoreUnavailableError
from jobcard.version import VERSION

if TYPE_CHECKING:
    from jobcard.backends.base import Backend, Facts
    from jobcard.client.parts import Parts

_OLDEST_PYTHON = (3, 11)
_LOOKS = 3
"""At the clock: of several answers the quickest says most."""

MOST_OFF = 1.0
"""Seconds. Jobs go by the store's clock alone, so nothing breaks at a difference; but `at=`, look-ups by time, ids and
logs are the hosts'. A host that keeps time by NTP is some milliseconds off, rarely a tenth of a second: a whole second
is a clock that nobody sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What came of a look. versions: of python, jobcard, driver and server, those that are known."""

    findings: Sequence[Finding]
    versions: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether nothing that Jobcard promises is missing."""
        return not self.of(Severity.ERROR)

    @property
    def reached(self) -> bool:
        """Whether the store answered."""
        return all(finding.code != "store.unreachable" for finding in self.findings)

    def of(self, severity: Severity) -> Sequence[Finding]:
        """The findings of this weight."""
        return [finding for finding in self.findings if finding.severity == severity]


def look_over(parts: Parts, *, full: bool = False, tell: Callable[[int], None] = lambda _: None) -> Diagnosis:
    """Look at this machine, the store, its engines, queues and jobs; nothing is changed.

    full: look at every job, not only at those at work, waiting or newest. tell: hears how many were looked at so far.
    `ConfigError` when the store's URL says nothing that could be looked at.
    """
    found = list(_machine())
    with parts.connection.as_it_is() as store:
        found += store.examine()
        if _may_go_on(found):
            lease = parts.connection.settings.lease
            found += _until_it_fails(lambda: _stored(store, lease, full=full, tell=tell))
    return Diagnosis(
        findings=found,
        versions={
            point: finding.subject if point in ("driver", "server") else finding.subject.split()[-1]
            for finding in found
            if finding.area == "versions" and (point := finding.code.partition(".")[2])
        },
    )


def _machine() -> Iterator[Finding]:
    yield findings.version(
        "versions.python", "Python", platform.python_version(), _OLDEST_PYTHON, "install a newer Python"
    )
    yield ok("versions.jobcard", f"jobcard {VERSION}", "what looks at the store here")


def _may_go_on(found: Sequence[Finding]) -> bool:
    return not any(finding.code in ("store.unreachable", "store.refused") for finding in found)


def _until_it_fails(look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a look finds; the store may go away in the middle of it."""
    found: list[Finding] = []
    try:
        for finding in look():
            found.append(finding)
    except StoreUnavailableError as failure:
        found.append(findings.unreachable(failure))
    except JobcardError as failure:
        found.append(findings.refused(failure))
    return found


def _stored(store: Backend, lease: float, *, full: bool, tell: Callable[[int], None]) -> Iterator[Finding]:
    schema = _schema(store)
    yield schema
    if schema.severity != Severity.OK:
        return
    facts, offset, blur = _read_clock(store)
    yield from _facts(facts)
    yield _clock(store, offset, blur)
    yield from crew.look(store, facts.now, lease)
    yield from look_at_rows(store, full=full, tell=tell)


def _schema(store: Backend) -> Finding:
    try:
        store.check_schema()
    except SchemaVersionError as failure:
        if failure.found == 0:
            text, fix = "nothing of jobcard is in this store yet", "`jobcard migrate`, or start an engine"
        elif failure.found < failure.wanted:
            text, fix = (
                f"it is of version {failure.found}, and this jobcard needs {failure.wanted}",
                "`jobcard migrate`",
            )
        else:
            text = f"it is of version {failure.found}, newer than the {failure.wanted} that this jobcard knows"
            fix = "pip install --upgrade jobcard"
        return error("store.schema", "schema", text, fix)
    except StoreUnavailableError:
        raise
    except JobcardError as failure:
        return findings.refused(failure)
    return ok("store.schema", "schema", "it is of the version that this jobcard needs")


def _facts(facts: Facts) -> Iterator[Finding]:
    yield ok("store.identity", facts.store, f"this store is {facts.identity}, schema version {facts.schema_version}")
    size = "it does not say how large it is" if facts.size_bytes is None else f"it takes {_bytes(facts.size_bytes)}"
    connections = "" if facts.connections is None else f" and has {facts.connections:,} connections"
    yield ok("store.size", facts.store, size + connections)


def _bytes(number: int) -> str:
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while number >= 10_240 and len(units) > 1:
        number //= 1024
        del units[0]
    return f"{number:,} {units[0]}"


# ------------------------------------------------------------------ the clock


def _read_clock(store: Backend) -> tuple[Facts, float, float]:
    """The store's facts, and its clock against this host's: seconds ahead, give or take so many."""
    looks = []
    for _ in range(_LOOKS):
        before, began = time.time(), time.monotonic()
        facts = store.facts()
        trip = time.monotonic() - began
        looks.append((trip / 2, facts.now / clock.SECOND - (before + trip / 2), facts))
    blur, offset, facts = min(looks, key=lambda look: look[0])
    return facts, offset, blur


def _clock(store: Backend, offset: float, blur: float) -> Finding:
    code, subject = "clock.offset", "the store's clock"
    if not store.capabilities.shared_by_hosts:
        return ok(code, subject, "it is this host's")
    text = f"it is {abs(offset):.3f} s {'ahead of' if offset > 0 else 'behind'} this host's (give or take {blur:.3f} s)"
    if abs(offset) - blur > MOST_OFF:
        return warning(
            code,
            subject,
            text,
            "set both clocks by NTP (timedatectl set-ntp true); delays and leases go by the store's",
        )
    return ok(code, subject, text)
