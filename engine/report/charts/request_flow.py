"""Energy of one request as a flow: load, prefill and decode into parts of the model into components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.report.charts.flow import sankey, sankey_body
from engine.report.charts.story import Story, chart_table
from engine.report.charts.style import PALETTE, description
from engine.report.numbers import Scale, scale_for
from engine.report.page import Chart, Column

_PHASES: Final = ("load", "tokenize", "prefill", "decode", "detokenize")
_REST: Final = "unattributed"
_SMALLEST: Final = 0.015
"""Components below this share of everything are joined, so that labels stay apart."""

_UNLABELLED: Final = 0.005
_ROOT: Final = "load and one request"

Link = tuple[str, str, float, str]
"""Source, target, joules, phase."""


def request_flow(story: Story, components: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The flow of a metered request; None without metered phases and components of a step."""
    table = story.tables.get("summary")
    if table is None or not components:
        return None
    point = components[0]["point"]
    wholes = _phases(table.to_pylist(), point)
    steps = [row for row in components if row["parent"] == "step" and row["energy_j"] is not None]
    if not wholes or not steps:
        return None
    links, short = request_links(wholes, components)
    total = sum(value for source, _, value, _ in links if source == _ROOT)
    scale = scale_for("", "J", [value for *_, value, _ in links])
    scaled = [(source, target, value / scale.factor, phase) for source, target, value, phase in links]
    columns = _columns(scaled)
    data, nodes = sankey([link[:3] for link in scaled], columns)
    colours = {(source, target): phase for source, target, _, phase in scaled}
    for ribbon in data:
        ribbon["phase"] = colours[ribbon["from"], ribbon["to"]]
    for node in nodes:
        name = str(node["name"]).split(": ")[-1]
        share = node["value"] * scale.factor / total
        node["label"] = f"{name} {100 * share:.1f} %" if share >= _UNLABELLED else ""
    phases = [phase for phase in _PHASES if phase in wholes]
    title = "Where the energy of a request goes"
    rows: list[list[str | int | float | bool | None]] = [
        [s, t, v, v / total] for s, t, v, _ in sorted(links, key=lambda link: -link[2])
    ]
    listing = chart_table("request-flows", title, (
        Column("from", "From"), Column("to", "To"), Column("value", "Energy", "", "number", scale),
        Column("share", "Share", "", "number", Scale("%", 0.01, 1)),
    ), rows)  # fmt: skip
    alt = f"Flow diagram of the energy of a request over {len(phases)} phases and their components."
    caption = (
        "Phases as metered; a step's components as often as it runs. What no component holds is "
        "`unattributed`; nothing is rescaled."
    )
    if short:
        caption += " " + " ".join(short)
    body = sankey_body(f"Energy ({scale.unit})", phases, palette=PALETTE, columns=len(columns))
    return Chart("request-flows", title, caption, alt, description(body, [*data, *nodes], alt=alt), listing)


def _phases(rows: Sequence[Mapping[str, Any]], point: int | None) -> dict[str, tuple[float, float]]:
    """Phase -> (metered joules, steps in it), of one point."""
    found: dict[str, tuple[float, float]] = {}
    for row in rows:
        if row["source"] != "metered" or row["point"] != point or row["variant"] or not row.get("energy_j"):
            continue
        if row["phase"] in _PHASES:
            tpot = row.get("tpot_s")
            steps = round(row["time_s"] / tpot) if row["phase"] == "decode" and tpot else 1
            found[row["phase"]] = (float(row["energy_j"]), float(steps))
    return found


def request_links(
    wholes: Mapping[str, tuple[float, float]], components: Sequence[Mapping[str, Any]]
) -> tuple[list[Link], list[str]]:
    """Ribbons in joules, and a sentence for each phase whose parts hold more than it."""
    total = sum(energy for energy, _ in wholes.values())
    links: list[Link] = []
    sentences: list[str] = []
    for phase, (energy, steps) in wholes.items():
        own = [row for row in components if row["phase"] == phase and _counts(row)]
        parts = {r["component"]: r["energy_j"] * r["count"] * steps for r in own if r["parent"] == "step"}
        rest = energy - sum(parts.values())
        if parts and rest < 0:
            sentences.append(f"The parts of {phase} hold {-rest / energy:.1%} more than it.")
        links.append((_ROOT, phase, max(energy, sum(parts.values())), phase))
        for name, value in parts.items():
            links.append((phase, f"{phase}: {name}", value, phase))
            inner = {r["component"]: r["energy_j"] * r["count"] * steps for r in own if r["parent"] == name}
            links += _inside(phase, name, value, inner, least=_SMALLEST * total)
        if parts and rest > 0:
            links.append((phase, f"{phase}: {_REST}", rest, phase))
    return links, sentences


def _counts(row: Mapping[str, Any]) -> bool:
    return row["layer"] is None and row["energy_j"] is not None and row["method"] != "remainder"


def _inside(phase: str, name: str, value: float, inner: Mapping[str, float], *, least: float) -> list[Link]:
    """A part into its components: small ones joined with what no component holds."""
    large = {part: joules for part, joules in inner.items() if joules >= least}
    rest = value - sum(large.values())
    if not large or rest < -1e-9 * value:
        return []  # parts that hold more than their whole cannot be drawn as its pieces
    links = [(f"{phase}: {name}", f"{phase}: {part}", joules, phase) for part, joules in large.items()]
    return [*links, (f"{phase}: {name}", f"{phase}: rest of {name}", max(rest, 0.0), phase)]


def _columns(links: Sequence[Link]) -> list[list[str]]:
    """Nodes by distance from the start, in the order of their links."""
    depth = {_ROOT: 0}
    for source, target, _, _ in links:
        depth[target] = depth[source] + 1
    columns: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name, place in depth.items():
        columns[place].append(name)
    return columns
