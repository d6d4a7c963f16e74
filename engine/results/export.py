"""One table of a run for other tools: CSV, JSON or Parquet, streamed and the same bytes every time."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from engine.errors import UsageError
from engine.results.atomic import discard, temporary_name, write_failed
from engine.results.reading import schema_of

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.plan.compile import Plan
    from engine.results.store import ResultStore

Format = Literal["csv", "json", "parquet"]

# A spreadsheet takes a text that begins so for a formula (OWASP, CSV injection); a quote in front tells it
# not to. Numbers are never touched.
FORMULA: Final = r"^[=+\-@\t\r\n\x00]"


def export_table(
    plan: Plan,
    store: ResultStore,
    table: str,
    *,
    format: str = "csv",  # noqa: A002 - the name of the option
    out: Path | None = None,
) -> None:
    """Write a table of a run; see `write_batches`."""
    names = store.columns(plan, table)
    write_batches(store.scan(plan, table, names), schema_of(table, names), format=format, out=out)


def write_batches(
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    *,
    format: str,  # noqa: A002 - the name of the option
    out: Path | None,
) -> None:
    """Write rows to a file, whole or not at all, or to stdout when `out` is None."""
    writers = {"csv": _csv, "json": _json, "parquet": _parquet}
    if format not in writers:
        raise UsageError(f"no format `{format}`", hint="formats: " + ", ".join(writers))
    if out is None:
        writers[format](batches, schema, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    draft = temporary_name(out)
    try:
        with draft.open("wb") as file:
            writers[format](batches, schema, file)
        draft.replace(out)
    except OSError as err:
        raise write_failed(out, err) from err
    finally:
        discard(draft)


def _csv(batches: Iterator[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.csv

    plain = pa.schema([(f.name, pa.string() if _is_text(f.type) else f.type) for f in schema])
    # Every text is quoted and nothing else is: an empty text is `""`, what is not known is nothing at all.
    file.write(",".join(schema.names).encode() + b"\n")
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")
    with pyarrow.csv.CSVWriter(file, plain, write_options=options) as writer:
        for batch in batches:
            writer.write_batch(pa.RecordBatch.from_arrays([_safe(c) for c in batch.columns], schema=plain))


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind))


def _safe(column: pa.Array) -> pa.Array:
    """A column for CSV: texts that look like formulas get a quote in front, numbers stay numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        return _safe(column.dictionary).take(column.indices)
    if not pa.types.is_string(column.type):
        return column
    risky = pc.match_substring_regex(column, FORMULA)
    return pc.if_else(risky, pc.binary_join_element_wise("'", column, ""), column)


def _json(batches: Iterator[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> None:
    """An array of row objects, one row a line; what is not known is null."""
    names: list[str] = schema.names
    between = b"[\n"
    for batch in batches:
        columns: list[list[Any]] = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            text = json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, allow_nan=False)
            file.write(between + text.encode())
            between = b",\n"
    file.write(b"[]\n" if between == b"[\n" else b"\n]\n")


def _parquet(batches: Iterator[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
