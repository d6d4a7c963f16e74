"""The best point of each device and number format, for whoever has ten seconds."""

from __future__ import annotations

from engine.metrics import METRICS
from engine.report.charts.story import Story, chart_table, setting_column
from engine.report.charts.style import WIDTH, axis, description, measure
from engine.report.choose import best_of_each
from engine.report.page import Chart, Column
from engine.report.records import Records
from engine.report.workloads import words

_MOST_DEVICES = 24


def best_points(story: Story) -> list[Chart]:
    """For each device and number format the best point that qualifies."""
    choice = story.choice
    name = choice.metric if choice.metric in METRICS else "output_tokens_per_s_per_device"
    if not story.rows.has(name) or not choice.order or "hardware" not in story.varied:
        return []
    paired = _with_pair(story.rows)
    higher = METRICS[name].direction != "lower"
    rows = paired.take(best_of_each(paired, name, "_pair", higher=higher, among=choice.among)).rows()
    rows.sort(key=lambda r: (story.device_rank(r["hardware"]), r["quantization"] or ""))
    devices = list(dict.fromkeys(row["hardware"] for row in rows))
    top = sorted(
        devices,
        key=lambda d: -max((r[name] or 0) * (1 if higher else -1) for r in rows if r["hardware"] == d),
    )
    rows = [row for row in rows if row["hardware"] in top[:_MOST_DEVICES]]
    if len(rows) < 2:
        return []
    measured = measure(name, [row[name] for row in rows])
    data = [
        {"x": measured.value(row[name]), "hardware": row["hardware"], "quantization": row["quantization"],
         "what": story.name(row, without=("hardware", "quantization")), "basis": row.get("basis")}
        for row in rows
    ]  # fmt: skip
    mixed = len({row["basis"] for row in data}) > 1
    pale = "datum.basis == 'bound'" if mixed else "false"
    metric = METRICS[name]
    alt = (
        f"Dots of the best {metric.label.lower()} of {len(devices)} devices, one dot for each number format."
    )
    body = {
        "width": WIDTH - 60,
        "height": {"step": 24},
        "mark": {"type": "point", "size": 80, "filled": True},
        "encoding": {
            "y": {"field": "hardware", "type": "nominal", "title": None, "sort": top[:_MOST_DEVICES],
                  "axis": {"grid": True, "ticks": False, "domain": False}},
            "x": axis(measured, "x"),
            "color": story.style.format_color(),
            "shape": story.style.format_shape(),
            "opacity": {"condition": {"test": pale, "value": 0.4}, "value": 0.95},
            "tooltip": [
                {"field": "hardware", "title": "Device"},
                {"field": "quantization", "title": "Number format"},
                {"field": "what", "title": "Point"},
                {"field": "basis", "title": "Basis"},
                {"field": "x", "title": measured.title, "format": ",.4~g"},
            ],
        },
    }  # fmt: skip
    settings = story.varied
    columns = [*(setting_column(s) for s in settings),
               Column(name, metric.label, metric.definition, "number", measured.scale, name)]  # fmt: skip
    table = chart_table("best-points", "Best point of each device and number format", columns,
                        [[*(row[s] for s in settings), row[name]] for row in rows])  # fmt: skip
    qualified = "that meets the requirements " if choice.requirements and choice.qualified else ""
    where = f" At {words(choice.workload)}." if choice.workload else ""
    caption = (
        f"Each dot is the best point {qualified}of a device in a number format, whatever its batch.{where}"
    )
    if mixed:
        caption += (
            " Pale dots are bounds of devices without a calibration: they compare with each other only."
        )
    return [
        Chart(
            "best-points",
            f"Best {metric.label.lower()} by device",
            caption,
            alt,
            description(body, data, alt=alt),
            table,
            (name,),
        )
    ]


def _with_pair(rows: Records) -> Records:
    import pyarrow as pa
    import pyarrow.compute as pc

    pair = pc.binary_join_element_wise(
        pc.fill_null(rows.table["hardware"].cast(pa.string()), ""),
        pc.fill_null(rows.table["quantization"].cast(pa.string()), ""),
        "\x1f",
    )
    return Records(rows.table.append_column("_pair", pair))
