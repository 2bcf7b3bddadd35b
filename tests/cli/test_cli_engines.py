"""Engines and queues from outside, figures that keep up, and completion in a shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from answers import complaint, listed, succeeded
from terminal import PROGRAM, on_terminal, without_styles

from helpers.apps import App
from helpers.waiting import PATIENCE
from jobcard import Jobcard
from jobcard.backends.base import RecordKind, Want


@pytest.fixture
def running(shop: App) -> Jobcard:
    """A client of the shop's store, in which the record of an engine stands as a live one writes it."""
    store = Jobcard(f"sqlite:///{shop.directory}/jobcard.db")
    about = {
        "pid": 11,
        "keeper_pid": 10,
        "host": "here",
        "version": "0.1.0",
        "started_at": 1_800_000_000_000_000,
        "heartbeat": 600,
        "queues": ["default", "mail"],
        "workers": [12, 13],
    }
    with store.parts.connection as backend:
        for engine in ("e1", "e2"):
            backend.write_record(RecordKind.ENGINE, engine, json.dumps(about))
    return store


def orders(store: Jobcard) -> dict[str, str]:
    with store.parts.connection as backend:
        return {record.key: json.loads(record.value)["order"] for record in backend.read_records(RecordKind.ORDER)}


class TestEngines:
    def test_list_has_the_fields_of_the_record(self, shop: App, running: Jobcard) -> None:
        """As `jobs.engines.list()` gives them."""
        first, second = json.loads(succeeded(shop.jobcard("engines", "list", "--json")).out)
        assert (first["id"], second["id"]) == ("e1", "e2")
        assert (first["pid"], first["keeper_pid"], first["host"]) == (11, 10, "here")
        assert (first["queues"], first["workers"], first["started_at"]) == (
            ["default", "mail"],
            [12, 13],
            "2027-01-15T08:00:00Z",
        )

    def test_a_table_fits_a_terminal(self, shop: App, running: Jobcard) -> None:
        """The least important columns go first."""
        for columns in (80, 120):
            lines = on_terminal(shop, "engines", "list", columns=columns).out.splitlines()
            assert max(map(len, lines)) <= columns
            assert [line.split()[0] for line in lines] == ["id", "e1", "e2"]

    @pytest.mark.parametrize("verb", ["quiet", "work", "stop"])
    def test_one_is_told(self, verb: str, shop: App, running: Jobcard) -> None:
        """And only that one; the answer is the engine that was told."""
        ran = succeeded(shop.jobcard("engines", verb, "e2", "--json"))
        assert json.loads(ran.out)["id"] == "e2"
        assert orders(running) == {"e2": verb}

    def test_all_are_told(self, shop: App, running: Jobcard) -> None:
        """With --all."""
        ran = succeeded(shop.jobcard("engines", "quiet", "--all", "--json"))
        assert [engine["id"] for engine in json.loads(ran.out)] == ["e1", "e2"]
        assert orders(running) == {"e1": "quiet", "e2": "quiet"}

    def test_one_that_does_not_live(self, shop: App, running: Jobcard) -> None:
        """Exit code 4; the others are told all the same."""
        ran = shop.jobcard("engines", "stop", "e1", "%", "--json")
        assert (ran.code, [engine["id"] for engine in json.loads(ran.out)]) == (4, ["e1"])
        assert "'%'" in ran.err
        assert orders(running) == {"e1": "stop"}

    @pytest.mark.parametrize("arguments", [["quiet"], ["quiet", "e1", "--all"]])
    def test_which_must_be_said_once(self, arguments: list[str], shop: App, running: Jobcard) -> None:
        """Ids or --all, not both: exit code 2."""
        assert "--all" in complaint(shop.jobcard("engines", *arguments), 2)
        assert orders(running) == {}


