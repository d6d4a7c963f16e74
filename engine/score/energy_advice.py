"""What metered rows say could be saved: each rule gives its evidence and gain, or says what is missing.

Nothing here is a rule of thumb with a number of its own: a gain is a difference between two rows of the run,
with the intervals of both, or a share that was metered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

    Tables = Mapping[str, pa.Table]

Row = dict[str, Any]
_BY: Final = "energy_per_output_token_j"
_HOT_SHARE: Final = 0.4
_IDLE_SHARE: Final = 0.3
_PREFILL_SHARE: Final = 0.5
_GAP_SHARE: Final = 0.1
_HEADROOM_C: Final = 10.0
_CAPPED_SHARE: Final = 0.05


def energy_findings(tables: Tables) -> list[Row]:
    """Rows of `findings` from metered rows; none where nothing was metered."""
    rows = _metered(tables)
    if not rows:
        return []
    components = _rows(tables, "components")
    found: list[Row] = []
    for comparison in (_batch, _quantization, _context):
        found += comparison(rows)
    found += _clock(components, rows)
    found += _power_cap(rows, _rows(tables, "samples"))
    for rule in (_idle, _prefill, _headroom):
        found += rule(rows)
    found += _hottest(components)
    found += _launches(components)
    if any(row.get("basis") == "simulated" for row in rows):
        for finding in found:
            finding["evidence"] = f"{finding['evidence'] or ''} (simulated power)".strip()
    return found


def _rows(tables: Tables, name: str) -> list[Row]:
    table = tables.get(name)
    return [] if table is None else table.to_pylist()


def _metered(tables: Tables) -> list[Row]:
    """Metered rows without warm-up, each with the settings of its point."""
    import pyarrow as pa
    import pyarrow.compute as pc

    summary = tables.get("summary")
    if summary is None or not summary.num_rows:
        return []
    # A million predictions may stand beside a few metered rows: they are never made into objects.
    metered = summary.filter(pc.equal(summary["source"].cast(pa.string()), "metered"))
    if not metered.num_rows:
        return []
    wanted = set(metered["point"].to_pylist())
    table = tables.get("points")
    kept = None if table is None else table.filter(pc.is_in(table["point"], pa.array(sorted(wanted))))
    points = {} if kept is None else {row["point"]: row for row in kept.to_pylist()}
    found = []
    for row in metered.to_pylist():
        if row.get("energy_j") is None or "warm-up" in (row["variant"] or ""):
            continue
        found.append({**row, "settings": points.get(row["point"], {})})
    return found


def finding(
    rule: str,
    text: str,
    evidence: str,
    *,
    point: int | None = None,
    gain: str | None = None,
    change: str | None = None,
    severity: str | None = None,
) -> Row:
    """A row of `findings`: advice where there is a gain, else a note."""
    return {
        "point": point,
        "rule": rule,
        "severity": severity or ("advice" if gain else "note"),
        "finding": text,
        "evidence": evidence,
        "gain": gain,
        "change": change,
    }


def _short(rule: str, what: str) -> Row:
    return finding(rule, f"the evidence does not suffice for advice on {rule.removeprefix('energy-')}", what)


def _compared(
    rows: Sequence[Row], rule: str, column: str, advice: Callable[[Row, Row], tuple[str, str]]
) -> Iterator[Row]:
    """Points that differ in one setting only: the best against the worst, if their intervals are apart."""
    requests = [row for row in rows if row["phase"] == _phase_of(rows) and row.get(_BY) is not None]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in requests:
        others = tuple(
            (name, value) for name, value in sorted(row["settings"].items()) if name not in ("point", column)
        )
        groups.setdefault(others, []).append(row)
    several = [group for group in groups.values() if len({r["settings"].get(column) for r in group}) > 1]
    if not several:
        yield _short(rule, f"no two metered points differ in {column.replace('_', ' ')} alone")
        return
    for group in several:
        best = min(group, key=lambda row: row[_BY])
        worst = max(group, key=lambda row: row[_BY])
        told = ", ".join(
            f"{row['settings'].get(column)}: {_interval(row)}"
            for row in sorted(group, key=lambda r: str(r["settings"].get(column)).zfill(12))
        )
        if not _apart(best, worst):
            yield _short(rule, f"the intervals overlap ({told})")
            continue
        text, change = advice(best, worst)
        saved = 1 - best[_BY] / worst[_BY]
        gain = f"{saved:.0%} less energy per output token"
        yield finding(rule, text, told, point=worst["point"], gain=gain, change=change)


def _work(settings: Row) -> tuple[Any, ...]:
    """What a point runs, whatever it runs on."""
    return tuple(
        (name, value) for name, value in sorted(settings.items()) if name not in ("point", "hardware")
    )


def _phase_of(rows: Sequence[Row]) -> str:
    return "request" if any(row["phase"] == "request" for row in rows) else "decode"


def _interval(row: Row) -> str:
    value, low, high = row[_BY], row.get(f"{_BY}_low"), row.get(f"{_BY}_high")
    if low is None or high is None:
        return f"{value:.4g} J/token"
    return f"{value:.4g} J/token ({low:.4g} to {high:.4g})"


def _apart(best: Row, worst: Row) -> bool:
    """Whether even the bad end of the best is better than the good end of the worst."""
    high, low = best.get(f"{_BY}_high"), worst.get(f"{_BY}_low")
    return high is not None and low is not None and high < low


def _batch(rows: Sequence[Row]) -> Iterator[Row]:
    def advice(best: Row, worst: Row) -> tuple[str, str]:
        size = best["settings"]["batch_size"]
        return (
            f"batch {size} takes the least energy per token; weights are read once for more tokens",
            f"workload:\n  batch_size: {size}",
        )

    yield from _compared(rows, "energy-batch", "batch_size", advice)


def _quantization(rows: Sequence[Row]) -> Iterator[Row]:
    def advice(best: Row, worst: Row) -> tuple[str, str]:
        name = best["settings"]["quantization"]
        return f"`{name}` takes the least energy per token", f"quantization: {name}"

    yield from _compared(rows, "energy-quantization", "quantization", advice)


def _context(rows: Sequence[Row]) -> Iterator[Row]:
    def advice(best: Row, worst: Row) -> tuple[str, str]:
        tokens = best["settings"]["prompt_tokens"]
        return (
            f"prompts of {tokens} tokens take the least energy per token: shorten prompts, or cache them",
            f"workload:\n  prompt_tokens: {tokens}",
        )

    yield from _compared(rows, "energy-context", "prompt_tokens", advice)


def _clock(components: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Whether two clocks were metered on one step: only then is there a difference to go by."""
    alike = {row["point"]: _work(row["settings"]) for row in rows}
    steps = [r for r in components if r["component"] == "step" and r.get("clock_hz") and r["energy_j"]]
    # A step of another batch or model is other work, whatever its clock.
    by_work: dict[tuple[Any, ...], list[Row]] = {}
    for row in steps:
        by_work.setdefault((row["phase"], alike.get(row["point"])), []).append(row)
    for (phase, _), group in by_work.items():
        slow, fast = min(group, key=lambda r: r["clock_hz"]), max(group, key=lambda r: r["clock_hz"])
        if fast["clock_hz"] > 1.05 * slow["clock_hz"]:
            saved = 1 - slow["energy_j"] / fast["energy_j"]
            slower = slow["time_s"] / fast["time_s"] - 1
            told = f"{phase}: {slow['clock_hz'] / 1e6:.0f} MHz {slow['energy_j']:.4g} J, "
            told += f"{fast['clock_hz'] / 1e6:.0f} MHz {fast['energy_j']:.4g} J"
            high, low = slow["energy_high_j"], fast["energy_low_j"]
            if saved > 0 and high is not None and low is not None and high < low:
                mhz = slow["clock_hz"] / 1e6
                text = f"{phase} at {mhz:.0f} MHz takes less energy and {slower:.0%} more time"
                return [finding("energy-clock", text, told, gain=f"{saved:.0%} of the energy of a step")]
            return [_short("energy-clock", told)]
    return [_short("energy-clock", "every step was metered at one clock")]


