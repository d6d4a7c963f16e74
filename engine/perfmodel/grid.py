"""The product of axes that a block of workloads is: what depends on few of them is worked out on those only.

A sweep of batches, outputs and prompts lists every combination, but the prefill of a prompt does not depend
on the output that follows. Columns of such a block become arrays with one dimension an axis, of length 1
where they do not vary, and NumPy's broadcasting does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, TypeAlias

from numpy.typing import NDArray

Column: TypeAlias = NDArray[Any]
Place: TypeAlias = tuple[slice, ...]


@dataclass(frozen=True)
class Grid:
    """Axes of a block, and how it is cut into tiles of at most a given number of points."""

    shape: tuple[int, ...]
    """Length of each axis, slowest first; a single one for points in no order."""
    order: tuple[int, ...]
    """Axes by their length within a tile, longest last: inner loops are then long."""
    tile: tuple[int, ...]
    """Length of a tile along each axis, in that order."""

    def places(self) -> Iterator[Place]:
        """Where each tile lies, along the axes in their order."""
        axes = zip(self.order, self.tile, strict=True)
        cuts = [[slice(low, low + step) for low in range(0, self.shape[axis], step)] for axis, step in axes]
        return (tuple(place) for place in product(*cuts))

    def across(self, column: Column) -> Column:
        """A full column as an array over the axes in their order."""
        return column.reshape(self.shape).transpose(self.order)

    def along(self, column: Column) -> Column:
        """A column over the axes in their order, of length 1 along those that it does not vary with."""
        if len(self.shape) == 1 or len(column) == 1:
            return column
        whole = self.across(column)
        varied = [bool((whole != whole.take([0], axis)).any()) for axis in range(whole.ndim)]
        return whole[tuple(slice(None) if varies else slice(0, 1) for varies in varied)]


def grid_of(columns: Sequence[Column], n: int, most: int) -> Grid:
    """The axes of `n` points, cut into tiles of at most `most`."""
    shape = _shape(columns, n)
    lengths: dict[int, int] = {}
    room = most
    for axis in sorted(range(len(shape)), key=lambda axis: shape[axis]):
        lengths[axis] = max(1, min(shape[axis], room))
        room //= lengths[axis]
    order = tuple(sorted(lengths, key=lambda axis: (lengths[axis], axis)))
    return Grid(shape, order, tuple(lengths[axis] for axis in order))


def _shape(columns: Sequence[Column], n: int) -> tuple[int, ...]:
    edges = {1, n}
    for column in columns:
        if len(column) == 1 or (column == column[0]).all():
            continue
        found = _period(column)
        if found is None:
            return (n,)
        edges.update(found)
    steps = sorted(edges)
    if any(outer % inner for inner, outer in pairwise(steps)):
        return (n,)
    return tuple(outer // inner for inner, outer in reversed(list(pairwise(steps)))) or (n,)


def _period(column: Column) -> tuple[int, int] | None:
    """How often each value of a column repeats, and after how many points all come again; None where they do
    not."""
    repeat = int((column != column[0]).argmax())
    n = len(column)
    if n % repeat:
        return None
    heads = column[::repeat]
    again = heads[1:] == heads[0]
    length = int(again.argmax()) + 1 if again.any() else len(heads)
    if len(heads) % length:
        return None
    cells = column.reshape(-1, length, repeat)
    return (repeat, repeat * length) if (cells == heads[:length, None]).all() else None
