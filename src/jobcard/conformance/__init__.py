"""The public test suite of a store: its rules one by one, and long random histories compared with a model.

    class TestMyStore(BackendSuite):
        @pytest.fixture
        def harness(self) -> Iterator[Harness]:
            harness = Harness(new_store)
            yield harness
            harness.close()

It needs pytest and hypothesis (the extra `jobcard[test]`) and imports no store.
"""

import pkgutil

import pytest

# Before they are imported: the assertions in them shall say what they compared.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))

from jobcard.conformance.concurrent import Crowd, run_concurrent_histories  # noqa: E402
from jobcard.conformance.harness import Harness, Shelf  # noqa: E402
from jobcard.conformance.machine import run_histories  # noqa: E402
from jobcard.conformance.suite import CHECKS, AsyncBackendSuite, BackendSuite, run_check  # noqa: E402

__all__ = [
    "CHECKS",
    "AsyncBackendSuite",
    "BackendSuite",
    "Crowd",
    "Harness",
    "Shelf",
    "run_check",
    "run_concurrent_histories",
    "run_histories",
]
