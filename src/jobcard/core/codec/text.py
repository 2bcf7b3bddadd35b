"""Bounds on stored text, and the standard library's encoder and decoder, set up once."""

from __future__ import annotations

import json
import json.encoder
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NoReturn

MAX_TEXT = 8 << 20
"""No argument list and no result is ever larger, whatever the limits are set to; bytes."""
MAX_DEPTH = 100
"""How many lists, dicts and the like may stand inside each other."""
MAX_DIGITS = 1_000
"""How many digits an integer may have."""

KEY = "$jc"

# An escaped dict, the tag that takes most, is four JSON levels; the rest is room for a leaf's own tag.
_MAX_JSON_DEPTH = 4 * MAX_DEPTH + 10
_BUT_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[^"\[\]{}]++', re.DOTALL)
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


class UnreadableError(ValueError):
    """Stored text that is not ours; the message never quotes it."""


def _refuse(value: object) -> NoReturn:
    raise TypeError("only plain JSON is written")


def _encoder() -> Callable[[object], str]:
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=_refuse).encode
    # What JSONEncoder.encode builds anew for each call; built once, a call costs a third.
    write = make(None, _refuse, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False)
    return lambda value: "".join(write(value, 0))


encode = _encoder()
"""Plain JSON as compact ASCII text. Not for values that were not checked: it does not look for cycles."""


def _refuse_constant(name: str) -> NoReturn:
    raise UnreadableError("it holds NaN or an infinity")


def _bounded_int(digits: str) -> int:
    # Also where the interpreter's own limit was lifted: reading digits takes time square in their number.
    if len(digits) > MAX_DIGITS + 1:
        raise UnreadableError(f"it holds an integer of more than {MAX_DIGITS:,} digits")
    return int(digits)


def _decoder(hook: Callable[[dict[str, Any]], object] | None, *, short: bool) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_hook=hook, parse_int=None if short else _bounded_int, parse_constant=_refuse_constant
    )


_PLAIN, _PLAIN_SHORT = _decoder(None, short=False), _decoder(None, short=True)


def decode(text: object, hook: Callable[[dict[str, Any]], object]) -> Any:
    """Read stored text within our bounds; `hook` rebuilds tagged values. `UnreadableError`: it is not ours."""
    if type(text) is not str:
        raise UnreadableError(f"it must be text, not {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise UnreadableError(f"it has {len(text):,} characters, more than {MAX_TEXT:,}")
    if text.count("[") + text.count("{") > _MAX_JSON_DEPTH:
        brackets = _BUT_BRACKETS.sub("", text)
        if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > _MAX_JSON_DEPTH:
            raise UnreadableError("it is nested too deeply")
    # Short text cannot hold a long number, and without that hook integers are read in C.
    short = len(text) <= MAX_DIGITS
    untagged = _PLAIN_SHORT if short else _PLAIN
    decoder = _decoder(hook, short=short) if KEY in text else untagged
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(f"it is not JSON, from character {error.pos:,} on") from None
    except UnreadableError:
        raise
    except ValueError:
        raise UnreadableError("it holds an integer longer than this interpreter reads") from None
    except RecursionError:
        raise UnreadableError("it is nested too deeply for the stack it is read on") from None
