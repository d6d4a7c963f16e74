"""Sensors and a window -> metrics, each with its derivation, or with the reason why it is absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.measure.run_folder.alignment import Window
from engine.measure.run_folder.trace import Scope, Trace, total_power

# What "the" power of a run is, best first: the accelerators' own, a system-on-chip's total, the processor
# package, and last the whole node with its fans. They overlap, so they are never added.
POWER_SCOPES: Final[tuple[Scope, ...]] = ("device", "soc", "package", "node")
SCOPE_TEXT: Final[dict[str, str]] = {
    "device": "accelerator power",
    "soc": "power of the whole chip",
    "package": "processor package power, memory not included",
    "node": "node power, fans and supplies included",
}


_FEWEST_IDLE: Final = 5
"""Sampling intervals outside the window that make an idle level worth the name."""
_LARGEST: Final = 1e300
"""Beyond it lies infinity; NaN is not below it either."""


@dataclass
class Values:
    """Metrics of one row while it is put together."""

    values: dict[str, float] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    """Metric -> derivation."""
    files: dict[str, str] = field(default_factory=dict)
    """Metric -> file it rests on."""
    absent: dict[str, str] = field(default_factory=dict)
    """Metric -> why there is none."""
    low_high: dict[str, tuple[float, float]] = field(default_factory=dict)

    def put(self, metric: str, value: float | None, how: str = "", file: str = "") -> None:
        """A value, unless the metric has one already or there is none."""
        if value is None or not abs(value) < _LARGEST or metric in self.values:
            return
        self.values[metric] = value
        self.absent.pop(metric, None)
        if how:
            self.how[metric] = how
        if file:
            self.files[metric] = file

    def lack(self, metric: str, why: str) -> None:
        """Why a metric is absent; the first reason stays."""
        if metric not in self.values:
            self.absent.setdefault(metric, why)


def power_of(traces: Sequence[Trace]) -> Trace | None:
    """The run's power over all devices of the best scope; None when nothing was logged."""
    for scope in POWER_SCOPES:
        own = [t for t in traces if t.quantity == "power" and t.scope == scope]
        if own:
            return total_power(own)
    return None


def put_power(row: Values, power: Trace, window: Window | None, *, why_not: str, file: str) -> None:
    """Power and energy inside the window, and of the whole log beside them."""
    scope = SCOPE_TEXT.get(power.scope, power.scope)
    whole = (power.start, power.end)
    timed = power.interval_s is not None and power.end > power.start
    if timed:
        row.put("whole_log_energy_j", power.over(whole), f"{scope}, whole log, idle included", file)
        row.put("whole_log_power_w", power.mean(whole), f"{scope}, whole log, idle included", file)
    if window is None:
        for metric in ("average_power_w", "peak_power_w", "energy_j"):
            row.lack(metric, why_not)
        return
    where = f"{scope}; {window.text}"
    if not timed:
        row.put(
            "average_power_w",
            float(power.value.mean()),
            f"{scope}; plain mean of samples without times",
            file,
        )
        row.put("peak_power_w", float(power.peak.max()), f"{scope}; largest sample", file)
        row.lack("energy_j", "the power log carries no times and no `interval` is declared")
        return
    stated = "energy_j" in row.values  # a log that sums up its own energy knows its own window
    energy = power.over(window.span)
    inside = min(window.end, power.end) - max(window.start, power.start)
    row.put("energy_j", energy, f"trapezoid over samples, {where}", file)
    row.put("average_power_w", energy / inside if inside > 0 else None, f"energy / time, {where}", file)
    devices = " (sum over devices)" if "devices" in power.device else ""
    row.put("peak_power_w", power.highest(window.span), f"largest sample{devices}, {where}", file)
    row.put("window_s", inside, window.text, file)
    row.put(
        "gap_energy_share",
        _gap_share(power, window, energy),
        "energy in gaps longer than 3 median intervals",
        file,
    )
    if stated:
        return
    if window.kind != "whole" and power.end - power.start - inside >= _FEWEST_IDLE * (
        power.interval_s or 0.0
    ):
        idle = _outside_mean(power, window)
        row.put(
            "idle_power_w", idle, f"{scope}; mean outside the window, loading of the model included", file
        )
        row.put("net_energy_j", energy - idle * inside, "energy_j - idle_power_w x window_s", file)
    _put_uncertainty(row, power, window, energy, inside)


