"""Many jobs at once: chosen by options, asked first, told how many."""

from __future__ import annotations

import json

import pytest
from answers import complaint, listed, succeeded
from terminal import on_terminal

from helpers.apps import App


class TestBulk:
    def test_nobody_to_ask_means_nothing_done(self, shop: App) -> None:
        """Deleting, and moving all that fit, need --yes where nobody can be asked: exit code 2."""
        before = listed(shop)
        failed = next(job["id"] for job in before if job["state"] == "failed")
        for arguments in (
            ["retry", "--state", "failed"],
            ["cancel", "--queue", "default"],
            ["delete", "--state", "failed"],
            ["delete", failed],
        ):
            assert "--yes" in complaint(shop.jobcard("jobs", *arguments), 2)
        assert listed(shop) == before

    def test_asked_on_a_terminal(self, shop: App) -> None:
        """No is no, with exit code 1; yes does it and says how many."""
        before = listed(shop)
        refused = on_terminal(shop, "jobs", "delete", "--state", "failed", columns=80, answer="n\n")
        assert (refused.code, "nothing was changed" in refused.out) == (1, True)
        assert listed(shop) == before
        agreed = on_terminal(shop, "jobs", "delete", "--state", "failed", columns=80, answer="y\n")
        assert (agreed.code, "1 job deleted" in agreed.out) == (0, True)
        assert [job["state"] for job in listed(shop)] == ["canceled", "waiting", "completed"]

    @pytest.mark.parametrize(
        ("arguments", "answer", "states"),
        [
            ("retry --queue mail", {"retried": 1}, ["canceled", "waiting", "waiting", "completed"]),
            ("retry --queue default", {"retried": 0}, ["canceled", "waiting", "failed", "completed"]),
            ("retry --state canceled --state failed", {"retried": 2}, ["waiting", "waiting", "waiting", "completed"]),
            ("cancel --name shop.thumbnail", {"canceled": 1}, ["canceled", "canceled", "failed", "completed"]),
            ("cancel --search thumb --tag x", {"canceled": 0}, ["canceled", "waiting", "failed", "completed"]),
            ("delete --queue default", {"deleted": 2}, ["waiting", "failed"]),
            ("delete --after 1d --tag slow", {"deleted": 1}, ["canceled", "waiting", "completed"]),
            ("delete --before 1d", {"deleted": 0}, ["canceled", "waiting", "failed", "completed"]),
        ],
    )
    def test_all_that_fit(self, arguments: str, answer: dict[str, int], states: list[str], shop: App) -> None:
        """And no other; the answer is how many."""
        ran = succeeded(shop.jobcard("jobs", *arguments.split(), "--yes", "--json"))
        assert json.loads(ran.out) == answer
        assert [job["state"] for job in listed(shop)] == states

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["retry"], "Missing argument"),
            (["retry", "ID", "--state", "failed"], "not both"),
            (["retry", "--state", "completed"], "only failed, canceled"),
            (["cancel", "--state", "failed"], "only waiting, claimed, running"),
            (["delete", "--state", "waiting"], "only completed, failed, canceled"),
            (["delete", "--state", "compleated"], "did you mean 'completed'"),
            (["delete", "--after", "yesterday'"], "ISO 8601"),
            (["delete", "--after", "2030-01-31T08:00:00"], "time zone"),
            (["delete", "--before", "999999d"], "before all times"),
            (["delete", "--batch", "seven"], "batch"),
        ],
    )
    def test_what_cannot_be_meant(self, arguments: list[str], said: str, shop: App) -> None:
        """Exit code 2, nothing done, even with --yes."""
        before = listed(shop)
        assert said in complaint(shop.jobcard("jobs", *arguments, "--yes"), 2)
        assert listed(shop) == before

    def test_what_has_not_ended_is_not_deleted(self, shop: App) -> None:
        """Exit code 1; those that can be are."""
        ids = {job["state"]: job["id"] for job in listed(shop)}
        ran = shop.jobcard("jobs", "delete", ids["waiting"], ids["completed"], "--yes")
        assert (ran.code, ran.out) == (1, "1 job deleted\n")
        assert "cannot delete" in ran.err
        assert [job["state"] for job in listed(shop)] == ["canceled", "waiting", "failed"]
