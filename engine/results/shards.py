"""Result tables as Parquet bytes and back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.errors import MeasurementError, UsageError
from engine.results.tables import TABLES, arrow_type, column

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP: Final = 65_536
"""Rows a reader holds at a time; a full task's phases fall on these borders, so one can be read alone."""


@dataclass(frozen=True)
class Encoded:
    """One table of one task, ready to be written."""

    content: Any
    """The bytes, as a buffer."""
    sha256: str
    rows: int


def encode(table: pa.Table) -> Encoded:
    """Parquet bytes of a table, the same for the same table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = [f.name for f in table.schema if pa.types.is_dictionary(f.type)]
    floats = [f.name for f in table.schema if pa.types.is_floating(f.type)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP,
        compression="zstd",
        compression_level=1,
        # Measured on predictions: splitting floats into streams of equal bytes makes files a quarter smaller
        # at the same speed; a dictionary of numbers that hardly repeat doubles the time.
        use_dictionary=labels,
        use_byte_stream_split=floats,
        write_statistics=labels,
    )
    content = memoryview(sink.getvalue())
    return Encoded(content, hashlib.sha256(content).hexdigest(), table.num_rows)


def check_points(name: str, table: pa.Table, size: int) -> None:
    """Raise `MeasurementError` where a row names a point that its task does not have."""
    import pyarrow.compute as pc

    if not size or not table.num_rows:
        return
    bounds = pc.min_max(table.column("point")).as_py()
    if bounds["min"] is not None and not 0 <= bounds["min"] <= bounds["max"] < size:
        wrong = bounds["min"] if bounds["min"] < 0 else bounds["max"]
        raise MeasurementError(
            f"table `{name}` names point {wrong} of a task with {size} points; rows count points from 0"
        )


def batches(content: Any, names: Sequence[str], *, phases: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    """The rows of a shard in pieces, with those of the columns `names` that it has; of all phases or of
    those named."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(content))
    present = [name for name in names if name in file.schema_arrow.names]
    if not phases:
        yield from file.iter_batches(batch_size=ROW_GROUP, columns=present)
        return
    groups = [i for i in range(file.num_row_groups) if may_hold(file, i, phases)]
    read = present if "phase" in present else [*present, "phase"]
    for batch in file.iter_batches(batch_size=ROW_GROUP, columns=read, row_groups=groups):
        wanted = pc.is_in(batch.column("phase").cast(pa.string()), pa.array(phases, pa.string()))
        yield batch.filter(wanted).select(present)


def may_hold(file: Any, group: int, phases: Sequence[str]) -> bool:
    """False where the statistics of a row group rule these phases out."""
    known = file.metadata.row_group(group).column(file.schema_arrow.get_field_index("phase")).statistics
    if known is None or not known.has_min_max:
        return True
    return any(known.min <= phase <= known.max for phase in phases)


def stored_names(content: Any) -> list[str]:
    """The columns of a shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return list(pq.read_schema(pa.BufferReader(content)).names)


def row_count(content: Any) -> int:
    """Rows of a shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return int(pq.read_metadata(pa.BufferReader(content)).num_rows)


def conform(table: str, batch: pa.RecordBatch, names: Sequence[str], points: Any) -> pa.RecordBatch:
    """The batch with exactly the columns `names`, absent ones null; `points` replaces the point column."""
    import pyarrow as pa

    arrays = []
    for name in names:
        wanted = declared_type(table, name)
        if name == "point":
            arrays.append(points)
        elif name in batch.schema.names:
            found = batch.column(name)
            arrays.append(found if found.type == wanted else found.cast(wanted))
        else:
            arrays.append(pa.nulls(batch.num_rows, wanted))
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def declared_type(table: str, name: str) -> pa.DataType:
    """How a declared column is stored; raises `UsageError` for one that the table cannot have."""
    declared = column(table, name)
    if declared is None:
        raise UsageError(
            f"table `{table}` has no column `{name}`",
            hint="columns: " + ", ".join(c.name for c in TABLES[table]),
        )
    return arrow_type(declared.kind)
