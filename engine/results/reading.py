"""Tables of a run as their readers want them: in the plan's order, with the plan's point numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.errors import UsageError
from engine.metrics import METRICS
from engine.results.points import COLUMNS as POINT_COLUMNS
from engine.results.points import points_batches
from engine.results.shards import batches, conform, declared_type, stored_names
from engine.results.tables import SUFFIXES, TABLES, column, make_table

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.plan.compile import Plan
    from engine.plan.point import Task
    from engine.results.registry import Outcome
    from engine.results.store import ResultStore

SOURCE_OF: Final[Mapping[str, str]] = {
    "analytical": "predicted",
    "live": "live",
    "energy": "metered",
    "run_folder": "run_folder",
    "training": "training",
    "device_probe": "probed",
}
"""Kind of measurement -> source of its rows."""


def read(
    store: ResultStore,
    plan: Plan,
    table: str,
    *,
    columns: Sequence[str] | None = None,
    phases: Sequence[str] = (),
) -> pa.Table:
    """A whole table; see `ResultStore.read`."""
    import pyarrow as pa

    names = column_names(store, plan, table) if columns is None else list(columns)
    schema = schema_of(table, names)
    parts = list(scan(store, plan, table, names, phases=phases))
    return pa.Table.from_batches(parts, schema).unify_dictionaries() if parts else schema.empty_table()


def scan(
    store: ResultStore,
    plan: Plan,
    table: str,
    columns: Sequence[str] | None = None,
    *,
    phases: Sequence[str] = (),
) -> Iterator[pa.RecordBatch]:
    """A table some rows at a time, each batch with the same columns; see `ResultStore.scan`."""
    names = column_names(store, plan, table) if columns is None else list(columns)
    schema_of(table, names)  # an unknown column is refused before the first row
    if phases and column(table, "phase") is None:
        raise UsageError(f"table `{table}` has no phases")
    if table == "points":
        for batch in points_batches(plan, [n for n in names if n in POINT_COLUMNS]):
            yield conform(table, batch, names, batch.column("point") if "point" in names else None)
    found = store.outcomes(plan)
    extra = plan.size  # points that only a folder of logs knows come after those of the plan
    for task in plan.tasks:
        outcome = found.get(task.fingerprint)
        if outcome is None or outcome.state == "stale":
            continue
        if outcome.state == "interrupted" and not store.is_sound(task, outcome):
            continue
        if outcome.state == "failed" and not store.is_sound(task, outcome):
            if table == "summary" and (not phases or _phase_of(task) in phases):
                yield from _failure(task, outcome, names)
            continue
        content = store.shard(task, outcome, table)
        if content is not None:
            rows = _rows(content, task, table, names, extra=extra, phases=phases)
            label = plan.variants[task.measurement]
            yield from rows if label is None or "variant" not in names else _told_apart(rows, label)
        extra += _own_points(task, outcome)


def _own_points(task: Task, outcome: Outcome) -> int:
    """Points that a task without points of the plan brought along."""
    shard = outcome.shards.get("points")
    return shard.rows if shard is not None and not task.size else 0


def schema_of(table: str, names: Sequence[str]) -> pa.Schema:
    """How these columns of a table are typed; raises `UsageError` for one it cannot have."""
    import pyarrow as pa

    return pa.schema([(name, declared_type(table, name)) for name in names])


def column_names(store: ResultStore, plan: Plan, table: str) -> list[str]:
    """Columns of a table; see `ResultStore.columns`."""
    if table not in TABLES:
        raise UsageError(f"no table `{table}`", hint="tables: " + ", ".join(TABLES))
    declared = [column.name for column in TABLES[table]]
    if table != "summary":
        return declared
    present: set[str] = set()
    found = store.outcomes(plan)
    for task in plan.tasks:
        outcome = found.get(task.fingerprint)
        if outcome is None or outcome.state == "stale":
            continue
        if outcome.state == "done" or store.is_sound(task, outcome):
            content = store.shard(task, outcome, table)
            if content is not None:
                present.update(stored_names(content))
    metrics = (name for metric in METRICS for name in (metric, *(metric + suffix for suffix in SUFFIXES)))
    return [*declared, *(name for name in metrics if name in present and name not in declared)]


def _rows(
    content: Any, task: Task, table: str, names: Sequence[str], *, extra: int, phases: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    for batch in batches(content, names, phases=phases):
        points = _numbers(task, batch.column("point"), extra) if "point" in names else None
        yield conform(table, batch, names, points)


def _told_apart(rows: Iterator[pa.RecordBatch], label: str) -> Iterator[pa.RecordBatch]:
    """Rows that say which of several measurements of one kind they come from."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for batch in rows:
        place = batch.schema.get_field_index("variant")
        own = batch.column(place).cast(pa.string())
        joined = pc.if_else(pc.is_valid(own), pc.binary_join_element_wise(label, own, ", "), label)
        yield batch.set_column(place, "variant", joined.dictionary_encode())


def _numbers(task: Task, offsets: pa.Array, extra: int) -> pa.Array:
    """Numbers of points in the plan from their place in the task; null where a row belongs to none."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    ranges = task.point_numbers
    if not ranges:
        return pc.add(offsets, extra)
    if all(before.stop == after.start for before, after in itertools.pairwise(ranges)):
        return pc.add(offsets, ranges[0].start)
    numbers = pa.array(np.concatenate([np.arange(r.start, r.stop) for r in ranges]))
    return numbers.take(offsets)


def _failure(task: Task, outcome: Outcome, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows for the points of a failed task: a failure is a row too, never a gap."""
    count = task.size or 1
    numbers: list[Any] = [n for r in task.point_numbers for n in r] or [None]
    table = make_table(
        "summary",
        {
            "point": numbers,
            "source": [SOURCE_OF.get(task.kind, task.kind)] * count,
            "phase": [_phase_of(task)] * count,
            "status": ["failed"] * count,
            "reason": [outcome.error] * count,
        },
    )
    for batch in table.to_batches():
        yield conform("summary", batch, names, batch.column("point"))


def _phase_of(task: Task) -> str:
    return "training" if task.kind == "training" else "request"
