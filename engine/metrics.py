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


def _metric(
    name: str, label: str, unit: str, group: Group, direction: Direction, definition: str, formula: str = ""
) -> Metric:
    return Metric(name, label, unit, group, direction, definition, formula)


_ALL: Final = (
    # speed
    _metric("output_tokens_per_s", "Output throughput", "tokens/s", "speed", "higher",
            "Generated tokens of all sequences per second of the phase or window.",
            "output tokens / time"),
    _metric("output_tokens_per_s_per_device", "Output throughput per device", "tokens/s", "speed", "higher",
            "Output throughput divided by the number of devices.", "output_tokens_per_s / devices"),
    _metric("output_tokens_per_s_per_user", "Interactivity", "tokens/s", "speed", "higher",
            "Generated tokens per second that one sequence sees.", "1 / tpot_s"),
    _metric("total_tokens_per_s", "Total throughput", "tokens/s", "speed", "higher",
            "Prompt and generated tokens of all sequences per second.", "(prompt + output tokens) / time"),
    _metric("prompt_tokens_per_s", "Prefill throughput", "tokens/s", "speed", "higher",
            "Prompt tokens processed per second of prefill.", "batch x prompt tokens / prefill time"),
    _metric("requests_per_s", "Request throughput", "requests/s", "speed", "higher",
            "Completed requests per second of the window.", "completed requests / time"),
    _metric("goodput_requests_per_s", "Goodput", "requests/s", "speed", "higher",
            "Completed requests per second that met every requirement of the spec; failures count against it.",
            "requests meeting `require` / time"),
    _metric("sum_of_request_tokens_per_s", "Sum of per-request rates", "tokens/s", "speed", "higher",
            "Sum over requests of their own output tokens / latency. Overstates the rate when requests do not "
            "overlap; kept for comparison with other tools.", "sum(tokens_i / latency_i)"),
    # latency
    _metric("ttft_s", "Time to first token", "s", "latency", "lower",
            "From sending a request to its first generated token; predicted and in-process values contain prefill "
            "only, no queue.", "first token - sent"),
    _metric("tpot_s", "Time per output token", "s", "latency", "lower",
            "Mean time between generated tokens after the first.", "(e2e - ttft) / (output tokens - 1)"),
    _metric("itl_s", "Inter-token latency", "s", "latency", "lower",
            "Gaps between consecutive tokens, pooled over requests.", "t[i+1] - t[i]"),
    _metric("e2e_s", "Request latency", "s", "latency", "lower",
            "From sending a request to its last token.", "last token - sent"),
    _metric("e2e_from_schedule_s", "Request latency from schedule", "s", "latency", "lower",
            "From the moment the load pattern wanted the request to its last token; contains client queueing.",
            "last token - scheduled"),
    _metric("queue_s", "Queue time", "s", "latency", "lower",
            "Time a request waited at the client before it was sent.", "sent - scheduled"),
    _metric("time_s", "Time of the phase", "s", "latency", "lower",
            "Time of the phase or step on the device; for predictions the sum of operator times.", "sum(t_op)"),
    _metric("generation_s", "Generation time", "s", "latency", "lower",
            "Time of all decode steps of a request.", "(output tokens - 1) x tpot"),
    _metric("load_s", "Load time", "s", "latency", "lower", "Time to load the model and make it ready."),
    # work
    _metric("flops", "FLOPs", "FLOP", "work", "neutral",
            "Floating-point operations of the phase over all devices; one multiply-add counts two."),
    _metric("memory_traffic_bytes", "Memory traffic", "B", "work", "lower",
            "Bytes moved to and from device memory in the phase over all devices: weights, activations, cache."),
    _metric("intensity_flops_per_byte", "Arithmetic intensity", "FLOP/B", "work", "neutral",
            "FLOPs per byte of device-memory traffic.", "flops / memory_traffic_bytes"),
    _metric("communication_bytes", "Communication", "B", "work", "lower",
            "Bytes each device hands to its links in the phase."),
    _metric("communication_s", "Communication time", "s", "work", "lower",
            "Time of collectives in the phase that is not hidden by overlap."),
    _metric("mfu", "Model FLOPs utilisation", "", "work", "higher",
            "Share of the dense peak of all devices, in the arithmetic precision in use, spent on model FLOPs.",
            "flops / (time x devices x peak)"),
    _metric("mbu", "Memory bandwidth utilisation", "", "work", "higher",
            "Share of the peak memory bandwidth of all devices that the minimal traffic needs.",
            "memory_traffic_bytes / (time x devices x bandwidth)"),
    _metric("distinct_experts", "Distinct experts", "", "work", "neutral",
            "Expected number of different routed experts that the tokens of a step touch, per layer.",
            "sum_i 1 - (1 - p_i)^T"),
    # memory
    _metric("parameters", "Parameters", "", "memory", "neutral", "Number of parameters of the model."),
    _metric("weights_bytes", "Weights", "B", "memory", "lower",
            "Stored weights with group scales and zero points on the fullest device."),
    _metric("kv_cache_bytes", "KV cache", "B", "memory", "lower",
            "Keys and values of all sequences at their longest, on the fullest device."),
    _metric("activations_bytes", "Peak activations", "B", "memory", "lower",
            "Largest set of live activations including logits, on the fullest device."),
    _metric("reserve_bytes", "Reserve", "B", "memory", "lower",
            "Memory set aside for the framework, graphs and communication buffers; a stated assumption."),
    _metric("memory_needed_bytes", "Memory needed", "B", "memory", "lower",
            "Weights, KV cache, activations and reserve on the fullest device.",
            "weights + kv cache + activations + reserve"),
    _metric("memory_free_bytes", "Memory left", "B", "memory", "higher",
            "Usable device memory minus memory needed; negative is the shortfall.",
            "usable memory - memory_needed_bytes"),
    _metric("memory_used_bytes", "Memory used", "B", "memory", "lower", "Device or system memory in use, measured."),
    _metric("device_allocated_peak_bytes", "Peak allocated", "B", "memory", "lower",
            "Largest device memory held by tensors."),
    _metric("device_reserved_peak_bytes", "Peak reserved", "B", "memory", "lower",
            "Largest device memory held by the framework's allocator, fragmentation included."),
    _metric("host_rss_peak_bytes", "Peak host memory", "B", "memory", "lower",
            "Largest resident set of the measuring process."),
    _metric("max_batch_size", "Largest batch", "", "memory", "higher",
            "Most sequences of this length that fit, in closed form."),
    _metric("max_context_tokens", "Longest context", "tokens", "memory", "higher",
            "Longest prompt plus output at this batch that fits, in closed form."),
    _metric("bandwidth_utilization", "Bandwidth utilisation", "", "memory", "higher",
            "Bytes moved per second over the declared peak; absent without a peak. Not the `utilization.memory` "
            "counter, which is a share of time."),
    _metric("cache_hit_rate", "Cache hit rate", "", "memory", "higher",
            "Hits over hits and misses of the last-level cache."),
    # energy
    _metric("energy_j", "Energy", "J", "energy", "lower", "Energy of the phase or window over all devices, gross."),
    _metric("net_energy_j", "Net energy", "J", "energy", "lower",
            "Energy above idle over the window.", "energy_j - idle power x time"),
    _metric("energy_per_output_token_j", "Energy per output token", "J", "energy", "lower",
            "Gross energy over all devices per generated token of the phase or window.",
            "energy_j / output tokens"),
    _metric("energy_per_prompt_token_j", "Energy per prompt token", "J", "energy", "lower",
            "Gross prefill energy per prompt token.", "prefill energy / prompt tokens"),
    _metric("energy_per_request_j", "Energy per request", "J", "energy", "lower", "Gross energy per request."),
    _metric("average_power_w", "Average power", "W", "energy", "lower",
            "Time-weighted mean power over the window, all devices.", "energy_j / time"),
    _metric("peak_power_w", "Peak power", "W", "energy", "lower",
            "Largest sum over devices at one time stamp."),
    _metric("idle_power_w", "Idle power", "W", "energy", "lower", "Mean power while nothing runs."),
    _metric("tokens_per_joule", "Tokens per joule", "tokens/J", "energy", "higher",
            "Generated tokens per joule, the same as tokens/s/W.", "output tokens / energy_j"),
    # cost
    _metric("cost_per_million_output_tokens_usd", "Cost per million output tokens", "USD", "cost", "lower",
            "Device-hour price over output tokens; absent without a price.",
            "devices x price / 3600 / output_tokens_per_s x 1e6"),
    # thermal
    _metric("peak_temperature_c", "Peak temperature", "C", "thermal", "lower", "Highest die temperature."),
    _metric("average_temperature_c", "Average temperature", "C", "thermal", "lower",
            "Time-weighted mean temperature."),
    _metric("throttle_events", "Throttling events", "", "thermal", "lower",
            "Rising edges of a throttle flag; a flag set in the first row counts as one."),
    _metric("thermal_headroom_c", "Thermal headroom", "C", "thermal", "higher",
            "Throttle temperature minus peak temperature; absent without a declared or logged limit."),
    # quality
    _metric("error_rate", "Failed share", "", "quality", "lower", "Failed requests over all requests."),
    _metric("completed_requests", "Completed requests", "", "quality", "higher", "Requests that ended well."),
    _metric("failed_requests", "Failed requests", "", "quality", "lower", "Requests that failed, whatever the cause."),
    _metric("output_tokens", "Output tokens", "tokens", "quality", "neutral", "Generated tokens of the window."),
    _metric("accuracy", "Accuracy", "", "quality", "higher", "Share of checks passed; 1 or 0 for a pass mark."),
    # training
    _metric("training_sequences_per_s", "Training throughput", "sequences/s", "training", "higher",
            "Sequences trained per second over all nodes."),
    _metric("training_mfu", "Training MFU", "", "training", "higher",
            "Training FLOPs per second and node over the node's peak.",
            "throughput x FLOPs per sequence / nodes / peak"),
    _metric("kernel_ratio", "Custom-kernel share", "", "training", "higher",
            "Multiply-adds done by custom kernels over all counted multiply-adds."),
    _metric("training_loss", "Training loss", "", "training", "lower", "Loss reported by the training log."),
)  # fmt: skip

METRICS: Final[Mapping[str, Metric]] = MappingProxyType({metric.name: metric for metric in _ALL})
