"""From differences to verdicts: improved, regressed, within noise, or honestly unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from engine.metrics import METRICS
from engine.results.compared import Change, ComparedPoint, CompareOptions, Verdict
from engine.results.significance import Side, beyond, contrast, corrected, same

ALPHA: Final = 0.05
"""Share of false alarms that is put up with: among the changes named (`bh`) or of any at all (`holm`)."""


def change_of(metric: str, before: Side, after: Side, options: CompareOptions) -> Change:
    """How one metric changed; its verdict must wait until all tests are known."""
    found = contrast(before, after, effect=options.threshold)
    return Change(metric, before, after, found, None, "unknown", "")


def judged(points: Sequence[ComparedPoint], options: CompareOptions) -> Iterator[ComparedPoint]:
    """The points with their verdicts, every test corrected for all of them."""
    tested = [c.contrast.p for point in points for c in point.changes if c.contrast.p is not None]
    fixed = iter(corrected(tested, options.correction))
    for point in points:
        changes = tuple(
            _verdict(c, None if c.contrast.p is None else next(fixed), point, options) for c in point.changes
        )
        yield replace(point, changes=changes)


def _verdict(change: Change, p: float | None, point: ComparedPoint, options: CompareOptions) -> Change:
    before, after = change.before, change.after
    if same(before.value, after.value):
        return replace(change, p_corrected=p, verdict="within noise", reason="the same value")
    if not (before.known and after.known):
        return replace(change, verdict="unknown", reason=_unknown(before, after))
    if p is None:
        if not beyond(before.value, after.value, options.threshold):
            why = f"computed, and smaller than the threshold of {options.threshold:.3g}"
            return replace(change, verdict="within noise", reason=why)
        if sorted(point.bases) == ["bound", "estimate"]:
            # A bound is what no deployment reaches; beside an estimate it neither gains nor loses anything.
            why = "a bound against an estimate: another method, not another deployment"
            return replace(change, verdict="changed", reason=why)
        why = "computed without noise: any difference is one"
    elif p >= ALPHA:
        return replace(change, p_corrected=p, verdict="within noise", reason=_sure(change, p, options))
    else:
        why = _sure(change, p, options)
    return replace(change, p_corrected=p, verdict=_direction(change), reason=why)


def metric_of(column: str) -> str:
    """The metric that a column of `summary` is about: `ttft_s` for `ttft_s_p99`."""
    return column if column in METRICS else column.rpartition("_")[0]


def _direction(change: Change) -> Verdict:
    way = METRICS[metric_of(change.metric)].direction
    if way == "neutral":
        return "changed"
    return "improved" if (change.contrast.difference > 0) == (way == "higher") else "regressed"


def _unknown(before: Side, after: Side) -> str:
    which = [name for name, side in (("before", before), ("now", after)) if not side.known]
    text = f"measured once {' and '.join(which)}: no interval says how much it varies"
    for band, value in ((before, after.value), (after, before.value)):
        if band.how == "band" and band.low is not None and band.high is not None:
            place = "inside" if band.low <= value <= band.high else "outside"
            text += f"; {place} the 90 % band of the prediction"
    return text


_WORDS: Final = {
    "band": "the 90 % band of the prediction",
    "interval": "the stored interval",
    "assumed": "the assumed noise",
    "share": "counted requests",
}


def _sure(change: Change, p: float, options: CompareOptions) -> str:
    """`p = 0.0012 after correction; 5 repeats against 5 repeats`."""
    raw = change.contrast.p if change.contrast.p is not None else 1.0
    known = [_basis(side) for side in (change.before, change.after) if not side.exact]
    words = " against ".join(known)
    text = f"p = {raw:.2g}" + (f", corrected {p:.2g}" if options.correction != "none" else "")
    if options.threshold:
        text += f" for a change of no more than {options.threshold:.3g}"
    once = any(side.how == "requests" for side in (change.before, change.after))
    more = "; within one repeat only, variation between runs is unknown" if once else ""
    return f"{text}; {words}{more}"


def _basis(side: Side) -> str:
    if side.how in ("repeats", "rows", "requests"):
        return f"{side.n:,} {side.how}"
    return _WORDS[side.how]
