"""The real inputs of every component, caught in a real run, so that a loop over it works on real activations.

What power a matrix product draws depends on its numbers by up to 40 % (arXiv 2409.18324): zeros or leftover
memory would measure something else. Hooks look and copy; outputs stay the same to the last bit.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.measure.energy.anatomy import Anatomy
from engine.measure.local_spread import free_bytes

_CONTEXT: Final = "context"
"""Scores, softmax and their product with the values."""
_ROPE: Final = "rope"
_SHARE_OF_FREE: Final = 0.35
"""Of the free memory, for the inputs of one phase: there are two, and loops need room to work in."""


def room_for_inputs(devices: Sequence[str]) -> int | None:
    """Bytes that copies of one phase may take: as if all came to lie on the device that has least; None where
    nobody counts (main memory)."""
    if not devices[0].startswith("cuda"):
        return None
    import torch

    unused = (torch.cuda.memory_reserved(one) - torch.cuda.memory_allocated(one) for one in devices)
    return int(_SHARE_OF_FREE * min(map(sum, zip(free_bytes(devices), unused, strict=True))))


@dataclass(eq=False)
class Call:
    """One call of a component: what to call, with what, and the cache as it was just before."""

    component: str
    parent: str | None
    layer: int | None
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    cache: CacheState | None

    def run(self) -> Any:
        """Do it again, from the same state."""
        if self.cache is not None:
            self.cache.restore()
        return self.function(*self.args, **self.kwargs)


class CacheState:
    """A key-value cache at a moment: tensors are shared, not copied, since updates make new ones or write the
    same values to the same places."""

    def __init__(self, cache: Any, layer: int | None) -> None:
        layers = list(getattr(cache, "layers", ()))
        chosen = layers if layer is None or layer >= len(layers) else [layers[layer]]
        self._saved = [(one, dict(vars(one))) for one in chosen]

    def restore(self) -> None:
        """Put it back."""
        for one, attributes in self._saved:
            vars(one).clear()
            vars(one).update(attributes)


class Capture:
    """Hooks on every place of a model while it is used as a context; `calls` is what they saw.

    Copies of inputs take up to `budget_bytes`; then the inputs of earlier layers stand in, and `borrowed`
    counts how often.
    """

    def __init__(self, model: Any, anatomy: Anatomy, *, budget_bytes: int | None = None) -> None:
        self._model = model
        self._anatomy = anatomy
        self._budget_bytes = budget_bytes
        self._held_bytes = 0
        self._alike: dict[tuple[Any, ...], list[Any]] = {}
        self.borrowed = 0
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._stack = contextlib.ExitStack()
        self._current: int | None = None
        self.calls: list[Call] = []

    def __enter__(self) -> Capture:
        for place in self._anatomy.places:
            hook = self._hook(place.component, place.parent, place.layer, place.module)
            handle = place.module.register_forward_pre_hook(hook, with_kwargs=True)
            self._stack.callback(handle.remove)
        for name, module in _attention_sources(self._anatomy):
            self._stack.enter_context(self._watched(module, "apply_rotary_pos_emb", _ROPE))
            self._stack.enter_context(self._watched(module, "eager_attention_forward", _CONTEXT))
            self._stack.enter_context(self._watched_interface(name, module))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._copies.clear()
        self._alike.clear()

    def _hook(self, component: str, parent: str | None, layer: int | None, module: Any) -> Any:
        def look(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if layer is not None:
                self._current = layer
            # The bound method of the class, not `module(...)`: a replay must not meet this hook again.
            self._note(component, parent, layer, module, args, kwargs)

        return look

    def _note(
        self,
        component: str,
        parent: str | None,
        layer: int | None,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        cache = next(
            (v for v in (*kwargs.values(), *args) if hasattr(v, "layers") and hasattr(v, "update")), None
        )
        state = None if cache is None else CacheState(cache, layer)
        held = tuple(self._copy(value) for value in args)
        named = {name: self._copy(value) for name, value in kwargs.items()}
        self.calls.append(Call(component, parent, layer, function, held, named, state))

    def _copy(self, value: Any) -> Any:
        """Tensors copied once each, however many calls share them; everything else as it is."""
        import torch

        if isinstance(value, torch.Tensor):
            known = self._copies.get(id(value))
            # An id is given to another tensor when the first is gone; holding all of them would double what
            # a capture takes.
            if known is None or known[0]() is not value:
                known = self._copies[id(value)] = (weakref.ref(value), self._kept(value))
            return known[1]
        if isinstance(value, tuple | list):
            return type(value)(self._copy(one) for one in value)
        return value

    def _kept(self, value: Any) -> Any:
        """A copy, or one of an earlier layer where there is no room for another."""
        size = int(value.numel() * value.element_size())
        alike = self._alike.setdefault((tuple(value.shape), value.dtype, value.device), [])
        full = self._budget_bytes is not None and self._held_bytes + size > self._budget_bytes
        if full and alike and value.is_floating_point():
            self.borrowed += 1
            return alike[self.borrowed % len(alike)]
        self._held_bytes += size
        alike.append(value.detach().clone())
        return alike[-1]

    @contextlib.contextmanager
    def _watched(self, module: Any, name: str, component: str) -> Iterator[None]:
        """A function of a modelling file replaced by one that looks and calls it."""
        original = getattr(module, name, None)
        if original is None:
            yield
            return

        def looked(*args: Any, **kwargs: Any) -> Any:
            self._note(component, "attention", self._current, original, args, kwargs)
            return original(*args, **kwargs)

        setattr(module, name, looked)
        try:
            yield
        finally:
            setattr(module, name, original)

    @contextlib.contextmanager
    def _watched_interface(self, name: str, module: Any) -> Iterator[None]:
        """The same for an attention implementation that is chosen by name."""
        table = getattr(module, "ALL_ATTENTION_FUNCTIONS", None)
        if table is None or name not in table:
            yield
            return
        original = table[name]

        def looked(*args: Any, **kwargs: Any) -> Any:
            self._note(_CONTEXT, "attention", self._current, original, args, kwargs)
            return original(*args, **kwargs)

        table[name] = looked
        try:
            yield
        finally:
            del table[name]


def _attention_sources(anatomy: Anatomy) -> list[tuple[str, Any]]:
    """(name of the attention implementation, modelling file) of each kind of attention in a model."""
    found: dict[str, tuple[str, Any]] = {}
    for place in anatomy.of("attention"):
        file = type(place.module).__module__
        config = getattr(place.module, "config", None)
        name = str(getattr(config, "_attn_implementation", None) or "eager")
        if file in sys.modules:
            found[file] = (name, sys.modules[file])
    return list(found.values())
