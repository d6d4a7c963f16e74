"""How long one kernel takes: three forms with few parameters, each of them physics that can be named.

A kernel needs `compute_s` at the peak and `memory_s` at the bandwidth of the data sheet. Real ones start
late (launch), reach a share of either rate (efficiencies), approach it slowly (root) and work in whole waves
of items over the multiprocessors. Forms were chosen by error on held-out shapes, see docs/calibration.md.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from engine.perfmodel.arithmetic import Arithmetic, Values
from engine.spec.calibration import LawParameters

Form = Literal["overlapped", "added", "waves"]

TILE: Final = 128
"""Rows and columns of the tile of a matrix product, and query rows of an attention item."""
_MOST_WAVE_LOSS: Final = 64.0
"""Kernels for few rows cut the inner dimension too, so a lone tile never has a device to itself."""


class Amount(NamedTuple):
    """What a kernel has to do, at the rates of the data sheet."""

    compute_s: Values
    memory_s: Values
    waves: Values | None = None
    """Work items over multiprocessors; None where that is unknown."""
    depth: Values = 0.0
    """Columns of the activations of a product."""
    alone_s: Values | None = None
    """Memory time of decode attention if each ungrouped head were read by one multiprocessor; None for all
    else."""
    single: Values = False
    """Whether a product has a single row."""
    filled: Values | None = None
    """Waves if items that the edge cuts off counted in part: `waves` where None."""


def kernel_time_s(a: Arithmetic, form: Form, parameters: LawParameters, amount: Amount) -> Values:
    """Seconds of one kernel."""
    work = _work_s(a, form, parameters, amount)
    root: Values = parameters.root
    if parameters.single_row_root and amount.single is not False:
        root = a.where(amount.single, parameters.single_row_root, root)
    elif not parameters.root:
        return work + parameters.launch
    # In place, as below: a fresh array for each step would cost as much as the arithmetic.
    time = a.sqrt(work * root)
    time += work
    time += parameters.launch
    return time


def _work_s(a: Arithmetic, form: Form, p: LawParameters, amount: Amount) -> Values:
    rate: Values = p.memory_efficiency
    if p.single_row is not None and amount.single is not False:
        # Matrix-vector kernels of CPUs stream the weights; all others copy them into tiles first.
        rate = a.where(amount.single, p.single_row, rate)
    memory = amount.memory_s / rate
    waves = amount.waves
    if form == "waves":
        alone = None if amount.alone_s is None or p.alone_rate is None else amount.alone_s / p.alone_rate
        if waves is None or not p.wave_cost:
            return memory if alone is None else fourth_mean(a, memory, alone)
        return fourth_mean(a, memory, p.wave_cost * waves, alone)
    if p.compute_efficiency is None:
        return memory
    if isinstance(amount.compute_s, float) and amount.compute_s == 0:
        return memory
    compute = amount.compute_s * (1 / p.compute_efficiency)
    if form == "added":
        if waves is None:
            return compute + memory
        # Items are equal and long: a wave with one item takes as long as a full one.
        whole = a.ceil(waves)
        return compute * (whole / _filled(amount)) + memory + p.wave_cost * whole
    if waves is not None and p.wave_share:
        loss = a.minimum(a.ceil(waves) / _filled(amount), _MOST_WAVE_LOSS) * p.wave_share
        loss += 1 - p.wave_share
        compute = compute * loss
    return fourth_mean(a, compute, memory, p.depth_cost * amount.depth if p.depth_cost else None)


def _filled(amount: Amount) -> Values:
    """Waves of full items: an item that the edge cuts off takes as long as they do."""
    return amount.waves if amount.filled is None else amount.filled


def fourth_mean(a: Arithmetic, x: Values, y: Values, z: Values | None = None) -> Values:
    """(x^4 + y^4 + z^4)^(1/4): the largest one, and a fifth more where two are equal."""
    total, other = x * x, y * y
    total *= total
    other *= other
    total = total + other
    if z is not None:
        third = z * z  # twice: a power of arrays is ten times slower
        total = total + third * third
    return a.sqrt(a.sqrt(total))


def alone_s(a: Arithmetic, memory_s: Values, waves: Values) -> Values:
    """Memory time when work items fill only some of the multiprocessors, each reading at its fair share."""
    return memory_s / a.minimum(waves, 1)


def tile_share(columns: int, units: int) -> float:
    """Waves of tiles that one row of tiles of a matrix product makes."""
    return -(-columns // TILE) / units


def filled_share(columns: int, units: int) -> float:
    """The same with the last tile as wide as the columns reach; kernels choose narrower tiles where there is
    one only."""
    return max(columns / TILE, 1) / units
