"""When each layer, attention and feed-forward ran in one real request: hooks that only take the time.

They are put on for one request after the measured ones, and taken off again: the rest runs without any.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any, Final

from engine.measure.energy.anatomy import Anatomy, Place
from engine.measure.energy.trace import Event, EventKind

_KINDS: Final[dict[str, EventKind]] = {
    "layer": "layer", "attention": "component", "ffn": "component", "embedding": "component",
    "lm_head": "component", "norm": "component",
}  # fmt: skip


class Marks:
    """Time stamps at both ends of each place while used as a context.

    `forward` of each module is wrapped for that time: a wrapper costs under a microsecond, a pair of torch's
    own hooks five. On CUDA the stamps are events in the stream, read once at the end; the host never waits.
    """

    def __init__(self, anatomy: Anatomy, *, cuda: bool) -> None:
        self._anatomy = anatomy
        self._cuda = cuda
        self._stack = contextlib.ExitStack()
        self._marks: list[tuple[Place, Any, Any]] = []
        self._zero: tuple[Any, float] | None = None

    def __enter__(self) -> Marks:
        if self._cuda:
            import torch

            torch.cuda.synchronize()
            self._zero = (_event(), time.perf_counter())
        stamp = _event if self._cuda else time.perf_counter
        for place in self._anatomy.places:
            if place.component in _KINDS:
                place.module.forward = _timed(place, place.module.forward, stamp, self._marks.append)
                self._stack.callback(delattr, place.module, "forward")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def events(self, phase: str, *, repeat: int = 0) -> list[Event]:
        """The windows, on the host's clock."""
        if self._cuda:
            import torch

            torch.cuda.synchronize()
        found = []
        for place, begin, end in self._marks:
            name = None if place.component == "layer" else place.component
            found.append(
                Event(_KINDS[place.component], phase, self._at(begin), self._at(end),
                      component=name, layer=place.layer, repeat=repeat)
            )  # fmt: skip
        return sorted(found, key=lambda event: event.begin_s)

    def _at(self, stamp: Any) -> float:
        if self._zero is None:
            return float(stamp)
        return self._zero[1] + self._zero[0].elapsed_time(stamp) / 1e3  # type: ignore[no-any-return]


def _timed(place: Place, forward: Any, stamp: Callable[[], Any], note: Callable[[Any], None]) -> Any:
    @functools.wraps(forward)
    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = stamp()
        found = forward(*args, **kwargs)
        note((place, begin, stamp()))
        return found

    return timed


def _event() -> Any:
    import torch

    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
