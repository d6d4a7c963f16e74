"""A comparison on the terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from engine.commands.tables import print_rows
from engine.spec.render import escape_controls

if TYPE_CHECKING:
    from engine.report.clean import Redactor
    from engine.report.comparison_tables import Line
    from engine.results.compared import Against, Change, ComparedPoint, Comparison, RunFacts
    from engine.results.differences import Difference
    from engine.results.matching import Identity
    from engine.results.significance import Side

SCHEMA_VERSION: Final = 1
_MOST_DIFFERENCES: Final = 20
_LONGEST_POINT: Final = 60


def print_comparison(found: Comparison, *, top: int) -> None:
    """What differs besides the numbers, then the changes that count, worst news first."""
    from engine.report.comparison_tables import lines_of, varied_fields

    _say(_run_line(found.baseline))
    _disturbed(found.baseline)
    lines = lines_of(found)
    varied = varied_fields(found)
    for against in found.against:
        _say(_run_line(against.run))
        _disturbed(against.run)
        _differences("spec", against.spec)
        _differences("environment", against.environment)
        own = [line for line in lines if line.against is against]
        _changes([line for line in own if line.verdict != "within noise"], varied, top)
        _say(_counts(against, len(own)))
        for text in _unmatched(against):
            _say(text)


def _say(text: str) -> None:
    click.echo(escape_controls(text))


def _run_line(run: RunFacts) -> str:
    words = [f"{run.points:,} points", ", ".join(run.sources) or "no rows"]
    if run.ended or run.started:
        words.append(str(run.ended or run.started))
    return f"{run.title}: {', '.join(words)}"


def _disturbed(run: RunFacts) -> None:
    if run.disturbed:
        more = f"; {len(run.disturbed) - 1:,} more" if len(run.disturbed) > 1 else ""
        _say(f"  measured on a disturbed machine: {run.disturbed[0]}{more}")


def _differences(title: str, differences: Sequence[Difference]) -> None:
    if not differences:
        _say(f"  {title}: the same")
        return
    _say(f"  {title}:")
    for one in differences[:_MOST_DIFFERENCES]:
        _say(f"    {one}")
    if len(differences) > _MOST_DIFFERENCES:
        _say(f"    {len(differences) - _MOST_DIFFERENCES:,} more; `--json` has all of them")


def _changes(lines: Sequence[Line], varied: Sequence[str], top: int) -> None:
    from engine.report.comparison_tables import (
        change_text,
        distinct,
        side_text,
    )

    single = distinct(lines)
    shown = single[:top] if top else single
    rows = []
    for news in shown:
        line, change = news.line, news.line.change
        where = news.point(varied)
        rows.append(
            {
                "verdict": line.verdict,
                "what": news.metric,
                "change": change_text(change) if change else "",
                "before": side_text(change.metric, change.before) if change else line.point.status[0],
                "now": side_text(change.metric, change.after) if change else line.point.status[1],
                "point": escape_controls(
                    where if len(where) <= _LONGEST_POINT else where[: _LONGEST_POINT - 3] + "..."
                ),
            }
        )
    if rows:
        print_rows(rows)
    if len(single) > len(shown):
        _say(f"{len(single) - len(shown):,} more; `--top 0` prints all")


def _counts(against: Against, comparisons: int) -> str:
    told = ", ".join(f"{count:,} {verdict}" for verdict, count in against.verdicts.items() if count)
    where = f"{comparisons:,} comparisons at {len(against.points):,} points"
    failed = f"; {against.never_ok:,} points are ok in neither run" if against.never_ok else ""
    return f"{against.run.title}: {told or 'no metric in common'}; {where}{failed}"


def _unmatched(against: Against) -> Iterator[str]:
    for letter in ("A", against.run.letter):
        own = [one for one in against.unmatched if one.letter == letter]
        if own:
            yield f"only in {letter}: {len(own):,} points, such as {own[0].identity.label} ({own[0].reason})"
            same = next((one.same for one in own if one.same), "")
            if same:
                yield f"  if the names mean the same: {same}"


def print_json(found: Comparison, *, share: bool) -> None:
    """The whole comparison as one JSON document."""
    document = comparison_document(found, share=share)
    click.echo(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=True))


def comparison_document(found: Comparison, *, share: bool = False) -> dict[str, Any]:
    """A comparison as plain data; values in base units, what is not known is null. Texts are cleaned as in a
    report; `share` leaves out what identifies a host or a person."""
    from engine.report.comparison_words import redactor

    redact = redactor(found, share=share)
    document: dict[str, Any] = _cleaned(
        {
            "schema_version": SCHEMA_VERSION,
            "options": asdict(found.options),
            "baseline": asdict(found.baseline),
            "against": [_against(one) for one in found.against],
        },
        redact,
    )
    return document


def _cleaned(value: Any, redact: Redactor) -> Any:
    if isinstance(value, str):
        return redact.text(value)
    if isinstance(value, list | tuple):
        return [_cleaned(item, redact) for item in value]
    if isinstance(value, dict):
        if set(value) == {"path", "before", "after"}:  # a difference: its path says what it identifies
            ends = ("before", "after")
            hidden = {key: redact.entry(value["path"], value[key]) for key in ends if value[key] is not None}
            value = {**value, **hidden}
        return {key: _cleaned(item, redact) for key, item in value.items()}
    return value


def _against(one: Against) -> dict[str, Any]:
    return {
        "run": asdict(one.run),
        "counts": one.counts,
        "status_counts": one.status_counts,
        "tests": one.tests,
        "spec": [asdict(difference) for difference in one.spec],
        "environment": [asdict(difference) for difference in one.environment],
        "points": [_point(point) for point in one.points],
        "unmatched": [
            {
                "only_in": u.letter,
                "identity": _identity(u.identity),
                "points": list(u.points),
                "reason": u.reason,
            }
            for u in one.unmatched
        ],
    }


def _point(point: ComparedPoint) -> dict[str, Any]:
    return {
        "identity": _identity(point.identity),
        "other": _identity(point.other),
        "points": list(point.points),
        "other_points": list(point.other_points),
        "status": list(point.status),
        "status_verdict": point.status_verdict,
        "status_reason": point.status_reason,
        "notes": list(point.notes),
        "changes": [_change(change) for change in point.changes],
    }


def _identity(identity: Identity) -> dict[str, Any]:
    from engine.results.matching import FIELDS

    return {
        "source": identity.source,
        "phase": identity.phase,
        **dict(zip(FIELDS, identity.values, strict=True)),
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "metric": change.metric,
        "verdict": change.verdict,
        "reason": change.reason,
        "before": _side(change.before),
        "after": _side(change.after),
        "difference": change.contrast.difference,
        "difference_low": change.contrast.low,
        "difference_high": change.contrast.high,
        "relative": change.relative,
        "relative_low": change.relative_low,
        "relative_high": change.relative_high,
        "p": change.contrast.p,
        "p_corrected": change.p_corrected,
    }


def _side(side: Side) -> Mapping[str, Any]:
    return {"value": side.value, "low": side.low, "high": side.high, "n": side.n, "noise_from": side.how}