def _gap_share(power: Trace, window: Window, energy: float) -> float | None:
    inside = [(max(a, window.start), min(b, window.end)) for a, b in power.gaps]
    lost = sum(power.over(gap) for gap in inside if gap[1] > gap[0])
    return lost / energy if energy > 0 else None


def _put_uncertainty(row: Values, power: Trace, window: Window, energy: float, inside: float) -> None:
    """How far the energy may be off: by sampling (every second sample instead) and by the window's ends.

    The sensor's own gain (about 5 % for board power) is not in it: it is the same for all runs of a device.
    """
    if energy <= 0 or inside <= 0:
        return
    whole = float(power.integral[-1])
    sampling = (
        abs(whole - power.half_integral) / whole if power.half_integral is not None and whole > 0 else 0.0
    )
    idle = _outside_mean(power, window)
    edges = 2 * window.edge_s * abs(energy / inside - idle) if window.kind != "whole" else 0.0
    error = sampling * energy + edges
    row.low_high["energy_j"] = (energy - error, energy + error)
    average = row.values.get("average_power_w")
    if average is not None:
        row.low_high["average_power_w"] = (average * (1 - error / energy), average * (1 + error / energy))


def _outside_mean(power: Trace, window: Window) -> float:
    before, after = max(0.0, window.start - power.start), max(0.0, power.end - window.end)
    if before + after <= 0:
        return 0.0
    outside = float(power.integral[-1]) - power.over(window.span)
    return outside / (before + after)


def _of_scope(traces: Sequence[Trace], quantity: str, first: str | None = None) -> list[Trace]:
    """The traces of a quantity at the best scope that has any: `first`, then as for power, then parts."""
    own = [t for t in traces if t.quantity == quantity]
    for scope in (first, *POWER_SCOPES):
        if found := [t for t in own if t.scope == scope]:
            return found
    return own


def put_thermal(
    row: Values,
    traces: Sequence[Trace],
    window: Window | None,
    *,
    limit_c: float | None,
    file: str,
    scope: Scope | None = None,
) -> None:
    """Temperatures, throttling and headroom inside the window, and of the whole log beside them.

    `scope` is that of the power shown: the heat of a processor beside an accelerator is another matter.
    """
    dies = _of_scope(traces, "temperature", scope)
    if dies:
        _put_temperatures(row, dies, window, file)
    elif "peak_temperature_c" not in row.values:
        for metric in ("peak_temperature_c", "average_temperature_c", "thermal_headroom_c"):
            row.lack(metric, "no temperature was logged")
    margins = [t for t in traces if t.quantity == "margin"]
    same = [t for t in margins if not dies or t.scope == dies[0].scope]
    margins = same or ([] if limit_c is not None else margins)
    peak = row.values.get("peak_temperature_c")
    if margins:
        row.put(
            "thermal_headroom_c",
            min(float(t.value.min()) for t in margins),
            "smallest logged margin to the limit",
            file,
        )
    elif peak is not None and limit_c is not None:
        row.put("thermal_headroom_c", limit_c - peak, f"limit {limit_c:g} C - peak temperature", file)
    elif peak is not None:
        row.lack("thermal_headroom_c", "no throttle temperature is logged or declared")
    _put_throttling(row, [t for t in traces if t.quantity == "throttle"], window, file)


