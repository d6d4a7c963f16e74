"""Result JSON of vLLM's and SGLang's serving benchmarks, one result a file or one a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from engine.measure.run_folder.clock import parse_time
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.jsons import dig_number, load_lines, load_mapping, looks_like_json, text_at
from engine.measure.run_folder.numbers import finite
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source
from engine.spec.run_folder import RunFolderSettings
from engine.units import counted

_LATENCIES: Final = {
    "ttft_s": ("mean_ttft_ms", "p99_ttft_ms"),
    "tpot_s": ("mean_tpot_ms", "p99_tpot_ms"),
    "itl_s": ("mean_itl_ms", "p99_itl_ms"),
    "e2e_s": ("mean_e2el_ms", "p99_e2el_ms"),
}
_OTHER_NAMES: Final = {"mean_e2el_ms": "mean_e2e_latency_ms", "p99_e2el_ms": "p99_e2e_latency_ms"}


def sniff(source: Source) -> bool:
    """Whether the keys of a serving result stand in a JSON file."""
    return looks_like_json(source, "mean_ttft_ms") and (
        '"output_throughput"' in source.sample or '"total_output_tokens"' in source.sample
    )


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Every result in the file."""
    first = source.first_lines(2)
    if len(first) > 1 and all(
        line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in first
    ):
        rows = [(number, value) for number, value in load_lines(source)]
    else:
        rows = [(1, load_mapping(source))]
    good = [value for _, value in rows if value is not None]
    results = [_result(value) for value in good]
    if len(results) > 1:
        results = [_with_label(r, f"result {i}") for i, r in enumerate(results)]
    texts = {"model": name} if good and (name := text_at(good[0], "model_id")) else {}
    return Read(
        results=tuple(results),
        texts=texts,
        rows_read=len(good),
        rows_dropped=len(rows) - len(good),
        notes=tuple(note for value in good for note in _notes(value)),
    )


def _with_label(result: Result, label: str) -> Result:
    own = result.settings.get("concurrency")
    return replace(result, label=f"concurrency {own}" if own else label)


def _result(value: Mapping[str, Any]) -> Result:
    values: dict[str, float] = {}
    how: dict[str, str] = {}
    duration, tokens = dig_number(value, "duration"), dig_number(value, "total_output_tokens")
    rate = dig_number(value, "output_throughput")
    if rate is None and duration and tokens is not None:
        rate, how["throughput_tokens_per_s"] = tokens / duration, "total_output_tokens / duration"
    for metric, found in (
        ("throughput_tokens_per_s", rate),
        ("output_tokens_per_s", rate),
        ("total_tokens_per_s", dig_number(value, "total_token_throughput")),
        ("requests_per_s", dig_number(value, "request_throughput")),
        (
            "goodput_requests_per_s",
            dig_number(value, "request_goodput:") or dig_number(value, "request_goodput"),
        ),
        ("completed_requests", dig_number(value, "completed")),
        ("output_tokens", tokens),
    ):
        if found is not None:
            values[metric] = found
    _put_latencies(value, values)
    asked, done = dig_number(value, "num_prompts"), dig_number(value, "completed")
    if asked and done is not None and asked >= done:
        values["failed_requests"] = asked - done
        values["error_rate"] = (asked - done) / asked
    end, zone = parse_time((text_at(value, "date") and _date(str(value["date"]))) or "")
    window = (end - duration, end) if end is not None and duration and zone == "local" else None
    _put_whole_requests(value, values, how)
    return Result(values, how, _settings(value), window=window, zone="local", seconds=duration)


def _put_whole_requests(value: Mapping[str, Any], values: dict[str, float], how: dict[str, str]) -> None:
    """Mean latency of whole requests from their lists, where it is not printed; failed ones have none."""
    first, gaps = value.get("ttfts"), value.get("itls")
    if (
        "e2e_s" in values
        or not isinstance(first, list)
        or not isinstance(gaps, list)
        or len(first) != len(gaps)
    ):
        return
    starts = [finite(start) for start in first]
    pairs = [(s, own) for s, own in zip(starts, gaps, strict=True) if s and isinstance(own, list)]
    if pairs and len(pairs) == values.get("completed_requests"):
        totals = [start + sum(gap for g in own if (gap := finite(g)) is not None) for start, own in pairs]
        values["e2e_s"] = sum(totals) / len(totals)
        how["e2e_s"] = "mean over requests of the first token's time and all gaps after it"


def _put_latencies(value: Mapping[str, Any], values: dict[str, float]) -> None:
    for metric, (mean, _) in _LATENCIES.items():
        for key in (mean, _OTHER_NAMES.get(mean, mean)):
            found = dig_number(value, key)
            if found is not None and found > 0:  # 0.00 and -0.00 mean that streaming was broken
                values.setdefault(metric, found / 1e3)


def _date(text: str) -> str:
    """`20260304-141020` is local time at the end of the run."""
    day, _, clock = text.partition("-")
    return f"{day} {clock[:2]}:{clock[2:4]}:{clock[4:6]}" if len(clock) == 6 and clock.isdigit() else text


def _settings(value: Mapping[str, Any]) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    done = dig_number(value, "completed")
    for setting, key in (("prompt_tokens", "total_input_tokens"), ("output_tokens", "total_output_tokens")):
        total = dig_number(value, key)
        if done and total:
            found[setting] = round(total / done)
    concurrency = finite(value.get("max_concurrency"))
    if concurrency:
        found["concurrency"] = int(concurrency)
    rate = value.get("request_rate")
    if isinstance(rate, int | float):
        found["request_rate"] = f"{rate:g}"
    return found


def _notes(value: Mapping[str, Any]) -> list[Note]:
    notes = []
    itl = dig_number(value, "mean_itl_ms")
    if itl is not None and itl <= 0:
        notes.append(Note("broken-streaming", "inter-token latency is 0: tokens did not stream one by one"))
    printed, retokenized = (
        dig_number(value, "total_output_tokens"),
        dig_number(value, "total_output_tokens_retokenized"),
    )
    if printed and retokenized is not None and retokenized < 0.8 * printed:
        notes.append(
            Note("token-count", f"retokenized output is {retokenized / printed:.0%} of the count printed")
        )
    errors = value.get("errors")
    if isinstance(errors, list) and (failed := sum(bool(e) for e in errors)):
        notes.append(Note("failed-requests", f"{counted(int(failed), 'request')} failed"))
    return notes


FORMATS = (Format("vLLM or SGLang JSON", "serving benchmark result as JSON", sniff, read),)
