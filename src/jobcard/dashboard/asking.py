"""What a view is told, and what it may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobcard.dashboard.roles import Role, Visitor
from jobcard.dashboard.shared import Shared

if TYPE_CHECKING:
    from jobcard.client import Jobcard
    from jobcard.dashboard.options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, checked: a view gets nothing that has not been.

    jobs: the store, through a small pool of the dashboard's own; what is written goes here. reading: the same, or the
    replica that `read_url` names: what is only shown comes from here. app: the application's own `Jobcard`, for what
    its code declares. said: the values of the route's fields and of the path, by name; `ask["limit"]` is one. token:
    what a form of this browser's must carry. shared: what other visitors have learned lately.
    """

    find_jobs: Callable[[], Jobcard]
    find_reading: Callable[[], Jobcard]
    app: Jobcard
    options: Options
    visitor: Visitor
    token: str = field(default="", repr=False)
    said: Mapping[str, Any] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared)

    @property
    def jobs(self) -> Jobcard:
        return self.find_jobs()

    @property
    def reading(self) -> Jobcard:
        return self.find_reading()

    def __getitem__(self, name: str) -> Any:
        return self.said[name]

    @property
    def sees_arguments(self) -> bool:
        """Whether this visitor is shown arguments and results."""
        return self.visitor.role.may(self.options.show_arguments_to)

    def may(self, role: str) -> bool:
        """Whether this visitor has this role, or more: what templates ask before they show a button."""
        return self.visitor.role.may(Role(role))


@dataclass(frozen=True, slots=True)
class Done:
    """The answer of a view that wrote: the page to see next, with a sentence; to a program, `data`."""

    see: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plain:
    """The answer of a view that writes text itself."""

    text: str
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
