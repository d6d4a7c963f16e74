"""When each layer, attention and feed-forward ran in one real request: hooks that only take the time.

They are put on for one request after the measured ones, and taken off again: the rest runs without any.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from engine.measure.energy.anatomy import Anatomy, Place
from engine.measure.energy.trace import Event, EventKind
from engine.measure.local_spread import synchronize

_KINDS: Final[dict[str, EventKind]] = {
    "layer": "layer", "attention": "component", "ffn": "component", "embedding": "component",
    "lm_head": "component", "norm": "component",
}  # fmt: skip


class Marks:
    """Time stamps at both ends of each place while used as a context.

    `forward` of each module is wrapped for that time: a wrapper costs under a microsecond, a pair of torch's
    own hooks five. On CUDA the stamps are events in the stream of the place's device, read once at the end;
    the host never waits.
    """

    def __init__(self, anatomy: Anatomy, *, cuda: bool, devices: Sequence[str] = ()) -> None:
        self._anatomy = anatomy
        self._cuda = cuda
        self._devices = devices or ("cuda",)
        self._stack = contextlib.ExitStack()
        self._marks: list[tuple[Place, Any, Any]] = []
        self._zero: dict[Any, tuple[Any, Any, float]] = {}
        """Device -> its stream, an event in it, and when that happened on the host's clock."""

    def __enter__(self) -> Marks:
        if self._cuda:
            import torch

            synchronize(self._devices)
            for device in map(torch.device, self._devices):
                stream = torch.cuda.current_stream(device)
                self._zero[device] = (stream, _event(stream), time.perf_counter())
        for place in self._anatomy.places:
            if place.component in _KINDS:
                stamp = self._stamp_of(place.module) if self._cuda else time.perf_counter
                place.module.forward = _timed(place, place.module.forward, stamp, self._marks.append)
                self._stack.callback(delattr, place.module, "forward")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _stamp_of(self, module: Any) -> Callable[[], Any]:
        """What marks the stream in which a module works: that of its weights, else of the first device."""
        first = next(iter(self._zero))
        found = next((p.device for p in module.parameters()), first)
        device = found if found in self._zero else first

        stream = self._zero[device][0]
        return lambda: (device, _event(stream))

    def events(self, phase: str, *, repeat: int = 0) -> list[Event]:
        """The windows, on the host's clock."""
        if self._cuda:
            synchronize(self._devices)
        found = []
        for place, begin, end in self._marks:
            name = None if place.component == "layer" else place.component
            found.append(
                Event(_KINDS[place.component], phase, self._at(begin), self._at(end),
                      component=name, layer=place.layer, repeat=repeat)
            )  # fmt: skip
        return sorted(found, key=lambda event: event.begin_s)

    def _at(self, stamp: Any) -> float:
        if not self._cuda:
            return float(stamp)
        device, event = stamp
        _, begin, moment_s = self._zero[device]
        return float(moment_s + begin.elapsed_time(event) / 1e3)


def _timed(place: Place, forward: Any, stamp: Callable[[], Any], note: Callable[[Any], None]) -> Any:
    @functools.wraps(forward)
    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = stamp()
        found = forward(*args, **kwargs)
        note((place, begin, stamp()))
        return found

    return timed


def _event(stream: Any) -> Any:
    import torch

    event = torch.cuda.Event(enable_timing=True)
    event.record(stream)
    return event
