"""The name that was meant, when one is misspelt."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one; None: none is."""
    from difflib import get_close_matches  # only now: hardly any process makes such a mistake

    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.6)), None)
