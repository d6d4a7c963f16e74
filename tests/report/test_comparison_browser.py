"""The page of a comparison in a real browser: quiet, offline, accessible, whatever its texts say."""

from __future__ import annotations

from pathlib import Path

from engine.report.comparison import render_comparison_html
from engine.results.compared import Comparison
from tests.chromium import AXE_MARK, MARKS, Visit, started, violations
from tests.report.test_comparison import comparison, hostile

__all__ = ["comparison", "hostile"]
pytestmark = MARKS


def test_hostile_texts_do_nothing(hostile: Comparison, tmp_path: Path) -> None:
    target = tmp_path / "compare.html"
    target.write_text(render_comparison_html(hostile), encoding="utf-8")
    with started() as browser:
        visit = Visit(browser, target.as_uri(), offline=True)
        visit.page.wait_for_selector("html[data-ready=yes]")
        assert visit.complaints == []
        assert visit.requests == [target.as_uri()]


@AXE_MARK
def test_everybody_can_read_it(comparison: Comparison, tmp_path: Path) -> None:
    target = tmp_path / "compare.html"
    target.write_text(render_comparison_html(comparison), encoding="utf-8")
    with started() as browser:
        visit = Visit(browser, target.as_uri(), bypass_csp=True)
        visit.page.wait_for_selector("html[data-ready=yes]")
        assert violations(visit.page) == []
