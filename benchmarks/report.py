"""What reports take: all formats of a spec, a page of 5,000 points and 40 charts, a workbook of 100,000 rows.

    python benchmarks/report.py [--only spec|page|workbook] [--spec SPEC] [--keep FOLDER]

The promise, on two cores: all formats of the main spec within 12 s; a page of at most 6 MB that is painted
within 1.5 s and answers every hover and filter within 100 ms; the workbook within 20 s and 600 MB. Prints
what else kept the machine busy. The page needs Chromium and Playwright.
"""

from __future__ import annotations

import argparse
import datetime as dt
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

CHROMIUM = "/usr/bin/chromium"
POINTS, CHARTS, ROWS = 5_000, 40, 100_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["spec", "page", "workbook"])
    parser.add_argument("--spec", type=Path, default=Path("specs/llama3_8b_sweep.yaml"))
    parser.add_argument("--keep", type=Path, help="Folder for what is made; removed when left out.")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{psutil.cpu_count()} cores, {load:.1f} processes wanted one in the last minute")
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        jobs = {"spec": lambda: time_spec(given.spec, folder), "page": lambda: time_page(folder),
                "workbook": lambda: time_workbook(folder)}  # fmt: skip
        for name, job in jobs.items():
            if given.only in (None, name):
                job()


def time_spec(spec: Path, folder: Path) -> None:
    """`engine report` on a finished run of the spec: seconds of the whole command."""
    engine = [sys.executable, "-m", "engine"]
    subprocess.run([*engine, "run", str(spec), "--runs", str(folder), "--no-report"], check=True,
                   capture_output=True)  # fmt: skip
    run = next(path.parent for path in folder.glob("*/plan.json"))
    before, cpu = time.perf_counter(), _children_s()
    subprocess.run([*engine, "report", str(run)], check=True, capture_output=True)
    seconds, busy = time.perf_counter() - before, _children_s() - cpu
    sizes = ", ".join(
        f"{p.suffix[1:]} {p.stat().st_size / 1e6:.2f} MB" for p in sorted(run.glob("report/report.*"))
    )
    print(f"{spec.name}: all formats in {seconds:.1f} s ({busy:.1f} s of processor time); {sizes}")
    before = time.perf_counter()
    subprocess.run([*engine, "run", str(spec), "--runs", str(folder)], check=True, capture_output=True)
    print(f"{spec.name}: engine run with everything kept, {time.perf_counter() - before:.1f} s")


def _children_s() -> float:
    used = os.times()
    return used.children_user + used.children_system


def time_page(folder: Path) -> None:
    """The page of a large sweep in a browser."""
    from engine.report.draw import script_bundle
    from engine.report.drawing import Drawer
    from engine.report.html import render_page

    view = large_view(folder)
    drawer = Drawer(scripts=False)
    try:
        svgs = drawer.draw(view.charts)
    finally:
        drawer.close()
    page = folder / "large.html"
    page.write_text(render_page(view, svgs, mode="screen", bundle=script_bundle()), encoding="utf-8")
    size = page.stat().st_size / 1e6
    print(f"page of {len(view.points.rows):,} points and {len(view.charts)} charts: {size:.2f} MB")
    for line in in_browser(page):
        print(f"  {line}")


def large_view(folder: Path) -> Any:
    """A sweep of 5,000 points, its charts repeated until there are 40."""
    from engine.commands.rendering import report_inputs
    from engine.measure.registry import versions
    from engine.plan.compile import compile_plan
    from engine.report.view import build_view
    from engine.results.store import ResultStore
    from engine.run.execute import run
    from engine.run.stored import open_run
    from engine.spec.experiment import Experiment

    plan = compile_plan(Experiment.model_validate(_large_sweep()), versions=versions())
    with ResultStore.open(folder / "large", write=True) as store:
        run(plan, store)
    stored = open_run(folder / "large")
    with stored.store:
        view = build_view(report_inputs(stored))
    charts = [
        replace(chart, name=f"{chart.name}-{i}") if i else chart for i in range(9) for chart in view.charts
    ][:CHARTS]
    sections = [replace(section, charts=()) for section in view.sections]
    sections[1] = replace(sections[1], charts=tuple(charts))
    return replace(view, sections=tuple(sections))


def _large_sweep() -> dict[str, Any]:
    batches = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
    return {
        "version": 1,
        "name": "large",
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm-80gb",
        "sweep": {
            "axes": {
                "hardware": [
                    "a100-sxm-80gb",
                    "h100-sxm-80gb",
                    "h200-sxm",
                    "b200-sxm",
                    "mi300x",
                    "l40s",
                    "l4",
                ],
                "quantization": ["bf16", "fp8", "int8-w8a8", "w4a16-g128", "kv-fp8"],
                "workload.batch_size": batches,
                "workload.prompt_tokens": [256, 512, 1024, 2048, 3072, 4096, 8192, 16384, 32768],
            }
        },
        "measurements": [{"kind": "analytical"}],
        "scoring": {
            "objectives": [{"metric": "output_tokens_per_s_per_device", "weight": 1, "reference": 1000}]
        },
    }


