"""Every command there is, as the installed program: on a terminal of 80 and of 20 columns, in a pipe, with LANG=C.

The commands are found by walking the program's own tree, so one without a case here fails.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click
import pytest
from answers import listed, succeeded
from terminal import PROGRAM, on_terminal, without_styles

from helpers.apps import App, Ran
from helpers.waiting import PATIENCE, wait_until
from jobcard import Jobcard
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.cli.main import cli
from jobcard.dashboard.users import add_user

ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LONG = 300.0


@dataclass(frozen=True)
class Case:
    """How a command is used and what it must say.

    said: stands in its output. table: no line of it is wider than the terminal. until: it runs until it is told to
    stop, which is done once this was said. code: its exit code in a pipe; interrupted: on a terminal, by Ctrl-C.
    prepare: what must be there before; gives words that stand in `arguments` in braces.
    """

    arguments: str
    said: str
    table: bool = False
    until: str = ""
    code: int = 0
    interrupted: int = 0
    prepare: Callable[[App], dict[str, str]] = lambda _: {}
    json_is: type | None = dict


def by_state(app: App) -> dict[str, str]:
    return {job["state"]: job["id"] for job in listed(app)}


def scheduled(app: App) -> dict[str, str]:
    with Jobcard(f"sqlite:///{app.directory}/jobcard.db") as jobs:
        jobs.schedule("nightly", "0 3 * * *", "shop.thumbnail", args=["cat.jpg"])
    return {}


def backed_up(app: App) -> dict[str, str]:
    with Jobcard(f"sqlite:///{app.directory}/jobcard.db") as jobs:
        jobs.backup(app.directory / "shop.jobcard")
    return {}


def locked(app: App) -> dict[str, str]:
    # Variables that every process has serve as keys as well as any.
    for file in app.directory.glob("locked.db*"):
        file.unlink()
    store = SQLiteBackend(app.directory / "locked.db", encryption_key=app.environment()["PATH"])
    store.migrate()
    store.close()
    return {}


def with_users(app: App) -> dict[str, str]:
    add_user(app.directory / "users.json", "anna", "operator", "correct horse", log_n=4)
    return {}


CASES = {
    "init": Case("init --url sqlite:///jobcard.db --app shop", "wrote [tool.jobcard]"),
    "start": Case("start shop --max-concurrent-jobs 1", "ready", until="ready", json_is=None),
    "dev": Case("dev shop --max-concurrent-jobs 1", "ready", until="ready", json_is=None),
    "check": Case("check shop", "1 job checked: this code can run them all"),
    "enqueue": Case("enqueue shop shop.thumbnail --args ['cat']", "-", prepare=lambda _: {"'": '"'}),
    "jobs list": Case("jobs list", "shop.thumbnail", table=True, json_is=list),
    "jobs show": Case("jobs show {failed}", "ValueError", prepare=by_state),
    "jobs explain": Case("jobs explain {waiting}", "not_due", prepare=by_state, json_is=list),
    "jobs retry": Case("jobs retry --state failed --yes", "1 job retried"),
    "jobs cancel": Case("jobs cancel {waiting}", "canceled", table=True, prepare=by_state),
    "jobs delete": Case("jobs delete {failed} --yes", "1 job deleted", prepare=by_state),
    "jobs replay": Case("jobs replay {completed} --app shop", "cat.jpg@80", prepare=by_state),
    "queues list": Case("queues list", "mail", table=True, json_is=list),
    "queues pause": Case("queues pause mail", "mail", table=True),
    "queues resume": Case("queues resume mail", "mail", table=True),
    "queues set": Case("queues set mail --concurrency 7", "7", table=True),
    "schedules list": Case("schedules list", "nightly", table=True, prepare=scheduled, json_is=list),
    "schedules next": Case("schedules next nightly -n 2", "T03:00:00Z", prepare=scheduled, json_is=list),
    "schedules pause": Case("schedules pause nightly", "nightly", table=True, prepare=scheduled),
    "schedules resume": Case("schedules resume nightly", "nightly", table=True, prepare=scheduled),
    "schedules run": Case("schedules run nightly", "-", prepare=scheduled),
    "schedules remove": Case("schedules remove nightly", "nightly", prepare=scheduled),
    "engines list": Case("engines list", "no engine is alive", json_is=list),
    "engines quiet": Case("engines quiet --all", "no engine is alive", json_is=list),
    "engines work": Case("engines work --all", "no engine is alive", json_is=list),
    "engines stop": Case("engines stop --all", "no engine is alive", json_is=list),
    "dashboard serve": Case("dashboard serve --port 0", "ready: dashboard at http", until="ready", json_is=None),
    "dashboard user add": Case("dashboard user add otto --role viewer", "added otto", json_is=None),
    "dashboard user remove": Case("dashboard user remove anna", "removed anna", prepare=with_users, json_is=None),
    "dashboard user list": Case("dashboard user list", "operator", table=True, prepare=with_users, json_is=list),
    "stats": Case("stats", "canceled", table=True),
    "migrate": Case("migrate", "nothing to do"),
    "rollback": Case("rollback --yes", "took back"),
    "copy": Case("copy --to sqlite:///other.db", "verified: all 4 jobs are in the target"),
    "backup": Case("backup new.jobcard", "4 jobs backed up"),
    "restore": Case("restore --url sqlite:///o.db shop.jobcard --yes", "4 jobs restored", prepare=backed_up),
    "grants": Case("grants --url mysql://h/shop --role viewer --user web", "`jobcard_jobs` to `web`", json_is=list),
    "rekey": Case(
        "rekey --url sqlite:///locked.db?encryption_key_env=PATH --new-key-env PYTHONUTF8",
        "with the new key",
        prepare=locked,
    ),
    "doctor": Case("doctor", "store.identity"),
    "bench": Case("bench --jobs 20", "pickup_p99_ms"),
    "demo": Case("demo --files 20", "p99"),
    "completion": Case("completion bash", "_jobcard_completion", json_is=None),
}
ELSEWHERE = ("demo", "dashboard user add")
"""What takes seconds, or asks for more: test_cli_measures.py and test_cli_dashboard.py run it in each of these ways."""


def walk(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from walk(command, f"{path}{name} ")
        else:
            yield path + name, command


EVERY = dict(walk(cli))
HERE = [path for path in EVERY if path not in ELSEWHERE]


def words(path: str, app: App) -> list[str]:
    case = CASES[path]
    given = case.prepare(app)
    text = case.arguments.format(**given)
    for old, new in given.items():
        text = text.replace(old, new) if len(old) == 1 else text
    return text.split()


def in_pipe(app: App, arguments: list[str], until: str) -> Ran:
    """The program without a terminal, in a plain locale; told to stop by SIGTERM once `until` was said."""
    out, err = app.directory / "out.txt", app.directory / "err.txt"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=app.directory,
            env={**app.environment(), **ASCII},
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
        )
    try:
        if until:
            wait_until(lambda: until in err.read_text("ascii"), until, timeout=4 * PATIENCE)
            process.send_signal(signal.SIGTERM)
        code = process.wait(LONG)
    finally:
        process.kill()
        process.wait()
    return Ran(code, out.read_text("ascii"), err.read_text("ascii"))


class TestTheTree:
    def test_every_command_has_a_case(self) -> None:
        """A command that comes must say here how it is used and what it says."""
        assert CASES.keys() == EVERY.keys()

    @pytest.mark.parametrize("path", EVERY)
    def test_every_command_has_the_common_options(self, path: str) -> None:
        """And where it prints data, `--json`."""
        options = {option for parameter in EVERY[path].params for option in parameter.opts}
        assert {"--no-color", "--log-level", "--log-format"} <= options
        assert ("--json" in options) == (CASES[path].json_is is not None)

    def test_help_lists_every_command_and_examples(self, bare: App) -> None:
        """What there is stands in `--help`, and how it is used."""
        text = succeeded(bare.jobcard("--help")).out
        assert all(f"\n  {path.split()[0]} " in text for path in EVERY)
        assert "Examples:" in text

    @pytest.mark.parametrize("path", [*EVERY, "jobs", "queues", "engines"])
    def test_every_command_has_help_with_an_example(self, path: str, bare: App) -> None:
        """`--help` behind any command explains it and shows how it is used; nothing is done."""
        text = succeeded(bare.jobcard(*path.split(), "--help")).out
        assert text.startswith(f"Usage: jobcard {path}")
        assert f"jobcard {path}" in text.partition("Example")[2]
        assert max(map(len, text.splitlines())) <= 80
        assert [file.name for file in bare.directory.iterdir()] == ["shop.py"]


@pytest.mark.slow
@pytest.mark.turns
class TestEveryCommand:
    @pytest.mark.parametrize("path", HERE)
    def test_in_a_pipe(self, path: str, shop: App) -> None:
        """Its answer in plain ASCII, no styles, no traceback, the exit code it should have."""
        ran = in_pipe(shop, words(path, shop), CASES[path].until)
        assert ran.code == CASES[path].code, ran
        assert CASES[path].said in ran.out + ran.err
        assert not set(ran.out + ran.err) & {"\x1b", "\r"}
        assert "Traceback" not in ran.err

    @pytest.mark.parametrize("columns", [80, 20])
    @pytest.mark.parametrize("path", HERE)
    def test_on_a_terminal(self, path: str, columns: int, shop: App) -> None:
        """The same answer; a table is never wider than the terminal, and a plain locale is enough for a narrow one."""
        case = CASES[path]
        ran = on_terminal(
            shop,
            *words(path, shop),
            columns=columns,
            until=case.until,
            answer="\x03" if case.until else "",
            env=ASCII if columns == 20 else None,
            color=True,
            timeout=LONG,
        )
        text = without_styles(ran.out)
        assert ran.code == (case.interrupted if case.until else case.code), text
        assert case.said in text
        assert "Traceback" not in text.replace("    Traceback", "")  # a recorded one may be shown, indented
        if case.table and columns == 80:
            assert max(map(len, text.splitlines())) <= columns, text

    @pytest.mark.parametrize("path", [path for path in HERE if CASES[path].json_is is not None])
    def test_as_json(self, path: str, shop: App) -> None:
        """One document: an array for a list, else an object; standard error says nothing that is part of it."""
        ran = shop.jobcard(*words(path, shop), "--json")
        assert ran.code == CASES[path].code, ran
        assert isinstance(json.loads(ran.out), CASES[path].json_is or object)
        assert ran.out.isascii()

    @pytest.mark.parametrize("path", [path for path in HERE if not CASES[path].until and path != "bench"])
    def test_a_reader_that_leaves_ends_it_quietly(self, path: str, shop: App) -> None:
        """As any program of a pipeline: no complaint on standard error, exit code 0 or 141."""
        reader, writer = os.pipe()
        os.close(reader)
        ran = subprocess.run(
            [PROGRAM, *words(path, shop)],
            cwd=shop.directory,
            env=shop.environment(),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=LONG,
            text=True,
        )
        os.close(writer)
        assert ran.returncode in (0, 141), ran
        assert "Traceback" not in ran.stderr
        assert "rror" not in ran.stderr


class TestLogs:
    def test_debug_tells_each_call_to_the_store(self, shop: App) -> None:
        """Which verb and how long, as text or as JSON lines; never what it was given."""
        tag = "ann-secret-1"
        env = {"PYTHONUTF8": "1"}
        ran = succeeded(shop.jobcard("jobs", "list", "--tag", tag, "--log-level", "debug", env=env))
        assert " DEBUG list took " in ran.err
        ran = succeeded(
            shop.jobcard("jobs", "list", "--tag", tag, "--log-level", "debug", "--log-format", "json", env=env)
        )
        lines = [json.loads(line) for line in ran.err.splitlines()]
        assert any(line["message"].startswith("list took ") for line in lines)
        assert {line["level"] for line in lines} == {"debug"}
        assert tag not in ran.err

    def test_without_it_nothing_is_said(self, shop: App) -> None:
        """A command that went well leaves standard error empty."""
        assert succeeded(shop.jobcard("jobs", "list")).err == ""


class TestStartUp:
    def test_help_imports_little(self) -> None:
        """`jobcard --help` opens no store, and reads neither rich nor the client."""
        heavy = ["rich", "apsw", "msgspec", "asyncio", "jobcard.client", "jobcard.backends.registry"]
        code = (
            "import sys; from jobcard.cli.main import run; run(['--help']); "
            f"print(*[m for m in {heavy} if m in sys.modules], file=sys.stderr)"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert ran.stderr.split() == []
