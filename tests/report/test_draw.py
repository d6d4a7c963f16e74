"""Charts as pictures."""

from pathlib import Path

import pytest

from engine.errors import ReportError
from engine.report import draw
from engine.report.draw import chart_svg, png, script_bundle, svg_resized, svg_size
from engine.report.page import View


def test_the_same_chart_drawn_twice_is_the_same_text(sweep_view: View) -> None:
    chart = next(chart for chart in sweep_view.charts if chart.name == "roofline")
    assert chart_svg(chart.name, chart.spec) == chart_svg(chart.name, chart.spec)


def test_charts_fit_a_page(sweep_svgs: dict[str, str], sweep_view: View) -> None:
    # 178 mm at 96 pixels an inch are 673 pixels; a little shrinking keeps text of 10.5 px readable.
    for name, svg in sweep_svgs.items():
        assert svg_size(svg)[0] <= 760, name


def test_a_picture_is_white_behind(sweep_svgs: dict[str, str]) -> None:
    assert png(sweep_svgs["best-points"]).startswith(b"\x89PNG")


def test_a_description_cannot_load_data(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\nleaked\n", encoding="utf-8")
    for address in (secret.as_uri(), str(secret)):
        spec = {
            "data": {"url": address, "format": {"type": "csv"}},
            "mark": "text",
            "encoding": {"text": {"field": "a", "type": "nominal"}},
        }
        try:
            drawn = chart_svg("x", spec)
        except ReportError:
            continue
        assert "leaked" not in drawn


def test_a_drawing_made_smaller_keeps_what_it_shows() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="600" height="400" viewBox="0 0 600 400"></svg>'
    assert svg_resized(svg, 0.25) == svg.replace('width="600" height="400"', 'width="150" height="100"')


def test_the_scripts_are_joined_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vl_convert

    made = []

    def joined(snippet: str) -> str:
        made.append(snippet)
        return "var vegaEmbed; " + snippet

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(vl_convert, "javascript_bundle", joined)
    assert script_bundle() == script_bundle() == "var vegaEmbed; window.vegaEmbed = vegaEmbed;"
    assert made == ["window.vegaEmbed = vegaEmbed;"]
    monkeypatch.setattr(draw, "version", lambda name: "another")
    script_bundle()
    assert len(made) == 2
