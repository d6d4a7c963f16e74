"""A user's own sections: useful, and unable to do anything else."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import ReportError
from engine.report import own
from engine.report.inputs import ReportInputs
from engine.report.own import cleaned, own_sections
from engine.report.page import View
from engine.report.render import render_report


def folder(tmp_path: Path, **templates: str) -> Path:
    for name, text in templates.items():
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_template_sees_the_report(tmp_path: Path, sweep_view: View) -> None:
    text = "{# title: For the board #}<p>{{ report.verdict }}</p><p>{{ report.points|length }} points</p>"
    (section,) = own_sections(sweep_view, folder(tmp_path, board=text))
    assert (section.name, section.title) == ("own-board", "For the board")
    assert section.body == f"<p>{sweep_view.verdict}</p><p>110 points</p>"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ report.__init__.__globals__ }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "SecurityError"),
        ("{{ report.nothing }}", "UndefinedError"),
        ("{% include '/etc/passwd' %}", "TypeError"),
        ("{% if %}", "TemplateSyntaxError in line 1"),
        ("{{ 'a' * 900000000 }}", "MemoryError"),
        ("{% for i in range(90000) %}{{ 'x' * 100 }}{% endfor %}", "more than 1,000,000 characters"),
    ],
)
def test_what_a_template_may_not_do(tmp_path: Path, sweep_view: View, text: str, reason: str) -> None:
    with pytest.raises(ReportError) as caught:
        own_sections(sweep_view, folder(tmp_path, bad=text))
    assert reason in caught.value.message


def test_a_template_that_never_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sweep_view: View
) -> None:
    monkeypatch.setattr(own, "SECONDS", 2)
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(ReportError, match="took longer than 2 s"):
        own_sections(sweep_view, folder(tmp_path, slow=loop))


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, sweep_view: View) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("x")
    inside = tmp_path / "own"
    inside.mkdir()
    (inside / "a.html").symlink_to(secret)
    with pytest.raises(ReportError, match="is a link"):
        own_sections(sweep_view, inside)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("<p onclick='x()'>a</p>", "<p>a</p>"),
        ("<script>alert(1)</script><b>b</b>", "<b>b</b>"),
        ("<img src=x onerror=y>c", "c"),
        ("<a href='javascript:x'>d</a> <a href='#points'>e</a>", '<a>d</a> <a href="#points">e</a>'),
        ("<table><tr><td colspan=2>f", '<table><tr><td colspan="2">f</td></tr></table>'),
        ("<style>p{}</style><svg><text>g</text></svg>h &lt;i&gt;", "h &lt;i&gt;"),
        ("</div></main><p>i", "<p>i</p>"),
    ],
)
def test_only_harmless_elements_are_kept(text: str, clean: str) -> None:
    assert cleaned(text) == clean


@pytest.mark.parametrize("named", ["/etc", "../elsewhere", "missing"])
def test_a_report_without_its_templates_says_so(sweep: ReportInputs, tmp_path: Path, named: str) -> None:
    settings = sweep.experiment.report.model_copy(update={"templates": named})
    given = replace(
        sweep, experiment=sweep.experiment.model_copy(update={"report": settings}), folder=tmp_path
    )
    page = render_report(given, tmp_path / "out", formats=["html"])["html"].read_text(encoding="utf-8")
    assert "Own sections left out: 1" in page
