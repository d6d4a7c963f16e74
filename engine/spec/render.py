"""Problems as text: for people, for programs, for code scanning and for annotations on a pull request."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final, Literal

from engine.errors import EngineError, LocatedError, Problem

__all__ = ["FORMATS", "Format", "escape_controls", "problems_of", "render"]

Format = Literal["human", "json", "sarif", "github"]
FORMATS: Final[tuple[Format, ...]] = ("human", "json", "sarif", "github")

_WIDTH: Final = 140
# C0, DEL, C1, and the marks that reorder or hide what follows them.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def render(
    problems: Sequence[Problem],
    output_format: Format = "human",
    *,
    subject: str | None = None,
    consequence: str = "nothing was run",
) -> str:
    """All problems in one text; `subject` is the file the last line names, `consequence` what follows."""
    if output_format == "json":
        return _json(problems)
    if output_format == "sarif":
        return _sarif(problems)
    if output_format == "github":
        return "\n".join(_github(problem) for problem in problems)
    return "\n".join([*(_human(p) for p in problems), _total(problems, subject, consequence)])


def problems_of(error: EngineError) -> tuple[Problem, ...]:
    """The problems an error carries; one without a place for errors that carry none."""
    if isinstance(error, LocatedError):
        return error.problems
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()
    return (Problem(code=code, message=error.message, hint=error.hint),)


def escape_controls(text: str) -> str:
    """The text with everything that could steer a terminal, or reorder a line, written out."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


# For people


def _human(problem: Problem) -> str:
    place = ":".join(str(part) for part in (problem.file, problem.line, problem.column) if part is not None)
    head = f"{place}: {problem.message}" if place else problem.message
    lines = [escape_controls(head)]
    hint = escape_controls(problem.hint) if problem.hint else ""
    if problem.source_line is None or problem.line is None or problem.column is None:
        return "\n".join([*lines, *([f"      {hint}"] if hint else [])])
    text, before = _window(problem.source_line, problem.column - 1)
    lines.append(f"{problem.line:>5} | {text}")
    lines.append(f"      | {' ' * before}^{' ' + hint if hint else ''}")
    return "\n".join(lines)


def _window(line: str, column: int) -> tuple[str, int]:
    """The part of a line around a column, made safe to show, and the width of what stands before it."""
    start = 0 if len(line) <= _WIDTH else max(0, min(column - _WIDTH // 2, len(line) - _WIDTH))
    before = escape_controls(line[start:column].replace("\t", " "))
    after = escape_controls(line[column : start + _WIDTH].replace("\t", " "))
    left = "..." if start else ""
    right = "..." if start + _WIDTH < len(line) else ""
    return f"{left}{before}{after}{right}".rstrip(), _cells(left + before)


def _cells(text: str) -> int:
    """Columns a terminal needs: two for wide East Asian characters, none for combining marks."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _total(problems: Sequence[Problem], subject: str | None, consequence: str) -> str:
    count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
    where = f" in {subject}" if subject else ""
    after = f"; {consequence}" if consequence else ""
    return escape_controls(f"{count}{where}{after}.")


# For programs


def _json(problems: Sequence[Problem]) -> str:
    document = {"schema_version": 1, "problems": [_as_data(problem) for problem in problems]}
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False)


def _as_data(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "end_column": problem.end_column,
        "path": list(problem.path),
    }


def _sarif(problems: Sequence[Problem]) -> str:
    rules = sorted({problem.code for problem in problems})
    run = {
        "tool": {"driver": {"name": "engine", "rules": [{"id": rule} for rule in rules]}},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(problem, rules) for problem in problems],
    }
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False)


def _sarif_result(problem: Problem, rules: Sequence[str]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": problem.code,
        "ruleIndex": rules.index(problem.code),
        "level": "error",
        "message": {"text": escape_controls(_sentence(problem))},
    }
    if problem.file is not None:
        place: dict[str, Any] = {"artifactLocation": {"uri": _uri(problem.file)}}
        if problem.line is not None and problem.column is not None:
            end = max(problem.end_column or 0, problem.column + 1)
            place["region"] = {
                "startLine": problem.line, "startColumn": problem.column, "endColumn": end
            }  # fmt: skip
        result["locations"] = [{"physicalLocation": place}]
    return result


def _uri(file: str) -> str:
    from urllib.parse import quote

    return quote(file.replace("\\", "/"))


def _sentence(problem: Problem) -> str:
    return f"{problem.message} ({problem.hint})" if problem.hint else problem.message


def _github(problem: Problem) -> str:
    places = {"file": problem.file, "line": problem.line, "col": problem.column}
    if problem.line is not None and problem.end_column is not None:
        places["endColumn"] = problem.end_column
    given = ",".join(f"{name}={_github_property(str(v))}" for name, v in places.items() if v is not None)
    return f"::error {given + ',' if given else ''}title={problem.code}::{_github_text(_sentence(problem))}"


def _github_text(text: str) -> str:
    # Percent, CR and LF end a workflow command or start an escape in it.
    return escape_controls(text.replace("%", "%25"))


def _github_property(text: str) -> str:
    return _github_text(text).replace(":", "%3A").replace(",", "%2C")
