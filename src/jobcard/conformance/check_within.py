"""Transactions of a caller: what a store that joins them takes, and that nothing comes of what it does not."""

from __future__ import annotations

import pytest

from jobcard.backends.base import Backend, RecordKind
from jobcard.conformance import factory
from jobcard.errors import ConfigError


def check_what_holds_no_transaction_is_refused(backend: Backend) -> None:
    """Whatever is given instead of a connection or session, the error is a `ConfigError`, and nothing is stored."""
    if not backend.capabilities.joins:
        pytest.skip("this store joins no transactions (`Capabilities.joins`)")
    for given in (True, 0, "a connection", object(), type):
        with pytest.raises(ConfigError):
            backend.enqueue([factory.new_job(queue="new")], within=given)
    assert backend.enqueue([], within=object()) == []
    assert factory.ids_in(backend) == []
    assert backend.read_records(RecordKind.QUEUE) == []
