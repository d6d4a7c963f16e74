"""Components of a model as loops: each visits all its layers in turn, on captured inputs."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from engine.measure.energy.additivity import EAGER, WHOLE, WITHOUT
from engine.measure.energy.anatomy import Anatomy
from engine.measure.energy.capture import Call

Granularity = Literal["phase", "layer", "component"]
_SHARE_TURNS: Final = 5


@dataclass(eq=False)
class TorchWork:
    """A component as `loops.Work`, on the CPU or a CUDA device."""

    component: str
    phase: str
    parent: str | None
    layer: int | None
    count: int
    visits: int
    order: int
    turn: Callable[[], None]
    cuda: bool = False
    share: dict[int, float] = field(default_factory=dict)

    def launch(self, turns: int) -> Any:
        """Run on the CPU; enqueue on CUDA and mark the end with an event."""
        for _ in range(turns):
            self.turn()
        if not self.cuda:
            return None
        import torch

        event = torch.cuda.Event()
        event.record()
        return event

    def wait(self, token: Any) -> None:
        """Until the event has passed; no device-wide wait, so that the next chunk goes on running."""
        if token is not None:
            token.synchronize()


def works_of(
    calls: Sequence[Call],
    *,
    phase: str,
    granularity: Granularity,
    cuda: bool,
    heads: bool = False,
) -> list[TorchWork]:
    """Loops of one phase, whole step first: layers one by one, or components over all layers."""
    groups: dict[tuple[str, str | None, int | None], list[Call]] = {}
    for call in calls:
        if _wanted(call, granularity):
            layer = call.layer if call.component == "layer" else None
            groups.setdefault((call.component, call.parent, layer), []).append(call)
    if heads:
        groups |= {(f"heads {g}", "context", None): own for g, own in _heads(groups).items()}
    works = []
    for order, ((component, parent, layer), group) in enumerate(groups.items()):
        turn = _turn(group)
        works.append(
            TorchWork(
                component, phase, parent, layer, count=len(group), visits=len(group), order=order,
                turn=_graph(turn) if cuda else turn, cuda=cuda,
                share=_shares(group, cuda=cuda) if granularity == "component" else {},
            )
        )  # fmt: skip
        if component == WHOLE and cuda:
            works.append(TorchWork(EAGER, phase, None, None, 1, 1, order, turn=turn, cuda=True))
    return works


def _wanted(call: Call, granularity: Granularity) -> bool:
    if granularity == "layer":
        return call.parent in (None, "step") and (call.layer is None or call.component == "layer")
    return call.component != "layer"


def _turn(calls: Sequence[Call]) -> Callable[[], None]:
    """One run of each call: over all layers, so that weights stream from memory as they do in the model."""

    def turn() -> None:
        for call in calls:
            call.run()

    return turn


def _graph(turn: Callable[[], None]) -> Callable[[], None]:
    """The turn as a CUDA graph, without gaps between kernels; as it is where it cannot be one."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            turn()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            turn()
    except RuntimeError:
        # Work that asks the host in between (routing by data, for one) cannot be recorded.
        return turn
    return graph.replay  # type: ignore[no-any-return]


def _shares(calls: Sequence[Call], *, cuda: bool) -> dict[int, float]:
    """Layer -> share of the time of one turn; empty for what belongs to no layer."""
    layers = [call.layer for call in calls]
    if len(calls) < 2 or any(layer is None for layer in layers):
        return {}
    seconds: dict[int, float] = {}
    for call in calls:
        layer = int(call.layer or 0)
        seconds[layer] = seconds.get(layer, 0.0) + _quickest(call, cuda=cuda)
    total = sum(seconds.values())
    return {layer: one / total for layer, one in seconds.items()} if total > 0 else {}


def _quickest(call: Call, *, cuda: bool) -> float:
    """Shortest of a few runs: interruptions only ever add."""
    found: list[float] = []
    for _ in range(_SHARE_TURNS):
        if cuda:
            import torch

            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call.run()
            end.record()
            end.synchronize()
            found.append(begin.elapsed_time(end) / 1e3)
        else:
            start = time.perf_counter()
            call.run()
            found.append(time.perf_counter() - start)
    return min(found)


def _heads(groups: dict[tuple[str, str | None, int | None], list[Call]]) -> dict[str, list[Call]]:
    """Attention of each group of heads that shares keys, apart: query heads cut with their key head.

    Only plain attention over one tensor each of queries, keys and values can be cut so; others yield none.
    """
    import torch

    found: dict[str, list[Call]] = {}
    for call in groups.get(("context", "attention", None), []):
        tensors = call.args[1:4]
        if len(tensors) < 3 or not all(isinstance(t, torch.Tensor) and t.ndim == 4 for t in tensors):
            return {}
        query, key, value = tensors
        shared = query.shape[1] // key.shape[1]
        for group in range(key.shape[1]):
            first = group * shared
            cut = (
                query[:, first : first + shared],
                key[:, group : group + 1],
                value[:, group : group + 1],
            )
            name = f"{first}-{first + shared - 1}" if shared > 1 else str(first)
            args = (call.args[0], *cut, *call.args[4:])
            own = Call(f"heads {name}", "context", call.layer, call.function, args, call.kwargs, None)
            found.setdefault(name, []).append(own)
    return found


def ablated(
    calls: Sequence[Call], anatomy: Anatomy, *, phase: str, cuda: bool, first: int
) -> list[TorchWork]:
    """The whole step without its attention, and without its feed-forward: their work is not done at all."""
    whole = next(call for call in calls if call.component == WHOLE)
    found = []
    for number, component in enumerate(("attention", "ffn")):
        modules = [place.module for place in anatomy.of(component)]
        if not modules:
            continue
        outputs = {id(c.function): _nothing(c.run()) for c in calls if c.component == component}

        def turn(modules: list[Any] = modules, outputs: dict[int, Any] = outputs) -> None:
            with _left_out(modules, outputs):
                whole.run()

        work = TorchWork(
            WITHOUT + component, phase, None, None, 1, 1, first + number,
            turn=_graph(turn) if cuda else turn, cuda=cuda,
        )  # fmt: skip
        found.append(work)
    return found


def _nothing(output: Any) -> Any:
    """What a left-out component returns: zeros of its shape, made once."""
    import torch

    if isinstance(output, torch.Tensor):
        return torch.zeros_like(output)
    return type(output)(_nothing(one) for one in output) if isinstance(output, tuple | list) else output


def _give(found: Any, *_: Any, **__: Any) -> Any:
    return found


@contextlib.contextmanager
def _left_out(modules: Sequence[Any], outputs: dict[int, Any]) -> Iterator[None]:
    """Modules that return at once, without computing anything first."""
    for module in modules:
        module.forward = functools.partial(_give, outputs[id(module)])
    try:
        yield
    finally:
        for module in modules:
            del module.forward
