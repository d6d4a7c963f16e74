"""Small summary tables for the tests of scoring."""

from typing import Any

import pyarrow as pa

from engine.results.tables import make_table


def summary(**columns: list[Any]) -> pa.Table:
    """Rows 0, 1, 2... predicted for a request, ok unless said otherwise."""
    size = len(next(iter(columns.values())))
    same = {"source": "predicted", "phase": "request", "status": "ok"}
    filled = {name: [text] * size for name, text in same.items()}
    return make_table("summary", {"point": list(range(size)), **filled, **columns})


def points(size: int, **columns: list[Any]) -> pa.Table:
    """Points 0, 1, 2... with some settings."""
    return make_table("points", {"point": list(range(size)), **columns})
