"""Holding claims for longer, and finding those that nobody holds any more."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from jobcard.backends.base import Held
from jobcard.backends.pages import end_of
from jobcard.backends.redis import lookup, rows
from jobcard.backends.redis.keys import Keys
from jobcard.backends.redis.scripts import MOST_JOBS, Run
from jobcard.core.job import Ref
from jobcard.core.states import AT_WORK
from jobcard.errors import CorruptRecordError

_log = logging.getLogger("jobcard.store")


def renew(run: Run, owner: str, held: Sequence[tuple[Ref, int]], lease: int) -> list[Ref]:
    """Hold claims for longer; the refs of those that are gone."""
    gone: list[Ref] = []
    for first in range(0, len(held), MOST_JOBS):
        part = held[first : first + MOST_JOBS]
        found = run("renew", owner, lease, [ref for ref, _ in part], [token for _, token in part])
        gone += [ref.decode() for ref in found]
    return gone


def find_held(
    client: Any, keys: Keys, run: Run, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None
) -> tuple[Held, list[str]]:
    """Claims of some owners, and with `lapsed` those of anybody whose lease has run out: by ref, behind `after`.

    Beside them the refs of those that cannot be read.
    """
    refs = [ref.decode() for ref in run("find_held", list(owners), lapsed, limit, after or False)]
    claims, broken = [], []
    for ref, live, card in lookup.fetch(client, keys, refs):
        if live is None and card is None:
            continue
        try:
            if live is None:
                raise CorruptRecordError(f"a part of job {ref} is missing")
            claims.append(rows.to_claimed(ref, live, card))
        except CorruptRecordError:
            _log.warning("a job cannot be read and was left out: %s", ref)
            broken.append(ref)
    # Read after they were found: some have ended meanwhile, or are another's by now.
    held = set(owners)
    ours = [claim for claim in claims if claim.state in AT_WORK and (lapsed or claim.claimed_by in held)]
    return Held(ours, end_of(refs, limit)), broken


def quarantine(run: Run, refs: Sequence[str], *, lapsed: bool = False) -> None:
    """Take claims that cannot be read from their holder, and put them under the hold `broken`; all else is kept.

    lapsed: only those whose lease has run out.
    """
    if number := run("quarantine", refs, lapsed):
        ids = ", ".join(refs)
        _log.error("%d of these jobs cannot be read: taken out of the line, their bytes kept: %s", number, ids)
