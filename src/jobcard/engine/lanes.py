"""The engine's ways to its store: at once what is short and often, on threads of their own whatever may take long.

Kills, timeouts and stops must not wait for a store. A server may hang for as long as its timeout, so there each lane is
one thread, and a slow exchange delays no renewal. A store in this process (SQLite) is called at once for those two,
which it does in no time; but a count of a job's over ten million rows takes as long there as anywhere. What a call gave
is heard on the engine's own thread, in the order of the answers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from jobcard.errors import JobcardError, StoreError, StoreUnavailableError

log = logging.getLogger("jobcard.engine")

T = TypeVar("T")


# What never waits for each other. Whatever moves jobs stands in the first: an exchange is never called twice at once.
EXCHANGE, RENEW, ROUTINE, LOOK, TICK = "exchange", "renew", "routine", "look", "tick"
CALLS = tuple(f"call-{number}" for number in range(4))
"""For store verbs that code inside jobs asks for, by the number of the worker."""
SHORT = frozenset({EXCHANGE, RENEW})
"""What a store in this process is asked without a thread between: a hand-over would cost more than the call."""

GOODBYE_SECONDS = 0.5
COMPLAINT_SECONDS = 60.0  # from one traceback of a store that breaks its contract to the next


class Lanes:
    """Calls to the store, each answered by one of two functions on the engine's thread."""

    def __init__(self, selector: selectors.BaseSelector, *, own_thread: bool) -> None:
        """own_thread: the store asks for it (`Capabilities.own_thread`), so nothing is called at once."""
        self._selector = selector
        self._at_once = frozenset() if own_thread else SHORT
        self._waiting: dict[str, queue.SimpleQueue[Callable[[], None] | None]] = {}
        self._answers: deque[Callable[[], None]] = deque()
        self._threads: list[threading.Thread] = []
        self._complain_at = 0.0
        self._out, self._in = os.pipe()
        for fd in (self._out, self._in):
            os.set_blocking(fd, False)
        selector.register(self._out, selectors.EVENT_READ, self._hear)

    def run(
        self, lane: str, call: Callable[[], T], answered: Callable[[T], None], failed: Callable[[StoreError], None]
    ) -> None:
        """Call the store; then `answered` with what it gave, or `failed`.

        What no store may raise is taken as one that is away, and asked again; another error of ours ends the engine.
        """
        if lane in self._at_once:
            self._outcome(call, answered, failed)()
            return
        if lane not in self._waiting:
            self._waiting[lane] = queue.SimpleQueue()
            thread = threading.Thread(target=self._work, args=(self._waiting[lane],), name=f"store-{lane}", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._waiting[lane].put(lambda: self._tell(self._outcome(call, answered, failed)))

    def close(self) -> None:
        """Let the threads end when they have done what was asked; nobody hears their answers any more.

        Those that end soon are waited for: what they ask of a store that is closed by then would open it again.
        """
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._out)
        for waiting in self._waiting.values():
            waiting.put(None)
        until = time.monotonic() + GOODBYE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _outcome(
        self, call: Callable[[], T], answered: Callable[[T], None], failed: Callable[[StoreError], None]
    ) -> Callable[[], None]:
        try:
            value = call()
        except StoreError as error:
            problem = error  # `error` itself is gone when this block is left
            return lambda: failed(problem)
        except JobcardError as error:
            return _raiser(error)
        except Exception as error:
            stranger = error
            return lambda: failed(self._as_unavailable(stranger))
        except BaseException as error:
            return _raiser(error)
        return lambda: answered(value)

    def _as_unavailable(self, error: Exception) -> StoreUnavailableError:
        # Of a store that is not ours, or of a driver below it. Started anew, the engine would hear the same again.
        now = time.monotonic()
        if now >= self._complain_at:
            self._complain_at = now + COMPLAINT_SECONDS
            log.error("the store raised what is no StoreError; it is asked again", exc_info=error)
        return StoreUnavailableError(f"{type(error).__name__}: {error}")

    @staticmethod
    def _work(waiting: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        while (task := waiting.get()) is not None:
            task()

    def _tell(self, answer: Callable[[], None]) -> None:
        self._answers.append(answer)
        with contextlib.suppress(BlockingIOError):  # full: then it is readable, and all will be heard
            os.write(self._in, b"!")

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._out, 1 << 12):
                pass
        while self._answers:
            self._answers.popleft()()


def _raiser(error: BaseException) -> Callable[[], None]:
    def again() -> None:
        raise error

    return again
