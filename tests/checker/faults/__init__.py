"""Every kind of fault by its name; `SCHEDULES` says how many of each a run makes."""

from __future__ import annotations

from checker.faults import (
    answers_lost,
    clock_stepped,
    connections_killed,
    disk_full,
    engine_frozen,
    engine_killed,
    engine_stopped,
    host_frozen,
    host_lost,
    jobs_canceled,
    keeper_killed,
    locks_held,
    network_broken,
    parent_killed,
    poison,
    producer_killed,
    rolling_restart,
    server_killed,
    server_restarted,
    unique_race,
    worker_killed,
)
from checker.faults.base import Fault

FAULTS: dict[str, Fault] = {
    module.FAULT.name: module.FAULT
    for module in (
        answers_lost,
        clock_stepped,
        connections_killed,
        disk_full,
        engine_frozen,
        engine_killed,
        engine_stopped,
        host_frozen,
        host_lost,
        jobs_canceled,
        keeper_killed,
        locks_held,
        network_broken,
        parent_killed,
        poison,
        producer_killed,
        rolling_restart,
        server_killed,
        server_restarted,
        unique_race,
        worker_killed,
    )
}

CI = {
    "worker-killed": 40,
    "engine-killed": 6,
    "producer-killed": 6,
    "server-killed": 3,
    "engine-frozen": 4,
    "network-broken": 7,
    "answers-lost": 4,
    "engine-stopped": 5,
    "keeper-killed": 2,
    "host-lost": 1,
    "rolling-restart": 1,
    "unique-race": 10,
    "jobs-canceled": 20,
}
"""What `scripts/test` does to each store, in one load of 5,000 jobs."""

RARE = {
    "parent-killed": 2,
    "host-frozen": 2,
    "server-restarted": 1,
    "clock-stepped": 3,
    "locks-held": 1,
    "connections-killed": 1,
    "disk-full": 1,
    "poison": 2,
    "worker-killed": 5,
}
"""What it does to SQLite and to one server beside that."""

SOAK = {
    "worker-killed": 500,
    "engine-killed": 50,
    "producer-killed": 50,
    "server-killed": 30,
    "server-restarted": 10,
    "engine-frozen": 20,
    "host-frozen": 10,
    "network-broken": 70,
    "answers-lost": 100,
    "engine-stopped": 50,
    "keeper-killed": 20,
    "parent-killed": 20,
    "host-lost": 10,
    "rolling-restart": 10,
    "clock-stepped": 30,
    "locks-held": 10,
    "connections-killed": 10,
    "unique-race": 500,
    "jobs-canceled": 700,
    "poison": 20,
}
"""What `scripts/soak` does to each store, in one load of 100,000 jobs."""

DISK = {"disk-full": 10, "worker-killed": 20, "engine-killed": 3}
LEAKS = {"worker-killed": 100_000}
"""Until the time is up."""

__all__ = ["CI", "DISK", "FAULTS", "LEAKS", "RARE", "SOAK", "Fault"]
