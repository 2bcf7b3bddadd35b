"""13. A completion asks for the token only, so it overwrites the end of a job that was canceled."""

from planted import sqlite_text

BREAKS = sqlite_text(complete=("state in ('claimed', 'running')", "state != 'completed'"))
