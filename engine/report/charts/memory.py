"""Where device memory goes, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import Story, chart_table, setting_column
from engine.report.charts.style import INK, WIDTH, description, rounded
from engine.report.numbers import scale_for
from engine.report.page import Chart, Column
from engine.report.records import Records
from engine.units import counted

PARTS: Final = ("weights_bytes", "kv_cache_bytes", "activations_bytes", "reserve_bytes")
_COLORS: Final = ("#0072B2", "#E69F00", "#009E73", "#9a9a9a")
_MOST_BARS: Final = 42
_HELD: Final = (
    "model",
    "settings",
    "prompt_tokens",
    "output_tokens",
    "batch_size",
    "tensor",
    "pipeline",
    "expert",
    "data",
)
_LOAD: Final = ("prompt_tokens", "output_tokens", "batch_size")


def memory_fit(story: Story) -> list[Chart]:
    """Needs against capacity of each device and format: at the winner's load, and where it gets tight."""
    winner = story.winner
    rows = (
        story.rows
        if story.rows.has("weights_bytes")
        else story.found.where(story.found.mask("source", "predicted"))
    )
    if winner is None or not rows.has("weights_bytes"):
        return []
    charts = [_at(story, rows, winner, "memory-fit", "Memory at the best point's lengths")]
    tightest = _tightest(story, rows, winner)
    if tightest is not None:
        charts.append(_at(story, rows, tightest, "memory-tight", "Memory where it gets tight"))
    return [chart for chart in charts if chart is not None]


def _tightest(story: Story, rows: Records, winner: Mapping[str, Any]) -> dict[str, Any] | None:
    """The winner at the lengths and batch where closest to half of all deployments fit; None where that is
    the winner's own load or where nothing is ever short."""
    import numpy as np

    free = rows.numbers("memory_free_bytes")
    known = np.isfinite(free)
    columns = [np.nan_to_num(rows.numbers(name)[known]).astype(np.int64) for name in _LOAD]
    # One whole number a load: sorting rows of three takes forty times as long.
    sizes = [int(column.max()) + 1 for column in columns] if known.any() else [1, 1, 1]
    keys, first, place = np.unique(
        (columns[0] * sizes[1] + columns[1]) * sizes[2] + columns[2], return_index=True, return_inverse=True
    )
    loads = np.stack([column[first] for column in columns], axis=1)
    fits = np.bincount(place.ravel(), weights=free[known] >= 0, minlength=len(keys))
    share = fits / np.bincount(place.ravel(), minlength=len(keys))
    if not (share < 1).any():
        return None
    best = loads[int(np.argmin(np.where(share < 1, np.abs(share - 0.5), np.inf)))]
    same = all(winner.get(name) == value for name, value in zip(_LOAD, best, strict=True))
    return None if same else {**winner, **{name: int(v) for name, v in zip(_LOAD, best, strict=True)}}


def _at(story: Story, rows: Records, winner: Mapping[str, Any], name: str, title: str) -> Chart | None:
    """Bars of every device and format at the lengths and batch of `winner`."""
    import numpy as np

    keep = ~rows.mask("status", "failed", "skipped")
    for setting in _HELD:
        value = winner.get(setting)
        if setting in story.varied and value is not None:
            keep &= rows.mask(setting, value) if isinstance(value, str) else rows.numbers(setting) == value
    listed = [row for row in rows.where(np.asarray(keep)).rows() if row.get("weights_bytes") is not None]
    listed.sort(
        key=lambda r: (story.device_rank(r["hardware"]), story.style.formats.index(r["quantization"]))
    )
    left_out = max(0, len(listed) - _MOST_BARS)
    words = story.name(winner, without=("hardware", "quantization", "variant"), full=True)
    return _chart(story, name, title, listed[:_MOST_BARS], words, left_out) if listed else None


def _capacity(story: Story, row: dict[str, Any]) -> float | None:
    if row.get("memory_free_bytes") is not None and row.get("memory_needed_bytes") is not None:
        return float(row["memory_free_bytes"] + row["memory_needed_bytes"])
    sheet = story.devices.get(row["hardware"])
    found = None if sheet is None else (sheet.usable_memory or sheet.memory)
    return None if found is None else float(found)


