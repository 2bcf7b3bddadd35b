"""Classes of the user's own: plain JSON in the store, rebuilt by the job's annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import Path, PurePath, PureWindowsPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict, Union
from uuid import UUID

import msgspec
import pytest

from jobcard.core.codec import CallShape, Codec, shape_of
from jobcard.errors import SerializationError

if TYPE_CHECKING:
    from collections import Missing  # type: ignore[attr-defined]

codec = Codec()


def label(value: object) -> str:
    """A test's id: the same in every process, so without addresses and without the order of a set."""
    plain = type(value) in (str, bytes, float, bool) or (type(value) is int and abs(value) < 2**65)
    return ascii(value)[:40] if plain else type(value).__name__


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)
    NOTHING = None


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    HI = "hi"


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.5


@dataclass
class User:
    name: str
    colour: Colour
    home: Path
    born: date
    points: list[Point] = field(default_factory=list)
    by_name: dict[str, Point] = field(default_factory=dict)
    best: Point | None = None
    serial: int = field(default=7, init=False)


@dataclass
class Admin(User):
    level: Level = Level.LOW


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


class Place(NamedTuple):
    city: str
    at: Point
    zoom: int = 1


class Order(TypedDict):
    id: UUID
    colour: Colour
    note: NotRequired[Path]


class Struct(msgspec.Struct, kw_only=True):
    at: Point
    colour: Colour = Colour.RED


ID = NewType("ID", int)
UserName = NewType("UserName", Path)
USER = User("ann", Colour.RED, Path("/home/ann"), date(2000, 1, 1), [Point(1)], {"a": Point(2, 2)}, Point(3))


def rebuilt(stored: object, annotation: object) -> Any:
    return codec.loads(json.dumps(stored), what="value", shape=shape_of(annotation))


def there_and_back(annotation: object, value: object) -> Any:
    shape = shape_of(annotation)
    text = codec.dumps(value, what="value", shape=shape)
    return codec.loads(text, what="value", shape=shape)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Point, Point(1, 2)),
        (User, USER),
        (Admin, Admin("bob", Colour.PAIR, Path("b"), date.min, level=Level.LOW)),
        (Tree, Tree(1, [Tree(2), Tree(3, [Tree(4)])])),
        (Place, Place("Bonn", Point(1), 3)),
        (Order, {"id": UUID(int=5), "colour": Colour.RED, "note": Path("n")}),
        (Order, {"id": UUID(int=5), "colour": Colour.PAIR}),
        (Struct, Struct(at=Point(1))),
        (Colour, Colour.RED),
        (Colour, Colour.PAIR),
        (Level, Level.LOW),
        (Word, Word.HI),
        (Access, Access.READ | Access.WRITE),
        (Path, Path("a/b")),
        (PurePath, PurePath("a")),
        (PureWindowsPath, PureWindowsPath("c:\\x")),
        (Path, Path("\udcff")),
        (Optional[Point], Point(1)),  # noqa: UP045
        (Optional[Point], None),  # noqa: UP045
        (Point | None, Point(1)),
        (None | Point, None),
        (list[Point], [Point(1), Point(2)]),
        (list[Point | None], [None, Point(1)]),
        (Sequence[Point], (Point(1),)),
        (Sequence[Point], [Point(1)]),
        (dict[str, Point], {"a": Point(1), "$jc": Point(2)}),
        (Mapping[str, list[Level]], {"a": [Level.LOW]}),
        (tuple[Point, ...], (Point(1), Point(2))),
        (tuple[Point, int], (Point(1), 5)),
        (tuple[int, Path, str], (1, Path("x"), "y")),
        (set[Point], {Point(1), Point(2)}),
        (frozenset[Level], frozenset({Level.LOW})),
        (set[Colour], {Colour.RED, Colour.PAIR}),
        (set[int], {1}),
        (set, {1}),
        (tuple, (1,)),
        (tuple[int, ...], (1, 2)),
        (list, [1]),
        (dict[str, int], {"a": 1}),
        (Literal["a", 5], 5),
        (Literal[Colour.RED, "x"], Colour.RED),
        (Literal[Colour.RED, "x"], "x"),
        (Annotated[Point, "note"], Point(1)),
        (list[Annotated[Point, 1]], [Point(1)]),
        (UserName, Path("u")),
        (ID, 5),
        (int | Point, 5),
        (int | Point, Point(1)),
        (Union[Point, Tree, None], Tree(1)),  # noqa: UP007
        (Union[Point, Tree, None], Point(1)),  # noqa: UP007
        (str | Colour, "other"),
        (str | Colour, Colour.RED),
        (dict[str, int] | Point, {"z": 1}),
        (str | Path, "text"),
        (float | Point, 1),
        (datetime | Path, datetime(2024, 1, 1)),
        (datetime | Path, Path("x")),
        (list[int] | Point, [1]),
        (Any, [1, (2,)]),
        (object, 1),
        (float, 1),
        (int, 1),
        (str, "x"),
        (Decimal, Decimal(1)),
        ("Unknown", 1),
        ([int], 1),
        (..., 1),
    ],
    ids=label,
)  # fmt: skip
def test_an_annotated_value_comes_back_as_it_was(annotation: object, value: object) -> None:
    """What the annotation names comes back equal, of the same class, alone and deep inside."""
    for wrapped, given in ((annotation, value), (dict[str, list[annotation]], {"k": [value]})):  # type: ignore[valid-type]
        found = there_and_back(wrapped, given)
        assert found == given
        assert type(found) is type(given)


