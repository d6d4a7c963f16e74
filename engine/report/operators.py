"""Operators of the points that are shown: from the run's table, else worked out again from the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.results.tables import OPERATORS, empty, make_table

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.report.inputs import ReportInputs

_FIELDS: Final = {"intensity_flops_per_byte": "intensity"}


def operators_of(inputs: ReportInputs, points: Sequence[int]) -> pa.Table:
    """Operator rows of these points: stored ones, and for the others those of the performance model.

    The model is a pure function of the plan, so nothing is measured again; points of experiments without
    predictions get no rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from engine.results.tables import concatenate

    stored = inputs.tables.get("operators", empty("operators"))
    kept = stored.filter(pc.is_in(stored["point"], value_set=pa.array(list(points), pa.int64())))
    have = set(pc.unique(kept["point"]).to_pylist())
    settings = next((m for m in inputs.experiment.measurements if m.kind == "analytical"), None)
    if settings is None:
        return kept
    columns: dict[str, list[Any]] = {column.name: [] for column in OPERATORS}
    for number in dict.fromkeys(points):
        if number not in have:
            for row in _predicted(inputs, number, settings):
                for name, values in columns.items():
                    values.append(row[name])
    return concatenate("operators", [kept, make_table("operators", columns)]) if columns["point"] else kept


def _predicted(inputs: ReportInputs, number: int, settings: Any) -> list[Mapping[str, Any]]:
    from engine.errors import EngineError
    from engine.perfmodel.deployment import Deployment
    from engine.perfmodel.rows import operator_rows

    point = inputs.plan.point(number)
    chosen = point.combination
    deployment = Deployment(chosen.model, chosen.hardware, chosen.quantization, chosen.parallelism, settings)
    try:
        rows = operator_rows(deployment, point.workload)
    except EngineError:
        # An impossible deployment has no operators; its reason stands in the summary.
        return []
    names = [column.name for column in OPERATORS if column.name != "point"]
    return [
        {"point": number, **{name: getattr(row, _FIELDS.get(name, name)) for name in names}} for row in rows
    ]