# Milliseconds from an act to the end of the first frame after it, which shows what the act changed in the
# middle of the window, and to the end of the frame in which all that is in sight has followed.
WATCH = """async ([act, argument]) => {
  const acts = {
    click: (select) => document.querySelector(select).click(),
    search: (text) => {
      const field = document.querySelector("[data-tools=points] input[type=search]");
      field.value = text;
      field.dispatchEvent(new Event("input"));
    },
    hover: (name) => {
      const mark = document.querySelector(`figure[data-chart="${name}"] .mark-symbol.role-mark path`);
      const box = mark.getBoundingClientRect();
      const at = { bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
      const kinds = ["pointerover", "mouseover", "pointermove", "mousemove"];
      for (const kind of kinds) mark.dispatchEvent(new MouseEvent(kind, at));
    },
  };
  const before = performance.now();
  acts[act](argument);
  const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  await painted();
  const first = performance.now() - before;
  while (document.documentElement.dataset.busy) await painted();
  return [first, performance.now() - before];
}"""
BOXES = [f"fieldset[data-filter={axis}] label:nth-of-type({i}) input"
         for axis in ("hardware", "quantization") for i in (1, 3)]  # fmt: skip


def in_browser(page: Path) -> list[str]:
    """First paint, and the slowest of several filters, sorts, searches and hovers with all charts drawn."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1366, "height": 900})
        tab.goto(page.as_uri())
        paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        tab.wait_for_selector("html[data-ready=yes]")
        found = [f"first paint {paint:.0f} ms, ready {tab.evaluate('performance.now()'):.0f} ms"]
        charts = []
        for figure in tab.locator("figure.chart").all():
            figure.scroll_into_view_if_needed()
            figure.locator(".vega-embed svg").wait_for()
            if figure.locator(".mark-symbol.role-mark path").count():
                charts.append(figure.get_attribute("data-chart"))
        found.append(told("filters in sight of a chart", tab, [("click", box) for box in BOXES * 2]))
        found.append(told("hovers", tab, [("hover", name) for name in charts[:12]]))
        tab.locator("table[data-table=points]").scroll_into_view_if_needed()
        tab.locator("table[data-table=points] th button").first.wait_for()
        heads = [f"table[data-table=points] th:nth-child({i}) button" for i in (1, 3, 4, 5)]
        found.append(told("filters in sight of the table", tab, [("click", box) for box in BOXES * 2]))
        found.append(told("sorts", tab, [("click", head) for head in heads]))
        found.append(told("searches", tab, [("search", text) for text in ("h200", "fp8 b200", "")]))
        browser.close()
    return found


def told(what: str, tab: Any, acts: list[tuple[str, str]]) -> str:
    first, whole = zip(*(tab.evaluate(WATCH, list(act)) for act in acts), strict=True)
    taken = sorted(first)
    return (
        f"{what}: {taken[len(taken) // 2]:.0f} ms in the middle, {taken[-1]:.0f} ms at most; all that is in "
        f"sight within {max(whole):.0f} ms"
    )


def time_workbook(folder: Path) -> None:
    """A workbook with 100,000 requests, written by a process of its own whose memory is read."""
    child = multiprocessing.get_context("spawn").Process(
        target=write_large_workbook, args=(folder / "large.xlsx",)
    )
    before, busy, peak = time.perf_counter(), _children_s(), 0
    child.start()
    watched = psutil.Process(child.pid)
    while child.is_alive():
        peak = max(peak, _memory(watched))
        child.join(0.05)
    seconds = time.perf_counter() - before
    busy = _children_s() - busy
    size = (folder / "large.xlsx").stat().st_size / 1e6
    print(
        f"workbook of {ROWS:,} rows, whole process: {seconds:.1f} s ({busy:.1f} s of processor time), "
        f"{peak / 1e6:.0f} MB of memory; {size:.1f} MB"
    )


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it ended between two looks
        return 0


def write_large_workbook(target: Path) -> None:
    """A view that holds nothing but requests."""
    from engine.report.clean import Redactor
    from engine.report.excel import write_workbook
    from engine.report.raw import raw_tables
    from engine.results.tables import make_table

    number = range(ROWS)
    columns: dict[str, list[Any]] = {
        "point": [i // 1000 for i in number],
        "variant": [f"concurrency {2 ** (i // 10_000 % 8)}" for i in number],
        "repeat": [i // 200 % 5 for i in number],
        "request": list(number),
        "run_phase": ["measured"] * ROWS,
        "prompt_tokens": [512 + i % 7 for i in number],
        "output_tokens": [128] * ROWS,
        "outcome": ["ok"] * ROWS,
    }
    times = ("scheduled_s", "dispatched_s", "sent_s", "first_token_s", "last_token_s", "done_s")
    for place, name in enumerate(times):
        columns[name] = [i * 0.013 + place * 0.0317 for i in number]
    tables = raw_tables({"requests": make_table("requests", columns)}, Redactor(share=False))
    write_workbook(empty_view(tables), {}, target)


def empty_view(tables: tuple[Any, ...]) -> Any:
    from engine.report.page import Column, Table, View

    nothing = Table("points", "Points", (Column("point", "Point"),), (), 0)
    return View(
        title="Large", name="large", description="", subtitle="", verdict="", verdict_basis="",
        verdict_tone="plain", tiles=(), notices=(), counts=(), fixed=(), sections=(), points=nothing,
        best=nothing, data=tables, findings=(), definitions=(), assumptions=(), provenance=(), spec_text="",
        resolved_text="", page="A4", made=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), share=False,
        fingerprint="", version="",
    )  # fmt: skip


if __name__ == "__main__":
    main()
