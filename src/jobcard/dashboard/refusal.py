"""What ends a request early: a status and a sentence, shown as a page or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class Refused(Exception):
    """The request is not answered. text: for whoever asked, so nothing of what is inside stands in it."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers
