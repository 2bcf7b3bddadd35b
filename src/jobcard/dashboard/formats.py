"""How figures, times and texts are shown: the filters of the templates.

Text of a store or a job is shown with its control characters spelled out, so that it can neither hide nor turn around
what stands beside it; the templates escape what is left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup

from jobcard.core.states import Hold

HIDDEN = "(hidden)"
_DEEPEST = 50

# C0 and C1 controls but tab and newline, DEL, marks and embeddings that turn text around, lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(value: Any) -> Any:
    """Text with every control character but tab and newline spelled out; Jinja asks it of everything it prints."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return ""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(value))


def number(value: float | None) -> str:
    """12345 as 12,345; None as a dash."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def capped(value: int, limit: int) -> str:
    """A count that stopped at a limit: 10000 of 10000 as 10,000+."""
    return f"{limit:,}+" if value >= limit else f"{value:,}"


def duration(value: float | timedelta | None) -> str:
    """Seconds, or a timedelta, in two units at most: 85 ms, 1.5 s, 4 min 5 s, 2 h 3 min, 5 d 2 h; None as a dash."""
    if value is None:
        return "–"
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if seconds < 0.9995:
        return f"{sign}{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{sign}{seconds:.3g} s"
    whole = round(seconds)
    for size, name, smaller, its_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{sign}{whole // size:,} {name}" + (f" {rest} {its_name}" if rest else "")
    return f"{sign}{whole} s"


def age(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago, or in how long, to the second: 3 min 2 s ago, in 5 s, now; None as a dash."""
    if moment is None:
        return "–"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    whole = round(abs(seconds))
    return f"{duration(whole)} ago" if seconds > 0 else f"in {duration(whole)}"


def clock(moment: datetime | None) -> str:
    """A moment to the second, in UTC: 2030-01-31 08:00:00; None as a dash."""
    return "–" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def iso(moment: datetime | None) -> str:
    """A moment as programs read it: 2030-01-31T08:00:00.000000Z."""
    if moment is None:
        return ""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def size(value: int | None) -> str:
    """Bytes: 512 B, 1.5 KiB, 20 MiB; None as a dash."""
    if value is None:
        return "–"
    left = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if left < 1024:
            return f"{left:.3g} {unit}" if unit != "B" else f"{value} B"
        left /= 1024
    return f"{left:.3g} TiB"


def short(value: object, most: int = 80) -> str:
    """Text of at most so many characters, the rest being an ellipsis."""
    text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def held(hold: str) -> str:
    """What holds a waiting job, in words where its name says too little."""
    return "waits for other jobs" if hold == Hold.AFTER else hold


def word(name: object) -> str:
    """A name as one word of a path: a / in it is a ~, which no name has."""
    return str(name).replace("/", "~")


def name_of(word: str) -> str:
    """The name that a word of a path stands for."""
    return word.replace("~", "/")


def pretty(value: Any) -> str:
    """A value of JSON's own types as people read it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def redacted(value: Any, hide: Collection[str], depth: int = 0) -> Any:
    """A value without what stands under a name that is to be hidden, however deep."""
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if str(name).lower() in hide else redacted(each, hide, depth + 1)
            for name, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redacted(each, hide, depth + 1) for each in value]
    return value


FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": number,
    "capped": capped,
    "duration": duration,
    "age": age,
    "clock": clock,
    "iso": iso,
    "size": size,
    "short": short,
    "held": held,
    "word": word,
    "pretty": pretty,
}
"""By the names that templates use."""
