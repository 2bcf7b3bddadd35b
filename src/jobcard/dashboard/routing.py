"""What a route is: a path, who may ask, whether it writes, what it takes, and the view that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobcard.dashboard.asking import Ask, Done, Plain
from jobcard.dashboard.fields import Field
from jobcard.dashboard.roles import Role

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from jobcard.dashboard.app import Dashboard
    from jobcard.dashboard.gate import Visit

View = Callable[[Ask], Mapping[str, Any] | Done | Plain]
"""Answers from the store, on a thread of the dashboard's: data for a template and for JSON, or what it did."""
Handler = Callable[["Dashboard", "Request", "Visit"], Awaitable["Response"]]
"""Answers by itself, on the event loop: for the few routes that need more than a view is told, and no store."""

API = "/api/v1"
FORM_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of the table.

    path: of the page, `{name}` standing for a word and `{name:path}` for the rest; None: there is none, only JSON.
    api: of the JSON, below /api/v1; None: there is none. role: the least that may ask; None: anybody. writes: it is
    asked by POST and changes something, else by GET and changes nothing. template: of the page, or of a part of one;
    with `writes` there is none, for a view then says where to go on. query, form: what it takes. body: bytes a form
    may have. answer: those members of its JSON that are described, in JSON Schema's words.
    """

    summary: str
    path: str | None = None
    api: str | None = None
    view: View | None = None
    handler: Handler | None = None
    template: str | None = None
    role: Role | None = Role.VIEWER
    writes: bool = False
    query: tuple[Field, ...] = ()
    form: tuple[Field, ...] = ()
    body: int = FORM_BYTES
    answer: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert (self.view is None) != (self.handler is None), self.summary
        assert self.path is not None or self.api is not None, self.summary

    @property
    def method(self) -> str:
        """The one it is asked by."""
        return "POST" if self.writes else "GET"

    @property
    def paths(self) -> tuple[tuple[str, bool], ...]:
        """Each path below the dashboard's root, and whether it answers with JSON."""
        page = () if self.path is None else ((self.path, False),)
        return page if self.api is None else (*page, (API + self.api, True))
