"""Which rows are judged, which meet the requirements, which is best and which lie on the front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.errors import EngineError
from engine.metrics import METRICS
from engine.report.numbers import quantity
from engine.report.records import MEASURED, Records, row_keys
from engine.report.workloads import Lengths, Workloads, workloads_of
from engine.spec.condition import Condition, parse_condition

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

# Without a spec that says what counts, the first of these that has values decides.
_PRIMARY: Final = (
    "output_tokens_per_s_per_device",
    "output_tokens_per_s",
    "total_tokens_per_s",
    "requests_per_s",
    "training_sequences_per_s",
    "tokens_per_joule",
    "e2e_s",
    "ttft_s",
    "time_s",
)

_SIGNS: Final = {"<=": "≤", ">=": "≥", "==": "="}


ROOF: Final = 1.02
"""Share of peak or bandwidth from which a value is called impossible; clocks above the published boost
explain a little."""


@dataclass(frozen=True)
class Requirement:
    """One hard condition of the spec."""

    metric: str
    condition: Condition

    @property
    def text(self) -> str:
        """For people: `Time to first token ≤ 500 ms`."""
        metric = METRICS[self.metric]
        sign = _SIGNS.get(self.condition.operator, self.condition.operator)
        return f"{metric.label} {sign} {quantity(metric.name, metric.unit, self.condition.value)}"

    def met(self, records: Records) -> Mask:
        """Which rows meet it; an unknown value meets nothing."""
        import numpy as np

        values = records.numbers(self.metric)
        held: Any = self.condition.holds(values)  # type: ignore[arg-type]
        found: Mask = np.asarray(held, dtype=bool) & np.isfinite(values)
        return found


def requirements(require: Mapping[str, str]) -> tuple[list[Requirement], list[str]]:
    """The conditions of a spec, and a sentence for each that cannot be read."""
    found: list[Requirement] = []
    unread: list[str] = []
    for name, text in require.items():
        try:
            found.append(Requirement(name, parse_condition(name, str(text))))
        except EngineError as err:
            unread.append(f"{name}: {text} is not applied, because {err.message}")
    return found, unread


def judged_source(found: Records, wanted: str | None) -> str | None:
    """The source whose rows are judged: the one the spec names, else measured before predicted."""
    present = found.labels("source")
    if wanted is not None:
        return wanted if wanted in present else None
    return next((source for source in (*MEASURED, "predicted") if source in present), None)


def primary_metric(found: Records) -> str | None:
    """The metric that decides where the spec does not say."""
    return next((name for name in _PRIMARY if found.has(name)), None)


@dataclass(frozen=True, eq=False)
class Choice:
    """The judged rows and what came out; row numbers count within `rows`."""

    rows: Records
    source: str
    metric: str
    """What ranks them: a metric, or `score`."""
    higher: bool
    order: tuple[int, ...]
    """Rows that may win, best first (at most 1,000); an estimate leads where bounds would."""
    passed_over: int | None
    """The row that ranks first by its numbers, where it is only a bound and an estimate was put before it."""
    among: Mask
    """Which rows may win: those that qualify, or all ok ones when none does; of `workload` only."""
    qualified: int
    """Rows of `workload` that are ok and meet every requirement."""
    ok: int
    """Rows of `workload` with status ok."""
    requirements: tuple[Requirement, ...]
    unread: tuple[str, ...]
    workload: Lengths | None
    """The lengths that are ranked, where points have different ones; None where all do the same work."""
    workloads: Workloads
    best_of_each_workload: tuple[int, ...]
    """The best row of each workload that has one, in order of appearance."""

    @property
    def best(self) -> int | None:
        """Row of the winner; None when no row qualifies."""
        return self.order[0] if self.order and self.qualified else None

    def row(self, number: int) -> dict[str, Any]:
        """One row as a mapping."""
        return self.rows.take([number]).rows()[0]


def choose(
    found: Records, *, scoring: Any, scores: pa.Table | None, own: Lengths | None = None
) -> Choice | None:
    """Rank the rows of the judged source that do the same work; None when there is nothing to rank.

    `own` are the lengths that the spec itself names: the answer is about them where points have several.
    """
    import numpy as np

    source = judged_source(found, scoring.source if scoring else None)
    if source is None:
        return None
    rows = _with_scores(found.where(found.mask("source", source)), scores)
    metric = "score" if rows.has("score") else primary_metric(rows)
    if metric is None:
        return None
    wanted, unread = requirements(scoring.require if scoring else {})
    ok = rows.mask("status", "ok") & ~above_roof(rows)
    ranked = ok & np.isfinite(rows.numbers(metric))
    qualified = ranked.copy()
    for requirement in wanted:
        qualified &= requirement.met(rows)
    higher = metric == "score" or METRICS[metric].direction != "lower"
    loads = workloads_of(rows)
    several = len(set(loads.codes[ok].tolist())) > 1
    main = loads.main(qualified if qualified.any() else ok, own) if several else None
    here = loads.mask(main) if main is not None else np.ones(rows.size, dtype=bool)
    among = _may_win(qualified & here, ranked & here)
    order, passed_over = _ranked(rows, metric, higher=higher, among=among)
    return Choice(
        rows,
        source,
        metric,
        higher,
        tuple(int(i) for i in order[:1000]),
        passed_over,
        among,
        int((qualified & here).sum()),
        int((ok & here).sum()),
        tuple(wanted),
        tuple(unread),
        None if main is None else loads.lengths[main],
        loads,
        _best_of_workloads(rows, loads, metric, higher=higher, qualified=qualified, ranked=ranked),
    )


def _may_win(qualified: Mask, ranked: Mask) -> Mask:
    return qualified if qualified.any() else ranked


_MOST_WORKLOADS: Final = 24


def _best_of_workloads(
    rows: Records, loads: Workloads, metric: str, *, higher: bool, qualified: Mask, ranked: Mask
) -> tuple[int, ...]:
    found = []
    for place in range(min(len(loads.lengths), _MOST_WORKLOADS)):
        here = loads.mask(place)
        order, _ = _ranked(rows, metric, higher=higher, among=_may_win(qualified & here, ranked & here))
        found += [int(i) for i in order[:1]]
    return tuple(found)


def _ranked(rows: Records, metric: str, *, higher: bool, among: Mask) -> tuple[NDArray[np.int64], int | None]:
    """Rows that may win, best first, and the bound that would lead where estimates are ranked before it."""
    import numpy as np

    pool = np.flatnonzero(among)
    values = rows.numbers(metric)[pool]
    # A stable sort: of equals the one that comes first in the plan wins, whatever the machine.
    return _comparable_first(rows, pool[np.argsort(-values if higher else values, kind="stable")])


def above_roof(rows: Records) -> Mask:
    """Rows that use more than all of the device's peak or bandwidth: something is wrong with them."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        found: Mask = (rows.numbers("mfu") > ROOF) | (rows.numbers("mbu") > ROOF)
    return found


