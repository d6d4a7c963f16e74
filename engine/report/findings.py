"""Findings as people read them: what several rows share is said once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from engine.report.page import Finding
from engine.units import counted

_MOST_NAMED: Final = 6


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings that say the same of several loads or points, as one that names them.

    `concurrency 1: the machine was busy` and the same of `concurrency 2` are one finding of two rows.
    """
    groups: dict[tuple[str, ...], list[tuple[str, Finding]]] = {}
    for finding in findings:
        about, colon, said = finding.finding.partition(": ")
        if not colon:
            about, said = "", finding.finding
        key = (finding.rule, finding.severity, said, finding.evidence, finding.gain, finding.change)
        groups.setdefault(key, []).append((about, finding))
    return tuple(_one(members) for members in groups.values())


def _one(members: list[tuple[str, Finding]]) -> Finding:
    about, first = members[0]
    if len(members) == 1:
        return first
    said = first.finding.removeprefix(f"{about}: ") if about else first.finding
    names = [about for about, _ in members] if about else [finding.point for _, finding in members]
    names = [name for name in dict.fromkeys(names) if name]
    listed = ", ".join(names[:_MOST_NAMED]) + (" and more" if len(names) > _MOST_NAMED else "")
    where = f"{counted(len(members), 'row')}: {listed}" if listed else counted(len(members), "row")
    evidence = f"{first.evidence} ({where})" if first.evidence else f"In {where}."
    points = list(dict.fromkeys(finding.point for _, finding in members if finding.point))
    return replace(first, finding=said[:1].upper() + said[1:], evidence=evidence,
                   point=points[0] if len(points) == 1 else "")  # fmt: skip
