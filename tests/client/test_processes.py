"""How an application is started, forked and interrupted: names, references, and what a worker may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.apps import App
from jobcard import ConfigError, Jobcard
from jobcard.backends.registry import open_backend
from jobcard.core import context
from jobcard.workers.link import EngineStore

APP = """
    from jobcard import Jobcard

    jobs = Jobcard()

    @jobs.job
    def add(a, b=2):
        return a + b

    if __name__ in ("__main__", "__mp_main__"):
        print(add.name, *jobs.reference(), sep="|")
"""


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path)


def told(app: App, *arguments: str, text: str = "") -> list[str]:
    """What the started application printed: the job's name, module, path, attribute, imports."""
    ran = app.python(*arguments, text=text)
    assert ran.code == 0, ran.err
    return ran.out.strip().split("|")


class TestStarted:
    """A job is called the same in the process that enqueues it and in the one that runs it."""

    def test_as_a_script(self, app: App) -> None:
        """By its file's name; a worker imports the file."""
        path = app.write("shop.py", APP)
        assert told(app, "shop.py") == ["shop.add", "None", str(path), "jobs", "()"]
        assert app.python("-c", "import shop; print(shop.add.name)").out.strip() == "shop.add"

    def test_with_a_name_that_is_no_module(self, app: App) -> None:
        """What may not stand in a name is left out, here and in the worker."""
        app.write("my shop-1.py", APP)
        assert told(app, "my shop-1.py")[0] == "my_shop-1.add"
        code = "from jobcard.workers.process import import_script as i; print(i('my shop-1.py').add.name)"
        assert app.python("-c", code).out.strip() == "my_shop-1.add"

    def test_as_a_module(self, app: App) -> None:
        """`python -m pkg.mod` is that module, `python -m pkg` the package."""
        (app.directory / "pkg").mkdir()
        app.write("pkg/__init__.py", "")
        app.write("pkg/mod.py", APP)
        app.write("pkg/__main__.py", APP)
        assert told(app, "-m", "pkg.mod") == ["pkg.mod.add", "pkg.mod", "None", "jobs", "()"]
        assert told(app, "-m", "pkg") == ["pkg.add", "pkg.__main__", "None", "jobs", "()"]
        assert app.python("-c", "import pkg.__main__ as m; print(m.add.name)").out.strip() == "pkg.add"

    def test_as_a_directory(self, app: App) -> None:
        """By the directory's name."""
        (app.directory / "shop").mkdir()
        path = app.write("shop/__main__.py", APP)
        assert told(app, "shop") == ["shop.add", "None", str(path), "jobs", "()"]

    @pytest.mark.parametrize("how", ["-c", "-"])
    def test_without_a_file(self, app: App, how: str) -> None:
        """Enqueuing works, by the bare name; an engine is refused, saying that it needs a file."""
        source = """
import sys
from jobcard import ConfigError, Jobcard
jobs = Jobcard()
@jobs.job
def add(a, b=2): return a + b
print(add.enqueue(1).refresh().name)
for call in (jobs.start, jobs.run, lambda: jobs.running().__enter__()):
    try: call()
    except ConfigError as error: print("file" in str(error))
"""
        ran = app.python("-c", source) if how == "-c" else app.python("-", text=source)
        assert ran.out.split() == ["add", "True", "True", "True"], ran.err

    def test_held_by_another_module(self, app: App) -> None:
        """The module that holds it is named, and those that declared jobs are imported too."""
        app.write("base.py", "from jobcard import Jobcard\njobs = Jobcard(imports=['extra'])\n")
        app.write("tasks.py", "import base\n@base.jobs.job\ndef one(): ...\n")
        app.write("main.py", "import base, tasks\nprint(tasks.one.name, *base.jobs.reference(), sep='|')\n")
        assert told(app, "main.py") == ["tasks.one", "base", "None", "jobs", "('extra', 'tasks')"]
        app.write("main.py", "from base import jobs as mine\nimport tasks\nprint(*mine.reference(), sep='|')\n")
        path = str(app.directory / "main.py")
        assert told(app, "main.py") == ["None", path, "mine", "('extra', 'tasks')"]

    def test_made_elsewhere_than_held(self, app: App) -> None:
        """A factory's module is not where it is found."""
        app.write("factory.py", "from jobcard import Jobcard\ndef make():\n    return Jobcard()\n")
        app.write("holder.py", "from factory import make\ncard = make()\n")
        app.write("main.py", "import holder\nprint(*holder.card.reference(), sep='|')\n")
        assert told(app, "main.py") == ["holder", "None", "card", "()"]

    def test_what_a_worker_could_not_find_is_refused(self, app: App) -> None:
        """An object in no module, or jobs of a script that does not hold their Jobcard."""
        app.write("base.py", "from jobcard import Jobcard\njobs = Jobcard()\nhidden = [Jobcard()]\n")
        app.write("main.py", "import base\n@base.jobs.job\ndef one(): ...\nbase.jobs.reference()\n")
        assert "no name of its own" in app.python("main.py").err
        app.write("main.py", "import base\nbase.hidden[0].reference()\n")
        assert "by its name in a module" in app.python("main.py").err

    def test_the_first_example_runs(self, app: App) -> None:
        """Ten lines: an engine starts, runs the job, stops; started twice it is one."""
        app.write(
            "shop.py",
            """
            from jobcard import Jobcard

            jobs = Jobcard()

            @jobs.job(timeout=30, max_attempts=3)
            def thumbnail(path: str, width: int = 200) -> str:
                return f"{path}@{width}"

            if __name__ == "__main__":
                with jobs.running() as same:
                    jobs.start()
                    print(thumbnail.enqueue("cat.jpg").result(timeout=30))
                    print(same is jobs, len(jobs.engines.list()), jobs.engines.list()[0].host != "")
                jobs.stop()
                print(len(jobs.engines.list()))
            """,
        )
        ran = app.python("shop.py")
        assert ran.out.split() == ["cat.jpg@200", "True", "1", "True", "0"], ran.err


