"""A component that takes known time and known power, on the pretend device's own clock."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class SimulatedWork:
    """Runs back to back: two chunks may be queued, each begins when the one before has ended."""

    device: Any
    component: str
    turn_s: float
    watts: float
    phase: str = "decode"
    parent: str | None = None
    layer: int | None = None
    count: int = 1
    visits: int = 1
    order: int = 0
    share: dict[int, float] = field(default_factory=dict)
    busy_until: float = 0.0
    log: list[tuple[float, float]] = field(default_factory=list)

    def launch(self, turns: int) -> float:
        begin = max(self.busy_until, self.device.now())
        self.busy_until = begin + turns * self.turn_s
        self.device.work(begin, self.busy_until, self.watts)
        self.log.append((begin, self.busy_until))
        return self.busy_until

    def wait(self, token: float) -> None:
        if token > self.device.now():
            self.device.move_to(token)


def loop_times(start_s: float, length_s: float, chunk_s: float):
    """Ends of chunks from a start."""
    import numpy as np

    return start_s + chunk_s * np.arange(1, round(length_s / chunk_s) + 1)
