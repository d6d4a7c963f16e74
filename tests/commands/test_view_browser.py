"""The list of runs in a real browser: served and from a file, with scripts and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.commands.view_export import export
from engine.plan.compile import compile_plan
from engine.report.run_list import list_page, row_of
from engine.results.listing import RunList
from engine.results.lock import FolderLock
from tests.chromium import CONTRAST, MARKS, Visit, started
from tests.commands.test_view import Server
from tests.plan.specs import experiment
from tests.report.canaries import CANARY
from tests.report.test_run_list import ENTRY
from tests.results.test_listing import make_run, write_report

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as found:
        yield found


def session(day: int) -> dict[str, Any]:
    return {"started": f"2026-03-{day:02d}T10:00:00Z", "ended": f"2026-03-{day:02d}T11:00:00Z"}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Four runs: two finished, one that has work left, one damaged; the latest is `delta`."""
    folder = tmp_path / "runs"
    make_run(folder / "alpha", session=session(1), tags=["nightly"])
    write_report(folder / "alpha", "Best is board.")
    make_run(folder / "beta", session=session(2), plan=compile_plan(experiment()))
    make_run(folder / "gamma", session=session(3), done=False)
    make_run(folder / "delta", session=session(4))
    (folder / "delta" / "plan.json").write_text("{")
    return folder


@pytest.fixture
def server(runs: Path, tmp_path: Path) -> Iterator[Server]:
    found = Server(runs, tmp_path)
    yield found
    found.stop()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Visit]:
    found = Visit(browser, f"http://127.0.0.1:{server.port}/")
    found.page.wait_for_selector("html[data-ready=yes]")
    yield found
    assert found.complaints == []
    assert all(address.startswith(f"http://127.0.0.1:{server.port}/") for address in found.requests)
    found.context.close()


def names(page: Any) -> list[str]:
    """Runs that are seen, in order."""
    return [link.inner_text() for link in page.locator("#rows tr:not([hidden]) .open").all()]


def test_the_list_is_filtered_sorted_and_kept_in_the_address(browser: Any, visit: Visit) -> None:
    page = visit.page
    assert names(page) == ["delta", "gamma", "beta", "alpha"]
    page.get_by_role("button", name="Sort by Run").click()
    assert names(page) == ["alpha", "beta", "delta", "gamma"]
    page.get_by_role("button", name="Sort by Points").click()
    page.get_by_role("button", name="Sort by Points").click()
    # Six points, six points, one point; what is unknown stands last either way.
    assert names(page) == ["gamma", "alpha", "beta", "delta"]
    assert page.locator("th[data-column=points]").get_attribute("aria-sort") == "descending"
    page.locator("select[data-field=state]").select_option("finished")
    assert names(page) == ["alpha", "beta"]
    page.get_by_label("Find in runs").fill("BOARD alpha")
    assert names(page) == ["alpha"]
    assert page.locator("#shown").inner_text() == "1 of 4 found"
    again = Visit(browser, page.url)
    again.page.wait_for_selector("html[data-ready=yes]")
    assert names(again.page) == ["alpha"]
    again.context.close()
    page.get_by_role("button", name="Show all").click()
    assert names(page) == ["gamma", "alpha", "beta", "delta"]


def test_many_runs_are_shown_some_at_a_time(browser: Any, tmp_path: Path) -> None:
    rows = [replace(row_of(ENTRY), id=f"r{i:03d}", name=f"r{i:03d}") for i in range(230)]
    target = tmp_path / "index.html"
    target.write_text(list_page(rows, name="runs", mode="exported").text, encoding="utf-8")
    visit = Visit(browser, target.as_uri())
    page = visit.page
    page.wait_for_selector("html[data-ready=yes]")
    assert len(names(page)) == 200
    more = page.get_by_role("button", name="Show 30 more of 230")
    page.get_by_label("Find in runs").fill("r229")
    assert names(page) == ["r229"]
    assert not more.is_visible()
    page.get_by_label("Find in runs").fill("")
    more.click()
    assert len(names(page)) == 230
    assert page.evaluate("document.activeElement.textContent") == "r200"
    visit.context.close()


def test_two_ticks_allow_a_comparison(visit: Visit) -> None:
    page = visit.page
    button = page.get_by_role("button", name="Compare the ticked runs")
    assert page.locator("#rows input").count() == 2  # nothing of gamma and delta can be compared
    assert button.is_disabled()
    page.get_by_label("Compare alpha").check()
    assert page.locator("#ticked").inner_text() == "Tick one more."
    page.get_by_label("Compare beta").check()
    page.get_by_label("Find in runs").fill("alpha")
    assert page.locator("#ticked").inner_text() == "2 runs, 1 of them filtered away."
    assert button.is_enabled()
    with page.expect_navigation(timeout=120_000):
        button.click(timeout=120_000)
    assert page.url.endswith("/compare?run=beta&run=alpha")
    assert "alpha" in page.inner_text("h1")


def test_a_running_run_is_followed_without_losing_ticks_or_focus(visit: Visit, runs: Path) -> None:
    page = visit.page
    page.get_by_label("Compare alpha").check()
    page.get_by_label("Compare alpha").focus()
    lock = FolderLock(runs / "gamma" / ".lock")
    page.locator("#run-gamma[data-state=running] progress").wait_for(timeout=30_000)
    assert page.locator("#counts").inner_text() == "4 runs: 1 running, 2 finished, 1 damaged."
    write_report(runs / "alpha", "Best is another.")
    page.get_by_text("Best is another.").wait_for(timeout=30_000)
    assert page.get_by_label("Compare alpha").is_checked()
    assert page.evaluate("document.activeElement.value") == "alpha"
    make_run(runs / "epsilon", session=session(9))
    page.locator("#run-epsilon").wait_for(timeout=30_000)
    assert names(page)[0] == "epsilon"
    lock.release()
    page.locator("#run-gamma[data-state=unfinished]").wait_for(timeout=30_000)


