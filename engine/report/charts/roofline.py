"""Where each operator stands under the roof of its device, and where the time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.report.charts.story import Story, chart_table
from engine.report.charts.style import INK, PALETTE, WIDTH, columns_for, description, log_axis, rounded
from engine.report.numbers import Scale
from engine.report.page import Chart, Column
from engine.results.tables import OPERATORS

if TYPE_CHECKING:
    from engine.spec.hardware import Hardware

_MOST_PANELS: Final = 6
_PHASES: Final = ("prefill", "decode", "decode_last")
_DECLARED: Final = {column.name: column for column in OPERATORS}


def operator_rows(story: Story, point: int | None) -> list[dict[str, Any]]:
    """The operators of a point with what a roofline needs: rate reached and share of the roof.

    `spent_s` is the estimate of one occurrence, or its bound where there is none.
    """
    import pyarrow.compute as pc

    if point is None or not story.operators.num_rows:
        return []
    rows: list[dict[str, Any]] = story.operators.filter(pc.equal(story.operators["point"], point)).to_pylist()
    for row in rows:
        flops, roof = row["flops"], row["attainable_flops_per_s"]
        time = row["spent_s"] = row["time_s"] if row["estimate_s"] is None else row["estimate_s"]
        row["reached_flops_per_s"] = flops / time if time and flops else None
        row["roof_share"] = row["reached_flops_per_s"] / roof if row["reached_flops_per_s"] and roof else None
        row["total_time_s"] = time * row["count"] if time is not None and row["count"] is not None else None
    return rows


def rooflines(story: Story) -> list[Chart]:
    """One panel for each device at its best point: operators as points under the device's roofs."""
    panels = []
    for best in story.best_per_device:
        sheet = story.devices.get(best["hardware"])
        rows = [
            row
            for row in operator_rows(story, best["point"])
            if row["reached_flops_per_s"] and row["phase"] in _PHASES[:2]
        ]
        if sheet is not None and rows:
            panels.append((best, sheet, rows))
    left_out = len(panels) - _MOST_PANELS
    panels = panels[:_MOST_PANELS]
    return [_chart(story, panels, left_out)] if panels else []


Panel = tuple[dict[str, Any], "Hardware", list[dict[str, Any]]]
"""A device's best point, its data sheet and its operators."""


def _chart(story: Story, panels: Sequence[Panel], left_out: int) -> Chart:
    data: list[dict[str, Any]] = []
    cells: list[list[Any]] = []
    for best, sheet, rows in panels:
        name = best["hardware"]
        intensities = [row["intensity_flops_per_byte"] for row in rows if row["intensity_flops_per_byte"]]
        peaks = sorted({row["peak_flops_per_s"] for row in rows if row["peak_flops_per_s"]})
        data += _roofs(name, sheet, peaks, intensities)
        shares = _shares(rows)
        data += [_mark(best, row, share) for row, share in zip(rows, shares, strict=True)]
        cells += [
            [name, best["quantization"], *(row[column] for column in _CELLS), share, row["bound"]]
            for row, share in zip(rows, shares, strict=True)
        ]
    alt = (
        f"Rooflines of {len(panels)} devices with {len(cells)} operators of prefill and decode at the "
        "best point of each."
    )
    return Chart(
        "roofline",
        "Roofline",
        _caption(panels, left_out),
        alt,
        description(_body([panel[0]["hardware"] for panel in panels], data), data, alt=alt),
        chart_table("roofline", "Operators under the roof", _ROOFLINE_COLUMNS, cells),
        ("intensity_flops_per_byte",),
    )


_CELLS: Final = ("phase", "operator", "intensity_flops_per_byte", "reached_flops_per_s", "roof_share")
_SHARE: Final = Scale("%", 0.01, 1)
_ROOFLINE_COLUMNS: Final = (
    Column("hardware", "Device"),
    Column("quantization", "Number format"),
    Column("phase", "Phase"),
    Column("operator", "Operator"),
    Column("intensity_flops_per_byte", "Intensity", _DECLARED["intensity_flops_per_byte"].meaning, "number",
           Scale("FLOP/B", 1, 1), "intensity_flops_per_byte"),
    Column("reached_flops_per_s", "Reached", "FLOPs over time.", "number", Scale("TFLOP/s", 1e12, 2)),
    Column("roof_share", "Share of roof", "Reached over min(peak, intensity x bandwidth).", "number", _SHARE),
    Column("time_share", "Share of time", "Of the phase, all occurrences.", "number", _SHARE),
    Column("bound", "Limited by"),
)  # fmt: skip


