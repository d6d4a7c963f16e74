"""From a recording to tables: the one way from readings to rows, whether metered here or replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.measure.energy.ablation import Ablation, ablations
from engine.measure.energy.additivity import WHOLE, WITHOUT, Closure, by_difference, close
from engine.measure.energy.attribution import spread_over_layers, window_rows
from engine.measure.energy.integrate import Board, sampling
from engine.measure.energy.phases import (
    GAIN,
    ORDER,
    TIME_ONLY,
    Subject,
    baseline,
    drift,
    idle_rows,
    phase_rows,
    thermal,
)
from engine.measure.energy.timeline import Correlation, correlation, step_rows
from engine.measure.energy.trace import Event
from engine.measure.energy.trials import Part, part_row, parts_of

if TYPE_CHECKING:
    from engine.measure.energy.trace import Floats, Trace
    from engine.results.tables import Tables
    from engine.spec.energy import EnergySettings

LOOPS = "component loops"
"""What the samples between the first and the last loop belong to."""
SIMULATED = "simulated power: no device was metered"


def tables_of(trace: Trace, subject: Subject, settings: EnergySettings) -> Tables:
    """`summary`, `components`, `samples`, `findings` and what was `observed` of a recording, for point 0."""
    from engine.results.tables import make_table

    board = Board(trace.channels, period_s=trace.period_s, held=not _logged(trace))
    idle = baseline(trace, board)
    parts = parts_of(trace.loops, period_s=trace.period, limits=settings.limits, idle=idle)
    parts, closures = close(parts, tolerance=settings.limits.closure)
    parts += by_difference(parts)
    related = correlation(trace, board)
    found = {
        "summary": _summary(trace, board, subject, closures, related),
        "components": _components(trace, board, settings, parts),
        "samples": _samples(trace),
        "findings": _findings(trace, board, settings, closures, related, parts),
        # With what it was metered - sensor periods, driver, limits - beside what live loads observed, so that
        # two runs are compared in it.
        "observed": [
            {"point": 0, "setting": name, "observed": None if value is None else str(value)}
            for name, value in trace.facts.items()
        ],
    }
    return {name: make_table(name, _columns(rows)) for name, rows in found.items()}


def _logged(trace: Trace) -> bool:
    """Whether the readings come from a text log, which is joined by straight lines."""
    return trace.source == "nvidia-smi"


def _summary(
    trace: Trace, board: Board, subject: Subject, closures: Sequence[Closure], related: Correlation
) -> list[dict[str, Any]]:
    rows = idle_rows(trace, board) + phase_rows(trace, board, subject)
    if not rows and trace.channels:
        rows = [_whole_log(trace, board, subject)]
    simulated = trace.source == "simulated"
    achieved = _achieved(board)
    for row in rows:
        row |= {"point": 0, "source": "metered", "basis": "simulated" if simulated else "measured"}
        row |= achieved if row["phase"] not in ("idle",) else {}
        reasons = [row.get("reason"), SIMULATED if simulated else None, _sensor(trace)]
        row["reason"] = "; ".join(filter(None, reasons)) or None
        closure = next((c for c in closures if c.phase == row["phase"] and c.whole == WHOLE), None)
        if closure is not None:
            row["parts_over_whole"] = closure.ratio
            if closure.half_width is not None:
                row["parts_over_whole_low"] = closure.ratio - closure.half_width
                row["parts_over_whole_high"] = closure.ratio + closure.half_width
        if row["phase"] == "decode" and related.r is not None:
            row |= {"power_intensity_correlation": related.r, "power_intensity_correlation_n": related.n}
    return rows


def _whole_log(trace: Trace, board: Board, subject: Subject) -> dict[str, Any]:
    """The row of a log that says nothing about what ran."""
    told = "the log names no phases"
    row: dict[str, Any] = {"phase": "request", "variant": "whole log", "status": "skipped"}
    if not board.known:
        return row | {"reason": f"{told}; no power was read"}
    begin = min(meter.span[0] for meter in board.meters)
    end = max(meter.span[1] for meter in board.meters)
    window = board.window(begin, end, resolvable=False)
    if end <= begin:
        return row | {"peak_power_w": window.peak_w, "reason": f"{told}; a single reading spans no time"}
    energy = window.energy_j
    return row | {
        "status": "skipped" if energy is None else "ok",
        "time_s": end - begin, "energy_j": energy, "average_power_w": window.mean_w,
        "energy_systematic_j": None if energy is None else GAIN * abs(energy) + window.edge_j,
        "peak_power_w": window.peak_w, "window_s": end - begin, "gap_energy_share": window.gap_share,
        "reason": "; ".join(filter(None, (told, window.reason, *board.notes))),
        **thermal(trace, [Event("phase", "request", begin, end)], subject.slowdown_c),
    }  # fmt: skip


def _achieved(board: Board) -> dict[str, Any]:
    found = [sampling(meter.read_at) for meter in board.meters]
    medians = [one.median_s for one in found if one.median_s is not None]
    if not medians:
        return {}
    late = [one.p95_s for one in found if one.p95_s is not None]
    wide = [one.max_gap_s for one in found if one.max_gap_s is not None]
    return {"sample_interval_s": max(medians), "sample_interval_s_p95": max(late), "largest_gap_s": max(wide)}


def _sensor(trace: Trace) -> str | None:
    if not trace.channels or trace.period_s is not None:
        return None
    return f"sensor period not known, {trace.period:g} s assumed"


def _components(
    trace: Trace, board: Board, settings: EnergySettings, parts: Sequence[Part]
) -> list[dict[str, Any]]:
    # A step that leaves something out is no component; what it shows is the difference.
    shown = [part for part in parts if not part.component.startswith(WITHOUT)]
    rows = [part_row(part) for part in shown] if settings.granularity != "phase" else []
    for part, row in list(zip(shown, rows, strict=False)):
        if part.share:
            rows += spread_over_layers(row, part.share)
    rows += window_rows(trace, board, settings.granularity)
    rows += step_rows(trace, board)
    rows += [_ablation_row(one) for one in ablations(trace.events, period_s=trace.period)]
    if trace.source == TIME_ONLY:
        for row in rows:
            if row["method"] in ("whole", "time_weighted", "remainder") and row["energy_j"] is None:
                row |= {"valid": True, "reason": "only time was measured"}
    elif trace.loops:
        for row in rows:
            if row["method"] == "loop" and row["energy_j"] is None:
                row |= {"valid": False, "reason": row["reason"] or "no power was read"}
    wholes = {row["phase"]: row for row in rows if row["component"] == WHOLE and row.get("step") is None}
    for row in rows:
        row["point"] = 0
        row["share"] = _share(row, wholes.get(row["phase"]))
        if trace.source == "simulated":
            row["reason"] = "; ".join(filter(None, (row.get("reason"), SIMULATED)))
    return rows


def _share(row: dict[str, Any], whole: dict[str, Any] | None) -> float | None:
    if (
        whole is None
        or row.get("step") is not None
        or row["method"] in ("window", "whole")
        or (row["parent"] is None and row is not whole)
    ):
        return None
    name = "energy_j" if whole.get("energy_j") else "time_s"
    if row.get(name) is None or not whole[name]:
        return None
    return float(row[name] * row["count"] / (whole[name] * whole["count"]))


def _ablation_row(found: Ablation) -> dict[str, Any]:
    return {
        "phase": "request",
        "component": found.variant,
        "method": "ablation",
        "count": 1,
        "energy_j": found.saved.mean,
        "energy_low_j": found.saved.low,
        "energy_high_j": found.saved.high,
        "share": found.relative,
        "n": found.saved.n,
        "valid": found.significant,
        "reason": found.reason,
    }


def _samples(trace: Trace) -> list[dict[str, Any]]:
    from engine.measure.energy.events import reason_names

    rows: list[dict[str, Any]] = []
    start = min((float(one.times_s[0]) for one in trace.channels if len(one.times_s)), default=0.0)
    marks = _Marks(trace)
    for one in trace.channels:
        columns = {name: one.get(name) for name in one.readings}
        for at, moment in enumerate(one.times_s.tolist()):
            row: dict[str, Any] = {"point": 0, "device": one.device, "time_s": moment - start}
            for name, values in columns.items():
                row[_SAMPLE_NAMES.get(name, name)] = _value(values, at)
            mask = row.pop("throttle", None)
            row["throttle"] = None if mask is None else reason_names(int(mask))
            row["phase"], row["component"] = marks.at(moment)
            rows.append(row)
    return rows


_SAMPLE_NAMES = {"energy_j": "energy_counter_j"}


def _value(values: Floats | None, at: int) -> float | None:
    if values is None:
        return None
    value = float(values[at])
    return None if value != value else value


class _Marks:
    """What ran at a moment: the innermost window, found by walking forward."""

    def __init__(self, trace: Trace) -> None:
        windows = [e for e in trace.events if e.kind in ("phase", "idle")]
        self._phases = sorted(((e.begin_s, e.end_s, e.phase) for e in windows), key=lambda w: w[0] - w[1])
        loops = [(float(lp.times_s[0]), float(lp.times_s[-1]), lp.component) for lp in trace.loops]
        named = [(e.begin_s, e.end_s, e.component) for e in trace.of("component") if e.component]
        self._components = sorted([*loops, *named])
        self._loops = (min(one[0] for one in loops), max(one[1] for one in loops)) if loops else None

    def at(self, moment_s: float) -> tuple[str | None, str | None]:
        phase = None
        for begin, end, name in self._phases:  # longest first: the last that fits is the innermost
            if begin <= moment_s < end:
                phase = name
        if phase is None and self._loops is not None and self._loops[0] <= moment_s <= self._loops[1]:
            phase = LOOPS
        component = next((c for begin, end, c in self._components if begin <= moment_s < end), None)
        return phase, component


def _findings(
    trace: Trace,
    board: Board,
    settings: EnergySettings,
    closures: Sequence[Closure],
    related: Correlation,
    parts: Sequence[Part],
) -> list[dict[str, Any]]:
    rows = []
    severities = {"pass": "note", "warn": "warning", "fail": "error"}
    for check in closures:
        severity = severities[check.verdict] if check.of != "time" else "note"
        rows.append(_finding("parts-add-up", severity, f"{check.phase}: {check.text}"))
    moved = drift(trace, board)
    if moved is not None and moved > settings.limits.idle_drift:
        rows.append(_finding("idle-drift", "warning", f"idle power moved by {moved:.1%} meanwhile"))
    if related.n:
        told = f"r = {related.r:.3f}" if related.r is not None else f"no coefficient: {related.reason}"
        rows.append(_finding("power-follows-intensity", "note", f"power against FLOPs per byte: {told}",
                             f"n = {related.n}"))  # fmt: skip
    for one in ablations(trace.events, period_s=trace.period):
        text = f"leaving out `{one.variant}` saves {one.saved.mean:.4f} J, {one.relative:.2%}"
        verdict = "significant" if one.significant else f"not significant: {one.reason}"
        rows.append(_finding("ablation", "note", text, verdict))
    if trace.facts:
        told = ", ".join(f"{name} {value}" for name, value in trace.facts.items() if value is not None)
        rows.append(_finding("setup", "note", "what was metered, with what", told))
    strange = Counter(event.phase for event in trace.of("phase", warmup=True) if event.phase not in ORDER)
    for phase, n in strange.items():
        told = f"{n} windows of `{phase}` are in no table: known phases are {', '.join(ORDER)}"
        rows.append(_finding("recording", "warning", told))
    for note in (*trace.notes, *board.notes):
        rows.append(_finding("recording", "note", note))
    invalid = [part.component for part in parts if not part.valid]
    if invalid:
        names = ", ".join(dict.fromkeys(invalid))
        rows.append(_finding("invalid-trials", "warning", f"no valid trial of {names}"))
    return rows


def _finding(rule: str, severity: str, text: str, evidence: str | None = None) -> dict[str, Any]:
    return {"point": 0, "rule": rule, "severity": severity, "finding": text, "evidence": evidence}


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
