"""Arguments and results survive the way to text and back, or are refused with their place."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from datetime import time as wall_time
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobcard.core.codec import MAX_TEXT, Codec
from jobcard.errors import ConfigError, InvalidJobError, SerializationError

codec = Codec()
BERLIN = ZoneInfo("Europe/Berlin")


def label(value: object) -> str:
    """A test's id: the same in every process, so without addresses and without the order of a set."""
    plain = type(value) in (str, bytes, float, bool) or (type(value) is int and abs(value) < 2**65)
    return ascii(value)[:40] if plain else type(value).__name__


def there_and_back(value: object) -> Any:
    return codec.loads(codec.dumps(value, what="value", limit=MAX_TEXT))


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def same(left: object, right: object) -> bool:
    """Equal, and of the same types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, (set, frozenset)) and isinstance(right, (set, frozenset)):
        return {(type(item), item) for item in left} == {(type(item), item) for item in right}
    return repr(left) == repr(right)


# ------------------------------------------------------------------ what survives


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, 1, -1, 1.5, "", "plain", [], {}, [None, True], {"a": [1, {"b": 2}]},
        -0.0, 5e-324, 1.7e308,
        2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**999, -(10**1000 - 1),
        "a\x00b", "\x00", "\ud800", "\udfff", "\ud83d\ude00", "x\ud83d\ude00\ud83d\ude00y\udc00", "\ud800\0\udc00",
        "😀", "👩‍👩‍👧", "\u202eabc", "e\u0301", "é", "\x7f\u2028\u2029",
        {"$ref": 1, "a.b": 2, "": 3, "__proto__": 4, "\ud83d\ude00": 5},
        {"$jc": ["uuid", "x"]}, {"$jc": 1, "b": {"$jc": ["tuple", []]}}, {"$jc": {"$jc": {"$jc": None}}}, ["$jc"],
        (), (1, "a", (2,)), [(1,), [2]], {"t": ({"$jc": 1},)},
        set(), {1, 2, 3}, {"a", "b"}, {(1, 2), (3,)}, {frozenset({1})}, frozenset(), frozenset({"x"}),
        b"", b"\x00\xff", UUID(int=0), UUID("12345678-1234-5678-1234-567812345678"),
        Decimal("0"), Decimal("-0.00"), Decimal("1E+99999999"), Decimal("1e-400"), Decimal("3." + "14" * 500),
        date(2024, 2, 29), date.min, date.max,
        wall_time(1, 2, 3, 4), wall_time(2, fold=1), wall_time(1, tzinfo=UTC), wall_time(1, tzinfo=BERLIN),
        datetime(2024, 1, 1), datetime.min, datetime.max, datetime(2024, 1, 1, 2, 3, 4, 5),
        datetime(2024, 1, 1, fold=1),
        datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3, seconds=7))),
        datetime(2024, 7, 1, tzinfo=BERLIN),
        datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN), datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
        datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN), datetime(2024, 3, 31, 2, 30, fold=1, tzinfo=BERLIN),
        timedelta(0), timedelta(microseconds=1), timedelta.max, timedelta.min, timedelta(days=-1, microseconds=1),
    ],
    ids=label,
)  # fmt: skip
def test_a_value_comes_back_as_it_was(value: object) -> None:
    """Values of JSON's own and of tagged types come back equal and of the same types."""
    assert same(there_and_back(value), value)
    assert same(there_and_back({"deep": [value]}), {"deep": [value]})
    args, kwargs = codec.load_call(*codec.dump_call((value, 1), {"k": value, "n": 2}))
    assert same(args, [value, 1])
    assert same(kwargs, {"k": value, "n": 2})


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()), max_size=8)
    | st.sampled_from(["$jc", "\ud83d\ude00", "\ud800"])
)
HASHABLE = SCALARS | st.binary(max_size=8) | st.uuids() | st.dates() | st.timedeltas() | st.datetimes()
LEAVES = (
    HASHABLE
    | st.times()
    | st.datetimes(timezones=st.just(UTC) | st.just(BERLIN))
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.frozensets(HASHABLE, max_size=3)
    | st.sets(HASHABLE, max_size=3)
)
KEYS = st.text(st.characters(exclude_categories=()), max_size=5) | st.sampled_from(["$jc", "\ud83d\ude00"])
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4) | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_any_tree_comes_back_as_it_was(value: object) -> None:
    """Whatever is built of the supported types comes back equal; the text is ASCII, and the same each time."""
    text = codec.dumps(value, what="value")
    assert text.isascii()
    assert same(codec.loads(text), value)
    assert codec.dumps(codec.loads(text), what="value") == text


