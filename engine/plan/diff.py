"""What a plan shares with what is stored: kept, new, to be run again and why, failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from engine.plan.compile import Plan
from engine.plan.fingerprint import plain
from engine.plan.inputs import inputs_changed
from engine.plan.point import Task
from engine.plan.resolve import SECTIONS
from engine.plan.stored import StoredTask, names_of

Fate = Literal["kept", "new", "again", "failed"]
_MOST_CHANGES: Final = 3


@dataclass(frozen=True)
class Verdict:
    """What becomes of one task of a plan."""

    task: Task
    fate: Fate
    why: str | None = None
    """What changed, or why it failed; None for tasks that are kept or new."""
    stored: StoredTask | None = None
    """The stored task it was compared with; None for new ones."""


@dataclass(frozen=True)
class PlanDiff:
    """A verdict for every task of a plan, in its order."""

    verdicts: tuple[Verdict, ...]
    stale: int
    """Stored tasks that the plan no longer has; they are left on disk, and going back finds them."""

    def of(self, fate: Fate) -> tuple[Verdict, ...]:
        """The tasks with one fate."""
        return tuple(v for v in self.verdicts if v.fate == fate)

    def points(self, fate: Fate) -> int:
        """Points of the tasks with one fate; a point counts for every task it has."""
        return sum(v.task.size for v in self.of(fate))


def compare(
    plan: Plan,
    stored: Mapping[str, StoredTask],
    *,
    retry_failed: bool = False,
    spec_folder: Path | None = None,
) -> PlanDiff:
    """Each task of a plan against what a store holds; with `retry_failed` failures run again. With the
    folder of the spec, files that were read are compared too."""
    planned = {task.fingerprint for task in plan.tasks}
    others = [old for key, old in stored.items() if key not in planned and old.state != "stale"]
    by_subject: dict[tuple[str, str], list[StoredTask]] = defaultdict(list)
    by_names: dict[tuple[str, str], list[StoredTask]] = defaultdict(list)
    for old in others:
        by_subject[old.kind, old.subject].append(old)
        by_names[old.kind, old.names].append(old)
    verdicts = [
        _verdict(task, stored.get(task.fingerprint), by_subject, by_names, retry_failed=retry_failed)
        for task in plan.tasks
    ]
    if spec_folder is not None:
        verdicts = [_with_inputs(verdict, spec_folder) for verdict in verdicts]
    return PlanDiff(tuple(verdicts), len(others))


def _with_inputs(verdict: Verdict, spec_folder: Path) -> Verdict:
    if verdict.fate != "kept" or verdict.stored is None:
        return verdict
    if not inputs_changed(verdict.task, verdict.stored, spec_folder):
        return verdict
    return replace(verdict, fate="again", why=f"files that `{verdict.task.kind}` reads changed")


def _verdict(
    task: Task,
    same: StoredTask | None,
    by_subject: Mapping[tuple[str, str], Sequence[StoredTask]],
    by_names: Mapping[tuple[str, str], Sequence[StoredTask]],
    *,
    retry_failed: bool,
) -> Verdict:
    if same is not None and same.state == "done":
        return Verdict(task, "kept", None, same)
    if same is not None and same.state == "failed":
        if retry_failed:
            return Verdict(task, "again", f"failed before: {same.error}", same)
        return Verdict(task, "failed", same.error, same)
    if same is not None and same.state == "interrupted":
        return Verdict(task, "again", "interrupted before it was done", same)
    if same is not None:
        return Verdict(task, "again", "given up by `--fresh`", same)
    candidates = by_subject.get((task.kind, task.subject), ())
    if not candidates and by_names:
        candidates = by_names.get((task.kind, names_of(task)), ())
    if not candidates:
        return Verdict(task, "new")
    reasons = [(tuple(_changes(task, old)), old) for old in candidates]
    changes, old = min(reasons, key=lambda found: len(found[0]))
    # What is neither a setting nor an entry of the catalogue: fitted parameters.
    rest = "the fitted parameters it may use changed" if task.kind == "analytical" else "its points changed"
    return Verdict(task, "again", "; ".join(changes) or rest, old)


def _changes(task: Task, old: StoredTask) -> Iterator[str]:
    if task.result_version != old.result_version:
        yield f"result_version of `{task.kind}` {old.result_version} -> {task.result_version}"
    found = list(_differences(old.settings, task.settings.model_dump(mode="json")))
    if found:
        yield f"measurement `{task.kind}` changed: {_list(found)}"
    if task.subject != old.subject:
        yield from _entries(task, old)


def _entries(task: Task, old: StoredTask) -> Iterator[str]:
    """Sections that have the same name as before and other content."""
    seen: set[tuple[str, str]] = set()
    for block, _, _ in task.spans:
        for section in SECTIONS:
            label = block.combination.labels[section]
            before = old.sections.get(section, {}).get(label)
            if (section, label) in seen or before is None:
                continue
            seen.add((section, label))
            found = list(_differences(before, plain(getattr(block.combination, section))))
            if found:
                yield f"{section} `{label}` changed: {_list(found)}"


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """`field: old -> new` for every value that differs."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*after, *before]):
            here = f"{path}.{key}" if path else str(key)
            yield from _differences(before.get(key), after.get(key), here)
    elif before != after:
        yield f"{path}: {_shown(before)} -> {_shown(after)}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return (
        str(value) if not isinstance(value, Mapping | list) else "..." if len(str(value)) > 40 else str(value)
    )


def _list(found: Sequence[str]) -> str:
    shown = ", ".join(found[:_MOST_CHANGES])
    rest = len(found) - _MOST_CHANGES
    return f"{shown} and {rest} more" if rest > 0 else shown
