"""The report of a comparison in all formats: the same look, the same bytes, hostile texts dead."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from engine.report.comparison import comparison_view, render_comparison_html, write_comparison
from engine.report.comparison_tables import change_text, distinct, lines_of, percent
from engine.report.comparison_text import code, junit_text, markdown_text
from engine.report.comparison_words import basis
from engine.report.comparison_workbook import write_comparison_workbook
from engine.report.draw import chart_svg
from engine.report.html import render_page
from engine.report.page import View
from engine.results.compared import ComparedRun, CompareOptions, Comparison
from engine.results.comparison import compare
from tests.report.canaries import CANARY, SECRET
from tests.results.comparing import interval, live, run

SESSION = {
    "host": "lab-7",
    "engine": "0.1.0",
    "started": "2026-01-02T03:00:00Z",
    "ended": "2026-01-02T03:04:12Z",
}


def night(name: str, tpot_s: float, rate: float, **changes: Any) -> ComparedRun:
    rows = []
    for number in range(3):
        row = live(point=number, **interval("tpot_s", tpot_s * (number + 1), 0.0002, repeats=5))
        row |= interval("output_tokens_per_s", rate / (number + 1), 0.5, repeats=5)
        rows.append({**row, "host_rss_peak_bytes": 1e9 * tpot_s})
    points = [{"prompt_tokens": 128 * (i + 1)} for i in range(3)]
    made = run(rows, points=points, name=name, sessions=(SESSION,), spec={"name": name})
    return dataclasses.replace(made, **changes)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare([night("base", 0.010, 100.0), night("slow", 0.012, 110.0), night("same", 0.010, 100.0)])


@pytest.fixture(scope="module")
def hostile() -> Comparison:
    """Every text that a run can bring along holds the canary."""
    runs = []
    for number in range(2):
        points = [
            {"model": f"{CANARY}{i}", "quantization": CANARY, "settings": f"x={CANARY}"} for i in range(2)
        ]
        rows = [
            {"point": i, "tpot_s": 1.0 + number, "variant": CANARY, "source": "live", "basis": "measured",
             "tpot_s_low": 0.99 + number, "tpot_s_high": 1.01 + number, "wall_output_tokens_per_s_n": 5}
            for i in range(2)
        ]  # fmt: skip
        if number:
            rows[1] = {**rows[1], "status": "failed", "reason": CANARY}
            points.append({"model": f"{CANARY}alone"})
            rows.append({"point": 2, "tpot_s": 1.0, "source": "live", "variant": CANARY})
        session = {
            "host": f"{CANARY}{number}",
            CANARY: str(number),
            "command": CANARY,
            **{k: SESSION[k] for k in ("ended",)},
        }
        spec = {"name": f"{CANARY}{number}", CANARY: number}
        runs.append(run(rows, points=points, name=CANARY, sessions=(session,), spec=spec))
    return compare(runs)


class Elements(HTMLParser):
    """Elements of a page as a browser's parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_answer_says_what_got_worse(comparison: Comparison) -> None:
    view = comparison_view(comparison)
    assert view.title == "slow, same against base"
    assert view.verdict.startswith(
        "B slow: 3 regressed and 3 improved of 9 comparisons at 3 points; first of all "
    )
    assert view.verdict.endswith("C same: nothing got better or worse in 9 comparisons.")
    assert view.verdict_tone == "bad"
    assert {tile.label: tile.number for tile in view.tiles} == {
        "Regressed": 3, "Improved": 3, "Within noise": 9, "Unknown": 3, "Points compared": 3,
    }  # fmt: skip


def test_worst_news_come_first(comparison: Comparison) -> None:
    verdicts = [line.verdict for line in lines_of(comparison)]
    order = ("regressed", "improved", "changed", "unknown", "within noise")
    assert verdicts == sorted(verdicts, key=order.index)


def test_the_table_has_what_the_workbook_calculates_with(comparison: Comparison) -> None:
    table = comparison_view(comparison).points
    places = {column.name: i for i, column in enumerate(table.columns)}
    first = table.rows[0]
    assert first[places["metric"]] == "tpot_s"
    assert first[places["before_value"]] == pytest.approx(0.010)
    assert first[places["after_value"]] == pytest.approx(0.012)
    assert first[places["change"]] == pytest.approx(0.2)
    assert table.text(0, places["change"]).startswith("20.0 [")
    assert first[places["before"]] == "10.0 ms [9.80, 10.2]"