@settings(max_examples=300, deadline=None)
@given(st.lists(TREES, max_size=3), st.dictionaries(KEYS, TREES, max_size=3))
def test_any_call_comes_back_as_it_was(args: list[Any], kwargs: dict[str, Any]) -> None:
    """The same holds for calls, on the short way for flat arguments too."""
    assert same(codec.load_call(*codec.dump_call(tuple(args), kwargs)), (args, kwargs))


STORED = st.recursive(
    st.none() | st.text(max_size=5) | st.integers() | st.sampled_from(["uuid", "tuple", "set", "dict", "datetime"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.just("$jc") | st.text(max_size=3), inner, max_size=2)
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | STORED.map(json.dumps))
def test_any_stored_text_is_read_or_refused(text: str) -> None:
    """Text from the store never raises anything but our own error."""
    with contextlib.suppress(SerializationError):
        codec.loads(text)


def test_equal_sets_are_equal_text() -> None:
    """A set's text does not depend on the order the set happens to have."""
    names = [f"n{number}" for number in range(50)]
    backwards: set[str] = set()
    for name in reversed(names):
        backwards.add(name)
    assert codec.dumps(set(names), what="value") == codec.dumps(backwards, what="value")


def test_the_zone_of_a_datetime_survives() -> None:
    """A named zone stays named, so that days added later follow its summer time."""
    value = there_and_back(datetime(2024, 10, 26, 12, tzinfo=BERLIN))
    assert value.tzinfo is BERLIN
    assert (value + timedelta(days=1)).utcoffset() == timedelta(hours=1)


def test_the_stored_value_is_the_one_at_call_time() -> None:
    """Changing an argument after the call changes nothing stored."""
    value = {"a": [1]}
    args, _ = codec.dump_call((value,), {})
    value["a"].append(2)
    assert args == '[{"a":[1]}]'


def test_flat_calls_are_compact_json() -> None:
    """Plain arguments are plain JSON, readable by anything."""
    assert codec.dump_call((1, "é", None), {"b": 2.5, "c": True}) == ('[1,"\\u00e9",null]', '{"b":2.5,"c":true}')
    assert codec.dump_call((), {}) == ("[]", "{}")


# ------------------------------------------------------------------ what is refused


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    HI = "hi"


class Text(str):
    pass


def cycle() -> list[Any]:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


def produce() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "NaN"),
        (float("inf"), "infinite"),
        (float("-inf"), "infinite"),
        (10**1000, "1,000 digits"),
        (-(10**5000), "1,000 digits"),
        (10**100_000, "1,000 digits"),
        (Decimal("NaN"), "finite"),
        (Decimal("sNaN"), "finite"),
        (Decimal("-Infinity"), "finite"),
        (nested(101), "100 levels"),
        (nested(100_000), "100 levels"),
        (cycle(), "100 levels"),
        ({1: "a", "1": "b"}, "type int"),
        ({None: 1}, "type NoneType"),
        ({True: 1}, "type bool"),
        ({1.5: 1}, "type float"),
        ({(1,): 1}, "type tuple"),
        ({Word.HI: 1}, "Word"),
        (Text("x"), "subclass of str"),
        (OrderedDict(a=1), "subclass of dict"),
        (defaultdict(int), "subclass of dict"),
        (Colour.RED, "Enum"),
        (Level.LOW, "Enum"),
        (Word.HI, "Enum"),
        (Path("x"), "str(path)"),
        (bytearray(b"x"), "pass bytes"),
        (1j, "complex"),
        (range(3), "range"),
        (object(), "object"),
        (print, "builtin_function"),
        (lambda: 1, "function"),
        (int, "type"),
        (produce(), "generator"),
        (sys, "module"),
        (sys.stdout, "codec.add"),
    ],
    ids=label,
)  # fmt: skip
def test_what_does_not_survive_is_refused(value: object, says: str) -> None:
    """Each is refused before anything is stored, as an argument, deep inside one, and as a result."""
    for attempt in (
        lambda: codec.dumps(value, what="value"),
        lambda: codec.dump_call((1, value), {}),
        lambda: codec.dump_call((), {"k": value}),
        lambda: codec.dumps([{"x": (value,)}], what="value"),
    ):
        with pytest.raises(SerializationError, match=re.escape(says)):
            attempt()


