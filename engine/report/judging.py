"""Scores of the points of a report: workload by workload, and never a bound among estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engine.errors import EngineError
from engine.report.workloads import Lengths
from engine.results.tables import concatenate, empty

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.report.choose import Choice
    from engine.report.inputs import ReportInputs
    from engine.score.weights import ScoreResult
    from engine.spec.scoring import Scoring

_MOST_WORKLOADS: Final = 24
"""Scored one by one; beyond that only the spec's own workload and the first ones are."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """The scores of every workload."""

    scoring: Scoring
    results: Mapping[Lengths, ScoreResult]
    """Empty when nothing could be judged."""
    problems: tuple[str, ...]
    """Why something could not be judged, once each."""
    points: pa.Table
    summary: pa.Table

    @property
    def scores(self) -> pa.Table | None:
        """Table `scores` of all of them; a score counts within its workload. None when there is none."""
        found = [result.scores for result in self.results.values()]
        return concatenate("scores", found) if found else None

    def of(self, choice: Choice | None) -> ScoreResult | None:
        """The scores that the answer rests on: of its workload, without the bounds that it passes over."""
        if self.scoring.preset is not None or choice is None or not choice.order:
            return next(iter(self.results.values()), None)
        winner = choice.row(choice.order[0])
        result = self.results.get((winner.get("prompt_tokens"), winner.get("output_tokens")))
        if result is None or choice.passed_over is None:
            return result
        rows = choice.rows
        estimates = rows.table["point"].filter(~rows.mask("basis", "bound") & choice.among)
        known = _score(self.scoring, self.points, _of_points(self.summary, estimates))
        return result if isinstance(known, str) else known


def judge(inputs: ReportInputs, scoring: Scoring | None) -> Judgement | None:
    """The points judged by the spec's objectives; None without any. Nothing is measured for it."""
    if scoring is None or not (scoring.objectives or scoring.preset):
        return None
    points = inputs.tables.get("points", empty("points"))
    summary = inputs.tables.get("summary", empty("summary"))
    # A preset joins a training run with inference results, whose lengths are others by nature.
    workloads = _by_workload(points) if scoring.preset is None else {(None, None): None}
    results: dict[Lengths, ScoreResult] = {}
    problems: dict[str, None] = {}
    for lengths, members in workloads.items():
        result = _score(scoring, points, summary if members is None else _of_points(summary, members))
        if isinstance(result, str):
            problems.setdefault(result)
            continue
        results[lengths] = result
        if scoring.preset is not None and not result.ranked:
            problems.update(dict.fromkeys(result.scores["reason"].drop_null().to_pylist()))
        elif result.source is None:  # no row at all, which the first note says
            problems.update(dict.fromkeys(result.notes[:1]))
    return Judgement(scoring, results, tuple(problems), points, summary)


def _score(scoring: Scoring, points: pa.Table, summary: pa.Table) -> ScoreResult | str:
    """The scores, or why there are none: the ranking falls back to throughput then, which is said."""
    from engine.score.weights import score

    try:
        return score(scoring, points, summary)
    except EngineError as err:
        return f"{err.message}; {err.hint}" if err.hint else err.message


def _by_workload(points: pa.Table) -> dict[Lengths, pa.ChunkedArray | None]:
    """Points of each pair of lengths; None stands for all of them where there is one pair."""
    import pyarrow.compute as pc

    pairs = points.group_by(["prompt_tokens", "output_tokens"], use_threads=False).aggregate([]).to_pylist()
    lengths = [(pair["prompt_tokens"], pair["output_tokens"]) for pair in pairs]
    if len(lengths) <= 1:
        return {lengths[0] if lengths else (None, None): None}
    found: dict[Lengths, pa.ChunkedArray | None] = {}
    for prompt, output in lengths[:_MOST_WORKLOADS]:
        same = None
        for name, value in (("prompt_tokens", prompt), ("output_tokens", output)):
            one = pc.is_null(points[name]) if value is None else pc.equal(points[name], value)
            same = one if same is None else pc.and_(same, one)
        found[prompt, output] = points["point"].filter(same)
    return found


def _of_points(summary: pa.Table, points: pa.ChunkedArray) -> pa.Table:
    import pyarrow.compute as pc

    return summary.filter(pc.is_in(summary["point"], value_set=points.combine_chunks()))
