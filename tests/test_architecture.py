"""The rules of the house: who may import whom, what no source file may do, how long one may be."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import jobcard
from jobcard.backends import registry

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src" / "jobcard"
MODULES = sorted(SOURCES.rglob("*.py"))
STATEMENTS = sorted(SOURCES.rglob("*.sql"))
LONGEST_FILE = 600


@dataclass(frozen=True)
class Room:
    """Part of the package: the rooms it may import from, and what else besides the standard library."""

    may: frozenset[str]
    packages: frozenset[str] = frozenset()


def room(may: str = "", packages: str = "") -> Room:
    return Room(frozenset(may.split()), frozenset(packages.split()))


# What every store may import.
SHELF = (
    "backends.base backends.checks backends.door backends.pages backends.roles backends.url backends.verbs "
    "backends.within core errors"
)
# Arrows point at what is imported; nothing points back. A room may always import itself.
ROOMS = {
    "version": room(),
    "errors": room(),
    "core": room("errors", "cronsim"),
    "backends": room(),
    "backends.base": room("backends.figures core errors"),
    "backends.figures": room(),
    "backends.url": room("errors"),
    "backends.registry": room("backends.base backends.following backends.url core errors"),
    "backends.following": room("backends.asynchronous backends.base core errors"),
    "backends.asynchronous": room("backends.base core errors"),
    "backends.ready": room("backends.base core errors"),
    "backends.checks": room("errors"),
    "backends.door": room("errors"),
    "backends.pages": room("backends.base errors"),
    "backends.pool": room("errors"),
    "backends.sqlfiles": room(),
    "backends.roles": room("errors"),
    "backends.verbs": room("backends.roles errors"),
    "backends.within": room("errors"),
    # One for each store; its own driver, never another store.
    "backends.sqlite": room(f"backends.registry backends.sqlfiles {SHELF}", "apsw sqlcipher3"),
    "backends.redis": room(SHELF, "redis msgspec"),
    # What stores in SQL databases do alike; it knows no driver.
    "backends.sql": room(f"backends.pool backends.sqlfiles {SHELF}"),
    "backends.mysql": room(f"backends.sql {SHELF}", "pymysql MySQLdb"),
    "backends.postgres": room(f"backends.sql backends.pool backends.sqlfiles {SHELF}", "psycopg"),
    "backends.mongodb": room(SHELF, "pymongo bson"),
    # The pipe between worker and engine carries the verbs of `backends.base`.
    "workers": room("backends.base core errors version", "msgspec"),
    "engine": room("workers backends.base backends.registry backends.ready core errors version"),
    "engine.keeper": room("workers.death engine.exits engine.notify engine.shares"),
    "engine.notify": room(),
    # From one store into another, and into files.
    "moving": room(
        "engine workers backends.base backends.pages backends.registry backends.ready backends.url core errors version",
        "msgspec",
    ),
    "client": room(
        "moving engine workers backends.asynchronous backends.base backends.pages backends.registry backends.ready "
        "backends.url backends.within core errors version"
    ),
    "conformance": room("backends.asynchronous backends.base backends.pages core errors", "pytest hypothesis"),
    # Nothing imports it: an application that wants traces does.
    "opentelemetry": room("client core errors version", "opentelemetry"),
    # For those who use jobcard: names to annotate tests with, and a fixture.
    "testing": room("client"),
    "pytest_plugin": room("client testing", "pytest"),
    # Nothing imports it: the client finds it by name when it is asked for.
    "dashboard": room("client core errors version", "starlette jinja2 markupsafe uvicorn"),
    # `jobcard start` becomes the keeper itself.
    "cli": room(
        "client dashboard moving engine engine.keeper workers backends.base backends.registry backends.roles "
        "backends.url core errors version",
        "click rich",
    ),
    # `python -m jobcard`.
    "__main__": room("cli"),
}
# What every store has in its folder, or in that of the base it derives from: each verb of each store is found at once.
SHELVES = [
    "backend",  # the class: every verb in a few lines, which hand on to the others
    "enqueue",
    "exchange",
    "admission",
    "leases",
    "changes",
    "deleting",
    "records",
    "lookup",
    "moving",
    "sealing",
    "schema",
    "rows",
    "wake",
    "checkup",
    "connection",
    "errors",
    "options",
]
# Rooms that stand inside another one, but keep rules of their own.
INNER = ("engine.keeper", "engine.notify")
# The driver's module in the standard library, for the one store that may use it.
STANDARD_DRIVERS = {"sqlite3": "backends.sqlite"}

FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "imp", "code"}
FORBIDDEN_CALLS = {"eval", "exec", "__import__"}


def name_of(path: Path) -> str:
    """A module's name below `jobcard`: "core.job", "" for the package itself."""
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room a module below `jobcard` stands in."""
    if module in INNER:
        return module
    parts = module.split(".")
    if parts[0] == "backends" and len(parts) > 1:
        return ".".join(parts[:2])
    return parts[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module or module.name) of every import, those for type checkers included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports here are absolute"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield node.lineno, inner if is_module(inner) else module


def is_module(name: str) -> bool:
    if name.split(".")[0] != "jobcard":
        return False
    place = SOURCES.joinpath(*name.split(".")[1:])
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def at(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def forbidden_arrows(path: Path) -> Iterator[str]:
    module = name_of(path)
    if not module:
        return  # the public names, from wherever they are
    own = room_of(module)
    rules = ROOMS[own]
    for line, target in imports_of(path):
        top = target.split(".")[0]
        if top == "jobcard":
            below = target.removeprefix("jobcard").removeprefix(".")
            if not below:
                yield f"{at(path, line)}: {own} -> the package itself; import the module that has the name"
            elif room_of(below) != own and below not in rules.may and room_of(below) not in rules.may:
                yield f"{at(path, line)}: {own} -> {below}"
        elif top in STANDARD_DRIVERS and own != STANDARD_DRIVERS[top]:
            yield f"{at(path, line)}: {own} -> {top}"
        elif top not in sys.stdlib_module_names and top not in rules.packages:
            yield f"{at(path, line)}: {own} -> the package {top}"


class TestImports:
    def test_every_arrow_is_drawn(self) -> None:
        """Nothing imports what stands above or beside it; `if TYPE_CHECKING` imports count."""
        assert not [arrow for path in MODULES for arrow in forbidden_arrows(path)]

    def test_every_room_is_known(self) -> None:
        """A new folder, and a module beside `errors.py`, gets a line in ROOMS before it is imported by anybody."""
        modules = {name_of(path) for path in MODULES} - {""}
        assert {room_of(module) for module in modules} <= ROOMS.keys()

    def test_the_keeper_is_tiny(self) -> None:
        """Of jobcard, the keeper imports two small modules and two of figures; so nothing a job does can hurt it."""
        ours = {target for _, target in imports_of(SOURCES / "engine" / "keeper.py") if target.startswith("jobcard")}
        small = ("workers/death.py", "engine/notify.py")
        assert ours == {
            "jobcard.workers.death",
            "jobcard.engine.exits",
            "jobcard.engine.notify",
            "jobcard.engine.shares",
        }
        for figures in ("exits", "shares"):
            assert not list(imports_of(SOURCES / "engine" / f"{figures}.py"))
        for path in small:
            theirs = {target.split(".")[0] for _, target in imports_of(SOURCES / path)}
            assert theirs <= sys.stdlib_module_names

    def test_import_jobcard_loads_nothing_heavy(self) -> None:
        """An application that only enqueues now and then starts as fast as before."""
        heavy = [
            "asyncio",
            "msgspec",
            "click",
            "rich",
            "apsw",
            "sqlite3",
            "psycopg",
            "starlette",
            "jinja2",
            "opentelemetry",
            "multiprocessing",
            "hypothesis",
            "pytest",
        ]
        loaded = f"import sys, jobcard; print(*[name for name in {heavy} if name in sys.modules])"
        ran = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True, timeout=60)
        assert ran.stdout.split() == []

    def test_the_rules_see_a_wrong_arrow(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The test of the test: imports upwards, of another driver and for type checkers are all found."""
        wrong = tmp_path / "core" / "wrong.py"
        wrong.parent.mkdir()
        wrong.write_text(
            "from typing import TYPE_CHECKING\nimport apsw\nimport sqlite3\n"
            "if TYPE_CHECKING:\n    from jobcard.backends.base import Backend\n"
        )
        monkeypatch.setitem(globals(), "SOURCES", tmp_path)
        monkeypatch.setitem(globals(), "ROOT", tmp_path)
        arrows = [arrow.partition(": ")[2] for arrow in forbidden_arrows(wrong)]
        assert arrows == ["core -> the package apsw", "core -> sqlite3", "core -> backends.base"]


