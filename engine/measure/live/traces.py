"""Traces in the columns of the concurrency profiler: read, written again without loss, and judged honestly.

Its files do not say at which concurrency a request ran; levels are found where the numbering starts again.
Its rates are sums over requests, which is a throughput only when the requests overlapped.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from engine.errors import UsageError
from engine.measure.live.statistics import document_percentile, percentile

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "CSV_COLUMNS", "LevelResult", "Trace", "document_metrics", "level_results", "levels_of", "read_traces",
    "spoken", "traces_csv", "traces_json", "traces_of_run",
]  # fmt: skip

GIB: Final = 1024**3
_LARGEST_FILE: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Trace:
    """One request as the profiler's files hold it; bytes are None where nothing was measured."""

    request_id: int
    seq_prompt: int
    seq_generate: int
    total_latency_s: float
    tokens_per_s: float
    peak_alloc_bytes: int | None
    peak_reserved_bytes: int | None
    backend: str
    model: str
    timestamp: float
    """Start of the request, seconds since 1970."""
    error: str | None = None
    concurrency: int | None = None
    """Our addition: requests in flight at that level."""

    @property
    def good(self) -> bool:
        """It ended without an error."""
        return not self.error


CSV_COLUMNS: Final = (
    "request_id", "seq_prompt", "seq_generate", "total_latency_s", "tokens_per_s", "peak_alloc_bytes",
    "peak_reserved_bytes", "peak_alloc_gb", "peak_reserved_gb", "backend", "model", "timestamp", "error",
)  # fmt: skip
"""The profiler's own columns; `*_gb` are GiB."""
_OF_JSON: Final = tuple(name for name in CSV_COLUMNS if not name.endswith("_gb"))


def read_traces(path: Path) -> list[Trace]:
    """Traces from a CSV or JSON file of the profiler, or ours; raises `UsageError` naming what is wrong."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(f"`{path.name}` is larger than 256 MiB")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise UsageError(f"`{path}` cannot be read: {err}") from err
    if text.lstrip()[:1] == "{":
        return _from_json(text, path.name)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if not rows or "request_id" not in rows[0]:
        raise UsageError(f"`{path.name}` is no trace: it has no column `request_id`")
    return [_trace(row, f"row {number} of `{path.name}`") for number, row in enumerate(rows, start=2)]


def _from_json(text: str, name: str) -> list[Trace]:
    try:
        found = json.loads(text)
    except ValueError as err:
        raise UsageError(f"`{name}` is not JSON: {err}") from err
    rows = found.get("traces") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"`{name}` is no trace: it has no list `traces`")
    return [_trace(row, f"trace {number} of `{name}`") for number, row in enumerate(rows)]


def _trace(row: Mapping[str, Any], where: str) -> Trace:
    def number(key: str, kind: Callable[[Any], Any]) -> Any:
        value = row.get(key)
        if value in (None, ""):
            return None
        try:
            found = kind(value)
        except (TypeError, ValueError) as err:
            raise UsageError(f"{where}: `{key}` is `{str(value)[:40]}`, not a number") from err
        if isinstance(found, float) and not math.isfinite(found):
            raise UsageError(f"{where}: `{key}` is not a finite number")
        return found

    needed = {key: number(key, int) for key in ("request_id", "seq_prompt", "seq_generate")}
    needed |= {key: number(key, float) for key in ("total_latency_s", "tokens_per_s", "timestamp")}
    lacking = [key for key, value in needed.items() if value is None]
    if lacking:
        raise UsageError(f"{where} has no `{lacking[0]}`")
    return Trace(
        **needed,
        peak_alloc_bytes=number("peak_alloc_bytes", int),
        peak_reserved_bytes=number("peak_reserved_bytes", int),
        backend=str(row.get("backend") or ""),
        model=str(row.get("model") or ""),
        error=str(row["error"]) if row.get("error") else None,
        concurrency=number("concurrency", int),
    )


def traces_csv(traces: Sequence[Trace]) -> str:
    """The profiler's thirteen columns, and `concurrency` where it is known."""
    known = any(trace.concurrency is not None for trace in traces)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*CSV_COLUMNS, *(["concurrency"] if known else [])])
    for trace in traces:
        row = [_cell(trace, name) for name in CSV_COLUMNS]
        writer.writerow([*row, *([trace.concurrency] if known else [])])
    return stream.getvalue()


def _cell(trace: Trace, name: str) -> Any:
    if name.endswith("_gb"):
        value = getattr(trace, name.replace("_gb", "_bytes"))
        return "" if value is None else value / GIB
    value = getattr(trace, name)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{value}"  # a spreadsheet would run it
    return "" if value is None else value


