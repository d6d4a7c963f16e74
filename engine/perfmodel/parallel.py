"""Collectives of a step: bytes each device hands to its links, and their time.

Ring volumes over n devices for a message of M bytes: all-reduce 2(n-1)/n M, all-gather, reduce-scatter
and all-to-all (n-1)/n M, send M. A group that spans nodes reduces inside each node first. Every ring step
costs one link latency. Patarasuk & Yuan, J. Parallel Distrib. Comput. 69 (2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.perfmodel.deployment import NODE_LINKS, Deployment, device_link
from engine.perfmodel.operators import Symbol, ceil_div

Kind = Literal["all-reduce", "all-gather", "reduce-scatter", "all-to-all", "send"]


@dataclass(frozen=True)
class Collective:
    """One kind of communication, `count` times per step, on messages that grow with `symbol`."""

    name: str
    kind: Kind
    count: int
    symbol: Symbol
    """`T` tokens of the step or `N` tokens that get logits."""
    message_bytes: float
    """Size of the message per unit of the symbol."""
    group: int
    """Devices that take part."""
    volume_bytes: float
    """Bytes one device sends per unit of the symbol, all links together."""
    latency_s: float
    """Time of one call for an empty message."""
    s_per_unit: float
    """Time per unit of the symbol beyond the latency."""
    link: str
    """Which links it uses, with their basis."""


def collectives(deployment: Deployment) -> list[Collective]:
    """Every collective of one step of one replica; empty on a single device."""
    model, split = deployment.model, deployment.parallelism
    link = device_link(deployment.hardware)
    if link is None or split.tensor * split.pipeline * split.expert == 1:
        return []
    h, b = model.hidden_size, deployment.quantization.activation / 8
    moe_layers = sum(run.count for run in model.layer_runs if run.feed_forward == "moe")
    spread = moe_layers if split.expert > 1 else 0
    found: list[Collective | None] = []
    if split.tensor > 1:
        n = split.tensor
        # Attention and feed-forward each end in a sum over the group. Where experts are spread, their
        # combine replaces the second one.
        sums = 2 * model.num_hidden_layers - spread
        found.append(_collective(deployment, "embedding", "all-reduce", 1, "T", h * b, n))
        if split.sequence_parallel:
            # Norms and residuals work on shares of the tokens between the halves of each sum.
            found += [
                _collective(deployment, "layer sums", "reduce-scatter", sums, "T", h * b, n),
                _collective(deployment, "layer inputs", "all-gather", sums, "T", h * b, n),
            ]
        else:
            found.append(_collective(deployment, "layer sums", "all-reduce", sums, "T", h * b, n))
        found.append(_collective(deployment, "logits", "all-gather", 1, "N", model.vocab_size * b, n))
    if spread and model.moe is not None:
        # Each device sends the expert rows of its share of the tokens and gets the results back.
        rows = model.moe.num_experts_per_tok * h * b / split.tensor
        found += [
            _collective(deployment, "expert dispatch", "all-to-all", spread, "T", rows, split.expert),
            _collective(deployment, "expert combine", "all-to-all", spread, "T", rows, split.expert),
        ]
    if split.pipeline > 1:
        found.append(_sends(deployment, h * b / split.tensor))
    return [item for item in found if item is not None and item.count]


def _collective(
    deployment: Deployment, name: str, kind: Kind, count: int, symbol: Symbol, message: float, group: int
) -> Collective:
    split, settings = deployment.parallelism, deployment.settings
    link = device_link(deployment.hardware)
    rate = link.bandwidth_bytes_per_s if link else 1.0
    per_node = min(split.devices_per_node, group)
    nodes = ceil_div(group, per_node)
    passes = 2 if kind == "all-reduce" else 1
    if kind == "all-to-all":
        local = message * (per_node - 1) / group
        remote = message * (group - per_node) / group
        hops_near, hops_far = per_node - 1, group - per_node
    else:
        # Inside the node first; then each device carries its part of the message between nodes.
        local = passes * (per_node - 1) / per_node * message
        remote = passes * (nodes - 1) / nodes * message / per_node
        hops_near, hops_far = passes * (per_node - 1), passes * (nodes - 1)
    latency = hops_near * settings.link_latency + hops_far * settings.node_latency
    seconds = local / rate + (remote / NODE_LINKS[split.node_link] if nodes > 1 else 0.0)
    return Collective(
        name,
        kind,
        count,
        symbol,
        message,
        group,
        volume_bytes=local + (remote if nodes > 1 else 0.0),
        latency_s=latency,
        s_per_unit=seconds,
        link=_link_text(deployment, nodes > 1),
    )


def _sends(deployment: Deployment, message: float) -> Collective:
    """Hand-overs between pipeline stages; those that leave a node use the network."""
    split, settings = deployment.parallelism, deployment.settings
    link = device_link(deployment.hardware)
    count = split.pipeline - 1
    far = min(count, ceil_div(split.tensor * split.pipeline, split.devices_per_node) - 1)
    near_rate = link.bandwidth_bytes_per_s if link else 1.0
    seconds = (far / NODE_LINKS[split.node_link] + (count - far) / near_rate) * message / count
    latency = (far * settings.node_latency + (count - far) * settings.link_latency) / count
    return Collective(
        "stage hand-over",
        "send",
        count,
        "T",
        message,
        2,
        volume_bytes=message,
        latency_s=latency,
        s_per_unit=seconds,
        link=_link_text(deployment, far > 0),
    )


def _link_text(deployment: Deployment, spans: bool) -> str:
    link = device_link(deployment.hardware)
    near = f"{link.name} ({link.basis})" if link else ""
    return f"{near} and {deployment.parallelism.node_link}" if spans else near
