"""What several visitors share: an answer of the store for a moment, and nothing that somebody has just changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import pytest
from visitors import Site

from jobcard.dashboard.shared import LONGEST, SECONDS, SHARE, Shared

REFRESH = {"hx-request": "true"}


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """One that stands."""
    return Clock()


@pytest.fixture
def numbers() -> Iterator[int]:
    """0, 1, 2, …"""
    return count()


class TestShared:
    def test_an_answer_is_kept_for_a_moment(self, clock: Clock, numbers: Iterator[int]) -> None:
        """By its key."""
        shared = Shared(clock)
        assert [shared.get("a", lambda: next(numbers)) for _ in range(3)] == [0, 0, 0]
        assert shared.get("b", lambda: next(numbers)) == 1
        clock.now += SECONDS
        assert shared.get("a", lambda: next(numbers)) == 2

    def test_what_takes_long_is_asked_for_less_often(self, clock: Clock, numbers: Iterator[int]) -> None:
        """So that however many look, it takes a fortieth of the time at most."""
        shared = Shared(clock)

        def slow() -> int:
            clock.now += 0.5
            return next(numbers)

        assert shared.get("a", slow) == 0
        clock.now += 0.5 * SHARE - 0.01
        assert shared.get("a", slow) == 0
        clock.now += 0.01
        assert shared.get("a", slow) == 1

    def test_nothing_is_kept_for_minutes(self, clock: Clock, numbers: Iterator[int]) -> None:
        """The store stood still while ten asked, and lives again."""
        shared = Shared(clock)

        def stuck() -> int:
            clock.now += 20
            return next(numbers)

        for key in range(10):
            shared.get(key, stuck)
        clock.now += LONGEST
        assert shared.get(9, lambda: next(numbers)) == 10

    def test_all_together_take_a_fortieth_of_the_time(self, clock: Clock) -> None:
        """Ten parts of a page that take a moment each are asked for as seldom as one that takes ten."""
        shared, asked = Shared(clock), 0

        def slow() -> None:
            nonlocal asked
            asked += 1
            clock.now += 0.05

        began = clock.now
        while clock.now < began + 600:
            for key in range(10):
                shared.get(key, slow)
            clock.now += 0.5
        assert 0.02 < asked * 0.05 / (clock.now - began) < 1.2 / SHARE

    def test_what_is_kept_long_does_not_make_others_older(self, clock: Clock, numbers: Iterator[int]) -> None:
        """A chart that is counted once in a minute may take a second."""
        shared = Shared(clock)

        def chart() -> None:
            clock.now += 1.0

        def part() -> int:
            shared.get("chart", chart, seconds=60.0)
            return next(numbers)

        assert shared.get("part", part) == 0
        assert shared.get("a", lambda: next(numbers)) == 1
        clock.now += SECONDS
        assert shared.get("a", lambda: next(numbers)) == 2
        assert shared.get("part", part) == 3

    def test_what_fails_is_kept_for_nobody(self, clock: Clock) -> None:
        """The next one asks again."""
        shared = Shared(clock)
        with pytest.raises(ZeroDivisionError):
            shared.get("a", lambda: 1 // 0)
        assert shared.get("a", lambda: 1) == 1

    def test_of_many_at_once_one_asks(self, numbers: Iterator[int]) -> None:
        """The others wait for what it hears."""
        shared, inside, go_on = Shared(), threading.Event(), threading.Event()
        heard: list[int] = []

        def ask() -> int:
            inside.set()
            assert go_on.wait(30)
            return next(numbers)

        threads = [threading.Thread(target=lambda: heard.append(shared.get("a", ask))) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert inside.wait(30)
        go_on.set()
        for thread in threads:
            thread.join(30)
        assert heard == [0, 0, 0, 0]

    def test_it_does_not_grow(self, clock: Clock) -> None:
        """Whatever visitors ask for."""
        shared = Shared(clock)
        for number in range(5_000):
            shared.get(number, lambda: None)
        assert len(shared._kept) <= 200


class TestRefreshes:
    def test_they_share_and_pages_do_not(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who opens a page is told what is so now."""
        monkeypatch.setattr("jobcard.dashboard.shared.SHARE", 1e6)
        before = site.get("/overview/counts", **REFRESH).text
        site.jobs.enqueue("another")
        assert site.get("/overview/counts", **REFRESH).text == before
        assert site.get("/overview/counts").text != before
        assert site.get("/api/v1/overview").json()["counts"]["waiting"] == 5

    def test_a_write_ends_what_is_shared(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever did it sees it at once, and so do the others."""
        monkeypatch.setattr("jobcard.dashboard.shared.SHARE", 1e6)
        assert "paused" not in site.get("/parts/queues/mail", **REFRESH).text.lower()
        assert site.post("/queues/mail/pause", {}).status_code == 303
        assert "paused" in site.get("/parts/queues/mail", **REFRESH).text.lower()

    def test_no_role_is_given_what_another_may_see(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Arguments are for operators, though one has just been shown them."""
        monkeypatch.setattr("jobcard.dashboard.shared.SHARE", 1e6)
        job = site.jobs.enqueue("secretive", ["for few eyes"])
        assert "for few eyes" in site.get(f"/jobs/{job.id}/now", "operator", **REFRESH).text
        assert "for few eyes" not in site.get(f"/jobs/{job.id}/now", "viewer", **REFRESH).text
        assert site.get("/jobs/rows?args=for+few", "operator", **REFRESH).status_code == 200
        assert site.get("/jobs/rows?args=for+few", "viewer", **REFRESH).status_code == 403
