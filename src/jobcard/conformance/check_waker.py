"""Wakers: hints that something may have changed."""

from __future__ import annotations

import select
import time

import pytest

from jobcard.backends.base import Backend, RecordKind, Waker
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness
from jobcard.core import states

PATIENCE = 10.0
"""Seconds after which a hint counts as missing."""


def _hint_comes(waker: Waker) -> bool:
    """Wait for a hint on whichever way there is."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        descriptors = [] if waker.fd is None else [waker.fd]
        ready, _, _ = select.select(descriptors, [], [], min(waker.interval, 0.05))
        if ready:
            waker.drain()
            return True
        if waker.changed is not None and waker.changed():
            return True
    return False


def check_a_waker_hints_at_a_new_job(harness: Harness) -> None:
    """A job stored by another backend is hinted at; a store with nothing to listen to says so."""
    backend, producer = harness.ready(), harness.open()
    waker = backend.waker()
    try:
        if waker.fd is None and waker.changed is None:
            pytest.skip("this store has nothing to listen to: its engines poll")
        for _ in range(3):
            factory.enqueue(producer)
            assert _hint_comes(waker)
    finally:
        waker.close()
        harness.close()


def check_a_waker_hints_at_a_follow_up(harness: Harness) -> None:
    """A job stored with the end of another is hinted at like one that was enqueued, and so is an order."""
    backend, other = harness.ready(), harness.open()
    claims = [factory.claimed_job(backend) for _ in range(3)]
    waker = backend.waker()
    try:
        if waker.fd is None and waker.changed is None:
            pytest.skip("this store has nothing to listen to: its engines poll")
        for claim in claims:
            assert factory.settle(other, claim, states.complete("1"), then=[factory.new_job()]) == []
            assert _hint_comes(waker)
        other.write_record(RecordKind.ORDER, "engine", '{"order": "quiet"}')
        assert _hint_comes(waker)
    finally:
        waker.close()
        harness.close()


def check_draining_empties_the_hints(harness: Harness) -> None:
    """After a drain the descriptor is quiet until the next change, and draining again is harmless."""
    backend, producer = harness.ready(), harness.open()
    waker = backend.waker()
    try:
        if waker.fd is None:
            pytest.skip("this store has no descriptor to listen on")
        factory.enqueue(producer)
        assert _hint_comes(waker)
        waker.drain()
        assert select.select([waker.fd], [], [], 0)[0] == []
        factory.enqueue(producer)
        assert select.select([waker.fd], [], [], PATIENCE)[0] == [waker.fd]
    finally:
        waker.close()
        harness.close()


def check_wakers_are_independent(backend: Backend) -> None:
    """Each call makes a waker of its own; closing one, even twice, leaves the other and the store."""
    one, other = backend.waker(), backend.waker()
    one.close()
    one.close()
    other.drain()
    if other.changed is not None:
        other.changed()
    other.close()
    assert factory.complete(backend, factory.claimed_job(backend)) == []
