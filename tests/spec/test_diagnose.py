"""Errors of pydantic told in our words: which union branch was meant, where it is, what to do."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, model_validator

from engine.errors import Problem, SpecError
from engine.spec.document import read_document, validate, validate_part
from engine.spec.quantity import Bytes, Seconds
from engine.spec.settings import Settings


class Disk(Settings):
    """A disk."""

    size: Annotated[Bytes, Field(gt=0, le=1e15)]
    """Room on it. More is better."""
    name: str = "x"
    """What to call it."""


class Cat(Settings):
    """A cat."""

    kind: Literal["cat"]
    lives: int = 9
    live: bool = True


class Dog(Settings):
    """A dog."""

    kind: Literal["dog", "wolf"]
    tricks: list[Literal["sit", "roll"]] = []


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Depth(Settings):
    """Nested."""

    level: Annotated[int, Field(ge=1, le=10, multiple_of=1)] = 1
    below: "Depth | None" = None


class Zoo(Settings):
    """All kinds of fields."""

    title: Annotated[str, Field(min_length=2, max_length=5, examples=["Oslo"])]
    """Name of the zoo. Short."""
    disk: Disk | str = "none"
    pets: list[Pet] = []
    wait: Seconds | Literal["auto"] = 90.0
    count: int | Literal["all"] = 1
    either: int | list[int] = 1
    table: dict[str, Annotated[int, Field(gt=0)]] = {}
    depth: Depth = Depth()
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _rising(self) -> "Zoo":
        if self.low >= self.high:
            raise ValueError(f"`low` {self.low} must be below `high` {self.high}")
        return self


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(SpecError) as caught:
        validate(read_document("f.yaml", data=text.encode()), Zoo)
    return caught.value.problems


def told(text: str) -> list[str]:
    return [f"{p.line}:{p.column}: {p.message}{f' | {p.hint}' if p.hint else ''}" for p in problems_of(text)]


T = "title: Oslo\n"

# Text -> what is told. A union speaks only through the member of the same shape; a key spelt like a tag is
# no tag; problems of text and values come together, in file order, no consequence told twice.
CASES = {
    "title: Oslo\ndisk: {sze: 1 GB}\n": [
        "2:8: unknown key `sze` | did you mean `size`?",
    ],
    "title: Oslo\ndisk: {}\n": [
        "2:1: `size` is missing in `disk` | Room on it",
    ],
    "title: Oslo\ndisk: 5\n": [
        '2:7: `disk` must be text or a section of `key: value` lines, not `5` | quote it: `"5"`',
    ],
    "title: Oslo\ndisk: [a]\n": [
        "2:7: `disk` must be text or a section of `key: value` lines, not a list | e.g. `disk: none`",
    ],
    "title: Oslo\ndisk: {size: 1}\n": [
        "2:14: `size`: `1` needs a unit, e.g. `80 GB`",
    ],
    "title: Oslo\ndisk: {size: 0 GB}\n": [
        "2:14: `size` is 0 GB; it must be above 0 B",
    ],
    "title: Oslo\ndisk: {size: 2 PB}\n": [
        "2:14: `size` is 2 PB; it must be at most 1 PB",
    ],
    "title: Oslo\nwait: 5\n": [
        "2:7: `wait` must be a number with a unit such as `500 ms` or `auto`, not `5` | e.g. `wait: 90 s`",
    ],
    "title: Oslo\nwait: atuo\n": [
        (
            "2:7: `wait` must be a number with a unit such as `500 ms` or `auto`, not the text `atuo`"
            " | did you mean `auto`?"
        ),
    ],
    "title: Oslo\ncount: al\n": [
        "2:8: `count` cannot be `al` | did you mean `all`?",
    ],
    "title: Oslo\ncount: 1.5\n": [
        "2:8: `count` must be a whole number, not `1.5` | e.g. `count: 1`",
    ],
    "title: Oslo\ncount: [1]\n": [
        "2:8: `count` must be a whole number or `all`, not a list | e.g. `count: 1`",
    ],
    "title: Oslo\neither: [1, x]\n": [
        "2:13: item 2 of `either` must be a whole number, not the text `x`",
    ],
    "title: Oslo\neither: x\n": [
        "2:9: `either` must be a whole number or a list, not the text `x` | e.g. `either: 1`",
    ],
    "title: Oslo\npets: [{kind: cat, lifes: 1}]\n": [
        "2:20: unknown key `lifes` | did you mean `lives`?",
    ],
    "title: Oslo\npets: [{kind: wolf, tricks: [sit, rol]}]\n": [
        "2:35: item 2 of `tricks` cannot be `rol` | did you mean `roll`?",
    ],
    "title: Oslo\npets: [{kind: fish}]\n": [
        "2:15: there is no `kind: fish` | use `cat`, `dog` or `wolf`",
    ],
    "title: Oslo\npets: [{kind: 3}]\n": [
        "2:15: there is no `kind: 3` | use `cat`, `dog` or `wolf`",
    ],
    "title: Oslo\npets: [{lives: 3}]\n": [
        "2:8: `kind` is missing in item 1 of `pets` | use `cat`, `dog` or `wolf`",
    ],
    "title: Oslo\npets: [cat]\n": [
        "2:8: item 1 of `pets` must be a section with `kind`, not the text `cat` | write `{kind: cat}`",
    ],
    "title: Oslo\npets: [[]]\n": [
        "2:8: item 1 of `pets` must be a section with `kind`, not a list",
    ],
    "title: Oslo\npets: [~]\n": [
        "2:8: item 1 of `pets` is empty | write its keys below it, or remove the key",
    ],
    "title: Oslo\npets: [{kind: cat, cat: {lives: x}, lives: y}]\n": [
        "2:20: unknown key `cat` | allowed here: `kind`, `lives`, `live`",
        "2:44: `lives` must be a whole number, not the text `y` | e.g. `lives: 9`",
    ],
    "title: Oslo\npets: [{kind: cat, live: maybe}]\n": [
        "2:26: `live` must be `true` or `false`, not the text `maybe` | e.g. `live: true`",
    ],
    "title: Oslo\ntable: {a: 0, b: x}\n": [
        "2:12: `a` is 0; it must be above 0",
        "2:18: `b` must be a whole number, not the text `x`",
    ],
    "title: Oslo\ndepth: {below: {below: {level: 11}}}\n": [
        "2:32: `level` is 11; it must be at most 10",
    ],
    "title: Oslo\ndepth: {below: {blow: 1}}\n": [
        "2:17: unknown key `blow` | did you mean `below`?",
    ],
    "title: O\n": [
        "1:8: `title` has 1 character; it must have at least 2 characters",
    ],
    "title: Oslo zoo\n": [
        "1:8: `title` has 8 characters; it must have at most 5 characters",
    ],
    "title: ''\n": [
        "1:8: `title` is empty | e.g. `title: Oslo`",
    ],
    "low: 1\n": [
        "1:1: `title` is missing | e.g. `title: Oslo`",
    ],
    "title: Oslo\nlow: 5\nhigh: 2\n": [
        "2:6: `low` 5 must be below `high` 2",
    ],
    "title: Oslo\nhigh: 0\n": [
        "2:7: `low` 0 must be below `high` 0",
    ],
    "tilte: Oslo\n": [
        "1:1: unknown key `tilte` | did you mean `title`?",
    ],
    "title: Oslo\nlives: 1\n": [
        (
            "2:1: unknown key `lives` | allowed here: `title`, `disk`, `pets`, `wait`, `count`, `either`,"
            " `table`, `depth`, `low`, `high`"
        ),
    ],
    "title: Oslo\nlevel: 1\nsize: 1 GB\n": [
        "2:1: unknown key `level` | `level` belongs in `depth`",
        "3:1: unknown key `size` | `size` belongs in `disk`",
    ],
    "title: Oslo\nlow: x\nlow: 2\nhigh: 2024-01-01\ntable: {a: -1}\n": [
        "2:6: `low` must be a whole number, not the text `x` | e.g. `low: 0`",
        "3:1: `low` stands here for the second time | it is first set at line 2; keep one of them",
        '4:7: `2024-01-01` is a date to some readers of YAML and text to others | quote it: `"2024-01-01"`',
        "5:12: `a` is -1; it must be above 0",
    ],
}


@pytest.mark.parametrize("text", CASES)
def test_tells(text: str):
    assert told(text) == CASES[text]


def test_problems_carry_their_path():
    [problem] = problems_of(T + "pets: [{kind: cat}, {kind: dog, tricks: [rol]}]\n")
    assert problem.path == ("pets", 1, "tricks", 0)
    assert (problem.code, problem.file, problem.source_line) == (
        "unknown-value",
        "f.yaml",
        "pets: [{kind: cat}, {kind: dog, tricks: [rol]}]",
    )


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (8, int, []),
        ("8", int, ["`n` must be a whole number, not the text `8`"]),
        ("1 GB", Bytes, []),
        ("1 Gb", Bytes, ["`n`: `1 Gb` is not a size"]),
        ({"size": "1 GB", "nme": "y"}, Disk | str, ["unknown key `nme`"]),
        (None, int | None, []),
    ],
)
def test_one_value_of_a_document(value: Any, annotation: Any, expected: list[str]):
    document = read_document("f.yaml", data=b"axes:\n  n: [1]\n")
    _, problems = validate_part(document, ("axes", "n"), value=value, annotation=annotation)
    assert [p.message for p in problems] == expected
    assert all((p.line, p.column) in ((2, 3), (2, 6)) for p in problems)


def test_control_characters_never_reach_a_message_unseen():
    [problem] = problems_of(T + 'low: "\\e[31mred"\n')
    from engine.spec.render import render

    assert "\x1b" not in render([problem])
    assert "\\u001b[31mred" in render([problem])
