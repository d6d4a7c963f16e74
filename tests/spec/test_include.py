"""Includes and overrides: what wins, what is refused, and where the result says it was written."""

from pathlib import Path
from typing import Any

import pytest

from engine.errors import SpecError
from engine.spec.document import Document, read_document
from engine.spec.include import MAX_FILES, project_root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository, and the working directory."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def told(document: Document) -> list[tuple[str, str | None, int | None, str, str | None]]:
    return [(p.code, p.file, p.line, p.message, p.hint) for p in document.problems]


def place(document: Document, *path: str | int) -> tuple[str, int, int]:
    return document.origins.value(path).start


def test_bases_first_then_this_file(project: Path):
    write("bases/one.yaml", "a: 1\nb: {x: 1, y: 1}\nlist: [1, 2, 3]\n")
    write("bases/two.yaml", "a: 2\nb: {y: 2}\n")
    spec = write("spec.yaml", "include: [bases/one.yaml, bases/two.yaml]\nb: {z: 3}\nlist: [9]\n")
    document = read_document(spec)
    assert document.problems == ()
    assert document.values == {"a": 2, "b": {"x": 1, "y": 2, "z": 3}, "list": [9]}
    assert place(document, "a") == ("bases/two.yaml", 1, 4)
    assert place(document, "b", "x") == ("bases/one.yaml", 2, 8)
    assert place(document, "b", "z") == ("spec.yaml", 2, 8)
    assert place(document, "list", 0) == ("spec.yaml", 3, 8)
    assert document.files == tuple(
        (project / name).resolve() for name in ("spec.yaml", "bases/one.yaml", "bases/two.yaml")
    )


def test_a_section_replaces_a_name_and_the_other_way_round(project: Path):
    write("base.yaml", "hardware: h100\nmodel: {layers: 2}\n")
    document = read_document(write("spec.yaml", "include: base.yaml\nhardware: {name: x}\nmodel: llama\n"))
    assert document.values == {"hardware": {"name": "x"}, "model": "llama"}


def test_includes_are_relative_to_the_file_that_names_them(project: Path):
    write("shared/deep/c.yaml", "c: 3\n")
    write("shared/b.yaml", "include: deep/c.yaml\nb: 2\n")
    document = read_document(write("specs/spec.yaml", "include: ../shared/b.yaml\na: 1\n"))
    assert document.values == {"a": 1, "b": 2, "c": 3}
    assert place(document, "c") == ("shared/deep/c.yaml", 1, 4)


def test_a_file_included_twice_counts_once(project: Path):
    write("base.yaml", "a: 1\na: 2\n")
    write("left.yaml", "include: base.yaml\n")
    write("right.yaml", "include: base.yaml\n")
    document = read_document(write("spec.yaml", "include: [left.yaml, right.yaml]\n"))
    assert [code for code, *_ in told(document)] == ["duplicate-key"]


def test_anchors_and_x_blocks_stay_in_their_file(project: Path):
    write("base.yaml", "x-size: &size 8\na: *size\n")
    document = read_document(write("spec.yaml", "include: base.yaml\nx-note: ignored\nb: *size\n"))
    assert document.values == {"a": 8, "b": None}
    assert [code for code, *_ in told(document)] == ["unknown-anchor"]


def test_problems_of_all_files_in_the_order_of_reading(project: Path):
    write("base.yaml", "a: 1\na: 2\n")
    write("broken.yaml", "a: [1\n")
    document = read_document(write("spec.yaml", "b: 1\nb: 2\ninclude: [base.yaml, broken.yaml, none.yaml]\n"))
    assert [(p.file, p.line, p.code) for p in document.problems] == [
        ("spec.yaml", 2, "duplicate-key"),
        ("spec.yaml", 3, "no-include"),
        ("base.yaml", 2, "duplicate-key"),
        ("broken.yaml", 2, "unclosed"),
    ]