def _power_cap(rows: Sequence[Row], samples: Sequence[Row]) -> list[Row]:
    """A cap that bites is seen in the samples; what another cap would do only another run shows."""
    busy = [row for row in samples if row["power_w"] is not None and row["phase"] in ("prefill", "decode")]
    if not busy:
        return [_short("energy-power-cap", "no samples of prefill or decode")]
    capped = [row for row in busy if "power" in (row["throttle"] or "")]
    share = len(capped) / len(busy)
    peak = max(row["power_w"] for row in busy)
    told = f"power cap active in {share:.0%} of {len(busy)} samples, peak {peak:.0f} W"
    if share <= _CAPPED_SHARE:
        return [_short("energy-power-cap", f"{told}; meter the same points under a lower cap to compare")]
    slow = [r for r in rows if r["phase"] == "prefill" and r.get("average_power_w")]
    where = f"; prefill draws {slow[0]['average_power_w']:.0f} W" if slow else ""
    text = "the power cap holds this load back: clocks follow the cap, not the setting"
    change = "# nvidia-smi --power-limit=WATTS, then run the same spec again to compare"
    return [finding("energy-power-cap", text, told + where, severity="advice", change=change)]


def _idle(rows: Sequence[Row]) -> Iterator[Row]:
    """Energy that would have been drawn doing nothing."""
    for row in rows:
        gross, net = row.get("energy_j"), row.get("net_energy_j")
        if row["phase"] not in ("decode", "request") or not gross or net is None:
            continue
        share = 1 - net / gross
        if share > _IDLE_SHARE:
            told = (
                f"{row['phase']}: {gross:.4g} J gross, {net:.4g} J above idle of {row['idle_power_w']:.0f} W"
            )
            yield finding(
                "energy-idle", f"{share:.0%} of the energy is idle power, which more work would share",
                told, point=row["point"], gain=f"up to {share:.0%} by filling the device",
                change=f"workload:\n  batch_size: {2 * int(row['settings'].get('batch_size') or 1)}",
            )  # fmt: skip


