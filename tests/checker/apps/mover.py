"""`python -m mover SOURCE TARGET STEP CALLS [STOP]`: a copy that is killed after so many calls to its stores in a step.

STEP: of a live move; "copy": a plain copy from its beginning; "none": a live move that lives. The end of the step, too,
is one: it is killed before anybody can say that the step is over. STOP: it stands still instead.
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
from jobcard.moving import live, stores
from jobcard.moving.copying import Copied, copy
from jobcard.moving.voice import Voice


class Fuse:
    """Ends this process when it has burnt down."""

    def __init__(self, calls: int, word: int) -> None:
        self._left = calls
        self._word = word

    def burn(self, calls: int = 1) -> None:
        self._left -= calls
        if self._left <= 0:
            os.kill(os.getpid(), self._word)

    def end(self) -> None:
        self.burn(self._left)


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


def main() -> None:
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
            copied = live.move_live(both, voice=Voice(say=lambda text: print(text, file=sys.stderr, flush=True)))
    if copied is not None:
        paused = copied.paused and round(copied.paused, 3)
        print(json.dumps({"verified": copied.verified.jobs, "written": copied.passed.written, "paused": paused}))


if __name__ == "__main__":
    main()