class Hostile:
    """Any code of its own is a crime."""

    def _never(self, *args: object) -> Any:
        pytest.fail("code of a value was called")

    __str__ = __repr__ = __eq__ = __hash__ = __reduce__ = __json__ = __iter__ = __len__ = __bool__ = __index__ = _never
    __getattr__ = __float__ = __format__ = __reduce_ex__ = _never

    @property
    def __class__(self) -> Any:
        return self._never()


class HostileMeta(type):
    def __hash__(cls) -> int:
        pytest.fail("code of a class was called")

    def __eq__(cls, other: object) -> bool:
        pytest.fail("code of a class was called")

    def __getattribute__(cls, name: str) -> Any:
        pytest.fail("code of a class was called")


class HostileZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        pytest.fail("code of a value was called")


def test_no_code_of_a_value_is_called() -> None:
    """Hostile objects are refused by their type alone."""
    of_hostile_class = HostileMeta("OfHostileClass", (), {})()
    for value in (
        Hostile(),
        of_hostile_class,
        type("D", (dict,), {"items": None})(),
        type("S", (str,), {"isascii": None})(),
    ):
        for attempt in (
            lambda v=value: codec.dumps([v], what="value"),
            lambda v=value: codec.dump_call((v,), {"k": v}),
        ):
            with pytest.raises(SerializationError):
                attempt()
    with pytest.raises(SerializationError, match="HostileZone; use zoneinfo"):
        codec.dumps(datetime(2024, 1, 1, tzinfo=HostileZone()), what="value")


def test_a_refusal_names_place_and_type_but_no_value() -> None:
    """The message leads to the spot and tells no secret."""
    secret = "hunter2"
    bad = type("Secret", (str,), {})(secret)
    with pytest.raises(SerializationError) as caught:
        codec.dump_call((1, 2, {"user": {"name": bad, secret: secret}}), {})
    assert str(caught.value).startswith("args[2].user.name: a value of type test_codec.Secret cannot be stored;")
    assert secret not in str(caught.value)
    with pytest.raises(SerializationError, match=r"^kwargs\.to\['a\.b'\]\[1\]: a float must be finite"):
        codec.dump_call((), {"to": {"a.b": (0, float("nan"))}})
    with pytest.raises(SerializationError, match=r"^the result\{…\}: "):
        codec.dumps({1, float("inf")}, what="the result")
    with pytest.raises(SerializationError, match="subclass of"):
        codec.dump_call((), {"k": [1, {"x": OrderedDict()}]})


def test_a_hundred_levels_are_fine() -> None:
    """A hundred containers inside each other pass, also where each takes several levels of JSON."""
    assert there_and_back(nested(100)) == nested(100)
    value: Any = datetime(2024, 1, 1, tzinfo=BERLIN)
    for _ in range(100):
        value = {"$jc": value}
    assert there_and_back(value) == value


def test_size_limits_say_both_sizes() -> None:
    """A payload over its limit is refused with its size and the limit; one that just fits is stored."""
    for limit in (1000, 1 << 20, MAX_TEXT):
        assert len(codec.dumps("x" * (limit - 2), what="value", limit=limit)) == limit
        with pytest.raises(InvalidJobError, match=rf"{limit + 1:,} bytes, the limit is {limit:,}"):
            codec.dumps("x" * (limit - 1), what="value", limit=limit)
    with pytest.raises(InvalidJobError, match="the limit is 8,388,608"):
        codec.dumps("x" * MAX_TEXT, what="value", limit=10 * MAX_TEXT)
    assert codec.dump_call(("x" * 500,), {"k": "y" * 500}, limit=1012)
    with pytest.raises(InvalidJobError, match="1,012 bytes, the limit is 1,011"):
        codec.dump_call(("x" * 500,), {"k": "y" * 500}, limit=1011)
    with pytest.raises(InvalidJobError, match=r"1,201 bytes, the limit is 1,000"):
        codec.dumps("é" * 199 + "x" * 5, what="value", limit=1000)


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_what_fits_exactly_is_stored(value: object) -> None:
    """The bound on memory while writing never refuses what the limit allows."""
    text = codec.dumps(value, what="value")
    assert codec.dumps(value, what="value", limit=len(text)) == text


