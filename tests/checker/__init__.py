"""The queue checker: what was put in and stored must come out, once; judged from histories kept outside the store."""

from checker.figures import Figures, check
from checker.history import Event, History, read_history
from checker.stored import Ending, Row, Stored, Watch, read_store, watch_endings

__all__ = [
    "Ending",
    "Event",
    "Figures",
    "History",
    "Row",
    "Stored",
    "Watch",
    "check",
    "read_history",
    "read_store",
    "watch_endings",
]
