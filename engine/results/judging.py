"""From differences to verdicts: improved, regressed, within noise, or honestly unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from engine.metrics import METRICS
from engine.results.compared import Change, ComparedPoint, CompareOptions, Verdict
from engine.results.significance import Contrast, Side, beyond, corrected, same

ALPHA: Final = 0.05
"""Share of false alarms that is put up with: among the changes named (`bh`) or of any at all (`holm`)."""


class Compared(NamedTuple):
    """Two values side by side, before all tests are known."""

    metric: str
    before: Side
    after: Side
    contrast: Contrast


def judged(
    points: Sequence[tuple[ComparedPoint, Sequence[Compared]]], options: CompareOptions
) -> Iterator[ComparedPoint]:
    """The points with their verdicts, every test corrected for all of them."""
    tested = [one.contrast.p for _, found in points for one in found if one.contrast.p is not None]
    fixed = iter(corrected(tested, options.correction))
    for point, found in points:
        changes = []
        for one in found:
            p = None if one.contrast.p is None else next(fixed)
            changes.append(Change(*one, p, *_verdict(one, p, point, options)))
        yield replace(point, changes=tuple(changes))


def _verdict(
    one: Compared, p: float | None, point: ComparedPoint, options: CompareOptions
) -> tuple[Verdict, str]:
    """The verdict and why."""
    before, after = one.before, one.after
    if same(before.value, after.value):
        return "within noise", "the same value"
    if not (before.known and after.known):
        return "unknown", _unknown(before, after)
    if p is not None:
        return "within noise" if p >= ALPHA else _direction(one), _sure(one, p, options)
    if not beyond(before.value, after.value, options.threshold):
        return "within noise", f"computed, and smaller than the threshold of {options.threshold:.3g}"
    if sorted(point.bases) == ["bound", "estimate"]:
        # A bound is what no deployment reaches; beside an estimate it neither gains nor loses anything.
        return "changed", "a bound against an estimate: another method, not another deployment"
    return _direction(one), "computed without noise: any difference is one"


def metric_of(column: str) -> str:
    """The metric that a column of `summary` is about: `ttft_s` for `ttft_s_p99`."""
    return column if column in METRICS else column.rpartition("_")[0]


def _direction(change: Compared) -> Verdict:
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
    "assumed": "the stated noise between runs",
    "share": "counted requests",
}


def _sure(change: Compared, p: float, options: CompareOptions) -> str:
    """`p = 0.0012 after correction; 5 repeats against 5 repeats`."""
    raw = change.contrast.p if change.contrast.p is not None else 1.0
    known = [_basis(side) for side in (change.before, change.after) if not side.exact]
    words = " against ".join(known)
    text = f"p = {raw:.2g}" + (f", corrected {p:.2g}" if options.correction != "none" else "")
    if options.threshold:
        text += f" for a change of no more than {options.threshold:.3g}"
    if options.noise is not None:
        words += f", with {options.noise:.3g} between runs"
    once = options.noise is None and any(side.how == "requests" for side in (change.before, change.after))
    more = "; within one repeat only, variation between runs is unknown" if once else ""
    return f"{text}; {words}{more}"


def _basis(side: Side) -> str:
    if side.how in ("repeats", "rows", "requests"):
        return f"{side.n:,} {side.how}"
    return _WORDS[side.how]
