"""Events of the YAML library to a located tree.

One pass counts what aliases would expand to before anything is expanded, refuses what readers of YAML
disagree about, and decides for itself what a scalar means. No tag can construct anything, and what is wrong
but leaves the document readable is noted and passed over, so that one run shows every mistake.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NoReturn

from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from engine.errors import Problem, SpecError
from engine.spec.scalars import AmbiguousScalar, plain_value
from engine.spec.suggest import nearest
from engine.spec.tree import Entry, ListNode, MappingNode, Node, Scalar, Source, Span, problem_at, with_via

__all__ = ["MAX_DEPTH", "MAX_EXPANDED_CHARACTERS", "MAX_NODES", "Composer", "Tree"]

MAX_DEPTH: Final = 64
MAX_NODES: Final = 100_000
MAX_EXPANDED_CHARACTERS: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tree:
    """A readable document and what is wrong with it all the same."""

    root: MappingNode
    source: Source
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Built:
    """A finished node and what it costs to expand it once more."""

    node: Node
    nodes: int = 1
    characters: int = 0
    height: int = 1
    in_x_block: bool = False


@dataclass(slots=True)
class _Frame:
    """A collection that is being read."""

    span: Span
    anchor: str | None
    expects: Literal["key", "value", "refused", "merge", "item"]
    """What the next node is; a `refused` one is the value of a key that cannot be used."""
    entries: dict[str, Entry] = field(default_factory=dict)
    items: list[Node] = field(default_factory=list)
    key: str = ""
    key_span: Span | None = None
    merged: dict[str, Entry] = field(default_factory=dict)
    merged_at: Span | None = None
    nodes: int = 1
    characters: int = 0
    height: int = 1


class Composer:
    """Builds one document; `problems` holds what is wrong so far."""

    def __init__(self, source: Source) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._frames: list[_Frame] = []
        self._anchors: dict[str, _Built] = {}
        self._anchor_spans: dict[str, Span] = {}
        self._root: _Built | None = None
        self._documents = 0
        self._nodes = 0
        self._characters = 0

    def read(self, events: Iterable[Any]) -> None:
        """Take every event; raises `SpecError` at a limit, without reading on."""
        for event in events:
            if isinstance(event, ScalarEvent):
                self._scalar(event)
            elif isinstance(event, MappingStartEvent | SequenceStartEvent):
                self._open(event)
            elif isinstance(event, CollectionEndEvent):
                self._close()
            elif isinstance(event, AliasEvent):
                self._alias(event)
            elif isinstance(event, DocumentStartEvent):
                self._document(event)

    def finish_value(self) -> Node | None:
        """The root of any kind, None for an empty text; raises `SpecError` when anything is wrong with it."""
        if self.problems:
            raise SpecError(self.problems)
        return self._root.node if self._root is not None else None

    def finish(self) -> Tree:
        """The tree; raises `SpecError` when the document is not a mapping."""
        node = self._root.node if self._root is not None else None
        if node is None or (isinstance(node, Scalar) and node.value is None):
            self._stop(
                Span(self._source, 1, 1, 2), "empty-file", "the file is empty", hint="see `engine init`"
            )
        if not isinstance(node, MappingNode):
            what = "a list" if isinstance(node, ListNode) else "a single value"
            self._stop(node.span, "not-a-mapping", f"the file holds {what} where `key: value` lines belong")
        return Tree(node, self._source, tuple(self.problems))

    # What events mean

    def _document(self, event: DocumentStartEvent) -> None:
        if not self._documents:
            self._refuse_directives(event.start_mark.line)
        self._documents += 1
        if self._documents > 1:
            self._stop(
                self._span(event),
                "second-document",
                "a second document starts here; a file holds one",
                hint="remove `---`, or use a file of its own",
            )

    def _refuse_directives(self, first_line: int) -> None:
        # From the text: the scanner passes over directives that it does not know.
        for number, text in enumerate(self._source.lines[:first_line], 1):
            if text.startswith("%"):
                span = Span(self._source, number, 1, len(text) + 1)
                self._complain(span, "directive", "directives (`%`) are not allowed", hint="remove the line")

    def _scalar(self, event: ScalarEvent) -> None:
        span = self._span(event)
        self._refuse_tag(event, span)
        value: bool | int | float | str | None = event.value
        is_plain = event.style is None and event.ctag is None
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.expects == "key" and is_plain and event.value == "<<":
            frame.expects, frame.key_span = "merge", span
            return
        if is_plain:
            try:
                value = plain_value(event.value)
            except AmbiguousScalar as err:
                self._complain(span, err.code, err.message, hint=err.hint)
        built = _Built(Scalar(value, span), characters=len(event.value))
        self._count(built, span)
        self._name(event.anchor, built, span)
        self._deliver(built)

    def _open(self, event: Any) -> None:
        span = self._span(event)
        self._refuse_tag(event, span)
        if len(self._frames) >= MAX_DEPTH:
            self._stop(span, "too-deep", f"sections are nested more than {MAX_DEPTH} levels deep")
        is_mapping = isinstance(event, MappingStartEvent)
        self._frames.append(_Frame(span, event.anchor, "key" if is_mapping else "item"))

    def _close(self) -> None:
        frame = self._frames.pop()
        node: Node
        if frame.expects == "item":
            node = ListNode(tuple(frame.items), frame.span)
        else:
            # Keys written here win over merged ones.
            node = MappingNode({**frame.merged, **frame.entries}, frame.span)
        built = _Built(node, frame.nodes, frame.characters, frame.height)
        self._count(_Built(node), frame.span)
        self._name(frame.anchor, built, frame.span)
        self._deliver(built)

    def _alias(self, event: AliasEvent) -> None:
        span, name = self._span(event), str(event.anchor)
        if any(frame.anchor == name for frame in self._frames):
            self._stop(span, "self-alias", f"`*{name}` stands inside the value it refers to")
        known = self._anchors.get(name)
        if known is None:
            near = nearest(name, self._anchors)
            hint = (
                f"did you mean `*{near}`?"
                if near is not None
                else f"write `&{name}` before the value, further up"
            )
            self._complain(span, "unknown-anchor", f"no anchor `&{name}` stands before this line", hint=hint)
            self._deliver(_Built(Scalar(None, span)), alias=span)
            return
        if len(self._frames) + known.height > MAX_DEPTH:
            self._stop(span, "too-deep", f"sections are nested more than {MAX_DEPTH} levels deep")
        self._count(known, span)
        self._deliver(replace(known, node=with_via(known.node, span)), alias=span)

    # Building

    def _deliver(self, built: _Built, *, alias: Span | None = None) -> None:
        """Hand a finished node to the collection around it."""
        if not self._frames:
            self._root = self._root or built
            return
        frame = self._frames[-1]
        frame.nodes += built.nodes
        frame.characters += built.characters
        frame.height = max(frame.height, built.height + 1)
        if frame.expects == "item":
            frame.items.append(built.node)
        elif frame.expects == "key":
            self._take_key(frame, built.node, alias)
        else:
            if frame.expects == "value" and frame.key_span is not None:
                frame.entries[frame.key] = Entry(frame.key_span, _visible(built.node, frame.key_span))
            elif frame.expects == "merge" and frame.key_span is not None:
                self._merge(frame, built, frame.key_span, alias)
            frame.expects = "key"

    def _take_key(self, frame: _Frame, node: Node, alias: Span | None) -> None:
        frame.expects = "refused"
        if alias is not None or not isinstance(node, Scalar):
            what = "an alias" if alias is not None else "a collection"
            self._complain(
                alias or node.span, "bad-key", f"{what} cannot be a key", hint="write a plain name"
            )
        elif not isinstance(node.value, str):
            shown = "null" if node.value is None else _text_at(node.span)
            hint = f'quote it: `"{shown}"`'
            self._complain(node.span, "bad-key", f"the key `{shown}` is not text", hint=hint)
        elif node.value in frame.entries:
            first = frame.entries[node.value].key
            self._complain(
                node.span,
                "duplicate-key",
                f"`{node.value}` stands here for the second time",
                hint=f"it is first set at line {first.line}; keep one of them",
            )
        else:
            frame.expects, frame.key, frame.key_span = "value", node.value, node.span

    def _merge(self, frame: _Frame, built: _Built, at: Span, alias: Span | None) -> None:
        if frame.merged_at is not None:
            hint = f"the first one is at line {frame.merged_at.line}"
            self._complain(at, "bad-merge", "a second `<<` in one mapping", hint=hint)
        elif alias is None or not isinstance(built.node, MappingNode):
            self._complain(at, "bad-merge", "`<<` needs one alias of a mapping", hint="write `<<: *name`")
        elif not built.in_x_block:
            self._complain(
                at,
                "bad-merge",
                "`<<` may only merge what stands in a top-level `x-` block",
                hint="move the shared keys to a block such as `x-defaults: &defaults`",
            )
        else:
            frame.merged_at = at
            for key, entry in built.node.entries.items():
                frame.merged[key] = Entry(replace(entry.key, via=at), entry.node)

    def _name(self, anchor: str | None, built: _Built, span: Span) -> None:
        if anchor is None:
            return
        first = self._anchor_spans.setdefault(anchor, span)
        if first is not span:
            self._complain(
                span,
                "duplicate-anchor",
                f"the anchor `&{anchor}` is set for the second time",
                hint=f"it is first set at line {first.line}; give one of them another name",
            )
            return
        outermost = self._frames[0].key if self._frames else ""
        self._anchors[anchor] = replace(built, in_x_block=outermost.startswith("x-"))

    # Limits and complaints

    def _count(self, built: _Built, span: Span) -> None:
        self._nodes += built.nodes
        self._characters += built.characters
        if self._nodes > MAX_NODES or self._characters > MAX_EXPANDED_CHARACTERS:
            self._stop(
                span,
                "too-many-values",
                f"the file holds more than {MAX_NODES:,} values once aliases are expanded",
            )

    def _refuse_tag(self, event: Any, span: Span) -> None:
        if event.ctag is not None:
            hint = "remove the tag; quote text that starts with `!`"
            self._complain(span, "explicit-tag", "explicit tags (`!`) are not allowed", hint=hint)

    def _stop(self, span: Span, code: str, message: str, *, hint: str | None = None) -> NoReturn:
        self._complain(span, code, message, hint=hint)
        raise SpecError(self.problems)

    def _complain(self, span: Span, code: str, message: str, *, hint: str | None = None) -> None:
        self.problems.append(problem_at(span, code, message, hint=hint, user=span.via))

    def _span(self, event: Any) -> Span:
        start, end = event.start_mark, event.end_mark
        lines = self._source.lines
        width = len(lines[start.line]) if start.line < len(lines) else start.column
        last = end.column if end.line == start.line else width
        return Span(self._source, start.line + 1, start.column + 1, max(last, start.column + 1) + 1)


def _visible(node: Node, key: Span) -> Node:
    """A value left out has no text of its own: show its key."""
    if isinstance(node, Scalar) and node.value is None and node.span.start != key.start:
        text = _text_at(node.span)
        if not text.strip() or node.span.line != key.line:
            return Scalar(None, key)
    return node


def _text_at(span: Span) -> str:
    lines = span.source.lines
    return lines[span.line - 1][span.column - 1 : span.end_column - 1] if span.line <= len(lines) else ""
