"""What a user can get wrong: one line that says what, an exit code, nothing changed, never a traceback."""

from __future__ import annotations

import pytest
from answers import complaint, listed

from helpers.apps import App

UNKNOWN_ID = "0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b"


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["nonsense"], "No such command 'nonsense'"),
            (["jobs", "explode"], "No such command 'explode'"),
            (["--nonsense"], "No such option"),
            (["jobs", "list", "--stat", "x"], "No such option"),
            (["jobs", "show"], "Missing argument 'ID'"),
            (["jobs", "retry"], "Missing argument"),
            (["jobs", "show", "-rf"], "No such option"),
            (["jobs", "show", UNKNOWN_ID, "more"], "unexpected extra argument"),
            (["jobs", "list", "--limit"], "requires an argument"),
            (["jobs", "list", "--limit", "-1"], "'--limit'"),
            (["jobs", "list", "--limit", "0"], "'--limit'"),
            (["jobs", "list", "--limit", "1001"], "'--limit'"),
            (["jobs", "list", "--limit", "many"], "'--limit'"),
            (["jobs", "list", "--state", "compleated"], "did you mean 'completed'?"),
            (["jobs", "list", "--search", "x" * 201], "search"),
            (["stats", "--url", ""], "store URL is empty"),
            (["stats", "--url", "foo://x"], "no store is installed for foo://"),
            (["stats", "--url", "postgres:/x"], "scheme"),
            (["stats", "--url", "sqlite:///a b.db"], "%20"),
            (["stats", "--url", "sqlite:///x.db?busy_timeuot=3"], "busy_timeout"),
            (["stats", "--url", "sqlite:////dev/null"], "/dev/null"),
            (["stats", "--url", "sqlite:////"], ""),
            (["bench", "--jobs", "0"], "'--jobs'"),
            (["demo", "--files", "none"], "'--files'"),
            (["demo", "--url", "foo://x"], "foo://"),
            (["start"], "Missing argument 'APP'"),
            (["dev"], "Missing argument 'APP'"),
            (["check"], "Missing argument 'APP'"),
            (["dev", "missing.py"], "missing.py"),
            (["stats", "--interval", "0"], "'--interval'"),
            (["stats", "--log-level", "loud"], "'--log-level'"),
            (["jobs", "list", "--after", "yesterday'"], "ISO 8601"),
            (["queues", "set"], "Missing argument 'NAME'"),
            (["engines", "explode"], "No such command 'explode'"),
            (["start", "shop.py:"], "colon"),
            (["start", "missing.py"], "missing.py"),
            (["start", "a b"], "module:attribute"),
            (["start", "shop", "--processes", "0"], "'--processes'"),
            (["start", "shop", "--processes", "two"], "'--processes'"),
            (["start", "shop", "--lease", "10", "--heartbeat", "5"], "six times"),
            (["start", "shop", "--lease", "nan"], "lease"),
            (["start", "shop", "--stop-timeout", "-1"], "stop_timeout"),
            (["start", "shop", "--queues", ""], "--queues"),
            (["start", "shop", "--queues", "a,b c"], "--queues"),
            (["start", "shop", "--log-format", "xml"], "'--log-format'"),
        ],
        ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
    )
    def test_one_line_and_exit_code_two(self, arguments: list[str], said: str, bare: App) -> None:
        """The line says what is wrong; nothing was opened, stored or made."""
        assert said in complaint(bare.jobcard(*arguments), 2)
        assert sorted(path.name for path in bare.directory.iterdir()) == ["shop.py"]

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (["shop.thumbnail", "--args", "{}"], 2, "--args must be an array"),
            (["shop.thumbnail", "--args", "[1"], 2, "--args must be an array"),
            (["shop.thumbnail", "--args", "[" * 100_000], 2, "nested too deeply"),
            (["shop.thumbnail", "--args", f"[{'9' * 5000}]"], 2, "--args"),
            (["shop.thumbnail", "--args", "[NaN]"], 2, "args[0]"),
            (["shop.thumbnail", "--kwargs", "[]"], 2, "--kwargs must be an object"),
            (["shop.thumbnail"], 2, "missing a required argument: 'path'"),
            (["shop.thumbnail", "--args", "[1]", "--queue", "a b"], 2, "queue"),
            (["shop.thumbnail", "--args", "[1]", "--queue", ""], 2, "queue"),
            (["shop.thumbnail", "--args", "[1]", "--priority", "99999"], 2, "priority"),
            (["shop.thumbnail", "--args", "[1]", "--priority", "1.5"], 2, "'--priority'"),
            (["shop.thumbnail", "--args", "[1]", "--delay", "inf"], 2, "delay"),
            (["shop.thumbnail", "--args", "[1]", "--delay", "soon"], 2, "'--delay'"),
            (["shop.thumbnail", "--args", "[1]", "--at", "2031-01-31T08:00"], 2, "time zone"),
            (["shop.thumbnail", "--args", "[1]", "--at", "tomorrow"], 2, "--at"),
            (["shop.thumbnail", "--args", "[1]", "--timeout", "0"], 2, "timeout"),
            (["shop.thumbnail", "--args", "[1]", "--max-attempts", "0"], 2, "max_attempts"),
            (["shop.thumbnail", "--args", "[1]", "--id", "seven"], 2, "id"),
            (["shop.thumbnail", "--args", "[1]", "--after", "seven"], 2, "after takes handles or ids"),
            (["shop.thumbnail", "--args", "[1]", "--batch", "seven"], 2, "batch takes a batch or its id"),
            (["shop.thumbnail", "--args", "[1]", "--tag", "a b"], 2, "tag"),
            (["shop.thumbnial", "--args", "[1]"], 4, "did you mean 'shop.thumbnail'?"),
            (["os:system", "--args", '["true"]'], 4, "os:system"),
            (["a b"], 2, "job"),
        ],
        ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
    )
    def test_a_job_that_cannot_be_stored_is_not(self, arguments: list[str], code: int, said: str, bare: App) -> None:
        """Arguments and options are checked like those of `.enqueue`, before the store is even opened."""
        assert said in complaint(bare.jobcard("enqueue", "shop", *arguments), code)
        assert not (bare.directory / "jobcard.db").exists()


