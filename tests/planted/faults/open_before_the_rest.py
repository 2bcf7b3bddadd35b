"""14. The target of a live move is opened as soon as the source is sealed: what changed since the last pass stays."""

from types import ModuleType
from typing import Any


def _plant(live: ModuleType) -> None:
    seal = live.seal

    def cut_over(move: Any) -> Any:
        seal(move)
        return live.Phase.OPEN

    live.STEPS[live.Phase.SEAL] = cut_over


BREAKS = {"jobcard.moving.live": _plant}
