"""The model store passes the suite that other stores are compared with it by."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from jobcard.conformance import BackendSuite, Harness
from jobcard.conformance.drawing import CI
from jobcard.conformance.model import ModelStore, open_model


class TestModel(BackendSuite):
    histories = settings(CI, max_examples=10)  # compared with itself: only the machine can be wrong

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        harness = Harness(lambda clock: open_model(ModelStore(clock)))
        yield harness
        harness.close()
