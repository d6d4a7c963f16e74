"""Files put together: bases first, the including file over them, `--set` last; nothing else has a say."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from engine.errors import Problem, SpecError
from engine.spec.compose import MAX_DEPTH
from engine.spec.suggest import did_you_mean
from engine.spec.tree import Entry, ListNode, MappingNode, Node, Scalar, Source, Span, problem_at
from engine.spec.yaml import Tree, read_bytes, read_file, read_value

__all__ = ["Assembled", "apply_overrides", "assemble", "merged", "project_root"]

MAX_FILES: Final = 64
_KEY: Final = "include"
# Under these keys stand paths such as `workload.batch_size`, which are one key in spite of their dots.
_KEYED_BY_PATH: Final = (("sweep", "axes"), ("sweep", "sample", "ranges"))


@dataclass(slots=True)
class Assembled:
    """One tree out of all the files, which files those are, and what is wrong."""

    root: MappingNode
    files: dict[Path, Source] = field(default_factory=dict)
    """Every file read, by its real path, in the order of reading."""
    problems: list[Problem] = field(default_factory=list)


def project_root(spec: Path) -> Path:
    """The folder that includes may not leave: the nearest one with `.git`, else the spec's own."""
    folder = spec.resolve().parent
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), folder)


def assemble(path: Path, *, data: bytes | None = None) -> Assembled:
    """The tree of a spec with everything it includes; `data` is used instead of the file's content."""
    name = str(path)
    tree = read_file(path, name=name) if data is None else read_bytes(data, name=name)
    reader = _Reader(project_root(path), Assembled(tree.root))
    reader.found.root = reader.expand(tree, path.resolve())
    return reader.found


def merged(below: MappingNode, above: MappingNode) -> MappingNode:
    """Both mappings in one: sections are merged key by key, everything else is replaced."""
    entries: dict[str, Entry] = dict(below.entries)
    for key, entry in above.entries.items():
        old = entries.get(key)
        if old is not None and isinstance(old.node, MappingNode) and isinstance(entry.node, MappingNode):
            entry = Entry(entry.key, merged(old.node, entry.node))
        entries[key] = entry
    return MappingNode(entries, above.span)


class _Reader:
    def __init__(self, root: Path, found: Assembled) -> None:
        self.root = root
        self.found = found
        self._done: dict[Path, MappingNode] = {}
        self._open: list[Path] = []

    def expand(self, tree: Tree, real: Path) -> MappingNode:
        """The tree of one file over those it includes."""
        self.found.files.setdefault(real, tree.source)
        self.found.problems.extend(tree.problems)
        entry = tree.root.entries.get(_KEY)
        own = MappingNode({k: e for k, e in tree.root.entries.items() if k != _KEY}, tree.root.span)
        if entry is None:
            return own
        self._open.append(real)
        below = MappingNode({}, tree.root.span)
        for node in self._names(entry.node):
            base = self._included(node, real)
            below = below if base is None else merged(below, base)
        self._open.pop()
        return merged(below, own)

    def _names(self, node: Node) -> list[Scalar]:
        items = node.items if isinstance(node, ListNode) else (node,)
        names = []
        for item in items:
            if isinstance(item, Scalar) and isinstance(item.value, str) and item.value.strip():
                names.append(item)
            else:
                self._complain(
                    item.span, "bad-include", "`include` lists file names", hint="e.g. `[bases/h100.yaml]`"
                )
        return names

    def _included(self, node: Scalar, including: Path) -> MappingNode | None:
        name = str(node.value)
        real = self._inside(name, node.span, including)
        if real is None:
            return None
        if real in self._done:
            return self._done[real]
        if real in self._open:
            self._complain(node.span, "include-cycle", f"`{name}` includes itself", hint=self._cycle(real))
            return None
        if len(self.found.files) >= MAX_FILES:
            self._complain(node.span, "too-many-files", f"more than {MAX_FILES} files are included")
            return None
        if not real.is_file():
            hint = _near_file(real, name)
            self._complain(node.span, "no-include", f"the file `{name}` does not exist", hint=hint)
            return None
        shown = os.path.normpath(os.path.join(os.path.dirname(node.span.source.name), name))  # noqa: PTH118, PTH120
        try:
            self._done[real] = self.expand(read_file(real, name=shown), real)
        except SpecError as err:
            self.found.problems.extend(err.problems)
            return None
        return self._done[real]

    def _inside(self, name: str, span: Span, including: Path) -> Path | None:
        if "\0" in name or re.match(r"[A-Za-z]:|[/\\~]", name):
            hint = "write it relative to this file"
            self._complain(span, "include-outside", f"`{name}` is not a relative path", hint=hint)
            return None
        try:
            real = (including.parent / name).resolve()
        except (OSError, RuntimeError) as err:
            self._complain(span, "no-include", f"`{name}` cannot be followed: {err}")
            return None
        if not real.is_relative_to(self.root):
            hint = "stay in the folder that holds `.git`, or in the spec's own; links are followed"
            self._complain(span, "include-outside", f"`{name}` leads out of the project", hint=hint)
            return None
        return real

    def _cycle(self, real: Path) -> str:
        chain = [*self._open[self._open.index(real) :], real]
        return " -> ".join(f"`{path.name}`" for path in chain)

    def _complain(self, span: Span, code: str, message: str, *, hint: str | None = None) -> None:
        self.found.problems.append(problem_at(span, code, message, hint=hint, path=(_KEY,)))


