"""The door of a store: what a driver raises comes out as one of jobcard's errors, the driver's own behind it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from jobcard.errors import JobcardError


class Door:
    """`with door: …` around calls of a driver; it may be used by several threads, and inside itself."""

    __slots__ = ("_translate",)

    def __init__(self, translate: Callable[[BaseException], JobcardError | None]) -> None:
        """translate: the jobcard error for one of the driver's; None: it is none of the driver's."""
        self._translate = translate

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, JobcardError):
            return
        if (ours := self._translate(error)) is not None:
            raise ours from error