def test_the_store_holds_plain_json() -> None:
    """What is stored names no class, so that no class is ever looked up by a stored name."""
    text = codec.dumps(USER, what="value", shape=shape_of(User))
    assert json.loads(text) == {
        "name": "ann",
        "colour": "red",
        "home": "/home/ann",
        "born": {"$jc": ["date", "2000-01-01"]},
        "points": [{"x": 1, "y": 0.5}],
        "by_name": {"a": {"x": 2, "y": 2}},
        "best": {"x": 3, "y": 0.5},
    }


@pytest.mark.parametrize(
    ("annotation", "value", "says"),
    [
        (Any, Point(1), "annotate the parameter"),
        (User, Admin("b", Colour.RED, Path(), date.min), "exactly this class"),
        (Any, Place("x", Point(1)), "annotate the parameter"),
        (Any, Struct(at=Point(1)), "annotate the parameter"),
        (Any, Path("x"), "annotate it as Path"),
        (PurePath, Path("x"), "annotate it as Path"),
        (Point, Colour.RED, "Enum"),
        (Enum, Colour.RED, "Enum"),
        (Colour, Colour.NOTHING, "cannot be told from None"),
        (str | Path, Path("x"), "cannot be told"),
        (str | Colour, "red", "cannot be told"),
        (dict[str, int] | Point, {"x": 1}, "cannot be told"),
        (list[Point] | list[Tree], [Tree(1)], "type test_codec_shapes.Tree"),
        (list[Point], [Point(1), Point(float("nan"))], r"value\[1\]\.x: a float"),
        (dict[str, Point], {"a": Point(object())}, r"value\.a\.x: a value of type object"),  # type: ignore[arg-type]
        (set[Level], {"a", Colour.RED}, r"value\{…\}: "),
        (dict[str, Point], {1: Point(1)}, "keys must be str"),
    ],
    ids=label,
)  # fmt: skip
def test_what_would_come_back_otherwise_is_refused(annotation: object, value: object, says: str) -> None:
    """A value is refused rather than rebuilt as something else."""
    with pytest.raises(SerializationError, match=says):
        there_and_back(annotation, value)


