"""The dashboard: a page for operators, mounted in an application or served by itself.

    app.py       one way through for every request      gate.py      who asks
    routes.py    ONE table of every route               routing.py   what a line of it says
    views/       what each page finds in the store      templates/   how it is shown
    fields.py    what a request may say, in bounds      asking.py    what a view is told, and may answer
    formats.py   filters of the templates               openapi.py   made of the table
    stores.py    its own small pool                     threads.py   the four threads that views run on
    audit.py     every write goes through it            refusal.py   what ends a request early
    shared.py    what refreshes share for a moment

To add a page:

1. `views/NAME.py`: a function of an `Ask` for the page, and one for each part that is refreshed by itself. It asks
   `ask.reading` (a `Jobcard`) and returns a dict of plain things and dataclasses: the same for the template and for
   JSON. What a client cannot tell yet is added to the client (and to the contract of the stores), never asked here.
   It runs on a thread; it may take its time, not the store's: every list has a limit, every count one.
2. `templates/NAME.html` extends `base.html`; a part is a file of its own in `templates/NAME/`, included by the page,
   and opens with `{{ ui.live("id", url("/path/of/the/part"), seconds) }}` in its outermost tag. No `|safe`, no inline
   style or script, no `on…=`: the policy in `headers.py` would not run it, and a test finds it. Whatever is a figure,
   a duration or a time goes through a filter of `formats.py`. Without JavaScript the page must still read.
3. A line in `routes.py`: path, `api=` below /api/v1 if programs get it too, view, template, role, `query=` with each
   word and its bounds (`ask["word"]` is its value). The test walks over roles and credentials by themselves.
4. What writes is a `writes=True` route with a role of its own and `form=`; its view does it through `ask.jobs` and
   returns `Done(see="/where", text="what was done")`. Who did it is written down by itself, with the route's `summary`,
   the words of its path, what the form says in numbers and choices, and that text: no argument in that, then. In the
   template it is a `<form method="post">` with `{{ ui.token(token) }}`, or `ui.act(…)` for a mere button, shown
   `{% if ask.may("operator") %}`. A name in a path goes through `|word` there, and through `name_of` in the view.
5. Arguments and results: only `{% if ask.sees_arguments %}`, and through `redacted(value, ask.options.hide)`, in the
   view, so that JSON is no other way to them.
6. A link in the navigation of `base.html`, a section in docs/dashboard.md, tests in tests/dashboard: `site` of the
   conftest is a signed-in visitor of each role over a real SQLite store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobcard.client import Jobcard
from jobcard.dashboard.app import Dashboard
from jobcard.dashboard.options import check_options


def make(app: Jobcard, options: Mapping[str, Any]) -> Dashboard:
    """The dashboard of an application; `ConfigError` for options that cannot be."""
    return Dashboard(app, check_options(dict(options)))
