"""Codec: arguments and results to JSON text and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from jobcard.core.codec.calls import CallShape
from jobcard.core.codec.refused import Refused, name_of, step_to
from jobcard.core.codec.shapes import Shape
from jobcard.core.codec.tags import CONTAINER_LOADS, LEAVES, OURS, Tag
from jobcard.core.codec.text import KEY, MAX_DIGITS, MAX_TEXT, UnreadableError, decode, encode
from jobcard.core.codec.writer import TooLargeError, Writer
from jobcard.core.limits import MAX_PAYLOAD, check_name
from jobcard.errors import ConfigError, InvalidJobError, SerializationError

T = TypeVar("T")


class Codec:
    """Writes arguments and results as JSON text, and reads them back as equal values of the same types.

    JSON's own types pass as they are (exactly these: a subclass is refused). datetime, date, time,
    timedelta, UUID, Decimal, bytes, tuple, set and frozenset are tagged. Dataclasses, Enums, paths and the
    like pass where an annotation says so (`Shape`), and own types after `add`. Nothing is ever looked up or
    imported by a stored name. Any thread may use it.
    """

    def __init__(self) -> None:
        self._types: dict[int, Tag] = {id(tag.kind): tag for tag in LEAVES}
        self._loads: dict[str, Callable[[Any], Any]] = {**CONTAINER_LOADS, **{tag.name: tag.load for tag in LEAVES}}

    def add(self, kind: type[T], tag: str, dump: Callable[[T], Any], load: Callable[[Any], T]) -> None:
        """Teach a type of your own: `dump` gives plain data, `load` makes an equal value of it.

        tag: the name it is stored under; keep it as long as jobs with it are kept. Exactly this class is
        meant, not its subclasses. Clients and workers must teach the same types.
        """
        if not isinstance(kind, type):
            raise ConfigError("codec.add: the first argument must be a class")
        check_name(tag, "codec.add: tag", error=ConfigError)
        if not callable(dump) or not callable(load):
            raise ConfigError(f"codec.add({tag!r}): dump and load must be callable")
        if kind in OURS:
            raise ConfigError(f"codec.add({tag!r}): {name_of(kind)} is built in")
        if tag in self._loads:
            raise ConfigError(f"codec.add: the tag {tag!r} is taken")
        if id(kind) in self._types:
            raise ConfigError(f"codec.add({tag!r}): {name_of(kind)} has the tag {self._types[id(kind)].name!r} already")
        self._loads[tag] = load
        self._types[id(kind)] = Tag(kind, tag, dump, load)

    def know_what(self, other: Codec) -> None:
        """Know from now on whatever types the other knows, or is taught later."""
        self._types, self._loads = other._types, other._loads

    # -- writing

    def dumps(self, value: object, *, what: str, limit: int = MAX_PAYLOAD, shape: Shape | None = None) -> str:
        """The value as ASCII JSON text of `limit` bytes at most.

        what: what the value is called in messages. shape: what its annotation says, from `shape_of`.
        `SerializationError` names the place and type of what cannot be stored, never the value.
        """
        limit = min(limit, MAX_TEXT)
        with _refused_at(what, limit):
            text = encode(Writer(self._types, limit).write(value, shape, 0))
        if len(text) > limit:
            raise _too_large(what, f"{len(text):,}", limit)
        return text

    def dump_call(
        self,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        call: CallShape | None = None,
        *,
        limit: int = MAX_PAYLOAD,
    ) -> tuple[str, str]:
        """The arguments of one call as two texts, of `limit` bytes together at most."""
        if call is None or not call.writes:
            for value in args:
                kind = type(value)
                if kind is int or kind is str or kind is bool or value is None or kind is float:
                    continue
                return self._dump_call(args, kwargs, None, limit)
            for key, value in kwargs.items():
                kind = type(value)
                if type(key) is str and (kind is int or kind is str or kind is bool or value is None or kind is float):
                    continue
                return self._dump_call(args, kwargs, None, limit)
            return self._dump_flat(args, kwargs, limit)
        return self._dump_call(args, kwargs, call, limit)

    def _dump_flat(self, args: Sequence[Any], kwargs: dict[str, Any], limit: int) -> tuple[str, str]:
        # The hot path. What remains to be refused shows in the text: a long integer makes it long, lone
        # surrogates and our own key stand in it; NaN makes the encoder refuse.
        try:
            args_text = encode(args) if args else "[]"
            kwargs_text = encode(kwargs) if kwargs else "{}"
        except ValueError:
            return self._dump_call(args, kwargs, None, limit)
        if (
            len(args_text) + len(kwargs_text) > min(limit, MAX_DIGITS)
            or "\\ud" in args_text
            or (kwargs and ("\\ud" in kwargs_text or KEY in kwargs_text))
        ):
            return self._dump_call(args, kwargs, None, limit)
        return args_text, kwargs_text

    def _dump_call(
        self, args: Sequence[Any], kwargs: dict[str, Any], call: CallShape | None, limit: int
    ) -> tuple[str, str]:
        limit = min(limit, MAX_TEXT)
        writer = Writer(self._types, limit)
        # An argument of its own stands at depth 0: the two containers here are ours, not the user's.
        with _refused_at("args", limit):
            plain = writer.items(args, None, -1) if call is None else writer.row(call.args_shapes(args), -1)
            args_text = encode(plain)
        with _refused_at("kwargs", limit):
            named = writer.mapping(kwargs, None, -1) if call is None else writer.fields(call.kwargs_shapes(kwargs), -1)
            kwargs_text = encode(named)
        size = len(args_text) + len(kwargs_text)
        if size > limit:
            raise _too_large("args and kwargs", f"{size:,}", limit)
        return args_text, kwargs_text

    # -- reading

    def loads(self, text: str, *, what: str = "the stored value", shape: Shape | None = None) -> Any:
        """The value that was written as this text; `SerializationError` if it cannot be rebuilt."""
        try:
            value = decode(text, self._untag)
        except UnreadableError as error:
            raise SerializationError(f"{what} is unreadable: {error}") from error.__cause__
        except Refused as problem:
            raise SerializationError(problem.describe(what)) from problem.__cause__
        return value if shape is None else self._read(value, shape, what)

    def load_call(self, args: str, kwargs: str, call: CallShape | None = None) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of one call, as `dump_call` wrote them."""
        return self._rebuild(self.loads(args, what="args"), self.loads(kwargs, what="kwargs"), call)

    def load_parts(self, text: str, call: CallShape | None = None) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of one call kept as one text, {"args": …, "kwargs": …}."""
        parts = self.loads(text, what="the stored call")
        if type(parts) is not dict or parts.keys() != {"args", "kwargs"}:
            raise SerializationError("the stored call has no args and kwargs")
        return self._rebuild(parts["args"], parts["kwargs"], call)

    def _rebuild(self, args: Any, kwargs: Any, call: CallShape | None) -> tuple[list[Any], dict[str, Any]]:
        if type(args) is not list or type(kwargs) is not dict:
            raise SerializationError("the stored arguments are no list and dict")
        if call is None or not call.reads:
            return args, kwargs
        values = [
            value if shape is None else self._read(value, shape, f"args[{place}]")
            for place, (value, shape) in enumerate(call.args_shapes(args))
        ]
        named = {
            key: value if shape is None else self._read(value, shape, f"kwargs{step_to(key)}")
            for key, value, shape in call.kwargs_shapes(kwargs)
        }
        return values, named

    def _read(self, value: object, shape: Shape, what: str) -> Any:
        try:
            return shape.read(value)
        except Refused as problem:
            raise SerializationError(problem.describe(what)) from problem.__cause__
        except RecursionError:
            raise _too_deep(what) from None

    def _untag(self, found: dict[str, Any]) -> Any:
        if KEY not in found or len(found) != 1:
            return found
        pair = found[KEY]
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not str:
            raise UnreadableError(f"it has {KEY!r} without a tag and a body")
        name, body = pair
        load = self._loads.get(name)
        if name in CONTAINER_LOADS and type(body) is not list:
            raise UnreadableError(f"its {name} has no list of items")
        if load is None:
            raise UnreadableError(f"it has the unknown tag {name[:40]!a}; jobs.codec.add(…) must teach it here too")
        try:
            return load(body)
        except Exception as error:
            raise UnreadableError(f"reading its {name} raised {name_of(type(error))}") from error


@contextmanager
def _refused_at(what: str, limit: int) -> Iterator[None]:
    try:
        yield
    except Refused as problem:
        raise SerializationError(problem.describe(what)) from problem.__cause__
    except TooLargeError as problem:
        raise _too_large(what, f"at least {problem.size:,}", limit) from None
    except ValueError:
        # All is checked by now, but an application may let this interpreter write less than our 1,000 digits.
        raise SerializationError(f"{what}: an int has more digits than this interpreter writes") from None
    except RecursionError:
        raise _too_deep(what) from None


def _too_large(what: str, size: str, limit: int) -> InvalidJobError:
    # A SerializationError is an InvalidJobError: whatever does not pass here is one kind of error.
    return SerializationError(f"{what}: {size} bytes, the limit is {limit:,}")


def _too_deep(what: str) -> SerializationError:
    return SerializationError(f"{what}: nested too deeply for the stack it is handled on")
