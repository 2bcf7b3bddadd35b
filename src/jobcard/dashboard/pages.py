"""The templates: everything that is printed is escaped, and nothing can say otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from jobcard.core.states import JobState
from jobcard.dashboard.asking import Ask
from jobcard.dashboard.formats import FILTERS, visible
from jobcard.dashboard.plain import to_plain
from jobcard.dashboard.roles import Visitor

STATIC = files("jobcard.dashboard") / "static"


@cache
def environment() -> Environment:
    """The templates of this package."""
    made = Environment(
        loader=PackageLoader("jobcard.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    # The only ways out of escaping.
    for name in ("safe", "xmlattr", "urlize"):
        del made.filters[name]
    made.filters.update(FILTERS)
    made.globals["states"] = tuple(state.value for state in JobState)
    return made


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page stands: what its links begin with, and the path that was asked for below that."""

    root: str
    path: str

    def url(self, path: str, /, **query: Any) -> str:
        """A link within the dashboard; what is None or empty is left out of the query, a tuple stands there often."""
        pairs = [
            (name, text)
            for name, value in query.items()
            for each in (value if isinstance(value, (list, tuple)) else (value,))
            if (text := "" if each is None else str(to_plain(each))) != ""
        ]
        # Stored text may hold what no address can: such a link leads nowhere, but the page is shown.
        query_text = f"?{urlencode(pairs, errors='replace')}" if pairs else ""
        return self.root + quote(path, errors="replace") + query_text

    def static(self, name: str) -> str:
        """A file of ours, under another address whenever it has changed: browsers may keep it for ever."""
        return f"{self.root}/static/{name}?v={stamp(name)}"


@cache
def stamp(name: str) -> str:
    """What changes with the content of a static file."""
    return sha256(STATIC.joinpath(name).read_bytes()).hexdigest()[:12]


def render(
    template: str,
    data: Mapping[str, Any],
    *,
    place: Place,
    ask: Ask | None,
    token: str,
    visitor: Visitor | None = None,
    said: str | None = None,
    signs_out: bool = False,
) -> str:
    """A page or fragment.

    ask: None: nobody has come in yet, or visitor says who has, and is refused. token: for its forms. said: what was
    just done.
    """
    links: Mapping[str, Callable[..., str]] = {"url": place.url, "static": place.static}
    frame = {
        "ask": ask,
        "visitor": visitor if ask is None else ask.visitor,
        "token": token,
        "said": said,
        "path": place.path,
        "signs_out": signs_out,
    }
    return environment().get_template(template).render({**data, **frame, **links})