class TestWorker:
    """In a worker process every client reaches the store through the engine."""

    @pytest.fixture
    def store(self, url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(context, "inside_worker", None)
        store = open_backend(url)
        store.migrate()
        context.enter_worker(store)
        return store

    def test_it_uses_the_engines_store(self, tmp_path: Path, store: Any) -> None:
        """Whatever its URL says; nothing is opened there."""
        jobs = Jobcard(f"sqlite:///{tmp_path}/other.db")
        handle = jobs.enqueue("x")
        assert [row.id for row in store.get([handle.id.bytes])] == [handle.id.bytes]
        assert not (tmp_path / "other.db").exists()
        jobs.close()
        assert len(store.get([handle.id.bytes])) == 1
        with pytest.raises(ConfigError, match="closed"):
            jobs.enqueue("x")

    def test_it_leaves_the_schema_and_the_rest_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a job cannot ask of its engine is refused in a sentence."""
        monkeypatch.setattr(context, "inside_worker", None)
        context.enter_worker(EngineStore(lambda verb, packed: None))
        jobs = Jobcard()
        for call in (lambda: jobs.truncate(confirm=True), jobs.migrate, jobs.rollback_migration):
            with pytest.raises(ConfigError, match="from inside a job"):
                call()

    def test_it_starts_no_engine(self, store: Any) -> None:
        """`start`, `run` and `running` do nothing, so a missing `__main__` guard is harmless."""
        jobs = Jobcard()
        jobs.start()
        assert jobs.run() == 0
        with jobs.running() as same:
            assert same is jobs
        jobs.stop()

    def test_it_leaves_the_schema_alone(self, store: Any) -> None:
        """That is for those who own the store."""
        for call in (Jobcard().migrate, Jobcard().rollback_migration):
            with pytest.raises(ConfigError):
                call()


class TestFork:
    def test_a_forked_child_goes_on(self, app: App) -> None:
        """Both enqueue, wait and await after the fork; ids do not repeat, nothing is lost."""
        app.write(
            "forks.py",
            """
            import asyncio, os, sys, threading
            from jobcard import Jobcard

            jobs = Jobcard("sqlite:///jobs.db")

            @jobs.job
            def add(a): ...

            async def several():
                return await asyncio.gather(*(add.enqueue_async(n) for n in range(5)))

            def work():
                for n in range(20):
                    add.enqueue(n)
                asyncio.run(several())
                handle = add.enqueue(1)
                try:
                    handle.result(timeout=0.05)
                except TimeoutError:
                    handle.cancel()

            threads = [threading.Thread(target=work) for _ in range(3)]
            work()
            for thread in threads:
                thread.start()
            children = []
            for n in range(4):
                child = os.fork()
                if child == 0:
                    work()
                    os._exit(0)
                children.append(child)
            for thread in threads:
                thread.join()
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            counts = jobs.count()
            print(codes, counts.total, counts.canceled)
            """,
        )
        ran = app.python("-W", "ignore", "forks.py")
        assert ran.out.strip() == f"[0, 0, 0, 0] {8 * 26} 8", ran.err

    def test_a_forked_child_does_not_stop_the_parents_engine(self, app: App) -> None:
        """Closing in the child leaves the engine that the parent started."""
        app.write(
            "forks.py",
            """
            import os
            from jobcard import Jobcard

            jobs = Jobcard("sqlite:///jobs.db")

            @jobs.job
            def add(a: int) -> int:
                return a + 1

            if __name__ == "__main__":
                with jobs.running():
                    if (child := os.fork()) == 0:
                        jobs.close()
                        os._exit(0)
                    os.waitpid(child, 0)
                    print(add.enqueue(1).result(timeout=30))
            """,
        )
        ran = app.python("forks.py")
        assert ran.out.strip() == "2", ran.err


def test_a_signal_handler_or_finalizer_never_waits_for_its_own_thread(app: App) -> None:
    """In the middle of a call it is told at once; between calls it works. Every job is stored once."""
    app.write(
        "signals.py",
        """
        import gc, signal
        from jobcard import Jobcard, StoreUnavailableError

        jobs = Jobcard("sqlite:///jobs.db")

        @jobs.job
        def add(a): ...

        stored = refused = 0

        def enqueue(*_):
            global stored, refused
            try:
                add.enqueue("inner")
                stored += 1
            except StoreUnavailableError:
                refused += 1

        class Finalized:
            def __init__(self):
                self.me = self
            def __del__(self):
                enqueue()

        add.enqueue("first")
        signal.signal(signal.SIGALRM, enqueue)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        gc.set_threshold(50, 2, 2)
        outer = 1
        while outer < 300 or not (stored and refused):
            Finalized()
            add.enqueue(outer)
            jobs.count(queue="default")
            outer += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.set_threshold(0)
        print(jobs.count().total == outer + stored)
        """,
    )
    ran = app.python("signals.py")
    assert ran.out.strip() == "True", ran.err
