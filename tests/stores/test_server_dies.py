"""The server itself is away when an engine starts. What happens to jobs under its death: test_load.py."""

from __future__ import annotations

import time

import pytest

from checker.lab import Lab
from helpers.places import SERVERS_BY_DAY, Place
from helpers.waiting import wait_until

pytestmark = pytest.mark.turns

CLAIM_AGAIN_SECONDS = 50.0  # ten are promised


@pytest.mark.timeout(240)
@pytest.mark.parametrize("own", SERVERS_BY_DAY, indirect=True)
def test_engines_that_find_no_server_wait_for_it(own: Place, own_lab: Lab) -> None:
    """An engine that dies while the server is away is started anew until it is there, and then takes jobs."""
    lab, server = own_lab, own.server
    assert server is not None
    app = lab.app("load")
    tree = lab.start("load")
    handle = app.note.options(delay=1.0).enqueue()
    lab.history.write("enq-ok", handle.id.hex)
    first = tree.engine()
    server.kill()
    tree.kill_engine()
    wait_until(lambda: tree.errors.count("starting another") >= 2, "an engine that found no server")
    assert tree.find_engine() != first
    up = time.monotonic()
    server.start()
    lab.drained(app, timeout=CLAIM_AGAIN_SECONDS)
    print(f"{own.kind}: done {time.monotonic() - up:.2f} s after the server came back")
    assert tree.stop() == 0
    figures = lab.figures()
    assert figures.faults == {}, figures
