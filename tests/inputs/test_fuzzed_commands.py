"""Any arguments for any command: an exit code of ours, at most a line of complaint, never a traceback."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobcard import Jobcard
from jobcard.cli import output
from jobcard.cli.main import cli, run

CODES = {0, 1, 2, 3, 4, 130}
ENDLESS = ("start", "dev", "bench", "demo", "dashboard serve")
"""What runs until it is stopped, or long: of these the arguments alone are tried."""

# What a process can be given: any text but NUL, and bytes that are no text as half a surrogate pair each.
HALVES = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)) | HALVES, max_size=12)
USUAL = """
    shop shop:jobs shop.thumbnail default mail waiting failed x - -- --json --yes --all --state --queue --name --tag
    --limit --cursor --search --before --after --batch --error-kind --no-color --log-level --log-format debug json
    --args --kwargs --delay --at --id --priority --timeout --max-attempts --concurrency --weight --paused --interval
    --app --force --keep --role --user --fix --help -h 0 1 -1 1e999 nan 3d 999999d 2030-01-31T08:00:00Z [] {} [1]
    * % ../../etc/passwd 00000000-0000-7000-8000-000000000000 bash zsh admin viewer --lease --heartbeat
"""
WORDS = st.sampled_from(USUAL.split())
URLS = st.sampled_from(
    ["sqlite:///jobcard.db", "sqlite:///other.db", "sqlite:///:memory:", "sqlite:////", "sqlite:////dev/null", "", "x", "foo://x"]
)  # fmt: skip
ARGUMENTS = st.lists(WORDS | ANY_TEXT | st.builds("--url={}".format, URLS), max_size=5)


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = list(every_command(cli))
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command in this process, in a directory with a small store; gives exit code, output and complaints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(output, "forbid_color", lambda: None)
    log = logging.getLogger("jobcard")
    before = (log.handlers[:], log.level, log.propagate)
    for path in ENDLESS:
        found: Any = cli
        for name in path.split():
            found = found.get_command(click.Context(found), name)
        monkeypatch.setattr(found, "callback", lambda **given: None)
    with Jobcard("sqlite:///jobcard.db") as jobs:
        jobs.enqueue("shop.thumbnail", ["cat.jpg"])
        jobs.enqueue("shop.welcome", queue="mail", delay=60).cancel()

    def run_it(*arguments: str) -> tuple[int, str, str]:
        streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace") for _ in range(2)]
        with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
            code = run(arguments)
        out, err = (_text_of(stream) for stream in streams)
        return code, out, err

    yield run_it
    log.handlers[:], log.level, log.propagate = before


def _text_of(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def check(answer: tuple[int, str, str], arguments: list[str]) -> None:
    code, out, err = answer
    assert code in CODES, (code, arguments, err)
    assert "Traceback" not in out + err, arguments
    assert "internal error" not in err, (arguments, err)
    # Text of others can drive no terminal.
    assert not {"\x1b", "\x07", "\r"} & set(out + err), arguments


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_any_arguments_end_with_an_exit_code(command: Command, path: tuple[str, ...]) -> None:
    """Whatever stands behind a command: it does what it is told or says in a line that it cannot."""

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(ARGUMENTS)
    def fuzz(arguments: list[str]) -> None:
        check(command(*path, *arguments), arguments)

    fuzz()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(WORDS | ANY_TEXT, max_size=3))
def test_any_arguments_of_no_command(command: Command, arguments: list[str]) -> None:
    """Without a command, or with one that there is not, too."""
    check(command(*arguments), arguments)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def is_finite(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


@pytest.fixture
def enqueue(command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """`jobcard enqueue` of a job that takes anything; its application is made anew each time, as in a new process."""

    def load(reference: object) -> Jobcard:
        jobs = Jobcard("sqlite:///jobcard.db", config={"synchronous": "off"})

        @jobs.job(name="shop.anything")
        def anything(*args: Any, **kwargs: Any) -> None: ...

        return jobs

    monkeypatch.setattr("jobcard.cli.enqueue.load", load)
    return lambda *arguments: command("enqueue", "shop", "shop.anything", *arguments)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(JSON, max_size=3), st.dictionaries(st.text(max_size=4), JSON, max_size=3))
def test_any_json_is_stored_as_it_is_or_refused(enqueue: Command, args: list[Any], kwargs: dict[str, Any]) -> None:
    """What is stored is what was written; what JSON lets through and a store would not keep is a usage error."""
    texts = [json.dumps(args), json.dumps(kwargs)]
    code, out, err = enqueue("--json", "--args", texts[0], "--kwargs", texts[1])
    check((code, "", err), texts)
    assert code == (0 if is_finite([args, kwargs]) else 2), (texts, err)
    if code == 0:
        stored = json.loads(out)
        assert [json.dumps(stored["args"]), json.dumps(stored["kwargs"])] == texts


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(ANY_TEXT | JSON.map(json.dumps), ANY_TEXT | JSON.map(json.dumps))
@example("[" * 100_000, "{}")
@example("[" + "9" * 5000 + "]", "{}")
@example("[]", '{"self": 1, "": 2, "a b": 3, "args": 4, "kwargs": 5, "name": 6}')
@example("[1e999]", "{}")
@example('["\\ud800"]', '{"\\udfff": null}')
def test_any_text_for_json(enqueue: Command, args: str, kwargs: str) -> None:
    """Text that is no JSON, or is another value than an array and an object, is a usage error and stores nothing."""
    answer = enqueue("--args", args, "--kwargs", kwargs)
    check(answer, [args, kwargs])
    assert answer[0] in (0, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        [b"jobs", b"show", b"\xff\xfe"],
        [b"\xed\xa0\x80"],
        [b"jobs", b"list", b"--search", b"\xc3\x28"],
        [b"enqueue", b"\xff.py", b"\xff"],
        [b"stats", b"--url", b"sqlite:///\xff.db"],
        [b"jobs", b"list", b"--queue", "e\u0301\U0001f600".encode()],
    ],
    ids=repr,
)
def test_the_real_program_takes_any_bytes(arguments: list[bytes], tmp_path: Path) -> None:
    """Arguments that are no text in any locale: the same exit codes, no traceback."""
    ran = subprocess.run([sys.executable, b"-m", b"jobcard", *arguments], cwd=tmp_path, capture_output=True, timeout=60)
    assert ran.returncode in CODES - {0, 1}, ran
    assert len(ran.stderr.splitlines()) == 1 and b"Traceback" not in ran.stderr, ran
    assert list(tmp_path.iterdir()) == []
