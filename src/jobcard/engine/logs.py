"""Where an engine's log lines go: standard error, as text or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
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


def configure_logging(level: str = "warning", format: str = "text") -> None:
    """Send jobcard's own log to standard error. level: a name of `logging`'s. format: text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSON() if format == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("jobcard")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
