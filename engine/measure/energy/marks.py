"""When each layer, attention and feed-forward ran in one real request: hooks that only take the time.

They are put on for one request after the measured ones, and taken off again: the rest runs without any.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any, Final

from engine.measure.energy.anatomy import Anatomy, Place
from engine.measure.energy.trace import Event, EventKind

_KINDS: Final[dict[str, EventKind]] = {
    "layer": "layer", "attention": "component", "ffn": "component", "embedding": "component",
    "lm_head": "component", "norm": "component",
}  # fmt: skip


@dataclass
class _Mark:
    place: Place
    begin: Any
    end: Any = None


class Marks:
    """Time stamps at both ends of each place while used as a context.

    On CUDA they are events in the stream, read once at the end; the host never waits.
    """

    def __init__(self, anatomy: Anatomy, *, cuda: bool) -> None:
        self._anatomy = anatomy
        self._cuda = cuda
        self._stack = contextlib.ExitStack()
        self._marks: list[_Mark] = []
        self._zero: tuple[Any, float] | None = None

    def __enter__(self) -> Marks:
        if self._cuda:
            import torch

            torch.cuda.synchronize()
            self._zero = (self._stamp(), time.perf_counter())
        for place in self._anatomy.places:
            if place.component in _KINDS:
                before, after = self._hooks(place)
                self._stack.callback(place.module.register_forward_pre_hook(before).remove)
                self._stack.callback(place.module.register_forward_hook(after).remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _stamp(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _hooks(self, place: Place) -> tuple[Any, Any]:
        marks, stamp = self._marks, self._stamp
        running: list[_Mark] = []

        def before(_module: Any, _args: Any) -> None:
            running.append(_Mark(place, stamp()))

        def after(_module: Any, _args: Any, _output: Any) -> None:
            mark = running.pop()
            mark.end = stamp()
            marks.append(mark)

        return before, after

    def events(self, phase: str, *, repeat: int = 0) -> list[Event]:
        """The windows, on the host's clock."""
        if self._cuda:
            import torch

            torch.cuda.synchronize()
        found = []
        for mark in self._marks:
            place = mark.place
            name = None if place.component == "layer" else place.component
            found.append(
                Event(_KINDS[place.component], phase, self._at(mark.begin), self._at(mark.end),
                      component=name, layer=place.layer, repeat=repeat)
            )  # fmt: skip
        return sorted(found, key=lambda event: event.begin_s)

    def _at(self, stamp: Any) -> float:
        if self._zero is None:
            return float(stamp)
        return self._zero[1] + self._zero[0].elapsed_time(stamp) / 1e3  # type: ignore[no-any-return]
