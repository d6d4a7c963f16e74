"""The plan as people and programs read it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engine.plan.compile import Plan
from engine.plan.expand import Factor, label_of
from engine.plan.forecast import Outlook
from engine.spec.paths import sweepable
from engine.units import counted, format_quantity

_SHOWN_VALUES = 8
_SHOWN_LINES = 12


def plan_as_text(plan: Plan, outlook: Outlook) -> str:
    """Axes, ties, drops with reasons, then what is kept, new, again and will not fit; totals last."""
    lines = [_headline(plan)]
    lines += [_factor_line(factor) for factor in (*plan.expansion.named, *plan.expansion.numeric)]
    if plan.expansion.extra:
        lines.append(f"  plus {len(plan.expansion.extra)} single points")
    for dropped in plan.dropped:
        when = ", ".join(f"{path} = {' or '.join(map(str, values))}" for path, values in dropped.when.items())
        lines.append(f'  drop {dropped.points:,} points with {when}: "{dropped.because}"')
    lines += _states(outlook)
    lines += _refusals(outlook)
    lines.append(_last_line(outlook))
    return "\n".join(lines)


def plan_as_data(plan: Plan, outlook: Outlook) -> dict[str, Any]:
    """The same as plain data with a schema version."""
    return {
        "schema_version": 1,
        "name": plan.experiment.name,
        "fingerprint": plan.fingerprint,
        "points": plan.size,
        "combinations": plan.expansion.combinations,
        "factors": [
            {"kind": f.kind, "paths": list(f.paths), "values": [[label_of(v) for v in row] for row in f.rows]}
            for f in (*plan.expansion.named, *plan.expansion.numeric)
            if len(f.rows) <= 10_000
        ],
        "dropped": [{"when": d.when, "because": d.because, "points": d.points} for d in plan.dropped],
        "tasks": {state: count for state, count in outlook.tasks.items() if count},
        "again": [{"points": r.points, "because": r.text} for r in outlook.again],
        "does_not_fit": [
            {"points": r.points, "where": r.where, "short_bytes": r.short_bytes} for r in outlook.unfit
        ],
        "beyond_context": [{"points": r.points, "because": r.text} for r in outlook.beyond],
        "refused": [{"points": r.points, "because": r.text} for r in outlook.refused],
        "to_run": outlook.to_run,
        "estimate_s": outlook.estimate_s,
    }


def _headline(plan: Plan) -> str:
    if not plan.experiment.has_points:
        return f"{plan.experiment.name}: logs to read, each run with a point of its own"
    dropped = sum(d.points for d in plan.dropped)
    axes = len(plan.expansion.named) + len(plan.expansion.numeric)
    parts = [
        f"{axes} {'axis' if axes == 1 else 'axes'}",
        counted(plan.expansion.combinations, "combination"),
        f"{dropped:,} dropped",
        counted(plan.size, "point"),
    ]
    return f"{plan.experiment.name}: {', '.join(parts)}"


def _factor_line(factor: Factor) -> str:
    texts = [
        " / ".join(_value_text(p, v) for p, v in zip(factor.paths, row, strict=True)) for row in factor.rows
    ]
    shown = ", ".join(texts[:_SHOWN_VALUES])
    if len(texts) > _SHOWN_VALUES:
        shown += f", ... {texts[-1]} ({len(texts):,} values)"
    word = {"axis": "axis", "tie": "tied", "sample": "drawn"}[factor.kind]
    return f"  {word} {' / '.join(factor.paths)}: {shown}"


def _value_text(path: str, value: Any) -> str:
    if isinstance(value, BaseModel):
        return label_of(value)
    return label_of(sweepable()[path].adapter().dump_python(value, mode="json"))


def _states(outlook: Outlook) -> list[str]:
    signs = {"kept": "=", "new": "+", "again": "~", "failed": "x"}
    words = {
        "kept": "kept from earlier runs",
        "new": "new",
        "again": "again",
        "failed": "failed earlier; `--retry failed` runs them again",
    }
    lines = []
    for state, sign in signs.items():
        points = outlook.points.get(state, 0)
        if points:
            lines.append(f"  {sign} {points:>9,}  {words[state]}")
        if state == "again":
            # A task that reads files has no points to count.
            counts = [f"{r.points:>9,}" if r.points else " " * 9 for r in outlook.again[:_SHOWN_LINES]]
            lines += [
                f"    {count}    because {r.text}" for count, r in zip(counts, outlook.again, strict=False)
            ]
    return lines


def _refusals(outlook: Outlook) -> list[str]:
    lines = []
    if outlook.unfit:
        lines.append(f"  ! {sum(r.points for r in outlook.unfit):>9,}  will not fit in memory")
        for r in outlook.unfit[:_SHOWN_LINES]:
            short = format_quantity(r.short_bytes, "bytes")
            lines.append(f"    {r.points:>9,}    {r.where}: up to {short} too much")
        if len(outlook.unfit) > _SHOWN_LINES:
            lines.append(f"               and {len(outlook.unfit) - _SHOWN_LINES} more groups")
    if outlook.beyond:
        lines.append(f"  ! {sum(r.points for r in outlook.beyond):>9,}  beyond the model's context")
        lines += [f"    {r.points:>9,}    {r.text}" for r in outlook.beyond[:_SHOWN_LINES]]
    lines += [f"  ! {r.points:>9,}  skipped: {r.text}" for r in outlook.refused[:_SHOWN_LINES]]
    return lines


def _last_line(outlook: Outlook) -> str:
    if not outlook.to_run:
        if outlook.waiting:  # files to read, which have no points of their own
            return f"To run: {counted(outlook.waiting, 'task')}. Nothing has been run."
        what = "point" if outlook.points.get("kept") else "task"
        return f"Nothing to run: every {what} is kept. Nothing has been run."
    time = f", {_duration(outlook.estimate_s)}" if outlook.estimate_s is not None else ""
    return f"To run: {counted(outlook.to_run, 'point')}{time}. Nothing has been run."


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
