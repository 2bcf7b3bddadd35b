"""The producers of a load: processes that enqueue when told to, and that may be killed at it."""

from __future__ import annotations

import contextlib
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

from checker.history import process_name
from checker.lab import Lab
from checker.tail import Tail

BATCH = 25
BURST = 4
"""Batches that a producer is given before it is killed."""


@dataclass
class Producer:
    """One of them, and how many jobs it was told to enqueue."""

    process: subprocess.Popen[bytes]
    name: str
    told: int = 0


class Crowd:
    """So many producers, always."""

    def __init__(self, lab: Lab, tail: Tail, chance: random.Random, *, count: int) -> None:
        self._lab = lab
        self._tail = tail
        self._chance = chance
        self._races = 0
        self.producers = [self._start() for _ in range(count)]

    def feed(self) -> bool:
        """Tell one that has nothing to do to enqueue a batch; False: all are busy."""
        idle = [producer for producer in self.producers if not self.is_busy(producer)]
        if not idle:
            return False
        self._tell(self._chance.choice(idle), BATCH)
        return True

    def burst(self, producer: Producer) -> None:
        """Tell one to enqueue some batches without a pause."""
        for _ in range(BURST):
            self._tell(producer, BATCH)

    def is_busy(self, producer: Producer) -> bool:
        """Whether it has not yet stored all it was told to."""
        return self._tail.stored[producer.name] < producer.told

    def race(self, gate: Path, keys: list[str]) -> list[str]:
        """All of them enqueue a job for each unique key at once, at work until there is a gate; who races."""
        for producer in self.producers:
            self._write(producer, f"race {gate} {' '.join(keys)}\n")
        return [producer.name for producer in self.producers]

    def kill(self, producer: Producer) -> None:
        """SIGKILL one; another takes its place."""
        producer.process.kill()
        producer.process.wait()
        self.producers[self.producers.index(producer)] = self._start()

    def check(self) -> None:
        """A producer that ended by itself has something to say."""
        for producer in self.producers:
            if producer.process.poll() is not None:
                assert producer.process.stdout is not None
                raise AssertionError(f"a producer ended: {producer.process.stdout.read().decode()[-3000:]}")

    def stop(self) -> None:
        """Let them end what they were told to do, and end."""
        for producer in self.producers:
            assert producer.process.stdin is not None
            producer.process.stdin.close()
        for producer in self.producers:
            code = producer.process.wait(60)
            assert producer.process.stdout is not None
            said = producer.process.stdout.read().decode()
            assert code == 0, f"a producer ended with {code}: {said[-3000:]}"

    def _start(self) -> Producer:
        process = self._lab.python("-m", "crowd_member", str(self._chance.getrandbits(32)), stdin=subprocess.PIPE)
        return Producer(process, process_name(process.pid))

    def _tell(self, producer: Producer, count: int) -> None:
        producer.told += count
        self._write(producer, f"batch {count}\n")

    @staticmethod
    def _write(producer: Producer, line: str) -> None:
        assert producer.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            producer.process.stdin.write(line.encode())
            producer.process.stdin.flush()
