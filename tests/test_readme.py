"""The first screen of the README: ten lines that work as they stand, and the two commands."""

from __future__ import annotations

import re
from pathlib import Path

from helpers.apps import App

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def ten_lines() -> str:
    found = re.search(r"^```python run shop\.py\n(.*?)^```$", README, re.M | re.S)
    assert found
    return found[1]


def test_the_ten_lines_work(tmp_path: Path) -> None:
    """Saved as shop.py in an empty directory and run with `python shop.py`."""
    app = App(tmp_path)
    app.write("shop.py", ten_lines())
    ran = app.python("shop.py")
    assert (ran.code, ran.out, ran.err) == (0, "cat.jpg@200\n", "")


def test_they_are_ten() -> None:
    """Without the empty lines between them."""
    assert len([line for line in ten_lines().splitlines() if line]) <= 10


def test_the_first_screen_has_both_commands() -> None:
    """Somebody who looks for ten seconds finds how to see it work and how to test it."""
    screen = README.splitlines()[:40]
    for command in ("scripts/demo", "scripts/test"):
        assert any(command in line for line in screen)
        assert (ROOT / command).stat().st_mode & 0o111
