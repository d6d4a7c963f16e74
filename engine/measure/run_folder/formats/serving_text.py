"""Text blocks of vLLM's and SGLang's serving benchmarks: `label: value` between rules of `=`."""

from __future__ import annotations

import re
from typing import Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import number
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source, lines
from engine.spec.run_folder import RunFolderSettings

_TITLE: Final = re.compile(r"^=+ ?(?:Offline )?(?:Serving|Throughput) Benchmark Result ?=+", re.IGNORECASE)
_LINE: Final = re.compile(r"^\s*([A-Za-z0-9][^:]*?)\s*:\s+(\S+)\s*$")
# Lower-cased label -> (metric, factor to the base unit).
_LABELS: Final[dict[str, tuple[str, float]]] = {
    "successful requests": ("completed_requests", 1.0),
    "failed requests": ("failed_requests", 1.0),
    "benchmark duration (s)": ("duration", 1.0),
    "total input tokens": ("prompt_total", 1.0),
    "total generated tokens": ("output_tokens", 1.0),
    "total generated tokens (retokenized)": ("retokenized", 1.0),
    "request throughput (req/s)": ("requests_per_s", 1.0),
    "request goodput (req/s)": ("goodput_requests_per_s", 1.0),
    "output token throughput (tok/s)": ("output_tokens_per_s", 1.0),
    "total token throughput (tok/s)": ("total_tokens_per_s", 1.0),
    "maximum request concurrency": ("concurrency", 1.0),
    "max request concurrency": ("concurrency", 1.0),
    "mean ttft (ms)": ("ttft_s", 1e-3),
    "mean tpot (ms)": ("tpot_s", 1e-3),
    "mean itl (ms)": ("itl_s", 1e-3),
    "mean e2el (ms)": ("e2e_s", 1e-3),
    "mean e2e latency (ms)": ("e2e_s", 1e-3),
}
_NOT_METRICS: Final = ("duration", "prompt_total", "retokenized", "concurrency")


def sniff(source: Source) -> bool:
    """Whether a result block stands near the start or the end."""
    return any(_TITLE.match(line) for line in source.sample.splitlines())


def read(source: Source, settings: RunFolderSettings) -> Read:
    """One result per block."""
    blocks: list[dict[str, float]] = []
    for _, line in lines(source):
        if _TITLE.match(line):
            blocks.append({})
        elif blocks and (found := _LINE.match(line)):
            label = _LABELS.get(found.group(1).lower())
            value = number(found.group(2))
            if label and value is not None:
                blocks[-1][label[0]] = value * label[1]
    found_blocks = [block for block in blocks if block]
    results = [_result(block, i if len(found_blocks) > 1 else None) for i, block in enumerate(found_blocks)]
    notes = [note for block in found_blocks for note in _notes(block)]
    return Read(results=tuple(results), rows_read=sum(map(len, found_blocks)), notes=tuple(notes))


def _result(block: dict[str, float], index: int | None) -> Result:
    # A latency of 0 or -0.00 means that streaming was broken, not that it took no time.
    values = {k: v for k, v in block.items() if k not in _NOT_METRICS and not (k.endswith("_s") and v <= 0)}
    how = {}
    if "output_tokens_per_s" in values:
        values["throughput_tokens_per_s"] = values["output_tokens_per_s"]
        how["throughput_tokens_per_s"] = "output token throughput as printed"
    settings: dict[str, int | str] = {}
    done = block.get("completed_requests")
    for setting, total in (("prompt_tokens", "prompt_total"), ("output_tokens", "output_tokens")):
        if done and total in block:
            settings[setting] = round(block[total] / done)
    if "concurrency" in block:
        settings["concurrency"] = int(block["concurrency"])
    label = (
        ""
        if index is None
        else f"concurrency {settings['concurrency']}"
        if "concurrency" in settings
        else f"block {index}"
    )
    return Result(values, how, settings, label, seconds=block.get("duration"))


def _notes(block: dict[str, float]) -> list[Note]:
    notes = []
    if block.get("itl_s", 1.0) <= 0 or block.get("tpot_s", 1.0) <= 0:
        notes.append(
            Note("broken-streaming", "latency between tokens is 0: tokens did not stream one by one")
        )
    if block.get("retokenized", 1e300) < 0.8 * block.get("output_tokens", 0.0):
        notes.append(
            Note("token-count", "the retokenized count is much lower than the count of generated tokens")
        )
    return notes


FORMATS = (Format("vLLM or SGLang text", "serving benchmark result block", sniff, read),)
