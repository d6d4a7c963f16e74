"""Figures of a live benchmark as PNG and SVG: memory, throughput and latency over load and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Figure",
    "Series",
    "draw_figure",
    "length_figures",
    "load_figures",
    "mixed_figure",
    "write_figures",
]

_COLOURS: Final = ("#0b6e99", "#c4582b", "#4c8c4a", "#7a5195", "#8a8a8a")
_GIB: Final = 1024**3


@dataclass(frozen=True)
class Series:
    """One line of a figure; `low` and `high` are ends of intervals, None where there are none."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclass(frozen=True)
class Figure:
    """What a figure shows."""

    name: str
    """Ending of its file name."""
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    empty: str = "not measured"
    """Said in the middle of a figure that has no values."""


def write_figures(prefix: Path, figures: Sequence[Figure]) -> list[Path]:
    """`<prefix>_<name>.png` and `.svg` of each figure; the same values give the same SVG."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    for figure in figures:
        for suffix in ("png", "svg"):
            path = prefix.with_name(f"{prefix.name}_{figure.name}.{suffix}")
            draw_figure(figure, path)
            found.append(path)
    return found


def draw_figure(figure: Figure, path: Path) -> None:
    """One figure into a file; its kind follows the ending."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context({"svg.hashsalt": figure.name, "svg.fonttype": "none"}):
        canvas = Canvas(figsize=(6.4, 4.2), layout="constrained")
        axes = canvas.subplots()
        drawn = [_draw(axes, s, i) for i, s in enumerate(figure.series)]
        axes.set_title(figure.title, fontsize=11, loc="left")
        axes.set_xlabel(figure.x_label)
        axes.set_ylabel(figure.y_label)
        if any(drawn):
            axes.set_ylim(0, _top(figure.series))
            axes.grid(visible=True, alpha=0.25)
            ticks = sorted({x for s in figure.series for x in s.x})
            if len(ticks) <= 12:
                axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
            if any(end is not None for s in figure.series for end in s.high):
                axes.set_xlabel(f"{figure.x_label}\nwhiskers: 95 % interval of the mean over repeats")
            if len(figure.series) > 1:  # one line of several that could be there must say which it is
                axes.legend(fontsize=8, frameon=False)
        else:
            axes.set_axis_off()
            axes.text(0.5, 0.5, figure.empty, ha="center", va="center", transform=axes.transAxes)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        canvas.savefig(path, dpi=150, metadata=metadata)


def _top(series: Sequence[Series]) -> float:
    """Upper end of an axis from 0: above every point and whisker, with room for a legend."""
    values = [v for s in series for v in (*s.y, *s.high) if v is not None]
    return (1.25 if len(series) > 1 else 1.1) * max(values) or 1.0


def _draw(axes: Axes, series: Series, number: int) -> bool:
    colour = _COLOURS[number % len(_COLOURS)]
    points = [(x, y, i) for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)) if y is not None]
    if not points:
        return False
    xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
    # Smaller marks on larger ones: lines of equal values stay visible.
    axes.plot(xs, ys, marker="o", markersize=max(4, 9 - 2 * number), color=colour, label=series.label)
    if series.low and series.high:
        bars = [(x, y, series.low[i], series.high[i]) for x, y, i in points]
        for x, y, low, high in bars:
            if low is not None and high is not None:
                axes.errorbar([x], [y], yerr=[[max(0.0, y - low)], [max(0.0, high - y)]],
                              color=colour, capsize=3, linewidth=1)  # fmt: skip
    return True


def load_figures(rows: Sequence[Mapping[str, Any]], *, model: str) -> list[Figure]:
    """Memory and throughput against concurrency: fig1 and fig2. A row has `concurrency` and metrics."""
    ordered = sorted(rows, key=lambda row: row["concurrency"])
    x = [float(row["concurrency"]) for row in ordered]

    def gib(name: str) -> list[float | None]:
        return [None if row.get(name) is None else float(row[name]) / _GIB for row in ordered]

    def plain(name: str) -> list[float | None]:
        return [None if row.get(name) is None else float(row[name]) for row in ordered]

    memory = [
        Series("allocated", x, gib("device_allocated_peak_bytes")),
        Series("reserved", x, gib("device_reserved_peak_bytes")),
        Series("host, resident", x, gib("host_rss_peak_bytes")),
    ]
    throughput = [
        Series("wall clock", x, plain("wall_output_tokens_per_s"),
               plain("wall_output_tokens_per_s_low"), plain("wall_output_tokens_per_s_high")),
        Series("sum of per-request rates", x, plain("sum_of_request_tokens_per_s")),
    ]  # fmt: skip
    return [
        Figure("fig1_mem_vs_concurrency", f"Peak memory, {model}", "requests at once", "GiB", memory),
        Figure("fig2_tps_vs_concurrency", f"Throughput, {model}", "requests at once", "tokens/s", throughput),
    ]


def length_figures(rows: Sequence[Mapping[str, Any]], *, model: str) -> list[Figure]:
    """Latency and memory against prompt length: fig3 and fig4. A row has `prompt_tokens` and metrics."""
    ordered = sorted(rows, key=lambda row: row["prompt_tokens"])
    x = [float(row["prompt_tokens"]) for row in ordered]
    latency = [
        Series(label, x, [row.get(name) for row in ordered], [row.get(f"{name}_low") for row in ordered],
               [row.get(f"{name}_high") for row in ordered])
        for label, name in (("request", "e2e_s"), ("first token", "ttft_s"))
    ]  # fmt: skip
    memory = [
        Series(label, x, [None if row.get(name) is None else row[name] / _GIB for row in ordered])
        for label, name in (
            ("allocated", "device_allocated_peak_bytes"),
            ("reserved", "device_reserved_peak_bytes"),
            ("host, resident", "host_rss_peak_bytes"),
        )
    ]
    return [
        Figure("fig3_latency_vs_seqlen", f"Latency, {model}", "prompt tokens", "s", latency),
        Figure("fig4_mem_vs_seqlen", f"Peak memory, {model}", "prompt tokens", "GiB", memory),
    ]


def mixed_figure(latencies: Mapping[int, Sequence[float]], *, model: str) -> Figure:
    """Latency of single requests of several prompt lengths side by side: fig5."""
    series = [
        Series(f"{tokens:,} prompt tokens", [float(i + 1) for i in range(len(values))], list(values))
        for tokens, values in sorted(latencies.items())
    ]
    return Figure(
        "fig5_mixed_lengths", f"Latency of short and long requests, {model}", "request", "s", series
    )
