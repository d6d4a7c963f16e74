"""OpenVINO's llm_bench, benchmark_genai and benchmark_app."""

from __future__ import annotations

import re
from statistics import fmean
from typing import Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import number
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source, lines
from engine.spec.run_folder import RunFolderSettings
from engine.units import counted

_ITERATION: Final = re.compile(
    r"(?<!P)\[(?P<which>warm-up|[0-9]+)\](?:\[P(?P<prompt>[0-9]+)\])?(?:\[L[0-9]+\])?\s+(?P<rest>.*)"
)
_SIZES: Final = re.compile(r"Input token size: ([0-9]+), Output size: ([0-9]+)")
_TIME: Final = re.compile(r"Generation Time: ([0-9.]+) ?s")
_PER_TOKEN: Final = re.compile(r"\bLatency: ([0-9.]+|NA) ?ms/(?P<batch>[0-9]*)tokens?")
_FIRST: Final = re.compile(
    r"First token la[nt]*tency: ([0-9.]+|NA) ?ms/(?P<batch>[0-9]*)tokens?"
    r"(?:, other tokens la[nt]*tency: ([0-9.]+|NA) ?ms/)?"
)
_INIT: Final = re.compile(r"Pipeline initialization time: ?([0-9.]+) ?s?")
_MEMORY: Final = re.compile(r"[Mm]ax rss memory cost: ([0-9.]+) ?MBytes")
_BENCH: Final = re.compile(
    r"Input token size: [0-9]+, Output size: [0-9]+|First token la[nt]*tency:|\[Average\]"
)
_GENAI: Final = re.compile(
    r"^(Load time|Generate time|TTFT|TPOT|Throughput)\s*:\s*([0-9.]+)(?:\s*±\s*([0-9.]+))?\s*(\S+)", re.M
)
_APP: Final = re.compile(
    r"^\[ INFO \]\s*(Count|Duration|Median|Average|Throughput|First inference took|Compile model took|"
    r"Read model took|Execution Devices)\s*:?\s+([0-9A-Za-z.,:\[\]']+)",
    re.M,
)


def sniff_bench(source: Source) -> bool:
    """Whether iterations of llm_bench stand in the file."""
    return bool(_BENCH.search(source.sample)) and "Input token size" in source.sample


def read_bench(source: Source, settings: RunFolderSettings) -> Read:
    """One result per prompt, warm-up rows left out, iterations averaged."""
    prompts: dict[str, dict[str, list[float]]] = {}
    facts: dict[str, float] = {}
    batch, warm, rows = 1, 0, 0
    for _, line in lines(source):
        if found := _INIT.search(line):
            facts["load_s"] = float(found.group(1))
        if found := _MEMORY.search(line):
            facts["host_rss_peak_bytes"] = float(found.group(1)) * 1e6
        head = _ITERATION.search(line)
        if head is None:
            continue
        if head.group("which") in ("warm-up", "0"):
            warm += 1
            continue
        rows += 1
        store = prompts.setdefault(head.group("prompt") or "0", {})
        batch = max(batch, _take(head.group("rest"), store))
    single = len(prompts) == 1
    results = [
        _bench_result(store, batch, "" if single else f"prompt {name}") for name, store in prompts.items()
    ]
    notes = [Note("warm-up", f"{counted(warm, 'warm-up row')} left out", "note")] if warm else []
    if batch > 1:
        notes.append(Note("per-step", f"latencies are per step of {batch} tokens; sizes are totals", "note"))
    return Read(results=tuple(results), facts=facts, rows_read=rows, notes=tuple(notes))


def _take(rest: str, store: dict[str, list[float]]) -> int:
    """The numbers of one line of an iteration; returns the tokens of a step."""
    batch = 1
    if found := _SIZES.search(rest):
        store.setdefault("prompt", []).append(float(found.group(1)))
        store.setdefault("output", []).append(float(found.group(2)))
    if found := _TIME.search(rest):
        store.setdefault("e2e", []).append(float(found.group(1)))
    if found := _FIRST.search(rest):
        batch = int(found.group("batch") or 1)
        for name, text in (("first", found.group(1)), ("other", found.group(3))):
            value = number(text or "")
            if value is not None:
                store.setdefault(name, []).append(value / 1e3)
    elif found := _PER_TOKEN.search(rest):
        batch = int(found.group("batch") or 1)
    return batch


