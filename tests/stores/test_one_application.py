"""One application, not a letter of it changed, on every store there is: the URL alone says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from checker.lab import Lab
from helpers.apps import App
from helpers.places import Place
from test_readme import ten_lines

ORDERS = Path(__file__).parent / "apps" / "orders.py"
DAY = """\
order 7 paid at try 3
error
{'fetched'}
3
1.0 3 ['packed pen', 'packed ink', 'packed paper']
True {'to': 'customer', 'text': '3 things are on their way'}
timeout
canceled
delay canceled
{'to': 'soon', 'text': ''} True
124750
{'completed': 512, 'failed': 2, 'canceled': 2}
"""


def test_the_ten_lines_work(lab: Lab) -> None:
    """The README's first program prints the same result and leaves nobody behind."""
    app = App(lab.folder)
    app.write("shop.py", ten_lines())
    ran = app.python("shop.py", env=lab.environment())
    assert (ran.code, ran.out, ran.err) == (0, "cat.jpg@200\n", "")
    lab.wait_gone()


@pytest.mark.turns
def test_a_whole_day_comes_out_the_same(lab: Lab, place: Place) -> None:
    """Retries, failures, coroutines, progress, checkpoints, follow-ups, timeouts, cancels, delays, 500 at once."""
    app = App(lab.folder)
    app.write("orders.py", ORDERS.read_text())
    ran = app.python("orders.py", env=lab.environment(), timeout=100)
    assert (ran.code, ran.out, ran.err) == (0, DAY, ""), place.kind
    lab.wait_gone()