def test_small_values_that_are_huge_as_text_are_refused_early() -> None:
    """A list of the same list of the same list … is refused by its size before it is built."""
    doubled: Any = "x"
    for _ in range(90):
        doubled = [doubled, doubled]
    shared = ["x" * 1_000_000] * 1_000_000
    numbers = [10**999] * 1_000_000
    begun = time.monotonic()
    for value in (doubled, {"a": doubled}, shared, numbers, b"x" * (100 << 20), "x" * (100 << 20)):
        with pytest.raises(InvalidJobError, match="the limit is"):
            codec.dumps(value, what="value")
    assert time.monotonic() - begun < 20


def test_a_million_numbers_are_quick() -> None:
    """A list of a million integers is written and read without a call for each."""
    value = [number % 10 for number in range(10**6)]
    begun = time.monotonic()
    text = codec.dumps(value, what="value", limit=MAX_TEXT)
    assert time.monotonic() - begun < 5
    assert codec.loads(text) == value


# ------------------------------------------------------------------ stored text that is not ours


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{bad", "not JSON"),
        ("", "not JSON"),
        ("1 2", "not JSON"),
        ("[NaN]", "NaN"),
        ("-Infinity", "NaN or an infinity"),
        ("[" * 100_000, "too deeply"),
        ('{"a":' * 100_000, "too deeply"),
        ("[" * 1000 + "]" * 1000, "too deeply"),
        ("9" * 1_000_000, "digits"),
        ("[1," + "9" * 1_002 + "]", "digits"),
        ('"' + "x" * MAX_TEXT + '"', "characters"),
        ('"' + "[" * 500 + "\\", "not JSON"),
        ('{"$jc":1}', "without a tag"),
        ('{"$jc":["uuid"]}', "without a tag"),
        ('{"$jc":[1,2]}', "without a tag"),
        ('{"$jc":["os.system","ls"]}', "unknown tag 'os.system'"),
        ('{"$jc":["uuid","nope"]}', "reading its uuid raised ValueError"),
        ('{"$jc":["decimal","nope"]}', "reading its decimal"),
        ('{"$jc":["decimal",[1]]}', "reading its decimal"),
        ('{"$jc":["datetime",["2024-01-01T00:00:00+00:00","../../etc/passwd",0]]}', "reading its datetime"),
        ('{"$jc":["datetime",["2024-01-01T00:00:00+00:00","Mars/Base",0]]}', "reading its datetime"),
        ('{"$jc":["timedelta","x"]}', "reading its timedelta"),
        ('{"$jc":["timedelta",1' + "0" * 900 + "]}", "reading its timedelta"),
        ('{"$jc":["bytes","!"]}', "reading its bytes"),
        ('{"$jc":["set",[[1]]]}', "reading its set"),
        ('{"$jc":["tuple","abc"]}', "no list"),
        ('{"$jc":["dict",[[1,2]]]}', "reading its dict"),
        ('{"$jc":["dict",[[1,2,3]]]}', "reading its dict"),
        ('{"$jc":["str",[1]]}', "reading its str"),
        (b"[]", "bytes"),
        (None, "NoneType"),
    ],
    ids=label,
)  # fmt: skip
def test_unreadable_text_is_refused(text: Any, says: str) -> None:
    """Damaged or hostile text is one kind of error, whatever is wrong with it."""
    with pytest.raises(SerializationError, match=says):
        codec.loads(text)


def test_hostile_text_is_refused_whatever_the_interpreter_allows() -> None:
    """Lifted limits of the interpreter do not lift ours; lowered ones do not crash us."""
    depth, digits = sys.getrecursionlimit(), sys.get_int_max_str_digits()
    try:
        sys.setrecursionlimit(1_000_000)
        sys.set_int_max_str_digits(0)
        for text in ("[" * 4_000_000, "9" * 8_000_000):
            with pytest.raises(SerializationError):
                codec.loads(text)
        sys.set_int_max_str_digits(640)
        with pytest.raises(SerializationError, match="digits"):
            codec.dumps(10**900, what="value")
        with pytest.raises(SerializationError, match="longer than this interpreter"):
            codec.loads("1" + "0" * 900)
    finally:
        sys.setrecursionlimit(depth)
        sys.set_int_max_str_digits(digits)


