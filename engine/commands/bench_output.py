"""What `engine bench` prints and writes: a line a load, traces, figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.measure.live.traces import LevelResult, Trace, level_results, levels_of, spoken

if TYPE_CHECKING:
    from engine.report.live_figures import Figure
    from engine.run.stored import StoredRun

__all__ = ["figures_of_traces", "load_lines", "rows_of", "write_outputs"]

Row = Mapping[str, Any]


def rows_of(stored: StoredRun) -> list[dict[str, Any]]:
    """Request rows of the live measurement with the settings of their point, in a readable order."""
    points = {row["point"]: row for row in stored.store.read(stored.plan, "summary").to_pylist()}
    settings = {p: stored.plan.point(p).workload for p in points if p is not None}
    found = []
    for row in stored.store.read(stored.plan, "summary").to_pylist():
        # A task that failed before its first load has no load to show; why it failed has been said.
        if row["source"] != "live" or row["phase"] != "request" or row["variant"] is None:
            continue
        workload = settings[row["point"]]
        row |= {"concurrency": _concurrency(row["variant"]), "prompt_tokens": workload.prompt_tokens}
        found.append(row)
    found.sort(key=lambda row: (row["prompt_tokens"], "generate()" in row["variant"], row["concurrency"]))
    return found


def _concurrency(variant: str) -> int:
    words = variant.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 1


def load_lines(rows: Sequence[Row], *, verbose: bool, served: bool = False) -> Iterator[str]:
    """Each load in one line; with `verbose` also as the concurrency profiler prints it. `served`: by another
    process, whose memory is not seen."""
    several = len({row["prompt_tokens"] for row in rows}) > 1
    for row in rows:
        head = f"{row['prompt_tokens']} prompt tokens, " if several else ""
        yield head + _line(row, served=served)
        if verbose:
            yield spoken(_level(row, served=served), document=True)


def _line(row: Row, *, served: bool) -> str:
    done, failed = int(row["completed_requests"] or 0), int(row["failed_requests"] or 0)
    text = f"{row['variant']}: completed {done}/{done + failed}"
    if row["status"] != "ok":
        text += f" [{row['status']}] {row['reason']}"
    if row.get("e2e_s") is None:
        return text
    text += f", average latency {_with_interval(row, 'e2e_s')} s"
    text += f", throughput {_with_interval(row, 'wall_output_tokens_per_s')} tok/s"
    if row.get("sum_of_request_tokens_per_s") is not None:
        text += f" (sum of per-request rates (document): {row['sum_of_request_tokens_per_s']:.2f})"
    for name, label in (("ttft_s", "first token"), ("tpot_s", "per token")):
        if row.get(name) is not None:
            text += f", {label} {row[name] * 1e3:.2f} ms"
    text += f", peak memory {_memory(row, served=served)}"
    for name, label in (("bound", "the bound"), ("estimate", "the estimate")):
        if row.get(f"time_over_{name}") is not None:
            text += f", {row[f'time_over_{name}']:.2f} x {label}"
    return text


def _with_interval(row: Row, name: str) -> str:
    value, high = row.get(name), row.get(f"{name}_high")
    if value is None:
        return "?"
    return f"{value:.4g}" + (f" ± {high - value:.2g}" if high is not None else "")


def _memory(row: Row, *, served: bool) -> str:
    if served:
        return "not measured (the server's own)"
    allocated, reserved = row.get("device_allocated_peak_bytes"), row.get("device_reserved_peak_bytes")
    if allocated is None:
        host = row.get("host_rss_peak_bytes")
        resident = f"; host {host / 1e9:.2f} GB resident" if host else ""
        return f"not measured (no accelerator{resident})"
    return f"{allocated / 1e9:.2f} GB allocated, {(reserved or 0) / 1e9:.2f} GB reserved"


def _level(row: Row, *, served: bool) -> LevelResult:
    done, failed = int(row["completed_requests"] or 0), int(row["failed_requests"] or 0)
    peak = row.get("device_allocated_peak_bytes")
    return LevelResult(
        concurrency=row["concurrency"],
        completed=done,
        total=done + failed,
        average_latency_s=row.get("e2e_s"),
        sum_of_rates=row.get("sum_of_request_tokens_per_s"),
        wall_rate=row.get("wall_output_tokens_per_s"),
        peak_bytes=None if peak is None else int(peak),
        serial=False,
        errors=(),
        served=served,
    )


def write_outputs(
    stored: StoredRun, rows: Sequence[Row], prefix: Path, *, model: str, backend: str
) -> list[Path]:
    """Traces as CSV and JSON, and the figures the rows allow; the files written."""
    from engine.measure.live.traces import traces_csv, traces_json, traces_of_run
    from engine.report.live_figures import length_figures, load_figures, mixed_figure, write_figures
    from engine.results.atomic import write_whole

    requests = stored.store.read(stored.plan, "requests")
    traces = traces_of_run(requests, model=model, backend=backend)
    model = Path(model).stem if Path(model).suffix in (".json", ".yaml") else model  # titles have no room
    prefix.parent.mkdir(parents=True, exist_ok=True)
    found = []
    for suffix, text in (("csv", traces_csv(traces)), ("json", traces_json(traces, timestamp=time.time()))):
        path = prefix.with_name(f"{prefix.name}.{suffix}")
        write_whole(path, text)
        found.append(path)
    own = [row for row in rows if "generate()" not in row["variant"]]
    if not own:
        return found
    lengths = {row["prompt_tokens"] for row in own}
    figures = load_figures(own, model=model) if len(lengths) == 1 else length_figures(own, model=model)
    latencies = _latencies(traces)
    if len(latencies) > 1:
        figures.append(mixed_figure(latencies, model=model))
    return [*found, *write_figures(prefix, figures)]


def _latencies(traces: Sequence[Trace]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for trace in traces:
        if trace.good:
            found.setdefault(trace.seq_prompt, []).append(trace.total_latency_s)
    return found


def figures_of_traces(traces: Sequence[Trace]) -> list[Figure]:
    """Figures of a recorded trace: over load when one length was asked for, over length when several were."""
    from engine.report.live_figures import length_figures, load_figures, mixed_figure

    model = next((trace.model for trace in traces if trace.good), "unknown model")
    lengths = sorted({trace.seq_prompt for trace in traces if trace.good})
    if len(lengths) < 2:
        return load_figures([_as_row(result) for result in level_results(traces)], model=model)
    by_length = [
        _as_row(_of_length([t for t in traces if t.seq_prompt == n and t.good])) | {"prompt_tokens": n}
        for n in lengths
    ]
    return [*length_figures(by_length, model=model), mixed_figure(_latencies(traces), model=model)]


def _of_length(traces: Sequence[Trace]) -> LevelResult:
    results = [level_results(level)[0] for level in levels_of(traces)]
    best = max(results, key=lambda result: result.completed)
    peaks = [result.peak_bytes for result in results if result.peak_bytes]
    mean = sum(t.total_latency_s for t in traces) / len(traces)
    return LevelResult(
        best.concurrency, len(traces), len(traces), mean, best.sum_of_rates, best.wall_rate,
        max(peaks, default=None), best.serial, (),
    )  # fmt: skip


def _as_row(result: LevelResult) -> dict[str, Any]:
    return {
        "concurrency": result.concurrency,
        "e2e_s": result.average_latency_s,
        "wall_output_tokens_per_s": result.wall_rate,
        "sum_of_request_tokens_per_s": result.sum_of_rates,
        "device_allocated_peak_bytes": result.peak_bytes,
    }
