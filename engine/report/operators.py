"""Operators of the points that are shown: from the run's table, else worked out again from the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.errors import EngineError
from engine.results.tables import OPERATORS, empty, make_table

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.perfmodel.deployment import Deployment
    from engine.perfmodel.parameter_sets import Choices
    from engine.plan.point import Point
    from engine.report.inputs import ReportInputs
    from engine.spec.analytical import AnalyticalSettings

_FIELDS: Final = {"intensity_flops_per_byte": "intensity"}


def operators_of(inputs: ReportInputs, points: Sequence[int]) -> pa.Table:
    """Operator rows of these points: stored ones, and for the others those of the performance model.

    The model is a pure function of the plan, so nothing is measured again; points of experiments without
    predictions get no rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from engine.perfmodel.parameter_sets import Choices
    from engine.results.tables import concatenate

    stored = inputs.tables.get("operators", empty("operators"))
    kept = stored.filter(pc.is_in(stored["point"], value_set=pa.array(list(points), pa.int64())))
    have = set(pc.unique(kept["point"]).to_pylist())
    settings = analytical_settings(inputs)
    if settings is None:
        return kept
    columns: dict[str, list[Any]] = {column.name: [] for column in OPERATORS}
    choices = Choices(settings.calibration)
    for number in dict.fromkeys(points):
        if number not in have and number < inputs.plan.size:  # points found in logs are not of the plan
            for row in _predicted(inputs, number, settings, choices):
                for name, values in columns.items():
                    values.append(row[name])
    return concatenate("operators", [kept, make_table("operators", columns)]) if columns["point"] else kept


class Predictor:
    """Predictions of points under other loads than their own, worked out when a chart asks for them."""

    def __init__(self, inputs: ReportInputs) -> None:
        from engine.perfmodel.parameter_sets import Choices

        self._plan = inputs.plan
        self._settings = settings = analytical_settings(inputs)
        self._choices = Choices("none" if settings is None else settings.calibration)
        self._known: dict[tuple[int, int], Mapping[str, float] | None] = {}

    def at(self, point: int, sequences: int) -> Mapping[str, float] | None:
        """Metrics of the whole request with this many sequences at once; None where nothing can be said."""
        key = (point, sequences)
        if key not in self._known:
            self._known[key] = self._predict(point, sequences)
        return self._known[key]

    def _predict(self, number: int, sequences: int) -> Mapping[str, float] | None:
        from engine.perfmodel.point import predict_point

        if self._settings is None or not 0 <= number < self._plan.size:
            return None
        point = self._plan.point(number)
        workload = point.workload.model_copy(update={"batch_size": sequences})
        try:
            found = predict_point(_deployment(point, self._settings, self._choices), workload)
        except EngineError:
            return None
        return found.phases["request"] if found.fits else None


def analytical_settings(inputs: ReportInputs) -> AnalyticalSettings | None:
    """Conventions of the experiment's predictions; None when it makes none."""
    return next((m for m in inputs.experiment.measurements if m.kind == "analytical"), None)


def _deployment(point: Point, settings: AnalyticalSettings, choices: Choices) -> Deployment:
    """The deployment of a point with the parameters that its predictions were made with."""
    from engine.perfmodel.deployment import Deployment

    c = point.combination
    chosen = choices.of(c.hardware, c.calibrations)
    return Deployment(c.model, c.hardware, c.quantization, c.parallelism, settings, chosen)


def _predicted(
    inputs: ReportInputs, number: int, settings: AnalyticalSettings, choices: Choices
) -> list[Mapping[str, Any]]:
    from engine.perfmodel.rows import operator_rows

    point = inputs.plan.point(number)
    try:
        rows = operator_rows(_deployment(point, settings, choices), point.workload)
    except EngineError:
        # An impossible deployment has no operators; its reason stands in the summary.
        return []
    names = [column.name for column in OPERATORS if column.name != "point"]
    return [
        {"point": number, **{name: getattr(row, _FIELDS.get(name, name)) for name in names}} for row in rows
    ]
