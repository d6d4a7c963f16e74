"""A model over several devices of this machine: whole layers in contiguous groups, one device after another.

This is what `parallelism: {pipeline: N}` means for a local target. One batch passes through the devices in
turn, so it makes room for a model that one device cannot hold and makes nothing faster. Hooks move what
crosses from one group to the next; each layer keeps its keys and values on its own device.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import EnvironmentMissing, MeasurementError

__all__ = [
    "Piece",
    "devices_for",
    "free_bytes",
    "layers_of",
    "pieces_of",
    "split_layers",
    "spread",
    "synchronize",
]


def devices_for(device: str, count: int) -> tuple[str, ...]:
    """Names of the first `count` devices; raises `EnvironmentMissing` where there are fewer."""
    if count == 1:
        return (device,)
    import torch

    there = torch.cuda.device_count() if device == "cuda" else 1
    if there < count:
        raise EnvironmentMissing(
            f"the point spreads its layers over {count} devices and torch sees {there} (`{device}`)",
            hint="`parallelism.pipeline` of a local target needs as many CUDA devices on this machine",
        )
    return tuple(f"cuda:{number}" for number in range(count))


def synchronize(devices: Sequence[str]) -> None:
    """Wait until each device has done what was asked of it; a processor always has."""
    import torch

    for device in devices:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        elif device == "mps":
            torch.mps.synchronize()


def free_bytes(devices: Sequence[str]) -> tuple[float, ...]:
    """Memory that is free on each device now; one and the same for those that are no CUDA devices."""
    import torch

    return tuple(float(torch.cuda.mem_get_info(one)[0]) if one.startswith("cuda") else 1.0 for one in devices)


def split_layers(
    layer_bytes: Sequence[int], rooms: Sequence[float], *, first_bytes: int = 0, last_bytes: int = 0
) -> tuple[int, ...]:
    """How many layers each device takes, in order, so that the fullest is as empty as can be.

    `rooms` are the bytes free on each; `first_bytes` and `last_bytes` lie on the first and the last besides.
    Where several splits are as good, the first device takes more. Raises `MeasurementError` when there are
    fewer layers than devices.
    """
    layers, devices = len(layer_bytes), len(rooms)
    if layers < devices:
        raise MeasurementError(f"{layers} layers cannot be spread over {devices} devices")
    until = [0, *itertools.accumulate(layer_bytes)]

    def fullness(device: int, begin: int, end: int) -> float:
        ends = first_bytes * (device == 0) + last_bytes * (device == devices - 1)
        return (until[end] - until[begin] + ends) / rooms[device]

    # best[begin]: (fullest, cuts) of layers from `begin` on over the devices from this one on.
    best: dict[int, tuple[float, tuple[int, ...]]]
    best = {begin: (fullness(devices - 1, begin, layers), (layers - begin,)) for begin in range(layers)}
    for device in range(devices - 2, -1, -1):
        left = devices - 1 - device
        best = {
            begin: min(
                (
                    (max(fullness(device, begin, end), best[end][0]), (end - begin, *best[end][1]))
                    for end in range(begin + 1, layers - left + 1)
                ),
                key=lambda one: (one[0], [-count for count in one[1]]),
            )
            for begin in range(layers - left)
        }
    return best[0][1]


@dataclass(frozen=True, eq=False)
class Piece:
    """A module that lies on one device as a whole."""

    module: Any
    layer: int | None
    """None for what lies beside the layers."""
    last: bool = False
    """Beside the layers and after them: a norm, a head of its own."""

    @property
    def size_bytes(self) -> int:
        """Parameters, each once."""
        return sum(p.numel() * p.element_size() for p in self.module.parameters())


def layers_of(model: Any) -> list[Any]:
    """The decoder layers of a transformers model in order; none where it holds no list of them."""
    from torch import nn

    wanted = int(model.config.get_text_config(decoder=True).num_hidden_layers)
    found: list[Any] = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == wanted]
    return list(max(found, key=lambda one: sum(int(p.numel()) for p in one.parameters()), default=()))


def pieces_of(model: Any) -> list[Piece]:
    """Every layer, and every module beside them, in the order in which they are declared.

    What comes after the layers and has weights of its own goes last; what shares its weights with something
    before them, as a head often does with the embedding, must lie where that is.
    """
    layers = {id(layer): number for number, layer in enumerate(layers_of(model))}
    if not layers:
        raise MeasurementError(f"`{type(model).__name__}` holds no list of layers to spread over devices")
    found: list[Piece] = []
    early: set[int] = set()

    def walk(module: Any) -> None:
        for child in module.children():
            if id(child) in layers:
                found.append(Piece(child, layers[id(child)]))
            elif any(id(inner) in layers for inner in child.modules()):
                walk(child)
            else:
                own = {id(p) for p in child.parameters()}
                last = bool(own - early) and any(piece.layer is not None for piece in found)
                if not last:
                    early.update(own)
                found.append(Piece(child, None, last))

    walk(model)
    return found


def spread(model: Any, devices: Sequence[str], *, rooms: Sequence[float], empty: bool = False) -> str:
    """Move a model to devices, layers by the memory that is free on each; where what lies, in words.

    With `empty` only memory is taken, for a model that was built without any.
    """
    pieces = pieces_of(model)
    counts = split_layers(
        [piece.size_bytes for piece in pieces if piece.layer is not None], rooms,
        first_bytes=_beside(pieces, last=False), last_bytes=_beside(pieces, last=True),
    )  # fmt: skip
    home = [device for device, count in zip(devices, counts, strict=True) for _ in range(count)]
    movers = {device: _Mover(device) for device in devices}
    for piece in pieces:
        device = home[piece.layer] if piece.layer is not None else devices[-1 if piece.last else 0]
        if empty:
            piece.module.to_empty(device=device)
        else:
            piece.module.to(device)
        # Layers of the first group get what was made where they are; everything else may not.
        if piece.layer is None or piece.layer >= counts[0]:
            starts = piece.layer is None or home[piece.layer - 1] != device
            piece.module.register_forward_pre_hook(
                movers[device].begin if starts else movers[device].move, with_kwargs=True
            )
    model.register_forward_hook(_Back(devices[0]))
    return _in_words(devices, counts)


def _beside(pieces: Sequence[Piece], *, last: bool) -> int:
    """Bytes beside the layers at one end, shared weights once."""
    own = [piece.module for piece in pieces if piece.layer is None and piece.last == last]
    held = {id(p): p.numel() * p.element_size() for module in own for p in module.parameters()}
    return sum(held.values())


def _in_words(devices: Sequence[str], counts: Sequence[int]) -> str:
    ends = list(itertools.accumulate(counts))
    return ", ".join(
        f"{device} layers {end - count} to {end - 1}"
        for device, count, end in zip(devices, counts, ends, strict=True)
    )


class _Mover:
    """Brings what a module is called with to its device.

    Masks and rotary angles come to every layer of a group alike: they are moved for the first one of them.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._device = torch.device(device)
        self._moved: dict[int, tuple[Any, Any]] = {}

    def begin(self, module: Any, args: Any, kwargs: Any) -> Any:
        """Hook of the first module of a group: what was moved for the pass before is old."""
        self._moved.clear()
        return self.move(module, args, kwargs)

    def move(self, _module: Any, args: Any, kwargs: Any) -> Any:
        """Hook of the others."""
        return (
            tuple(_at(value, self._device) for value in args),
            {name: self._shared(value) for name, value in kwargs.items()},
        )

    def _shared(self, value: Any) -> Any:
        import torch

        if isinstance(value, tuple):
            return tuple(self._shared(one) for one in value)
        if not isinstance(value, torch.Tensor):
            return value
        known = self._moved.get(id(value))
        # An id is given to another tensor when the first is gone.
        if known is None or known[0]() is not value:
            known = self._moved[id(value)] = (weakref.ref(value), _at(value, self._device))
        return known[1]


class _Back:
    """Brings logits to where tokens are chosen and fed in again, so that whoever waits there has waited for
    all devices: a copy between two of them waits for both."""

    def __init__(self, device: str) -> None:
        import torch

        self._device = torch.device(device)

    def __call__(self, _module: Any, _args: Any, output: Any) -> Any:
        if getattr(output, "logits", None) is not None:
            output.logits = _at(output.logits, self._device)
        return output


def _at(value: Any, device: Any) -> Any:
    import torch

    if isinstance(value, tuple):
        return tuple(_at(one, device) for one in value)
    return value.to(device) if isinstance(value, torch.Tensor) else value