def test_cycles(project: Path):
    write("a.yaml", "include: b.yaml\n")
    write("b.yaml", "include: a.yaml\n")
    assert told(read_document(Path("a.yaml"))) == [
        ("include-cycle", "b.yaml", 1, "`a.yaml` includes itself", "`a.yaml` -> `b.yaml` -> `a.yaml`")
    ]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("/etc/passwd", "include-outside"),
        ("~/x.yaml", "include-outside"),
        ("C:\\x.yaml", "include-outside"),
        ("\\\\server\\x.yaml", "include-outside"),
        ("../outside.yaml", "include-outside"),
        ("../project-evil/x.yaml", "include-outside"),
        ("specs/../../outside.yaml", "include-outside"),
        ("link.yaml", "include-outside"),
        ("linked/outside.yaml", "include-outside"),
        ("pipe", "no-include"),
        ("folder", "no-include"),
        ("loop.yaml", "no-include"),
        ("none.yaml", "no-include"),
    ],
)
def test_what_must_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str):
    import os

    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    (project / "folder").mkdir()
    (tmp_path / "project-evil").mkdir()
    for outside in (tmp_path / "outside.yaml", tmp_path / "project-evil" / "x.yaml"):
        outside.write_text("secret: 1\n", encoding="utf-8")
    (project / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    (project / "linked").symlink_to(tmp_path)
    (project / "loop.yaml").symlink_to(project / "loop.yaml")
    os.mkfifo(project / "pipe")
    monkeypatch.chdir(project)
    document = read_document(write("spec.yaml", f"include: '{name}'\na: 1\n"))
    assert [p.code for p in document.problems] == [code]
    assert document.values == {"a": 1}


def test_links_inside_the_project_are_followed(project: Path):
    write("real.yaml", "a: 1\n")
    Path("link.yaml").symlink_to("real.yaml")
    assert read_document(write("spec.yaml", "include: link.yaml\n")).values == {"a": 1}


def test_without_a_repository_the_folder_of_the_spec_is_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "specs").mkdir()
    monkeypatch.chdir(tmp_path)
    write("base.yaml", "a: 1\n")
    spec = write("specs/spec.yaml", "include: ../base.yaml\n")
    if project_root(spec) == (tmp_path / "specs").resolve():
        assert [p.code for p in read_document(spec).problems] == ["include-outside"]
    else:
        pytest.skip("the temporary folder lies inside a repository")


def test_the_number_of_files_is_limited(project: Path):
    names = [f"f{i}.yaml" for i in range(MAX_FILES)]
    for name in names:
        write(name, f"{name[:-5]}: 1\n")
    document = read_document(write("spec.yaml", f"include: [{', '.join(names)}]\n"))
    # The spec itself is one of the 64, so the last of 64 names is one too many.
    assert [p.code for p in document.problems] == ["too-many-files"]
    assert len(document.files) == MAX_FILES


@pytest.mark.parametrize("written", ["7", "[a.yaml, 8]", "{a: b}", "''", "[[a.yaml]]"])
def test_include_lists_names(project: Path, written: str):
    write("a.yaml", "a: 1\n")
    document = read_document(write("spec.yaml", f"include: {written}\n"))
    assert [p.code for p in document.problems] == ["bad-include"]


# --set


