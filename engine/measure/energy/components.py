"""Components of a model as loops: each visits all its layers in turn, on captured inputs."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from engine.measure.energy.additivity import EAGER, WHOLE, WITHOUT
from engine.measure.energy.anatomy import Anatomy
from engine.measure.energy.capture import Call

Granularity = Literal["phase", "layer", "component"]
_SHARE_TURNS: Final = 5
_LONG_TURN_S: Final = 5e-4
"""A turn this long hides what it costs the host to start it, some ten microseconds, fifty times over."""
_MOST_TURNS: Final = 100


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
    devices: tuple[str, ...] = ()
    """Those it runs on, where they are several."""
    share: dict[int, float] = field(default_factory=dict)

    def launch(self, turns: int) -> Any:
        """Enqueue on CUDA and mark the end with an event; on the CPU nothing runs before it is waited for.

        Else two chunks would have run before the first reading, and their time would be that of one.
        """
        if not self.cuda:
            return turns
        import torch

        for _ in range(turns):
            self.turn()

        events = [torch.cuda.Event() for _ in self.devices or (None,)]
        for event, device in zip(events, self.devices or (None,), strict=True):
            event.record(torch.cuda.current_stream(device))
        return events

    def wait(self, token: Any) -> None:
        """Until the event has passed; no device-wide wait, so that the next chunk goes on running."""
        if self.cuda:
            for event in token:
                event.synchronize()
            return
        for _ in range(token):
            self.turn()


def works_of(
    calls: Sequence[Call],
    *,
    phase: str,
    granularity: Granularity,
    cuda: bool,
    heads: bool = False,
    graphs: Graphs | None = None,
    devices: tuple[str, ...] = (),
) -> list[TorchWork]:
    """Loops of one phase, whole step first: layers one by one, or components over all layers.

    `graphs` records them on CUDA; without, they run as they are. `devices` are those that hold the layers.
    """
    groups: dict[tuple[str, str | None, int | None], list[Call]] = {}
    for call in calls:
        if _wanted(call, granularity):
            layer = call.layer if call.component == "layer" else None
            groups.setdefault((call.component, call.parent, layer), []).append(call)
    if heads:
        groups |= {(f"heads {g}", "context", None): own for g, own in _heads(groups).items()}
    works = []
    for order, ((component, parent, layer), group) in enumerate(groups.items()):
        turn = _turn(group, devices=devices if cuda else ())
        run, turns = graphs.of(f"{phase} {component}", turn) if graphs else (turn, 1)
        works.append(
            TorchWork(
                component, phase, parent, layer, count=len(group), visits=len(group) * turns, order=order,
                turn=run, cuda=cuda, devices=devices,
                share=_shares(group, cuda=cuda) if granularity == "component" else {},
            )
        )  # fmt: skip
        if component == WHOLE and graphs is not None:
            works.append(TorchWork(EAGER, phase, None, None, 1, 1, order, turn=turn, cuda=True))
    return works


def _wanted(call: Call, granularity: Granularity) -> bool:
    if granularity == "layer":
        return call.parent in (None, "step") and (call.layer is None or call.component == "layer")
    return call.component != "layer"


def _turn(calls: Sequence[Call], *, devices: Sequence[str]) -> Callable[[], None]:
    """One run of each call: over all layers, so that weights stream from memory as they do in the model.

    On several devices each group of layers waits for the one before it, as it does in the model: they would
    else run at the same time, and the joules of one run would hide in those of another.
    """
    homes = [_home(call) for call in calls] if len(devices) > 1 else [None] * len(calls)

    def turn() -> None:
        for number, call in enumerate(calls):
            if homes[number] != homes[number - 1]:
                _hand_over(homes[number - 1], homes[number])
            call.run()

    return turn


def _home(call: Call) -> Any:
    """The device a call works on: that of its weights, else of what it is given."""
    import torch

    own = call.function.parameters() if isinstance(call.function, torch.nn.Module) else ()
    values = (*call.args, *call.kwargs.values())
    given = (value for value in values if isinstance(value, torch.Tensor))
    return next((tensor.device for tensor in (*own, *given)), None)


def _hand_over(before: Any, after: Any) -> None:
    import torch

    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(before))
    torch.cuda.current_stream(after).wait_event(event)


class Graphs:
    """Turns as CUDA graphs, without gaps between kernels; as they are where they cannot be recorded."""

    def __init__(self) -> None:
        import torch

        # One pool for all: they never run at the same time, and nobody looks at what one leaves behind.
        self._pool = torch.cuda.graph_pool_handle()
        self.failed: dict[str, str] = {}
        """What could not be recorded, and why."""

    def of(self, name: str, turn: Callable[[], None]) -> tuple[Callable[[], None], int]:
        """What replays the kernels of a turn, and how many turns it replays.

        A replay costs the host some microseconds. A turn that is hardly longer - an embedding, say - would
        leave the device idle in between, so it is recorded several times in a row.
        """
        import torch

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                turn()
        torch.cuda.current_stream().wait_stream(side)
        try:
            replay = self._recorded(turn, 1)
            turns = min(math.ceil(_LONG_TURN_S / _replay_s(replay)), _MOST_TURNS)
            return (replay, 1) if turns == 1 else (self._recorded(turn, turns), turns)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as err:
            # Work that asks the host in between (routing by data, for one) cannot be recorded.
            self.failed[name] = str(err).split("\n", 1)[0]
            # A recording that broke off must not leave its error to the next one.
            torch.cuda.synchronize()
            return turn, 1

    def _recorded(self, turn: Callable[[], None], turns: int) -> Callable[[], None]:
        import torch

        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            for _ in range(turns):
                turn()
        return graph.replay  # type: ignore[no-any-return]


def _replay_s(replay: Callable[[], None]) -> float:
    """Time of one of several replays in a row, launches included."""
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    replay()
    begin.record()
    for _ in range(_SHARE_TURNS):
        replay()
    end.record()
    end.synchronize()
    return max(float(begin.elapsed_time(end)) / 1e3 / _SHARE_TURNS, 1e-7)


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
            stream = torch.cuda.current_stream(_home(call))
            begin.record(stream)
            call.run()
            end.record(stream)
            end.synchronize()
            found.append(begin.elapsed_time(end) / 1e3)
        else:
            start = time.perf_counter()
            call.run()
            found.append(time.perf_counter() - start)
    return min(found)


class _OneToOne:
    """An attention module to which each query head has a key head of its own; all else is the module's."""

    num_key_value_groups = 1

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _heads(groups: dict[tuple[str, str | None, int | None], list[Call]]) -> dict[str, list[Call]]:
    """Attention of each query head apart where attention is plain matrix products (`eager`), else of each
    group of query heads that shares a key head: a fused kernel reads the keys of a group once.

    Only attention over one tensor each of queries, keys and values can be cut so; others yield none.
    """
    import torch

    found: dict[str, list[Call]] = {}
    for call in groups.get(("context", "attention", None), []):
        tensors = call.args[1:4]
        if len(tensors) < 3 or not all(isinstance(t, torch.Tensor) and t.ndim == 4 for t in tensors):
            return {}
        query, key, value = tensors
        shared = query.shape[1] // key.shape[1]
        eager = getattr(call.function, "__name__", "") == "eager_attention_forward"
        step = 1 if eager else shared
        module = _OneToOne(call.args[0]) if eager else call.args[0]
        for first in range(0, query.shape[1], step):
            group = first // shared
            cut = (query[:, first : first + step], key[:, group : group + 1], value[:, group : group + 1])
            name = f"{first}-{first + step - 1}" if step > 1 else str(first)
            args = (module, *cut, *call.args[4:])
            own = Call(f"heads {name}", "context", call.layer, call.function, args, call.kwargs, None)
            found.setdefault(name, []).append(own)
    return found if all(_runs(own[0]) for own in found.values()) else {}


def _runs(call: Call) -> bool:
    """Whether a call that was cut can be made: sinks and biases of all heads do not fit a part of them."""
    try:
        call.run()
    except (RuntimeError, ValueError, TypeError):
        return False
    return True


def ablated(
    calls: Sequence[Call],
    anatomy: Anatomy,
    *,
    phase: str,
    cuda: bool,
    first: int,
    graphs: Graphs | None = None,
    devices: tuple[str, ...] = (),
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

        name = WITHOUT + component
        run, turns = graphs.of(f"{phase} {name}", turn) if graphs else (turn, 1)
        found.append(
            TorchWork(name, phase, None, None, 1, turns, first + number, turn=run, cuda=cuda, devices=devices)
        )
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
