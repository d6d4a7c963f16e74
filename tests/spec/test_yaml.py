"""Text to a located tree: what is read, where it was, and every limit."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from engine.errors import SpecError
from engine.spec import compose
from engine.spec.compose import MAX_DEPTH, MAX_EXPANDED_CHARACTERS, MAX_NODES
from engine.spec.tree import Plain, Source, flatten
from engine.spec.yaml import MAX_BYTES, Tree, read_bytes, read_file, read_text, read_value


def values_of(text: str) -> dict[str, Plain]:
    tree = read_text(text, name="f.yaml")
    assert tree.problems == ()
    return flatten(tree.root)[0]


def codes_of(text: str | bytes) -> list[tuple[str, int | None, int | None]]:
    try:
        tree = read_bytes(text, name="f") if isinstance(text, bytes) else read_text(text, name="f")
    except SpecError as err:
        return [(p.code, p.line, p.column) for p in err.problems]
    return [(p.code, p.line, p.column) for p in tree.problems]


def test_reads_plain_values_only():
    text = (
        "a: 1\nb: [x, 'y', \"z\", 2.5, true, ~]\nc: {d: {e: f}}\ng: |\n  two\n  lines\nh: >-\n  one\n  line\n"
    )
    assert values_of(text) == {
        "a": 1,
        "b": ["x", "y", "z", 2.5, True, None],
        "c": {"d": {"e": "f"}},
        "g": "two\nlines\n",
        "h": "one line",
    }


def test_quoted_scalars_are_text():
    assert values_of("a: '1'\nb: \"true\"\nc: '2024-01-01'\nd: ''\n") == {
        "a": "1",
        "b": "true",
        "c": "2024-01-01",
        "d": "",
    }


def test_aliases_and_merges():
    text = (
        "x-base: &base {a: 1, b: {c: 2}}\n"
        "x-list: &list [1, 2]\n"
        "one: *base\n"
        "two:\n  <<: *base\n  a: 9\n"
        "three: *list\n"
    )
    values = values_of(text)
    assert values["one"] == {"a": 1, "b": {"c": 2}}
    assert values["two"] == {"a": 9, "b": {"c": 2}}
    assert values["three"] == [1, 2]


def test_merge_does_not_depend_on_where_it_stands():
    text = "x-b: &b {a: 1, c: 1}\nk:\n  a: 2\n  <<: *b\n"
    assert values_of(text)["k"] == {"a": 2, "c": 1}


def test_containers_are_fresh_for_every_use():
    values = values_of("x-a: &a [1]\nb: *a\nc: *a\n")
    assert values["b"] is not values["c"]


def test_places_count_from_one():
    text = "a: 1\nlist:\n  - x\n  - key: value\n    b: [1, 22]\n"
    _, origins = flatten(read_text(text, name="f.yaml").root)
    places = {
        path: (span.line, span.column, span.end_column)
        for path, span in sorted(origins.values.items(), key=str)
    }
    assert places[("a",)] == (1, 4, 5)
    assert places[("list", 0)] == (3, 5, 6)
    assert places[("list", 1, "key")] == (4, 10, 15)
    assert places[("list", 1, "b", 1)] == (5, 12, 14)
    key = origins.keys[("list", 1, "b")]
    assert (key.line, key.column, key.end_column) == (5, 5, 6)


def test_a_missing_value_is_shown_at_its_key():
    _, origins = flatten(read_text("a: 1\nempty:\nnext: 2\n", name="f").root)
    assert (origins.value(("empty",)).line, origins.value(("empty",)).column) == (2, 1)


def test_unknown_paths_fall_back_to_what_encloses_them():
    _, origins = flatten(read_text("a:\n  b: [1]\n", name="f").root)
    assert origins.value(("a", "b", 7)).line == 2
    assert origins.key(("a", "zzz")).line == 1
    assert origins.value(("zzz",)).line == 1


def test_line_breaks_of_all_systems():
    for ending in ("\n", "\r\n", "\r"):
        assert codes_of(f"a: 1{ending}b: 2{ending}a: 3{ending}") == [("duplicate-key", 3, 1)]


def test_a_byte_order_mark_at_the_start_is_skipped():
    tree = read_bytes(b"\xef\xbb\xbfa: 1\n", name="f")
    assert flatten(tree.root)[0] == {"a": 1}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: 1\nb: \xff\n", [("bad-encoding", 2, 4)]),
        (b"a: 1\r\nb: caf\xe9\r\n", [("bad-encoding", 2, 7)]),
        ("a: 1\n".encode("utf-16"), [("bad-encoding", None, None)]),
        (b"a: \x00\n", [("invisible-character", 1, 4)]),
        ("a: b\ufeff\n".encode(), [("invisible-character", 1, 5)]),
        (b"a: " + b"x" * MAX_BYTES, [("too-large", None, None)]),
        (b"", [("empty-file", 1, 1)]),
        (b"---\n...\n", [("empty-file", 1, 1)]),
    ],
)
def test_refuses_bytes(data: bytes, expected: list[tuple[str, int | None, int | None]]):
    assert codes_of(data) == expected


def test_a_file_of_the_largest_size_is_read():
    text = "a: |\n" + "  " + "x" * (MAX_BYTES - 8) + "\n"
    assert len(text.encode()) == MAX_BYTES
    assert codes_of(text.encode()) == []


def test_depth():
    fits = "a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert codes_of(fits) == []
    # The key's mapping is the first level, so the bracket in column 3 + 64 is one too many.
    assert codes_of("a: " + "[" * 200_000) == [("too-deep", 1, 3 + MAX_DEPTH)]


def test_depth_counts_through_aliases():
    half = MAX_DEPTH // 2
    text = f"x-a: &a {'[' * half}{']' * half}\nb: {'[' * half}*a{']' * half}\n"
    assert [code for code, *_ in codes_of(text)] == ["too-deep"]


def bomb(levels: int) -> str:
    """A file that expands to 10^levels values."""
    lines = ["x-0: &a0 [" + ", ".join("1" * 10) + "]"]
    for level in range(1, levels):
        lines.append(f"x-{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * 10) + "]")
    return "\n".join(lines)


def test_alias_bomb_is_stopped_before_it_expands():
    assert [code for code, *_ in codes_of(bomb(4))] == []
    assert [code for code, *_ in codes_of(bomb(9))] == ["too-many-values"]


def test_values_are_counted(monkeypatch: pytest.MonkeyPatch):
    # Mapping, two keys, list and three items are seven values; the alias adds the four of the list again.
    monkeypatch.setattr(compose, "MAX_NODES", 11)
    assert codes_of("a: &a [1, 1, 1]\nb: *a\n") == []
    monkeypatch.setattr(compose, "MAX_NODES", 10)
    assert [code for code, *_ in codes_of("a: &a [1, 1, 1]\nb: *a\n")] == ["too-many-values"]
    assert MAX_NODES == 100_000


def test_text_repeated_by_aliases_is_counted():
    repeats = MAX_EXPANDED_CHARACTERS // 200_000 + 1
    text = f"x-a: &a {'y' * 200_000}\nb: [{', '.join(['*a'] * repeats)}]\n"
    assert [code for code, *_ in codes_of(text)] == ["too-many-values"]


def test_every_readable_mistake_is_told():
    text = "a: 1\na: 2\nb: !t 3\nc: 2024-01-01\n1: x\nd: *nothing\n"
    assert codes_of(text) == [
        ("duplicate-key", 2, 1),
        ("explicit-tag", 3, 4),
        ("unquoted-date", 4, 4),
        ("bad-key", 5, 1),
        ("unknown-anchor", 6, 4),
    ]


def test_mistakes_before_a_syntax_error_are_told_too():
    assert [code for code, *_ in codes_of("a: 1\na: 2\nb: [1\n")] == ["duplicate-key", "unclosed"]


@pytest.mark.parametrize(
    "text",
    [
        'a: "\\UFFFFFFFF"',
        'a: "\\ud800"',
        "a: !<x",
        "a: !",
        "%TAG ! x\n---\na: 1",
        "%",
        "? ",
        ": ",
        "-",
        "&a",
        "*a",
        "a: &a\n",
        "{",
        "]",
        "a: |9\n x",
        "a: >+-\n",
        "'",
        '"',
        "---\n---\n",
        "a: 1\n  - b",
        "? [a]\n? b\n: c",
        "<<: 1",
        "a: *\ud7ff",
    ],
)
def test_malformed_text_is_a_spec_error_or_a_tree(text: str):
    assert isinstance(codes_of(text), list)


def test_files_that_cannot_be_read(tmp_path: Path):
    def message(path: Path) -> str:
        with pytest.raises(SpecError) as caught:
            read_file(path, name="spec.yaml")
        return str(caught.value)

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert message(tmp_path / "none.yaml") == "`spec.yaml` does not exist"
    assert message(tmp_path) == "`spec.yaml` is a folder"
    assert message(tmp_path / "pipe") == "`spec.yaml` is not a file"
    assert message(tmp_path / ("x" * 300)).startswith("`spec.yaml` cannot be read: ")
    assert "spec.yaml" in message(tmp_path / "loop")
    assert message(Path("a\0b")).startswith("`spec.yaml` ")


def test_single_values():
    source = Source("--set", ("[1, {a: b}]",))
    node = read_value("[1, {a: b}]", source)
    assert type(node).__name__ == "ListNode"
    with pytest.raises(SpecError):
        read_value("2024-01-01", source)


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "{a: " * 50_000, "- " * 100_000, bomb(9)])
def test_reading_stops_at_the_limit(text: str):
    seen = 0

    def counted(events: Iterable[object]) -> Iterator[object]:
        nonlocal seen
        for event in events:
            seen += 1
            yield event

    composer = compose.Composer(Source("f", [text]))
    with pytest.raises(SpecError):
        composer.read(counted(YAML(typ="safe", pure=True).parse(text)))
    assert seen < 300


def test_a_tree_keeps_the_text_as_it_was():
    tree: Tree = read_bytes(b"\xef\xbb\xbfa: 1\r\n", name="f")
    assert tree.source.text == "a: 1\r\n"