@pytest.mark.parametrize(
    ("annotation", "stored", "says"),
    [
        (Point, {"z": 1}, "has no field 'z'"),
        (Point, {"y": 1}, "needs x"),
        (Point, "x", "fields of test_codec_shapes.Point"),
        (list[Point], [{"x": 1}, {"y": 1}], r"value\[1\]: test_codec_shapes.Point needs x"),
        (User, {"name": "a", "colour": "blue", "home": "", "born": None}, r"value\.colour: .*no value of"),
        (Level, 5, "no value of"),
        (Level, [1], "no value of"),
        (Path, 5, "Path can be made of int"),
        (set[Point], [{"x": 1}, {"x": []}], "do not go into a set"),
        (Place, ["Bonn", {"x": 1}, 2, 3], "fields of"),
    ],
    ids=label,
)  # fmt: skip
def test_what_cannot_be_rebuilt_is_refused(annotation: object, stored: object, says: str) -> None:
    """Stored data that does not fit the class is told with its place."""
    with pytest.raises(SerializationError, match=says):
        rebuilt(stored, annotation)


def test_plain_data_may_be_given_for_a_class() -> None:
    """A caller that lacks the class gives its fields; the worker gets the class."""
    assert rebuilt({"x": 1}, Point) == Point(1)
    assert rebuilt({"x": 1}, Point | None) == Point(1)
    assert rebuilt([[1, 2], "x"], tuple[tuple[int, ...], str]) == ((1, 2), "x")
    assert rebuilt(["Bonn", {"x": 1}], Place) == Place("Bonn", Point(1))
    assert rebuilt([1, 2], tuple[int, ...]) == (1, 2)
    assert rebuilt([1, 2], set[int]) == {1, 2}
    assert rebuilt("a/b", Path) == Path("a/b")
    for annotation in (Point, Colour, Path, Order, Struct, set[int], list[Point], tuple[Point, int], dict[str, Point]):
        assert rebuilt(None, annotation) is None
    for annotation in (set[int], list[Point], tuple[Point, int], dict[str, Point], Order):
        assert rebuilt("other", annotation) == "other"


def test_a_class_may_grow() -> None:
    """A field that an older release did not store takes its default."""
    assert rebuilt({"x": 1}, Point) == Point(1, 0.5)


def test_deep_and_cyclic_objects_are_refused() -> None:
    """Objects count as levels like any container."""
    cyclic = Tree(1)
    cyclic.children.append(cyclic)
    deep = Tree(0)
    for _ in range(5000):
        deep = Tree(0, [deep])
    for value in (cyclic, deep):
        with pytest.raises(SerializationError, match="100 levels"):
            there_and_back(Tree, value)
    stored = '{"value": 0, "children": [' * 50_000 + '{"value": 0}' + "]}" * 50_000
    with pytest.raises(SerializationError, match="too deeply"):
        codec.loads(stored, what="value", shape=shape_of(Tree))


def test_code_of_a_class_that_fails_is_a_refusal() -> None:
    """What a constructor or a field raises is told as our own error."""

    @dataclass
    class Picky:
        x: int

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError("no")

    with pytest.raises(SerializationError, match=r"making the .*Picky raised ValueError"):
        rebuilt({"x": -1}, Picky)
    value = Picky(1)
    del value.x
    with pytest.raises(SerializationError, match=r"reading x of this .*Picky raised AttributeError"):
        there_and_back(Picky, value)


def test_a_taught_type_comes_before_its_annotation() -> None:
    """A class that was taught is written as taught, even where its annotation would do."""
    own = Codec()
    own.add(Point, "point", lambda point: [point.x, point.y], lambda body: Point(*body))
    shape = shape_of(list[Point])
    text = own.dumps([Point(1)], what="value", shape=shape)
    assert text == '[{"$jc":["point",[1,0.5]]}]'
    assert own.loads(text, shape=shape) == [Point(1)]


# ------------------------------------------------------------------ whole calls


def work(first: Point, /, second: int, *rest: Level, named: Path, **others: Colour) -> list[Point] | None: ...


def plain(a: int, b: str = "x", *args: int, c: float | None = None, **kwargs: Any) -> int: ...


