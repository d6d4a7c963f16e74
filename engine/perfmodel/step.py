"""Cost of a step, and of a run of steps, of a compiled program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.perfmodel.arithmetic import Arithmetic, Values
from engine.perfmodel.program import ATTENDING, Bundle, Form, Program
from engine.perfmodel.terms import Attended


class Cost(NamedTuple):
    """What a device spends; `flops` and `bytes` are means over the devices of a group."""

    time_s: Values
    flops: Values
    bytes: Values
    compute_s: Values
    """Busy time of the arithmetic units."""

    def plus(self, other: Cost) -> Cost:
        """Both one after the other."""
        return Cost(*(x + y for x, y in zip(self, other, strict=True)))


class Step(NamedTuple):
    """The workload quantities of one step that do not depend on where its tokens stand."""

    sequences: Values
    busiest: Mapping[str, Values]
    """Quantities on the device that is busiest."""
    mean: Mapping[str, Values]
    """Mean quantities; the same object where all devices do the same."""
    riding: Mapping[str, tuple[Values, Values]]
    """Pairs and positions, by mask, of prefill tokens that ride along."""


class Run(NamedTuple):
    """Steps of one kind: how often, and what they attend to by mask."""

    steps: Values
    attended: Mapping[str, Sequence[Attended]]


def value(form: Form, basis: Mapping[str, Values]) -> Values:
    """A linear form at a point."""
    if not form:
        return 0
    symbol, amount = form[0]
    total = amount * basis[symbol]
    for symbol, amount in form[1:]:
        total = total + amount * basis[symbol]
    return total


def steady_excess(a: Arithmetic, program: Program, step: Step) -> Values:
    """Time by which compute exceeds memory in the operators that do not attend, in one step."""
    if not program.steady:
        return 0.0
    return _total([a.maximum(value(form, step.busiest), 0.0) for form in program.steady])


def price(
    a: Arithmetic, program: Program, step: Step, run: Run, *, excess: Values | None = None
) -> tuple[Cost, Values]:
    """Cost of a run of steps and the index of the form of latent attention it uses.

    `excess` is what `steady_excess` gives, for callers that price several runs of the same step.
    """
    sums = _sums(program.symbols, step, step.busiest, run)
    means = sums if step.mean is step.busiest else _sums(program.symbols, step, step.mean, run)
    if excess is None:
        excess = steady_excess(a, program, step)
    cost = _linear(program.always, sums, means)
    time = cost.time_s + (excess if run.steps is _ONCE else excess * run.steps)
    for mask, forms in program.attending.items():
        if forms:
            time = time + _attending_excess(a, forms, step, mask, run.attended[mask])
    cost = Cost(time, *cost[1:])
    if not program.alternatives:
        return cost, 0
    best, chosen = None, 0
    for index, (bundle, attending) in enumerate(program.alternatives.values()):
        other = _linear(bundle, sums, means)
        extra = other.time_s
        for mask, forms in attending.items():
            extra = extra + _attending_excess(a, forms, step, mask, run.attended[mask])
        other = Cost(extra, *other[1:])
        best, chosen = (other, 0) if best is None else _faster(a, best, other, chosen, index)
    return (cost if best is None else cost.plus(best)), chosen


_ONCE = 1


def _faster(a: Arithmetic, best: Cost, other: Cost, chosen: Values, index: int) -> tuple[Cost, Values]:
    faster = other.time_s < best.time_s
    return (
        Cost(*(a.where(faster, x, y) for x, y in zip(other, best, strict=True))),
        a.where(faster, index, chosen),
    )


def _linear(bundle: Bundle, busiest: Mapping[str, Values], mean: Mapping[str, Values]) -> Cost:
    flops = value(bundle.flops, mean)
    compute = flops / bundle.one_peak if bundle.one_peak else value(bundle.compute_s, busiest)
    return Cost(value(bundle.base_s, busiest), flops, value(bundle.bytes, mean), compute)


def _sums(symbols: frozenset[str], step: Step, basis: Mapping[str, Values], run: Run) -> Mapping[str, Values]:
    """Every quantity of interest added up over the steps of a run."""
    steps = run.steps
    sums: dict[str, Values] = dict(basis)
    if steps is not _ONCE:
        sums = {name: x * steps for name, x in basis.items() if name in symbols}
    for mask, pieces in run.attended.items():
        pairs, positions = ATTENDING[mask]
        riding = step.riding.get(mask)
        if pairs in symbols:
            total = _total([_series(piece.pairs, piece.pairs_step, piece) for piece in pieces])
            sums[pairs] = step.sequences * total + (riding[0] * steps if riding else 0)
        if positions in symbols:
            total = _total([_series(piece.positions, piece.positions_step, piece) for piece in pieces])
            sums[positions] = step.sequences * total + (riding[1] * steps if riding else 0)
    return sums


def _total(parts: Sequence[Values]) -> Values:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _series(first: Values, growth: Values, piece: Attended) -> Values:
    """Sum of a quantity that grows evenly over the steps of a piece."""
    if piece.steps is _ONCE:
        return first
    total = (first + growth * ((piece.steps - 1) / 2)) * piece.steps
    return total if piece.repeat is _ONCE else total * piece.repeat


def _attending_excess(
    a: Arithmetic, forms: Sequence[Form], step: Step, mask: str, pieces: Sequence[Attended]
) -> Values:
    """Time by which compute exceeds memory in operators that attend, over the pieces of a run."""
    pairs, positions = ATTENDING[mask]
    n, riding = step.sequences, step.riding.get(mask, (0, 0))
    total: Values = 0.0
    for piece in pieces:
        first = {**step.busiest, pairs: n * piece.pairs, positions: n * piece.positions}
        if mask in step.riding:
            first[pairs] = first[pairs] + riding[0]
            first[positions] = first[positions] + riding[1]
        if piece.steps is _ONCE:
            for form in forms:
                total = total + a.maximum(value(form, first), 0.0)
            continue
        growth = {pairs: n * piece.pairs_step, positions: n * piece.positions_step}
        for form in forms:
            slope = value(tuple(item for item in form if item[0] in growth), growth)
            total = total + positive_sum(a, value(form, first), slope, piece.steps) * piece.repeat
    return total


def positive_sum(a: Arithmetic, start: Values, slope: Values, steps: Values) -> Values:
    """Sum over `steps` steps of max(0, start + i slope): an arithmetic series cut where it crosses zero."""
    largest = a.maximum(start, start + slope * (steps - 1))
    # A flat series is positive in all steps or in none.
    fall = a.maximum(abs(slope), 1e-30)
    count = a.minimum(a.maximum(a.floor(largest / fall) + 1, 0), steps)
    return count * (largest - fall * (count - 1) / 2)
