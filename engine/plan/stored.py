"""What is remembered of a task, so that a later plan can say why it has to run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.plan.fingerprint import fingerprint, plain
from engine.plan.point import Task
from engine.plan.resolve import SECTIONS

State = Literal["done", "failed", "interrupted", "stale"]


@dataclass(frozen=True)
class StoredTask:
    """A task as an earlier run recorded it."""

    fingerprint: str
    state: State
    """`stale` results are on disk but were given up by `--fresh`."""
    kind: str
    subject: str
    """Fingerprint of the points alone."""
    names: str
    """Fingerprint of what the points are called: equal names with another subject mean that an entry of
    the catalogue changed."""
    result_version: int
    points: int
    settings: Mapping[str, Any]
    """Settings of the measurement, as written out."""
    sections: Mapping[str, Mapping[str, Any]]
    """Section -> label -> its settled content."""
    error: str | None = None
    """Why it failed; None when it did not."""
    tail: str | None = None
    """Last lines a failed task printed."""
    recorded: str = ""
    """When, in UTC."""
    seconds: float | None = None
    """How long it took; None when that was not measured."""
    inputs: str | None = None
    """Digest of the files it read; None when it read none."""


@dataclass(frozen=True)
class Description:
    """What the store keeps of a task besides its results; sections by digest, each content once."""

    kind: str
    subject: str
    names: str
    result_version: int
    points: int
    settings: dict[str, Any]
    sections: dict[str, dict[str, str]]
    """Section -> label -> digest."""
    contents: dict[str, Any]
    """Digest -> content."""


def describe(task: Task) -> Description:
    """The description of a task, ready for JSON."""
    sections: dict[str, dict[str, str]] = {name: {} for name in SECTIONS}
    contents: dict[str, Any] = {}
    seen: set[str] = set()
    for block, _, _ in task.spans:
        combination = block.combination
        if combination.digest in seen:
            continue
        seen.add(combination.digest)
        for name in SECTIONS:
            digest = combination.digests[name]
            sections[name][combination.labels[name]] = digest
            if digest not in contents:
                contents[digest] = plain(getattr(combination, name))
    return Description(
        kind=task.kind,
        subject=task.subject,
        names=names_of(task),
        result_version=task.result_version,
        points=task.size,
        settings=task.settings.model_dump(mode="json"),
        sections=sections,
        contents=contents,
    )


def names_of(task: Task) -> str:
    """Fingerprint of what the points of a task are called and which counts they cover."""
    return fingerprint(
        task.kind,
        [
            [[block.combination.labels[name] for name in SECTIONS], block.grid.identity(start, stop)]
            for block, start, stop in task.spans
        ],
    )
