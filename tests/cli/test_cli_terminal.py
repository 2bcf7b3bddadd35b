"""What people see: terminals wide and narrow, other locales, pipes that close, and text that would do harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from answers import listed, succeeded
from terminal import on_terminal, without_styles

from helpers.apps import App

PLAIN_ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


class TestTerminals:
    def test_a_wide_one_shows_a_table(self, shop: App) -> None:
        """A line a job, with every column."""
        heading, *lines = on_terminal(shop, "jobs", "list", columns=120).out.splitlines()
        assert heading.split() == ["id", "state", "queue", "name", "attempt", "created_at", "reason"]
        assert len(lines) == 4

    def test_at_80_columns_the_least_important_ones_go(self, shop: App) -> None:
        """Ids stay whole, and no line is wider than the terminal."""
        lines = on_terminal(shop, "jobs", "list", columns=80).out.splitlines()
        assert lines[0].split()[:2] == ["id", "state"]
        assert max(map(len, lines)) <= 80
        assert [line.split()[0] for line in lines[1:]] == [job["id"] for job in listed(shop)]

    @pytest.mark.parametrize("command", ["jobs list", "stats", "jobs show ID", "migrate", "--help", "jobs --help"])
    @pytest.mark.parametrize("columns", [20, 1])
    def test_a_very_narrow_one_is_fine(self, command: str, columns: int, shop: App) -> None:
        """Each job is a block of its own there."""
        job_id = listed(shop, "--limit", "1")[0]["id"]
        ran = on_terminal(shop, *command.replace("ID", job_id).split(), columns=columns)
        assert ran.code == 0, ran.out
        assert "Traceback" not in ran.out
        if command == "jobs list":
            assert ran.out.count("\nqueue ") == 4

    def test_states_have_colors_unless_told_not_to(self, shop: App) -> None:
        """On a terminal; $NO_COLOR, --no-color and TERM=dumb are heard."""
        colored = on_terminal(shop, "jobs", "list", columns=120, color=True).out
        plain = on_terminal(shop, "jobs", "list", "--no-color", columns=120, color=True).out
        assert "\x1b[" in colored
        assert [line.rstrip() for line in without_styles(colored).splitlines()] == plain.splitlines()
        assert on_terminal(shop, "jobs", "list", columns=120).out == plain
        assert on_terminal(shop, "jobs", "list", columns=120, color=True, env={"TERM": "dumb"}).out == plain

    def test_what_jobs_say_cannot_drive_the_terminal(self, shop: App) -> None:
        """Escapes and marks that turn the text around are spelled out."""
        (failed,) = listed(shop, "--state", "failed")
        text = on_terminal(shop, "jobs", "show", failed["id"], columns=80).out
        assert r"\x1b[2J" in text
        assert not set(text) & {"\x1b", "\u202e"}

    def test_json_is_json_there_too(self, shop: App) -> None:
        """Indented for the eye, without styles."""
        assert len(json.loads(on_terminal(shop, "jobs", "list", "--json", columns=20, color=True).out)) == 4

    def test_rollback_asks(self, shop: App) -> None:
        """No is no: exit code 1 and nothing changed; yes does it."""
        refused = on_terminal(shop, "rollback", columns=80, answer="n\n")
        assert refused.code == 1
        assert "nothing was changed" in refused.out
        assert len(listed(shop)) == 4
        agreed = on_terminal(shop, "rollback", columns=80, answer="y\n")
        assert agreed.code == 0
        assert "took back" in agreed.out

    def test_ctrl_c_at_a_question_is_an_interruption(self, shop: App) -> None:
        """Exit code 130 without a traceback, and nothing changed."""
        ran = on_terminal(shop, "rollback", columns=80, answer="\x03")
        assert ran.code == 130
        assert "Traceback" not in ran.out
        assert len(listed(shop)) == 4


class TestLocales:
    def test_a_plain_ascii_locale_is_enough(self, shop: App) -> None:
        """With LANG=C, names beyond ASCII are spelled out instead of ending the command."""
        for arguments in (["jobs", "list"], ["stats"], ["--help"], ["jobs", "list", "--json"]):
            assert succeeded(shop.jobcard(*arguments, env=PLAIN_ASCII)).out.isascii()

    def test_names_beyond_ascii(self, bare: App) -> None:
        """A queue called `Grüße` goes in and comes out, in UTF-8 and in ASCII."""
        succeeded(bare.jobcard("enqueue", "shop", "shop.thumbnail", "--args", '["ä"]', "--queue", "Grüße"))
        assert "Grüße" in succeeded(bare.jobcard("jobs", "list")).out
        assert r"Gr\xfc\xdfe" in succeeded(bare.jobcard("jobs", "list", env=PLAIN_ASCII)).out
        assert listed(bare)[0]["queue"] == "Grüße"
        assert listed(bare)[0]["args"] == ["ä"]

    def test_complaints_too(self, bare: App) -> None:
        """An error that shows what was typed says it in what the terminal can show."""
        ran = bare.jobcard("stats", "--url", "grüße://x", env=PLAIN_ASCII)
        assert ran.code == 2
        assert ran.err.isascii()


class TestPipes:
    @pytest.mark.parametrize("arguments", [["jobs", "list"], ["jobs", "list", "--json"], ["stats"], ["--help"]])
    def test_a_reader_that_leaves_ends_it_quietly(self, arguments: list[str], shop: App) -> None:
        """As any program of a pipeline: nothing on standard error, exit code 0 or 141."""
        reader, writer = os.pipe()
        os.close(reader)
        process = subprocess.Popen(
            [sys.executable, "-m", "jobcard", *arguments],
            cwd=shop.directory,
            env=shop.environment(),
            stdout=writer,
            stderr=subprocess.PIPE,
        )
        os.close(writer)
        _, err = process.communicate(timeout=60)
        assert err == b""
        assert process.returncode in (0, 141)

    def test_a_full_disk_is_said(self, shop: App) -> None:
        """Output that could not be written is a failure, in one line."""
        with open("/dev/full", "wb") as full:  # noqa: PTH123
            ran = subprocess.run(
                [sys.executable, "-m", "jobcard", "jobs", "list", "--json"],
                cwd=shop.directory,
                env=shop.environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=60,
            )
        assert ran.returncode == 1
        assert ran.stderr.count(b"\n") == 1
        assert b"Traceback" not in ran.stderr

    def test_closed_standard_streams(self, shop: App) -> None:
        """Started by something that gave it none, it still does its work."""
        ran = subprocess.run(
            ["/bin/sh", "-c", '"$0" -m jobcard migrate <&- >&- 2>&-', sys.executable],
            cwd=shop.directory,
            env=shop.environment(),
            timeout=60,
        )
        assert ran.returncode == 0
