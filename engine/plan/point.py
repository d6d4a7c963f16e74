"""The data a plan consists of: blocks of points, single points and tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from engine.plan.resolve import Combination
from engine.spec.workload import Workload

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.spec.measurement import Measurement

_PIECE_POINTS: Final = 1 << 20


@dataclass(frozen=True, eq=False)
class GridFactor:
    """Counts that vary together."""

    names: tuple[str, ...]
    values: NDArray[np.int64]
    """Rows x counts."""

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def digest(self) -> str:
        """Fingerprint of the values; many blocks share a factor, so it is made once."""
        return _digest(self.values)


@dataclass(frozen=True, eq=False)
class Grid:
    """Counts of the workload for the points of a block, made when they are needed."""

    base: dict[str, int]
    """Every count, where nothing varies it."""
    factors: tuple[GridFactor, ...]
    """What varies, outermost first."""
    kept: NDArray[np.int64] | None = None
    """Positions in the product that were not dropped; all of them when None."""

    @property
    def size(self) -> int:
        """Points of this grid."""
        return len(self.kept) if self.kept is not None else self.product

    @property
    def product(self) -> int:
        """Points before drops."""
        total = 1
        for factor in self.factors:
            total *= len(factor)
        return total

    def columns(self, start: int = 0, stop: int | None = None) -> dict[str, NDArray[np.int64]]:
        """Each count for the points start..stop, as int64 arrays of one length."""
        stop = self.size if stop is None else stop
        position = np.arange(start, stop) if self.kept is None else self.kept[start:stop]
        found = {name: np.full(len(position), value, dtype=np.int64) for name, value in self.base.items()}
        inner = self.product
        for factor in self.factors:
            inner //= len(factor)
            row = (position // inner) % len(factor)
            for column, name in enumerate(factor.names):
                found[name] = factor.values[row, column]
        return found

    def pieces(self) -> Iterator[tuple[int, dict[str, NDArray[np.int64]]]]:
        """First position and columns of one stretch of points after another: memory for a million of them,
        however many there are."""
        for start in range(0, self.size, _PIECE_POINTS):
            yield start, self.columns(start, min(start + _PIECE_POINTS, self.size))

    def counts(self, number: int) -> dict[str, int]:
        """Each count at one point; quicker than columns of length 1."""
        position = number if self.kept is None else int(self.kept[number])
        found = dict(self.base)
        inner = self.product
        for factor in self.factors:
            inner //= len(factor)
            row = factor.values[(position // inner) % len(factor)]
            found.update(zip(factor.names, row.tolist(), strict=True))
        return found

    def identity(self, start: int, stop: int) -> list[Any]:
        """What the points start..stop are, for a fingerprint: how they are laid out, not each of them."""
        if stop - start == 1:
            return [self.counts(start)]
        varied = {name for factor in self.factors for name in factor.names}
        fixed = {name: value for name, value in self.base.items() if name not in varied}
        layout = [[list(factor.names), factor.digest] for factor in self.factors]
        kept = None if self.kept is None else _digest(self.kept[start:stop])
        return [fixed, layout, kept, start, stop]


@dataclass(frozen=True, eq=False)
class Block:
    """All points of one combination, numbered in a row."""

    combination: Combination
    grid: Grid
    first_point: int

    @property
    def points(self) -> range:
        """Numbers of the points."""
        return range(self.first_point, self.first_point + self.grid.size)

    @property
    def identity(self) -> str:
        """Fingerprint of the resolved combination; base counts are part of the grid."""
        return self.combination.digest


@dataclass(frozen=True, eq=False)
class Point:
    """One design point with every value resolved."""

    number: int
    combination: Combination
    workload: Workload

    @property
    def label(self) -> str:
        """What varies, for people."""
        c = self.combination
        w = self.workload
        return (
            f"{c.labels['model']} on {c.labels['hardware']}, {c.labels['quantization']}, "
            f"batch {w.batch_size}, {w.prompt_tokens}+{w.output_tokens} tokens"
        )


@dataclass(frozen=True, eq=False)
class Task:
    """One measurement on one point, on a span of points, or (run folders, training) on none."""

    fingerprint: str
    kind: str
    measurement: int
    """Position in the experiment's `measurements`."""
    settings: Measurement
    spans: tuple[tuple[Block, int, int], ...]
    """(block, start, stop): points of the task as slices of blocks, in the plan's order."""
    subject: str
    """Fingerprint of the points alone: same subject, other fingerprint = settings changed."""
    result_version: int

    @property
    def size(self) -> int:
        """Points of the task."""
        return sum(stop - start for _, start, stop in self.spans)

    @property
    def stages(self) -> int:
        """Groups of layers, each with a device of its own; 1 for a task on no point."""
        return max((block.combination.parallelism.pipeline for block, _, _ in self.spans), default=1)

    @property
    def point_numbers(self) -> list[range]:
        """Numbers of the points, one range per span."""
        return [range(b.first_point + start, b.first_point + stop) for b, start, stop in self.spans]

    def points(self) -> Iterator[Point]:
        """Each point resolved; meant for measured tasks, not for a million predictions."""
        for block, start, stop in self.spans:
            for position in range(start, stop):
                yield make_point(block, position)


def make_point(block: Block, position: int) -> Point:
    """The resolved point at a position of a block."""
    counts = block.grid.counts(position)
    values: dict[str, Any] = {
        **block.combination.workload.model_dump(),
        **counts,
        "prefill_chunk_tokens": counts["prefill_chunk_tokens"] or None,
    }
    return Point(block.first_point + position, block.combination, Workload.model_validate(values))


def _digest(values: NDArray[np.int64]) -> str:
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()
