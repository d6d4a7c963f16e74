"""Predictions: the performance model over the points of a task, as rows of the summary table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.measure.registry import Tools, measurement
from engine.spec.analytical import AnalyticalSettings
from engine.spec.workload import COUNTS

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.perfmodel.deployment import Deployment
    from engine.perfmodel.parameter_sets import Chosen
    from engine.perfmodel.summary import Summary, WorkloadArrays
    from engine.plan.point import Task
    from engine.plan.resolve import Combination
    from engine.results.tables import Tables

PHASES: Final = ("request", "prefill", "decode", "decode_last")
"""Order of the rows: all points of a task in the first phase, then all in the second... A full task's
phases fall on row groups, so a reader of one phase does not touch the others."""

_FIELDS: Final = {"intensity_flops_per_byte": "intensity"}
"""Column of the operator table -> field of a row, where they differ."""

_BASES: Final = ("bound", "estimate")
_EXTRAPOLATED: Final = "extrapolated: some kernels are shorter or longer than any that was fitted"

_OK, _DOES_NOT_FIT, _BEYOND_CONTEXT, _SKIPPED = range(4)
_STATUSES: Final = ("ok", "does_not_fit", "beyond_context", "skipped")


@measurement(AnalyticalSettings, result_version=4)
def measure_analytical(settings: AnalyticalSettings, task: Task, tools: Tools) -> Tables:
    """Predictions of every point of a task: four rows a point, see `PHASES`."""
    from engine.results.tables import concatenate

    block = _Block(task.size)
    for group in _groups(task, settings.calibration):
        block.fill(group, settings)
    tables = {"summary": concatenate("summary", [block.phase(name) for name in PHASES])}
    if settings.operators:
        tables["operators"] = _operators(task, settings)
    return tables


def _operators(task: Task, settings: AnalyticalSettings) -> pa.Table:
    """Every operator of every point that can be predicted, in the points' order."""
    from engine.perfmodel.deployment import Deployment, check_deployment
    from engine.perfmodel.parameter_sets import Choices
    from engine.perfmodel.rows import operator_rows
    from engine.results.tables import OPERATORS, make_table

    columns: dict[str, list[Any]] = {column.name: [] for column in OPERATORS}
    refused: dict[str, bool] = {}
    choices = Choices(settings.calibration)
    for number, point in enumerate(task.points()):
        c = point.combination
        chosen = choices.of(c.hardware, c.calibrations)
        deployment = Deployment(c.model, c.hardware, c.quantization, c.parallelism, settings, chosen)
        if c.digest not in refused:
            refused[c.digest] = any(issue.severity == "error" for issue in check_deployment(deployment))
        if refused[c.digest]:
            continue
        for row in operator_rows(deployment, point.workload):
            for name, values in columns.items():
                values.append(number if name == "point" else getattr(row, _FIELDS.get(name, name)))
    return make_table("operators", columns)


@dataclass(frozen=True)
class _Group:
    """Points of a task that share a deployment."""

    combination: Combination
    start: int
    """Place of the first point in the task."""
    columns: dict[str, Any]
    """Counts of the workload as arrays of one length."""
    calibration: Chosen | None
    """Fitted parameters; None where there is only the bound."""

    @property
    def size(self) -> int:
        return len(self.columns["batch_size"])

    def deployment(self, settings: AnalyticalSettings) -> Deployment:
        from engine.perfmodel.deployment import Deployment

        c = self.combination
        return Deployment(c.model, c.hardware, c.quantization, c.parallelism, settings, self.calibration)

    def draft(self, settings: AnalyticalSettings) -> Deployment | None:
        from engine.perfmodel.deployment import Deployment

        c = self.combination
        if c.draft is None:
            return None
        return Deployment(c.draft, c.hardware, c.quantization, c.parallelism, settings, self.calibration)

    def workload(self) -> WorkloadArrays:
        from engine.perfmodel.summary import WorkloadArrays

        # A count that all points share is passed once: the model then works it out once.
        return WorkloadArrays(**{name: self._short(name) for name in COUNTS})

    def _short(self, name: str) -> Any:
        values = self.columns[name]
        same = self.size > 1 and name != "batch_size" and bool((values == values[0]).all())
        return values[:1] if same else values


def _groups(task: Task, wanted: str) -> Iterator[_Group]:
    """The points of a task by deployment, in order, each with the nearest parameters."""
    import numpy as np

    from engine.perfmodel.parameter_sets import Choices

    start = 0
    choices = Choices(wanted)
    for _, spans in itertools.groupby(task.spans, key=lambda span: span[0].combination.digest):
        parts = list(spans)
        pieces = [block.grid.columns(first, stop) for block, first, stop in parts]
        columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in COUNTS}
        combination = parts[0][0].combination
        chosen = choices.of(combination.hardware, combination.calibrations)
        group = _Group(combination, start, columns, chosen)
        yield group
        start += group.size


