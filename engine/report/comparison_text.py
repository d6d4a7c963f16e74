"""A comparison for machines and pull requests: Markdown and JUnit.

Names come from specs, logs and servers. In Markdown they stand inside code spans, where nothing is a link, a
mention or a tag; in JUnit they are attributes and text written by an XML library.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from engine.report.clean import Redactor, clean_text
from engine.report.comparison_tables import (
    Line,
    change_text,
    distinct,
    lines_of,
    side_text,
    varied_fields,
)
from engine.report.comparison_words import basis
from engine.report.comparison_words import redactor as redactor_of
from engine.results.differences import ABSENT

if TYPE_CHECKING:
    from engine.results.compared import Against, Comparison
    from engine.results.differences import Difference

_MOST_ROWS: Final = 40
_MOST_DIFFERENCES: Final = 20
_MARKS: Final = {"regressed": "🔴", "improved": "🟢", "changed": "🔵", "unknown": "⚪", "within noise": "⚪"}


def markdown_text(comparison: Comparison, *, share: bool = False) -> str:
    """A summary for a pull request: verdicts, the changes that count, what differed, what had no partner."""
    redact = redactor_of(comparison, share=share)
    return "\n".join(_markdown(comparison, redact)) + "\n"


def _markdown(comparison: Comparison, redact: Redactor) -> Iterator[str]:
    yield f"## Comparison against {code(redact.text(comparison.baseline.name))}"
    lines = lines_of(comparison)
    varied = varied_fields(comparison)
    for against in comparison.against:
        own = [line for line in lines if line.against is against]
        yield ""
        yield f"### {code(redact.text(against.run.name))}"
        yield ""
        yield from _verdicts(against, own)
        yield from _rows(
            [line for line in own if line.verdict in ("regressed", "improved", "changed")], varied, redact
        )
        yield from _listed("Spec", against.spec, redact)
        yield from _listed("Environment", against.environment, redact)
        if against.unmatched:
            yield ""
            yield f"{len(against.unmatched):,} points have no partner in the other run."
    yield ""
    yield f"<sub>{basis(comparison)}</sub>"


def _verdicts(against: Against, lines: Sequence[Line]) -> Iterator[str]:
    found = [
        f"{_MARKS[v]} **{count:,} {v}**" if v in ("regressed", "improved") else f"{count:,} {v}"
        for v, count in against.verdicts.items()
        if count
    ]
    words = ", ".join(found) or "nothing to compare"
    yield f"{words}, at {len(against.points):,} points ({len(lines):,} comparisons)."


def _rows(lines: Sequence[Line], varied: Sequence[str], redact: Redactor) -> Iterator[str]:
    if not lines:
        return
    yield ""
    yield "| | metric | change | before | now | point |"
    yield "|---|---|--:|--:|--:|---|"
    single = distinct(lines)
    for news in single[:_MOST_ROWS]:
        line, change = news.line, news.line.change
        where = code(redact.text(news.point(varied)))
        cells = (
            (news.metric, "", *(code(status) for status in line.point.status))
            if change is None
            else (
                news.metric,
                change_text(change),
                side_text(change.metric, change.before),
                side_text(change.metric, change.after),
            )
        )
        yield f"| {_MARKS[line.verdict]} {line.verdict} | " + " | ".join((*cells, where)) + " |"
    if len(single) > _MOST_ROWS:
        yield ""
        yield f"{len(single) - _MOST_ROWS:,} more are in the report."


def _listed(title: str, differences: Sequence[Difference], redact: Redactor) -> Iterator[str]:
    if not differences:
        return
    yield ""
    yield f"<details><summary>{title}: {len(differences):,} differences</summary>"
    yield ""
    for one in differences[:_MOST_DIFFERENCES]:
        before, after = (
            ABSENT if text is None else redact.entry(one.path, text) for text in (one.before, one.after)
        )
        yield f"- {code(f'{redact.text(one.path)}: {before} -> {after}')}"
    if len(differences) > _MOST_DIFFERENCES:
        yield f"- {len(differences) - _MOST_DIFFERENCES:,} more"
    yield ""
    yield "</details>"


def code(text: str) -> str:
    """A text as a code span of one line: no markup, no mention and no end of a cell, whatever it holds."""
    plain = re.sub(r"\s+", " ", clean_text(text)).strip().replace("`", "´").replace("|", "¦")
    return f"`{plain}`" if plain else ""


def junit_text(comparison: Comparison, *, share: bool = False) -> str:
    """A test suite a run, a test case a metric of a point: regressions fail, what is not known is skipped."""
    redact = redactor_of(comparison, share=share)
    lines = lines_of(comparison)
    root = ET.Element("testsuites", name=_flat(f"engine compare: {redact.text(comparison.baseline.name)}"))
    for against in comparison.against:
        _suite(root, against, [line for line in lines if line.against is against], redact)
    for name in ("tests", "failures", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("errors", "0")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, against: Against, lines: Sequence[Line], redact: Redactor) -> None:
    failed = sum(line.verdict == "regressed" for line in lines)
    skipped = sum(line.verdict == "unknown" for line in lines) + len(against.unmatched)
    suite = ET.SubElement(
        root,
        "testsuite",
        name=_flat(redact.text(against.run.title)),
        tests=str(len(lines) + len(against.unmatched)),
        failures=str(failed),
        errors="0",
        skipped=str(skipped),
    )
    for line in lines:
        case = _case(
            suite, redact.text(line.point.identity.label), line.change.metric if line.change else "status"
        )
        message = _message(line, redact)
        if line.verdict == "regressed":
            ET.SubElement(case, "failure", type="regressed", message=message).text = message
        elif line.verdict == "unknown":
            ET.SubElement(case, "skipped", message=message)
        else:
            ET.SubElement(case, "system-out").text = message
    for one in against.unmatched:
        case = _case(suite, redact.text(one.identity.label), "partner")
        ET.SubElement(case, "skipped", message=_flat(f"only in {one.letter}: {redact.text(one.reason)}"))


def _case(suite: ET.Element, point: str, metric: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=_flat(point), name=metric, time="0")


def _message(line: Line, redact: Redactor) -> str:
    change = line.change
    if change is None:
        return _flat(f"{line.verdict}: {redact.text(line.reason)}")
    sides = " -> ".join(side_text(change.metric, side) for side in (change.before, change.after))
    return _flat(f"{line.verdict}: {sides}, {change_text(change)}; {redact.text(line.reason)}")


def _flat(text: str) -> str:
    """One line without what XML 1.0 cannot hold."""
    return re.sub(r"\s+", " ", clean_text(text)).strip()
