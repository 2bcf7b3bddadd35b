"""What an engine can be told: words, bounds, and help with spelling."""

from __future__ import annotations

import math
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from jobcard.core.queue import Queue
from jobcard.core.settings import Settings, check_names, settings_from
from jobcard.errors import ConfigError


def test_the_defaults_are_valid() -> None:
    """Nothing needs to be said."""
    assert settings_from() == Settings()
    assert Settings().slots == 10


def test_durations_are_seconds_or_timedeltas() -> None:
    """Both spellings give the same settings."""
    told = settings_from(lease=timedelta(minutes=2), heartbeat=timedelta(seconds=10), stop_timeout=0)
    assert told == settings_from(lease=120, heartbeat=10.0, stop_timeout=0.0)
    assert (told.lease, told.heartbeat) == (120.0, 10.0)


def test_processes_bound_the_jobs_at_once() -> None:
    """Each job runs in a process of its own."""
    assert settings_from(max_concurrent_jobs=8, processes=3).slots == 3
    assert settings_from(max_concurrent_jobs=3, processes=8).slots == 3


@pytest.mark.parametrize(
    "given",
    [
        {name: value}
        for name in ("max_concurrent_jobs", "processes")
        for value in (0, -1, 10**6, "4", 1.5, True, math.nan)
    ]
    + [{"max_concurrent_jobs": None}]
    + [
        {name: value}
        for name in ("lease", "heartbeat", "poll_interval", "stop_timeout", "keep_completed")
        for value in (-1, "5", None, True, math.nan, math.inf, 10**12, timedelta.max)
    ]
    + [
        {"heartbeat": 0},
        {"poll_interval": 0},
        {"lease": 29},
        {"heartbeat": 11},
        {"lease": 60, "heartbeat": 10.1},
        {"recycle_after": 0},
        {"recycle_after": "1"},
        {"memory_limit": 1},
        {"memory_limit": "1G"},
        {"start_method": "fork"},
        {"start_method": None},
        {"queues": (Queue("a"), Queue("b"), Queue("a"))},
    ],
    ids=repr,
)
def test_a_wrong_setting_is_refused(given: dict[str, Any]) -> None:
    """Out of bounds or of the wrong type: `ConfigError` that names the setting."""
    with pytest.raises(ConfigError, match=next(iter(given))):
        settings_from(**given)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("max_concurent_jobs", "max_concurrent_jobs"),
        ("leese", "lease"),
        ("heart_beat", "heartbeat"),
        ("queue", "queues"),
    ],
)
def test_a_misspelt_setting_names_the_nearest(misspelt: str, meant: str) -> None:
    """A typing slip is not ignored in silence."""
    with pytest.raises(ConfigError, match=f"no option '{misspelt}'; did you mean '{meant}'"):
        settings_from(**{misspelt: 1})


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    """Nothing near, nothing suggested."""
    with pytest.raises(ConfigError, match=r"no option 'xyzzy'$"):
        check_names({"xyzzy": 1}, {field.name for field in fields(Settings)}, "Jobcard")
