"""Problems as text, for people and for machines."""

import json

import pytest

from engine.errors import EnvironmentMissing, Problem, SpecError
from engine.spec.render import FORMATS, escape_controls, problems_of, render

PROBLEM = Problem(
    code="unknown-key",
    message="unknown key `concurency`",
    file="specs/a b.yaml",
    line=14,
    column=5,
    end_column=15,
    source_line="    concurency: 8",
    hint="did you mean `concurrency`?",
    path=("measurements", 0, "concurency"),
)
NOWHERE = Problem(code="no-file", message="`x.yaml` does not exist", hint="look again")


def test_for_people():
    assert render([PROBLEM], subject="specs/a b.yaml") == (
        "specs/a b.yaml:14:5: unknown key `concurency`\n"
        "   14 |     concurency: 8\n"
        "      |     ^ did you mean `concurrency`?\n"
        "1 problem in specs/a b.yaml; nothing was run."
    )


def test_without_a_place_or_a_consequence():
    assert render([NOWHERE, NOWHERE], consequence="") == (
        "`x.yaml` does not exist\n      look again\n`x.yaml` does not exist\n      look again\n2 problems."
    )


@pytest.mark.parametrize(
    ("line", "column", "shown", "caret"),
    [
        ("\tkey: 1", 2, " key: 1", 1),
        ("名前: x", 5, "名前: x", 6),  # two wide characters take four cells
        ("e\u0301: x", 4, "e\u0301: x", 2),  # a combining accent takes none
        ("a: \x1b[31mb", 9, "a: \\u001b[31mb", 13),  # the escape is written with six characters
        ("short", 40, "short", 5),
    ],
)
def test_the_caret_stands_under_the_character(line: str, column: int, shown: str, caret: int):
    problem = Problem(code="c", message="m", file="f", line=1, column=column, source_line=line)
    _, source, mark, _ = render([problem]).split("\n")
    assert source == f"    1 | {shown}"
    assert mark == "      | " + " " * caret + "^"


def test_long_lines_are_cut_around_the_caret():
    problem = Problem(
        code="c", message="m", file="f", line=1, column=5001, source_line="x" * 5000 + "Y" + "x" * 5000
    )
    _, source, mark, _ = render([problem]).split("\n")
    assert len(source) < 170
    assert source[mark.index("^")] == "Y"


def test_json():
    document = json.loads(render([PROBLEM, NOWHERE], "json"))
    assert document["schema_version"] == 1
    assert document["problems"] == [
        {
            "code": "unknown-key",
            "message": "unknown key `concurency`",
            "hint": "did you mean `concurrency`?",
            "file": "specs/a b.yaml",
            "line": 14,
            "column": 5,
            "end_column": 15,
            "path": ["measurements", 0, "concurency"],
        },
        {
            "code": "no-file",
            "message": "`x.yaml` does not exist",
            "hint": "look again",
            "file": None,
            "line": None,
            "column": None,
            "end_column": None,
            "path": [],
        },
    ]


def test_sarif():
    document = json.loads(render([PROBLEM, NOWHERE], "sarif"))
    assert document["version"] == "2.1.0"
    [run] = document["runs"]
    assert run["tool"]["driver"] == {"name": "engine", "rules": [{"id": "no-file"}, {"id": "unknown-key"}]}
    assert run["results"][0] == {
        "ruleId": "unknown-key",
        "ruleIndex": 1,
        "level": "error",
        "message": {"text": "unknown key `concurency` (did you mean `concurrency`?)"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "specs/a%20b.yaml"},
                    "region": {"startLine": 14, "startColumn": 5, "endColumn": 15},
                }
            }
        ],
    }
    assert "locations" not in run["results"][1]


def test_github():
    hostile = Problem(code="c", message="50% of\nlines ::error::x", file="a,b:c.yaml", line=1, column=2)
    assert render([PROBLEM, NOWHERE, hostile], "github").split("\n") == [
        (
            "::error file=specs/a b.yaml,line=14,col=5,endColumn=15,title=unknown-key::"
            "unknown key `concurency` (did you mean `concurrency`?)"
        ),
        "::error title=no-file::`x.yaml` does not exist (look again)",
        "::error file=a%2Cb%3Ac.yaml,line=1,col=2,title=c::50%25 of\\u000alines ::error::x",
    ]


@pytest.mark.parametrize("output_format", FORMATS)
def test_nothing_can_steer_the_terminal(output_format: str):
    hostile = "".join(map(chr, [*range(32), 127, *range(128, 160), 0x202E, 0x2066, 0x200B, 0xFEFF]))
    problem = Problem(
        code="c", message=hostile, hint=hostile, file=f"f{hostile}", line=1, column=3, source_line=hostile
    )
    text = render([problem], output_format, subject=hostile)  # type: ignore[arg-type]
    assert not set(hostile) - {"\n"} & set(text)


def test_escapes_keep_everything_else():
    assert escape_controls("naïve µs 名 `x`\u202e") == "naïve µs 名 `x`\\u202e"


def test_errors_without_problems_become_one():
    error = EnvironmentMissing("no GPU", hint="use `device: cpu`")
    assert problems_of(error) == (
        Problem(code="environment-missing", message="no GPU", hint="use `device: cpu`"),
    )
    assert problems_of(SpecError([PROBLEM])) == (PROBLEM,)
