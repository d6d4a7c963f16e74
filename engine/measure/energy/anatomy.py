"""Which module of a model does what: layers, attention, feed-forward, norms, and the parts inside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import MeasurementError
from engine.measure.local_spread import layers_of

_ATTENTION: Final = re.compile(r"Attention|Attn|DeltaNet|Mixer")
_FEED_FORWARD: Final = re.compile(r"MLP|FeedForward|Moe|MoE|FFN")
_NORM: Final = re.compile(r"Norm")
_NAMES: Final = {
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "out_proj": "o", "dense": "o", "c_proj": "o",
    "qkv_proj": "qkv", "query_key_value": "qkv", "c_attn": "qkv", "q_norm": "q_norm", "k_norm": "k_norm",
    "q_layernorm": "q_norm", "k_layernorm": "k_norm", "gate_proj": "gate", "up_proj": "up",
    "down_proj": "down", "gate_up_proj": "gate_up", "act_fn": "act", "activation_fn": "act", "fc1": "up",
    "fc2": "down", "c_fc": "up", "dense_h_to_4h": "up", "dense_4h_to_h": "down",
    "experts": "experts", "router": "router", "shared_expert": "shared_expert",
    "shared_experts": "shared_expert", "shared_mlp": "shared_expert",
}  # fmt: skip
"""Name of a child module -> name of the component, over the families of transformers."""
_LAST: Final = {"c_proj": "down", "dense": "down", "out_proj": "down", "wo": "down"}
"""Names of output matrices that a feed-forward shares with attention."""


@dataclass(frozen=True, eq=False)
class Place:
    """A module that is a component, at one place of the model."""

    component: str
    parent: str | None
    """None for the whole step."""
    module: Any
    layer: int | None
    """None for the ends of the model."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Every place of a model, whole step first, in the order of the forward pass."""

    places: tuple[Place, ...]
    layers: tuple[Any, ...]

    def of(self, component: str, parent: str | None = None) -> list[Place]:
        """Places of a component."""
        return [p for p in self.places if p.component == component and parent in (None, p.parent)]


def dissect(model: Any) -> Anatomy:
    """The anatomy of a transformers model; raises `MeasurementError` where no list of layers is found."""
    layers = _layers(model)
    places = [Place("step", None, model, None)]
    embedding = model.get_input_embeddings()
    if embedding is not None:
        places.append(Place("embedding", "step", embedding, None))
    inside = {id(module) for layer in layers for module in layer.modules()}
    places += [
        Place("rotary" if _is_rotary(module) else "norm", "step", module, None)
        for module in _between(model, inside)
    ]
    for number, layer in enumerate(layers):
        places.append(Place("layer", "step", layer, number))
        places += _of_layer(layer, number)
    head = model.get_output_embeddings()
    if head is not None:
        places.append(Place("lm_head", "step", head, None))
    return Anatomy(tuple(places), tuple(layers))


def _layers(model: Any) -> list[Any]:
    found = layers_of(model)
    if not found:
        wanted = int(model.config.get_text_config(decoder=True).num_hidden_layers)
        raise MeasurementError(
            f"`{type(model).__name__}` holds no list of {wanted} layers",
            hint="energy of phases can still be measured: `granularity: phase`",
        )
    return found


def _between(model: Any, inside: set[int]) -> Iterator[Any]:
    """Norms and position tables beside the layers."""
    for module in model.modules():
        if id(module) not in inside and (_NORM.search(type(module).__name__) or _is_rotary(module)):
            yield module


def _is_rotary(module: Any) -> bool:
    return "Rotary" in type(module).__name__


def _of_layer(layer: Any, number: int) -> Iterator[Place]:
    for name, child in layer.named_children():
        kind = type(child).__name__
        if _NORM.search(kind):
            yield Place("norm", "step", child, number)
        elif _ATTENTION.search(kind):
            yield Place("attention", "step", child, number)
            yield from _parts(child, "attention", number)
        elif _FEED_FORWARD.search(kind) or name in ("mlp", "feed_forward", "ffn"):
            yield Place("ffn", "step", child, number)
            yield from _parts(child, "ffn", number)
        elif _has_work(child):
            # Families that keep the feed-forward's matrices in the layer itself (OPT).
            yield Place(_NAMES.get(name, name), "step", child, number)


def _parts(module: Any, parent: str, number: int) -> Iterator[Place]:
    for name, child in module.named_children():
        if not _has_work(child):
            continue
        # In a mixture of experts `gate` is the router, not a matrix of a gated unit.
        if name == "gate" and "experts" in dict(module.named_children()):
            yield Place("router", parent, child, number)
        else:
            names = _NAMES | (_LAST if parent == "ffn" else {})
            yield Place(names.get(name, name), parent, child, number)


def _has_work(module: Any) -> bool:
    from torch import nn

    return not isinstance(module, nn.Dropout | nn.Identity)
