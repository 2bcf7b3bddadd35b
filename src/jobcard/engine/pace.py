"""How long jobs take: measured as they end, the newest counting most."""

from __future__ import annotations

MOMENT = 0.025  # seconds of measured work held ready for each worker
SLOW_JOB = 0.005  # a job of this length is worth a worker of its own at once


class Pace:
    """The run times of one engine's jobs, by name and on the whole."""

    def __init__(self) -> None:
        self._by_name: dict[str, float] = {}
        self._mean: float | None = None

    def learn(self, name: str, seconds: float) -> None:
        """A job of this name took so long."""
        known = self._by_name.get(name)
        self._by_name[name] = seconds if known is None else known + 0.2 * (seconds - known)
        self._mean = seconds if self._mean is None else self._mean + 0.05 * (seconds - self._mean)

    def expected(self, name: str) -> float:
        """How long the next job of this name will take; a whole moment while nobody knows."""
        return self._by_name.get(name, MOMENT)

    def is_slow(self, name: str) -> bool:
        """Whether a job of this name is worth a worker of its own; yes while nobody knows."""
        return self._by_name.get(name, SLOW_JOB) >= SLOW_JOB

    def jobs_in_a_moment(self, most: int) -> int:
        """How many average jobs one worker does in a moment; 0 while nobody knows."""
        return 0 if self._mean is None else int(min(most, MOMENT / max(self._mean, 1e-6)))
