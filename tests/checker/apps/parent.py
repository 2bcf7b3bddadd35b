"""`python -m parent`: a program with an engine of its own, until it is killed."""

from __future__ import annotations

import sys

from load import jobs

if __name__ == "__main__":
    with jobs.running():
        sys.stdin.read()
        while True:
            __import__("signal").pause()
