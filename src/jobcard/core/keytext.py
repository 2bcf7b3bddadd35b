"""What arguments say, as text that is equal where they are equal: what keys are made of."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobcard.core.codec.text import KEY
from jobcard.errors import SerializationError

if TYPE_CHECKING:
    from jobcard.core.callspec import CallSpec
    from jobcard.core.codec import CallShape, Codec


def of_arguments(
    codec: Codec,
    spec: CallSpec,
    shape: CallShape,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    by: str | Collection[str],
) -> dict[str, str]:
    """The text of each argument that counts, by the names of the parameters; defaults filled in."""
    given, defaults = spec.arguments(args, kwargs)
    texts = {}
    for name, value in {**given, **defaults}.items():
        if by == "args" or name in by:
            try:
                texts[name] = in_one_order(codec.dumps(value, what=f"argument {name}", shape=shape.each[name]))
            except SerializationError:  # a default that only the function itself ever sees
                if name in given:
                    raise
    return texts


def joined(said: Sequence[object]) -> str:
    """These texts as one."""
    return json.dumps(said, sort_keys=True)


def in_one_order(text: str) -> str:
    """Stored text as it is whatever the order of the keys in its dicts."""
    return json.dumps(json.loads(text, object_hook=_sorted_pairs), sort_keys=True)


def _sorted_pairs(found: dict[str, Any]) -> dict[str, Any]:
    # A dict that holds our own key is stored as a list of its pairs.
    tag = found.get(KEY)
    if type(tag) is list and tag[:1] == ["dict"]:
        return {KEY: ["dict", sorted(tag[1], key=lambda pair: pair[0])]}
    return found