def _prefill(rows: Sequence[Row]) -> Iterator[Row]:
    """Prefill that costs more than all decode steps."""
    by_point: dict[int, dict[str, float]] = {}
    for row in rows:
        by_point.setdefault(row["point"], {})[row["phase"]] = row["energy_j"]
    for point, energy in by_point.items():
        prefill, decode = energy.get("prefill"), energy.get("decode")
        if prefill is None or decode is None:
            continue
        share = prefill / (prefill + decode)
        if share > _PREFILL_SHARE:
            yield finding(
                "energy-prefill", "prefill takes more energy than all decode steps: cache shared prefixes",
                f"prefill {prefill:.4g} J, decode {decode:.4g} J", point=point,
                gain=f"up to {share:.0%}, by the share of the prompt that repeats",
                change="workload:\n  shared_prefix_tokens: TOKENS_THAT_REPEAT",
            )  # fmt: skip


def _headroom(rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows:
        left = row.get("thermal_headroom_c")
        if left is not None and left < _HEADROOM_C and row["phase"] != "idle":
            yield finding(
                "energy-headroom", f"{row['phase']} leaves {left:.0f} C to the slowdown temperature",
                f"peak {row['peak_temperature_c']:.0f} C, {row.get('throttle_events') or 0:g} slowdowns",
                point=row["point"], severity="warning",
            )  # fmt: skip


_REMEDIES: Final = {
    "ffn": "fewer weight bits in the feed-forward",
    "attention": "fewer bits in keys and values, or a shorter context",
    "lm_head": "a batch that shares the vocabulary matrix",
    "embedding": "nothing obvious: embeddings are one lookup",
    "norm": "fused norms",
}


def _hottest(components: Sequence[Row]) -> Iterator[Row]:
    """The part of a step that takes the most."""
    parts = [
        row
        for row in components
        if row["parent"] == "step" and row["valid"] and row["layer"] is None and row["energy_j"] is not None
        and row["method"] == "loop" and row["share"] is not None
    ]  # fmt: skip
    for key in dict.fromkeys((row["point"], row["phase"]) for row in parts):
        own = [row for row in parts if (row["point"], row["phase"]) == key]
        top = max(own, key=lambda row: row["share"])
        if top["share"] < _HOT_SHARE:
            continue
        remedy = _REMEDIES.get(top["component"], "a look at this component first")
        width = "" if top["energy_low_j"] is None else (
            f" ({top['energy_low_j'] * top['count']:.4g} to {top['energy_high_j'] * top['count']:.4g})"
        )  # fmt: skip
        told = f"{top['energy_j'] * top['count']:.4g} J{width} of a step, n = {top['n']}"
        text = f"{key[1]}: `{top['component']}` takes {top['share']:.0%} of a step; try {remedy}"
        yield finding(
            "energy-hotspot", text, told, point=key[0], gain=f"at most {top['share']:.0%} of a step",
        )  # fmt: skip


def _launches(components: Sequence[Row]) -> Iterator[Row]:
    """Energy spent while the device waits for the host."""
    for row in components:
        if row["component"] != "host_gap" or row["energy_j"] is None:
            continue
        whole = next(
            (r for r in components if r["component"] == "step_eager" and r["phase"] == row["phase"]
             and r["point"] == row["point"] and r["energy_j"]), None,
        )  # fmt: skip
        if whole is None or math.isclose(whole["energy_j"], 0):
            continue
        share = row["energy_j"] / whole["energy_j"]
        if share > _GAP_SHARE:
            yield finding(
                "energy-launch", f"{row['phase']}: {share:.0%} of an eager step passes between kernels",
                f"{whole['energy_j']:.4g} J eager, {row['energy_j']:.4g} J more than as a graph",
                point=row["point"], gain=f"{share:.0%} of a step",
                change="measurements:\n- kind: live\n  target: {kind: local, cache: static, compile: true}",
            )  # fmt: skip
