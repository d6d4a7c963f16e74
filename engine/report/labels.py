"""Names of devices and number formats without the overridden fields, where the bare name says enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa

NAMED: Final = ("hardware", "quantization", "model")


def short_labels(labels: Iterable[str]) -> dict[str, str]:
    """Long name -> short one, for those whose short one no other name has.

    `h100-sxm-80gb{price=3 USD/h}` is called `h100-sxm-80gb`: what was overridden stands in the spec and in
    the assumptions, and a picture has no room for it.
    """
    known = list(dict.fromkeys(labels))
    bare = {label: label.partition("{")[0] if label.endswith("}") else label for label in known}
    counts: dict[str, int] = {}
    for short in bare.values():
        counts[short] = counts.get(short, 0) + 1
    return {label: short for label, short in bare.items() if short != label and short and counts[short] == 1}


def with_short_labels(table: pa.Table) -> tuple[pa.Table, dict[str, dict[str, str]]]:
    """The table of points with short names, and by column which name became which."""
    import pyarrow as pa
    import pyarrow.compute as pc

    renamed: dict[str, dict[str, str]] = {}
    for name in NAMED:
        if name not in table.column_names:
            continue
        plain = table[name].cast(pa.string())
        short = short_labels(label for label in pc.unique(plain).to_pylist() if label)
        if short:
            values = pa.array([short.get(value, value) for value in plain.to_pylist()], pa.string())
            place = table.column_names.index(name)
            table = table.set_column(place, name, values.cast(table[name].type))
            renamed[name] = short
    return table, renamed


def renamed_label(renamed: Mapping[str, Mapping[str, str]], name: str, label: str) -> str:
    """What a name of the plan is called in the report."""
    return renamed.get(name, {}).get(label, label)
