"""The model store passes the suite that other stores are compared with it by."""

import inspect
from collections.abc import Iterator

import pytest
from hypothesis import settings

from jobcard.conformance import CHECKS, BackendSuite, Harness
from jobcard.conformance.drawing import CI
from jobcard.conformance.model import ModelStore, open_model, spoil_in_model


class TestModel(BackendSuite):
    histories = settings(CI, max_examples=10)  # compared with itself: only the machine can be wrong

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        harness = Harness(lambda clock: open_model(ModelStore(clock)), spoil=spoil_in_model)
        yield harness
        harness.close()


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_says_its_rule(name: str) -> None:
    """Its docstring is a sentence or two that the author of a store can read as the contract."""
    rule = inspect.getdoc(CHECKS[name]) or ""
    assert len(rule.split()) >= 4
    assert rule[0].isupper() or rule[0] == "`"
    assert rule[-1] == "."
