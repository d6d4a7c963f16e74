"""What each request of a load did when: it waited, its prompt was read, its tokens came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from engine.report.charts.latencies import measured_requests
from engine.report.charts.story import Story, chart_table
from engine.report.charts.style import PALETTE, WIDTH, description, rounded
from engine.report.numbers import Scale
from engine.report.page import Chart, Column
from engine.units import counted

MOST_REQUESTS: Final = 60
"""Bars of one load: as many as stand apart in a picture."""
_MOST_LOADS: Final = 3
_PHASES: Final = ("queue", "prefill", "decode")
_S: Final = Scale("s", 1, 3)


def timelines(story: Story) -> list[Chart]:
    """One chart of the requests of the heaviest loads, first repeat; nothing without requests."""
    loads = measured_requests(story)
    # The heaviest load has most requests under way at once, which is what one wants to see.
    loads.sort(key=lambda load: -_busy(load[1]))
    data: list[dict[str, Any]] = []
    rows: list[list[Any]] = []
    left_out = 0
    for load, requests in loads[:_MOST_LOADS]:
        spans = _spans(requests)
        left_out += max(0, len(spans) - MOST_REQUESTS)
        for number, (request, span) in enumerate(spans[:MOST_REQUESTS], start=1):
            rows.append([load["line"], request, span[0], *(end - begin for begin, end in pairwise(span))])
            data += _bars(load, number, request, span)
    if not data:
        return []
    panels = list(dict.fromkeys(row["line"] for row in data))
    title = "Requests over time"
    caption = "Each bar is a request: waiting before it was sent, until its first token, until its last."
    caption += f" {counted(left_out, 'later request')} left out." if left_out else ""
    alt = f"Bars of {counted(len(rows), 'request')} over time, each split into queue, prefill and decode."
    columns = (
        Column("line", "Load"),
        Column("request", "Request", "", "number"),
        Column("from", "From", "Seconds since the first of the window.", "number", _S),
        Column("queue", "Queue", "From its planned time until it was sent.", "number", _S),
        Column("prefill", "Prefill", "From sending until the first token.", "number", _S),
        Column("decode", "Decode", "From the first token until the last.", "number", _S),
    )
    table = chart_table("timeline", title, columns, rows)
    return [Chart("timeline", title, caption, alt, description(_body(panels), data, alt=alt), table)]


def _busy(requests: Sequence[Mapping[str, Any]]) -> float:
    """Requests under way on average."""
    spans = [span for _, span in _spans(requests)]
    if not spans:
        return 0.0
    window = max(span[-1] for span in spans) - min(span[0] for span in spans)
    return sum(span[-1] - span[0] for span in spans) / window if window > 0 else 0.0


def _spans(requests: Sequence[Mapping[str, Any]]) -> list[tuple[int, tuple[float, ...]]]:
    """(request, (planned, sent, first token, last token)) of the first repeat, from its first moment on."""
    first = min((r["repeat"] for r in requests if r["repeat"] is not None), default=None)
    found = []
    for row in requests:
        end = row["last_token_s"] if row["last_token_s"] is not None else row["done_s"]
        moments = (row["sent_s"], row["first_token_s"], end)
        if row["repeat"] == first and None not in moments:
            planned = row["scheduled_s"] if row["scheduled_s"] is not None else row["sent_s"]
            found.append((row["request"], (min(planned, row["sent_s"]), *moments)))
    found.sort(key=lambda item: item[1])
    start = found[0][1][0] if found else 0.0
    return [(request, tuple(moment - start for moment in span)) for request, span in found]


def _bars(load: Mapping[str, Any], number: int, request: int, span: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"line": load["line"], "request": request, "y": number, "phase": phase, "from": rounded(begin),
         "to": rounded(end), "took": rounded(1e3 * (end - begin)), "hardware": load.get("hardware"),
         "quantization": load.get("quantization")}
        for phase, begin, end in zip(_PHASES, span[:-1], span[1:], strict=True)
        if end > begin
    ]  # fmt: skip


def _body(panels: Sequence[str]) -> dict[str, Any]:
    header = {"labelAngle": 0, "labelAlign": "left", "labelOrient": "top", "labelAnchor": "start"}
    return {
        "facet": {"row": {"field": "line", "type": "nominal", "sort": list(panels), "title": None,
                          "header": header}},
        "resolve": {"scale": {"y": "independent"}},
        "spec": {
            "width": WIDTH - 40,
            "height": {"step": 7},
            "mark": {"type": "bar", "height": {"band": 0.8}},
            "encoding": {
                "y": {"field": "y", "type": "ordinal", "title": "Request",
                      "axis": {"labels": False, "ticks": False, "domain": False}},
                "x": {"field": "from", "type": "quantitative", "title": "Time (s)",
                      "axis": {"tickCount": 12}},
                "x2": {"field": "to"},
                "color": {"field": "phase", "type": "nominal", "title": None, "legend": {"columns": 3},
                          "scale": {"domain": list(_PHASES), "range": [PALETTE[6], PALETTE[0], PALETTE[4]]}},
                "tooltip": [
                    {"field": "request", "title": "Request"},
                    {"field": "phase", "title": "Phase"},
                    {"field": "from", "title": "From (s)", "format": ",.4~g"},
                    {"field": "took", "title": "Took (ms)", "format": ",.4~g"},
                ],
            },
        },
    }  # fmt: skip
