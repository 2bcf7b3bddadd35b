"""What engines and keepers hold on to: memory, descriptors, the log of a SQLite file; looked at while a load runs."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from pathlib import Path

from checker.history import process_name
from checker.scene import Scene

EVERY_SECONDS = 2.0
WARM_SECONDS = 60.0
LONG_SECONDS = 300.0
"""A slope is told only of processes that were looked at for so long after they were warm."""
MIB = 1 << 20
PAGE = 4096


class Leaks:
    """Samples, and what they say."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._next = 0.0
        self._seen: dict[tuple[str, str], list[tuple[float, float, int]]] = defaultdict(list)
        """By ("engine" or "keeper", process): when, MiB, descriptors."""
        self._wal = 0

    def look(self) -> None:
        """Sample, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_SECONDS
        for tree in self._scene.trees():
            for role, pid in (("keeper", tree.keeper), ("engine", tree.find_engine())):
                if pid is not None:
                    with contextlib.suppress(OSError, IndexError):
                        self._seen[role, process_name(pid)].append((now, _rss(pid), _descriptors(pid)))
        if self._scene.place.kind == "sqlite":
            with contextlib.suppress(OSError):
                wal = Path(self._scene.place.url.removeprefix("sqlite:///") + "-wal")
                self._wal = max(self._wal, wal.stat().st_size)

    def figures(self) -> dict[str, float]:
        """The most of each, and how memory and descriptors of long-lived processes grew."""
        found: dict[str, float] = {}
        for role in ("engine", "keeper"):
            samples = [each for (kind, _), each in self._seen.items() if kind == role]
            if not samples:
                continue
            found[f"{role}_rss_mib"] = round(max(mib for each in samples for _, mib, _ in each), 1)
            found[f"{role}_descriptors"] = max(count for each in samples for _, _, count in each)
            lasting = [warm for each in samples if (warm := _warm(each))]
            if lasting:
                found[f"{role}_mib_an_hour"] = round(max(_slope([s[:2] for s in each]) for each in lasting), 2)
                found[f"{role}_more_descriptors"] = max(each[-1][2] - each[0][2] for each in lasting)
                found[f"{role}_minutes"] = round(max(each[-1][0] - each[0][0] for each in lasting) / 60, 1)
        if self._wal:
            found["wal_mib"] = round(self._wal / MIB, 1)
        return found


def _warm(samples: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    warm = [each for each in samples if each[0] - samples[0][0] >= WARM_SECONDS]
    return warm if warm and warm[-1][0] - warm[0][0] >= LONG_SECONDS else []


def _slope(points: list[tuple[float, float]]) -> float:
    """How much it rises in an hour, by least squares."""
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return 3600 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def _rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / MIB


def _descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
