"""Whether a machine does other work while it is probed: one kernel that never changes, timed all along."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Any, Final

from engine.measure.device_probe import operators
from engine.measure.device_probe.operators import Bench, Call
from engine.measure.device_probe.timing import Read

_SIDE: Final = 1024
_TRIALS: Final = 3
_LOUD: Final = 1.25
"""Over the shortest time of the reference from which a moment counts as disturbed."""
_WORTH_SAYING: Final = 1.1


@dataclass
class Reference:
    """A product of one row with cold weights, both bandwidth and arithmetic of one core."""

    call: Call
    read: Read
    times_s: list[float] = field(default_factory=list)
    passed_s: list[float] = field(default_factory=list)
    """The same calls as time that passed, whatever the clock."""

    @classmethod
    def on(cls, bench: Bench, read: Read) -> Reference:
        """A reference with a clock."""
        return cls(operators.gemm(bench, {"m": 1, "n": _SIDE, "k": _SIDE}), read)

    def look(self) -> None:
        """Time the reference in this moment."""
        found, passed = [], []
        for _ in range(_TRIALS):
            begin, moment = self.read(), time.perf_counter()
            self.call(len(self.times_s))
            found.append(self.read() - begin)
            passed.append(time.perf_counter() - moment)
        self.times_s.append(statistics.median(found))
        self.passed_s.append(statistics.median(passed))

    def finding(self) -> dict[str, Any] | None:
        """What a reader must know about the machine; None where it was quiet."""
        if not self.times_s:
            return None
        best = min(self.times_s)
        usual, passed = statistics.median(self.times_s) / best, statistics.median(self.passed_s) / best
        if max(usual, passed) < _WORTH_SAYING:
            return None
        disturbed = sum(t > _LOUD * best for t in self.times_s) / len(self.times_s)
        return {
            "rule": "busy-machine",
            "severity": "warning",
            "finding": "the machine did other work meanwhile; the mean of all rounds of each shape counts",
            "evidence": f"a reference kernel took {usual:.2f} times its shortest time at the median "
            f"({passed:.2f} times as time passed) and was disturbed in {disturbed:.0%} of "
            f"{len(self.times_s)} moments",
            "change": "probe again on a quiet machine; `threads: 1` times by the processor's clock",
        }
