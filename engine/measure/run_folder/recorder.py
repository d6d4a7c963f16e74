"""Readings of logs that are no regular table, collected one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine.measure.run_folder.numbers import PLAUSIBLE
from engine.measure.run_folder.record import Note
from engine.measure.run_folder.trace import FlagBuilder, Quantity, Scope, Trace, TraceBuilder, Zone
from engine.units import counted

_CHUNK: Final = 65_536
_LARGEST_TIME: Final = 1e11


class Recorder:
    """Takes (quantity, scope, device, time, value) in any order of devices; keeps memory bounded."""

    def __init__(self, *, zone: Zone = "local", timed: bool = True, held: bool = False) -> None:
        self.zone: Zone = zone
        self._timed, self._held = timed, held
        self._waiting: dict[tuple[Quantity, Scope, str], tuple[list[float], list[float]]] = {}
        self._builders: dict[tuple[Quantity, Scope, str], TraceBuilder | FlagBuilder] = {}
        self.implausible = 0
        self.readings = 0

    def add(self, quantity: Quantity, scope: Scope, device: str, time_s: float, value: float) -> None:
        """One reading in base units; for flags 1 is set."""
        low, high = PLAUSIBLE.get(quantity, (-1e300, 1e300))
        if not low <= value <= high or not abs(time_s) < _LARGEST_TIME:
            self.implausible += 1
            return
        self.readings += 1
        times, values = self._waiting.setdefault((quantity, scope, device), ([], []))
        times.append(time_s)
        values.append(value)
        if len(times) == _CHUNK:
            self._flush((quantity, scope, device))

    def _flush(self, key: tuple[Quantity, Scope, str]) -> None:
        import numpy as np

        times, values = self._waiting.pop(key, ([], []))
        if not times:
            return
        builder = self._builders.get(key)
        if builder is None:
            quantity, scope, device = key
            builder = (
                FlagBuilder(device, self.zone)
                if quantity == "throttle"
                else TraceBuilder(quantity, scope, device, self.zone, timed=self._timed, held=self._held)
            )
            self._builders[key] = builder
        if isinstance(builder, FlagBuilder):
            builder.add(np.array(times), np.array(values) > 0.5)
        else:
            builder.add(np.array(times), np.array(values))

    def finish(self) -> tuple[Trace, ...]:
        """The traces of everything taken."""
        for key in list(self._waiting):
            self._flush(key)
        return tuple(trace for builder in self._builders.values() if (trace := builder.finish()) is not None)

    def notes(self) -> tuple[Note, ...]:
        """What a reader must know about the readings."""
        return (implausible(self.implausible),) if self.implausible else ()


def implausible(count: int) -> Note:
    """Readings that were left out because no sensor can say them."""
    return Note("implausible", f"{counted(count, 'reading')} outside what a sensor can say")


def without_values(missing: Mapping[str, int]) -> list[Note]:
    """How many cells of each quantity held no number; nothing when all did."""
    text = ", ".join(f"{count} of {quantity}" for quantity, count in missing.items())
    return [Note("cells-without-values", f"cells without a value: {text}", "note")] if text else []


def undeclared_interval(tool: str) -> Note:
    """A log without times and without a declared interval has powers, but no energy."""
    return Note(
        "no-interval", f"{tool} logs carry no times and no `interval` is declared: no energy, plain means"
    )
