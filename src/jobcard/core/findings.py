"""What was found when a store and a machine were looked over: each point with a code, a sentence and its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from jobcard.errors import JobcardError, SchemaVersionError, StoreUnavailableError

DURABILITY = "durability"
MOST_HELD = 10_000
"""So many parked, and so many broken jobs are counted; then it is "or more"."""


class Severity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    """It is as it should be."""
    NOTE = "note"
    """Worth knowing; nothing that was promised is missing."""
    WARNING = "warning"
    """It works, and may cost jobs, time or secrets one day."""
    ERROR = "error"
    """What Jobcard promises does not hold here."""


class Finding(NamedTuple):
    """One point that was looked at.

    code: stable, `area.point`; what stands before the dot says where it belongs. subject: what it is about, a server,
    a queue, a job. text: one sentence of what was found. fix: one of what to do, "" where there is nothing to do.
    """

    code: str
    severity: Severity
    subject: str
    text: str
    fix: str = ""

    @property
    def area(self) -> str:
        """What stands before the dot of its code."""
        return self.code.partition(".")[0]

    @property
    def weakens(self) -> bool:
        """The store may lose what it confirmed: what `strict_durability` refuses and `health()` calls a problem."""
        return self.area == DURABILITY and self.severity in (Severity.WARNING, Severity.ERROR)


def ok(code: str, subject: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(code, Severity.OK, subject, text)


def note(code: str, subject: str, text: str, fix: str = "") -> Finding:
    """Worth knowing."""
    return Finding(code, Severity.NOTE, subject, text, fix)


def warning(code: str, subject: str, text: str, fix: str) -> Finding:
    """It may cost something one day."""
    return Finding(code, Severity.WARNING, subject, text, fix)


def error(code: str, subject: str, text: str, fix: str) -> Finding:
    """A promise does not hold."""
    return Finding(code, Severity.ERROR, subject, text, fix)


def weaknesses(findings: Iterable[Finding]) -> list[str]:
    """Those that weaken durability, each as a sentence with its remedy."""
    return [f"{finding.text}; {finding.fix}" for finding in findings if finding.weakens]


# ------------------------------------------------------------------ what every store says in the same words


def version(code: str, name: str, found: str, oldest: Sequence[int], fix: str) -> Finding:
    """A version held against the oldest that will do. found: its numbers come first."""
    subject = f"{name} {found}"
    least = ".".join(map(str, oldest))
    if numbers(found) < tuple(oldest):
        return error(code, subject, f"{subject} is too old: {least} is the first that will do", fix)
    return ok(code, subject, f"{least} and newer will do")


def numbers(text: str) -> tuple[int, ...]:
    """The numbers that a version begins with: of "15.18 (Debian)" 15 and 18."""
    found: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            found.append(int(digits))
        if digits != part:
            break
    return tuple(found)


def survives(subject: str, text: str) -> Finding:
    """Which deaths the newest confirmed jobs outlive, and which they do not, in a line."""
    return note("durability.survives", subject, text)


def set_aside(rows: Iterable[tuple[str | None, int]]) -> list[Finding]:
    """Jobs out of the line that no engine brings back: (name, how many) of parked ones, (None, how many) of broken.

    Stores count no further than `MOST_HELD` of each.
    """
    parked = dict(rows)
    broken = parked.pop(None, 0)
    return [_parked({name: number for name, number in parked.items() if name is not None}), _broken(broken)]


def _parked(numbers: Mapping[str, int]) -> Finding:
    if not numbers:
        return ok("jobs.parked", "parked jobs", "none waits for an engine that knows its name")
    names = ", ".join(sorted(numbers)[:5]) + (", …" if len(numbers) > 5 else "")
    return warning(
        "jobs.parked",
        _counted(sum(numbers.values())),
        f"parked, as no engine that met them knew their names: {names}",
        "start an engine with code that knows these names, or `jobcard jobs cancel --name NAME`",
    )


def _broken(number: int) -> Finding:
    if not number:
        return ok("jobs.broken", "broken jobs", "none was set aside because it cannot be read")
    return error(
        "jobs.broken",
        _counted(number),
        "set aside, bytes kept, as their records cannot be read",
        "their ids are in the engines' log (and in `jobcard jobs list --state waiting --json`, where hold is broken); "
        "see docs/doctor.md for what to do with them",
    )


def _counted(number: int) -> str:
    return f"{MOST_HELD:,} jobs or more" if number >= MOST_HELD else f"{number:,} job{'' if number == 1 else 's'}"


def answered(*asks: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What each of these finds. A store that does not answer is a finding too, and the end of the asking.

    A schema that is missing or of another version is left to whoever checks it.
    """
    found: list[Finding] = []
    for ask in asks:
        try:
            found += ask()
        except SchemaVersionError:
            continue
        except StoreUnavailableError as failure:
            return [*found, unreachable(failure)]
        except JobcardError as failure:
            return [*found, refused(failure)]
    return found


def unreachable(failure: JobcardError) -> Finding:
    """The store does not answer."""
    return error(
        "store.unreachable",
        "store",
        f"it does not answer: {failure}",
        "start the server, or correct host, port and firewall; --url says which store is meant",
    )


def refused(failure: JobcardError) -> Finding:
    """The store answers, and cannot be used as it is."""
    return error(
        "store.refused",
        "store",
        f"it cannot be used as it is: {failure}",
        "correct the URL, or what its user may do, as that says",
    )


# ------------------------------------------------------------------ the way to it


def secrecy(subject: str, *, local: bool, encrypted: bool, fix: str) -> Finding:
    """Whether somebody on the way could read what goes to the store."""
    if local:
        return ok("url.tls", subject, "what goes to the store does not leave this machine")
    if encrypted:
        return ok("url.tls", subject, "what goes to the store is encrypted")
    text = "jobs and passwords go to another machine unencrypted: anybody on the way can read them"
    return warning("url.tls", subject, text, fix)


def password(subject: str, *, local: bool, given: bool, fix: str) -> Finding:
    """Whether the store lets in anybody who reaches it."""
    if given:
        return ok("url.password", subject, "the store is entered with a password or a certificate")
    if local:
        return note("url.password", subject, "every program of this machine can read and change the jobs", fix)
    return error("url.password", subject, "whoever reaches the server can read and change every job", fix)
