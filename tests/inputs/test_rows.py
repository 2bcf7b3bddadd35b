"""No row of the list of bad inputs is forgotten, and each test that is named for one is there."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from rows import CHECKS, PROVED
from test_kept_inputs import KEPT
from test_refused_inputs import NAMES, OPTIONS, VALUES

TESTS = Path(__file__).parents[1]
ROOM = {CHECKS: TESTS.parent / "src" / "jobcard" / "conformance"}


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


def test_every_row_has_its_place() -> None:
    """Each of the 82 is proved."""
    assert sorted(PROVED) == list(range(1, 83))
    assert all(PROVED.values())


@pytest.mark.parametrize("test", sorted({test for tests in PROVED.values() for test in tests}))
def test_the_test_is_there(test: str) -> None:
    """Under the file, the class and the name that the table says."""
    file, _, name = test.partition("::")
    path = ROOM[CHECKS] / file.removeprefix(CHECKS) if file.startswith(CHECKS) else TESTS / file
    assert name in defined_in(path)


def test_the_values_stand_under_rows_that_name_them() -> None:
    """Values are kept by the number of their row: the table says of each that those tests prove it."""
    for test, rows in {
        "test_a_value_that_would_not_come_back": VALUES,
        "test_a_name_that_is_none": NAMES,
        "test_an_option_out_of_its_bounds": OPTIONS,
        "test_a_value_comes_back_from_store_and_job": KEPT,
    }.items():
        assert {row for row, tests in PROVED.items() if any(each.endswith(f"::{test}") for each in tests)} == set(rows)