class TestQueues:
    def test_list_has_settings_and_jobs(self, shop: App) -> None:
        """The fields of `Queue`, and what waits and is at work."""
        queues = {queue["name"]: queue for queue in json.loads(succeeded(shop.jobcard("queues", "list", "--json")).out)}
        assert queues.keys() == {"default", "mail"}
        assert queues["default"] | {"waiting": 1, "at_work": 0, "concurrency": 10, "paused": False} == queues["default"]

    def test_pause_and_resume(self, shop: App) -> None:
        """One is an object, several an array."""
        paused = json.loads(succeeded(shop.jobcard("queues", "pause", "mail", "--json")).out)
        assert (paused["name"], paused["paused"]) == ("mail", True)
        resumed = json.loads(succeeded(shop.jobcard("queues", "resume", "mail", "default", "--json")).out)
        assert [(queue["name"], queue["paused"]) for queue in resumed] == [("mail", False), ("default", False)]

    def test_set_changes_what_is_given(self, shop: App) -> None:
        """And leaves the rest."""
        succeeded(shop.jobcard("queues", "set", "mail", "--priority", "5", "--ageing", "30", "--weight", "2"))
        queue = json.loads(succeeded(shop.jobcard("queues", "set", "mail", "--concurrency", "3", "--json")).out)
        assert (queue["concurrency"], queue["priority"], queue["ageing"], queue["weight"]) == (3, 5, 30.0, 2)
        queue = json.loads(succeeded(shop.jobcard("queues", "set", "mail", "--ageing", "none", "--json")).out)
        assert (queue["concurrency"], queue["ageing"]) == (3, None)

    def test_set_limits_over_all_engines(self, shop: App) -> None:
        """A number, a rate in a window of seconds; none takes one away."""
        limits = ("--global-concurrency", "4", "--rate", "50/0.5")
        queue = json.loads(succeeded(shop.jobcard("queues", "set", "mail", *limits, "--json")).out)
        assert (queue["global_concurrency"], queue["rate"]) == (4, {"count": 50, "per": 0.5})
        assert "50/0.5s" in succeeded(shop.jobcard("queues", "list")).out
        succeeded(shop.jobcard("queues", "set", "mail", "--rate", "100"))
        limits = ("--global-concurrency", "none", "--priority", "1")
        queue = json.loads(succeeded(shop.jobcard("queues", "set", "mail", *limits, "--json")).out)
        assert (queue["global_concurrency"], queue["rate"]) == (None, {"count": 100, "per": 1.0})
        queue = json.loads(succeeded(shop.jobcard("queues", "set", "mail", "--rate", "none", "--json")).out)
        assert (queue["rate"], queue["priority"]) == (None, 1)

    def test_a_pause_says_by_whom(self, shop: App) -> None:
        """Who was named, or this user on this host; and since when."""
        paused = json.loads(succeeded(shop.jobcard("queues", "pause", "mail", "--by", "ann", "--json")).out)
        assert paused["paused_by"] == "ann" and paused["paused_since"].endswith("Z")
        assert "ann" in succeeded(shop.jobcard("queues", "list")).out
        paused = json.loads(succeeded(shop.jobcard("queues", "pause", "default", "--json")).out)
        assert "@" in paused["paused_by"]

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (["set", "mail"], 2, "nothing to set"),
            (["set", "mail", "--global-concurrency", "0"], 2, "global_concurrency"),
            (["set", "mail", "--global-concurrency", "1.5"], 2, "'--global-concurrency'"),
            (["set", "mail", "--rate", "fast"], 2, "'--rate'"),
            (["set", "mail", "--rate", "5/"], 2, "'--rate'"),
            (["set", "mail", "--rate", "0/1"], 2, "count of a rate limit"),
            (["set", "mail", "--rate", "5/nan"], 2, "per of a rate limit"),
            (["pause", "mail", "--by", "a\nb"], 2, "by must be text"),
            (["set", "mail", "--concurrency", "0"], 2, "concurrency"),
            (["set", "mail", "--concurrency", "many"], 2, "'--concurrency'"),
            (["set", "mail", "--priority", "99999"], 2, "priority"),
            (["set", "mail", "--ageing", "soon"], 2, "'--ageing'"),
            (["set", "mail", "--ageing", "nan"], 2, "ageing"),
            (["set", "parcels", "--priority", "1"], 4, "parcels"),
            (["pause", "%"], 4, "%"),
            (["list", "--order-by", "size"], 2, "order_by"),
        ],
    )
    def test_what_cannot_be_done(self, arguments: list[str], code: int, said: str, shop: App) -> None:
        """One line, and no queue is changed or made."""
        before = shop.jobcard("queues", "list", "--json").out
        assert said in complaint(shop.jobcard("queues", *arguments), code)
        assert shop.jobcard("queues", "list", "--json").out == before

    def test_one_that_is_not_there_keeps_no_other_back(self, shop: App) -> None:
        """The first trouble is the exit code."""
        ran = shop.jobcard("queues", "pause", "parcels", "mail", "--json")
        assert (ran.code, [queue["name"] for queue in json.loads(ran.out)]) == (4, ["mail"])


