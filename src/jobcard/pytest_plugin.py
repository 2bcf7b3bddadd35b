"""The pytest fixture `jobcard_testing`; there as soon as jobcard is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from jobcard.client import Jobcard
    from jobcard.testing import Testing


@pytest.fixture
def jobcard_testing() -> Iterator[Callable[..., Testing]]:
    """`t = jobcard_testing(jobs)`: `jobs.testing()` from here to the end of the test. `mode="inline"` runs at once."""
    with ExitStack() as until_the_end:

        def begin(jobs: Jobcard, mode: Literal["manual", "inline"] = "manual") -> Testing:
            return until_the_end.enter_context(jobs.testing(mode))

        yield begin
