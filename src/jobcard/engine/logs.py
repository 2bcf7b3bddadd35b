"""Where an engine's log lines go: standard error, as text or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime


class _JSON(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _Colored(logging.Formatter):
    _COLORS = {"DEBUG": 2, "INFO": 36, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}  # noqa: RUF012 - never changed

    def format(self, record: logging.LogRecord) -> str:
        color = self._COLORS.get(record.levelname, 0)
        return f"\x1b[{color}m{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower()}\x1b[0m {_said(record)}"


def _said(record: logging.LogRecord) -> str:
    return logging.Formatter("%(message)s").format(record)


_FORMATTERS: dict[str, Callable[[], logging.Formatter]] = {
    "text": lambda: logging.Formatter("%(asctime)s %(levelname)s %(message)s"),
    "json": _JSON,
    "color": _Colored,
}


def configure_logging(level: str = "warning", format: str = "text") -> None:
    """Send jobcard's own log to standard error. level: a name of `logging`'s. format: text, json, or color."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[format]())
    logger = logging.getLogger("jobcard")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