def _bench_result(store: dict[str, list[float]], batch: int, label: str) -> Result:
    mean = {name: fmean(values) for name, values in store.items() if values}
    count = len(store.get("first", [])) or len(store.get("e2e", []))
    average = f", mean of {count} iterations" if count > 1 else ""
    values: dict[str, float] = {}
    how: dict[str, str] = {}
    if "output" in mean:
        values["output_tokens"] = mean["output"]
    if "e2e" in mean:
        values["e2e_s"] = mean["e2e"]
        how["e2e_s"] = f"generation time{average}"
    if "first" in mean:
        values["ttft_s"], how["ttft_s"] = mean["first"], f"first token latency{average}"
    if "other" in mean and mean["other"] > 0:
        values |= {"tpot_s": mean["other"], "throughput_tokens_per_s": batch / mean["other"]}
        how |= {
            "tpot_s": f"latency of the other tokens{average}",
            "throughput_tokens_per_s": f"{batch} / latency of the other tokens",
        }
        if "output" in mean:
            values["generation_s"] = (mean["output"] / batch - 1) * mean["other"]
            how["generation_s"] = "(output tokens - 1) x latency of the other tokens"
    settings: dict[str, int | str] = {}
    for name, key in (("prompt_tokens", "prompt"), ("output_tokens", "output")):
        if key in mean:
            settings[name] = round(mean[key] / batch)
    if batch > 1:
        settings["batch_size"] = batch
    return Result(values, how, settings, label)


def sniff_genai(source: Source) -> bool:
    """Whether the summary of benchmark_genai stands in the file."""
    found = {match.group(1) for match in _GENAI.finditer(source.sample)}
    return {"TTFT", "TPOT", "Throughput"} <= found


def read_genai(source: Source, settings: RunFolderSettings) -> Read:
    """Means with their spread."""
    found = {m.group(1): (float(m.group(2)), m.group(4)) for m in _GENAI.finditer(source.sample)}
    names = {"TTFT": "ttft_s", "TPOT": "tpot_s", "Generate time": "e2e_s", "Load time": "load_s"}
    values = {
        metric: found[label][0] * (1e-3 if found[label][1] == "ms" else 1.0)
        for label, metric in names.items()
        if label in found
    }
    values["throughput_tokens_per_s"] = found["Throughput"][0]
    how = {"throughput_tokens_per_s": "throughput as printed"}
    return Read(results=(Result(values, how),), rows_read=len(found))


def sniff_app(source: Source) -> bool:
    """Whether the statistics of benchmark_app stand in the file."""
    found = {match.group(1) for match in _APP.finditer(source.sample)}
    return {"Count", "Duration", "Throughput"} <= found


def read_app(source: Source, settings: RunFolderSettings) -> Read:
    """Inferences per second: no tokens are counted, so token rates stay absent."""
    found = {m.group(1): m.group(2) for m in _APP.finditer(source.sample)}
    values = {}
    for label, metric, factor in (
        ("Throughput", "requests_per_s", 1.0),
        ("Count", "completed_requests", 1.0),
        ("Average", "e2e_s", 1e-3),
    ):
        value = number(found.get(label, ""))
        if value is not None:
            values[metric] = value * factor
    how = {"requests_per_s": "inferences per second (FPS)", "e2e_s": "average latency of one inference"}
    loading = [number(found.get(label, "")) for label in ("Read model took", "Compile model took")]
    if any(loading):
        values["load_s"] = sum(value or 0.0 for value in loading) / 1e3
        how["load_s"] = "read + compile time of the model"
    texts = {"hardware": found["Execution Devices"]} if "Execution Devices" in found else {}
    note = Note("inferences", "benchmark_app counts inferences, not tokens", "note")
    return Read(results=(Result(values, how),), texts=texts, rows_read=len(found), notes=(note,))


FORMATS = (
    Format("OpenVINO llm_bench", "iterations of llm_bench", sniff_bench, read_bench),
    Format("OpenVINO benchmark_genai", "summary of benchmark_genai", sniff_genai, read_genai),
    Format("OpenVINO benchmark_app", "statistics of benchmark_app", sniff_app, read_app),
)
