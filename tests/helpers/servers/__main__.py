"""The supervisor of one shared server, a process of its own: `python -m helpers.servers NAME FOLDER`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from helpers.servers import KINDS
from helpers.servers.sharing import say, supervise

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests; this ends when they have
    try:
        supervise(KINDS[sys.argv[1]], Path(sys.argv[2]))
    except Exception as problem:
        say(error=str(problem))
        sys.exit(1)
