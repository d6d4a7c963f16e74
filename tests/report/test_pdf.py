"""The page on paper."""

import shutil
import subprocess
from pathlib import Path

import pytest

from engine.errors import ReportError
from engine.report import pdf
from engine.report.draw import chart_svg, svg_size
from engine.report.html import render_page
from engine.report.page import View
from engine.report.view import build_view
from tests.report.canaries import SECRET, hostile_inputs


def printed(document: str, target: Path, svgs: dict[str, str] | None = None) -> Path:
    pdf.Pending(pdf.start(target), document, svgs or {}).finish(seconds=200)
    return target


@pytest.fixture(scope="module")
def paper(sweep_view: View, sweep_svgs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return printed(
        render_page(sweep_view, sweep_svgs, mode="pdf"), tmp_path_factory.mktemp("pdf") / "a.pdf", sweep_svgs
    )


def words(paper: Path) -> str:
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext here")
    done = subprocess.run(
        ["pdftotext", "-layout", str(paper), "-"], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_paper_holds_the_answer_the_contents_and_page_numbers(paper: Path) -> None:
    text = words(paper)
    assert "At 512 prompt + 128 output tokens the best of those that qualify is" in " ".join(text.split())
    assert "Contents" in text
    pages = text.count("\f")
    assert f"1 / {pages}" in text
    assert f"{pages} / {pages}" in text
    note = "points at 512 prompt + 128 output tokens by rank. All 110 are in the HTML report"
    assert note in " ".join(text.split())


def test_the_same_run_gives_the_same_paper(
    paper: Path, sweep_view: View, sweep_svgs: dict[str, str], tmp_path: Path
) -> None:
    again = printed(render_page(sweep_view, sweep_svgs, mode="pdf"), tmp_path / "b.pdf", sweep_svgs)
    assert again.read_bytes() == paper.read_bytes()


def test_paper_fetches_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret.svg"
    secret.write_text('<svg xmlns="http://www.w3.org/2000/svg"><text y="20">leaked</text></svg>')
    document = (
        f'<img src="{secret.as_uri()}" alt="kept out"><style>@import "{secret.as_uri()}";</style><p>body</p>'
    )
    text = words(printed(document, tmp_path / "x.pdf"))
    assert "leaked" not in text
    assert "body" in text


def test_charts_may_follow_the_document(tmp_path: Path, sweep_svgs: dict[str, str]) -> None:
    svgs = {"best-points": sweep_svgs["best-points"]}
    document = '<p>before</p><img src="chart:best-points" alt="a chart">'
    pending = pdf.Pending(pdf.start(tmp_path / "later.pdf"), document)
    pending.give(svgs)
    pending.finish(seconds=200)
    at_once = printed(document, tmp_path / "at_once.pdf", svgs)
    assert at_once.read_bytes() == (tmp_path / "later.pdf").read_bytes()


def test_a_drawing_takes_its_share_of_a_page() -> None:
    def height(pixels: float) -> float:
        return svg_size(pdf._fitted(f'<svg viewBox="0 0 9 9" width="300" height="{pixels}"></svg>'))[1]

    # 92, 128 and 215 mm at 96 pixels an inch
    assert height(300) == 300
    assert height(430) == pytest.approx(92 / 25.4 * 96)
    assert height(600) == pytest.approx(128 / 25.4 * 96)
    assert height(700) == 700
    assert height(900) == pytest.approx(215 / 25.4 * 96)


def test_a_document_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="took longer than 0 s and was given up"):
        pdf.Pending(pdf.start(tmp_path / "x.pdf"), "<p>x</p>" * 20_000, {}).finish(seconds=0.01)


def test_hostile_texts_stay_dead_on_paper(tmp_path: Path) -> None:
    view = build_view(hostile_inputs())
    svgs = {chart.name: chart_svg(chart.name, chart.spec) for chart in view.charts}
    made = printed(render_page(view, svgs, mode="pdf"), tmp_path / "a.pdf", svgs)
    content = made.read_bytes()
    assert SECRET not in words(made)
    # No script, no file and no link leaves a page; links within the report do not name an address.
    for word in (b"/JavaScript", b"/JS", b"/Launch", b"/EmbeddedFile", b"/URI", SECRET.encode()):
        assert word not in content
