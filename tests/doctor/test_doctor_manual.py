"""docs/doctor.md: the table of codes is the codes there are, and what it says mends a job does."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from uuid import UUID

import pytest
from patient import Patient

from helpers.behind import spoil
from jobcard.conformance import factory

pytestmark = pytest.mark.turns

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "doctor.md").read_text("utf-8")
AREAS = "versions|durability|url|file|store|clock|engines|queues|schedules|jobs|rows"
CODE = re.compile(rf"(?:{AREAS})\.(?!html)[a-z_]+")  # not the templates of pages


@cache
def codes_in_sources() -> set[str]:
    """Every text of the source that is nothing but a code."""
    found = set()
    for path in (ROOT / "src" / "jobcard").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                found.add(node.value)
    return found


def test_the_table_of_codes_is_whole() -> None:
    """Every code that is told stands in the table, and no other."""
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    told = {code for row in rows for code in re.findall(r"`([^`]+)`", row) if CODE.fullmatch(code)}
    assert told == codes_in_sources()


def test_only_known_areas_are_told(patient: Patient) -> None:
    """A store that is asked tells codes of the table alone: none is put together where no test sees it."""
    assert {finding["code"] for finding in patient.told()} <= codes_in_sources()


def test_the_program_of_the_page_mends_a_job_at_work(patient: Patient) -> None:
    """A job without a lease, which nobody ever rescues, is failed by it, and runs again after a retry."""
    [program] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    store = patient.store()
    claim = factory.claimed_job(store)
    spoil(patient.url, claim.id, lease_until=None)
    [told] = patient.named("rows.impossible", code=1)
    assert "docs/doctor.md" in told["fix"]
    patient.app.write("mend.py", program)
    ran = patient.app.python("mend.py", patient.url, str(UUID(bytes=claim.id)))
    assert ran.code == 0 and "mended by hand" in ran.out, ran.err
    env = {"JOBCARD_URL": patient.url}
    assert patient.app.jobcard("jobs", "retry", str(UUID(bytes=claim.id)), env=env).code == 0
    assert factory.claim_one(store, queue=claim.queue).id == claim.id
    assert patient.told()
    store.close()