def traces_json(traces: Sequence[Trace], *, timestamp: float) -> str:
    """Traces, metrics and the time of writing, as the profiler lays them out."""
    known = any(trace.concurrency is not None for trace in traces)
    names = [*_OF_JSON, *(["concurrency"] if known else [])]
    found = {
        "traces": [{name: getattr(trace, name) for name in names} for trace in traces],
        "metrics": document_metrics(traces),
        "timestamp": timestamp,
    }
    return json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False)


def document_metrics(
    traces: Sequence[Trace], *, rule: Literal["document", "interpolated"] = "document"
) -> dict[str, Any]:
    """The profiler's metrics; only the first four when no request ended well.

    `rule` chooses how percentiles are taken: the value at index int(n x q), or between neighbours.
    """
    good = [trace for trace in traces if trace.good]
    found: dict[str, Any] = {
        "total_requests": len(traces),
        "successful_requests": len(good),
        "failed_requests": len(traces) - len(good),
        "error_rate": (len(traces) - len(good)) / len(traces) if traces else 0.0,
    }
    if not good:
        return found
    latencies = sorted(trace.total_latency_s for trace in good)
    rates = [trace.tokens_per_s for trace in good]
    at = document_percentile if rule == "document" else percentile
    found |= {
        "mean_latency_s": sum(trace.total_latency_s for trace in good) / len(good),
        "min_latency_s": latencies[0],
        "max_latency_s": latencies[-1],
        "p50_latency_s": at(latencies, 50),
        "p95_latency_s": at(latencies, 95),
        "p99_latency_s": at(latencies, 99),
        "mean_tokens_per_s": sum(rates) / len(rates),
        "total_tokens_per_s": sum(rates),
        "min_tokens_per_s": min(rates),
        "max_tokens_per_s": max(rates),
    }
    return found | _memory(good)