class TestApplications:
    @pytest.mark.parametrize(
        ("source", "said", "line"),
        [
            ("import nowhere_to_be_found", "nowhere_to_be_found", 1),
            ("x = 1\nraise RuntimeError('not\\ntoday')", "RuntimeError: not today", 2),
            ("def broken(:", "SyntaxError", 1),
            ("import sys\nsys.exit(0)", "SystemExit", 2),
        ],
    )
    @pytest.mark.parametrize("command", ["start", "enqueue", "check"])
    def test_not_importable_says_file_and_line(
        self, command: str, source: str, said: str, line: int, bare: App
    ) -> None:
        """Exit code 2, whichever process imported it."""
        bare.write("broken.py", source)
        ran = bare.jobcard(command, "broken:jobs", *(["a.job"] if command == "enqueue" else []))
        assert ran.code == 2, ran.err
        last = ran.err.splitlines()[-1]
        assert said in last
        assert f"broken.py, line {line})" in last
        assert "Traceback" not in ran.err
        assert ran.out == ""

    @pytest.mark.parametrize("command", ["start", "enqueue"])
    @pytest.mark.parametrize(
        ("app", "said"),
        [("nowhere", "nowhere"), ("shop:nothing", "nothing"), ("json", "json"), ("shop:welcome", "Jobcard")],
    )
    def test_no_jobcard_there(self, command: str, app: str, said: str, bare: App) -> None:
        """A module or a name that is not there, or is no Jobcard, is a usage error."""
        ran = bare.jobcard(command, app, *(["a.job"] if command == "enqueue" else []))
        assert ran.code == 2, ran.err
        assert said in ran.err.splitlines()[-1]
        assert "Traceback" not in ran.err


class TestNotFound:
    @pytest.mark.parametrize("verb", ["show", "explain", "retry", "cancel", "delete --yes", "replay --app shop"])
    def test_an_id_is_taken_literally(self, verb: str, shop: App) -> None:
        """Exit code 4, a short line, no job touched."""
        before = listed(shop)
        for job_id in ("*", "%", "1 OR 1=1", "../../etc/passwd", "", UNKNOWN_ID, "x" * 100_000, "é\x1b[2J"):
            assert len(complaint(shop.jobcard("jobs", *verb.split(), job_id), 4)) < 200
        assert listed(shop) == before

    def test_a_cursor_is_one_of_ours(self, shop: App) -> None:
        """Anything else is a usage error."""
        assert "cursor" in complaint(shop.jobcard("jobs", "list", "--cursor", "yesterday'"), 2)

    def test_two_dashes_end_the_options(self, shop: App) -> None:
        """What follows `--` is an id, however it begins."""
        assert "'-rf'" in complaint(shop.jobcard("jobs", "show", "--", "-rf"), 4)


class TestStores:
    def test_a_file_that_is_no_store_is_left_alone(self, bare: App) -> None:
        """Exit code 2 or 3, and not a byte of it changes."""
        other = bare.write("notes.db", "these are my notes, not a database at all\n" * 100)
        before = other.read_bytes()
        for command in (["stats"], ["migrate"], ["enqueue", "shop", "shop.thumbnail", "--args", "[1]"]):
            ran = bare.jobcard(*command, "--url", "sqlite:///notes.db")
            assert ran.code in (2, 3)
            complaint(ran, ran.code)
        assert other.read_bytes() == before

    def test_an_engine_needs_its_store(self, bare: App) -> None:
        """`start` ends with the reason when the store cannot be opened."""
        ran = bare.jobcard("start", "shop:jobs", "--url", "sqlite:///no/such/directory/jobs.db")
        assert ran.code in (2, 3)
        assert "no/such/directory" in ran.err.splitlines()[-1]
        assert "Traceback" not in ran.err

    def test_a_demo_wants_an_empty_store(self, shop: App) -> None:
        """Jobs of others are never touched."""
        before = listed(shop)
        assert "empty" in complaint(shop.jobcard("demo", "--url", "sqlite:///jobcard.db"), 2)
        assert listed(shop) == before


class TestPasswords:
    NOBODY = "redis://:canary@127.0.0.1:1/0"

    @pytest.mark.parametrize("command", [("stats",), ("stats", "--json"), ("jobs", "list"), ("start", "shop")])
    def test_one_on_the_command_line_is_warned_of_once(self, command: tuple[str, ...], bare: App) -> None:
        """On standard error, without showing it; the command goes on."""
        ran = bare.jobcard(*command, "--url", self.NOBODY)
        assert ran.code == 3
        assert ran.err.count("warning: the password in --url") == 1
        assert "$JOBCARD_URL" in ran.err
        assert "canary" not in ran.err + ran.out

    def test_one_in_the_environment_is_not(self, bare: App) -> None:
        """Nor a URL without a password."""
        assert "warning" not in complaint(bare.jobcard("stats", env={"JOBCARD_URL": self.NOBODY}), 3)
        assert "warning" not in complaint(bare.jobcard("stats", "--url", "redis://127.0.0.1:1/0"), 3)
