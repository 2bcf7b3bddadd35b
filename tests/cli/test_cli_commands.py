"""Each command as a user or a script runs it, without a terminal."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from answers import complaint, listed, succeeded

from helpers.apps import App
from jobcard import Ended, Jobcard


class TestHelp:
    def test_the_version_is_one_line(self, bare: App) -> None:
        """`--version` says the name and the version."""
        assert succeeded(bare.jobcard("--version")).out.startswith("jobcard 0.")

    def test_no_command_shows_the_help(self, bare: App) -> None:
        """Without a command there is nothing to do: the help, and the exit code of a usage error."""
        ran = bare.jobcard()
        assert (ran.code, ran.out) == (2, "")
        assert "Usage: jobcard" in ran.err


class TestEnqueue:
    def test_it_prints_the_id_of_the_stored_job(self, bare: App) -> None:
        """The only output is the id, so that a script can keep it."""
        ran = succeeded(bare.jobcard("enqueue", "shop:jobs", "shop.thumbnail", "--args", '["cat.jpg"]'))
        (job,) = listed(bare)
        assert ran.out == f"{UUID(job['id'])}\n"
        assert (job["name"], job["args"], job["state"]) == ("shop.thumbnail", ["cat.jpg"], "waiting")

    def test_a_unique_job_that_is_there(self, bare: App) -> None:
        """Its id is printed; where the job says to ignore the second one, nothing is, and a note tells so."""
        bare.write(
            "once.py",
            """
            from jobcard import Jobcard, Unique

            jobs = Jobcard()
            one = jobs.job(name="one", unique=True)(lambda: None)
            none = jobs.job(name="none", unique=Unique(on_conflict="ignore"))(lambda: None)
            """,
        )
        first, second = (succeeded(bare.jobcard("enqueue", "once", "one")).out for _ in range(2))
        assert first == second and UUID(first.strip())
        succeeded(bare.jobcard("enqueue", "once", "none"))
        ran = succeeded(bare.jobcard("enqueue", "once", "none"))
        assert ran.out == "" and "the job none is unique" in ran.err
        assert succeeded(bare.jobcard("enqueue", "once", "none", "--json")).out.strip() == "null"
        assert len(listed(bare)) == 2

    @pytest.mark.parametrize("app", ["shop", "shop:jobs", "shop.py", "shop.py:jobs", "./shop.py"])
    def test_an_app_is_a_module_or_a_script(self, app: str, bare: App) -> None:
        """The job is called the same, however the application is named."""
        succeeded(bare.jobcard("enqueue", app, "shop.thumbnail", "--args", '["cat.jpg"]'))
        assert [job["name"] for job in listed(bare)] == ["shop.thumbnail"]

    def test_options_reach_the_job(self, bare: App) -> None:
        """Queue, priority, delay, timeout, tries, tags and id are those given."""
        job_id = "0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b"
        ran = bare.jobcard(
            *("enqueue", "shop", "shop.thumbnail", "--kwargs", '{"path": "a", "width": 3}', "--queue", "slow"),
            *("--priority", "7", "--delay", "60", "--timeout", "9", "--max-attempts", "2", "--tag", "x", "--tag", "y"),
            *("--id", job_id, "--json"),
        )
        job = json.loads(succeeded(ran).out)
        assert job["id"] == job_id
        assert (job["queue"], job["priority"], job["timeout"], job["max_attempts"]) == ("slow", 7, 9.0, 2)
        assert (job["kwargs"], job["tags"], job["hold"]) == ({"path": "a", "width": 3}, ["x", "y"], "delay")
        wait = datetime.fromisoformat(job["available_at"]) - datetime.fromisoformat(job["created_at"])
        assert wait == timedelta(seconds=60)

    def test_at_is_a_time_with_a_zone(self, bare: App) -> None:
        """The job is due at that instant."""
        due = ("--at", "2031-01-31T08:00:00+02:00")
        ran = bare.jobcard("enqueue", "shop", "shop.thumbnail", "--args", '["a"]', *due, "--json")
        assert json.loads(succeeded(ran).out)["available_at"] == "2031-01-31T06:00:00Z"

    def test_the_same_id_again_is_the_same_job(self, bare: App) -> None:
        """Repeating a command whose end was not seen never makes a second job."""
        command = (
            "enqueue",
            "shop",
            "shop.thumbnail",
            "--args",
            '["a"]',
            "--id",
            "0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b",
        )
        assert succeeded(bare.jobcard(*command)).out == succeeded(bare.jobcard(*command)).out
        assert len(listed(bare)) == 1

    def test_the_url_overrules_the_application(self, bare: App) -> None:
        """With --url the job goes there and nowhere else."""
        succeeded(bare.jobcard(*["enqueue", "shop", "shop.thumbnail", "--args", "[1]", "--url", "sqlite:///other.db"]))
        assert len(listed(bare, "--url", "sqlite:///other.db")) == 1
        assert not (bare.directory / "jobcard.db").exists()


class TestWhichStore:
    def test_the_environment_counts_before_the_project(self, bare: App) -> None:
        """--url, then $JOBCARD_URL, then pyproject.toml, then a file here."""
        bare.write("pyproject.toml", '[tool.jobcard]\nurl = "sqlite:///project.db"\n')
        succeeded(bare.jobcard("migrate"))
        succeeded(bare.jobcard("migrate", env={"JOBCARD_URL": "sqlite:///variable.db"}))
        succeeded(bare.jobcard("migrate", "--url", "sqlite:///option.db", env={"JOBCARD_URL": "sqlite:///variable.db"}))
        assert sorted(path.name for path in bare.directory.glob("*.db")) == ["option.db", "project.db", "variable.db"]

    def test_looking_at_a_missing_store_makes_none(self, bare: App) -> None:
        """Who lists jobs in the wrong directory is told so, and leaves no file behind."""
        for command in ("stats", "jobs list", "jobs show 0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b"):
            assert "jobcard migrate" in complaint(bare.jobcard(*command.split()), 3)
        assert not list(bare.directory.glob("*.db*"))


class TestJobs:
    def test_list_has_the_newest_first(self, shop: App) -> None:
        """A JSON array of records: field names as in `Job`, times in ISO 8601 UTC, durations in seconds."""
        jobs = listed(shop)
        assert [job["state"] for job in jobs] == ["canceled", "waiting", "failed", "completed"]
        assert jobs[3] | {"result": "cat.jpg@80", "timeout": 30.0, "args": ["cat.jpg"]} == jobs[3]
        assert datetime.fromisoformat(jobs[3]["finished_at"]).utcoffset() == timedelta(0)

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ("--state failed", ["failed"]),
            ("--state failed --state completed", ["failed", "completed"]),
            ("--queue mail", ["failed"]),
            ("--name shop.welcome", ["failed"]),
            ("--search welc", ["failed"]),
            ("--search %", []),
            ("--queue *", []),
            ("--limit 1", ["canceled"]),
        ],
    )
    def test_filters_take_text_literally(self, arguments: str, expected: list[str], shop: App) -> None:
        """Several of one kind are alternatives; `%` and `*` mean themselves."""
        assert [job["state"] for job in listed(shop, *arguments.split())] == expected

    def test_pages_follow_each_other(self, shop: App) -> None:
        """A cut list says on standard error how to go on; standard output stays pure JSON."""
        first = succeeded(shop.jobcard("jobs", "list", "--limit", "3", "--json"))
        cursor = first.err.split("--cursor ")[1].strip()
        rest = succeeded(shop.jobcard("jobs", "list", "--limit", "3", "--cursor", cursor, "--json"))
        assert [job["state"] for job in json.loads(first.out) + json.loads(rest.out)] == [
            *("canceled", "waiting", "failed", "completed"),
        ]
        assert rest.err == ""

    def test_a_table_is_whole_without_a_terminal(self, shop: App) -> None:
        """A line a job under headings, nothing cut, no colors: fit for grep and awk."""
        heading, *lines = succeeded(shop.jobcard("jobs", "list", env={"COLUMNS": "20"})).out.splitlines()
        assert heading.split() == ["id", "state", "queue", "name", "attempt", "created_at", "reason"]
        assert [line.split()[1] for line in lines] == ["canceled", "waiting", "failed", "completed"]
        assert [line.split()[0] for line in lines] == [job["id"] for job in listed(shop)]

    def test_show_has_errors_with_their_traceback(self, shop: App) -> None:
        """Everything about one job; what an error says cannot drive the terminal."""
        (failed,) = listed(shop, "--state", "failed")
        text = succeeded(shop.jobcard("jobs", "show", failed["id"])).out
        assert "reason        error" in text
        assert r"ValueError nobody is called ann \x1b[2J\u202e\nsecond line" in text
        assert "    Traceback (most recent call last):" in text
        assert 'args          ["ann"]' in text
        assert not set(text) & {"\x1b", "\u202e", "\r"}

    def test_show_as_json_is_the_record(self, shop: App) -> None:
        """One object with the fields of the list, and the errors."""
        (failed,) = listed(shop, "--state", "failed")
        ran = succeeded(shop.jobcard("jobs", "show", failed["id"], "--json"))
        assert json.loads(ran.out) == failed
        assert ran.out.isascii()
        assert failed["errors"][0]["type"] == "ValueError"
        assert failed["errors"][0]["message"].startswith("nobody is called ann")

    def test_retry_puts_a_failed_job_back(self, shop: App) -> None:
        """It waits again with the same id; with --json one job is one object."""
        (failed,) = listed(shop, "--state", "failed")
        job = json.loads(succeeded(shop.jobcard("jobs", "retry", failed["id"], "--json")).out)
        assert (job["id"], job["state"], job["attempt"]) == (failed["id"], "waiting", 0)

    def test_cancel_ends_a_waiting_job(self, shop: App) -> None:
        """It never starts, and the answer is the job as it is now."""
        (waiting,) = listed(shop, "--state", "waiting")
        assert "canceled" in succeeded(shop.jobcard("jobs", "cancel", waiting["id"])).out
        assert listed(shop, "--state", "waiting") == []

    def test_several_jobs_are_moved_as_far_as_they_can_be(self, shop: App) -> None:
        """One that is not there or has ended keeps no other back; the first trouble is the exit code."""
        ids = {job["state"]: job["id"] for job in listed(shop)}
        missing = "0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b"
        ran = shop.jobcard("jobs", "retry", missing, ids["completed"], ids["failed"], ids["canceled"], "--json")
        assert ran.code == 4
        assert [job["state"] for job in json.loads(ran.out)] == ["waiting", "waiting"]
        assert missing in ran.err
        assert "cannot retry" in ran.err

    def test_a_move_that_is_not_allowed_fails(self, shop: App) -> None:
        """Exit code 1, and the sentence says what state it is in."""
        (completed,) = listed(shop, "--state", "completed")
        said = complaint(shop.jobcard("jobs", "retry", completed["id"]), 1)
        assert "completed, allowed from canceled, failed" in said


class TestWaitingForOthers:
    def enqueue(self, app: App, *options: str) -> str:
        """A job of the shop; its id."""
        ran = app.jobcard("enqueue", "shop", "shop.thumbnail", "--args", '["cat.jpg"]', *options)
        return succeeded(ran).out.strip()

    def test_enqueue_takes_whom_it_waits_for(self, bare: App) -> None:
        """Several of them; with --json each is an object with the names of the record."""
        first, second = self.enqueue(bare), self.enqueue(bare, "--delay", "60")
        third = self.enqueue(bare, "--after", first, "--after", second)
        job = json.loads(succeeded(bare.jobcard("jobs", "show", third, "--json")).out)
        assert (job["hold"], job["after"]) == (
            "after",
            [{"kind": "job", "id": each, "until": "completed"} for each in (first, second)],
        )
        assert [job["after"] for job in listed(bare)][1:] == [[], []]

    def test_show_says_it_on_one_line(self, bare: App) -> None:
        """Jobs and batches by their ids; of one that waits for any end, that it does."""
        with Jobcard(f"sqlite:///{bare.directory}/jobcard.db") as jobs:
            with jobs.batch() as batch:
                first = batch.enqueue(jobs.job(name="one")(lambda: None).call())
            second = jobs.enqueue("two", strict=False, after=[first, Ended(batch)])
        text = succeeded(bare.jobcard("jobs", "show", str(second.id))).out
        [line] = [line for line in text.splitlines() if line.startswith("after ")]
        assert line.split(maxsplit=1)[1] == f"job {first.id}, batch {batch.id} (any end)"
        text = succeeded(bare.jobcard("jobs", "show", str(first.id))).out
        assert "after" not in text.split()
        [line] = [line for line in text.splitlines() if line.startswith("batch_id ")]
        assert line.split()[1] == str(batch.id)

    def test_show_says_why_one_never_ran(self, bare: App) -> None:
        """What it waited for has failed: the engine has canceled it, and no attempt is spoken of."""
        bare.write(
            "seed.py",
            """
            from jobcard import JobFailedError
            from shop import jobs, thumbnail, welcome

            if __name__ == "__main__":
                with jobs.running(in_process=True):
                    awaited = welcome.enqueue("ann")
                    try:
                        thumbnail.options(after=awaited).enqueue("cat.jpg").result(timeout=60)
                    except JobFailedError as error:
                        print(error.job_id, awaited.id)
            """,
        )
        never, awaited = bare.python("seed.py").out.split()[-2:]
        text = succeeded(bare.jobcard("jobs", "show", never)).out
        assert f"it waited for the success of job {awaited}, which failed" in text
        assert "\nnot tried, " in text and "attempt 0" not in text
        assert re.search(r"^reason +dependency$", text, re.M)

    def test_explain_says_for_whom(self, bare: App) -> None:
        """And how far that is."""
        first = self.enqueue(bare)
        second = self.enqueue(bare, "--after", first)
        lines = succeeded(bare.jobcard("jobs", "explain", second)).out.splitlines()
        assert f"dependency: it waits for job {first} (waiting)" in lines
        reasons = json.loads(succeeded(bare.jobcard("jobs", "explain", second, "--json")).out)
        assert [reason["jobs"] for reason in reasons if reason["code"] == "dependency"] == [[first]]

    def test_a_batch_is_filled_listed_and_canceled(self, bare: App) -> None:
        """By its id, which is any that is given."""
        batch = "0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b"
        mine = [self.enqueue(bare, "--batch", batch) for _ in range(2)]
        self.enqueue(bare)
        assert [(job["id"], job["batch_id"]) for job in listed(bare, "--batch", batch)] == [
            *((each, batch) for each in reversed(mine)),
        ]
        assert "2 jobs canceled" in succeeded(bare.jobcard("jobs", "cancel", "--batch", batch, "--yes")).out
        assert [job["state"] for job in listed(bare)] == ["waiting", "canceled", "canceled"]


class TestStats:
    def test_they_count_by_state_and_queue(self, shop: App) -> None:
        """The fields of `jobs.stats()`."""
        stats = json.loads(succeeded(shop.jobcard("stats", "--json")).out)
        assert {name: stats[name] for name in ("total", "waiting", "completed", "failed", "canceled", "delayed")} == {
            "total": 4,
            "waiting": 1,
            "completed": 1,
            "failed": 1,
            "canceled": 1,
            "delayed": 1,
        }
        assert stats["queues"]["mail"] == {
            "waiting": 0,
            "claimed": 0,
            "running": 0,
            "completed": 0,
            "failed": 1,
            "canceled": 0,
        }

    def test_people_get_a_sheet_and_a_table(self, shop: App) -> None:
        """Totals first, then a line per queue."""
        lines = succeeded(shop.jobcard("stats")).out.splitlines()
        assert lines[0].split() == ["total", "4"]
        assert ["mail", "0", "0", "0", "0", "1", "0"] in [line.split() for line in lines]


class TestSchema:
    def test_migrate_may_be_repeated(self, bare: App) -> None:
        """The first says what it applied, the second that there is nothing to do."""
        assert json.loads(succeeded(bare.jobcard("migrate", "--json")).out)["applied"] != []
        assert json.loads(succeeded(bare.jobcard("migrate", "--json")).out) == {"applied": []}
        assert "nothing to do" in succeeded(bare.jobcard("migrate")).out

    def test_rollback_asks_somebody_or_wants_yes(self, shop: App) -> None:
        """Where nobody can be asked it does nothing and exits with 2."""
        assert "--yes" in complaint(shop.jobcard("rollback"), 2)
        assert len(listed(shop)) == 4
        assert json.loads(succeeded(shop.jobcard("rollback", "--yes", "--json")).out)["rolled_back"] >= 1

    def test_rollback_ends_with_nothing_left(self, bare: App) -> None:
        """Taken back to the bottom, the store is empty for every command but migrate."""
        succeeded(bare.jobcard("migrate"))
        while json.loads(succeeded(bare.jobcard("rollback", "--yes", "--json")).out)["rolled_back"] is not None:
            continue
        complaint(bare.jobcard("stats"), 3)
        succeeded(bare.jobcard("migrate"))
        assert listed(bare) == []
