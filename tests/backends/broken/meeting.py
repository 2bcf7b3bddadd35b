"""Makes two racing threads meet at the worst place, so that a planted race is no matter of luck."""

import threading


class Meeting:
    """Two threads of a race wait here for each other; anybody else, or a third alone, goes on."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)

    def wait(self) -> None:
        if not threading.current_thread().name.startswith("racer"):
            return
        try:
            self._barrier.wait(0.2)
        except threading.BrokenBarrierError:
            self._barrier.reset()
