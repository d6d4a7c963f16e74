"""From a file to a settings object."""

from pathlib import Path

import pytest

from engine.errors import Problem, SpecError
from engine.spec.document import in_file_order, read_document, validate
from engine.spec.settings import Settings


class Small(Settings):
    """A small spec."""

    a: int
    b: tuple[str, ...] = ()


def test_a_valid_document(tmp_path: Path):
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xef\xbb\xbf# note\r\nx-defaults: &b [p, q]\r\na: 1\r\nb: *b\r\n")
    document = read_document(path)
    assert validate(document, Small) == Small(a=1, b=("p", "q"))
    assert document.values == {"a": 1, "b": ["p", "q"]}
    assert document.text == "# note\r\nx-defaults: &b [p, q]\r\na: 1\r\nb: *b\r\n"
    assert document.files == (path.resolve(),)
    assert (document.name, document.sources) == (str(path), (str(path), "--set"))


def test_problems_of_the_text_alone_are_enough_to_refuse():
    document = read_document("f.yaml", data=b"a: 1\na: 1\n")
    with pytest.raises(SpecError) as caught:
        validate(document, Small)
    assert [p.code for p in caught.value.problems] == ["duplicate-key"]


def test_context_reaches_the_fields():
    from engine.spec.quantity import Seconds

    class Timed(Settings):
        """Timed."""

        wait: Seconds

    document = read_document("f.yaml", data=b"wait: 5\n")
    assert validate(document, Timed, context={"trusted": True}).wait == 5.0


def test_the_cause_is_kept():
    with pytest.raises(SpecError) as caught:
        validate(read_document("f.yaml", data=b"a: x\n"), Small)
    assert type(caught.value.__cause__).__name__ == "ValidationError"


def test_problems_of_the_plan_get_their_place():
    document = read_document("f.yaml", data=b"sweep:\n  axes:\n    batch: [1, 2]\n")
    error = document.locate(
        [
            Problem(code="repeated-value", message="twice", path=("sweep", "axes", "batch", 1)),
            Problem(code="unknown-axis", message="no field", path=("sweep", "axes", "batch"), hint="look"),
            Problem(code="unknown-key", message="typo", path=("sweep", "axes", "batch")),
            Problem(code="elsewhere", message="other", file="model.yaml", line=9, column=1),
        ]
    )
    assert [(p.file, p.line, p.column, p.hint) for p in error.problems] == [
        ("f.yaml", 3, 5, "look"),
        ("f.yaml", 3, 5, None),
        ("f.yaml", 3, 16, None),
        ("model.yaml", 9, 1, None),
    ]


def test_order_and_repeats():
    def at(file: str | None, line: int | None, column: int | None) -> Problem:
        return Problem(code="c", message="m", file=file, line=line, column=column)

    shuffled = [
        at("b", 1, 1),
        at(None, None, None),
        at("a", 2, 5),
        at("a", 2, 4),
        at("a", None, None),
        at("b", 1, 1),
    ]
    assert in_file_order(shuffled, ["a", "b"]) == [
        at("a", None, None),
        at("a", 2, 4),
        at("a", 2, 5),
        at("b", 1, 1),
        at(None, None, None),
    ]