def _inside(trace: Trace, window: Window | None) -> tuple[float, float] | None:
    """The window where the trace meets it; None when it must be the whole log.

    A step in power tells when power was drawn; heat and memory follow it late, so that window is not theirs.
    """
    if window is None or window.kind in ("whole", "step") or trace.zone == "none":
        return None
    start, end = max(window.start, trace.start), min(window.end, trace.end)
    return (start, end) if end > start else None


def _put_temperatures(row: Values, dies: Sequence[Trace], window: Window | None, file: str) -> None:
    spans = [_inside(t, window) for t in dies]
    cut = all(span is not None and t.highest(span) is not None for t, span in zip(dies, spans, strict=True))
    where = window.text if cut and window is not None else "whole log"
    peaks, means = [], []
    for trace, span in zip(dies, spans, strict=True):
        used = span if cut and span is not None else (trace.start, trace.end)
        peaks.append(trace.highest(used) or float(trace.peak.max()))
        means.append(trace.mean(used))
    shown = (f"device {t.device}" if t.device.isdigit() else t.device for t in dies if t.device)
    names = ", ".join(sorted(set(shown))[:4])
    sensor = f" of {names}" if names else ""
    row.put("peak_temperature_c", max(peaks), f"largest sample{sensor}, {where}", file)
    row.put("average_temperature_c", sum(means) / len(means), f"time-weighted mean{sensor}, {where}", file)
    row.put(
        "whole_log_peak_temperature_c",
        max(float(t.peak.max()) for t in dies),
        "largest sample, whole log",
        file,
    )
    row.put(
        "whole_log_average_temperature_c",
        sum(t.mean((t.start, t.end)) for t in dies) / len(dies),
        "time-weighted mean, whole log",
        file,
    )


def _put_throttling(row: Values, flags: Sequence[Trace], window: Window | None, file: str) -> None:
    if not flags:
        row.lack("throttle_events", "no throttle flag was logged")
        return
    spans = [_inside(t, window) or (t.start, t.end) for t in flags]
    cut = window is not None and any(_inside(t, window) for t in flags)
    where = window.text if cut and window is not None else "whole log"
    events = sum(_events(t, span) for t, span in zip(flags, spans, strict=True))
    samples = sum(sum(a <= x <= b for x in t.set_s) for t, (a, b) in zip(flags, spans, strict=True))
    row.put("throttle_events", float(events), f"rising edges of the flag, {where}", file)
    row.put("throttled_samples", float(samples), f"samples with the flag set, {where}", file)
    row.put(
        "whole_log_throttle_events",
        float(sum(len(t.edges_s) for t in flags)),
        "rising edges, whole log",
        file,
    )


def _events(trace: Trace, span: tuple[float, float]) -> int:
    """Rising edges inside a span; a flag that is up at its first sample there counts as one."""
    edges = [x for x in trace.edges_s if span[0] <= x <= span[1]]
    first = next((x for x in trace.set_s if span[0] <= x <= span[1]), None)
    return len(edges) + (1 if first is not None and first not in edges else 0)


def put_memory(row: Values, traces: Sequence[Trace], window: Window | None, *, file: str) -> None:
    """Memory in use over all devices, and the cache hit rate."""
    used = _of_scope(traces, "memory")
    if used:
        total = total_power(used)
        span = _inside(total, window)
        peak = total.highest(span) if span else None
        where = window.text if peak is not None and window is not None else "whole log"
        whose = "memory of the system in use" if total.scope == "node" else "memory in use"
        row.put(
            "memory_used_bytes", peak or float(total.peak.max()), f"largest sample of {whose}, {where}", file
        )
    hits = [t for t in traces if t.quantity == "cache_hit_rate"]
    for trace in hits[:1]:
        span = _inside(trace, window) or (trace.start, trace.end)
        mean = trace.mean(span) if trace.interval_s else float(trace.value.mean())
        row.put("cache_hit_rate", mean, "mean of the logged hit rate", file)
    row.lack("cache_hit_rate", "no log holds cache counters")


