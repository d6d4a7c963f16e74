"""The whole model as operator rows: each kind of layer once with its count, and the two ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.perfmodel.attention import attention_operators
from engine.perfmodel.feed_forward import dense_operators, moe_operators
from engine.perfmodel.operators import Operator, Share, embedding_operators, head_operators, norm, residual
from engine.spec.model import LayerRun


@dataclass(frozen=True)
class Block:
    """Operators that run `count` times: the layers of one kind, or one of the model's ends."""

    name: str
    """`embedding`, `head` or the kind of layer, such as `full+dense`."""
    count: int
    operators: tuple[Operator, ...]


def model_blocks(share: Share, runs: Sequence[LayerRun] | None = None, *, ends: str = "both") -> list[Block]:
    """Blocks of a model, or of the pipeline stage that holds `runs` and the `first`, `last` or no end."""
    counts: dict[tuple[str, str], int] = {}
    for run in share.model.layer_runs if runs is None else runs:
        kind = (run.attention, run.feed_forward)
        counts[kind] = counts.get(kind, 0) + run.count
    blocks = [Block("embedding", 1, tuple(embedding_operators(share)))] if ends in ("both", "first") else []
    for (attention, feed_forward), count in counts.items():
        operators = layer_operators(share, attention, feed_forward)
        blocks.append(Block(f"{attention}+{feed_forward}", count, tuple(operators)))
    if ends in ("both", "last"):
        blocks.append(Block("head", 1, tuple(head_operators(share))))
    return blocks


def layer_operators(share: Share, attention: str, feed_forward: str) -> list[Operator]:
    """One decoder layer: norms and residual additions around attention and feed-forward."""
    model = share.model
    norms = model.norms_per_layer
    moe = model.moe if feed_forward == "moe" else None
    inner = dense_operators(share) if moe is None else moe_operators(share, moe)
    post = [norm(share, "post norm")] if norms == 4 else []
    second = [norm(share, "norm")] if norms >= 2 else []
    third = [norm(share, "extra norm")] if norms == 3 else []
    return [
        norm(share, "norm"),
        *third,
        *attention_operators(share, attention),
        *post,
        residual(share, "residual"),
        *second,
        *inner,
        *post,
        residual(share, "residual"),
    ]


def stages(runs: Sequence[LayerRun], count: int) -> list[list[LayerRun]]:
    """Layers of each pipeline stage in order: as equal as whole layers allow, the first ones longer."""
    layers = [run for run in runs for _ in range(run.count)]
    base, extra = divmod(len(layers), count)
    result: list[list[LayerRun]] = []
    start = 0
    for stage in range(count):
        size = base + (1 if stage < extra else 0)
        result.append([run.model_copy(update={"count": 1}) for run in layers[start : start + size]])
        start += size
    return result
