"""Cost of a step, and of a run of steps, of a compiled program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.perfmodel.arithmetic import Arithmetic, Values
from engine.perfmodel.program import Bundle, Form, Program
from engine.perfmodel.terms import Attended


@dataclass(frozen=True)
class Cost:
    """What some operators cost one device."""

    time_s: Values = 0.0
    flops: Values = 0
    bytes: Values = 0
    compute_s: Values = 0.0
    """Busy time of the arithmetic units."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.time_s + other.time_s,
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.compute_s + other.compute_s,
        )

    def times(self, factor: Values) -> Cost:
        """The cost of doing it `factor` times."""
        return Cost(self.time_s * factor, self.flops * factor, self.bytes * factor, self.compute_s * factor)


NOTHING = Cost()


@dataclass(frozen=True)
class Basis:
    """Workload quantities of a step; `mean` differs from `busiest` where ranks share unevenly."""

    busiest: Mapping[str, Values]
    mean: Mapping[str, Values]


def value(form: Form, basis: Mapping[str, Values]) -> Values:
    """A linear form at a point."""
    total: Values = 0
    for symbol, amount in form:
        if symbol == "1":
            total = total + amount
        else:
            total = total + amount * basis[symbol]
    return total


def cost(a: Arithmetic, bundle: Bundle, basis: Basis) -> Cost:
    """Cost of a bundle in one step."""
    time = value(bundle.base_s, basis.busiest)
    for form in bundle.excess_s:
        time = time + a.maximum(value(form, basis.busiest), 0.0)
    return Cost(
        time,
        value(bundle.flops, basis.mean),
        value(bundle.bytes, basis.mean),
        value(bundle.compute_s, basis.busiest),
    )


@dataclass(frozen=True)
class Attending:
    """The tokens that attend in each step of a run: the same number in every one."""

    sequences: Values
    tokens: Values
    """Tokens of the step, riding prefill tokens included."""
    riding: Mapping[str, tuple[Values, Values]]
    """Pairs and positions, by mask, of prefill tokens that ride along; the same in every step."""


def attention_cost(
    a: Arithmetic, program: Program, attending: Attending, runs: Mapping[str, Sequence[Attended]]
) -> tuple[Cost, Values]:
    """Cost of attention over the runs of each mask, and the index of the form of latent attention used."""
    always = NOTHING
    totals = dict.fromkeys(program.forms, NOTHING)
    for mask, bundles in program.attention.items():
        for form, bundle in bundles.items():
            part = _run_cost(a, bundle, attending, runs[mask], attending.riding.get(mask, (0, 0)))
            if form:
                totals[form] = totals[form] + part
            else:
                always = always + part
    best, chosen = totals[program.forms[0]], 0
    for index, form in enumerate(program.forms[1:], start=1):
        other = totals[form]
        faster = other.time_s < best.time_s
        best = Cost(
            a.minimum(best.time_s, other.time_s),
            a.where(faster, other.flops, best.flops),
            a.where(faster, other.bytes, best.bytes),
            a.where(faster, other.compute_s, best.compute_s),
        )
        chosen = a.where(faster, index, chosen)
    return always + best, chosen


def _run_cost(
    a: Arithmetic,
    bundle: Bundle,
    attending: Attending,
    runs: Sequence[Attended],
    riding: tuple[Values, Values],
) -> Cost:
    total = NOTHING
    for run in runs:
        total = total + _even_cost(a, bundle, attending, run, riding)
    return total


def _even_cost(
    a: Arithmetic, bundle: Bundle, attending: Attending, run: Attended, riding: tuple[Values, Values]
) -> Cost:
    """Cost of a run over which pairs and positions grow evenly: sums of arithmetic series."""
    n = attending.sequences
    first = {
        "T": attending.tokens,
        "B": n,
        "Q": n * run.pairs + riding[0],
        "K": n * run.positions + riding[1],
    }
    if isinstance(run.steps, int) and run.steps == 1:
        return cost(a, bundle, Basis(first, first))
    growth = {"T": 0, "B": 0, "Q": n * run.pairs_step, "K": n * run.positions_step}
    half = (run.steps - 1) / 2
    middle = {**first, "Q": first["Q"] + growth["Q"] * half, "K": first["K"] + growth["K"] * half}
    steps = run.steps * run.repeat
    time = value(bundle.base_s, middle) * steps
    for form in bundle.excess_s:
        slope = value(tuple(item for item in form if item[0] in "QK"), growth)
        time = time + positive_sum(a, value(form, first), slope, run.steps) * run.repeat
    return Cost(
        time,
        value(bundle.flops, middle) * steps,
        value(bundle.bytes, middle) * steps,
        value(bundle.compute_s, middle) * steps,
    )


def positive_sum(a: Arithmetic, start: Values, slope: Values, steps: Values) -> Values:
    """Sum over `steps` steps of max(0, start + i slope): an arithmetic series cut where it crosses zero."""
    largest = a.maximum(start, start + slope * (steps - 1))
    # A flat series is positive in all steps or in none.
    fall = a.maximum(abs(slope), 1e-30)
    count = a.minimum(a.maximum(a.floor(largest / fall) + 1, 0), steps)
    return count * (largest - fall * (count - 1) / 2)
