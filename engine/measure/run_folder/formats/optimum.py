"""Optimum-Benchmark's report: load, prefill and decode, each with latency, memory and energy."""

from __future__ import annotations

from statistics import fmean
from typing import Any, Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.jsons import dig, dig_number, load_mapping, looks_like_json, text_at
from engine.measure.run_folder.numbers import UNITS, finite
from engine.measure.run_folder.record import Read, Result
from engine.measure.run_folder.text import Source
from engine.spec.run_folder import RunFolderSettings

_VRAM: Final = ("max_global_vram", "max_process_vram", "max_reserved", "max_allocated")
_JOULES_PER_KWH: Final = 3.6e6


def sniff(source: Source) -> bool:
    """Whether the stages of a report stand in a JSON file."""
    return looks_like_json(source, "prefill", "decode", "latency", "unit")


def read(source: Source, settings: RunFolderSettings) -> Read:
    """One result, energies of the stages added."""
    value = load_mapping(source)
    report = value.get("report") if isinstance(value.get("report"), dict) else value
    config = value.get("config") if isinstance(value.get("config"), dict) else {}
    prefill, decode = _latency(report, "prefill"), _latency(report, "decode")
    values: dict[str, float] = {}
    how: dict[str, str] = {}
    _put(values, "ttft_s", prefill)
    _put(values, "generation_s", decode)
    _put(values, "load_s", _latency(report, "load") or _latency(report, "load_model"))
    _put(values, "prompt_tokens_per_s", dig_number(report, "prefill", "throughput", "value"))
    rate = dig_number(report, "decode", "throughput", "value")
    _put(values, "throughput_tokens_per_s", rate)
    lengths = _lengths(config)
    batch = int(lengths.get("batch_size", 0))
    if step := _latency(report, "per_token"):
        values["tpot_s"], how["tpot_s"] = step, "mean latency of a decode step"
    elif rate and batch:
        values["tpot_s"] = batch / rate
        how["tpot_s"] = f"{batch} sequences / decode throughput"
    if prefill and decode:
        values["e2e_s"], how["e2e_s"] = prefill + decode, "prefill + decode latency"
    if "output_tokens" in lengths and batch:
        values["output_tokens"] = float(lengths["output_tokens"]) * batch
        how["output_tokens"] = "new tokens x batch size of the configuration"
    _put_energy(report, values, how)
    _put_memory(report, values, how)
    model = text_at(config, "backend", "model")
    texts = {"model": model} if model else {}
    gpu = dig(config, "environment", "gpu")
    name = text_at(gpu, 0) if isinstance(gpu, list) else gpu if isinstance(gpu, str) else None
    if name:
        texts["hardware"] = name
    if dtype := text_at(config, "backend", "torch_dtype"):
        texts["quantization"] = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}.get(dtype, dtype)
    return Read(results=(Result(values, how, lengths),), texts=texts, rows_read=len(values))


def _put(values: dict[str, float], metric: str, value: float | None) -> None:
    if value is not None:
        values[metric] = value


def _latency(report: Any, stage: str) -> float | None:
    mean = dig_number(report, stage, "latency", "mean")
    if mean is not None:
        return mean
    listed = dig(report, stage, "latency", "values") or dig(report, stage, "latency")
    numbers = [v for v in map(finite, listed) if v is not None] if isinstance(listed, list) else []
    return fmean(numbers) if numbers else None


def _lengths(config: Any) -> dict[str, int | str]:
    paths = {
        "batch_size": ("scenario", "input_shapes", "batch_size"),
        "prompt_tokens": ("scenario", "input_shapes", "sequence_length"),
        "output_tokens": ("scenario", "generate_kwargs", "max_new_tokens"),
    }
    found = {name: dig_number(config, *path) for name, path in paths.items()}
    return {name: int(value) for name, value in found.items() if value}


def _put_energy(report: Any, values: dict[str, float], how: dict[str, str]) -> None:
    totals = {}
    for part in ("gpu", "total"):
        stages = [dig_number(report, stage, "energy", part) for stage in ("prefill", "decode")]
        if all(value is not None for value in stages):
            totals[part] = sum(value or 0.0 for value in stages)
    part = "gpu" if totals.get("gpu") else "total"
    if totals.get(part):
        values["energy_j"] = totals[part] * _JOULES_PER_KWH
        how["energy_j"] = f"{part} energy of prefill + decode, from kWh"


def _put_memory(report: Any, values: dict[str, float], how: dict[str, str]) -> None:
    for stage in ("decode", "prefill"):
        unit = text_at(report, stage, "memory", "unit") or "MB"
        factor = UNITS.get(unit, ("", 1e6))[1]
        for key in _VRAM:
            found = dig_number(report, stage, "memory", key)
            if found:
                values["memory_used_bytes"] = found * factor
                how["memory_used_bytes"] = f"{key} of {stage}"
                return


FORMATS = (Format("Optimum-Benchmark JSON", "Optimum-Benchmark report", sniff, read),)