class _Block:
    """Columns of a task while its groups are predicted."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self._size = size
        self._metrics: dict[str, dict[str, Any]] = {phase: {} for phase in PHASES}
        self._bounds = {phase: np.full(size, -1, dtype=np.int32) for phase in PHASES}
        self._status = np.zeros(size, dtype=np.int32)
        self._reasons = np.full(size, -1, dtype=np.int32)
        self._texts: dict[str, int] = {}
        self._basis = np.zeros(size, dtype=np.int32)
        self._calibrations = np.full(size, -1, dtype=np.int32)
        self._names: dict[str, int] = {}

    def fill(self, group: _Group, settings: AnalyticalSettings) -> None:
        """Predict the points of a group, or say why they cannot be predicted."""
        import numpy as np

        from engine.perfmodel.deployment import check_deployment
        from engine.perfmodel.program import compiled
        from engine.perfmodel.summary import summarise

        deployment, draft = group.deployment(settings), group.draft(settings)
        issues = [*check_deployment(deployment), *(check_deployment(draft) if draft else ())]
        errors = [issue.message for issue in issues if issue.severity == "error"]
        here = slice(group.start, group.start + group.size)
        if errors:
            self._status[here] = _SKIPPED
            self._reasons[here] = self._code("; ".join(errors))
            return
        notes = [issue.message for issue in issues]
        timing = compiled(deployment).timing
        if timing is not None:
            self._basis[here] = 1
            self._calibrations[here] = self._names.setdefault(timing.name, len(self._names))
            notes += timing.notes
        if notes:
            self._reasons[here] = self._code("; ".join(dict.fromkeys(notes)))
        summary = summarise(
            deployment, group.workload(), speculation=group.combination.speculation, draft=draft
        )
        for phase in PHASES:
            for name, values in summary.phases[phase].items():
                if name == "bound":
                    self._bounds[phase][here] = values
                elif name == "extrapolated":
                    beyond = group.start + np.flatnonzero(values)
                    self._reasons[beyond] = self._code("; ".join([*dict.fromkeys(notes), _EXTRAPOLATED]))
                else:
                    self._column(phase, name)[here] = values
        self._judge(group, summary)

    def _column(self, phase: str, name: str) -> Any:
        import numpy as np

        columns = self._metrics[phase]
        if name not in columns:
            columns[name] = np.full(self._size, np.nan)
        return columns[name]

    def _judge(self, group: _Group, summary: Summary) -> None:
        """Status and reason of points that do not fit in memory or in the context of the model."""
        import numpy as np

        from engine.perfmodel.point import context_limit

        beyond = np.flatnonzero(summary.beyond_context & summary.fits)
        if len(beyond):
            tokens = (group.columns["prompt_tokens"] + group.columns["output_tokens"])[beyond]
            limit = int(context_limit(group.combination.model))
            self._explain(
                group.start + beyond,
                _BEYOND_CONTEXT,
                tokens,
                lambda n: f"{n:,} tokens are more than the {limit:,} the model admits",
            )
        short = np.flatnonzero(~summary.fits)
        if len(short):
            memory = summary.phases["request"]
            free = np.asarray(memory["memory_free_bytes"])[short]
            usable = float((np.asarray(memory["memory_needed_bytes"])[short] + free)[0])
            # Tenths of a gigabyte, rounded up: a shortfall never reads as nothing.
            self._explain(
                group.start + short,
                _DOES_NOT_FIT,
                np.ceil(-free / 1e8).astype(np.int64),
                lambda tenths: f"needs {tenths / 10:,.1f} GB more than the {usable / 1e9:,.1f} GB usable",
            )

    def _explain(self, points: Any, status: int, values: Any, text: Any) -> None:
        import numpy as np

        distinct, places = np.unique(values, return_inverse=True)
        codes = np.array([self._code(text(int(value))) for value in distinct], dtype=np.int32)
        self._status[points] = status
        self._reasons[points] = codes[places]

    def _code(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def phase(self, name: str) -> pa.Table:
        """The rows of one phase."""
        import numpy as np

        from engine.perfmodel.summary import BOUNDS
        from engine.results.tables import make_table

        metrics = self._metrics[name]
        for values in metrics.values():
            # No limit is not a number: a context that nothing bounds is null.
            values[np.isinf(values)] = np.nan
        return make_table(
            "summary",
            {
                "point": np.arange(self._size),
                "source": self._same("predicted"),
                "phase": self._same(name),
                "basis": _coded(self._basis, _BASES),
                "calibration": _coded(self._calibrations, list(self._names)),
                "status": _coded(self._status, _STATUSES),
                "reason": _coded(self._reasons, list(self._texts)),
                "bound": _coded(self._bounds[name], BOUNDS),
                **metrics,
            },
        )

    def _same(self, text: str) -> pa.Array:
        import numpy as np

        return _coded(np.zeros(self._size, dtype=np.int32), [text])


def _coded(codes: Any, texts: Any) -> pa.DictionaryArray:
    """Labels from their positions in `texts`; null where the position is negative."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(texts, pa.string()))