def _near_file(path: Path, name: str) -> str | None:
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return f"there is no folder `{Path(name).parent}` beside this file"
    return did_you_mean(path.name, names)


def apply_overrides(root: MappingNode, overrides: Sequence[str]) -> tuple[MappingNode, list[Problem]]:
    """The tree with every `path=value` set, in order, and what could not be set."""
    source = Source("--set", tuple(overrides))
    problems: list[Problem] = []
    for number, text in enumerate(overrides, start=1):
        try:
            root = _override(root, text, source, number)
        except SpecError as err:
            problems.extend(replace(p, line=number, source_line=text) for p in err.problems)
    return root, problems


def _override(root: MappingNode, text: str, source: Source, number: int) -> MappingNode:
    name, equals, value_text = text.partition("=")
    keys = _keys(name)
    whole = Span(source, number, 1, len(name) + 1)
    if not equals or not 0 < len(keys) <= MAX_DEPTH:
        raise SpecError([problem_at(whole, "bad-override", f"`{text}` is not `path=value`", hint=_EXAMPLE)])
    if keys[0] == _KEY:
        raise SpecError([problem_at(whole, "bad-override", "`include` cannot be set", hint=_EXAMPLE)])
    # Padding keeps the columns of the value those of the whole text.
    padded = " " * (len(name) + 1) + value_text
    value = _moved(read_value(padded, Source("--set", (padded,))), source, number)
    result = _replaced(root, keys, value, whole, ())
    if keys[0].startswith("x-"):
        # Such a section only holds what aliases stand for: a change there is meant for all of them.
        result = _with_aliases(result, _changed(root, result, keys))
    if not isinstance(result, MappingNode):
        raise SpecError([problem_at(whole, "bad-override", f"`{text}` is not `path=value`", hint=_EXAMPLE)])
    return result


def _changed(old: Node, new: Node, keys: Sequence[str]) -> dict[int, Node]:
    """What every node on a path has become, by the identity of the old one: an alias is the same node."""
    found: dict[int, Node] = {}
    for key in keys:
        if not (isinstance(old, MappingNode) and isinstance(new, MappingNode) and key in old.entries):
            break
        old, new = old.entries[key].node, new.entries[key].node
        found[id(old)] = new
    return found


def _with_aliases(node: Node, changed: Mapping[int, Node]) -> Node:
    if id(node) in changed:
        return changed[id(node)]
    if isinstance(node, ListNode):
        return ListNode(tuple(_with_aliases(item, changed) for item in node.items), node.span)
    if isinstance(node, MappingNode):
        return MappingNode(
            {k: Entry(entry.key, _with_aliases(entry.node, changed)) for k, entry in node.entries.items()},
            node.span,
        )
    return node


_EXAMPLE: Final = "e.g. `--set workload.batch_size=8`"


def _keys(name: str) -> list[str]:
    """Parts of a dotted path; a part in quotes keeps its dots."""
    parts = re.findall(r'"([^"]*)"|([^."]+)', name)
    keys = [quoted or plain.strip() for quoted, plain in parts]
    rebuilt = ".".join(f'"{quoted}"' if quoted else plain for quoted, plain in parts)
    return keys if all(keys) and rebuilt == name else []


def _replaced(node: Node | None, keys: Sequence[str], value: Node, at: Span, walked: tuple[str, ...]) -> Node:
    if not keys:
        return value
    if walked in _KEYED_BY_PATH:
        keys = [".".join(keys)]
    if isinstance(node, ListNode):
        return _replaced_item(node, keys, value, at, walked)
    if node is not None and not isinstance(node, MappingNode) and node.value is not None:
        message = f"`{'.'.join(walked)}` is `{node.value}` here, not a section"
        hint = f"it is set at {node.span.source.name}:{node.span.line}"
        raise SpecError([problem_at(at, "bad-override", message, hint=hint)])
    entries: Mapping[str, Entry] = node.entries if isinstance(node, MappingNode) else {}
    old = entries.get(keys[0])
    inner = _replaced(old.node if old else None, keys[1:], value, at, (*walked, keys[0]))
    span = node.span if isinstance(node, MappingNode) else at
    return MappingNode(
        {**entries, keys[0]: Entry(at if old is None or not keys[1:] else old.key, inner)}, span
    )


def _replaced_item(
    node: ListNode, keys: Sequence[str], value: Node, at: Span, walked: tuple[str, ...]
) -> Node:
    count = len(node.items)
    if not re.fullmatch(r"[0-9]{1,6}", keys[0]) or int(keys[0]) >= count:
        message = f"`{'.'.join(walked)}` is a list of {count}; `{keys[0]}` is not one of its positions"
        hint = f"positions are 0 to {count - 1}" if count else "set the whole list"
        raise SpecError([problem_at(at, "bad-override", message, hint=hint)])
    index = int(keys[0])
    inner = _replaced(node.items[index], keys[1:], value, at, (*walked, keys[0]))
    return ListNode((*node.items[:index], inner, *node.items[index + 1 :]), node.span)


def _moved(node: Node, source: Source, number: int) -> Node:
    span = replace(node.span, source=source, line=number)
    if isinstance(node, Scalar):
        return Scalar(node.value, span)
    if isinstance(node, ListNode):
        return ListNode(tuple(_moved(item, source, number) for item in node.items), span)
    entries = {
        key: Entry(replace(entry.key, source=source, line=number), _moved(entry.node, source, number))
        for key, entry in node.entries.items()
    }
    return MappingNode(entries, span)
