"""`jobcard init`: a table in pyproject.toml, and every other byte of it as it was."""

from __future__ import annotations

import json
import tomllib

import pytest
from answers import complaint, succeeded
from terminal import on_terminal

from helpers.apps import App

TABLE = '[tool.jobcard]\nurl = "sqlite:///jobs.db"\n'
INIT = ("init", "--url", "sqlite:///jobs.db")
PROJECT = """\
# what we are
[project]
name = "shop"   # not "store"
scripts = { shop = "shop:main" }

[tool.ruff]
line-length = 100
"""


def project(app: App) -> bytes:
    return (app.directory / "pyproject.toml").read_bytes()


def mode(app: App) -> int:
    return (app.directory / "pyproject.toml").stat().st_mode & 0o777


def write(app: App, text: str) -> None:
    (app.directory / "pyproject.toml").write_bytes(text.encode())


class TestWriting:
    def test_a_new_file_has_the_table_alone(self, bare: App) -> None:
        """With the application, other commands need not be told it."""
        succeeded(bare.jobcard(*INIT, "--app", "shop:jobs"))
        assert project(bare) == b'[tool.jobcard]\nurl = "sqlite:///jobs.db"\napp = "shop:jobs"\n'
        succeeded(bare.jobcard("migrate"))
        assert (bare.directory / "jobs.db").exists()
        assert "0 jobs checked" in succeeded(bare.jobcard("check")).out

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (PROJECT, PROJECT + "\n" + TABLE),
            (PROJECT.rstrip("\n"), PROJECT + "\n" + TABLE),
            (PROJECT.replace("\n", "\r\n"), (PROJECT + "\n" + TABLE).replace("\n", "\r\n")),
            ("", TABLE),
        ],
        ids=["usual", "no last line end", "windows", "empty"],
    )
    def test_the_rest_of_the_file_stays(self, before: str, after: str, bare: App) -> None:
        """Comments, order, line ends: the table comes behind them."""
        write(bare, before)
        succeeded(bare.jobcard(*INIT))
        assert project(bare).decode() == after

    def test_it_says_what_to_do_next(self, bare: App) -> None:
        """The commands that come after it; the store is not made."""
        text = succeeded(bare.jobcard(*INIT)).out
        assert all(command in text for command in ("jobcard migrate", "jobcard start APP", "jobcard stats"))
        assert not list(bare.directory.glob("*.db"))

    def test_as_json(self, bare: App) -> None:
        """One object: where it was written, and what."""
        ran = succeeded(bare.jobcard("init", "--url", "sqlite:///jobs.db", "--json"))
        assert json.loads(ran.out) == {
            "file": str(bare.directory / "pyproject.toml"),
            "url": "sqlite:///jobs.db",
        }


class TestPasswords:
    WITH_PASSWORD = ("init", "--url", "redis://:canary@localhost:6379/0")

    def test_a_new_file_with_a_password_is_for_its_owner_alone(self, bare: App) -> None:
        """Mode 0600; without a password it is a project file like any other."""
        ran = succeeded(bare.jobcard(*self.WITH_PASSWORD))
        assert mode(bare) == 0o600
        assert "canary" in project(bare).decode()
        assert "JOBCARD_URL" in ran.err and "others can read" not in ran.err
        (bare.directory / "pyproject.toml").unlink()
        succeeded(bare.jobcard(*INIT))
        assert mode(bare) == 0o644

    def test_a_file_that_is_there_keeps_its_mode(self, bare: App) -> None:
        """It is told that others can read the password in it."""
        write(bare, PROJECT)
        (bare.directory / "pyproject.toml").chmod(0o640)
        ran = succeeded(bare.jobcard(*self.WITH_PASSWORD))
        assert mode(bare) == 0o640
        assert "where others can read it" in ran.err


class TestReplacing:
    def test_a_table_that_is_there_stays_without_force(self, bare: App) -> None:
        """Exit code 2, and not a byte changes."""
        write(bare, PROJECT + "\n" + TABLE)
        before = project(bare)
        assert "--force" in complaint(bare.jobcard("init", "--url", "sqlite:///other.db"), 2)
        assert project(bare) == before

    def test_with_force_only_its_lines_change(self, bare: App) -> None:
        """What stands before and behind it, comments included, is as it was."""
        behind = "\n# how we test\n[tool.pytest.ini_options]\nminversion = '8'\n"
        write(bare, PROJECT + "\n[tool.jobcard]  # ours\nurl = 'sqlite:///old.db'\napp = 'shop'\n" + behind)
        succeeded(bare.jobcard(*INIT, "--force"))
        assert project(bare).decode() == PROJECT + "\n" + TABLE + behind

    @pytest.mark.parametrize(
        "text",
        [
            'tool = { jobcard = { url = "sqlite:///old.db" } }\n',
            'tool.jobcard.url = "sqlite:///old.db"\n',
            '[tool]\njobcard = { url = "sqlite:///old.db" }\n',
            'note = """\n[tool.jobcard]\n"""\n[tool."jobcard"]\nurl = "sqlite:///old.db"\n',
            "tool = { black = 1 }\n",
        ],
    )
    def test_what_cannot_be_done_safely_is_left_to_a_person(self, text: str, bare: App) -> None:
        """Written in a way we do not edit: exit code 2, the file as it was, and the lines to write."""
        write(bare, text)
        said = complaint(bare.jobcard(*INIT, "--force"), 2)
        assert 'url = "sqlite:///jobs.db"' in said
        assert project(bare).decode() == text

    @pytest.mark.parametrize("content", [b"\xef\xbb\xbf[project]\n", b"a = [1\n", b"\xff\xfe", b"a = 1\na = 2\n"])
    def test_a_file_that_is_no_toml_is_left_alone(self, content: bytes, bare: App) -> None:
        """Exit code 2."""
        (bare.directory / "pyproject.toml").write_bytes(content)
        assert "cannot be read" in complaint(bare.jobcard(*INIT), 2)
        assert project(bare) == content


class TestAnswers:
    def test_on_a_terminal_it_asks(self, bare: App) -> None:
        """Return takes what is proposed."""
        ran = on_terminal(bare, "init", columns=80, answer="\n")
        assert ran.code == 0, ran.out
        assert "Store [sqlite:///jobcard.db]" in ran.out
        assert tomllib.loads(project(bare).decode()) == {"tool": {"jobcard": {"url": "sqlite:///jobcard.db"}}}

    def test_ctrl_c_writes_nothing(self, bare: App) -> None:
        """Exit code 130."""
        assert on_terminal(bare, "init", columns=80, answer="\x03").code == 130
        assert not (bare.directory / "pyproject.toml").exists()

    def test_without_one_it_must_be_told(self, bare: App) -> None:
        """Exit code 2 without --url."""
        assert "--url" in complaint(bare.jobcard("init"), 2)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--url", "foo://x"], "no store is installed for foo://"),
            (["--url", ""], "empty"),
            (["--url", "sqlite:///jobs.db?busy_timeuot=3"], "busy_timeout"),
            (["--url", "sqlite:///jobs.db", "--app", "a b"], "module:attribute"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, arguments: list[str], said: str, bare: App) -> None:
        """Before anything is written."""
        assert said in complaint(bare.jobcard("init", *arguments), 2)
        assert not (bare.directory / "pyproject.toml").exists()

    def test_an_unknown_setting_names_the_nearest(self, bare: App) -> None:
        """Every command that reads the file says so."""
        write(bare, '[tool.jobcard]\nurll = "sqlite:///jobs.db"\n')
        assert "did you mean 'url'" in complaint(bare.jobcard("stats"), 2)
