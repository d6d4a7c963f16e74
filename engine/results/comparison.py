"""Runs against a baseline: what was changed, where it ran, and what became of every metric at every point.

Pure: tables in, frozen data out. `engine compare`, its report and the browser of runs read what comes out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engine.errors import UsageError
from engine.metrics import METRICS
from engine.results.compared import (
    Against,
    ComparedPoint,
    ComparedRun,
    CompareOptions,
    Comparison,
    RunFacts,
    Unmatched,
    Verdict,
)
from engine.results.differences import environment_differences, spec_differences
from engine.results.judging import Compared, judged
from engine.results.matching import (
    FIELDS,
    Group,
    Kind,
    Lonely,
    Pairing,
    groups_of,
    kinds_of,
    pair,
    plain_name,
    rows_of,
    sources_paired,
)
from engine.results.significance import contrast
from engine.results.spread import GAPS, Reading, Requests, good_requests
from engine.results.tables import SUFFIXES

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CHANGES: Final = 500_000
"""Metrics at points of two runs: half a minute and a gigabyte."""
_TAILS: Final = ("", "_p99")
"""Columns compared when nobody names any: each metric, and its 99th percentile."""


def compare(runs: Sequence[ComparedRun], options: CompareOptions | None = None) -> Comparison:
    """Every run against the first one; the same runs give the same data, in whatever order their rows come.

    Raises `UsageError` for fewer than two runs, unknown fields and unknown metrics.
    """
    options = options or CompareOptions()
    if len(runs) < 2:
        raise UsageError("a comparison needs two runs", hint="engine compare BASELINE OTHER [OTHER ...]")
    check_options(options)
    _require_names(runs, options)
    letters = [_letter(i) for i in range(len(runs))]
    facts = [_facts(run, letter) for run, letter in zip(runs, letters, strict=True)]
    first, *others = (_Prepared.of(run, options) for run in runs)
    return Comparison(
        facts[0],
        tuple(_against(first, other, fact, options) for other, fact in zip(others, facts[1:], strict=True)),
        options,
    )


def check_options(options: CompareOptions) -> None:
    """Raise `UsageError` for a field or a metric that does not exist."""
    import difflib

    unknown = [name for name in options.match if name not in FIELDS]
    if unknown:
        raise UsageError(f"points have no field `{unknown[0]}`", hint="fields: " + ", ".join(FIELDS))
    known = [name + suffix for name in METRICS for suffix in ("", *(s for s in SUFFIXES if s[:2] == "_p"))]
    for name in options.metrics:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = (
                "did you mean " + ", ".join(f"`{n}`" for n in near) + "?"
                if near
                else "`engine explain` lists them"
            )
            raise UsageError(f"no metric `{name}`", hint=hint)


def _require_metrics(before: ComparedRun, after: ComparedRun, options: CompareOptions) -> None:
    """Raise `UsageError` for a metric that was asked for by name and that a run has not got."""
    for name in options.metrics:
        for run in (before, after):
            if name not in run.summary.column_names:
                present = [m for m in METRICS if m in run.summary.column_names]
                raise UsageError(f"run `{run.name}` has no `{name}`", hint="it has: " + ", ".join(present))


def _refuse_too_many(before: ComparedRun, after: ComparedRun, metrics: int, options: CompareOptions) -> None:
    """Raise `UsageError` when two runs may share more than anybody reads, before it takes minutes."""
    kept = _kept(kinds_of(before.summary), kinds_of(after.summary), options)
    rows = min(rows_of(run.summary, kinds) for run, kinds in zip((before, after), kept, strict=True))
    if rows * metrics > MOST_CHANGES:
        raise UsageError(
            f"{rows:,} points with {metrics} metrics each are too many to compare",
            hint="name the metrics that matter: `--metrics tpot_s,ttft_s`",
        )


def _require_names(runs: Sequence[ComparedRun], options: CompareOptions) -> None:
    """Raise `UsageError` for a name that `same` maps and that no run has."""
    if not options.same:
        return
    known = {
        plain_name(name)
        for run in runs
        for column in ("model", "hardware", "quantization")
        for name in run.points[column].unique().to_pylist()
    } - {None}
    for name in itertools.chain(*options.same):
        if plain_name(name) not in known:
            told = ", ".join(sorted(name for name in known if name))
            raise UsageError(f"no run has a model, device or format `{name}`", hint=f"they have: {told}")


def loosening(before: ComparedRun, after: ComparedRun, options: CompareOptions) -> tuple[str, ...]:
    """The fewest fields to ignore before two runs share a point; empty where that does not help."""
    mine, others = _groups(before, after, options)
    for left_out in _few(options.match):
        fields = [name for name in options.match if name not in left_out]
        if pair(mine, others, fields=fields)[0]:
            return left_out
    return ()


def _groups(
    before: ComparedRun, after: ComparedRun, options: CompareOptions
) -> tuple[list[Group], list[Group]]:
    """The points of two runs, of the kinds that are compared."""
    same = {plain_name(one) or "": plain_name(other) or "" for one, other in options.same}
    kept = _kept(kinds_of(before.summary), kinds_of(after.summary), options)
    mine, others = (
        groups_of(run.points, run.summary, kept=kinds, same=same)
        for run, kinds in zip((before, after), kept, strict=True)
    )
    return mine, others


def _kept(ours: set[Kind], theirs: set[Kind], options: CompareOptions) -> tuple[set[Kind], set[Kind]]:
    """The kinds of rows that are compared: those asked for; otherwise whole requests where both sides of a
    comparison have them, and every phase where not. The phases of a request repeat what it says, and each
    further test makes all of them less sharp."""
    wanted = [
        {(s, p) for s, p in kinds if not options.sources or s in options.sources} for kinds in (ours, theirs)
    ]
    if options.phases:
        mine, others = ({(s, p) for s, p in kinds if p in options.phases} for kinds in wanted)
        return mine, others
    paired = sources_paired({s for s, _ in wanted[0]}, {s for s, _ in wanted[1]})
    whole = [{s for s, p in kinds if p == "request"} for kinds in wanted]
    # Sources with a partner that has no whole requests need their phases.
    parts = [
        {one for one, other in paired if one not in whole[0] or other not in whole[1]},
        {other for one, other in paired if one not in whole[0] or other not in whole[1]},
    ]
    mine, others = (
        {(s, p) for s, p in kinds if p == "request" or s in needed or s not in own}
        for kinds, needed, own in zip(wanted, parts, whole, strict=True)
    )
    return mine, others


def _few(fields: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for count in (1, 2, 3):
        yield from itertools.combinations(fields, count)


def _letter(number: int) -> str:
    """A to Z, then AA, AB..."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def _facts(run: ComparedRun, letter: str) -> RunFacts:
    last = run.sessions[-1] if run.sessions else {}
    sources = run.summary["source"].unique().to_pylist() if run.summary.num_rows else []
    return RunFacts(
        letter,
        run.name,
        run.fingerprint,
        run.points.num_rows,
        tuple(sorted(source for source in sources if source)),
        len(run.sessions),
        run.sessions[0].get("started") if run.sessions else None,
        last.get("ended"),
        last.get("engine"),
        last.get("command"),
        last.get("seed"),
        run.unfinished,
        _disturbed(run.findings),
    )


