"""4. A claim does not look whether somebody has the job already."""

from planted import sqlite_text

BREAKS = sqlite_text(
    claim=("state = 'waiting' and hold is null", "state in ('waiting', 'claimed', 'running') and hold is null")
)
