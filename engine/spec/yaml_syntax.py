"""Plain sentences for what the YAML scanner and parser refuse."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from engine.errors import Problem
from engine.spec.tree import Source, Span, problem_at

__all__ = ["forbidden_text", "syntax_problem"]

# C0 but tab and line breaks, DEL, C1, byte order marks, and marks that hide or reorder what an editor shows;
# the joiners that emoji and many scripts need are left alone.
_FORBIDDEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufffe\uffff]"
)
# Spaces other than the one YAML knows, where they would silently become part of a key or a value.
_ODD_SPACE: Final = re.compile("^[ -]*[\xa0\u2000-\u200a\u202f\u3000]|:[\xa0\u2000-\u200a\u202f\u3000]")
_CONFLICT: Final = re.compile(r"(?:<{7}|>{7}|\|{7})(?: |$)")
_NO_SPACE: Final = re.compile(r"\s*(?:- )?([A-Za-z_][\w.-]*:)[^\s:/\\]\S*\s*$")
_SHOWN: Final = 20


class _Rule(NamedTuple):
    """A sentence for scanner texts that match."""

    pattern: str
    code: str
    message: str
    hint: str


_RULES: Final = (
    _Rule(
        r"mapping values are not allowed",
        "bad-syntax",
        "a `:` cannot stand here",
        "indent the line under its key, or quote text that contains `: `",
    ),
    _Rule(
        r"could not find expected ':'",
        "bad-syntax",
        "the `:` after this key is missing",
        "write `key: value`, or check the indentation and the quotes",
    ),
    _Rule(
        r"expected <block end>, but found '(?:<scalar>|,|\]|\}|<anchor>|<alias>|<tag>)'",
        "bad-syntax",
        "text follows a value that has ended",
        "quote the whole text; a `'` inside single quotes is written twice",
    ),
    _Rule(
        r"expected <block end>",
        "bad-indentation",
        "the indentation does not match the lines above",
        "start keys of one section in the same column",
    ),
    _Rule(
        r"expected ',' or '[\]}]'",
        "unclosed",
        "a bracket is not closed, or a comma is missing",
        "{context}",
    ),
    _Rule(
        r"unexpected end of stream",
        "unclosed",
        "the text ends inside a quote",
        "{context}",
    ),
    _Rule(
        r"unexpected document separator",
        "unclosed",
        "the document ends inside a quote",
        "{context}",
    ),
    _Rule(
        r"unknown escape character|expected escape sequence",
        "bad-escape",
        "this is no escape sequence in double quotes",
        "use single quotes, or write the backslash twice",
    ),
    _Rule(
        r"cannot start any token",
        "bad-syntax",
        "text cannot start with this character",
        "quote it",
    ),
    _Rule(
        r"sequence entries are not allowed",
        "bad-syntax",
        "a list item cannot stand here",
        "put `- ` on a line of its own under its key",
    ),
    _Rule(
        r"unknown directive|directive|%YAML|version",
        "directive",
        "directives (`%`) are not allowed",
        "remove the line",
    ),
    _Rule(
        r"undefined tag handle|while parsing a tag|scanning a tag|expected.*tag|expected URI",
        "explicit-tag",
        "explicit tags (`!`) are not allowed",
        "remove the tag; quote text that starts with `!`",
    ),
    _Rule(
        r"alphabetic or numeric character",
        "bad-syntax",
        "a name must follow `*` or `&`",
        "quote text that starts with `*` or `&`",
    ),
)


def forbidden_text(source: Source) -> list[Problem]:
    """Problems with characters nobody can see and with the marks of an unfinished merge."""
    problems = []
    for number, line in enumerate(source.lines, start=1):
        for match in _FORBIDDEN.finditer(line):
            span = Span(source, number, match.start() + 1, match.end() + 1)
            message = f"the invisible character U+{ord(match[0]):04X} is not allowed"
            problems.append(problem_at(span, "invisible-character", message, hint="remove it"))
        for match in _ODD_SPACE.finditer(line):
            span = Span(source, number, match.end(), match.end() + 1)
            message = f"the space U+{ord(match[0][-1]):04X} is not the one that YAML knows"
            problems.append(problem_at(span, "odd-space", message, hint="replace it with a plain space"))
        if _CONFLICT.match(line):
            span = Span(source, number, 1, 8)
            problems.append(
                problem_at(
                    span,
                    "merge-conflict",
                    "this is a mark of an unfinished merge",
                    hint="choose one side and remove the marks",
                )
            )
        if len(problems) >= _SHOWN:
            break
    return problems[:_SHOWN]


def syntax_problem(source: Source, error: Exception) -> Problem:
    """One located problem for whatever the scanner or parser raised."""
    if isinstance(error, ReaderError):
        return problem_at(Span(source, 1, 1, 2), "bad-syntax", "the text holds a character YAML forbids")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if "could not find expected ':'" in str(getattr(error, "problem", "")):
        # Found at the next token; the key that lacks its colon is where the scan began.
        mark = getattr(error, "context_mark", None) or mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    # At the end of the file the scanner points behind the last line.
    line = min(line, max(len(source.lines) - 1, 0))
    text = source.lines[line] if source.lines else ""
    span = Span(source, line + 1, min(column, len(text)) + 1, min(column, len(text)) + 2)
    tab = _tab_in_indentation(text)
    if tab is not None:
        at = Span(source, line + 1, tab + 1, tab + 2)
        return problem_at(at, "tab", "a tab is used for indentation", hint="indent with spaces")
    return _sentence(span, error)


def _tab_in_indentation(text: str) -> int | None:
    indentation = text[: len(text) - len(text.lstrip(" \t"))]
    return indentation.index("\t") if "\t" in indentation else None


def _sentence(span: Span, error: Exception) -> Problem:
    said = " ".join(
        str(part) for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part
    )
    if "mapping values are not allowed" in said:
        misfit = _misfit(span)
        if misfit is not None:
            return misfit
    for rule in _RULES:
        if re.search(rule.pattern, said):
            hint = rule.hint.format(context=_opened(error))
            return problem_at(span, rule.code, rule.message, hint=hint)
    # The scanner's own words are better than none; only the ones without a rule get here.
    detail = said if isinstance(error, YAMLError) and said else "the text cannot be read"
    return problem_at(span, "bad-syntax", f"not valid YAML: {detail}")


def _misfit(span: Span) -> Problem | None:
    """A key whose own line is fine: what is wrong is the line above, or how the two are indented."""
    lines = span.source.lines
    line = lines[span.line - 1]
    if line[: span.column - 1].count(":") or span.line < 2:
        return None
    above = _NO_SPACE.match(lines[span.line - 2])
    if above is not None:
        at = Span(span.source, span.line - 1, above.end(1) + 1, above.end(1) + 2)
        return problem_at(at, "bad-syntax", "a space is missing after `:`", hint="write `key: value`")
    start = len(line) - len(line.lstrip()) + 1
    at = Span(span.source, span.line, start, span.column)
    hint = "the line above may lack its `:`, or this line is indented too far"
    return problem_at(at, "bad-indentation", "this line does not fit the one above", hint=hint)


def _opened(error: Exception) -> str:
    mark = error.context_mark if isinstance(error, MarkedYAMLError) else None
    return "close it" if mark is None else f"it is opened at line {mark.line + 1}, column {mark.column + 1}"