def _comparable_first(rows: Records, ranked: NDArray[np.int64]) -> tuple[NDArray[np.int64], int | None]:
    """The ranked rows with estimates before bounds, and the bound that stood in front.

    A bound is what no deployment exceeds, an estimate what one expects: where devices with a calibration
    meet others without one, the race is not fair, and a bound must not win it.
    """
    import numpy as np

    if not len(ranked):
        return ranked, None
    bound = rows.mask("basis", "bound")[ranked]
    if not bound[0] or bound.all():
        passed_over = None
    else:
        passed_over = int(ranked[0])
    return np.concatenate((ranked[~bound], ranked[bound])), passed_over


def _with_scores(rows: Records, scores: pa.Table | None) -> Records:
    """`rows` with their score and its ends where there are scores."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if scores is None or not scores.num_rows or not rows.size:
        return rows
    position = pc.index_in(row_keys(rows.table), value_set=row_keys(scores).combine_chunks())
    table = rows.table
    for name in ("score", "score_low", "score_high"):
        table = table.append_column(pa.field(name, pa.float64()), scores[name].take(position))
    return Records(table)


def pareto_front(x: Any, y: Any, *, higher_x: bool = True, higher_y: bool = True) -> NDArray[np.int64]:
    """Rows that no other row beats in both columns, by falling x; NaN rows never belong. O(n log n)."""
    import numpy as np

    across = np.asarray(x, dtype=np.float64) * (1 if higher_x else -1)
    up = np.asarray(y, dtype=np.float64) * (1 if higher_y else -1)
    alive = np.flatnonzero(np.isfinite(across) & np.isfinite(up))
    order = alive[np.lexsort((alive, -up[alive], -across[alive]))]
    if not len(order):
        return order
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(up[order])[:-1]))
    return np.asarray(order[up[order] > best_before], dtype=np.int64)


def best_of_each(rows: Records, choice_metric: str, by: str, *, higher: bool, among: Mask) -> list[int]:
    """The best row of each value of a text column, in the column's order of appearance."""
    import numpy as np

    values = rows.numbers(choice_metric)
    usable = among & np.isfinite(values)
    ranked = np.where(usable, values if higher else -values, -np.inf)
    codes, labels = rows.codes(by)
    found = []
    for code in range(len(labels)):
        members = np.flatnonzero(usable & (codes == code))
        if len(members):
            found.append(int(members[np.argmax(ranked[members])]))
    return found
