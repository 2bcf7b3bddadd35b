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
    "answers-lost": 4,
    "engine-stopped": 5,
    "unique-race": 10,
    "jobs-canceled": 20,
    "keeper-killed": 2,
    "host-lost": 2,
    "rolling-restart": 1,
    "network-broken": 7,
}
"""What `scripts/test` does to one store, in one load of 5,000 jobs."""

__all__ = ["CI", "FAULTS", "Fault"]
