"""The page: one file, strict policy, complete without scripts, hostile texts dead."""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from engine.errors import ReportError
from engine.report.draw import chart_svg
from engine.report.html import packed_data, page_templates, policy, render_page, script_json
from engine.report.inputs import ReportInputs
from engine.report.page import View
from engine.report.view import build_view
from tests.report.canaries import SECRET, hostile_inputs


class Page(HTMLParser):
    """Elements, links and texts of a page as a browser's parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)
        if tag in self.raw:
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] in self.raw:
            self.raw[self.inside[-1]][-1] += data
        else:
            self.texts.append(data)


@pytest.fixture(scope="module")
def hostile_view() -> View:
    return build_view(hostile_inputs())


@pytest.fixture(scope="module")
def hostile_page(hostile_view: View) -> str:
    svgs = {chart.name: chart_svg(chart.name, chart.spec) for chart in hostile_view.charts}
    return render_page(hostile_view, svgs, mode="screen", bundle="window.vegaEmbed = null;")


def test_the_policy_allows_this_style_and_these_scripts_and_nothing_else(sweep_page: str) -> None:
    page = Page(sweep_page)
    (found,) = [
        a["content"]
        for tag, a in page.tags
        if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert found is not None
    rules = dict(rule.strip().split(" ", 1) for rule in found.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in found
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in page.raw["style"]]
    assert rules["style-src"].split() == [f"'sha256-{digest}'" for digest in hashes]
    kinds = [a.get("type") for tag, a in page.tags if tag == "script"]
    assert kinds == ["application/json", None, None]
    scripts = [text for text, kind in zip(page.raw["script"], kinds, strict=True) if kind is None]
    expected = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in expected]


def test_nothing_is_loaded_from_anywhere(sweep_page: str) -> None:
    for tag, attributes in Page(sweep_page).tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "video", "audio"), tag
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), (tag, name, value)


def test_every_inner_link_has_its_target(sweep_page: str) -> None:
    tags = Page(sweep_page).tags
    ids = [a["id"] for _, a in tags if a.get("id")]
    assert len(set(ids)) == len(ids)
    targets = {a["href"] for tag, a in tags if tag == "a" and a.get("href")}
    assert {target[1:] for target in targets if target} <= set(ids)


def test_without_scripts_every_chart_and_every_point_is_there(sweep_page: str, sweep_view: View) -> None:
    page = Page(sweep_page)
    drawn = [a.get("data-chart") for tag, a in page.tags if tag == "figure"]
    assert drawn == [chart.name for chart in sweep_view.charts]
    assert sum(tag == "svg" for tag, _ in page.tags) == len(sweep_view.charts)
    body = sweep_page.split('data-table="points"')[1].split("</table>")[0]
    assert body.count("<tr") == 1 + 110
    assert sweep_page.count("Numbers behind this chart") == len(sweep_view.charts)


def test_embedded_data_is_exact(sweep_page: str, sweep_view: View) -> None:
    data = json.loads(next(t for t in Page(sweep_page).raw["script"] if t.startswith("{")))
    table = data["tables"]["points"]
    (column,) = [column for column in table["columns"] if column["name"] == "tpot_s"]
    exact = sweep_view.points.rows[0][[c.name for c in sweep_view.points.columns].index("tpot_s")]
    assert isinstance(exact, float)
    assert column["values"][0] == pytest.approx(exact, rel=1e-9)
    assert (column["base"], table["size"]) == ("s", 110)


def test_hostile_texts_are_dead(hostile_page: str) -> None:
    page = Page(hostile_page)
    assert [a.get("type") for tag, a in page.tags if tag == "script"] == ["application/json", None, None]
    assert not [tag for tag, a in page.tags if any(name.startswith("on") for name in a)]
    assert "img" not in {tag for tag, _ in page.tags}
    assert SECRET not in hostile_page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", hostile_page)
    assert "alert(1)" in "".join(page.texts)  # shown as text, where the author can see it


def test_json_cannot_leave_its_element() -> None:
    text = script_json({"x": "</script><!-- & \u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"x": "</script><!-- & \u2028"}


def test_a_drawing_with_a_script_is_refused(sweep_view: View) -> None:
    svgs = {chart.name: '<svg><a onclick="x()"/></svg>' for chart in sweep_view.charts}
    with pytest.raises(ReportError, match="holds more than shapes and text"):
        render_page(sweep_view, svgs, mode="screen")


def test_the_same_run_gives_the_same_page(sweep: ReportInputs, sweep_page: str) -> None:
    view = build_view(sweep)
    svgs = {chart.name: chart_svg(chart.name, chart.spec) for chart in view.charts}
    assert render_page(view, svgs, mode="screen", bundle="window.vegaEmbed = null;") == sweep_page


def test_no_script_means_none_is_allowed() -> None:
    assert "script-src 'none'" in policy("a{}", "")


def test_ids_of_drawings_are_their_own(sweep_page: str) -> None:
    clips = re.findall(r'id="([a-z0-9-]+-\d+)"', sweep_page)
    assert len(set(clips)) == len(clips)


def test_long_data_is_compressed_the_same_way_every_time() -> None:
    text = script_json({"x": "0123456789" * 200_000})
    packed = packed_data(text)
    assert packed == packed_data(text)
    assert len(packed) < len(text) / 50
    assert gzip.decompress(base64.b64decode(packed)).decode() == text
    assert packed_data('{"x":1}') == '{"x":1}'


def test_names_in_backticks_are_code_and_nothing_else_gets_through() -> None:
    made = page_templates().from_string("{{ text|code }}").render
    assert made(text="see `a<b` & `c`") == "see <code>a&lt;b</code> &amp; <code>c</code>"
    assert made(text="a lone ` stays <b>") == "a lone ` stays &lt;b&gt;"


def test_definitions_show_no_backtick(sweep_page: str) -> None:
    shown = sweep_page.split('id="definitions-title"')[1].split("</section>")[0]
    assert "`" not in shown
    assert "<code>" in shown


def test_a_format_that_is_not_known_has_a_name_in_the_filter(
    sweep_view: View, sweep_svgs: dict[str, str]
) -> None:
    place = [column.name for column in sweep_view.points.columns].index("quantization")
    rows = tuple(
        tuple(None if i == place and cell == "bf16" else cell for i, cell in enumerate(row))
        for row in sweep_view.points.rows
    )
    view = replace(sweep_view, points=replace(sweep_view.points, rows=rows))
    page = render_page(view, sweep_svgs, mode="screen", bundle="window.vegaEmbed = null;")
    assert '<input type="checkbox" value="" checked> not known</label>' in page
    assert 'value="None"' not in page
