"""Rows of a sheet as XML: openpyxl lays out the book, but takes 20 µs a cell; this takes one.

Reference: ECMA-376 part 1, 18.3.1.4 (cell), 18.3.1.73 (row). Text is always an inline string, which no
spreadsheet takes for a formula.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

_ROW: Final = re.compile(rb'(<row [^>]*?r=")(\d+)(")|(<c r="[A-Z]+)(\d+)(")')


@dataclass(frozen=True)
class CellColumn:
    """How one column is written."""

    letter: str
    style: int
    """Number of the cell format in the book."""
    number: bool
    factor: float = 1.0
    """A number is divided by it."""


def rows_xml(
    first: int,
    rows: Iterable[Sequence[Any]],
    columns: Sequence[CellColumn],
    *,
    live: Callable[[int, int, Sequence[Any]], tuple[str, Any] | None],
    text: Callable[[str], str],
) -> Iterator[str]:
    """One `<row>` after another. `live(column, row number, values)` is the formula of a cell and its result,
    or None for a plain value; `text` makes a text fit for a cell."""
    for number, row in enumerate(rows, start=first):
        width = len(row)
        cells = []
        for i, column in enumerate(columns):
            formula = live(i, number, row)
            if formula is not None:
                cells.append(_formula(column, number, *formula))
            elif i < width:
                cells.append(_plain(column, number, row[i], text))
        yield f'<row r="{number}">{"".join(cells)}</row>'


def _plain(column: CellColumn, number: int, value: Any, text: Callable[[str], str]) -> str:
    """A cell with a value; nothing at all where nothing is known."""
    if value is None:
        return ""
    place = f'<c r="{column.letter}{number}" s="{column.style}"'
    if value is True or value is False:
        return f'{place} t="b"><v>{int(value)}</v></c>'
    if column.number and isinstance(value, int | float):
        if not math.isfinite(value):
            return ""
        shown = value if column.factor == 1.0 else value / column.factor
        return f"{place}><v>{shown!r}</v></c>"
    return f'{place} t="inlineStr"><is><t xml:space="preserve">{escape(text(str(value)))}</t></is></c>'


def _formula(column: CellColumn, number: int, formula: str, result: Any) -> str:
    place = f'<c r="{column.letter}{number}" s="{column.style}"'
    body = f"<f>{escape(formula.removeprefix('='))}</f>"
    if result is None:
        return f"{place}>{body}</c>"
    if isinstance(result, str):
        return f'{place} t="str">{body}<v>{escape(result)}</v></c>'
    return f"{place}>{body}<v>{float(result)!r}</v></c>"


def put_rows(content: bytes, marker: str, rows: bytes, *, count: int) -> bytes:
    """A sheet whose row with the text `marker` is replaced by `count` rows; what follows moves down."""
    found = re.search(rb"<row [^>]*>(?:(?!</row>).)*?" + marker.encode() + rb".*?</row>", content, re.S)
    if found is None:
        return content
    end = content.find(b"</sheetData>", found.end())

    def moved(match: re.Match[bytes]) -> bytes:
        before, at, after = match.group(1, 2, 3) if match.group(2) else match.group(4, 5, 6)
        return before + str(int(at) + count - 1).encode() + after

    return content[: found.start()] + rows + _ROW.sub(moved, content[found.end() : end]) + content[end:]
