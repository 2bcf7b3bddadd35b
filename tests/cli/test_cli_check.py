"""`jobcard check`: jobs enqueued by yesterday's code, held against today's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from answers import complaint, succeeded

from helpers.apps import App
from helpers.quick import Commands, QuickApp

HEAD = """
    import dataclasses, enum
    from datetime import date
    from jobcard import Jobcard, JobClass, JobContext

    jobs = Jobcard("sqlite:///shop.db")
"""
BEFORE = """
    class Color(enum.Enum):
        RED = "red"
        BLUE = "blue"

    @dataclasses.dataclass
    class Order:
        number: int
        note: str = ""

    @dataclasses.dataclass
    class Item:
        name: str

    @jobs.job
    def stays(a: int, *, b: str = "x", when: date | None = None, colors: list[Color] = []) -> None: ...

    @jobs.job
    def gone() -> None: ...

    @jobs.job
    def old_name() -> None: ...

    @jobs.job
    def renamed(path: str) -> None: ...

    @jobs.job
    def grew(a: int) -> None: ...

    @jobs.job
    def shrank(a: int, b: int) -> None: ...

    @jobs.job
    def paints(color: Color) -> None: ...

    @jobs.job
    def ships(order: Order) -> None: ...

    @jobs.job
    def packs(items: list[Item]) -> None: ...

    @jobs.job
    def counts(number: str) -> None: ...

    @jobs.job
    class Report(JobClass):
        def __init__(self, region: str) -> None: ...
        def run(self, day: date) -> None: ...

    @jobs.job
    class WasClass(JobClass):
        def __init__(self, region: str) -> None: ...
        def run(self) -> None: ...

    @jobs.job
    def became_class() -> None: ...

    @jobs.job
    class Stays(JobClass):
        def __init__(self, region: str) -> None: ...
        def run(self, ctx: JobContext, day: date) -> None: ...
"""
ENQUEUE = """
    from shop import *

    if __name__ == "__main__":
        stays.enqueue(1)
        stays.options(delay=3600).enqueue(1, b="y", when=date(2030, 1, 2), colors=[Color.RED])
        gone.enqueue()
        gone.options(delay=3600).enqueue()
        old_name.enqueue()
        renamed.enqueue(path="cat.jpg")
        grew.enqueue(1)
        shrank.enqueue(1, 2)
        paints.enqueue(Color.RED)
        paints.enqueue(Color.BLUE)
        ships.enqueue(Order(1, note="soon"))
        for place in range(3):
            packs.enqueue([Item("a")] * (place + 1))
        counts.enqueue("7")
        Report.with_("eu").enqueue(date(2030, 1, 2))
        WasClass.with_("eu").enqueue()
        became_class.enqueue()
        Stays.with_("eu").enqueue(date(2030, 1, 2))
        stays.options(queue="forgotten").enqueue(2)
        gone.enqueue().cancel()
"""
AFTER = """
    class Color(enum.Enum):
        RED = "red"

    @dataclasses.dataclass
    class Order:
        number: int

    @dataclasses.dataclass
    class Item:
        name: str
        price: int

    @jobs.job
    def stays(a: int, *, b: str = "x", when: date | None = None, colors: list[Color] = []) -> None: ...

    @jobs.job(aliases=["shop.old_name"])
    def new_name() -> None: ...

    @jobs.job
    def renamed(file: str) -> None: ...

    @jobs.job
    def grew(a: int, b: int, *, c: str) -> None: ...

    @jobs.job
    def shrank(a: int) -> None: ...

    @jobs.job
    def paints(color: Color) -> None: ...

    @jobs.job
    def ships(order: Order) -> None: ...

    @jobs.job
    def packs(items: list[Item]) -> None: ...

    @jobs.job
    def counts(number: int) -> None: ...

    @jobs.job
    class Report(JobClass):
        def __init__(self, region: str, language: str) -> None: ...
        def run(self, day: date) -> None: ...

    @jobs.job(name="shop.WasClass")
    def was_class() -> None: ...

    @jobs.job(name="shop.became_class")
    class BecameClass(JobClass):
        def __init__(self, region: str) -> None: ...
        def run(self) -> None: ...

    @jobs.job
    class Stays(JobClass):
        def __init__(self, region: str) -> None: ...
        def run(self, ctx: JobContext, day: date) -> None: ...
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> QuickApp:
    """A directory whose jobs were enqueued by the code of yesterday."""
    app = QuickApp(tmp_path_factory.mktemp("changed"), commands)
    app.write("shop.py", HEAD + BEFORE)
    app.write("fill.py", ENQUEUE)
    assert (filled := app.python("fill.py")).code == 0, filled.err
    assert json.loads(succeeded(app.jobcard("check", "shop", "--json")).out)["ok"] is True
    app.write("shop.py", HEAD + AFTER)
    # Files written within one second look alike to the import system.
    for compiled in Path(app.directory, "__pycache__").glob("shop.*"):
        compiled.unlink()
    return app


