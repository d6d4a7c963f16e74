"""Tables of timings from outside as columns: a CSV or Parquet file with its columns renamed, or a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import UsageError
from engine.perfmodel.measured_table import Measured

if TYPE_CHECKING:
    import pandas as pd

UNITS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_TEXTS: Final = ("device", "engine", "engine_version", "operator", "precision")
# Names that public tables of operator times use.
_SYNONYMS: Final = {
    "op": "operator", "hardware": "device", "source_version": "engine_version", "framework": "engine",
    "measured_us": "time_us", "measured_ms": "time_ms", "latency": "time_ms", "latency_ms": "time_ms",
    "latency_us": "time_us", "time": "time_s",
}  # fmt: skip
_PRECISIONS: Final = {
    "float32": "fp32", "float": "fp32", "f32": "fp32", "float16": "fp16", "half": "fp16", "f16": "fp16",
    "bfloat16": "bf16", "float8": "fp8", "fp8_e4m3": "fp8", "fp8_block": "fp8",
}  # fmt: skip
"""Number types as torch and others call them."""
_ENGINE_AND_VERSION: Final = re.compile(r"([A-Za-z_]+)-(v?[0-9].*)")
_LONGEST_HEADER: Final = 100_000
_MOST_ROWS: Final = 5_000_000


def read_measured(
    path: Path, *, columns: Mapping[str, str] | None = None, constants: Mapping[str, str] | None = None
) -> Measured:
    """The timings of a file; `columns` names the file's column for each of ours, `constants` what all rows
    share. Raises `UsageError` when it is not a table of timings."""
    return measured_of(read_named(path, columns=columns, constants=constants), source=str(path))


def read_named(
    path: Path, *, columns: Mapping[str, str] | None = None, constants: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """A file as a data frame with its columns renamed to ours; raises `UsageError` when it is no table."""
    table = _read(path)
    wanted = {theirs: ours for ours, theirs in (columns or {}).items()}
    absent = [name for name in wanted if name not in table.columns]
    if absent:
        known = ", ".join(map(str, table.columns[:20]))
        raise UsageError(f"`{path}` has no column `{absent[0]}`", hint=f"columns: {known}")
    table = table.rename(columns=wanted)
    table = table.loc[:, ~table.columns.duplicated()].copy()
    for name, value in (constants or {}).items():
        table[name] = value
    return table


def measured_of(table: pd.DataFrame, *, source: str) -> Measured:
    """A data frame with our column names; raises `UsageError` when it lacks what every row needs."""
    import numpy as np
    import pandas as pd

    taken = set(map(str, table.columns))
    named = {n: _SYNONYMS[n] for n in map(str, table.columns) if n in _SYNONYMS and _SYNONYMS[n] not in taken}
    table = table.rename(columns=named)
    table = table.loc[:, ~table.columns.duplicated()]
    times = [f"time_{unit}" for unit in UNITS if f"time_{unit}" in table]
    if len(times) > 1:
        raise UsageError(
            f"`{source}` has times in {' and in '.join(f'`{name}`' for name in times)}",
            hint="keep one of them: nothing says which one is right",
        )
    for unit, factor in UNITS.items():
        if unit != "s" and f"time_{unit}" in table and "time_s" not in table:
            table = table.assign(time_s=pd.to_numeric(table[f"time_{unit}"], errors="coerce") * factor)
    missing = [name for name in ("operator", "precision", "device", "time_s") if name not in table]
    if missing:
        raise UsageError(
            f"`{source}` has no column for {', '.join(f'`{name}`' for name in missing)}",
            hint="name it with `--column OURS=THEIRS`, or give one value to all rows with `--constant`",
        )
    texts: dict[str, Any] = {}
    for name in _TEXTS:
        column = table[name] if name in table else pd.Series([""] * len(table))
        texts[name] = column.astype(object).where(column.notna(), "").astype(str).to_numpy()
    texts["precision"] = np.array([_PRECISIONS.get(t.lower(), t) for t in texts["precision"]], dtype=object)
    _split_versions(texts)
    numbers = {
        str(name): pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
        for name in table.columns
        if name not in _TEXTS
    }
    return Measured(texts, numbers)


def _split_versions(texts: dict[str, Any]) -> None:
    """`vllm-0.14.0` in a version column names the engine too."""
    for i, (engine, version) in enumerate(zip(texts["engine"], texts["engine_version"], strict=True)):
        found = _ENGINE_AND_VERSION.fullmatch(version) if not engine else None
        if found is not None:
            texts["engine"][i], texts["engine_version"][i] = found[1], found[2]


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline(_LONGEST_HEADER)
        # Spreadsheets of half the world separate by semicolons, because the comma is in their numbers.
        mark = max(",;\t", key=first.count)
        decimal = "," if mark == ";" else "."
        return pd.read_csv(
            path, nrows=_MOST_ROWS, low_memory=False, encoding="utf-8-sig", sep=mark, decimal=decimal
        )
    except (OSError, ValueError, UnicodeDecodeError) as err:
        raise UsageError(f"cannot read `{path}` as a table: {err}") from err