class TestExplain:
    def test_each_reason_has_a_code_and_a_sentence(self, shop: App) -> None:
        """For a job that waits until a time, that time."""
        ids = {job["state"]: job for job in listed(shop)}
        reasons = json.loads(succeeded(shop.jobcard("jobs", "explain", ids["waiting"]["id"], "--json")).out)
        assert ("not_due", ids["waiting"]["available_at"]) in [(each["code"], each["until"]) for each in reasons]
        assert all(each["text"] for each in reasons)
        assert succeeded(shop.jobcard("jobs", "explain", ids["completed"]["id"])).out.startswith("ended: ")

    def test_a_limit_names_the_jobs_that_use_it_up(self, shop: App, running: Jobcard) -> None:
        """In the sentence, and in JSON by themselves."""
        running.queues.create("narrow", global_concurrency=1)
        first, second = (running.enqueue("x", strict=False, queue="narrow") for _ in range(2))
        with running.parts.connection as store:
            assert len(store.exchange("somebody", want=Want([("narrow", 1)], 1), lease=60_000_000).claimed) == 1
        said = succeeded(shop.jobcard("jobs", "explain", str(second.id))).out
        assert "global_limit: " in said and str(first.id) in said
        reasons = json.loads(succeeded(shop.jobcard("jobs", "explain", str(second.id), "--json")).out)
        assert [each["jobs"] for each in reasons if each["code"] == "global_limit"] == [[str(first.id)]]

    def test_a_job_that_is_not_there(self, shop: App) -> None:
        """Exit code 4."""
        complaint(shop.jobcard("jobs", "explain", "0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b"), 4)


class TestWatching:
    def test_a_terminal_shows_it_again_and_again(self, shop: App) -> None:
        """A new screen each time, until Ctrl-C: exit code 130, no traceback."""
        ran = on_terminal(
            *(shop, "stats", "--watch", "--interval", "0.05"), columns=80, until="jobs/s ended", answer="\x03"
        )
        assert ran.code == 130
        assert ran.out.count("\x1b[2J") >= 2
        assert "Traceback" not in ran.out
        assert max(map(len, without_styles(ran.out).splitlines())) <= 80

    def test_a_pipe_gets_a_line_of_json_each_time(self, shop: App) -> None:
        """And its end when the reader has enough: as `| head` does."""
        process = subprocess.Popen(
            [PROGRAM, "stats", "--watch", "--interval", "0.05", "--json"],
            cwd=shop.directory,
            env=shop.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None and process.stderr is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        process.stdout.close()
        assert (first["total"], first["ended_per_s"], second["ended_per_s"]) == (4, None, 0.0)
        assert process.wait(PATIENCE) in (0, 141)
        assert process.stderr.read() == b""
        process.stderr.close()

    def test_sigterm_ends_it(self, shop: App) -> None:
        """As any program."""
        process = subprocess.Popen(
            [PROGRAM, "stats", "--watch"], cwd=shop.directory, env=shop.environment(), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == -signal.SIGTERM
        process.stdout.close()


class TestCompletion:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("jobcard en", ["engines", "enqueue"]),
            ("jobcard jobs re", ["replay", "retry"]),
            ("jobcard completion f", ["fish"]),
            ("jobcard queues set mail --we", ["--weight"]),
        ],
    )
    def test_bash_completes(self, line: str, expected: list[str], bare: App) -> None:
        """With the printed script, in a real bash."""
        script = succeeded(bare.jobcard("completion", "bash")).out
        words = " ".join(line.split())
        shell = f"""
            {script}
            COMP_WORDS=({words}); COMP_CWORD={len(line.split()) - 1}
            _jobcard_completion jobcard
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        ran = subprocess.run(
            ["bash", "--norc", "-c", shell],
            cwd=bare.directory,
            env={**bare.environment(), "PATH": f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert sorted(ran.stdout.split()) == expected, ran.stderr

    @pytest.mark.parametrize(
        ("shell", "mark"), [("zsh", "#compdef jobcard"), ("fish", "complete --no-files --command")]
    )
    def test_other_shells_have_a_script_too(self, shell: str, mark: str, bare: App) -> None:
        """In their own language."""
        assert mark in succeeded(bare.jobcard("completion", shell)).out

    def test_an_unknown_shell(self, bare: App) -> None:
        """Exit code 2, with those there are."""
        assert "bash" in complaint(bare.jobcard("completion", "cmd"), 2)