@pytest.fixture(scope="module")
def found(changed: App) -> dict[str, Any]:
    """What the check of today's code says."""
    ran = changed.jobcard("check", "shop", "--json")
    assert ran.code == 1, ran.err
    answer: dict[str, Any] = json.loads(ran.out)
    return answer


class TestWhatItFinds:
    @pytest.mark.parametrize(
        ("name", "code", "count", "said"),
        [
            ("shop.gone", "unknown_name", 2, "no job has this name or alias"),
            ("shop.renamed", "arguments", 1, "has no argument 'path' any more and needs 'file': renamed?"),
            ("shop.grew", "arguments", 1, "it needs an argument 'b'; it needs an argument 'c'"),
            ("shop.shrank", "arguments", 1, "it was given 2 arguments by place and takes 1"),
            ("shop.paints", "value", 1, "args[0]: the stored str is no value of shop.Color"),
            ("shop.ships", "value", 1, "shop.Order has no field 'note'"),
            ("shop.packs", "value", 3, "shop.Item needs price"),
            ("shop.counts", "value", 1, "args[0]: the stored str is no int, as the annotation says"),
            ("shop.Report", "constructor", 1, "it needs an argument 'language'"),
            ("shop.WasClass", "was_class", 1, "is a function now"),
            ("shop.became_class", "became_class", 1, "it needs an argument 'region'"),
        ],
    )
    def test_each_kind_of_trouble(self, name: str, code: str, count: int, said: str, found: dict[str, Any]) -> None:
        """Once for each name and problem, with the number of jobs and one of them."""
        (problem,) = [each for each in found["problems"] if each["name"] == name]
        assert (problem["code"], problem["count"]) == (code, count)
        assert said in problem["problem"]
        assert len(problem["example"]) == 36

    def test_what_fits_is_left_out(self, found: dict[str, Any]) -> None:
        """Jobs whose code has not changed, or which an alias still finds; and those that have ended."""
        assert not {problem["name"] for problem in found["problems"]} & {"shop.stays", "shop.old_name", "shop.Stays"}
        assert found["checked"] == 20
        assert sum(problem["count"] for problem in found["problems"]) == 14

    def test_a_queue_nobody_declares_is_a_note(self, found: dict[str, Any]) -> None:
        """It may be meant so: it is told, and is no problem."""
        (note,) = found["notes"]
        assert (note["name"], note["code"], note["count"]) == ("shop.stays", "queue", 1)
        assert "'forgotten'" in note["problem"]


class TestItsAnswer:
    def test_people_get_a_line_for_each_problem(self, changed: App) -> None:
        """A table, the notes, and a sentence at the end; exit code 1."""
        ran = changed.jobcard("check", "shop")
        assert ran.code == 1
        heading, *lines, last = ran.out.splitlines()
        assert heading.split() == ["jobs", "name", "problem", "example"]
        assert len(lines) == 11
        assert last == "20 jobs checked: this code cannot run 14 of them"
        assert "note: the queue 'forgotten'" in ran.err

    def test_nothing_changes(self, changed: App) -> None:
        """The store is only read."""
        before = succeeded(
            changed.jobcard("jobs", "list", "--json", "--limit", "100", "--url", "sqlite:///shop.db")
        ).out
        changed.jobcard("check", "shop")
        after = succeeded(changed.jobcard("jobs", "list", "--json", "--limit", "100", "--url", "sqlite:///shop.db")).out
        assert before == after

    def test_a_store_that_is_not_there_is_not_made(self, bare: App) -> None:
        """Exit code 3: there is nothing to check, and whoever asked may have meant another one."""
        assert "jobcard migrate" in complaint(bare.jobcard("check", "shop"), 3)
        assert not list(bare.directory.glob("*.db"))

    def test_more_jobs_than_a_page(self, bare: App) -> None:
        """All of them, not the first thousand."""
        bare.write(
            "fill.py",
            """
            from shop import jobs, thumbnail
            jobs.enqueue_many([thumbnail.call("cat.jpg") for _ in range(2_500)])
            """,
        )
        assert bare.python("fill.py").code == 0
        assert json.loads(succeeded(bare.jobcard("check", "shop", "--json")).out)["checked"] == 2_500

    def test_an_application_is_needed(self, bare: App) -> None:
        """As APP, or in pyproject.toml."""
        assert "Missing argument 'APP'" in complaint(bare.jobcard("check"), 2)
        bare.write("pyproject.toml", '[tool.jobcard]\napp = "shop:jobs"\n')
        succeeded(bare.jobcard("migrate"))
        assert "0 jobs checked" in succeeded(bare.jobcard("check")).out