def _memory(good: Sequence[Trace]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    columns = {
        name: [v for trace in good if (v := getattr(trace, f"peak_{name}_bytes")) is not None]
        for name in ("alloc", "reserved")
    }
    for name, values in columns.items():
        found[f"peak_{name}_bytes"] = max(values) if values else None
    for name, values in columns.items():
        found[f"peak_{name}_gb"] = max(values) / GIB if values else None
    for name, values in columns.items():
        found[f"mean_{name}_bytes"] = sum(values) / len(values) if values else None
    return found


def levels_of(traces: Sequence[Trace]) -> list[list[Trace]]:
    """Requests by level: where `concurrency` changes, or where `request_id` starts again.

    A failed request of the profiler always has the number 0; it stays in the level it stands in.
    """
    found: list[list[Trace]] = []
    for trace in traces:
        if not found or _starts_level(found[-1], trace):
            found.append([])
        found[-1].append(trace)
    return found


def _starts_level(level: Sequence[Trace], trace: Trace) -> bool:
    if trace.concurrency is not None or level[-1].concurrency is not None:
        return trace.concurrency != level[-1].concurrency
    if not trace.good and trace.request_id == 0 and trace.seq_generate == 0:
        return False
    return trace.request_id == 0 and any(t.good for t in level)


@dataclass(frozen=True)
class LevelResult:
    """What one level did; rates are None without a good request."""

    concurrency: int
    """As recorded, else the number of requests of the level."""
    completed: int
    total: int
    average_latency_s: float | None
    sum_of_rates: float | None
    """Sum of per-request rates: the profiler's "total throughput"."""
    wall_rate: float | None
    """All tokens over the time from the first start to the last end; the mean over repeats."""
    peak_bytes: int | None
    """None where nothing was measured: the profiler writes 0 on a CPU."""
    serial: bool
    """More than one request, and no two of them overlapped."""
    errors: tuple[str, ...]
    served: bool = False
    """By a server, which may have an accelerator that nobody sees from here."""


def level_results(traces: Sequence[Trace]) -> list[LevelResult]:
    """Each level of a trace, in order."""
    return [_level(level) for level in levels_of(traces)]


def _level(level: Sequence[Trace]) -> LevelResult:
    good = [trace for trace in level if trace.good]
    told = level[0].concurrency
    rates = [t.tokens_per_s for t in good]
    # The profiler sends one wave of requests; of many waves as many are in flight as their number says.
    waves = len(good) / min(told or len(good), len(good)) if good else 1.0
    walls = [rate for repeat in _repeats(level) if (rate := _wall_rate(repeat)) is not None]
    ordered = sorted(good, key=lambda t: t.timestamp)
    # 1 % of slack: a request that starts as another ends did not overlap it.
    overlap = any(
        b.timestamp < a.timestamp + 0.99 * a.total_latency_s for a, b in itertools.pairwise(ordered)
    )
    peaks = [t.peak_alloc_bytes for t in good if t.peak_alloc_bytes]
    return LevelResult(
        concurrency=told or len(level),
        completed=len(good),
        total=len(level),
        average_latency_s=sum(t.total_latency_s for t in good) / len(good) if good else None,
        sum_of_rates=sum(rates) / waves if good else None,
        wall_rate=sum(walls) / len(walls) if walls else None,
        peak_bytes=max(peaks, default=None),
        serial=len(good) > 1 and not overlap,
        errors=tuple(t.error for t in level if t.error),
        served=level[0].backend == "openai",
    )


def spoken(result: LevelResult, *, document: bool = False) -> str:
    """A level in words: with every number named, or in the four lines the profiler prints."""
    if document:
        return _as_document(result)
    lines = [f"concurrency {result.concurrency}: completed {result.completed}/{result.total}"]
    if result.average_latency_s is not None:
        lines[0] += f", average latency {result.average_latency_s:.3f} s"
    if result.wall_rate is not None:
        lines[0] += f", throughput {result.wall_rate:.2f} tok/s"
    if result.sum_of_rates is not None:
        lines[0] += f" (sum of per-request rates (document): {result.sum_of_rates:.2f})"
    memory = "not measured (the server's own)" if result.served else "not measured (no accelerator)"
    if result.peak_bytes is not None:
        memory = f"{result.peak_bytes / GIB:.2f} GiB"
    lines[0] += f", peak memory {memory}"
    if result.serial:
        lines.append(
            "  warning [serial-execution]: no two requests of this level overlapped, so the sum of their "
            "rates is no throughput"
        )
    lines += [f"  failed: {error}" for error in dict.fromkeys(result.errors)]
    return "\n".join(lines)


def _as_document(result: LevelResult) -> str:
    lines = [
        f"🔄 Running concurrency level: {result.concurrency}",
        f"  ✅ Completed {result.completed}/{result.total} requests",
    ]
    if result.average_latency_s is not None and result.sum_of_rates is not None:
        lines += [
            f"  📊 Avg latency: {result.average_latency_s:.3f}s",
            f"  🚀 Total throughput: {result.sum_of_rates:.1f} tok/s",
        ]
    peak = "not measured" if result.served else "0.00 GB (CPU mode)"
    if result.peak_bytes is not None:
        peak = f"{result.peak_bytes / GIB:.2f} GB"
    lines.append(f"  💾 Peak memory: {peak}")
    return "\n".join(lines)


def _repeats(level: Sequence[Trace]) -> list[list[Trace]]:
    """The measurements of a level whose concurrency is told: numbers start again with each, and other levels
    may have run in between."""
    found: list[list[Trace]] = []
    for trace in level:
        if not found or (trace.concurrency is not None and trace.request_id <= found[-1][-1].request_id):
            found.append([])
        found[-1].append(trace)
    return found


def _wall_rate(traces: Sequence[Trace]) -> float | None:
    good = [trace for trace in traces if trace.good]
    start = min((t.timestamp for t in good), default=0.0)
    wall = max((t.timestamp + t.total_latency_s for t in good), default=0.0) - start
    return sum(t.seq_generate for t in good) / wall if wall > 0 else None


def traces_of_run(requests: pa.Table, *, model: str, backend: str) -> list[Trace]:
    """Measured requests of a run as traces, levels in the order of their concurrency."""
    rows = [
        row
        for row in requests.to_pylist()
        if row["run_phase"] in ("measured", "drain") and "generate()" not in (row["variant"] or "")
    ]
    rows.sort(key=lambda row: (row["point"], _concurrency(row["variant"]) or 0, row["variant"], row["repeat"],
                               row["request"]))  # fmt: skip
    return [_of_row(row, model=model, backend=backend) for row in rows]


def _of_row(row: Mapping[str, Any], *, model: str, backend: str) -> Trace:
    good = row["outcome"] == "ok"
    end = row["last_token_s"] if row["last_token_s"] is not None else row["done_s"]
    latency = max(0.0, end - row["sent_s"]) if good else 0.0
    tokens = (row["output_tokens"] or 0) if good else 0
    return Trace(
        request_id=row["request"],
        seq_prompt=row["prompt_tokens"] or row["prompt_tokens_asked"] or 0,
        seq_generate=tokens,
        total_latency_s=latency,
        tokens_per_s=tokens / latency if latency > 0 else 0.0,
        peak_alloc_bytes=row["allocated_peak_bytes"],
        peak_reserved_bytes=row["reserved_peak_bytes"],
        backend=backend,
        model=model,
        timestamp=row["epoch_s"],
        error=None if good else f"{row['error_class']}: {row['error']}",
        concurrency=_concurrency(row["variant"]),
    )


def _concurrency(variant: str | None) -> int | None:
    words = (variant or "").split()
    return int(words[1]) if len(words) > 1 and words[0] == "concurrency" and words[1].isdigit() else None
