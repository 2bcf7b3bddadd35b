"""The documentation tells the truth: its examples run, its links lead somewhere, and it leaves nothing out.

A fenced block whose info is `python run NAME.py` is saved under that name in an empty directory and run. If the next
block is `text output`, that is what must be printed. Blocks of one page share a directory, in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from pathlib import Path

import click
import pytest

from helpers.apps import App
from jobcard import errors
from jobcard.backends.mongodb import grants as mongodb_grants
from jobcard.backends.mysql import grants as mysql_grants
from jobcard.backends.postgres import grants as postgres_grants
from jobcard.backends.redis import grants as redis_grants
from jobcard.backends.redis import keys as redis_keys
from jobcard.backends.roles import Role
from jobcard.cli.main import cli
from jobcard.client.declare import DeclareOptions
from jobcard.client.options import EnqueueOptions
from jobcard.client.store import JobcardOptions
from jobcard.core.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "changelog.d").glob("*.md")])

# Every folder of a store that can be told something; `sql` is what some of them do alike.
STORES = sorted(path.parent.name for path in (ROOT / "src/jobcard/backends").glob("*/options.py"))
STORES.remove("sql")

_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
_RUN = re.compile(r"python run (\w+\.py)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Example:
    """A program of a page and what it must print; None: whatever it likes."""

    name: str
    source: str
    output: str | None


def examples_of(page: Path) -> list[Example]:
    blocks = _BLOCK.findall(page.read_text("utf-8"))
    found = []
    for place, (info, text) in enumerate(blocks):
        if match := _RUN.fullmatch(info):
            following = blocks[place + 1] if place + 1 < len(blocks) else ("", "")
            found.append(Example(match[1], text, following[1] if following[0] == "text output" else None))
    return found


def with_examples() -> list[Path]:
    # test_readme.py has the README's.
    return [page for page in PAGES if examples_of(page) and page.name != "README.md"]


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", with_examples(), ids=page_id)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """Each is a whole program, and prints what the page says."""
    app = App(tmp_path)
    for example in examples_of(page):
        app.write(example.name, example.source)
        ran = app.python(example.name)
        assert ran.code == 0, f"{example.name}: {ran.err}"
        if example.output is not None:
            assert ran.out == example.output, f"{example.name}: {ran.err}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    """A link within the repository names a file that is there, and a heading that is on its page."""
    for link in _LINK.findall(_BLOCK.sub("", page.read_text("utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        place, _, heading = link.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), link
        if heading:
            assert heading in {anchor(line) for line in target.read_text("utf-8").splitlines()}, link


def anchor(line: str) -> str:
    return re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") if line.startswith("#") else ""


def page_of(store: str) -> str:
    """The page of a store; PostgreSQL is called by a shorter name in code."""
    return f"{'postgresql' if store == 'postgres' else store}.md"


def names_in(page: str) -> set[str]:
    """Every word that stands in code font on a page."""
    text = (DOCS / page).read_text("utf-8")
    code = " ".join(re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text)) + [block for _, block in _BLOCK.findall(text)])
    return set(re.findall(r"[A-Za-z_][\w-]*", code))


class TestNothingIsLeftOut:
    def test_settings(self) -> None:
        """docs/configuration.md has every argument of `Jobcard`."""
        known = {field.name for field in fields(Settings)} | JobcardOptions.__annotations__.keys()
        assert known - names_in("configuration.md") == set()

    @pytest.mark.parametrize("store", STORES)
    def test_options_of_a_store(self, store: str) -> None:
        """The page of a store has every option of its URL, as the store itself names them."""
        assert import_module(f"jobcard.backends.{store}.options").KNOWN - names_in(page_of(store)) == set()

    def test_keys_of_redis(self) -> None:
        """docs/redis.md has every key."""
        assert set(redis_keys.NAMES) - names_in("redis.md") == set()

    def test_job_options(self) -> None:
        """docs/jobs.md has every option of `@jobs.job` and of `options`."""
        known = DeclareOptions.__annotations__.keys() | EnqueueOptions.__annotations__.keys()
        assert known - names_in("jobs.md") == set()

    @pytest.mark.parametrize(
        ("page", "statements"),
        [
            ("postgresql.md", partial(postgres_grants.grants, schema="jobs", prefix="jobcard_", database="shop")),
            ("mysql.md", partial(mysql_grants.grants, prefix="jobcard_", database="shop")),
        ],
        ids=["postgresql", "mysql"],
    )
    def test_grants(self, page: str, statements: Callable[[Role, str], list[str]]) -> None:
        """A store's page has the statements that `jobcard grants` prints, of every role, to the letter."""
        [block] = [text for info, text in _BLOCK.findall((DOCS / page).read_text("utf-8")) if info == "sql"]
        roles = (Role.MIGRATION, Role.ENGINE, Role.PRODUCER, Role.VIEWER)
        assert set(roles) == set(Role)
        lines = []
        for role in roles:
            lines += [f"-- {role}", *(f"{statement};" for statement in statements(role, f"shop_{role}"))]
        assert block.splitlines() == lines

    @pytest.mark.parametrize(
        ("page", "info", "mark", "end", "statements"),
        [
            ("redis.md", "redis", "#", "", partial(redis_grants.grants, prefix="jobcard")),
            (
                "mongodb.md",
                "js",
                "//",
                ";",
                partial(mongodb_grants.grants, prefix="jobcard", database="shop", home="shop"),
            ),
        ],
        ids=["redis", "mongodb"],
    )
    def test_users(self, page: str, info: str, mark: str, end: str, statements: Callable[..., list[str]]) -> None:
        """The same where the statements are not SQL."""
        [block] = [text for said, text in _BLOCK.findall((DOCS / page).read_text("utf-8")) if said == info]
        roles = (Role.MIGRATION, Role.ENGINE, Role.PRODUCER, Role.VIEWER)
        lines = [
            line
            for role in roles
            for line in (f"{mark} {role}", *(f"{one}{end}" for one in statements(role, f"shop_{role}")))
        ]
        assert block.splitlines() == lines

    def test_errors(self) -> None:
        """docs/errors.md has every error."""
        known = {
            name
            for name, value in vars(errors).items()
            if isinstance(value, type) and issubclass(value, errors.JobcardError)
        }
        assert known - names_in("errors.md") == set()

    def test_commands(self) -> None:
        """docs/cli.md has every command, with every option of its own."""
        text = (DOCS / "cli.md").read_text("utf-8")
        missing = []
        for path, command in commands(cli, "jobcard"):
            if f"jobcard {path}" not in text:
                missing.append(path)
            for parameter in command.params:
                if isinstance(parameter, click.Option) and parameter.name not in ("help", "no_color"):
                    long = max(parameter.opts, key=len)
                    if long not in text:
                        missing.append(f"{path} {long}")
        assert not missing


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group, info_name=name)
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{each} {inner}", found) for inner, found in commands(command, each))
        else:
            yield each, command