def _chart(
    story: Story, name: str, title: str, listed: list[dict[str, Any]], words: str, left_out: int
) -> Chart:
    scale = scale_for("memory_needed_bytes", "B", [row.get("memory_needed_bytes") for row in listed])
    data: list[dict[str, Any]] = []
    table = []
    misfits = 0
    for row in listed:
        capacity = _capacity(story, row)
        needed = row.get("memory_needed_bytes") or sum(row.get(part) or 0.0 for part in PARTS)
        fits = capacity is None or needed <= capacity
        misfits += not fits
        for order, part in enumerate(PARTS):
            if row.get(part) is not None:
                data.append(
                    {"hardware": row["hardware"], "quantization": row["quantization"],
                     "part": METRICS[part].label, "size": rounded(row[part] / scale.factor), "order": order,
                     "capacity": rounded(capacity / scale.factor) if capacity else None,
                     "needed": rounded(needed / scale.factor), "fits": fits}
                )  # fmt: skip
        table.append([row["hardware"], row["quantization"], *(row.get(p) for p in PARTS), needed, capacity])
    columns = [
        setting_column("hardware"),
        setting_column("quantization"),
        *(Column(p, METRICS[p].label, METRICS[p].definition, "number", scale, p) for p in PARTS),
        Column(
            "memory_needed_bytes",
            "Needed",
            METRICS["memory_needed_bytes"].definition,
            "number",
            scale,
            "memory_needed_bytes",
        ),
        Column("usable_bytes", "Usable", "Device memory that may be used.", "number", scale),
    ]
    caption = f"At {words}."
    if any(row["capacity"] for row in data):
        caption += " The line across a bar is the memory that may be used; a bar beyond it does not fit."
    else:
        caption += " How much memory may be used is not known here."
    caption += f" {counted(left_out, 'further bar')} left out." if left_out else ""
    alt = (
        f"Stacked bars of weights, KV cache, activations and reserve for {len(listed)} deployments; "
        f"{misfits} do not fit."
    )
    return Chart(
        name,
        title,
        caption,
        alt,
        description(_body(story, listed, scale.unit), data, alt=alt),
        chart_table(name, title, columns, table),
        PARTS,
    )


def _body(story: Story, listed: list[dict[str, Any]], unit: str) -> dict[str, Any]:
    """A panel a device with a bar for each number format; with one format, or one device, plain bars."""
    devices = [d for d in story.style.devices if any(row["hardware"] == d for row in listed)]
    formats = [f for f in story.style.formats if any(row["quantization"] == f for row in listed)]
    if len(formats) == 1:
        return _panel("hardware", devices, size=20, unit=unit)
    if len(devices) == 1:
        return _panel("quantization", formats, size=20, unit=unit)
    header = {"labelAngle": 0, "labelAlign": "left", "labelOrient": "left", "labelFontWeight": "normal"}
    return {
        "facet": {
            "row": {"field": "hardware", "type": "nominal", "sort": devices, "title": None, "header": header}
        },
        "spacing": 8,
        "spec": _panel("quantization", formats, size=15, unit=unit),
    }


def _panel(along: str, order: list[str], *, size: int, unit: str) -> dict[str, Any]:
    axis = {"ticks": False, "domain": False, "labelFontSize": 9.5, "minExtent": 64}
    color = {"domain": [METRICS[part].label for part in PARTS], "range": list(_COLORS)}
    title = f"Memory on the fullest device ({unit})"
    tips = (("hardware", "Device"), ("quantization", "Number format"), ("part", "Part"))
    sizes = (
        ("size", f"Size ({unit})"),
        ("needed", f"Needed in all ({unit})"),
        ("capacity", f"Usable ({unit})"),
    )
    bars = {
        "mark": {"type": "bar"},
        "encoding": {
            "x": {"field": "size", "type": "quantitative", "stack": "zero", "title": title},
            "color": {
                "field": "part",
                "type": "nominal",
                "title": None,
                "scale": color,
                "legend": {"columns": 4},
            },
            "order": {"field": "order", "type": "quantitative"},
            "opacity": {"condition": {"test": "datum.fits", "value": 1}, "value": 0.45},
            "tooltip": [
                *({"field": field, "title": words} for field, words in tips),
                *({"field": field, "title": words, "format": ",.4~g"} for field, words in sizes),
            ],
        },
    }
    capacity = {
        "mark": {"type": "tick", "color": INK, "thickness": 2, "size": size},
        "encoding": {"x": {"field": "capacity", "type": "quantitative"}},
    }
    return {
        "width": WIDTH - 110,
        "height": {"step": size},
        "encoding": {"y": {"field": along, "type": "nominal", "sort": order, "title": None, "axis": axis}},
        "layer": [bars, capacity],
    }
