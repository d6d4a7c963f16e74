"""The kernels an engine launches for the operators of a step: what a calibration has parameters for.

The operator table counts work; a launch, a wave and a smooth roof belong to kernels. Projections that share
an input run as one, scores, softmax and context are one, and neighbouring elementwise steps are joined,
where the calibrated engine fuses; otherwise every row is a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from engine.perfmodel.layers import Block
from engine.perfmodel.operators import Mask, Operator, add_terms
from engine.spec.hardware import Precision

Family = Literal["gemm", "attention", "experts", "elementwise"]

_ATTENTION: Final = ("scores", "softmax", "context", "attention")
# Who reads the same activations: the later ones ride in the kernel of the first.
_JOINS: Final = {
    "k": "q", "v": "q", "up": "gate", "shared up": "shared gate", "expert up": "expert gate",
}  # fmt: skip
_EXPERTS: Final = ("expert gate", "expert up", "expert act", "expert down")


@dataclass(frozen=True)
class Kernel:
    """One kernel of a step on one device, `count` times; amounts are those of a single one."""

    family: Family
    precision: Precision
    flops: tuple[tuple[str, float], ...]
    """FLOPs per unit of each workload quantity; `Q` and `K` are those of its mask."""
    bytes: tuple[tuple[str, float], ...]
    """Device-memory bytes, likewise."""
    mask: Mask = "full"
    variant: str = ""
    """Form of latent attention it belongs to."""
    rows: str = ""
    """Quantity that counts the rows of a matrix product."""
    columns: int = 0
    """Columns of its result."""

    @property
    def depth(self) -> float:
        """Columns of the activations of a product; 0 for other kinds."""
        if not self.columns:
            return 0.0
        return dict(self.flops)[self.rows] / (2 * self.columns)


@dataclass(frozen=True)
class _Draft:
    family: Family
    names: tuple[str, ...]
    precision: Precision
    flops: Mapping[str, float]
    read: Mapping[str, float]
    """Activations that come in."""
    moved: Mapping[str, float]
    """All other traffic."""
    mask: Mask = "full"
    variant: str = ""
    rows: str = ""
    columns: int = 0

    def joined(self, other: _Draft) -> _Draft:
        """Both as one kernel; products that share an input read it once."""
        shared = _JOINS.get(other.names[0]) == self.names[0]
        return replace(
            self,
            names=self.names + other.names,
            flops=add_terms(self.flops, other.flops),
            read=self.read if shared else add_terms(self.read, other.read),
            moved=add_terms(self.moved, other.moved),
            columns=self.columns + other.columns,
        )


def kernels_of(blocks: Iterable[Block], *, fused: bool, activation_bytes: float) -> dict[Kernel, int]:
    """Every kernel of a step with how often it runs."""
    found: dict[Kernel, int] = {}
    for block in blocks:
        for kernel, _ in block_kernels(block, fused=fused, activation_bytes=activation_bytes):
            found[kernel] = found.get(kernel, 0) + block.count
    return found


def block_kernels(
    block: Block, *, fused: bool, activation_bytes: float
) -> Iterator[tuple[Kernel, tuple[str, ...]]]:
    """The kernels of one block in order, each with the names of the neighbouring operators that it runs."""
    drafts = (_draft(operator, activation_bytes) for operator in block.operators)
    for draft in _joined(drafts, fused=fused):
        kernel = Kernel(
            draft.family,
            draft.precision,
            tuple(sorted(draft.flops.items())),
            tuple(sorted(add_terms(draft.read, draft.moved).items())),
            draft.mask,
            draft.variant,
            draft.rows,
            draft.columns,
        )
        yield kernel, draft.names


def _draft(operator: Operator, activation_bytes: float) -> _Draft:
    family = _family(operator)
    written = operator.output_bytes
    rows, columns = "", 0
    if family == "gemm":
        ((rows, amount),) = written.items()
        columns = round(amount / activation_bytes)
    return _Draft(
        family,
        (operator.name,),
        operator.precision,
        # Softmax runs beside the products, on other units.
        {} if operator.name == "softmax" else operator.flops,
        operator.input_bytes,
        add_terms(operator.weight_bytes, operator.kv_read_bytes, operator.kv_write_bytes, written),
        operator.mask,
        operator.variant,
        rows,
        columns,
    )


def _family(operator: Operator) -> Family:
    if operator.name in _EXPERTS:
        return "experts"
    if operator.bucket == "attention" and operator.name in _ATTENTION:
        return "attention"
    return "gemm" if _is_product(operator) else "elementwise"


def _is_product(operator: Operator) -> bool:
    """Work per row grows with the matrix: a norm does a few operations for each of its weights."""
    if len(operator.output_bytes) != 1 or operator.kv_read_bytes or not operator.weight_bytes:
        return False
    ((rows, written),) = operator.output_bytes.items()
    return operator.flops.get(rows, 0.0) > 16 * written


def _joined(drafts: Iterable[_Draft], *, fused: bool) -> Iterator[_Draft]:
    waiting: _Draft | None = None
    for draft in drafts:
        if waiting is not None and _same_kernel(waiting, draft, fused=fused):
            waiting = waiting.joined(draft)
            continue
        if waiting is not None:
            yield waiting
        waiting = draft
    if waiting is not None:
        yield waiting


def _same_kernel(first: _Draft, second: _Draft, *, fused: bool) -> bool:
    if first.family != second.family or first.variant != second.variant:
        return False
    if first.family in ("attention", "experts"):
        return first.mask == second.mask
    if not fused:
        return False
    if first.family == "gemm":
        return _JOINS.get(second.names[0]) == first.names[0] and first.rows == second.rows
    return True
