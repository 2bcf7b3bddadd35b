"""How a refusal finds its path on the way out."""

from __future__ import annotations

from typing import Any

_MODULE: Any = type.__dict__["__module__"]
_QUALNAME: Any = type.__dict__["__qualname__"]


class Refused(Exception):
    """A value cannot be stored or rebuilt. Each level it leaves adds its step, innermost first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def describe(self, what: str) -> str:
        """The whole sentence: path, then reason."""
        return f"{what}{''.join(reversed(self.steps))}: {self.reason}"


def step_to(key: str) -> str:
    """A key as part of a path."""
    return f".{key}" if key.isidentifier() and len(key) <= 40 else f"[{key[:40]!a}]"


def name_of(kind: type) -> str:
    """A class as messages name it."""
    # Read past the metaclass: a hostile one must not run code while we refuse its instance.
    module, name = _MODULE.__get__(kind), _QUALNAME.__get__(kind)
    prefix = f"{module}." if type(module) is str and module not in ("builtins", "__main__") else ""
    return f"{prefix}{name}"[:120]
