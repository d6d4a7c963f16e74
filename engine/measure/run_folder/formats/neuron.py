"""Neuron's benchmark report of an inference and its table of prompts."""

from __future__ import annotations

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.jsons import dig, dig_number, load_mapping, looks_like_json
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source
from engine.spec.run_folder import RunFolderSettings


def sniff_report(source: Source) -> bool:
    """Whether the end-to-end model of a Neuron report stands in a JSON file."""
    return looks_like_json(source, "e2e_model", "latency_ms_avg")


def read_report(source: Source, settings: RunFolderSettings) -> Read:
    """The end-to-end result with its prefill and decode parts."""
    value = load_mapping(source)
    values: dict[str, float] = {}
    how: dict[str, str] = {}
    for metric, model, key, factor, text in (
        ("e2e_s", "e2e_model", "latency_ms_avg", 1e-3, ""),
        (
            "total_tokens_per_s",
            "e2e_model",
            "throughput",
            1.0,
            "end-to-end throughput, prompt tokens included",
        ),
        ("ttft_s", "context_encoding_model", "latency_ms_avg", 1e-3, "average latency of context encoding"),
        ("prompt_tokens_per_s", "context_encoding_model", "throughput", 1.0, ""),
        ("tpot_s", "token_generation_model", "latency_ms_avg", 1e-3, ""),
        (
            "throughput_tokens_per_s",
            "token_generation_model",
            "throughput",
            1.0,
            "throughput of token generation",
        ),
    ):
        found = dig_number(value, model, key)
        if found is not None:
            values[metric] = found * factor
            if text:
                how[metric] = text
    notes = []
    if "throughput_tokens_per_s" not in values and "total_tokens_per_s" in values:
        notes.append(Note("tokens-with-prompt", "the end-to-end throughput counts prompt tokens too", "note"))
    return Read(results=(Result(values, how),), rows_read=len(values), notes=tuple(notes))


def sniff_prompts(source: Source) -> bool:
    """Whether a table of prompts stands in a JSON file."""
    return looks_like_json(source, "prompt_performance_data")


def read_prompts(source: Source, settings: RunFolderSettings) -> Read:
    """One result per prompt: the baseline it gives."""
    rows = dig(load_mapping(source), "prompt_performance_data")
    results: list[Result] = []
    for row in rows if isinstance(rows, list) else []:
        latency, rate = dig_number(row, "baseline_latency_ms"), dig_number(row, "baseline_throughput")
        if latency is None or rate is None:
            continue
        length = dig_number(row, "sequence_length")
        settings_: dict[str, int | str] = {"sequence_length": int(length)} if length else {}
        values = {"e2e_s": latency / 1e3, "total_tokens_per_s": rate}
        how = {"total_tokens_per_s": "baseline throughput of the prompt table, prompt tokens included"}
        results.append(
            Result(values, how, settings_, f"prompt {int(dig_number(row, 'index') or len(results))}")
        )
    dropped = (len(rows) if isinstance(rows, list) else 0) - len(results)
    return Read(results=tuple(results), rows_read=len(results), rows_dropped=dropped)


FORMATS = (
    Format("Neuron benchmark report", "Neuron inference benchmark JSON", sniff_report, read_report),
    Format("Neuron prompt table", "baselines per prompt as JSON", sniff_prompts, read_prompts),
)
