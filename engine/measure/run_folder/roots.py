"""Several folders read one after the other, as one set of tables that tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.results.tables import Tables


def joined(parts: Sequence[tuple[str, Tables]]) -> Tables:
    """One set of tables; with several roots each point is marked with its own, so that they compare."""
    from engine.results.tables import concatenate

    if len(parts) == 1:
        return parts[0][1]
    names = [name for part in parts for name in part[1]]
    moved = _moved(parts)
    return {
        name: concatenate(name, [tables[name] for tables in moved if name in tables])
        for name in dict.fromkeys(names)
    }


def _moved(parts: Sequence[tuple[str, Tables]]) -> list[dict[str, pa.Table]]:
    """Each part with its points counted on from the part before and its root in settings and labels."""
    found = []
    first = 0
    for number, (root, tables) in enumerate(parts):
        label = root if [name for name, _ in parts].count(root) == 1 else f"{root} #{number + 1}"
        found.append({name: _labelled(name, table, first, label) for name, table in tables.items()})
        first += tables["points"].num_rows
    return found


def _labelled(name: str, table: pa.Table, first: int, root: str) -> pa.Table:
    import pyarrow.compute as pc

    at = table.column_names.index("point")
    table = table.set_column(at, "point", pc.add(table["point"], first))
    prefixed = {"points": (), "files": ("run", "file"), "findings": ("evidence",), "samples": ("device",)}
    for column in prefixed.get(name, ("variant",)):
        table = _texts(table, column, lambda text: None if text is None else f"{root}/{text}")
    if name == "points":
        table = _texts(table, "settings", lambda text: f"root={root}" + (f", {text}" if text else ""))
    return table


def _texts(table: pa.Table, column: str, change: Any) -> pa.Table:
    import pyarrow as pa

    values = pa.array([change(text) for text in table[column].to_pylist()], pa.string())
    kind = table.schema.field(column).type
    values = values.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else values
    return table.set_column(table.column_names.index(column), column, values)