def test_a_call_is_rebuilt_by_its_signature() -> None:
    """Every parameter has its own annotation: positional, named, and all the rest."""
    call = CallShape.of(work)
    args = (Point(1), 2, Level.LOW, Level.LOW)
    kwargs = {"named": Path("x"), "else": Colour.RED, "first": Colour.PAIR}
    texts = codec.dump_call(args, kwargs, call)
    assert texts[0] == '[{"x":1,"y":0.5},2,1,1]'
    assert codec.load_call(*texts, call) == (list(args), kwargs)
    assert codec.load_parts(f'{{"args":{texts[0]},"kwargs":{texts[1]}}}', call) == (list(args), kwargs)
    assert codec.load_call(*codec.dump_call((Point(1),), {"second": 2, "named": Path()}, call), call)[0] == [Point(1)]
    assert call.result is not None
    with pytest.raises(SerializationError, match=r"^args\[0\]: test_codec_shapes\.Point has no field"):
        codec.load_call('[{"q":1}]', "{}", call)
    with pytest.raises(SerializationError, match=r"^kwargs\.named: "):
        codec.load_call("[]", '{"named":[]}', call)
    with pytest.raises(SerializationError, match="keys must be str"):
        codec.dump_call((), {1: 2}, call)  # type: ignore[dict-item]


def test_a_plain_signature_needs_no_work() -> None:
    """Where no annotation says anything, calls go the short way."""
    call = CallShape.of(plain)
    assert not call.writes
    assert not call.reads
    assert call.result is None


def test_parameters_given_by_the_engine_are_left_out() -> None:
    """`self` and the context are no arguments of a call."""

    class Job:
        def run(self, ctx: object, at: Point) -> Point: ...

    def resolved(self: object, ctx: object, at: Point) -> Point: ...

    for function in (Job.run, resolved):
        call = CallShape.of(function, skip=2)
        assert codec.load_call('[{"x":1}]', "{}", call) == ([Point(1)], {})
    assert not CallShape.of(object.__init__, skip=1).reads


def test_one_annotation_that_is_not_there_spoils_no_other() -> None:
    """A name that only type checkers import leaves its own parameter unconverted."""

    def typed(at: Point, what: Missing) -> Missing: ...

    @dataclass
    class Half:
        at: Point
        what: Missing

    call = CallShape.of(typed)
    assert codec.load_call(*codec.dump_call((Point(1), 5), {}, call), call) == ([Point(1), 5], {})
    assert there_and_back(Half, Half(Point(1), 5)) == Half(Point(1), 5)


# ------------------------------------------------------------------ other people's classes


def test_attrs_classes_come_back() -> None:
    """attrs: fields by the names its constructor takes."""
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Item:
        at: Point
        _secret: int = 1
        colour: Colour = attrs.field(default=Colour.RED, alias="color")
        made: int = attrs.field(init=False, default=3)

    value = Item(Point(1), 5, Colour.PAIR)
    assert there_and_back(Item, value) == value
    assert there_and_back(list[Item] | None, [value]) == [value]
    assert rebuilt({"at": {"x": 1}}, Item) == Item(Point(1))
    with pytest.raises(SerializationError, match="needs at"):
        rebuilt({}, Item)


def test_pydantic_models_come_back() -> None:
    """pydantic: the model writes and checks itself, strict ones and those with aliases too."""
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(strict=True)
        at: datetime
        id: UUID
        colour: Colour = pydantic.Field(alias="color")
        raw: bytes = b"x"

        @pydantic.computed_field  # type: ignore[prop-decorator]
        @property
        def twice(self) -> int:
            return 2

    value = Model(at=datetime(2024, 1, 1), id=UUID(int=1), color=Colour.RED)
    assert there_and_back(Model, value) == value
    assert there_and_back(dict[str, Model | None], {"a": value, "b": None}) == {"a": value, "b": None}
    with pytest.raises(SerializationError, match=r"making the .*Model raised"):
        rebuilt({"at": "never"}, Model)