def test_one_piece_of_news_is_told_once() -> None:
    rows = [{"output_tokens_per_s": 1.0, "requests_per_s": 2.0, "tpot_s": 1.0}]
    after = [{"output_tokens_per_s": 2.0, "requests_per_s": 4.0, "tpot_s": 0.5}]
    told = distinct(lines_of(compare([run(rows), run(after)])))
    assert [(news.metric, news.lines) for news in told] == [
        ("Output throughput and 1 alike", 2), ("Time per output token", 1),
    ]  # fmt: skip


def test_a_setting_of_the_whole_run_is_one_piece_of_news() -> None:
    # 3 points go from 2 to 8 GB of reserve, which leaves each another share of its memory.
    points = [{"batch_size": n} for n in (1, 2, 4)]
    before = [
        {"point": i, "reserve_bytes": 2e9, "memory_free_bytes": n * 1e10} for i, n in enumerate((1, 2, 4))
    ]
    after = [
        {**row, "reserve_bytes": 8e9, "memory_free_bytes": row["memory_free_bytes"] - 6e9} for row in before
    ]
    told = distinct(lines_of(compare([run(before, points=points), run(after, points=points)])))
    assert [(news.metric, news.point(("batch_size",)), news.lines) for news in told] == [
        ("Reserve", "batch 1 and 2 points more", 3),
        ("Memory left", "batch 1", 1),
        ("Memory left", "batch 2", 1),
        ("Memory left", "batch 4", 1),
    ]


def test_what_people_look_at_first_comes_before_larger_changes_of_the_rest() -> None:
    rows = [{"tpot_s": 0.010, "reserve_bytes": 2e9}]
    after = [{"tpot_s": 0.011, "reserve_bytes": 8e9}]
    told = lines_of(compare([run(rows), run(after)]))
    assert [line.change.metric for line in told if line.change] == ["tpot_s", "reserve_bytes"]


def test_no_test_is_claimed_where_predictions_meet() -> None:
    found = compare([run([{"tpot_s": 0.010}]), run([{"tpot_s": 0.011}])])
    assert basis(found) == "Between predictions any difference is a change."


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.1234, "+12.3"), (-0.5, "−50.0"), (0.0001, "+0.01"), (0.0, "+0.0"), (466.8, "+46,680")],
)
def test_shares_are_written_with_their_sign(share: float, text: str) -> None:
    assert percent(share) == text


def test_a_change_from_nothing_is_told_in_its_unit() -> None:
    before, after = run([{"communication_s": 0.0}]), run([{"communication_s": 0.002}])
    (change,) = compare([before, after]).against[0].points[0].changes
    assert change_text(change) == "+2.00 ms"


def drawn(view: View) -> dict[str, str]:
    return {chart.name: chart_svg(chart.name, chart.spec) for chart in view.charts}


def page_of(comparison: Comparison, *, share: bool = False) -> str:
    """The page without Vega's scripts, which take seconds to make."""
    view = comparison_view(comparison, share=share)
    return render_page(view, drawn(view), mode="screen", bundle="window.vegaEmbed = null;")


def test_the_page_is_complete_without_scripts(comparison: Comparison) -> None:
    page = page_of(comparison)
    assert "Comparison of runs" in page
    assert page.count('<svg role="img"') == 3  # the course over the runs, and the largest changes of each
    assert page.count("<td>regressed</td>") >= 3
    for words in ("What was asked otherwise", "Welch 1947", "output tokens / time"):
        assert words in page


def test_the_page_is_handed_out_as_text(comparison: Comparison) -> None:
    page = render_comparison_html(comparison)
    assert page.startswith("<!doctype html>")
    assert "vegaEmbed" in page


def test_the_workbook_calculates(comparison: Comparison, tmp_path: Path) -> None:
    view = comparison_view(comparison)
    write_comparison_workbook(view, drawn(view), tmp_path / "one.xlsx")
    book = openpyxl.load_workbook(tmp_path / "one.xlsx")
    assert book.sheetnames == [
        "Summary", "Changes", "What was asked otherwise", "Pictures", "Definitions", "Method", "Provenance",
    ]  # fmt: skip
    head = [cell.value for cell in book["Changes"][1]]
    formula = book["Changes"].cell(2, head.index("Change") + 1)
    before, after = (
        book["Changes"].cell(2, head.index(name) + 1).coordinate
        for name in ("Before, exactly", "Now, exactly")
    )
    assert formula.value == f"=({after}-{before})/ABS({before})"
    stored = openpyxl.load_workbook(tmp_path / "one.xlsx", data_only=True)["Changes"]
    assert stored[formula.coordinate].value == pytest.approx(0.2)


def test_all_formats_are_written_and_equal(comparison: Comparison, tmp_path: Path) -> None:
    written = write_comparison(comparison, tmp_path / "a", formats=["html", "pdf", "xlsx"])
    again = write_comparison(comparison, tmp_path / "b", formats=["html", "pdf", "xlsx"])
    assert [path.name for path in written.values()] == ["compare.html", "compare.pdf", "compare.xlsx"]
    for name, path in written.items():
        assert path.read_bytes() == again[name].read_bytes(), name
    assert written["pdf"].read_bytes().startswith(b"%PDF")


