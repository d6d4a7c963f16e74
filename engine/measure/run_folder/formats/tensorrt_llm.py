"""Result blocks of trtllm-bench, the old `STATISTICS` and the newer `PERFORMANCE OVERVIEW`."""

from __future__ import annotations

import re
from typing import Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import number
from engine.measure.run_folder.record import Read, Result
from engine.measure.run_folder.text import Source, lines
from engine.spec.run_folder import RunFolderSettings

_TITLE: Final = re.compile(r"^\s*=\s*([A-Z][A-Z +&]+[A-Z])\s*$")
_LINE: Final = re.compile(r"^\s*(?:\[[^\]]*\]\s*)*([A-Za-z][^:=]*?)\s*:\s+(\S+)\s*$")
_UNIT: Final = re.compile(r"\((seconds|ms)\)")
# `AVG: 128.0 128.0 256.0` of the data set: lengths of input, output and both.
_LENGTHS: Final = re.compile(r"^\s*AVG:\s+([0-9.]+)\s+([0-9.]+)\s+[0-9.]+\s*$")
_RESULTS: Final = ("STATISTICS", "PERFORMANCE OVERVIEW")
_LABELS: Final = {
    "token throughput (tokens/sec)": "output_tokens_per_s",  # the old form counts output tokens only
    "total output throughput (tokens/sec)": "output_tokens_per_s",
    "per user output throughput (tokens/sec/user)": "output_tokens_per_s_per_user",
    "per user output speed [1/tpot] (tokens/sec/user)": "output_tokens_per_s_per_user",
    "per gpu output throughput (tokens/sec/gpu)": "output_tokens_per_s_per_device",
    "total token throughput (tokens/sec)": "total_tokens_per_s",
    "request throughput (req/sec)": "requests_per_s",
    "average time-to-first-token [ttft]": "ttft_s",
    "average time-per-output-token [tpot]": "tpot_s",
    "average request latency": "e2e_s",
    "number of requests": "completed_requests",
    "number of sequences": "completed_requests",
    "average input length (tokens)": "prompt_tokens",
    "average output length (tokens)": "mean_output",
    "total latency": "duration",
    "number of concurrent requests": "concurrency",
    "tp size": "tensor",
}


def sniff(source: Source) -> bool:
    """Whether a framed title of trtllm-bench stands near the start or the end."""
    titles = {found.group(1) for line in source.sample_lines if (found := _TITLE.match(line))}
    return bool(titles & set(_RESULTS))


def read(source: Source, settings: RunFolderSettings) -> Read:
    """The result and what the blocks before it say about the setup."""
    block: dict[str, float] = {}
    texts: dict[str, str] = {}
    formats: dict[str, str] = {}
    for _, line in lines(source):
        if found := re.match(r"^\s*Model:\s+(\S+)\s*$", line):
            texts["model"] = found.group(1)
        elif found := re.match(r"^\s*(?P<what>Dtype|Quantization):\s+(?P<format>\S+)\s*$", line):
            # Without a quantization the weights have the type of the computation.
            if found.group("format").lower() not in ("none", "n/a"):
                formats[found.group("what")] = found.group("format").lower()
        elif found := _LENGTHS.match(line):
            block |= {"prompt_tokens": float(found.group(1)), "mean_output": float(found.group(2))}
        elif found := _LINE.match(line):
            _take(found.group(1).lower(), number(found.group(2)), block)
    if stated := formats.get("Quantization", formats.get("Dtype")):
        texts["quantization"] = stated
    values = {
        k: v
        for k, v in block.items()
        if k not in ("prompt_tokens", "mean_output", "duration", "concurrency", "tensor")
    }
    how = {}
    if "output_tokens_per_s" in values:
        values["throughput_tokens_per_s"] = values["output_tokens_per_s"]
        how["throughput_tokens_per_s"] = "output token throughput as printed"
    if "duration" in block and "output_tokens_per_s" in block and "completed_requests" not in block:
        values["output_tokens"] = block["output_tokens_per_s"] * block["duration"]
        how["output_tokens"] = "total output throughput x total latency"
    if "mean_output" in block and "completed_requests" in block:
        values["output_tokens"] = block["mean_output"] * block["completed_requests"]
        how["output_tokens"] = "average output length x requests"
    counts: dict[str, int | str] = {
        k: round(block[k]) for k in ("prompt_tokens", "concurrency", "tensor") if k in block
    }
    if "mean_output" in block:
        counts["output_tokens"] = round(block["mean_output"])
    results = (Result(values, how, counts, seconds=block.get("duration")),) if values else ()
    return Read(results=results, texts=texts, rows_read=len(block))


def _take(label: str, value: float | None, block: dict[str, float]) -> None:
    """A labelled number; the unit stands in the label only: seconds before, milliseconds after."""
    unit = _UNIT.search(label)
    name = _LABELS.get(label) or _LABELS.get(_UNIT.sub("", label).strip())
    if name is not None and value is not None:
        block[name] = value * (1e-3 if unit and unit.group(1) == "ms" else 1.0)


FORMATS = (Format("trtllm-bench", "TensorRT-LLM benchmark result", sniff, read),)