def test_brackets_inside_text_are_no_nesting() -> None:
    """Only containers count as depth."""
    value = ["[" * 5000, '"[{' * 200, "\\[" * 500]
    assert there_and_back(value) == value
    assert there_and_back([[]] * 5000) == [[]] * 5000


def test_a_call_must_be_list_and_dict() -> None:
    """Stored arguments of another form are refused."""
    for args, kwargs in (("{}", "{}"), ("[]", "[]"), ("1", "{}"), ("[]", "null")):
        with pytest.raises(SerializationError):
            codec.load_call(args, kwargs)
    args, kwargs = codec.dump_call((1, {2}), {"$jc": 3})
    assert codec.load_parts(f'{{"args":{args},"kwargs":{kwargs}}}') == ([1, {2}], {"$jc": 3})
    for text in ("[]", "{}", '{"args":[]}', '{"args":1,"kwargs":{}}', '{"args":[],"kwargs":{},"more":1}'):
        with pytest.raises(SerializationError):
            codec.load_parts(text)


# ------------------------------------------------------------------ types of one's own


class Money:
    def __init__(self, amount: Decimal, currency: str) -> None:
        self.amount, self.currency = amount, currency


def with_money() -> Codec:
    own = Codec()
    own.add(Money, "money", lambda money: (money.amount, money.currency), lambda body: Money(*body))
    return own


def test_a_taught_type_survives() -> None:
    """A type that was taught comes back as `load` makes it, wherever it stands."""
    own = with_money()
    (paid,), kwargs = own.load_call(
        *own.dump_call((Money(Decimal("1.50"), "EUR"),), {"all": [Money(Decimal(2), "CHF")]})
    )
    assert (paid.amount, paid.currency) == (Decimal("1.50"), "EUR")
    assert kwargs["all"][0].currency == "CHF"


def test_a_taught_type_is_known_to_its_codec_only() -> None:
    """Another codec neither writes nor reads it."""
    with pytest.raises(SerializationError, match=r"codec\.add"):
        codec.dumps(Money(Decimal(1), "EUR"), what="value")
    with pytest.raises(SerializationError, match="unknown tag 'money'"):
        codec.loads(with_money().dumps(Money(Decimal(1), "EUR"), what="value"))


def test_teaching_is_checked() -> None:
    """Built-in types and names that are taken are refused."""
    own = with_money()
    taken = [(int, "x"), (dict, "x"), (UUID, "x"), (set, "x"), (type(None), "x"), (Money, "again"), (Text, "money")]
    for kind, tag in [*taken, (Text, "uuid"), (Text, "dict"), (Text, "a b"), (Text, ""), (Text, 5), ("x", "x")]:
        with pytest.raises(ConfigError):
            own.add(kind, tag, str, str)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="callable"):
        own.add(Text, "text", None, str)  # type: ignore[arg-type]
    own.add(Text, "text", lambda text: text + "", lambda body: Text(body))
    assert type(own.loads(own.dumps(Text("x"), what="value"))) is Text


def test_a_taught_type_that_misbehaves_is_a_refusal() -> None:
    """What `dump` and `load` raise, or give, is told as our own error."""
    own = Codec()
    own.add(Text, "text", lambda text: 1 / 0, lambda body: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(SerializationError, match=r"writing this test_codec\.Text raised ZeroDivisionError"):
        own.dumps(Text("x"), what="value")
    with pytest.raises(SerializationError, match="reading its text raised ZeroDivisionError"):
        own.loads('{"$jc":["text","x"]}')
    own.add(Money, "money", lambda money: money, lambda body: body)
    with pytest.raises(SerializationError, match="100 levels"):
        own.dumps(Money(Decimal(1), "EUR"), what="value")
    own.add(Level, "level", lambda level: object(), lambda body: Level.LOW)
    with pytest.raises(SerializationError, match="type object"):
        own.dumps(Level.LOW, what="value")