def test_a_shared_report_names_no_host(comparison: Comparison) -> None:
    other = night("x", 0.01, 100.0, sessions=({**SESSION, "host": "lab-8"},))
    found = compare([night("base", 0.01, 100.0), other])
    open_page, shared = (page_of(found, share=share) for share in (False, True))
    assert "lab-8" in open_page
    assert "lab-8" not in shared
    assert "lab-8" not in markdown_text(found, share=True)


# Hostile texts


def test_hostile_texts_are_dead_on_the_page(hostile: Comparison) -> None:
    page = page_of(hostile)
    tags = Elements(page).tags
    assert [a.get("type") for tag, a in tags if tag == "script"] == ["application/json", None, None]
    assert not [tag for tag, a in tags if any(name.startswith("on") for name in a)]
    assert "img" not in {tag for tag, _ in tags}
    assert SECRET not in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_hostile_texts_stay_texts_in_the_workbook(hostile: Comparison, tmp_path: Path) -> None:
    view = comparison_view(hostile)
    write_comparison_workbook(view, drawn(view), tmp_path / "x.xlsx")
    cells = [c for s in openpyxl.load_workbook(tmp_path / "x.xlsx") for row in s.iter_rows() for c in row]
    assert not [c.value for c in cells if c.data_type == "f" and "ABS" not in str(c.value)]
    assert not [c for c in cells if c.hyperlink is not None or SECRET in str(c.value)]


def test_hostile_texts_are_dead_in_markdown(hostile: Comparison) -> None:
    text = markdown_text(hostile)
    assert SECRET not in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    # Outside of code spans there are only our own words and tags.
    outside = re.sub(r"`[^`\n]*`", "", text)
    assert "script" not in outside
    assert "evil" not in outside
    assert set(re.findall(r"<(/?\w+)", outside)) <= {
        "details",
        "summary",
        "/summary",
        "/details",
        "sub",
        "/sub",
    }


def test_hostile_texts_are_dead_in_junit(hostile: Comparison) -> None:
    text = junit_text(hostile)
    assert SECRET not in text
    root = ET.fromstring(text)
    assert {element.tag for element in root.iter()} <= {
        "testsuites", "testsuite", "testcase", "failure", "skipped", "system-out",
    }  # fmt: skip
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("a`b", "`a´b`"),
        ("a|b", "`a¦b`"),
        ("@all #1 <b>", "`@all #1 <b>`"),
        ("one\ntwo", "`one two`"),
        ("\x1b[31mred", "`red`"),
        ("", ""),
    ],
)
def test_code_spans_hold_anything(text: str, span: str) -> None:
    assert code(text) == span


# Machines


def test_junit_fails_what_regressed(comparison: Comparison) -> None:
    root = ET.fromstring(junit_text(comparison))
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("18", "3", "3")
    slow, same = root
    assert (slow.get("name"), slow.get("failures"), same.get("failures")) == ("B slow", "3", "0")
    case = slow[0]
    assert (
        case.get("classname") == "llama-3.1-8b on h100-sxm-80gb, bf16, batch 1, 128+256 tokens, closed load"
    )
    assert case.get("name") == "tpot_s"
    message = case[0].get("message") or ""
    assert message.startswith(
        "regressed: 10.0 ms [9.80, 10.2] -> 12.0 ms [11.8, 12.2], +20.0 % [+17.7, +22.3]; p = "
    )


def test_markdown_tells_verdicts_first(comparison: Comparison) -> None:
    lines = markdown_text(comparison).splitlines()
    assert lines[0] == "## Comparison against `base`"
    assert lines[2] == "### `slow`"
    assert lines[4] == "🔴 **3 regressed**, 🟢 **3 improved**, 3 unknown, at 3 points (9 comparisons)."
    assert "9 within noise, at 3 points (9 comparisons)." in lines
    assert any(line.startswith("| 🔴 regressed | Time per output token | +20.0 % [") for line in lines)
    assert "- `name: base -> slow`" in lines


def test_options_are_told() -> None:
    runs = [night("a", 0.01, 100.0), night("b", 0.01, 100.0)]
    options = CompareOptions(threshold=0.02, correction="holm", noise=0.03)
    basis = comparison_view(compare(runs, options)).verdict_basis
    assert "Holm's correction: at most 5 % chance of any false alarm" in basis
    assert "changes of less than 2 % do not count" in basis
    assert "runs of the same are taken to vary by 3 %" in basis