MEAN_GENERATION: Final = "mean request latency - mean time to first token"


def put_requests(row: Values) -> None:
    """What follows for the requests of a serving run from others of their numbers."""
    values = row.values
    e2e, ttft = values.get("e2e_s"), values.get("ttft_s")
    if e2e is not None and ttft is not None and e2e > ttft and "completed_requests" in values:
        row.put("generation_s", e2e - ttft, MEAN_GENERATION)
    failed, done = values.get("failed_requests"), values.get("completed_requests")
    if failed is not None and done is not None and failed + done > 0:
        row.put("error_rate", failed / (failed + done), "failed / (completed + failed requests)")


def put_ratios(row: Values) -> None:
    """What follows from a rate, a power and a count."""
    values = row.values
    tokens, energy = values.get("output_tokens"), values.get("energy_j")
    if tokens and energy is not None:
        where = row.how.get("energy_j", "").partition("; ")[2] or row.how.get("energy_j", "")
        row.put("energy_per_output_token_j", energy / tokens, f"energy_j / output_tokens; {where}")
        row.put(
            "tokens_per_joule", tokens / energy if energy > 0 else None, f"output_tokens / energy_j; {where}"
        )
        if "energy_j" in row.low_high:
            low, high = row.low_high["energy_j"]
            row.low_high["energy_per_output_token_j"] = (low / tokens, high / tokens)
    rate, power = values.get("throughput_tokens_per_s"), values.get("average_power_w")
    if rate is not None and power:
        row.put("tokens_per_s_per_w", rate / power, "throughput_tokens_per_s / average_power_w")
    for metric, needs in (
        ("energy_per_output_token_j", "energy_j"),
        ("tokens_per_s_per_w", "average_power_w"),
    ):
        missing = "output_tokens" if needs in values else needs
        row.lack(metric, row.absent.get(missing, f"`{missing}` is absent"))


def put_logged_bandwidth(row: Values, traces: Sequence[Trace], window: Window | None, *, file: str) -> None:
    """Share of cycles in which the memory interface moved data, where a log counts them.

    Traffic comes and goes with the work, as power does: a window found in the power log holds here too.
    """
    shares = [t for t in traces if t.quantity == "bandwidth"]
    if not shares:
        return
    power = next((t for t in traces if t.quantity == "power"), None)
    cut = (
        window is not None
        and power is not None
        and all(t.zone == power.zone and min(t.end, window.end) > max(t.start, window.start) for t in shares)
    )
    means = [t.mean(window.span if cut and window is not None else (t.start, t.end)) for t in shares]
    where = window.text if cut and window is not None else "whole log"
    text = f"share of cycles in which device memory moved data, mean over devices, {where}"
    row.put("bandwidth_utilization", sum(means) / len(means), text, file)


def put_bandwidth(
    row: Values,
    *,
    bytes_per_token: float | None,
    peak_bytes_per_s: float | None,
) -> None:
    """Share of the peak bandwidth: bytes of one step x steps per second."""
    rate = row.values.get("throughput_tokens_per_s")
    if peak_bytes_per_s is None:
        row.lack("bandwidth_utilization", "no peak bandwidth is declared and the device is not known")
        return
    weights = row.values.get("weights_bytes")
    used, basis = bytes_per_token, "declared bytes per token"
    if used is None and weights is not None and "tpot_s" in row.values:
        used, basis = weights, "weights read once a step: a lower bound, cache and activations not included"
        rate = 1 / row.values["tpot_s"]
    if used is None or rate is None:
        row.lack(
            "bandwidth_utilization", "neither the bytes moved per token nor the size of the weights is known"
        )
        return
    row.put(
        "bandwidth_utilization", used * rate / peak_bytes_per_s, f"{basis}; over {peak_bytes_per_s:.4g} B/s"
    )
