"""How throughput and latency grow with batch, context or load, one panel a number format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import SPLITS, Story, chart_table, label_of, setting_column
from engine.report.charts.style import WIDTH, axis, columns_for, description, measure
from engine.report.page import Chart, Column
from engine.report.records import Records
from engine.units import counted

_AXES: Final = ("batch_size", "prompt_tokens")
_METRICS: Final = ("output_tokens_per_s_per_device", "output_tokens_per_s", "tpot_s", "ttft_s", "e2e_s")
_MOST_PANELS: Final = 6
_MOST_STEPS: Final = 24
_HELD: Final = (
    "model",
    "prompt_tokens",
    "output_tokens",
    "batch_size",
    "tensor",
    "pipeline",
    "expert",
    "data",
    "settings",
    "variant",
    "shared_prefix_tokens",
    "prefill_chunk_tokens",
    "prefill_tokens_per_step",
)


def scaling(story: Story) -> list[Chart]:
    """One chart for each varied length and each of the main metrics that has values."""
    if story.winner is None:
        return []
    found = []
    for along in _AXES:
        if along not in story.varied:
            continue
        rows = _slice(story, along)
        wanted = [name for name in _METRICS if rows.has(name)]
        if "output_tokens_per_s_per_device" in wanted and "output_tokens_per_s" in wanted:
            wanted.remove("output_tokens_per_s")
        keep = (
            wanted[:3]
            if along == "batch_size"
            else [n for n in wanted if n in ("ttft_s", "tpot_s", wanted[0])]
        )
        found += [chart for name in keep if (chart := _chart(story, rows, along, name)) is not None]
    return found


def _slice(story: Story, along: str) -> Records:
    """The rows that differ from the winner only in device, number format and the axis."""
    import numpy as np

    rows, winner = story.rows, story.winner or {}
    keep = rows.mask("status", "ok")
    for name in story.varied:
        # A tied axis moves with its partner, so lengths are let go together.
        if name not in _HELD or name == along or (along == "prompt_tokens" and name == "output_tokens"):
            continue
        value = winner.get(name)
        if value is None:
            continue
        keep &= rows.mask(name, value) if isinstance(value, str) else rows.numbers(name) == value
    if rows.has("variant") and winner.get("variant"):
        keep &= rows.mask("variant", winner["variant"])
    return rows.where(np.asarray(keep))


def _chart(story: Story, rows: Records, along: str, name: str) -> Chart | None:
    values = [v for v in rows.numbers(name) if v == v]
    listed = [row for row in rows.rows() if row.get(name) is not None and row.get(along)]
    if len({row[along] for row in listed}) < 2:
        return None
    measured = measure(name, values)
    panels = [f for f in story.style.formats if any(row["quantization"] == f for row in listed)][
        :_MOST_PANELS
    ]
    listed = [row for row in listed if row["quantization"] in panels]
    if not listed:
        return None
    data = [
        {"x": row[along], "y": measured.value(row[name]), "hardware": row["hardware"],
         "quantization": row["quantization"], "what": story.name(row, without=("hardware", "quantization"))}
        for row in listed
    ]  # fmt: skip
    steps = _steps(sorted({row["x"] for row in data}))
    data = [row for row in data if row["x"] in steps]
    metric = METRICS[name]
    held = _held_words(story, along)
    title = f"{metric.label} over {'batch' if along == 'batch_size' else 'context'}"
    caption = (
        f"{held}. A line ends where a point does not fit in memory."
        if held
        else "A line ends where a point does not fit."
    )
    left = len(story.style.formats) - len(panels)
    caption += f" {counted(left, 'more number format')} left out." if left > 0 else ""
    alt = (
        f"Lines of {metric.label.lower()} over {label_of(along).lower()} for "
        f"{len({r['hardware'] for r in listed})} devices, one panel for each of {len(panels)} number "
        "formats."
    )
    columns = [
        setting_column("hardware"),
        setting_column("quantization"),
        setting_column(along),
        Column(name, metric.label, metric.definition, "number", measured.scale, name),
    ]
    table = chart_table(
        f"{name}-{along}",
        title,
        columns,
        [[row["hardware"], row["quantization"], row[along], row[name]] for row in listed],
    )
    body = _body(
        story,
        panels,
        {**axis(measured, "y", log=[r["y"] for r in data]), "title": measured.scale.unit},
        along,
        steps,
    )
    return Chart(f"{name.replace('_', '-')}-over-{along.replace('_', '-')}", title, caption, alt,
                 description(body, data, alt=alt), table, (name,))  # fmt: skip


def _steps(found: list[int]) -> list[int]:
    """At most `_MOST_STEPS` values of the axis, evenly over its logarithm, ends included."""
    import numpy as np

    if len(found) <= _MOST_STEPS:
        return found
    wanted = np.geomspace(found[0], found[-1], _MOST_STEPS)
    nearest = {found[int(np.argmin(np.abs(np.log(found) - np.log(value))))] for value in wanted}
    return sorted(nearest)


def _held_words(story: Story, along: str) -> str:
    """What all points of the chart share with the best one, of what varies in the run."""
    winner = story.winner or {}
    words = []
    if along == "batch_size" and winner.get("prompt_tokens"):
        words.append(f"{winner['prompt_tokens']:,} prompt and {winner['output_tokens'] or 0:,} output tokens")
    if along == "prompt_tokens" and winner.get("batch_size"):
        words.append(f"batch {winner['batch_size']:,}")
    others = [name for name in _HELD if name not in ("prompt_tokens", "output_tokens", "batch_size")]
    words += [_held(name, winner[name]) for name in others if name in story.varied and winner.get(name)]
    return story.redact.text(f"At {', '.join(words)}") if words else ""


def _held(name: str, value: str | int) -> str:
    if name in SPLITS:
        return f"{SPLITS[name]} {value}"
    return f"{label_of(name).lower()} {value:,}" if isinstance(value, int) else value


def _body(
    story: Story, panels: Sequence[str], y: dict[str, Any], along: str, steps: list[int]
) -> dict[str, Any]:
    across = columns_for(len(panels))
    width = int((WIDTH - 30 * (across - 1)) / across)
    return {
        "facet": {
            "field": "quantization",
            "type": "nominal",
            "sort": list(panels),
            "title": None,
            "header": {} if len(panels) > 1 else None,
        },
        "columns": across,
        "spacing": 22,
        "spec": {
            "width": width,
            "height": 260 if len(panels) == 1 else 180 if across == len(panels) else 124,
            "mark": {"type": "line", "point": {"size": 36, "filled": True}, "strokeWidth": 1.6},
            "encoding": {
                "x": {
                    "field": "x",
                    "type": "quantitative",
                    "title": _axis_title(along),
                    "scale": {
                        "type": "log",
                        "base": 2,
                        "nice": False,
                        "domain": [steps[0] / 1.2, steps[-1] * 1.2],
                    },
                    "axis": {"grid": False, "format": ",~f", "labelOverlap": "greedy", "values": steps},
                },
                "y": y,
                "color": story.style.device_color(),
                "shape": story.style.device_shape(),
                "tooltip": [
                    {"field": "hardware", "title": "Device"},
                    {"field": "quantization", "title": "Number format"},
                    {"field": "what", "title": "Point"},
                    {"field": "y", "title": y["title"], "format": ",.4~g"},
                ],
            },
        },
    }


def _axis_title(along: str) -> str:
    return "Batch (sequences)" if along == "batch_size" else "Prompt (tokens)"