def overridden(text: str, *overrides: str) -> Document:
    return read_document("spec.yaml", overrides=overrides, data=text.encode())


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("a=2", {"a": 2, "b": {"c": [1, {"d": 2}]}}),
        ("a=text", {"a": "text", "b": {"c": [1, {"d": 2}]}}),
        ("a='2'", {"a": "2", "b": {"c": [1, {"d": 2}]}}),
        ("a=80 GB", {"a": "80 GB", "b": {"c": [1, {"d": 2}]}}),
        ("a=", {"a": None, "b": {"c": [1, {"d": 2}]}}),
        ("a=x=y", {"a": "x=y", "b": {"c": [1, {"d": 2}]}}),
        ("b.c.0=7", {"a": 1, "b": {"c": [7, {"d": 2}]}}),
        ("b.c.1.d=[8, {e: 9}]", {"a": 1, "b": {"c": [1, {"d": [8, {"e": 9}]}]}}),
        ("new.deep.key=true", {"a": 1, "b": {"c": [1, {"d": 2}]}, "new": {"deep": {"key": True}}}),
        ('b."dotted.key"=1', {"a": 1, "b": {"c": [1, {"d": 2}], "dotted.key": 1}}),
    ],
)
def test_overrides(override: str, values: dict[str, Any]):
    document = overridden("a: 1\nb: {c: [1, {d: 2}]}\n", override)
    assert document.problems == ()
    assert document.values == values


def test_axes_are_keyed_by_paths():
    document = overridden("a: 1\n", "sweep.axes.workload.batch_size=[1, 2]")
    assert document.values["sweep"] == {"axes": {"workload.batch_size": [1, 2]}}


def test_the_last_override_wins_and_knows_its_place():
    document = overridden("a: 1\n", "a=2", "a=33")
    assert document.values == {"a": 33}
    assert place(document, "a") == ("--set", 2, 3)
    assert document.problem("x", "wrong", path=("a",)).source_line == "a=33"


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("a", "bad-override", "`a` is not `path=value`"),
        ("=1", "bad-override", "`=1` is not `path=value`"),
        ("a..b=1", "bad-override", "`a..b=1` is not `path=value`"),
        (".a=1", "bad-override", "`.a=1` is not `path=value`"),
        ("include=x", "bad-override", "`include` cannot be set"),
        ("a.b=1", "bad-override", "`a` is `1` here, not a section"),
        ("list.5=1", "bad-override", "`list` is a list of 2; `5` is not one of its positions"),
        ("list.x=1", "bad-override", "`list` is a list of 2; `x` is not one of its positions"),
        ("a=[1", "unclosed", "a bracket is not closed, or a comma is missing"),
        (
            "a=2024-01-01",
            "unquoted-date",
            "`2024-01-01` is a date to some readers of YAML and text to others",
        ),
        ("a=!x 1", "explicit-tag", "explicit tags (`!`) are not allowed"),
        ("a=b: c: d", "bad-syntax", "a `:` cannot stand here"),
        ("a=\x1b[31m", "invisible-character", "the invisible character U+001B is not allowed"),
    ],
)
def test_refused_overrides(override: str, code: str, message: str):
    document = overridden("a: 1\nlist: [1, 2]\n", override)
    assert document.values == {"a": 1, "list": [1, 2]}
    [problem] = document.problems
    assert (problem.code, problem.message, problem.file, problem.line) == (code, message, "--set", 1)
    assert problem.source_line == override


def test_very_long_paths_are_refused():
    document = overridden("a: 1\n", ".".join("b" * 5000) + "=1")
    assert [p.code for p in document.problems] == ["bad-override"]


def test_a_spec_that_does_not_exist(project: Path):
    with pytest.raises(SpecError) as caught:
        read_document("none.yaml")
    assert str(caught.value) == "`none.yaml` does not exist"


ALIASED = """version: 1
x-shared: {server: &server {url: one, model: m}}
first: *server
second: [*server, {url: one}]
"""


def test_an_override_of_what_aliases_stand_for_reaches_them_all():
    found = overridden(ALIASED, "x-shared.server.url=two").values
    assert found["first"] == {"url": "two", "model": "m"}
    assert found["second"] == [{"url": "two", "model": "m"}, {"url": "one"}]


def test_an_override_of_one_use_leaves_the_others():
    found = overridden(ALIASED, "second.0.url=two").values
    assert found["first"] == {"url": "one", "model": "m"}
    assert found["second"][0] == {"url": "two", "model": "m"}
