"""Every metric once: name, unit, meaning, direction and formula.

Tables, charts, workbook headers, the glossary, scoring and `engine explain` read this list, so a label
or a definition is written in one place only. A name ends in its unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Direction = Literal["higher", "lower", "neutral"]
Group = Literal["speed", "latency", "work", "memory", "energy", "cost", "quality", "thermal", "training"]


@dataclass(frozen=True)
class Metric:
    """One metric: `unit` is the base unit stored in tables ("" for ratios and counts)."""

    name: str
    label: str
    unit: str
    group: Group
    direction: Direction
    definition: str
    formula: str = ""


_ALL: Final = (
    # speed
    Metric(
        "output_tokens_per_s",
        "Output throughput",
        "tokens/s",
        "speed",
        "higher",
        "Generated tokens of all sequences per second of the phase or window.",
        "output tokens / time",
    ),
    Metric(
        "output_tokens_per_s_per_device",
        "Output throughput per device",
        "tokens/s",
        "speed",
        "higher",
        "Output throughput divided by the number of devices.",
        "output_tokens_per_s / devices",
    ),
    Metric(
        "output_tokens_per_s_per_user",
        "Interactivity",
        "tokens/s",
        "speed",
        "higher",
        "Generated tokens per second that one sequence sees.",
        "1 / tpot_s",
    ),
    Metric(
        "total_tokens_per_s",
        "Total throughput",
        "tokens/s",
        "speed",
        "higher",
        "Prompt and generated tokens of all sequences per second.",
        "(prompt + output tokens) / time",
    ),
    Metric(
        "prompt_tokens_per_s",
        "Prefill throughput",
        "tokens/s",
        "speed",
        "higher",
        "Prompt tokens processed per second of prefill.",
        "batch x prompt tokens / prefill time",
    ),
    Metric(
        "requests_per_s",
        "Request throughput",
        "requests/s",
        "speed",
        "higher",
        "Completed requests per second of the window.",
        "completed requests / time",
    ),
    Metric(
        "goodput_requests_per_s",
        "Goodput",
        "requests/s",
        "speed",
        "higher",
        "Completed requests per second that met every requirement of the spec; failures count against it.",
        "requests meeting `require` / time",
    ),
    Metric(
        "sum_of_request_tokens_per_s",
        "Sum of per-request rates",
        "tokens/s",
        "speed",
        "higher",
        "Sum over requests of their own output tokens / latency. Overstates the rate when requests do not "
        "overlap; kept for comparison with other tools.",
        "sum(tokens_i / latency_i)",
    ),
    Metric(
        "throughput_tokens_per_s",
        "Generation speed",
        "tokens/s",
        "speed",
        "higher",
        "Headline rate of a log: decode steps over decode time of a single run, generated tokens over the "
        "duration of a serving run.",
        "decode steps / decode time, or output tokens / duration",
    ),
    # latency
    Metric(
        "ttft_s",
        "Time to first token",
        "s",
        "latency",
        "lower",
        "From sending a request to its first generated token; predicted and in-process values are prefill "
        "only, no queue.",
        "first token - sent",
    ),
    Metric(
        "tpot_s",
        "Time per output token",
        "s",
        "latency",
        "lower",
        "Mean time between generated tokens after the first.",
        "(e2e - ttft) / (output tokens - 1)",
    ),
    Metric(
        "itl_s",
        "Inter-token latency",
        "s",
        "latency",
        "lower",
        "Gaps between consecutive tokens, pooled over requests.",
        "t[i+1] - t[i]",
    ),
    Metric(
        "e2e_s",
        "Request latency",
        "s",
        "latency",
        "lower",
        "From sending a request to its last token.",
        "last token - sent",
    ),
    Metric(
        "e2e_from_schedule_s",
        "Request latency from schedule",
        "s",
        "latency",
        "lower",
        "From the moment the load pattern wanted the request to its last token; contains client queueing.",
        "last token - scheduled",
    ),
    Metric(
        "queue_s",
        "Queue time",
        "s",
        "latency",
        "lower",
        "Time a request waited at the client before it was sent.",
        "sent - scheduled",
    ),
    Metric(
        "time_s",
        "Time of the phase",
        "s",
        "latency",
        "lower",
        "Time of the phase or step on the device; for predictions the sum of operator times.",
        "sum(t_op)",
    ),
    Metric(
        "generation_s",
        "Generation time",
        "s",
        "latency",
        "lower",
        "Time of all decode steps of a request.",
        "(output tokens - 1) x tpot",
    ),
    Metric("load_s", "Load time", "s", "latency", "lower", "Time to load the model and make it ready."),
    # work
    Metric(
        "flops",
        "FLOPs",
        "FLOP",
        "work",
        "neutral",
        "Floating-point operations of the phase over all devices; one multiply-add counts two.",
    ),
    Metric(
        "memory_traffic_bytes",
        "Memory traffic",
        "B",
        "work",
        "lower",
        "Bytes moved to and from device memory in the phase over all devices: weights, activations, cache.",
    ),
    Metric(
        "intensity_flops_per_byte",
        "Arithmetic intensity",
        "FLOP/B",
        "work",
        "neutral",
        "FLOPs per byte of device-memory traffic.",
        "flops / memory_traffic_bytes",
    ),
    Metric(
        "communication_bytes",
        "Communication",
        "B",
        "work",
        "lower",
        "Bytes each device hands to its links in the phase.",
    ),
    Metric(
        "communication_s",
        "Communication time",
        "s",
        "work",
        "lower",
        "Time of collectives in the phase that is not hidden by overlap.",
    ),
    Metric(
        "mfu",
        "Model FLOPs utilisation",
        "",
        "work",
        "higher",
        "Share of the dense peak of all devices, in the arithmetic precision in use, spent on model FLOPs.",
        "flops / (time x devices x peak)",
    ),
    Metric(
        "mbu",
        "Memory bandwidth utilisation",
        "",
        "work",
        "higher",
        "Share of the peak memory bandwidth of all devices that the minimal traffic needs.",
        "memory_traffic_bytes / (time x devices x bandwidth)",
    ),
    Metric(
        "distinct_experts",
        "Distinct experts",
        "",
        "work",
        "neutral",
        "Expected number of different routed experts that the tokens of a step touch, per layer.",
        "sum_i 1 - (1 - p_i)^T",
    ),
    # memory
    Metric("parameters", "Parameters", "", "memory", "neutral", "Number of parameters of the model."),
    Metric(
        "weights_bytes",
        "Weights",
        "B",
        "memory",
        "lower",
        "Stored weights with group scales and zero points on the fullest device.",
    ),
    Metric(
        "kv_cache_bytes",
        "KV cache",
        "B",
        "memory",
        "lower",
        "Keys and values of all sequences at their longest, on the fullest device.",
    ),
    Metric(
        "activations_bytes",
        "Peak activations",
        "B",
        "memory",
        "lower",
        "Largest set of live activations including logits, on the fullest device.",
    ),
    Metric(
        "reserve_bytes",
        "Reserve",
        "B",
        "memory",
        "lower",
        "Memory set aside for the framework, graphs and communication buffers; a stated assumption.",
    ),
    Metric(
        "memory_needed_bytes",
        "Memory needed",
        "B",
        "memory",
        "lower",
        "Weights, KV cache, activations and reserve on the fullest device.",
        "weights + kv cache + activations + reserve",
    ),
    Metric(
        "memory_free_bytes",
        "Memory left",
        "B",
        "memory",
        "higher",
        "Usable device memory minus memory needed; negative is the shortfall.",
        "usable memory - memory_needed_bytes",
    ),
    Metric(
        "memory_used_bytes",
        "Memory used",
        "B",
        "memory",
        "lower",
        "Device or system memory in use, measured.",
    ),
    Metric(
        "device_allocated_peak_bytes",
        "Peak allocated",
        "B",
        "memory",
        "lower",
        "Largest device memory held by tensors.",
    ),
    Metric(
        "device_reserved_peak_bytes",
        "Peak reserved",
        "B",
        "memory",
        "lower",
        "Largest device memory held by the framework's allocator, fragmentation included.",
    ),
    Metric(
        "host_rss_peak_bytes",
        "Peak host memory",
        "B",
        "memory",
        "lower",
        "Largest resident set of the measuring process.",
    ),
    Metric(
        "max_batch_size",
        "Largest batch",
        "",
        "memory",
        "higher",
        "Most sequences of this length that fit, in closed form.",
    ),
    Metric(
        "max_context_tokens",
        "Longest context",
        "tokens",
        "memory",
        "higher",
        "Longest prompt plus output at this batch that fits, in closed form.",
    ),
    Metric(
        "bandwidth_utilization",
        "Bandwidth utilisation",
        "",
        "memory",
        "higher",
        "Bytes moved per second over the declared peak; absent without a peak. Not the `utilization.memory` "
        "counter, which is a share of time.",
    ),
    Metric(
        "cache_hit_rate",
        "Cache hit rate",
        "",
        "memory",
        "higher",
        "Hits over hits and misses of the last-level cache.",
    ),
    # energy
    Metric(
        "energy_j", "Energy", "J", "energy", "lower", "Energy of the phase or window over all devices, gross."
    ),
    Metric(
        "net_energy_j",
        "Net energy",
        "J",
        "energy",
        "lower",
        "Energy above idle over the window.",
        "energy_j - idle power x time",
    ),
    Metric(
        "energy_per_output_token_j",
        "Energy per output token",
        "J",
        "energy",
        "lower",
        "Gross energy over all devices per generated token of the phase or window.",
        "energy_j / output tokens",
    ),
    Metric(
        "energy_per_prompt_token_j",
        "Energy per prompt token",
        "J",
        "energy",
        "lower",
        "Gross prefill energy per prompt token.",
        "prefill energy / prompt tokens",
    ),
    Metric("energy_per_request_j", "Energy per request", "J", "energy", "lower", "Gross energy per request."),
    Metric(
        "average_power_w",
        "Average power",
        "W",
        "energy",
        "lower",
        "Time-weighted mean power over the window, all devices.",
        "energy_j / time",
    ),
    Metric(
        "peak_power_w", "Peak power", "W", "energy", "lower", "Largest sum over devices at one time stamp."
    ),
    Metric("idle_power_w", "Idle power", "W", "energy", "lower", "Mean power while nothing runs."),
    Metric(
        "tokens_per_joule",
        "Tokens per joule",
        "tokens/J",
        "energy",
        "higher",
        "Generated tokens per joule, the same as tokens/s/W.",
        "output tokens / energy_j",
    ),
    Metric(
        "tokens_per_s_per_w",
        "Power efficiency",
        "tokens/s/W",
        "energy",
        "higher",
        "Generation speed over average power; the same as tokens per joule where both cover one window.",
        "throughput_tokens_per_s / average_power_w",
    ),
    Metric(
        "whole_log_energy_j",
        "Energy of the whole log",
        "J",
        "energy",
        "neutral",
        "Energy from the first to the last power sample, idle before and after the run included.",
    ),
    Metric(
        "whole_log_power_w",
        "Average power of the whole log",
        "W",
        "energy",
        "neutral",
        "Time-weighted mean power from the first to the last sample, idle included.",
    ),
    Metric(
        "window_s",
        "Power window",
        "s",
        "energy",
        "neutral",
        "Length of the time window that power and energy refer to.",
    ),
    Metric(
        "gap_energy_share",
        "Energy in sampling gaps",
        "",
        "energy",
        "lower",
        "Share of the window's energy that lies in gaps longer than three median sampling intervals.",
        "energy in gaps / energy_j",
    ),
    # cost
    Metric(
        "cost_per_million_output_tokens_usd",
        "Cost per million output tokens",
        "USD",
        "cost",
        "lower",
        "Device-hour price over output tokens; absent without a price.",
        "devices x price / 3600 / output_tokens_per_s x 1e6",
    ),
    # thermal
    Metric("peak_temperature_c", "Peak temperature", "C", "thermal", "lower", "Highest die temperature."),
    Metric(
        "average_temperature_c",
        "Average temperature",
        "C",
        "thermal",
        "lower",
        "Time-weighted mean temperature.",
    ),
    Metric(
        "throttle_events",
        "Throttling events",
        "",
        "thermal",
        "lower",
        "Rising edges of a throttle flag; a flag set in the first row counts as one.",
    ),
    Metric(
        "throttled_samples",
        "Throttled samples",
        "",
        "thermal",
        "lower",
        "Samples in which a throttle flag was set.",
    ),
    Metric(
        "thermal_headroom_c",
        "Thermal headroom",
        "C",
        "thermal",
        "higher",
        "Throttle temperature minus peak temperature; absent without a declared or logged limit.",
    ),
    # quality
    Metric("error_rate", "Failed share", "", "quality", "lower", "Failed requests over all requests."),
    Metric("completed_requests", "Completed requests", "", "quality", "higher", "Requests that ended well."),
    Metric(
        "failed_requests",
        "Failed requests",
        "",
        "quality",
        "lower",
        "Requests that failed, whatever the cause.",
    ),
    Metric(
        "output_tokens", "Output tokens", "tokens", "quality", "neutral", "Generated tokens of the window."
    ),
    Metric(
        "accuracy", "Accuracy", "", "quality", "higher", "Share of checks passed; 1 or 0 for a pass mark."
    ),
    # training
    Metric(
        "training_sequences_per_s",
        "Training throughput",
        "sequences/s",
        "training",
        "higher",
        "Sequences trained per second over all nodes.",
    ),
    Metric(
        "training_mfu",
        "Training MFU",
        "",
        "training",
        "higher",
        "Training FLOPs per second and node over the node's peak.",
        "throughput x FLOPs per sequence / nodes / peak",
    ),
    Metric(
        "kernel_ratio",
        "Custom-kernel share",
        "",
        "training",
        "higher",
        "Multiply-adds done by custom kernels over all counted multiply-adds.",
    ),
    Metric("training_loss", "Training loss", "", "training", "lower", "Loss reported by the training log."),
)

METRICS: Final[Mapping[str, Metric]] = MappingProxyType({metric.name: metric for metric in _ALL})