_DISTURBANCES: Final = ("busy-machine", "stolen-time", "clock-drift", "idle-drift")
"""Findings after which a measurement may differ from the next one for no reason of its own."""


def _disturbed(findings: pa.Table | None) -> tuple[str, ...]:
    rows = findings.to_pylist() if findings is not None else []
    told = [row["finding"] for row in rows if row["rule"] in _DISTURBANCES and row["finding"]]
    return tuple(dict.fromkeys(told))


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A run laid out for comparing."""

    run: ComparedRun
    columns: Sequence[str]
    requests: Requests

    @classmethod
    def of(cls, run: ComparedRun, options: CompareOptions) -> _Prepared:
        names = options.metrics or [name + tail for name in METRICS for tail in _TAILS]
        present = set(run.summary.column_names)
        columns = [name for name in names if name in present]
        gaps = any(name.startswith(GAPS) for name in columns)
        return cls(run, columns, good_requests(run.requests, gaps=gaps))


def _against(before: _Prepared, after: _Prepared, facts: RunFacts, options: CompareOptions) -> Against:
    columns = [name for name in before.columns if name in set(after.columns)]
    _require_metrics(before.run, after.run, options)
    _refuse_too_many(before.run, after.run, len(columns), options)
    mine, others = _groups(before.run, after.run, options)
    found, left, right = pair(mine, others, fields=options.match)
    points = [_point(p, columns, before.requests, after.requests, options) for p in found]
    ours, theirs = before.run, after.run
    return Against(
        facts,
        spec_differences(ours.spec, theirs.spec),
        environment_differences(ours.sessions, theirs.sessions, observed=(ours.observed, theirs.observed)),
        tuple(judged(points, options)),
        (*_unmatched(left, "A"), *_unmatched(right, facts.letter)),
    )


def _unmatched(lonely: Iterable[Lonely], letter: str) -> Iterator[Unmatched]:
    for one in lonely:
        yield Unmatched(letter, one.group.identity, one.group.points, one.reason, one.names)


def _point(
    pairing: Pairing,
    columns: Sequence[str],
    before: Requests,
    after: Requests,
    options: CompareOptions,
) -> tuple[ComparedPoint, list[Compared]]:
    """One matched point without its changes: they are judged when all tests of the runs are known."""
    sides = [
        Reading(
            [row for row in group.rows if row["status"] == "ok"],
            requests,
            options.noise,
            bands=not _predictions(pairing),
        )
        for group, requests in ((pairing.before, before), (pairing.after, after))
    ]
    found = []
    for name in columns:
        one, other = sides[0].side(name), sides[1].side(name)
        if one is not None and other is not None:
            found.append(Compared(name, one, other, contrast(one, other, effect=options.threshold)))
    status = _status(pairing.before), _status(pairing.after)
    verdict, reason = _status_verdict(pairing, status)
    point = ComparedPoint(
        pairing.before.identity,
        pairing.after.identity,
        pairing.before.points,
        pairing.after.points,
        pairing.assumed,
        pairing.differing,
        status,
        verdict,
        reason,
        (_told(pairing.before, "basis"), _told(pairing.after, "basis")),
        (),
        tuple(_notes(pairing)),
    )
    return point, found


def _predictions(pairing: Pairing) -> bool:
    return pairing.before.identity.source == pairing.after.identity.source == "predicted"


def _status(group: Group) -> str:
    """The worst status of the rows that stands for the point: ok when any row is."""
    statuses = [row["status"] or "ok" for row in group.rows]
    return "ok" if "ok" in statuses else min(statuses)


def _status_verdict(pairing: Pairing, status: tuple[str, str]) -> tuple[Verdict, str]:
    if (status[0] == "ok") == (status[1] == "ok"):
        return "within noise", ""
    worse = status[1] != "ok"
    rows = (pairing.after if worse else pairing.before).rows
    why = sorted({row["reason"] for row in rows if row["reason"]})
    words = f"{status[0]} before, {status[1]} now".replace("_", " ") + (f": {why[0]}" if why else "")
    return ("regressed" if worse else "improved"), words


def _notes(pairing: Pairing) -> Iterator[str]:
    before, after = pairing.before, pairing.after
    if pairing.assumed:
        yield "taken to be the same, as one run does not say: " + ", ".join(pairing.assumed)
    if pairing.differing:
        differences = (
            f"{name} ({before.identity.get(name)} against {after.identity.get(name)})"
            for name in pairing.differing
        )
        yield "compared although they differ: " + ", ".join(differences)
    bases = _told(before, "basis"), _told(after, "basis")
    if bases[0] != bases[1] and all(bases):
        yield f"{bases[0]} against {bases[1]}"
    sets = _told(before, "calibration"), _told(after, "calibration")
    if sets[0] != sets[1] and all(sets):
        yield "predicted with other parameter sets"
    for group in (before, after):
        if len(group.rows) > 1:
            yield f"{len(group.rows)} rows of this point are taken as repeats"
            break


def _told(group: Group, column: str) -> str:
    """What the rows of a group say in a column of labels; empty where they say nothing."""
    return " and ".join(sorted({row[column] for row in group.rows if row.get(column)}))