def test_the_page_of_a_run_follows_it(browser: Any, server: Server, runs: Path) -> None:
    visit = Visit(browser, f"http://127.0.0.1:{server.port}/runs/gamma/index.html")
    visit.page.wait_for_selector("html[data-ready=yes]")
    assert visit.page.locator(".sentence").inner_text() == "Unfinished: 0 of 2 tasks."
    lock = FolderLock(runs / "gamma" / ".lock")
    visit.page.get_by_text("Running: 0 of 2 tasks, process").wait_for(timeout=30_000)
    lock.release()
    assert visit.complaints == []
    visit.context.close()


def test_a_strange_report_cannot_read_other_runs(browser: Any, server: Server, runs: Path) -> None:
    attack = """<!doctype html><title>x</title><script>
      const say = (what) => { document.title = what; };
      fetch('/stamps.json').then((answer) => answer.text()).then(say, () => say('refused'));
    </script>"""
    (runs / "alpha" / "report" / "report.html").write_text(attack)
    visit = Visit(browser, f"http://127.0.0.1:{server.port}/runs/alpha/report.html")
    visit.page.wait_for_function("document.title === 'refused'", timeout=30_000)
    assert visit.page.evaluate("window.origin") == "null"
    visit.context.close()


@pytest.fixture
def site(runs: Path, tmp_path: Path) -> Path:
    write_report(runs / "beta", "Nothing better.")
    return export(RunList(runs), tmp_path / "site", share=False)


def test_an_export_works_from_a_file_and_asks_for_nothing(browser: Any, site: Path) -> None:
    visit = Visit(browser, site.as_uri(), offline=True)
    page = visit.page
    page.wait_for_selector("html[data-ready=yes]")
    assert names(page) == ["delta", "gamma", "beta", "alpha"]
    page.get_by_label("Find in runs").fill("nightly")
    assert names(page) == ["alpha"]
    page.get_by_role("link", name="Details and files of alpha").click()
    page.get_by_role("heading", name="Files").wait_for()
    page.get_by_role("link", name="Open the report").click()
    assert page.url.endswith("/runs/alpha/report.html")
    assert visit.complaints == []
    assert {address.split(":")[0] for address in visit.requests} == {"file"}
    visit.context.close()


def test_without_scripts_every_run_is_listed(browser: Any, site: Path, server: Server) -> None:
    for address in (site.as_uri(), f"http://127.0.0.1:{server.port}/"):
        visit = Visit(browser, address, java_script_enabled=False)
        assert names(visit.page) == ["delta", "gamma", "beta", "alpha"]
        assert not visit.page.locator(".list .tools").first.is_visible()
        visit.context.close()


def test_without_scripts_ticked_runs_can_be_compared(browser: Any, server: Server) -> None:
    visit = Visit(browser, f"http://127.0.0.1:{server.port}/", java_script_enabled=False)
    visit.page.get_by_label("Compare alpha").check()
    with visit.page.expect_navigation():
        visit.page.get_by_role("button", name="Compare the ticked runs").click()
    assert "Tick between two and 20 runs in the list." in visit.page.inner_text("body")
    visit.context.close()


@pytest.mark.parametrize(
    ("width", "scheme"), [(390, "light"), (390, "dark"), (1366, "light"), (1366, "dark")]
)
def test_nothing_sticks_out_and_text_can_be_read(
    browser: Any, server: Server, width: int, scheme: str
) -> None:
    for path in ("", "runs/alpha/index.html", "runs/delta/index.html", "compare?run=alpha"):
        address = f"http://127.0.0.1:{server.port}/{path}"
        visit = Visit(browser, address, viewport={"width": width, "height": 800}, color_scheme=scheme)
        visit.page.wait_for_selector("html[data-ready=yes]")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        assert visit.page.evaluate(CONTRAST) == []
        visit.context.close()


def test_everything_is_reached_by_key(visit: Visit) -> None:
    seen = []
    for _ in range(16):
        visit.page.keyboard.press("Tab")
        seen.append(
            visit.page.evaluate("document.activeElement.id || document.activeElement.tagName.toLowerCase()")
        )
    assert seen[:2] == ["a", "find"]
    assert seen[2:6] == ["select", "select", "clear", "div"]
    assert seen[6:14] == ["button"] * 8  # one to sort by each column
    assert seen[14:16] == ["a", "a"]


def test_hostile_texts_do_nothing(browser: Any, runs: Path, tmp_path: Path) -> None:
    plan = json.loads((runs / "alpha" / "plan.json").read_text())
    plan["experiment"].update(tags=[CANARY], description=CANARY, report={"title": CANARY})
    plan["entries"] = {kind: {CANARY: {}} for kind in ("model", "hardware", "quantization")}
    (runs / "alpha" / "plan.json").write_text(json.dumps(plan))
    (runs / "alpha" / "experiment.yaml").write_text(CANARY, encoding="utf-8")
    write_report(runs / "alpha", "x")
    write_report(runs / "beta", "x")
    (runs / "alpha").rename(runs / CANARY.replace("/", "_").replace("\0", "")[:80])
    site = export(RunList(runs), tmp_path / "site", share=False)
    (page,) = (path for path in site.parent.rglob("runs/run-*/index.html"))
    for target in (site, page):
        visit = Visit(browser, target.as_uri(), offline=True)
        visit.page.wait_for_selector("html[data-ready=yes]")
        visit.page.wait_for_timeout(200)
        assert visit.complaints == []
        assert visit.requests == [target.as_uri()]
        visit.context.close()
