"""`python -m mover SOURCE TARGET STEP CALLS [STOP]`: a copy that is killed after so many calls to its stores in a step.

STEP: of a live move; "copy": a plain copy from its beginning; "none": a live move that lives. The end of the step, too,
is one: it is killed before anybody can say that the step is over. STOP: it stands still instead, once, while somebody
kills a store under it; it is killed at the end of the step then, or the store's error ends it with 1.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, cast

from jobcard.backends.base import Backend
from jobcard.core.move import Phase
from jobcard.errors import StoreUnavailableError
from jobcard.moving import live, stores
from jobcard.moving.copying import Copied, copy
from jobcard.moving.voice import Voice


class Fuse:
    """Ends or halts this process when it has burnt down."""

    def __init__(self, calls: int, word: int) -> None:
        self._left = calls
        self._word = word

    def burn(self, calls: int = 1) -> None:
        before, self._left = self._left, self._left - calls
        if before > 0 >= self._left:
            os.kill(os.getpid(), self._word)

    def end(self) -> None:
        self.burn(self._left)
        os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """A store whose calls burn the fuse, before or after they are made."""

    def __init__(self, store: Backend, fuse: Fuse) -> None:
        self._store = store
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            self._fuse.burn()
            return answer

        return call


def watched(given: stores.Stores, fuse: Fuse) -> stores.Stores:
    source, target = (cast(Backend, Watched(store, fuse)) for store in (given.source, given.target))
    return given._replace(source=source, target=target)


def deadly(step: Callable[[live.LiveMove], Phase], fuse: Fuse) -> Callable[[live.LiveMove], Phase]:
    def run(move: live.LiveMove) -> Phase:
        move.stores = watched(move.stores, fuse)
        following = step(move)
        fuse.end()
        return following

    return run


def main() -> int:
    source, target, step, calls, *stop = sys.argv[1:]
    fuse = Fuse(int(calls), signal.SIGSTOP if stop else signal.SIGKILL)
    with stores.open_stores(source, target) as both:
        copied: Copied | None
        if step == "copy":
            copied = copy(watched(both, fuse))
        else:
            steps = cast(dict[Phase, Callable[[live.LiveMove], Phase]], live.STEPS)
            if step != "none":
                steps[Phase(step)] = deadly(steps[Phase(step)], fuse)
            try:
                copied = live.move_live(both, voice=Voice(say=lambda text: print(text, file=sys.stderr, flush=True)))
            except StoreUnavailableError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
    if copied is not None:
        paused = copied.paused and round(copied.paused, 3)
        print(json.dumps({"verified": copied.verified.jobs, "written": copied.passed.written, "paused": paused}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
