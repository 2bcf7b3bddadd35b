"""Every action goes through here, and is written down: who, when, what, on which, and what came of it.

Before the action and after it, so that none is done without a trace. What a form says is written as far as it is a
number, a time or one of some words; of free text, which may be an argument, only that it was there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobcard.dashboard.asking import Ask, Done, Plain
from jobcard.dashboard.fields import UNSAID, OrNone, Text
from jobcard.dashboard.formats import name_of, visible
from jobcard.dashboard.plain import to_plain
from jobcard.dashboard.refusal import Refused, refusal_of, status_of
from jobcard.errors import JobcardError

if TYPE_CHECKING:
    from jobcard.client.audit import AuditEntry
    from jobcard.dashboard.routing import Route

_log = logging.getLogger("jobcard.dashboard")

DONE, REFUSED, FAILED = "done", "refused", "failed"
"""What may come of an action. refused: it could not be meant, or not now. failed: the store, or we, could not."""


def act(route: Route, ask: Ask, words: Mapping[str, Any]) -> Mapping[str, Any] | Done | Plain:
    """What the view of a writing route answers; a `StoreError` before anything is done where it cannot be noted."""
    assert route.view is not None
    entry = ask.jobs.parts.audit.begin(
        who=ask.visitor.name,
        role=ask.visitor.role.value,
        action=route.summary,
        on=" ".join(_named(*word) for word in words.items()) or None,
        said=_said(route, ask),
    )
    try:
        answer = route.view(ask)
    except Refused as refusal:
        _end(ask, entry, FAILED if refusal.status >= 500 else REFUSED, refusal.text)
        raise
    except JobcardError as error:
        _end(ask, entry, FAILED if status_of(error) >= 500 else REFUSED, refusal_of(error))
        raise
    except Exception as error:
        _end(ask, entry, FAILED, type(error).__name__)
        raise
    _end(ask, entry, DONE, answer.text if isinstance(answer, (Done, Plain)) else "")
    return answer


def _named(kind: str, word: str) -> str:
    """What stands in an address, as pages call it: a job's id is written in one way, however it was asked."""
    if kind == "id" and len(word) in (32, 36):
        with contextlib.suppress(ValueError):
            return str(UUID(word))
    return name_of(word)


def _said(route: Route, ask: Ask) -> Mapping[str, str]:
    said = {}
    for field in route.form:
        value = ask[field.name]
        if isinstance(field, OrNone) and value is None:
            said[field.name] = "none"
        elif value is None or value is UNSAID or value == "" or value == ():
            continue
        elif isinstance(field, Text):
            said[field.name] = f"{len(value):,} given" if field.many else "given"
        else:
            each = value if field.many else (value,)
            # However many there are, an entry is small: behind their number stand the first ones.
            number = f"{len(each):,}: " if len(each) > 1 else ""
            said[field.name] = number + ", ".join(str(to_plain(one)) for one in each)
    return said


def _end(ask: Ask, entry: AuditEntry, result: str, text: str) -> None:
    what = visible(f"{entry.who} ({entry.role}): {entry.action}{'' if entry.on is None else f', {entry.on}'}")
    _log.info("dashboard.act %s: %s: %s", what, result, visible(text))
    try:
        ask.jobs.parts.audit.end(entry, result, text)
    except JobcardError as error:
        # What was done is done, and the entry of its beginning stands.
        _log.error("dashboard.audit cannot tell what came of %s: %s", what, error)
