"""What a model is and needs, computed from its shape: the page and the tables of the concurrency profiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engine.measure.live.oom import Available, OomCheck, check_memory
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Workload

__all__ = [
    "Card", "MemoryRow", "active_claim", "card_of", "card_page", "comparison_table", "memory_table",
    "most_requests", "recommended_gb", "tokens_for_band",
]  # fmt: skip

GB: Final = 1e9
GIB: Final = 2**30
# Memory of single devices on sale 2020 to 2026 (marketed GB): consumer, workstation, data centre.
_SIZES_GB: Final = (8, 12, 16, 24, 32, 48, 80, 96, 141, 192, 288)
_RESERVE: Final = 0.1


@dataclass(frozen=True)
class Card:
    """Numbers of one model in one number format."""

    name: str
    parameters: int
    active_parameters: int
    """Used per token; the same as `parameters` without experts."""
    weights_bytes: float
    cache_bytes_per_token: float
    """Of one sequence."""
    context_tokens: int | None
    architecture: str
    use: str
    """By size and kind, a rule of thumb: not a property of the model."""


def card_of(model: Model, quantization: Quantization) -> Card:
    """The card of a model; every number is computed from the shape."""
    from engine.perfmodel.parameters import count_parameters

    count = count_parameters(model)
    at, beyond = (_check(model, quantization, tokens, 1) for tokens in (1024, 1025))
    return Card(
        name=model.name,
        parameters=count.total,
        active_parameters=count.active if model.moe else count.total,
        weights_bytes=at.weights_bytes,
        cache_bytes_per_token=beyond.kv_cache_bytes - at.kv_cache_bytes,
        context_tokens=model.max_position_embeddings,
        architecture=_architecture(model),
        use=_use(count.total, moe=model.moe is not None),
    )


def _architecture(model: Model) -> str:
    if model.mla is not None:
        attention = "multi-head latent attention"
    elif model.kv_heads == model.num_attention_heads:
        attention = f"multi-head attention ({model.num_attention_heads} heads)"
    else:
        attention = f"grouped-query attention ({model.num_attention_heads}/{model.kv_heads} heads)"
    text = f"decoder, {model.num_hidden_layers} layers of {model.hidden_size}, {attention}"
    if model.moe is not None:
        text += f", {model.moe.num_experts_per_tok} of {model.moe.num_experts} experts per token"
    return text


def _use(parameters: int, *, moe: bool) -> str:
    billions = parameters / 1e9
    if billions < 3:
        return "testing, edge devices"
    if billions < 20:
        return "chat and tools on one device"
    if billions < 80:
        return "high quality on one large device"
    return (
        "high quality at low cost per token, several devices" if moe else "highest quality, several devices"
    )


def _check(
    model: Model, quantization: Quantization, tokens: int, sequences: int, free: float = 1e15
) -> OomCheck:
    workload = Workload(prompt_tokens=tokens - 1, output_tokens=1)
    available = Available(free, "none", "given")
    return check_memory(model, quantization, workload, sequences=sequences, available=available, reserve=0.0)


@dataclass(frozen=True)
class MemoryRow:
    """Memory of one model at one concurrency, in bytes."""

    concurrency: int
    tokens_per_request: int
    weights_bytes: float
    cache_bytes: float
    overhead_bytes: float

    @property
    def total_bytes(self) -> float:
        """All of it."""
        return self.weights_bytes + self.cache_bytes + self.overhead_bytes


def memory_table(
    model: Model,
    quantization: Quantization,
    *,
    tokens_per_request: int,
    concurrency: Sequence[int] = (1, 2, 4),
    overhead_bytes: float = 0.0,
) -> list[MemoryRow]:
    """Weights and cache at each concurrency; context and overhead are inputs, never left unsaid."""
    found = []
    for number in concurrency:
        check = _check(model, quantization, tokens_per_request, number)
        found.append(
            MemoryRow(number, tokens_per_request, check.weights_bytes, check.kv_cache_bytes, overhead_bytes)
        )
    return found


def recommended_gb(needed_bytes: float) -> int | None:
    """Smallest device memory (GB) that holds this with a tenth left over; None when no single device does."""
    return next((size for size in _SIZES_GB if needed_bytes <= size * GB * (1 - _RESERVE)), None)


def most_requests(
    model: Model, quantization: Quantization, *, tokens_per_request: int, memory_bytes: float
) -> tuple[int, str]:
    """Most requests of this length that a device of this size holds, and what binds that number."""
    check = _check(model, quantization, tokens_per_request, 1, free=memory_bytes)
    context = model.max_position_embeddings
    if context is not None and tokens_per_request > context:
        return 0, f"{tokens_per_request:,} tokens are more than the context of {context:,}"
    return check.largest_concurrency, check.limit


def tokens_for_band(
    total_bytes: float, *, base_bytes: float, cache_bytes_per_token: float, concurrency: int
) -> float:
    """Tokens of context per request at which a stated total would be reached over a stated base."""
    return (total_bytes - base_bytes) / (cache_bytes_per_token * concurrency)


def active_claim(card: Card, claimed_bytes: float) -> str | None:
    """A diagnostic when a stated size is that of the active parameters only; None when it is not."""
    if card.active_parameters == card.parameters:
        return None
    per_parameter = card.weights_bytes / card.parameters
    active = card.active_parameters * per_parameter
    if abs(claimed_bytes / active - 1) > 0.1 or claimed_bytes > 0.8 * card.weights_bytes:
        return None
    return (
        f"warning [active-parameters]: {claimed_bytes / GB:.0f} GB is the size of the "
        f"{card.active_parameters / 1e9:.0f} billion parameters that one token uses; all "
        f"{card.parameters / 1e9:.0f} billion must be held, {card.weights_bytes / GB:.0f} GB "
        f"({card.weights_bytes / claimed_bytes:.1f}x)"
    )


def card_page(card: Card) -> str:
    """The specification of a model as Markdown."""
    lines = [f"## {card.name}", ""]
    active = ""
    if card.active_parameters != card.parameters:
        active = f", {card.active_parameters / 1e9:.2f} billion used per token"
    context = f"{card.context_tokens:,} tokens" if card.context_tokens else "not stated"
    lines += [
        f"- **Parameters**: {card.parameters / 1e9:.2f} billion ({card.parameters:,}){active}",
        f"- **Weights**: {_both(card.weights_bytes)}",
        f"- **Cache**: {card.cache_bytes_per_token:,.0f} B per token and request",
        f"- **Context**: {context}",
        f"- **Architecture**: {card.architecture}",
        f"- **Use**: {card.use} (by size)",
    ]
    return "\n".join(lines)


def comparison_table(cards: Sequence[Card], throughput: Sequence[str]) -> str:
    """Models side by side as Markdown; `throughput` says for each where its number comes from."""
    lines = [
        "| Model | Parameters | Weights | Device memory | Throughput | Use |",
        "|---|---|---|---|---|---|",
    ]
    for card, rate in zip(cards, throughput, strict=True):
        size = recommended_gb(card.weights_bytes)
        memory = f"{size} GB" if size else "several devices"
        lines.append(
            f"| {card.name} | {card.parameters / 1e9:.2f} B | {_both(card.weights_bytes)} | {memory} "
            f"| {rate} | {card.use} |"
        )
    return "\n".join(lines)


def _both(size: float) -> str:
    return f"{size / GB:.2f} GB ({size / GIB:.2f} GiB)"