def _shares(rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """What each operator takes of its phase's time."""
    total: dict[str, float] = {}
    for row in rows:
        total[row["phase"]] = total.get(row["phase"], 0.0) + (row["total_time_s"] or 0)
    return [(row["total_time_s"] or 0) / whole if (whole := total[row["phase"]]) else None for row in rows]


def _mark(best: Mapping[str, Any], row: Mapping[str, Any], share: float | None) -> dict[str, Any]:
    return {
        "panel": best["hardware"],
        "kind": "operator",
        "x": rounded(row["intensity_flops_per_byte"]),
        "y": rounded(row["reached_flops_per_s"] / 1e12),
        "phase": row["phase"],
        "operator": row["operator"],
        "share": rounded(100 * share) if share else None,
        "roof": rounded(100 * row["roof_share"]) if row["roof_share"] else None,
        "bound": row["bound"],
        "hardware": best["hardware"],
        "quantization": best["quantization"],
    }


def _caption(panels: Sequence[Panel], left_out: int) -> str:
    caption = (
        "Each device at its best point. The slope is the memory bandwidth, the flat lines the peaks "
        "of the number formats in use, both from the data sheet; size is the share of its phase's "
        "time."
    )
    if all(row["roof_share"] is None or row["roof_share"] > 0.999 for _, _, rows in panels for row in rows):
        caption += " The operators lie on the roof, because their times are the data-sheet bound."
    else:
        caption += f" {_basis_words([(best['hardware'], rows) for best, _, rows in panels])}"
    return caption + (f" {left_out} more devices are in the operator table." if left_out > 0 else "")


def _basis_words(groups: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> str:
    """What the times of these devices' operators are: estimates, bounds, or which are which."""
    bounds = [name for name, rows in groups if all(row["estimate_s"] is None for row in rows)]
    if not bounds:
        return "Times are estimates with calibrated efficiencies."
    if len(bounds) == len(groups):
        return "Times are data-sheet bounds."
    return f"Times are estimates with calibrated efficiencies; on {', '.join(bounds)} data-sheet bounds."


def _roofs(
    name: str, sheet: Hardware, peaks: Sequence[float], intensities: Sequence[float]
) -> list[dict[str, Any]]:
    bandwidth = float(sheet.memory_bandwidth)
    low = min([*intensities, 1.0]) / 2
    high = max([*intensities, *(peak / bandwidth for peak in peaks)]) * 3
    found = []
    for peak in peaks:
        for x in (low, peak / bandwidth, high):
            found.append({"panel": name, "kind": "roof", "roofline": f"{peak:.4g}", "hardware": name,
                          "x": rounded(x), "y": rounded(min(peak, x * bandwidth) / 1e12),
                          "label": f"{peak / 1e12:,.4g} TFLOP/s"})  # fmt: skip
    return found


def _body(devices: Sequence[str], data: Sequence[dict[str, Any]]) -> dict[str, Any]:
    across = columns_for(len(devices))
    width = int((WIDTH - 36 * (across - 1)) / across)
    place = {
        "x": log_axis("x", "Arithmetic intensity (FLOP/B)", [row["x"] for row in data], most=5),
        "y": log_axis("y", "Rate (TFLOP/s)", [row["y"] for row in data], most=6),
    }
    return {
        "facet": {"field": "panel", "type": "nominal", "sort": list(devices), "title": None},
        "columns": across,
        "spacing": 24,
        "spec": {
            "width": width,
            "height": 210 if across > 1 else 340,
            "layer": [
                {
                    "transform": [{"filter": "datum.kind == 'roof'"}],
                    "mark": {"type": "line", "color": INK, "strokeWidth": 1.4},
                    "encoding": {**place, "detail": {"field": "roofline"}},
                },
                {
                    "transform": [{"filter": "datum.kind == 'operator'"}],
                    "mark": {"type": "point", "filled": True, "opacity": 0.8},
                    "encoding": {
                        **place,
                        "color": _phase(list(PALETTE[:2])),
                        "shape": _phase(["circle", "triangle-up"]),
                        "size": {"field": "share", "type": "quantitative", "title": None, "legend": None,
                                 "scale": {"domain": [0, 60], "range": [18, 190], "clamp": True}},
                        "tooltip": [
                            {"field": "operator", "title": "Operator"}, {"field": "phase", "title": "Phase"},
                            {"field": "x", "title": "Intensity (FLOP/B)", "format": ",.4~g"},
                            {"field": "y", "title": "Rate (TFLOP/s)", "format": ",.4~g"},
                            {"field": "roof", "title": "Of its roof (%)", "format": ".1f"},
                            {"field": "share", "title": "Of the phase's time (%)", "format": ".1f"},
                            {"field": "bound", "title": "Limited by"},
                        ],
                    },
                },
            ],
        },
    }  # fmt: skip


def _phase(values: list[Any]) -> dict[str, Any]:
    return {"field": "phase", "type": "nominal", "title": "Phase", "legend": {"columns": 2},
            "scale": {"domain": list(_PHASES[:2]), "range": values}}  # fmt: skip


def time_split(story: Story) -> list[Chart]:
    """How the time of each phase divides over operators, at the best point of each device."""
    data: list[dict[str, Any]] = []
    table = []
    groups = [(best, operator_rows(story, best["point"])) for best in story.best_per_device[:_MOST_PANELS]]
    for best, listed in groups:
        for phase in _PHASES[:2]:
            rows = [r for r in listed if r["phase"] == phase and r["total_time_s"]]
            total = sum(row["total_time_s"] for row in rows)
            summed: dict[str, float] = {}
            for row in rows:
                summed[row["operator"]] = summed.get(row["operator"], 0.0) + row["total_time_s"]
            largest = sorted(summed, key=lambda o: (-summed[o], o))
            for operator in largest:
                table.append([best["hardware"], phase, operator, summed[operator], summed[operator] / total])
                data.append(
                    {
                        "hardware": best["hardware"],
                        "quantization": best["quantization"],
                        "phase": phase,
                        "operator": operator,
                        "share": rounded(100 * summed[operator] / total),
                    }
                )
    if not data:
        return []
    weight: dict[str, float] = {}
    for row in data:
        weight[row["operator"]] = weight.get(row["operator"], 0.0) + (row["share"] or 0)
    named = sorted(weight, key=lambda o: (-weight[o], o))[: len(PALETTE) - 1]
    merged: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in data:
        operator = row["operator"] if row["operator"] in named else "others"
        key = (row["hardware"], row["phase"], operator)
        held = merged.setdefault(key, {**row, "operator": operator, "share": 0.0})
        held["share"] = rounded(held["share"] + row["share"])
    domain = [*named, "others"] if any(k[2] == "others" for k in merged) else named
    for row in merged.values():
        row["order"] = domain.index(row["operator"])
    alt = (
        "Stacked bars of the share of time of each operator in prefill and decode on "
        f"{len({k[0] for k in merged})} devices."
    )
    columns = [
        Column("hardware", "Device"),
        Column("phase", "Phase"),
        Column("operator", "Operator"),
        Column("time_s", "Time", "All occurrences in the phase.", "number", Scale("ms", 1e-3, 3)),
        Column("share", "Share", "Of the phase's time.", "number", Scale("%", 0.01, 1)),
    ]
    return [
        Chart(
            "time-split",
            "Where the time goes",
            "Each device at its best point; sums of all layers. "
            + _basis_words([(best["hardware"], rows) for best, rows in groups if rows]),
            alt,
            description(_split_body(story, domain), list(merged.values()), alt=alt),
            chart_table("time-split", "Time by operator", columns, table),
            ("time_s",),
        )
    ]


def _split_body(story: Story, domain: list[str]) -> dict[str, Any]:
    colors = (
        [*PALETTE[: len(domain) - 1], "#BDBDBD"] if domain[-1] == "others" else list(PALETTE[: len(domain)])
    )
    return {
        "facet": {"column": {"field": "phase", "type": "nominal", "sort": list(_PHASES), "title": None}},
        "spacing": 18,
        "spec": {
            "width": int((WIDTH - 120) / 2),
            "height": {"step": 20},
            "mark": {"type": "bar", "stroke": "white", "strokeWidth": 0.6},
            "encoding": {
                "y": {
                    "field": "hardware",
                    "type": "nominal",
                    "sort": list(story.style.devices),
                    "title": None,
                    "axis": {"ticks": False, "domain": False},
                },
                "x": {
                    "field": "share",
                    "type": "quantitative",
                    "title": "Share of the phase's time (%)",
                    "stack": "zero",
                    "scale": {"domain": [0, 100]},
                },
                "color": {
                    "field": "operator",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": domain, "range": colors},
                    "legend": {"columns": 4},
                },
                "order": {"field": "order", "type": "quantitative"},
                "tooltip": [
                    {"field": "hardware", "title": "Device"},
                    {"field": "operator", "title": "Operator"},
                    {"field": "share", "title": "Share (%)", "format": ".1f"},
                ],
            },
        },
    }
