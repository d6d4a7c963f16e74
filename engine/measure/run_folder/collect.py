"""Runs -> tables: configurations become points, runs become rows, repeats stay repeats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from engine.measure.run_folder.files import FileRow
from engine.measure.run_folder.record import Note
from engine.measure.run_folder.run import Row, RunResult
from engine.metrics import METRICS
from engine.results.tables import concatenate, make_table

if TYPE_CHECKING:
    from engine.results.tables import Tables

_MOST_FINDINGS: Final = {"note": 50, "warning": 500, "error": 500}
_LARGEST_COUNT: Final = 10**12
"""What a log says beyond it is a fault of the log."""
_ADVICE: Final = {
    "unknown-model": "models:\n  {run}: {{parameters: 7e9}}",
    "zone-difference": 'zone: "+00:00"   # or clock_offset',
}


@dataclass(frozen=True)
class Configuration:
    """One design point among the runs."""

    point: int
    model: str | None
    hardware: str | None
    quantization: str | None
    counts: Mapping[str, int]
    """prompt_tokens, output_tokens, batch_size, tensor: medians where repeats differ."""
    settings: str | None
    """concurrency, labels and other levels, as `name=value`."""
    catalog_model: str | None
    """What a catalogue look-up should try."""
    catalog_hardware: str | None


@dataclass(frozen=True)
class Collected:
    """All rows with their points."""

    configurations: tuple[Configuration, ...]
    rows: tuple[tuple[int, str, Row], ...]
    """(point, variant, row)."""


def collect(runs: Sequence[RunResult]) -> Collected:
    """The configurations of the runs, in order of appearance, and which row belongs to which."""
    keys: dict[tuple[object, ...], int] = {}
    members: list[list[tuple[RunResult, Row]]] = []
    rows: list[tuple[int, str, Row]] = []
    for run in runs:
        for row in run.rows:
            key = _key(run, row)
            point = keys.setdefault(key, len(keys))
            if point == len(members):
                members.append([])
            members[point].append((run, row))
            rows.append((point, _variant(run, row), row))
    return Collected(tuple(_configuration(i, group) for i, group in enumerate(members)), tuple(rows))


def _variant(run: RunResult, row: Row) -> str:
    """`llama_7b/batch_4`, with the file and the test behind it where a run has several."""
    return ": ".join(part for part in (run.run.name, row.file, row.label) if part)


def _key(run: RunResult, row: Row) -> tuple[object, ...]:
    """What makes two rows repeats of one configuration: what the folders say but the repeat, and the test."""
    place = run.run.place
    counts = {name: count for name, count in place.counts.items() if name != "repeat"}
    return (
        place.model or run.run.name,
        row.settings.get("model") or run.texts.get("model"),
        run.hardware or run.texts.get("hardware"),
        run.texts.get("quantization"),
        tuple(sorted(counts.items())),
        tuple(sorted(place.texts.items())),
        _test(row),
        # Logs side by side and requests of one log need not be repeats.
        row.settings.get("prompt_tokens") if row.file or row.label != _test(row) else None,
    )


def _test(row: Row) -> str:
    """The test of a row; requests of one log are repeats of one test."""
    return "" if row.label.startswith("request ") else row.label


def _configuration(point: int, group: Sequence[tuple[RunResult, Row]]) -> Configuration:
    run = group[0][0]
    counts: dict[str, int] = {}
    for name in ("prompt_tokens", "output_tokens", "batch_size", "tensor"):
        found = (row.settings.get(name) for _, row in group)
        values = [count for count in found if isinstance(count, int) and 0 < count < _LARGEST_COUNT]
        if values:
            counts[name] = int(median(values))
    first = group[0][1].settings
    extra = {
        k: v for k, v in first.items() if k not in (*counts, "repeat", "model", "hardware", "quantization")
    }
    extra |= {k: v for k, v in run.texts.items() if k == "label"}
    if extra.get("concurrency") == counts.get("batch_size"):
        extra.pop("concurrency", None)  # the folder's batch and the log's concurrency are one thing
    test = _test(group[0][1])
    if test and test != "whole run":
        extra.setdefault("test", test)
    own = first.get("model")
    return Configuration(
        point,
        str(own) if own else run.texts.get("model"),
        run.hardware or _text(first.get("hardware")) or run.texts.get("hardware"),
        _text(first.get("quantization")) or run.texts.get("quantization"),
        counts,
        ", ".join(f"{k}={v}" for k, v in sorted(extra.items())) or None,
        run.run.place.catalog or (str(own) if own else run.texts.get("model")),
        run.hardware,
    )


def _text(value: int | str | None) -> str | None:
    return str(value) if value is not None else None


def points_table(configurations: Sequence[Configuration]) -> Any:
    """The points found, numbered from 0."""
    names = ("prompt_tokens", "output_tokens", "batch_size", "tensor")
    columns: dict[str, list[Any]] = {
        "point": [c.point for c in configurations],
        "model": [c.model for c in configurations],
        "hardware": [c.hardware for c in configurations],
        "quantization": [c.quantization for c in configurations],
        "settings": [c.settings for c in configurations],
    }
    columns |= {name: [c.counts.get(name) for c in configurations] for name in names}
    return make_table("points", columns)


def summary_table(collected: Collected) -> Any:
    """One row per result and phase, metrics wide."""
    rows = collected.rows
    metrics = sorted({m for _, _, row in rows for m in row.values.values if m in METRICS})
    columns: dict[str, list[Any]] = {
        "point": [point for point, _, _ in rows],
        "source": ["run_folder"] * len(rows),
        "phase": [row.phase for _, _, row in rows],
        "variant": [variant for _, variant, _ in rows],
        "basis": ["measured" if row.ok else None for _, _, row in rows],
        "status": ["ok" if row.ok else "failed" for _, _, row in rows],
        "reason": [row.reason or None for _, _, row in rows],
    }
    for metric in metrics:
        columns[metric] = [row.values.values.get(metric) for _, _, row in rows]
        if any(metric in row.values.low_high for _, _, row in rows):
            bands = [row.values.low_high.get(metric, (None, None)) for _, _, row in rows]
            columns[f"{metric}_low"] = [low for low, _ in bands]
            columns[f"{metric}_high"] = [high for _, high in bands]
    return make_table("summary", columns)


def origins_table(collected: Collected) -> Any:
    """Where each value comes from, and why others are absent."""
    found: list[tuple[int, str, str, str, str, str | None, str | None]] = []
    for point, variant, row in collected.rows:
        own = row.values
        for metric in own.values:
            how = own.how.get(metric)
            found.append(
                (point, variant, row.phase, metric, "derived" if how else "read", how, own.files.get(metric))
            )
        found += [(point, variant, row.phase, m, "absent", why, None) for m, why in own.absent.items()]
    names = ("point", "variant", "phase", "metric", "origin", "how", "file")
    return make_table("origins", {name: [entry[i] for entry in found] for i, name in enumerate(names)})


def files_table(runs: Sequence[RunResult], loose: Sequence[FileRow], points: Mapping[str, int]) -> Any:
    """One row per file, read or not."""
    rows: list[tuple[int | None, str | None, FileRow]] = [
        (points.get(run.run.name), run.run.name, file) for run in runs for file in run.files
    ]
    rows += [(None, None, file) for file in loose]
    return make_table(
        "files",
        {
            "point": [point for point, _, _ in rows],
            "run": [run for _, run, _ in rows],
            "file": [f.name for _, _, f in rows],
            "format": [f.format for _, _, f in rows],
            "status": [f.status for _, _, f in rows],
            "reason": [f.reason or None for _, _, f in rows],
            "rows_read": [f.rows_read for _, _, f in rows],
            "rows_dropped": [f.rows_dropped for _, _, f in rows],
            "size_bytes": [f.size_bytes for _, _, f in rows],
            "encoding": [f.encoding for _, _, f in rows],
            "interval_s": [f.interval_s for _, _, f in rows],
            "devices": [f.devices for _, _, f in rows],
            "warnings": [_warnings(f) for _, _, f in rows],
        },
    )


def _warnings(file: FileRow) -> str | None:
    texts = [f"line {n.line}: {n.text}" if n.line else n.text for n in file.notes]
    return "\n".join(dict.fromkeys(texts)) or None


def findings_table(
    runs: Sequence[RunResult], points: Mapping[str, int], extra: Iterable[tuple[str, Note]] = ()
) -> Any:
    """Diagnostics, each with its rule, file and line."""
    rows: list[tuple[int | None, str, str, str, str, str | None]] = []
    for run in runs:
        for place, note in run.notes:
            rows.append((points.get(run.run.name), *_finding(place, note, run.run.place.model)))
    rows += [(None, *_finding(place, note, None)) for place, note in extra]
    rows = _not_too_many(rows)
    names = ("point", "rule", "severity", "finding", "evidence", "change")
    return make_table("findings", {name: [row[i] for row in rows] for i, name in enumerate(names)})


def _not_too_many(
    rows: Sequence[tuple[int | None, str, str, str, str, str | None]],
) -> list[tuple[int | None, str, str, str, str, str | None]]:
    """The first findings of each rule, and how many more there are: nobody reads a thousand notes."""
    counts: dict[tuple[str, str], int] = {}
    kept = []
    for row in rows:
        key = (row[1], row[2])
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= _MOST_FINDINGS[row[2]]:
            kept.append(row)
    for (rule, severity), count in counts.items():
        more = count - _MOST_FINDINGS[severity]
        if more > 0:
            text = f"{more:,} more findings of this rule; the table of files names them file by file"
            kept.append((None, rule, severity, text, "", None))
    return kept


def _finding(place: str, note: Note, model: str | None) -> tuple[str, str, str, str, str | None]:
    evidence = f"{place}:{note.line}" if note.line else place
    advice = _ADVICE.get(note.code)
    return note.code, note.severity, note.text, evidence, advice.format(run=model) if advice else None


def samples_table(runs: Sequence[RunResult], points: Mapping[str, int]) -> Any:
    """Thinned readings for charts."""
    parts = [
        make_table(
            "samples",
            {
                "point": [points.get(run.run.name)] * len(s.time_s),
                "device": [f"{run.run.name}: {s.device}"] * len(s.time_s),
                "time_s": s.time_s,
                s.column: s.value,
                "phase": ["request" if inside else "idle" for inside in s.in_window],
            },
        )
        for run in runs
        for s in run.samples
    ]
    return concatenate("samples", parts)


def first_points(collected: Collected, runs: Sequence[RunResult]) -> dict[str, int]:
    """Run -> the point of its first row."""
    found: dict[str, int] = {}
    rows = iter(collected.rows)
    for run in runs:
        for _ in run.rows:
            point, _, _ = next(rows)
            found.setdefault(run.run.name, point)
    return found


def tables_of(
    runs: Sequence[RunResult],
    loose: Sequence[FileRow],
    collected: Collected,
    extra: Sequence[tuple[str, Note]] = (),
) -> Tables:
    """Every table but predictions and custom metrics; `extra` are findings about no run."""
    points = first_points(collected, runs)
    stray = [(file.name, note) for file in loose for note in file.notes if note.severity != "note"]
    stray += extra
    return {
        "points": points_table(collected.configurations),
        "summary": summary_table(collected),
        "origins": origins_table(collected),
        "files": files_table(runs, loose, points),
        "findings": findings_table(runs, points, stray),
        "samples": samples_table(runs, points),
    }
