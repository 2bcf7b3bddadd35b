"""A store's verbs over the pipe: code in a worker enqueues and looks up through its engine's connection.

    arguments   msgpack of {"args": [...], "kwargs": {...}}, rebuilt by the annotations of the `Backend` method
    answer      msgpack of the return value, rebuilt the same way
    error       {"class": name in jobcard.errors, "message": …, "facts": {…}}

Only names from our own contract are ever called or rebuilt.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, cast, get_type_hints
from uuid import UUID

import msgspec

from jobcard import errors
from jobcard.backends.base import Backend
from jobcard.core.states import After, Change, Now
from jobcard.workers import messages

VERBS = frozenset(
    {
        "enqueue",
        "get",
        "attempts",
        "log_lines",
        "ended",
        "list",
        "count",
        "count_over_time",
        "tally",
        "lines",
        "usage",
        "facts",
        "apply_by_operator",
        "prune",
        "delete",
        "read_records",
        "write_record",
        "remove_record",
        "check_schema",
    }
)
"""What a job may ask of the store. Claims, leases and the schema are the engine's alone."""

NOT_WHILE_IMPORTING = (
    "the application asked for the store while it was being imported: in a script that is started itself, "
    'put what it does under `if __name__ == "__main__":`'
)
"""What an import hears that asks for the store."""

_pack = msgspec.msgpack.Encoder(enc_hook=lambda value: _plain(value)).encode


class _Verb(NamedTuple):
    parameters: tuple[str, ...]
    hints: Mapping[str, Any]


@cache
def _verb(name: str) -> _Verb:
    method = getattr(Backend, name)
    return _Verb(tuple(inspect.signature(method).parameters)[1:], get_type_hints(method))


def pack_call(verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The arguments of a verb as bytes, by name."""
    named = {**dict(zip(_verb(verb).parameters, args, strict=False)), **kwargs}
    return _pack(
        {name: _change_to_plain(value) if isinstance(value, Change) else value for name, value in named.items()}
    )


def perform(backend: Backend, verb: str, packed: bytes) -> tuple[dict[str, Any] | None, bytes | None]:
    """Call a verb on the engine's store: (error, None) or (None, answer)."""
    try:
        if verb not in VERBS:
            raise errors.ConfigError(f"a job cannot ask its engine for {verb!r}")
        hints = _verb(verb).hints
        arguments = {
            name: _change_from_plain(value) if hints[name] is Change else _convert(value, hints[name])
            for name, value in msgspec.msgpack.decode(packed).items()
        }
        answer = _pack(getattr(backend, verb)(**arguments))
        if len(answer) > messages.MAX_FRAME // 2:
            raise errors.StoreError(f"{verb}: an answer of {len(answer)} bytes does not fit the pipe: ask for less")
    except errors.JobcardError as error:
        return error_to_plain(error), None
    except Exception as error:
        # Whatever a job asked for, it must not take the engine with it.
        return error_to_plain(errors.StoreError(f"{verb} failed: {type(error).__name__}")), None
    return None, answer


def unpack_answer(verb: str, error: dict[str, Any] | None, answer: bytes | None) -> Any:
    """What `perform` answered, on the other side; raises the error it carries."""
    if error is not None:
        raise error_from_plain(error)
    assert answer is not None
    return _convert(msgspec.msgpack.decode(answer), _verb(verb).hints["return"])


def _convert(value: Any, hint: Any) -> Any:
    return msgspec.convert(value, hint, strict=False, builtin_types=(bytes, UUID))


class EngineStore:
    """The `Backend` of a worker process: each verb is a question to its engine."""

    def __init__(self, ask: Callable[[str, bytes], Any]) -> None:
        """ask: sends (verb, packed arguments) and returns the answer; it may be called from any thread."""
        self._ask = ask

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        if verb not in VERBS:
            raise AttributeError(verb)
        return lambda *args, **kwargs: self._ask(verb, pack_call(verb, args, kwargs))

    def close(self) -> None:
        """Nothing to let go of: the connection is the engine's."""


def engine_store(ask: Callable[[str, bytes], Any]) -> Backend:
    """An `EngineStore`, typed as what it stands for."""
    return cast(Backend, EngineStore(ask))


# ------------------------------------------------------------------ what msgpack has no word for


def _plain(value: object) -> object:
    raise TypeError(f"a store verb was given {type(value).__name__}")


def _change_to_plain(change: Change) -> dict[str, Any]:
    sets: dict[str, list[object]] = {}
    for name, value in change.sets.items():
        if isinstance(value, Now):
            sets[name] = ["now"]
        elif isinstance(value, After):
            sets[name] = ["after", value.delay]
        else:
            sets[name] = ["is", value]
    return {**change._asdict(), "sets": sets}


def _change_from_plain(plain: dict[str, Any]) -> Change:
    sets: dict[str, object] = {}
    for name, (form, *value) in plain["sets"].items():
        sets[name] = Now() if form == "now" else After(*value) if form == "after" else value[0]
    hints = get_type_hints(Change)
    rest = {name: msgspec.convert(value, hints[name]) for name, value in plain.items() if name != "sets"}
    return Change(**rest, sets=sets)


def error_to_plain(error: errors.JobcardError) -> dict[str, Any]:
    """One of our errors as it crosses the pipe."""
    facts = {name: str(value) if isinstance(value, UUID) else value for name, value in vars(error).items()}
    facts = {name: value for name, value in facts.items() if isinstance(value, (str, int, type(None), list, tuple))}
    return {"class": type(error).__name__, "message": str(error), "facts": facts}


def error_from_plain(plain: dict[str, Any]) -> errors.JobcardError:
    """The same error on the other side."""
    cls = getattr(errors, plain["class"], errors.StoreError)
    if not (isinstance(cls, type) and issubclass(cls, errors.JobcardError)):
        cls = errors.StoreError
    # Around __init__: each class makes its own sentence there, and this one is made already.
    error = cls.__new__(cls, plain["message"])
    error.args = (plain["message"],)
    for name, value in plain["facts"].items():
        setattr(error, name, _id_from_plain(value) if name in ("job_id", "existing_id") else value)
    return error


def _id_from_plain(value: object) -> object:
    try:
        return UUID(value) if isinstance(value, str) else value
    except ValueError:
        return value  # it was no id, and that is what the error is about
