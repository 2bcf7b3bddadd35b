"""What code inside a job may ask its engine's store for, and what it may not."""

from __future__ import annotations

import pytest

from jobcard.backends.asynchronous import VERBS
from jobcard.conformance.model import ModelBackend, ModelStore
from jobcard.core.clock import FrozenClock
from jobcard.workers import link

MOVES_STORES = ("put", "put_once_keys", "once_keys", "versions", "erase", "seal")
ENGINES_ALONE = ("exchange", "renew", "find_held", "migrate", "rollback", "truncate", "close")


def test_what_may_be_asked_is_of_the_contract() -> None:
    """The list names verbs that there are."""
    assert set(VERBS) > link.VERBS


@pytest.mark.parametrize("verb", [*MOVES_STORES, *ENGINES_ALONE])
def test_a_job_cannot_ask_for_it(verb: str) -> None:
    """Neither whole jobs, seals and claims nor the schema go over the pipe, whichever side one comes from."""
    store = ModelBackend(ModelStore(FrozenClock()))
    store.migrate()
    error, answer = link.perform(store, verb, b"\x80")
    assert answer is None and error is not None and error["class"] == "ConfigError"
    if verb != "close":
        with pytest.raises(AttributeError):
            getattr(link.EngineStore(lambda verb, packed: None), verb)