def entry_points() -> dict[str, str]:
    """The class of each URL scheme, as `pyproject.toml` has it, without the extra that brings its driver."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {scheme: name.partition(" ")[0] for scheme, name in project["entry-points"][registry.GROUP].items()}


def stores() -> list[str]:
    """The folders of the stores, as the entry points name them."""
    return sorted({name.partition(":")[0].removeprefix("jobcard.backends.") for name in entry_points().values()})


def folders_of(store: str) -> list[Path]:
    """A store's folder, and behind it that of the base whose class it derives from."""
    folder = SOURCES / "backends" / store
    targets = {target for _, target in imports_of(folder / "backend.py")}
    bases = [other for other in ROOMS if f"jobcard.{other}.backend" in targets]
    return [folder, *(SOURCES.joinpath(*base.split(".")) for base in bases)]


class TestShelves:
    @pytest.mark.parametrize("store", stores())
    def test_every_store_has_the_same_rooms(self, store: str) -> None:
        """Whoever knows one store finds any verb of another in the file of the same name."""
        rooms = {path.stem for folder in folders_of(store) for path in folder.glob("*.py")}
        assert not [shelf for shelf in SHELVES if shelf not in rooms]

    @pytest.mark.parametrize("store", stores())
    def test_every_store_claims_in_one_place(self, store: str) -> None:
        """Who derives from a base claims as that does: what the claim is stands once, in a file of this name."""
        *deriving, standing = folders_of(store)
        assert claims_in(standing)
        assert not [claim for folder in deriving for claim in claims_in(folder)]

    def test_the_registry_has_every_entry_point_once_more(self) -> None:
        """Of a scheme that it lacks all packages are looked through; one that is another there leads astray."""
        assert entry_points() == registry.OURS

    def test_nobody_else_claims(self) -> None:
        """`find -name 'claim.*'` shows the claim of each store, and nothing else."""
        found = {claim for store in stores() for claim in claims_in(folders_of(store)[-1])}
        assert set(claims_in(SOURCES)) == found

    def test_a_store_on_a_base_has_the_rooms_of_both(self) -> None:
        """The test of the test: a base is seen, and a store that stands by itself has none."""
        assert [folder.name for folder in folders_of("mysql")] == ["mysql", "sql"]
        assert [folder.name for folder in folders_of("sqlite")] == ["sqlite"]


