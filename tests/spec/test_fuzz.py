"""Whatever stands in a file, reading it gives settings, or a `SpecError` whose problems point into it."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import Problem, SpecError
from engine.spec.compose import MAX_DEPTH
from engine.spec.document import read_document, validate
from engine.spec.experiment import Experiment
from engine.spec.render import FORMATS, render
from engine.spec.yaml import read_bytes

ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted((ROOT / "specs").glob("*.yaml"))
GOOD = max((path.read_bytes() for path in SPECS), key=len)

# Stands for an error that says nothing, which must not happen.
NO_PROBLEM = Problem(code="", message="")

# Pieces that make structure likelier than random characters do.
PIECES = st.sampled_from(
    [
        *("a", "b", "model", "hardware", "workload", "sweep", "axes", "measurements", "kind", "live"),
        *(
            ":",
            "-",
            ",",
            "[",
            "]",
            "{",
            "}",
            "&",
            "*",
            "!",
            "%",
            "@",
            "`",
            "|",
            ">",
            "?",
            "#",
            "'",
            '"',
            "<<",
        ),
        *(
            "~",
            "null",
            "true",
            "1",
            "0x10",
            ".nan",
            "1e999",
            "2024-01-01",
            "80 GB",
            "&a",
            "*a",
            "x-a:",
            "!!str",
        ),
        *("---", "...", "\\", "\t", "é", "名", "\u202e", "\x00", "\x85"),
    ]
)
LAYOUT = st.sampled_from(["\n", "\n  ", "\n    ", "\n- ", ": ", " ", "", "\r\n", "\r"])
YAMLISH = st.lists(st.tuples(PIECES, LAYOUT), max_size=40).map(lambda parts: "".join(a + b for a, b in parts))


def problems_of(data: bytes) -> tuple[Problem, ...]:
    """What is wrong with an experiment; empty when it is valid."""
    try:
        validate(read_document("f.yaml", data=data), Experiment)
    except SpecError as err:
        return err.problems or (NO_PROBLEM,)
    return ()


def ill_told(data: bytes) -> list[Problem]:
    """Problems without words of their own, or at a place that the text does not have; all can be rendered."""
    problems = problems_of(data)
    text = data.decode("utf-8", errors="replace")
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for output_format in FORMATS:
        render(problems, output_format)
    return [problem for problem in problems if not well_told(problem, lines)]


def well_told(problem: Problem, lines: list[str]) -> bool:
    if problem == NO_PROBLEM or problem.message != problem.message.strip():
        return False
    if problem.line is None:
        return True
    return (
        problem.column is not None
        and 1 <= problem.line <= len(lines)
        and 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        and problem.source_line == lines[problem.line - 1]
    )


@given(st.text())
def test_any_text(text: str):
    assert not ill_told(text.encode("utf-8", errors="surrogatepass"))


@given(YAMLISH)
@settings(max_examples=300)
def test_text_that_looks_like_yaml(text: str):
    assert not ill_told(text.encode())


@given(st.binary())
def test_any_bytes(data: bytes):
    assert not ill_told(data)


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_good_spec_with_a_few_bytes_changed(data: st.DataObject):
    changed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["set", "delete", "insert", "swap lines"])):
            case "set":
                changed[place] = data.draw(st.integers(0, 255))
            case "delete":
                del changed[place : place + data.draw(st.integers(1, 20))]
            case "insert":
                changed[place:place] = data.draw(YAMLISH).encode()
            case _:
                lines = bytes(changed).split(b"\n")
                first = data.draw(st.integers(0, len(lines) - 1))
                second = data.draw(st.integers(0, len(lines) - 1))
                lines[first], lines[second] = lines[second], lines[first]
                changed = bytearray(b"\n".join(lines))
        if not changed:
            break
    assert not ill_told(bytes(changed))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["", "a", "80 Gb", "live", "1"])
    | st.just(0.5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "name", "batch_size", "axes", "target", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*Experiment.model_fields, "modle"]), VALUES, max_size=8))
@settings(max_examples=150, deadline=None)
def test_any_value_in_any_section(values: dict[str, object]):
    # JSON is YAML, so this reaches every rule of the classes through the front door.
    assert not ill_told(json.dumps(values, indent=1).encode())


def keys_of(text: str) -> list[tuple[int, int]]:
    """Line and column, from 1, of every key that a settings class owns."""
    origins = read_document("f.yaml", data=text.encode()).origins
    free = {"axes", "tie", "points", "when", "ranges", "require"}
    free |= {
        "models",
        "mounts",
        "windows",
        "columns",
        "rails",
        "metrics",
    }  # the names in these are the user's
    return [
        (span.line, span.column)
        for path, span in origins.keys.items()
        if not any(part in free for part in path[:-1])
    ]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_key_misspelt_is_found_at_its_place(path: Path):
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    for line, column in keys_of(text):
        row = lines[line - 1]
        # `zz` before the key keeps the columns of everything before it.
        misspelt = [*lines[: line - 1], row[: column - 1] + "zz" + row[column - 1 :], *lines[line:]]
        problems = problems_of("\n".join(misspelt).encode())
        places = [(p.line, p.column) for p in problems if p.code in ("unknown-key", "missing-key")]
        assert (line, column) in places, row


@given(st.integers(1, 3 * MAX_DEPTH), st.sampled_from(["[", "{a: ", "- ", "? "]))
@settings(deadline=None)
def test_any_depth(depth: int, opening: str):
    data = ("k:\n  " + opening * depth).encode()
    if depth >= MAX_DEPTH:
        with pytest.raises(SpecError, match="nested more than 64 levels deep"):
            read_bytes(data, name="f")
    else:
        assert not ill_told(data)
