"""The page in a real browser: nothing leaves it, nothing complains, everything works."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.report.draw import chart_svg, script_bundle
from engine.report.html import render_page
from engine.report.page import View
from engine.report.view import build_view
from tests.chromium import AXE_MARK, CONTRAST, MARKS, Visit, started, violations
from tests.report.canaries import hostile_inputs

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def bundle() -> str:
    return script_bundle()


@pytest.fixture(scope="module")
def address(
    sweep_view: View, sweep_svgs: dict[str, str], bundle: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    target = tmp_path_factory.mktemp("page") / "report.html"
    target.write_text(render_page(sweep_view, sweep_svgs, mode="screen", bundle=bundle), encoding="utf-8")
    return target.as_uri()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    found = Visit(browser, address)
    found.page.wait_for_selector("html[data-ready=yes]")
    yield found
    found.context.close()


def draw(visit: Visit, name: str) -> Any:
    figure = visit.page.locator(f"figure[data-chart='{name}']")
    figure.scroll_into_view_if_needed()
    figure.locator(".vega-embed svg").wait_for()
    return figure


def test_charts_come_alive_without_a_request_or_a_complaint(
    visit: Visit, sweep_view: View, address: str
) -> None:
    for chart in sweep_view.charts:
        draw(visit, chart.name)
    assert visit.complaints == []
    assert visit.requests == [address]


def test_hovering_tells_the_point(visit: Visit) -> None:
    figure = draw(visit, "best-points")
    figure.locator(".mark-symbol.role-mark path").first.hover()
    tip = visit.page.locator("#tip.visible")
    tip.wait_for()
    assert "Number format" in tip.inner_text()


def test_a_click_keeps_what_a_mark_says_until_escape(visit: Visit) -> None:
    figure = draw(visit, "best-points")
    figure.locator(".mark-symbol.role-mark path").first.click()
    kept = visit.page.locator("#tip.visible.kept")
    kept.wait_for()
    said = kept.inner_text()
    visit.page.mouse.move(5, 5)
    assert kept.inner_text() == said
    visit.page.keyboard.press("Escape")
    visit.page.locator("#tip.kept").wait_for(state="detached")
    assert not visit.page.locator("#tip.visible").count()


def test_the_arrow_keys_walk_through_the_marks(visit: Visit) -> None:
    figure = draw(visit, "best-points")
    plot = figure.locator(".plot[tabindex='0'][role=group]")
    plot.wait_for()
    plot.focus()
    said = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        visit.page.keyboard.press(key)
        said.append(visit.page.locator("#tip.kept tbody").inner_text())
    assert said[0] == said[2] != said[1]
    visit.page.keyboard.press("Escape")
    assert not visit.page.locator("#tip.visible").count()


def test_a_chart_out_of_sight_is_narrowed_when_it_comes_into_sight(visit: Visit) -> None:
    figure = draw(visit, "best-points")
    before = figure.locator(".mark-symbol.role-mark path").count()
    visit.page.locator("#provenance").scroll_into_view_if_needed()
    visit.page.evaluate("document.querySelector('fieldset[data-filter=hardware] input').click()")
    figure.scroll_into_view_if_needed()
    visit.page.wait_for_function(
        "before => document.querySelectorAll(\"figure[data-chart='best-points'] "
        '.mark-symbol.role-mark path").length < before',
        arg=before,
    )
    assert 0 < figure.locator(".mark-symbol.role-mark path").count() < before


def test_sorting_and_finding(visit: Visit) -> None:
    page = visit.page
    table = page.locator("table[data-table=points]")
    table.locator("th[data-column=tpot_s] button").click()
    assert table.locator("th[data-column=tpot_s]").get_attribute("aria-sort") == "ascending"
    place = table.locator("th").all_inner_texts().index(table.locator("th[data-column=tpot_s]").inner_text())
    shown = [float(row.locator("td").nth(place).inner_text()) for row in table.locator("tbody tr").all()[:10]]
    assert shown == sorted(shown)
    page.get_by_label("Find in points").fill("h200 fp8")
    rows = table.locator("tbody tr").all_inner_texts()
    assert len(rows) == 10
    assert all("h200-sxm" in row and "fp8" in row for row in rows)


def test_the_address_keeps_what_one_sees(visit: Visit, browser: Any) -> None:
    page = visit.page
    page.locator("fieldset[data-filter=hardware] input[value=l40s]").uncheck()
    page.get_by_label("Find in points").fill("fp8")
    again = Visit(browser, page.url)
    again.page.wait_for_selector("html[data-ready=yes]")
    assert not again.page.locator("fieldset[data-filter=hardware] input[value=l40s]").is_checked()
    assert "l40s" not in "".join(again.page.locator("table[data-table=points] tbody tr").all_inner_texts())
    again.context.close()


def test_filters_narrow_charts_and_tables(visit: Visit) -> None:
    figure = draw(visit, "best-points")
    before = figure.locator(".mark-symbol.role-mark path").count()
    visit.page.locator("fieldset[data-filter=hardware] input[value=l40s]").uncheck()
    visit.page.wait_for_function(
        "before => document.querySelectorAll(\"figure[data-chart='best-points'] "
        '.mark-symbol.role-mark path").length < before',
        arg=before,
    )
    assert 0 < figure.locator(".mark-symbol.role-mark path").count() < before
    rows = visit.page.locator("table[data-table=points] tbody tr").all_inner_texts()
    assert rows
    assert not any("l40s" in row for row in rows)


def test_a_table_shows_what_it_downloads_however_often_it_changes(visit: Visit, sweep_view: View) -> None:
    page = visit.page
    table = page.locator("table[data-table=points]")
    table.scroll_into_view_if_needed()
    table.locator("th[data-column=batch_size] button").click()
    for act in ("uncheck", "check", "uncheck"):
        getattr(page.locator("fieldset[data-filter=hardware] input[value=h100-sxm-80gb]"), act)()
        page.wait_for_function("() => !document.documentElement.dataset.busy")
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Model FLOPs utilisation (%)").check()
    with page.expect_download() as waiting:
        page.locator("[data-tools=points]").get_by_role("button", name="JSON").click()
    rows = json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))["rows"]
    devices = [cell.get_attribute("data-column") for cell in table.locator("th").all()].index("hardware")
    shown = table.locator(f"tbody td:nth-child({devices + 1})").all_inner_texts()
    sizes = [row["batch_size"] for row in rows]
    assert shown == [row["hardware"] for row in rows[:50]]
    assert 0 < len(rows) < len(sweep_view.points.rows)
    assert "h100-sxm-80gb" not in {row["hardware"] for row in rows}
    assert sizes == sorted(sizes)


def test_a_chart_of_which_nothing_is_left_says_so(
    browser: Any, bundle: str, measured_view: View, tmp_path: Path
) -> None:
    svgs = {chart.name: chart_svg(chart.name, chart.spec) for chart in measured_view.charts}
    target = tmp_path / "report.html"
    target.write_text(render_page(measured_view, svgs, mode="screen", bundle=bundle), encoding="utf-8")
    visit = Visit(browser, target.as_uri())
    visit.page.wait_for_selector("html[data-ready=yes]")
    box = visit.page.locator("fieldset[data-filter=hardware] input[value=h100-sxm-80gb]")
    figure = draw(visit, "score-waterfall")
    box.uncheck()
    assert "Left out" in figure.inner_text()
    assert figure.get_attribute("class") == "chart left-out"
    box.check()
    assert "Left out" not in figure.inner_text()
    assert visit.complaints == []
    visit.context.close()


def test_columns_can_be_chosen(visit: Visit) -> None:
    page = visit.page
    assert page.locator("table[data-table=points] th[data-column=mfu]").count() == 0
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Model FLOPs utilisation (%)").check()
    assert page.locator("table[data-table=points] th[data-column=mfu]").count() == 1


def test_downloads_hold_exact_values(visit: Visit, sweep_view: View) -> None:
    tools = visit.page.locator("[data-tools=points]")
    with visit.page.expect_download() as waiting:
        tools.get_by_role("button", name="CSV").click()
    rows = list(csv.reader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8"))))
    assert len(rows) == 1 + 110
    place = rows[0].index("tpot_s [s]")
    exact = sweep_view.points.rows[0][[c.name for c in sweep_view.points.columns].index("tpot_s")]
    assert float(rows[1][place]) == pytest.approx(exact, rel=1e-9)
    with visit.page.expect_download() as waiting:
        tools.get_by_role("button", name="JSON").click()
    assert len(json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))["rows"]) == 110


def test_without_scripts_charts_and_rows_are_seen(browser: Any, address: str, sweep_view: View) -> None:
    visit = Visit(browser, address, java_script_enabled=False)
    for chart in sweep_view.charts:
        assert visit.page.locator(f"figure[data-chart='{chart.name}'] svg").is_visible()
    assert visit.page.locator("table[data-table=points] tbody tr").count() == 110
    assert not visit.page.locator(".filters").is_visible()
    assert visit.complaints == []
    visit.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_nothing_sticks_out_and_text_can_be_read(browser: Any, address: str, width: int, scheme: str) -> None:
    visit = Visit(browser, address, viewport={"width": width, "height": 800}, color_scheme=scheme)
    visit.page.wait_for_selector("html[data-ready=yes]")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.page.evaluate(CONTRAST) == []
    visit.context.close()


def test_an_endless_name_stays_on_a_phone(
    browser: Any, bundle: str, sweep_view: View, sweep_svgs: dict[str, str], tmp_path: Path
) -> None:
    endless = "x" * 300
    places = [
        [c.name for c in sweep_view.points.columns].index(name) for name in ("hardware", "quantization")
    ]
    rows = tuple(
        tuple(f"{cell}{endless}" if i in places else cell for i, cell in enumerate(row))
        for row in sweep_view.points.rows
    )
    view = replace(
        sweep_view,
        title=endless,
        subtitle=endless,
        verdict=endless,
        fixed=((endless, endless),),
        tiles=tuple(replace(tile, value=endless) for tile in sweep_view.tiles),
        points=replace(sweep_view.points, rows=rows),
    )
    target = tmp_path / "report.html"
    target.write_text(render_page(view, sweep_svgs, mode="screen", bundle=bundle), encoding="utf-8")
    visit = Visit(browser, target.as_uri(), viewport={"width": 390, "height": 800})
    visit.page.wait_for_selector("html[data-ready=yes]")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    visit.context.close()


@AXE_MARK
@pytest.mark.parametrize("width", [390, 1366])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(
    browser: Any, address: str, sweep_view: View, width: int, scheme: str
) -> None:
    # The policy of the page allows no foreign script; the checker is one.
    viewport = {"width": width, "height": 800}
    visit = Visit(browser, address, viewport=viewport, color_scheme=scheme, bypass_csp=True)
    visit.page.wait_for_selector("html[data-ready=yes]")
    for chart in sweep_view.charts:
        draw(visit, chart.name)
    assert violations(visit.page) == []
    visit.context.close()


def test_hostile_texts_do_nothing(browser: Any, bundle: str, tmp_path: Path) -> None:
    view = build_view(hostile_inputs())
    svgs = {chart.name: chart_svg(chart.name, chart.spec) for chart in view.charts}
    target = tmp_path / "report.html"
    target.write_text(render_page(view, svgs, mode="screen", bundle=bundle), encoding="utf-8")
    visit = Visit(browser, target.as_uri())
    visit.page.wait_for_selector("html[data-ready=yes]")
    for chart in view.charts:
        draw(visit, chart.name)
    assert visit.complaints == []
    assert visit.requests == [target.as_uri()]
    visit.context.close()
