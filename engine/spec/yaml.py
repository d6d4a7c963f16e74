"""YAML text to a located tree: limits on size and encoding first, then one pass of `engine.spec.compose`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from engine.errors import Problem, SpecError
from engine.spec.compose import Composer, Tree
from engine.spec.tree import Node, Scalar, Source, Span, problem_at
from engine.spec.yaml_syntax import forbidden_text, syntax_problem

__all__ = ["MAX_BYTES", "Tree", "read_bytes", "read_file", "read_text", "read_value"]

MAX_BYTES: Final = 256 * 1024

# Line breaks as the YAML scanner counts them; NEL, LS and PS are refused beforehand.
_LINE_BREAK: Final = re.compile(r"\r\n|[\n\r]")
# What the scanner raises on malformed text besides its own errors (bad escapes, surrogates, odd tags).
_SCANNER_FAULTS: Final = (
    YAMLError, ValueError, OverflowError, LookupError, AttributeError, TypeError, AssertionError
)  # fmt: skip


def read_file(path: Path, *, name: str | None = None) -> Tree:
    """The located tree of a YAML file; raises `SpecError` when it cannot be read at all."""
    shown = name if name is not None else str(path)
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
            raise SpecError([Problem(code="no-file", message=f"`{shown}` {what}", file=shown)])
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or str(err)
        problem = Problem(
            code="unreadable", message=f"`{shown}` cannot be read: {reason.lower()}", file=shown
        )
        raise SpecError([problem]) from err
    return read_bytes(data, name=shown)


def read_bytes(data: bytes, *, name: str) -> Tree:
    """The located tree of UTF-8 text; a byte order mark at the start is skipped."""
    if len(data) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES // 1024} KiB"
        hint = "a spec is written by hand; keep data in files of their own"
        raise SpecError([Problem(code="too-large", message=message, file=name, hint=hint)])
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        hint = "save it as UTF-8"
        raise SpecError([Problem(code="bad-encoding", message="the file is UTF-16", file=name, hint=hint)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        before = data[: err.start].decode("utf-8-sig", errors="replace")
        lines = _LINE_BREAK.split(before)
        line = _LINE_BREAK.split(data.decode("utf-8-sig", errors="replace"))[len(lines) - 1]
        source = Source(name, ["" for _ in lines[:-1]] + [line])
        span = Span(source, len(lines), len(lines[-1]) + 1, len(lines[-1]) + 2)
        message = f"the byte 0x{data[err.start]:02X} is not UTF-8"
        raise SpecError([problem_at(span, "bad-encoding", message, hint="save the file as UTF-8")]) from err
    return read_text(text, name=name)


def read_text(text: str, *, name: str) -> Tree:
    """The located tree of a text; problems that leave it readable are in `problems`."""
    return _compose(text, Source(name, _LINE_BREAK.split(text), text)).finish()


def read_value(text: str, source: Source) -> Node:
    """The located node of a single value such as `8`, `[1, 2]` or `{tensor: 2}`; null for no text."""
    return _compose(text, source).finish_value() or Scalar(None, Span(source, 1, 1, 2))


def _compose(text: str, source: Source) -> Composer:
    broken = forbidden_text(source)
    if broken:
        raise SpecError(broken)
    composer = Composer(source)
    try:
        composer.read(YAML(typ="safe", pure=True).parse(text))
    except _SCANNER_FAULTS as err:
        raise SpecError([*composer.problems, syntax_problem(source, err)]) from err
    return composer
