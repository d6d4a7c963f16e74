"""Scores as the declared tables `scores` and `score_factors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.results.tables import make_table

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.score.normalise import Factor
    from engine.score.ranking import Ranking
    from engine.score.rows import Floats, Judged, Mask, Rows


class Reasons:
    """Why rows are not ranked, as codes into a list of texts."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self.codes = np.full(size, -1, dtype=np.int32)
        self.texts: list[str] = []
        self._known: dict[str, int] = {}

    @property
    def pool(self) -> Mask:
        """Rows without a reason: those that are ranked."""
        found: Mask = self.codes < 0
        return found

    def add(self, rows: Mask, text: str) -> None:
        """Give a reason to rows; those that have one already get this one as well."""
        import numpy as np

        for code in np.unique(self.codes[rows]):
            earlier = f"{self.texts[code]}; " if code >= 0 else ""
            self.codes[rows & (self.codes == code)] = self._code(earlier + text)

    def _code(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = len(self.texts)
            self.texts.append(text)
        return self._known[text]


def scores_table(
    judged: Judged, ranking: Ranking, reasons: Reasons, *, total: Floats, low: Floats, high: Floats
) -> pa.Table:
    """The judged rows, best first."""
    import numpy as np
    import pyarrow as pa

    order = ranking.order
    rows = judged.rows[order]
    ranked = np.isfinite(total[order])
    certain = ~((high > total) | (low < total))[order]
    point = judged.summary["point"].take(rows)
    dominator = ranking.dominator[order]
    by = judged.summary["point"].take(judged.rows[np.maximum(dominator, 0)])
    codes = reasons.codes[order]
    return make_table(
        "scores",
        {
            "point": point,
            "source": pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(len(rows), dtype=np.int32)), pa.array([judged.source or ""], pa.string())
            ),
            "phase": pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(len(rows), dtype=np.int32)), pa.array([judged.phase], pa.string())
            ),
            "variant": _variants(judged, rows),
            "score": total[order],
            "score_low": np.where(certain, np.nan, low[order]),
            "score_high": np.where(certain, np.nan, high[order]),
            "rank": pa.array(ranking.rank[order], mask=~ranked),
            "rank_best": pa.array(ranking.best[order], mask=~ranked),
            "rank_worst": pa.array(ranking.worst[order], mask=~ranked),
            "eligible": codes < 0,
            "reason": pa.DictionaryArray.from_arrays(
                pa.array(codes, mask=codes < 0), pa.array(reasons.texts, pa.string())
            ),
            "dominated_by": _masked(by, dominator < 0),
        },
    )


def factors_table(scores: pa.Table, factors: Sequence[Factor], aggregation: str) -> pa.Table:
    """One row per score and objective, in the order of `scores`."""
    import numpy as np
    import pyarrow as pa

    from engine.results.tables import concatenate

    parts = []
    for factor in factors:
        size = scores.num_rows
        value, known = factor.values[:size], factor.factor[:size]
        same = pa.array(np.zeros(size, dtype=np.int32))
        if aggregation == "weighted_sum":
            contribution = factor.weight * known
        else:
            contribution = np.power(np.maximum(known, 0.0), factor.weight)
        exact = (factor.low[:size] == known) & (factor.high[:size] == known)
        parts.append(
            make_table(
                "score_factors",
                {
                    "point": scores["point"],
                    "variant": scores["variant"],
                    "metric": pa.DictionaryArray.from_arrays(same, pa.array([factor.metric])),
                    "value": value,
                    "reference": np.full(size, np.nan if factor.reference is None else factor.reference),
                    "factor": known,
                    "factor_low": np.where(exact, np.nan, factor.low[:size]),
                    "factor_high": np.where(exact, np.nan, factor.high[:size]),
                    "weight": np.full(size, factor.weight),
                    "contribution": contribution,
                    "formula": pa.DictionaryArray.from_arrays(same, pa.array([factor.formula])),
                },
            )
        )
    if not parts:
        return make_table("score_factors", {})
    joined = concatenate("score_factors", parts)
    size, count = scores.num_rows, len(parts)
    return joined.take(pa.array(np.arange(size * count).reshape(count, size).T.ravel()))


def of_rows(factors: pa.Table, scores: pa.Table) -> pa.Table:
    """The factors of these scores."""
    import pyarrow as pa

    wanted = set(zip(scores["point"].to_pylist(), scores["variant"].to_pylist(), strict=True))
    found = zip(factors["point"].to_pylist(), factors["variant"].to_pylist(), strict=True)
    return factors.filter(pa.array([key in wanted for key in found], pa.bool_()))


def _variants(judged: Judged, rows: Rows) -> Any:
    import pyarrow as pa

    if "variant" not in judged.summary.column_names:
        return pa.nulls(len(rows), pa.string())
    return judged.summary["variant"].take(rows)


def _masked(values: Any, mask: Mask) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pa.array(~mask), values, pa.scalar(None, values.type))
