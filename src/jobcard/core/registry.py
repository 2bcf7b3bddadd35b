"""Which jobs an application knows, by name."""

from __future__ import annotations

from collections.abc import Iterator

from jobcard.core.definition import JobDefinition
from jobcard.errors import ConfigError


class Registry:
    """The jobs declared with one `Jobcard`. Only names in here are ever run; a name is never imported."""

    def __init__(self) -> None:
        self._by_name: dict[str, JobDefinition] = {}
        self._by_any_name: dict[str, JobDefinition] = {}

    def add(self, definition: JobDefinition) -> None:
        """Register a job; the same function declared again (a reloaded module) takes its own place.

        `ConfigError` when another job has one of its names; nothing is registered then.
        """
        names = (definition.name, *definition.aliases)
        for name in names:
            other = self._by_any_name.get(name)
            if other is not None and other.source != definition.source:
                raise ConfigError(
                    f"two jobs want the name {name!r}: {other.source} and {definition.source}; give one of them name=…"
                )
        for name in [name for name, other in self._by_any_name.items() if other.name == definition.name]:
            del self._by_any_name[name]
        self._by_name[definition.name] = definition
        self._by_any_name.update(dict.fromkeys(names, definition))

    def find(self, name: str) -> JobDefinition | None:
        """The job of this name or alias, or None."""
        return self._by_any_name.get(name)

    def names(self) -> list[str]:
        """Every name and alias a stored job may be run under, sorted."""
        return sorted(self._by_any_name)

    def __iter__(self) -> Iterator[JobDefinition]:
        return iter(list(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)
