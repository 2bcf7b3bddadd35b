"""The list of features names only what is there: modules that exist, and tests that are defined."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src" / "jobcard"
TESTS = ROOT / "tests"
PLANNED = "planned"


def rows() -> list[tuple[str, str, str]]:
    """(feature, where it lives, what proves it) of every row of every table."""
    text = (ROOT / "docs" / "features.md").read_text("utf-8")
    found = []
    for line in text.splitlines():
        if line.startswith("| "):
            feature, lives, proof = (cell.strip() for cell in line.strip("|").split("|"))
            found.append((feature, lives, proof))
    return [row for row in found if row[0] != "feature"]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def defined_in(path: Path) -> frozenset[str]:
    """The functions of a module, `Class::function` for those of a class."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return frozenset(found)


def is_proof(named: str) -> bool:
    """Whether a test module, or a test in it, is there under this name."""
    file, _, name = named.partition("::")
    path = (SOURCES if file.startswith("conformance/") else TESTS) / file
    if not path.is_file():
        return False
    tests = {each for each in defined_in(path) if re.search(r"(^|::)(test|check)_", each)}
    return name in tests if name else bool(tests) or "Suite" in path.read_text("utf-8")


@pytest.mark.parametrize(("feature", "lives", "proof"), rows(), ids=[row[0][:60] for row in rows()])
def test_what_is_named_exists(feature: str, lives: str, proof: str) -> None:
    """Every module and every test; and what has neither says that it is planned."""
    assert (lives == PLANNED) == (proof == PLANNED)
    if lives != PLANNED:
        assert quoted(lives) and quoted(proof)
        assert [place for place in quoted(lives) if not (SOURCES / place).is_file()] == []
        assert [named for named in quoted(proof) if not is_proof(named)] == []


def test_each_feature_stands_there_once() -> None:
    """And the list is read whole."""
    features = [row[0] for row in rows()]
    assert len(features) == len(set(features)) > 60


def test_the_test_finds_what_is_missing() -> None:
    """The test of the test: no module, no test, no class of it."""
    assert is_proof("test_features.py::test_the_test_finds_what_is_missing")
    for missing in ("test_nothing.py", "test_features.py::test_nothing", "test_features.py::TestX::test_nothing"):
        assert not is_proof(missing)
