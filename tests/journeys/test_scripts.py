"""The first ten minutes with jobcard: a script of ten lines, started as any script, with and without its guard."""

from __future__ import annotations

import os
import subprocess
from textwrap import dedent

import pytest

from checker.lab import Lab
from helpers.waiting import wait_until

MOST_PROCESSES = 8

SHOP = """
from jobcard import Jobcard

jobs = Jobcard()


@jobs.job(timeout=30, max_attempts=3)
def thumbnail(path: str, width: int = 200) -> str:
    return f"{path}@{width}"


if __name__ == "__main__":
    with jobs.running():
        print(thumbnail.enqueue("cat.jpg").result(timeout=30))
"""

UNGUARDED = """
from jobcard import Jobcard

jobs = Jobcard()


@jobs.job
def thumbnail(path: str, width: int = 200) -> str:
    return f"{path}@{width}"


with jobs.running():
    print(thumbnail.enqueue("cat.jpg").result(timeout=30))
"""


def run(lab: Lab, source: str, *arguments: str, name: str = "shop.py") -> tuple[int, str, int]:
    """Run a script of this source: its exit code, all it said, and how many processes there were at most."""
    (lab.folder / name).write_text(dedent(source))
    process = lab.python(name, *arguments)
    most = 0

    def ended() -> bool:
        nonlocal most
        most = max(most, len(lab.processes()))
        return process.poll() is not None

    wait_until(ended, "the end of the script", timeout=60)
    assert process.stdout is not None
    said = process.stdout.read().decode()
    lab.wait_gone()
    return process.returncode, said, most


def test_the_ten_lines_work(lab: Lab) -> None:
    """`python shop.py` prints the result, ends, and leaves nobody behind."""
    code, said, most = run(lab, SHOP)
    assert (code, said) == (0, "cat.jpg@200\n")
    assert most <= MOST_PROCESSES


def test_the_jobs_of_a_script_are_named_by_its_file(lab: Lab) -> None:
    """A job of the started script is stored as `shop.thumbnail`, and `jobcard start shop.py` runs it later."""
    source = SHOP.replace("with jobs.running():\n        print(", "if True:\n        print(").replace(
        ".result(timeout=30)", ".refresh().name"
    )
    code, said, _ = run(lab, source)
    assert (code, said) == (0, "shop.thumbnail\n")
    app = lab.app("load")
    for place in ("shop.py", "shop.py:jobs", "shop:jobs"):
        handle = app.jobs.enqueue("shop.thumbnail", ["dog.jpg"], {"width": 7}, strict=False)
        tree = lab.start(place)
        assert handle.result(timeout=30) == "dog.jpg@7"
        assert tree.stop() == 0
    assert app.jobs.count(name="shop.thumbnail")["completed"] == 4


def test_a_missing_guard_starts_no_engine_after_engine(lab: Lab) -> None:
    """Without `if __name__ == "__main__":` the script ends soon, with an error that names the guard, and no swarm."""
    code, said, most = run(lab, UNGUARDED)
    assert code != 0
    assert "__main__" in said
    assert "shop.py" in said
    assert most <= MOST_PROCESSES


@pytest.mark.parametrize("call", ["jobs.start()", "jobs.run()", "jobs.stop()"])
def test_an_unguarded_start_alone_does_nothing_in_workers(lab: Lab, call: str) -> None:
    """A worker that imports the script passes by `start`, `run` and `stop`: they are the script's own."""
    source = UNGUARDED.split("with jobs")[0] + f"{call}\n"
    (lab.folder / "shop.py").write_text(source)
    app = lab.app("load")
    handle = app.jobs.enqueue("shop.thumbnail", ["dog.jpg"], strict=False)
    tree = lab.start("shop.py")
    assert handle.result(timeout=30) == "dog.jpg@200"
    assert len(app.jobs.engines.list()) == 1
    assert len(lab.processes()) <= MOST_PROCESSES
    assert tree.stop() == 0


def test_a_module_is_run_with_dash_m(lab: Lab) -> None:
    """`python -m shop.jobs` in a package works the same, and names its jobs by the module."""
    package = lab.folder / "store"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "front.py").write_text(SHOP.replace(".result(timeout=30)", ".result(timeout=30), thumbnail.name"))
    process = lab.python("-m", "store.front")
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said.decode()) == (0, "cat.jpg@200 store.front.thumbnail\n")
    lab.wait_gone()


def test_run_in_the_foreground_ends_with_ctrl_c(lab: Lab) -> None:
    """`jobs.run()` works until SIGINT, lets its jobs end, and returns 0."""
    source = SHOP.split("if __name__")[0] + 'if __name__ == "__main__":\n    raise SystemExit(jobs.run())\n'
    (lab.folder / "shop.py").write_text(source)
    app = lab.app("load")
    handle = app.jobs.enqueue("shop.thumbnail", ["dog.jpg"], strict=False)
    process = lab.python("shop.py")
    assert handle.result(timeout=30) == "dog.jpg@200"
    process.send_signal(2)
    assert process.wait(30) == 0
    lab.wait_gone()


def test_an_application_from_the_command_line_of_python(lab: Lab) -> None:
    """`python -c` and the prompt can start an engine for a `Jobcard` that stands in a module."""
    (lab.folder / "shop.py").write_text(SHOP)
    process = lab.python(
        "-c",
        "from shop import jobs, thumbnail\nwith jobs.running():\n    print(thumbnail.enqueue('x').result(timeout=30))",
        env={"PYTHONPATH": f"{lab.folder}{os.pathsep}{lab.environment()['PYTHONPATH']}"},
    )
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said.decode()) == (0, "x@200\n")
    lab.wait_gone()


def test_a_script_that_is_killed_leaves_nobody(lab: Lab) -> None:
    """SIGKILL of the script in the middle of a job ends its engine and its workers."""
    source = SHOP.replace('return f"{path}@{width}"', "import time; time.sleep(600)").replace(
        "result(timeout=30)", "result()"
    )
    (lab.folder / "shop.py").write_text(source)
    process = lab.python("shop.py")
    app = lab.app("load")
    lab.wait_for(app, lambda n: n["running"] == 1, "the job to run")
    assert len(lab.processes()) >= 4
    process.kill()
    lab.wait_gone()
    # Handed back, or held until the lease ends where there was no time for last words: not lost, and not ended.
    counts = app.jobs.count()
    assert counts["waiting"] + counts["running"] == counts.total == 1


def test_the_output_of_an_engine_does_not_hold_the_script(lab: Lab) -> None:
    """Output that nobody reads any more, and jobs that print into it, stop neither the engine nor the script."""
    source = SHOP.replace('return f"{path}@{width}"', 'print("x" * 1_000_000); return path')
    (lab.folder / "shop.py").write_text(source)
    process = subprocess.Popen(
        [os.sys.executable, "shop.py"],
        cwd=lab.folder,
        env=lab.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stderr.close()
    try:
        said = process.stdout.read()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.stdout.close()
    assert said == b"cat.jpg\n"
    lab.wait_gone()
