"""Jobs of a library, declared before there is an application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobcard.client.declare import Declares
from jobcard.core import limits
from jobcard.core.definition import JobDefinition
from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from jobcard.client.parts import Parts


class JobGroup(Declares):
    """Jobs declared apart from any `Jobcard`; `jobs.include(group)` makes them that one's.

    queue: where its jobs go unless they say otherwise. prefix: stands before the names of its jobs, which
    then leave out the module ("mail." and `def welcome` give "mail.welcome").
    """

    def __init__(self, *, queue: str | None = None, prefix: str = "") -> None:
        self._queue = None if queue is None else limits.check_name(queue, "queue", error=ConfigError)
        self._prefix = limits.check_name(prefix, "prefix", error=ConfigError) if prefix else ""
        self._definitions: list[JobDefinition] = []
        self._parts: Parts | None = None

    @property
    def parts(self) -> Parts:
        """The client that includes this group; `ConfigError` while none does. For jobcard itself."""
        if self._parts is None:
            raise ConfigError("these jobs belong to a JobGroup that no Jobcard includes yet: jobs.include(group)")
        return self._parts

    def join(self, parts: Parts) -> None:
        """Give all jobs of this group, also those declared later, to this client: `jobs.include(group)`."""
        if self._parts is not None and self._parts is not parts and not self._parts.closed:
            raise ConfigError("this JobGroup is included in another Jobcard that is still open")
        for definition in self._definitions:
            parts.registry.add(definition)
        self._parts = parts

    def _define(self, target: Any, *, name: str | None = None, **rest: Any) -> JobDefinition:
        if self._prefix:
            name = self._prefix + (name or getattr(target, "__qualname__", "").replace(".<locals>", ""))
        if self._queue is not None:
            rest.setdefault("queue", self._queue)
        return super()._define(target, name=name, **rest)

    def _register(self, definition: JobDefinition) -> None:
        if self._parts is not None:
            self._parts.registry.add(definition)
        self._definitions.append(definition)
