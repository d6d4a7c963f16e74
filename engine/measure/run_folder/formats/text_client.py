"""Short texts of client scripts: generation stages in seconds, and first and later token latencies."""

from __future__ import annotations

import re
from typing import Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import to_base
from engine.measure.run_folder.record import Read, Result
from engine.measure.run_folder.text import Source
from engine.spec.run_folder import RunFolderSettings

_STAGES: Final = re.compile(
    r"^\s*(prompt length|Prefill stage total time|total_num_generated_tokens|total_time_new_tokens|"
    r"Tokens per second)"
    r"\s*[:=][\s:]*([0-9.]+)", re.M
)  # fmt: skip
_LATENCY: Final = re.compile(
    r"^\s*(First token average latency|Average 2\.\.\. latency|P90 2\.\.\. latency|P99 2\.\.\. latency|"
    r"Inference latency)"
    r"\s*:\s*([0-9.]+)\s*(sec|ms|s)\b", re.M
)  # fmt: skip


def sniff_stages(source: Source) -> bool:
    """Whether prefill and generation stages are named."""
    return {"Prefill stage total time", "total_time_new_tokens"} <= {
        m.group(1) for m in _STAGES.finditer(source.sample)
    }


def read_stages(source: Source, settings: RunFolderSettings) -> Read:
    """Prefill and generation of one request."""
    found: dict[str, float] = {}
    for match in _STAGES.finditer(source.sample):
        found.setdefault(match.group(1), float(match.group(2)))
    tokens, seconds = found.get("total_num_generated_tokens"), found["total_time_new_tokens"]
    values = {"generation_s": seconds, "ttft_s": found["Prefill stage total time"]}
    how = {"ttft_s": "prefill stage total time"}
    values["e2e_s"], how["e2e_s"] = values["ttft_s"] + seconds, "prefill + generation time"
    if tokens and seconds > 0:
        values |= {
            "output_tokens": tokens,
            "throughput_tokens_per_s": tokens / seconds,
            "tpot_s": seconds / tokens,
        }
        how |= {
            "throughput_tokens_per_s": "generated tokens / time of new tokens",
            "tpot_s": "time of new tokens / generated tokens",
        }
    lengths: dict[str, int | str] = {}
    if "prompt length" in found:
        lengths["prompt_tokens"] = int(found["prompt length"])
    if tokens:
        lengths["output_tokens"] = int(tokens)
    return Read(results=(Result(values, how, lengths, seconds=values["e2e_s"]),), rows_read=len(found))


def sniff_latency(source: Source) -> bool:
    """Whether first and later token latencies are printed."""
    return {"First token average latency", "Average 2... latency"} <= {
        m.group(1) for m in _LATENCY.finditer(source.sample)
    }


def read_latency(source: Source, settings: RunFolderSettings) -> Read:
    """First and later token latency; the unit is read, since versions differ."""
    found = {m.group(1): to_base(float(m.group(2)), m.group(3)) for m in _LATENCY.finditer(source.sample)}
    per_token = found["Average 2... latency"]
    values = {"ttft_s": found["First token average latency"], "tpot_s": per_token}
    how = {"tpot_s": "average latency from the second token on"}
    if per_token > 0:
        values["throughput_tokens_per_s"] = 1 / per_token
        how["throughput_tokens_per_s"] = "1 / latency of later tokens, one sequence"
    if "Inference latency" in found:
        values["e2e_s"] = found["Inference latency"]
    return Read(results=(Result(values, how),), rows_read=len(found))


FORMATS = (
    Format("generation stages text", "prefill and generation stages of a client", sniff_stages, read_stages),
    Format("token latency text", "first and later token latencies of a script", sniff_latency, read_latency),
)
