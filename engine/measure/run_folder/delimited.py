"""Delimited text in bounded memory: Arrow where the file is regular, row by row where it is not."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from engine.measure.run_folder.text import Source, lines

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES: Final = 4 * 2**20
_CHUNK_ROWS: Final = 50_000
_DELIMITERS: Final = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Layout:
    """How a delimited file is laid out."""

    delimiter: str
    header_line: int
    """Lines before the header."""
    names: tuple[str, ...]
    """Headers as printed, one per field of a row; trailing empty fields have empty names."""
    header_lines: int = 1
    decimal_comma: bool = False


@dataclass(eq=False)
class Counts:
    """What became of the rows."""

    rows: int = 0
    malformed: int = 0
    """Rows with another number of fields than the header."""
    lines_of_malformed: list[int] = field(default_factory=list)


def split(line: str, delimiter: str) -> list[str]:
    """The fields of one line, quotes removed and blanks trimmed."""
    try:
        return [
            cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        ]
    except csv.Error:
        return [cell.strip() for cell in line.split(delimiter)]


def find_layout(source: Source, *, header_line: int = 0, header_lines: int = 1) -> Layout | None:
    """The delimiter, names and decimal sign of a table whose header stands on a line of the head."""
    found = source.head_lines
    if header_line >= len(found):
        return None
    header = found[header_line]
    delimiter = max(_DELIMITERS, key=header.count)
    if not header.count(delimiter) and delimiter != ",":
        return None
    names = split(header, delimiter)
    rows = [split(line, delimiter) for line in found[header_line + header_lines :][:20] if line.strip()]
    if rows and not source.whole and len(rows) == 1:
        return None
    width = max((len(row) for row in rows[:3]), default=len(names))
    names += [""] * (width - len(names))
    comma = delimiter != "," and _writes_decimal_commas(rows)
    return Layout(delimiter, header_line, tuple(names), header_lines, comma)


def _writes_decimal_commas(rows: Sequence[Sequence[str]]) -> bool:
    cells = [cell for row in rows for cell in row]
    commas = sum(_is_number_with(cell, ",") for cell in cells)
    return commas > sum(_is_number_with(cell, ".") for cell in cells)


def _is_number_with(cell: str, sign: str) -> bool:
    head, found, tail = cell.partition(sign)
    return bool(found) and head.lstrip("+-").isdigit() and tail.split(" ")[0].isdigit()


def batches(
    source: Source, layout: Layout, columns: Sequence[int], counts: Counts
) -> Iterator[list[pa.Array]]:
    """The wanted columns as text, some megabytes at a time."""
    import pyarrow as pa

    yielded = 0
    try:
        for part in _arrow_batches(source, layout, columns, counts):
            yielded += len(part[0])
            yield part
        return
    except (pa.ArrowInvalid, UnicodeError):
        skip = yielded
    # A line without end, a stray byte or a lone quote: read what Arrow could not.
    yield from _row_batches(source, layout, columns, counts, skip=skip)


def _arrow_batches(
    source: Source, layout: Layout, columns: Sequence[int], counts: Counts
) -> Iterator[list[pa.Array]]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    def refuse(row: arrow_csv.InvalidRow) -> str:
        counts.malformed += 1
        if row.number is not None and len(counts.lines_of_malformed) < 20:
            counts.lines_of_malformed.append(int(row.number))
        return "skip"

    names = [f"f{i}" for i in range(len(layout.names))]
    wanted = [names[i] for i in columns]
    reader = arrow_csv.open_csv(
        source.path,
        read_options=arrow_csv.ReadOptions(
            use_threads=False,  # runs are read side by side, and row numbers are known only this way
            block_size=BLOCK_BYTES,
            skip_rows=layout.header_line + layout.header_lines,
            column_names=names,
            encoding="utf8" if source.encoding in ("utf-8", "utf-8-sig") else source.encoding,
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=layout.delimiter,
            newlines_in_values=False,
            invalid_row_handler=refuse,
        ),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=wanted,
            column_types={name: pa.string() for name in wanted},
            strings_can_be_null=False,
        ),
    )
    with reader:
        for batch in reader:
            counts.rows += batch.num_rows
            if batch.num_rows:
                yield [batch.column(name) for name in wanted]


def _row_batches(
    source: Source, layout: Layout, columns: Sequence[int], counts: Counts, *, skip: int
) -> Iterator[list[pa.Array]]:
    import pyarrow as pa

    width = len(layout.names)
    held: list[list[str]] = []
    seen = 0
    for number, line in lines(source):
        if number <= layout.header_line + layout.header_lines or not line.strip():
            continue
        row = split(line, layout.delimiter)
        if len(row) != width:
            counts.malformed += 1
            continue
        seen += 1
        if seen <= skip:
            continue
        held.append([row[i] for i in columns])
        if len(held) == _CHUNK_ROWS:
            counts.rows += len(held)
            yield [pa.array(column, pa.string()) for column in zip(*held, strict=True)]
            held = []
    if held:
        counts.rows += len(held)
        yield [pa.array(column, pa.string()) for column in zip(*held, strict=True)]