def claims_in(folder: Path) -> list[Path]:
    """The files in a folder, or below it, that say how a job is claimed."""
    return [path for path in folder.rglob("claim.*") if "__pycache__" not in path.parts]


class TestSources:
    def test_nothing_runs_what_was_stored(self) -> None:
        """No pickle, marshal, shelve, YAML, eval or exec: a store's content is data, whoever wrote it."""
        found = []
        for path in MODULES:
            found += [
                f"{at(path, line)}: {target}"
                for line, target in imports_of(path)
                if target.split(".")[0] in FORBIDDEN_MODULES
            ]
            found += [
                f"{at(path, node.lineno)}: {node.func.id}()"
                for node in ast.walk(tree_of(path))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS
            ]
        assert not found

    def test_sql_is_not_put_together(self) -> None:
        """Statements stand in files; only a store's `statements.py` fills in its prefix and column lists."""
        # A pragma takes no parameters; `connection.py` fills in values that were checked against a list.
        verbs = "select|insert|update|delete|replace|create|drop|alter|with|merge|truncate"
        statement = re.compile(rf"\s*({verbs})\s+\S+\s+(from|into|table|set|as|index|\S+\s+set|\S+\s+from)\b", re.I)
        found = []
        for path in MODULES:
            if path.name == "statements.py":
                continue
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.expr) and is_filled_in(node) and statement.match(text_of(node)):
                    found.append(at(path, node.lineno))
        assert not found

    @pytest.mark.parametrize("path", STATEMENTS, ids=lambda path: str(path.relative_to(SOURCES)))
    def test_a_statement_says_what_it_promises(self, path: Path) -> None:
        """Two comment lines at the top: what it promises, and why it is safe when two run at once."""
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) >= 3
        assert all(re.match(r"-- \S", line) for line in lines[:2])

    def test_no_file_is_too_long(self) -> None:
        """A module beyond 600 lines has more than one reason to change."""
        lengths = [(len(path.read_text("utf-8").splitlines()), str(path.relative_to(ROOT))) for path in MODULES]
        assert not [f"{path}: {length} lines" for length, path in sorted(lengths) if length > LONGEST_FILE]

    def test_every_module_says_what_it_is_for(self) -> None:
        """A module opens with a docstring, unless it is empty."""
        assert not [at(path, 1) for path in MODULES if tree_of(path).body and not ast.get_docstring(tree_of(path))]


def is_filled_in(node: ast.AST) -> bool:
    """Whether this is text with something put into it: an f-string, a `%`, a `+` or a `.format`."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, (ast.Mod, ast.Add)) and isinstance(node.left, ast.Constant)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr == "format" and isinstance(node.func.value, ast.Constant)
    return False


def text_of(node: ast.AST) -> str:
    """The text, `?` where something is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "?" for part in node.values)
    if isinstance(node, ast.BinOp):
        node = node.left
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        node = node.func.value
    return str(node.value) if isinstance(node, ast.Constant) else ""


class TestPublicNames:
    def test_they_are_listed_and_sorted(self) -> None:
        """`jobcard.__all__` has every public name, each exists, and they are in order."""
        names = list(jobcard.__all__)
        assert names == sorted(names)
        assert not [name for name in names if not hasattr(jobcard, name)]

    def test_each_has_a_docstring(self) -> None:
        """What an editor shows: every exported class and function, and their public members."""
        assert not [
            place
            for name in jobcard.__all__
            for place, thing in public_parts(name, getattr(jobcard, name))
            if not (inspect.getdoc(thing) or "").strip()
        ]


def public_parts(name: str, thing: object) -> Iterator[tuple[str, object]]:
    if not callable(thing):
        return
    yield name, thing
    if isinstance(thing, type):
        for member, value in vars(thing).items():
            function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            is_ours = inspect.isfunction(function) or isinstance(value, property)
            if not member.startswith("_") and is_ours:
                yield f"{name}.{member}", function
