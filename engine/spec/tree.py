"""A YAML document as a tree that remembers where every key and every value was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from engine.errors import Problem

__all__ = [
    "Entry",
    "ListNode",
    "MappingNode",
    "Node",
    "Origins",
    "Path",
    "Plain",
    "Scalar",
    "Source",
    "Span",
    "flatten",
    "with_via",
]

Path = tuple[str | int, ...]
Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


@dataclass(frozen=True, slots=True)
class Source:
    """A text and the name its reader knows it by."""

    name: str
    lines: Sequence[str]
    text: str = ""
    """All of it, with the line breaks as they are."""


@dataclass(frozen=True, slots=True)
class Span:
    """A place on one line of a source; lines and columns count from 1."""

    source: Source
    line: int
    column: int
    end_column: int
    via: Span | None = None
    """The alias or merge that brought the text from here to where it is used."""

    @property
    def start(self) -> tuple[str, int, int]:
        """File, line and column: what tells two places apart."""
        return self.source.name, self.line, self.column


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value: null, true or false, a number, a text."""

    value: bool | int | float | str | None
    span: Span


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list."""

    items: tuple[Node, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value."""

    key: Span
    node: Node


@dataclass(frozen=True, slots=True)
class MappingNode:
    """Keys with their values, in the order written."""

    entries: Mapping[str, Entry]
    span: Span


Node = Scalar | ListNode | MappingNode


def with_via(node: Node, via: Span) -> Node:
    """The same node, remembering the place that refers to it."""
    return replace(node, span=replace(node.span, via=via))


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the keys and values of a document were written, by path."""

    root: Span
    keys: dict[Path, Span] = field(default_factory=dict)
    values: dict[Path, Span] = field(default_factory=dict)

    def value(self, path: Path) -> Span:
        """Place of the value, or of the nearest enclosing one."""
        return self._nearest(path, (self.values, self.keys))

    def key(self, path: Path) -> Span:
        """Place of the key; of the item in a list; of the nearest enclosing one where there is none."""
        return self._nearest(path, (self.keys, self.values))

    def _nearest(self, path: Path, tables: tuple[dict[Path, Span], ...]) -> Span:
        for length in range(len(path), 0, -1):
            for table in tables:
                found = table.get(path[:length])
                if found is not None:
                    return found
        return self.root

    def user(self, path: Path) -> Span | None:
        """The alias or merge through which the value at this path got there, if any."""
        for length in range(len(path), 0, -1):
            for table in (self.keys, self.values):
                found = table.get(path[:length])
                if found is not None and found.via is not None:
                    return found.via
        return None

    def problem(
        self,
        code: str,
        message: str,
        *,
        path: Path = (),
        at: Span | None = None,
        hint: str | None = None,
    ) -> Problem:
        """A problem at the value of `path`, or at the place given."""
        return problem_at(at or self.value(path), code, message, hint=hint, path=path, user=self.user(path))


def problem_at(
    span: Span,
    code: str,
    message: str,
    *,
    hint: str | None = None,
    path: Path = (),
    user: Span | None = None,
) -> Problem:
    """A problem with the line it is on; `user` is the place that refers to it."""
    if user is not None and user.start != span.start:
        hint = f"{hint} (used at {_place(user, span)})" if hint else f"used at {_place(user, span)}"
    lines = span.source.lines
    return Problem(
        code=code,
        message=message,
        file=span.source.name,
        line=span.line,
        column=span.column,
        end_column=span.end_column,
        source_line=lines[span.line - 1] if 0 < span.line <= len(lines) else None,
        hint=hint,
        path=path,
    )


def _place(span: Span, seen_from: Span) -> str:
    if span.source.name == seen_from.source.name:
        return f"line {span.line}"
    return f"{span.source.name}:{span.line}"


def flatten(root: MappingNode) -> tuple[dict[str, Plain], Origins]:
    """Plain values and their places; every call makes fresh containers."""
    origins = Origins(root.span)
    values = {key: _flatten(entry.node, (key,), origins) for key, entry in _remembered(root, (), origins)}
    return values, origins


def _flatten(node: Node, path: Path, origins: Origins) -> Plain:
    origins.values[path] = node.span
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, ListNode):
        return [_flatten(item, (*path, index), origins) for index, item in enumerate(node.items)]
    return {
        key: _flatten(entry.node, (*path, key), origins) for key, entry in _remembered(node, path, origins)
    }


def _remembered(node: MappingNode, path: Path, origins: Origins) -> Iterator[tuple[str, Entry]]:
    for key, entry in node.entries.items():
        origins.keys[(*path, key)] = entry.key
        yield key, entry
