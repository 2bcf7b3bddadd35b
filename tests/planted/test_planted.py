"""The harness can fail: faults planted in the product, five each day, are caught by the layer that shall."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

import jobcard
from planted.layers import SWITCH, environment, run
from planted.plan import FAULTS, Planted, of_today

DAY = date.today().timetuple().tm_yday
SOURCE = Path(jobcard.__file__).parent
ASK = """
from jobcard.backends.sqlite.statements import statements
print("claim_token = ?5" in statements("")["complete"])
"""


def guards_its_token(env: dict[str, str]) -> bool:
    """Whether a process with this environment checks the token of a completion."""
    done = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True, check=True)
    return {"True": True, "False": False}[done.stdout.strip()]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", of_today(DAY), ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught(fault: Planted) -> None:
    """In a real process, with a seed that is another every day."""
    print(f"day {DAY} of the year: seed {DAY}, {[each.name for each in of_today(DAY)]}")
    found = next(filter(None, (run(layer, fault.name, DAY) for layer in fault.layers)), None)
    assert found, f"fault {fault.number}, {fault.name}, was not caught by {fault.layers} with seed {DAY}"


def test_every_fault_of_the_list_is_planted() -> None:
    """All fourteen, each with a file of its own and somebody who catches it; all have their day."""
    assert [fault.number for fault in FAULTS] == list(range(1, 15))
    files = {path.stem for path in Path(__file__).with_name("faults").glob("*.py")} - {"__init__"}
    assert files == {fault.name for fault in FAULTS}
    assert all(fault.layers for fault in FAULTS)
    assert {fault for day in range(1, 13) for fault in of_today(day)} == set(FAULTS)


def test_a_process_has_a_fault_only_with_switch_and_variable() -> None:
    """Neither does anything alone."""
    with_fault = environment("finish_without_token")
    assert not guards_its_token(with_fault)
    assert guards_its_token(environment(None))
    assert guards_its_token({**environment(None), "PLANTED_FAULT": "finish_without_token"})
    assert guards_its_token({**with_fault, "PLANTED_FAULT": ""})


def test_a_fault_that_cannot_be_planted_stops_the_process() -> None:
    """Or a run without it would pass for one that did not catch it."""
    env = {**environment("finish_without_token"), "PLANTED_FAULT": "unheard_of"}
    done = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, check=False)
    assert done.returncode == 70


def test_the_product_knows_nothing_of_it() -> None:
    """No file of it names the variable or the switch, and no sitecustomize is installed with it."""
    for path in SOURCE.rglob("*.py"):
        assert "PLANTED_FAULT" not in path.read_text("utf-8")
    assert not list(SOURCE.rglob("sitecustomize.py"))
    assert SOURCE not in SWITCH.parents
