"""The schedules name faults that exist, every fault is struck somewhere, and the histories are read as they grow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from checker import faults
from checker.faults import CI, DISK, FAULTS, RARE, SOAK
from checker.history import OVER, History, process_name, read_history
from checker.soak import write
from checker.tail import Tail


def test_every_kind_of_fault_is_in_the_soak_and_in_the_tests() -> None:
    """No module of a fault is forgotten, and no schedule names one that is none."""
    modules = {path.stem.replace("_", "-") for path in Path(faults.__file__).parent.glob("*.py")} - {"--init--", "base"}
    assert modules == set(FAULTS)
    assert set(SOAK) | set(DISK) == set(FAULTS)
    assert set(CI) | set(RARE) == set(FAULTS)


def test_the_soak_strikes_as_often_as_it_says() -> None:
    """Fewer jobs if they are too slow, never fewer faults."""
    assert (SOAK["worker-killed"], SOAK["engine-killed"], SOAK["server-killed"]) == (500, 50, 30)
    assert (SOAK["engine-frozen"], SOAK["network-broken"]) == (20, 70)


def test_a_history_is_read_as_it_grows(tmp_path: Path) -> None:
    """Who is in a job, who waits, who began: as of the last look, and each line once."""
    history, tail = History(tmp_path), Tail(tmp_path)
    tail._me = "another"  # what a load enqueues itself is no part of its crowd's
    history.write("enq-ok", "a")
    history.write("enq-ok", "b")
    history.write("enq-ok", "c", "key")
    history.write("run-begin", "a", 1, 1)
    tail.look()
    [me] = tail.running
    assert tail.running[me] == "a"
    assert tail.waiting == {"b", "c"}
    history.write("run-end", "a", 1)
    history.write("cancel", "b", "canceled")
    tail.look()
    assert (tail.running, tail.waiting) == ({}, {"c"})
    assert (list(tail.newest), tail.stored.total()) == (["a", "b"], 2)


def test_the_file_of_a_dead_process_is_put_away_and_still_read(tmp_path: Path) -> None:
    """Thousands of them would be looked at again and again; the checker wants them all the same."""
    tail = Tail(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(child.pid)
    (tmp_path / f"{name}.log").write_text("5 run-begin a 1 1\n")
    tail.look()
    assert tail.running == {name: "a"}
    child.communicate(b"\n")
    tail.look()
    assert tail.running == {}
    assert (tmp_path / OVER / f"{name}.log").exists()
    assert [(event.process, event.kind) for event in read_history(tmp_path)] == [(name, "run-begin")]


def test_a_part_that_is_run_again_replaces_its_line(tmp_path: Path) -> None:
    """A soak is resumed store by store; the others' figures stay."""
    out = tmp_path / "soak.jsonl"
    for part, store, seed in (("outage", "redis", 1), ("faults", "redis", 1), ("faults", "sqlite", 1)):
        write(out, {"part": part, "store": store, "seed": seed})
    write(out, {"part": "faults", "store": "redis", "seed": 2})
    lines = out.read_text().splitlines()
    assert len(lines) == 3
    assert '"sqlite"' in lines[0] and '"seed": 2' in lines[1] and '"outage"' in lines[2]


def test_a_line_that_is_just_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    """A reader may see the front of a write: it does not count, and nothing of the line is lost."""
    file, tail = tmp_path / "1-1.log", Tail(tmp_path)
    file.write_text("1000000000 run-begin aa 1 1\n20000")
    tail.look()
    assert (tail.last_begin, len(read_history(tmp_path))) == ({"1-1": 1.0}, 1)
    (tmp_path / "over" / "1-1.log").rename(file)
    file.write_text("1000000000 run-begin aa 1 1\n2000000000 run-begin bb 1 1\n")
    tail.look()
    assert (tail.last_begin, len(read_history(tmp_path))) == ({"1-1": 2.0}, 2)
