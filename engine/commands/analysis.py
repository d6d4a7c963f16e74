"""Predictions in a notebook: `engine.analyze(...)` builds the experiment a user could have written.

>>> import engine
>>> found = engine.analyze("llama-3.1-8b", "h100-sxm-80gb", batch_size=[1, 8, 32])
>>> found.summary  # a DataFrame, one row a point and phase
>>> found.operators  # a DataFrame, one row an operator
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from engine.errors import SpecError
from engine.spec.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from engine.perfmodel.deployment import Deployment
    from engine.perfmodel.parameter_sets import Choices
    from engine.perfmodel.point import PointPrediction
    from engine.perfmodel.rows import OperatorRow
    from engine.plan.compile import Plan
    from engine.plan.resolve import Combination
    from engine.spec.analytical import AnalyticalSettings
    from engine.spec.workload import Workload

_NAMED: Final = ("model", "hardware", "quantization")


def analyze(
    model: str | Mapping[str, Any] | Sequence[str],
    hardware: str | Mapping[str, Any] | Sequence[str],
    *,
    quantization: str | Mapping[str, Any] | Sequence[str] = "bf16",
    prompt_tokens: int | Sequence[int] = 2048,
    output_tokens: int | Sequence[int] = 256,
    batch_size: int | Sequence[int] = 1,
    parallelism: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Analysis:
    """Predict a model on a device; a list in any place is an axis of a sweep.

    `model`, `hardware` and `quantization` are names of the catalogue, paths of a `config.json`, or mappings
    as in a spec; `settings` are those of the `analytical` measurement. Nothing is stored. Raises `SpecError`
    for values that no spec could hold.
    """
    return Analysis(
        experiment_mapping(
            model=model,
            hardware=hardware,
            quantization=quantization,
            counts={"prompt_tokens": prompt_tokens, "output_tokens": output_tokens, "batch_size": batch_size},
            parallelism=parallelism or {},
            settings=settings,
        )
    )


@dataclass(frozen=True)
class Analysis:
    """Predictions of one experiment; every part is made when it is first looked at."""

    spec: Mapping[str, Any]
    """The experiment as a mapping: what `--print-spec` shows."""

    @cached_property
    def plan(self) -> Plan:
        """The compiled plan."""
        from engine.plan.compile import compile_plan

        try:
            experiment = Experiment.model_validate(self.spec)
        except ValidationError as err:
            raise SpecError(_plain(err, self.spec)) from err
        return compile_plan(experiment, search=(Path.cwd(),))

    @property
    def prediction(self) -> PointPrediction:
        """Metrics of a single point as plain numbers; the fast way through, about 0.1 ms a call."""
        from engine.perfmodel.point import predict_point

        return predict_point(*self._single)

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row a design point."""
        from engine.results.points import points_table

        return points_table(self.plan).to_pandas()

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row a point and phase, with every metric in its base unit."""
        return self._table("summary").to_pandas()

    @cached_property
    def operators(self) -> pd.DataFrame:
        """One row an operator, phase and point, with its formula."""
        import pandas as pd

        frames = []
        for point in range(self.plan.size):
            rows = pd.DataFrame([vars(row) for row in self.operator_rows(point)])
            rows.insert(0, "point", point)
            frames.append(rows)
        return pd.concat(frames, ignore_index=True)

    def operator_rows(self, point: int = 0) -> list[OperatorRow]:
        """The operator table of one point."""
        from engine.perfmodel.rows import operator_rows

        found = self.plan.point(point)
        return operator_rows(_deployment(found.combination, self.settings, self._choices), found.workload)

    @cached_property
    def _choices(self) -> Choices:
        from engine.perfmodel.parameter_sets import Choices

        return Choices(self.settings.calibration)

    @property
    def settings(self) -> AnalyticalSettings:
        """Conventions of the predictions."""
        from engine.spec.analytical import AnalyticalSettings

        settings = self.plan.experiment.measurements[0]
        return settings if isinstance(settings, AnalyticalSettings) else AnalyticalSettings(kind="analytical")

    @property
    def _single(self) -> tuple[Deployment, Workload]:
        from engine.spec.workload import Workload

        fixed = {key: value for key, value in self.spec.items() if key != "workload"}
        return _deployed(json.dumps(fixed)), Workload.model_validate(self.spec["workload"])

    def _table(self, name: str) -> pa.Table:
        import pyarrow as pa

        from engine.measure.registry import Tools, find
        from engine.results.tables import concatenate

        parts, first = [], 0
        tools = Tools(spec_folder=Path.cwd(), scratch=Path.cwd())
        for task in self.plan.tasks:
            table = find(task.kind).function(task.settings, task, tools)[name]
            numbers = pa.compute.add(table["point"], first)
            parts.append(table.set_column(table.schema.get_field_index("point"), "point", numbers))
            first += task.size
        return concatenate(name, parts)


def experiment_mapping(
    *,
    model: Any,
    hardware: Any,
    quantization: Any,
    counts: Mapping[str, Any],
    parallelism: Mapping[str, Any],
    settings: Mapping[str, Any],
    name: str = "analysis",
) -> dict[str, Any]:
    """The experiment that predicts these values: lists become axes, everything else stays plain."""
    axes: dict[str, list[Any]] = {}
    spec: dict[str, Any] = {"version": 1, "name": name}
    for key, value in zip(_NAMED, (model, hardware, quantization), strict=True):
        spec[key] = _first(key, value, axes)
    spec["workload"] = {key: _first(f"workload.{key}", value, axes) for key, value in counts.items()}
    if parallelism:
        spec["parallelism"] = {key: _first(f"parallelism.{key}", v, axes) for key, v in parallelism.items()}
    if axes:
        spec["sweep"] = {"axes": axes}
    spec["measurements"] = [{"kind": "analytical", **settings}]
    return spec


def _first(path: str, value: Any, axes: dict[str, list[Any]]) -> Any:
    if not isinstance(value, list | tuple):
        return value
    if len(value) > 1:
        axes[path] = list(value)
    return value[0] if value else None


@lru_cache(maxsize=256)
def _deployed(text: str) -> Deployment:
    """The deployment of a spec without its workload; settled once for each text."""
    analysis = Analysis({**json.loads(text), "workload": {}})
    return _deployment(analysis.plan.point(0).combination, analysis.settings, analysis._choices)


def _deployment(combination: Combination, settings: AnalyticalSettings, choices: Choices) -> Deployment:
    from engine.perfmodel.deployment import Deployment

    return Deployment(
        combination.model,
        combination.hardware,
        combination.quantization,
        combination.parallelism,
        settings,
        choices.of(combination.hardware, combination.calibrations),
    )


def _plain(err: ValidationError, values: Mapping[str, Any]) -> list[Any]:
    from engine.plan.expand import value_problems

    return value_problems(err, dict(values), Experiment, ())
