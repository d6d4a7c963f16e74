"""Cost of a step, and of a run of steps, of a compiled program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.perfmodel.arithmetic import Arithmetic, Values, scaled, shifted
from engine.perfmodel.program import ATTENDING, Bundle, Form, Parts, Program
from engine.perfmodel.terms import Attended


class Cost(NamedTuple):
    """What a device spends; `flops` and `bytes` are means over the devices of a group."""

    time_s: Values
    flops: Values
    bytes: Values
    compute_s: Values
    """Busy time of the arithmetic units; 0 in programs with one peak, where it follows from `flops`."""

    def plus(self, other: Cost) -> Cost:
        """Both one after the other."""
        return Cost(*map(shifted, self, other))

    def times(self, factor: Values) -> Cost:
        """The cost of doing it `factor` times."""
        return Cost(*(scaled(x, factor) for x in self))


class Step(NamedTuple):
    """The workload quantities of one step that do not depend on where its tokens stand."""

    sequences: Values
    busiest: Mapping[str, Values]
    """Quantities on the device that is busiest."""
    mean: Mapping[str, Values]
    """Mean quantities; the same object where all devices do the same."""
    riding: Mapping[str, tuple[Values, Values]]
    """Pairs and positions, by mask, of prefill tokens that ride along."""


class Settled(NamedTuple):
    """What a step costs wherever its tokens stand: in common, and in each form of latent attention."""

    common: Cost
    forms: tuple[Cost, ...]


class Run(NamedTuple):
    """Steps of one kind: how often, and what they attend to by mask."""

    steps: Values
    attended: Mapping[str, Sequence[Attended]]


_ONCE = 1


def value(form: Form, basis: Mapping[str, Values]) -> Values:
    """A linear form at a point."""
    if not form:
        return 0
    symbol, amount = form[0]
    total = amount * basis[symbol]
    for symbol, amount in form[1:]:
        total = total + amount * basis[symbol]
    return total


def settle(a: Arithmetic, program: Program, step: Step) -> Settled:
    """The part of a step's cost that runs of steps share."""
    steady = program.common.steady
    common = Cost(
        _with_excess(a, steady.base_s, program.steady_excess, step.busiest),
        value(steady.flops, step.mean),
        value(steady.bytes, step.mean),
        value(steady.compute_s, step.busiest),
    )
    return Settled(common, tuple(_linear(f.steady, step.busiest, step.mean) for f in program.forms.values()))


def _with_excess(a: Arithmetic, base: Form, excess: Sequence[Form], basis: Mapping[str, Values]) -> Values:
    """The base time plus every excess where it is positive."""
    linear = dict(base)
    bent = []
    spans: dict[str, tuple[float, float]] = {}
    for form in excess:
        side = 0 if a.scalar else _side(a, form, basis, spans)
        if side > 0:
            for symbol, amount in form:
                linear[symbol] = linear.get(symbol, 0.0) + amount
        elif side == 0:
            bent.append(a.maximum(value(form, basis), 0.0))
    time = value(tuple(linear.items()), basis)
    for part in bent:
        time = time + part
    return time


def _side(
    a: Arithmetic, form: Form, basis: Mapping[str, Values], spans: dict[str, tuple[float, float]]
) -> int:
    """1 where a form is positive all over a chunk, -1 where it never is, 0 where it must be worked out."""
    symbols = [symbol for symbol, _ in form if symbol != "1"]
    if len(symbols) != 1:
        return 0
    (symbol,) = symbols
    if symbol not in spans:
        spans[symbol] = (a.smallest(basis[symbol]), a.largest(basis[symbol]))
    # Linear in one quantity: its ends decide.
    ends = [value(form, {"1": 1, symbol: end}) for end in spans[symbol]]
    return 1 if min(ends) >= 0 else -1 if max(ends) <= 0 else 0


def price(
    a: Arithmetic, program: Program, step: Step, run: Run, *, settled: Settled | None = None
) -> tuple[Cost, Values]:
    """Cost of a run of steps and the index of the form of latent attention it uses.

    `settled` is what `settle` gives, for callers that price several runs of the same step.
    """
    settled = settled or settle(a, program, step)
    sums = _sums(program.symbols, step, run)
    cost = _attending(a, program.common, settled.common, sums, step, run)
    if not program.forms:
        return cost, 0
    best, chosen = None, 0
    for index, (parts, steady) in enumerate(zip(program.forms.values(), settled.forms, strict=True)):
        other = _attending(a, parts, steady, sums, step, run)
        best, chosen = (other, 0) if best is None else _faster(a, best, other, chosen, index)
    return (cost if best is None else cost.plus(best)), chosen


def _faster(a: Arithmetic, best: Cost, other: Cost, chosen: Values, index: int) -> tuple[Cost, Values]:
    faster = other.time_s < best.time_s
    return (
        Cost(*(a.where(faster, x, y) for x, y in zip(other, best, strict=True))),
        a.where(faster, index, chosen),
    )


def _linear(bundle: Bundle, busiest: Mapping[str, Values], mean: Mapping[str, Values]) -> Cost:
    return Cost(
        value(bundle.base_s, busiest),
        value(bundle.flops, mean),
        value(bundle.bytes, mean),
        value(bundle.compute_s, busiest),
    )


def _attending(
    a: Arithmetic, parts: Parts, steady: Cost, sums: Mapping[str, Values], step: Step, run: Run
) -> Cost:
    """A steady cost over the steps of a run, and what attention adds to it."""
    cost = steady if run.steps is _ONCE else steady.times(run.steps)
    if sums:
        cost = cost.plus(_linear(parts.attending, sums, sums))
    time = cost.time_s
    for mask, forms in parts.attending_excess.items():
        if forms:
            time = time + _attending_excess(a, forms, step, mask, run.attended[mask])
    return cost._replace(time_s=time)


def _sums(symbols: frozenset[str], step: Step, run: Run) -> dict[str, Values]:
    """Pairs and positions of interest, added up over the steps of a run."""
    sums: dict[str, Values] = {}
    for mask, pieces in run.attended.items():
        pairs, positions = ATTENDING[mask]
        riding = step.riding.get(mask)
        if pairs in symbols:
            total = _total([_series(piece.pairs, piece.pairs_step, piece) for piece in pieces])
            sums[pairs] = shifted(step.sequences * total, riding[0] * run.steps if riding else 0)
        if positions in symbols:
            total = _total([_series(piece.positions, piece.positions_step, piece) for piece in pieces])
            sums[positions] = shifted(step.sequences * total, riding[1] * run.steps if riding else 0)
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
    total = (first + scaled((piece.steps - 1) / 2, growth)) * piece.steps
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
