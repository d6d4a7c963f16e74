"""Which rows of two runs are the same design point: by what was asked, never by fingerprints.

Fingerprints change with every setting, and a folder of logs has none of ours. A point is known by its fields;
a field that one side does not know (a log without a device name) fits anything, as long as that leaves one
candidate.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

FIELDS: Final = (
    "model", "hardware", "quantization", "batch_size", "prompt_tokens", "output_tokens",
    "shared_prefix_tokens", "prefill_chunk_tokens", "prefill_tokens_per_step", "tensor", "pipeline", "expert",
    "data", "settings", "load",
)  # fmt: skip
"""What identifies a point, besides source and phase. `batch_size` is the concurrency where a load has one,
`load` what else a live measurement says of it."""
_NAMES: Final = ("model", "hardware", "quantization")
_QUIET: Final = {
    "shared_prefix_tokens": 0, "prefill_chunk_tokens": 0, "prefill_tokens_per_step": 0, "tensor": 1,
    "pipeline": 1, "expert": 1, "data": 1,
}  # fmt: skip
"""What a field is when nobody asked for it: not worth a word in a label."""
_FORMATS: Final = {
    "f16": "fp16", "float16": "fp16", "half": "fp16", "bfloat16": "bf16", "f32": "fp32", "float32": "fp32",
}  # fmt: skip
"""Number formats as logs write them."""
_CONCURRENCY: Final = re.compile(r"\bconcurrency[ =](\d+)\b")
_BRACKETS: Final = re.compile(r"^\((.*)\)$")
_PREDICTED: Final = "predicted"
_OWN_LOADS: Final = ("live", "metered")
"""Sources whose `variant` says how something was measured; elsewhere it names a repeat."""
_MOST_NEIGHBOURS: Final = 200
"""Candidates looked through to say why a point has no partner."""
_UNKNOWN: Final = "unknown"
_ROWS: Final = 10_000
"""Rows turned into mappings at a time: most of their columns are empty."""
Value = str | int | None
Kind = tuple[str, str]
"""Source and phase of a row."""


@dataclass(frozen=True)
class Identity:
    """What a point is: its fields, in the order of `FIELDS`, with the source and phase of its rows."""

    values: tuple[Value, ...]
    source: str
    phase: str

    def get(self, field: str) -> Value:
        """One field; None where the run does not know it."""
        return self.values[FIELDS.index(field)]

    @property
    def label(self) -> str:
        """The point for people, without what nobody asked for."""
        known = {f: v for f, v in zip(FIELDS, self.values, strict=True) if v is not None}
        words = [str(known.pop("model", "model unknown"))]
        if "hardware" in known:
            words[0] += f" on {known.pop('hardware')}"
        words += [str(known.pop("quantization"))] if "quantization" in known else []
        words += [f"batch {known.pop('batch_size')}"] if "batch_size" in known else []
        prompt, output = known.pop("prompt_tokens", None), known.pop("output_tokens", None)
        if prompt is not None or output is not None:
            words.append(f"{'?' if prompt is None else prompt}+{'?' if output is None else output} tokens")
        words += [
            str(value) if field in ("settings", "load") else f"{field} {value}"
            for field, value in known.items()
            if value != _QUIET.get(field)
        ]
        return ", ".join(words)


@dataclass(frozen=True)
class Group:
    """The rows of one point, source and phase; several rows are repeats."""

    identity: Identity
    rows: tuple[Mapping[str, Any], ...]
    points: tuple[int, ...]
    """Numbers of the point in its run."""


@dataclass(frozen=True)
class Pairing:
    """Groups that belong together."""

    before: Group
    after: Group
    differing: tuple[str, ...]
    """Ignored fields in which they differ."""
    assumed: tuple[str, ...]
    """Fields that only one side knows."""


@dataclass(frozen=True)
class Lonely:
    """A group without a partner, and why."""

    group: Group
    reason: str
    names: tuple[tuple[str, str], ...] = ()
    """Names (its own, the other's) that alone keep it from the nearest point; empty where more does."""


def kinds_of(summary: pa.Table) -> set[Kind]:
    """The (source, phase) pairs that occur."""
    return set(_kinds(summary))


def _kinds(summary: pa.Table) -> list[Kind]:
    """Source and phase of each row."""
    columns = (summary[name].to_pylist() for name in ("source", "phase"))
    return [(source or _UNKNOWN, phase or _UNKNOWN) for source, phase in zip(*columns, strict=True)]


def rows_of(summary: pa.Table, kept: Collection[Kind]) -> int:
    """How many rows are of these kinds."""
    return sum(kind in kept for kind in _kinds(summary))


def groups_of(
    points: pa.Table,
    summary: pa.Table,
    *,
    kept: Collection[Kind] | None = None,
    same: Mapping[str, str] | None = None,
) -> list[Group]:
    """The rows of a run by point, source and phase, in the order of its points; only those of the kinds
    `kept`. `same` maps plain names of models, devices and formats to those of another run."""
    settled = {row["point"]: row for row in points.to_pylist()}
    found: dict[Identity, list[Mapping[str, Any]]] = {}
    if kept is not None:
        import pyarrow as pa

        summary = summary.filter(pa.array([kind in kept for kind in _kinds(summary)], pa.bool_()))
    for batch in summary.to_batches(max_chunksize=_ROWS):
        for row in batch.to_pylist():
            key = _identity(settled.get(row["point"], {}), row, same or {})
            found.setdefault(key, []).append(_told(row))
    groups = [
        Group(key, tuple(rows), tuple(sorted({r["point"] for r in rows if r["point"] is not None})))
        for key, rows in found.items()
    ]
    # The order of the points, whatever order the rows came in.
    return sorted(groups, key=_order)


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what it does not say; source, phase and status are always there."""
    always = {name: row[name] for name in ("source", "phase", "status", "point", "reason")}
    return always | {name: value for name, value in row.items() if value is not None}


def _order(group: Group) -> tuple[Any, ...]:
    identity = group.identity
    return group.points[:1] or (-1,), identity.source, identity.phase, repr(identity.values)


def _identity(point: Mapping[str, Any], row: Mapping[str, Any], same: Mapping[str, str]) -> Identity:
    values = {field: point.get(field) for field in FIELDS}
    for name in _NAMES:
        plain = plain_name(values[name])
        plain = _FORMATS.get(plain or "", plain) if name == "quantization" else plain
        values[name] = same.get(plain or "", plain)
    source = row["source"] or _UNKNOWN
    variant = row.get("variant") if source in _OWN_LOADS else None
    for text in (variant, values["settings"] if source == "run_folder" else None):
        told = _CONCURRENCY.search(text or "")
        if told:
            values["batch_size"] = int(told[1])
    values["load"] = _load(variant)
    return Identity(tuple(values.values()), source, row["phase"] or _UNKNOWN)


def _load(variant: str | None) -> str | None:
    """What a live measurement says of its load besides the concurrency: `static batch`, `rate 4/s`."""
    if not variant:
        return None
    parts = (part.strip() for part in _CONCURRENCY.sub("", variant).split(","))
    return ", ".join(_BRACKETS.sub(r"\1", part) for part in parts if part) or "closed load"


def plain_name(name: str | None) -> str | None:
    """A model, device or format as both a hub and a catalogue may write it: `meta-llama/Llama-3.1-8B` is
    `llama-3.1-8b`; overrides in braces stay as they are."""
    if not name:
        return None
    stem, brace, rest = name.partition("{")
    return stem.rsplit("/", 1)[-1].strip().lower().replace("_", "-").replace(" ", "-") + brace + rest


def pair(
    before: Sequence[Group], after: Sequence[Group], *, fields: Sequence[str] = FIELDS
) -> tuple[list[Pairing], list[Lonely], list[Lonely]]:
    """Groups of two runs that belong together, in the first run's order, and those left on either side.

    First those that agree in everything, then those that agree in `fields` as far as both know them; of
    several candidates the one that agrees in most fields, and none at all where that does not decide.
    """
    found: list[Pairing] = []
    unclear: set[int] = set()
    sources = ({group.identity.source for group in groups} for groups in (before, after))
    for source, other in sources_paired(*sources):
        mine = [group for group in before if group.identity.source == source]
        theirs = [group for group in after if group.identity.source == other]
        same = _exactly(mine, theirs) if source == other else []
        used = {id(group) for one in same for group in (one.before, one.after)}
        loose, doubtful = _loosely(
            [group for group in mine if id(group) not in used],
            [group for group in theirs if id(group) not in used],
            fields,
        )
        found += [*same, *loose]
        unclear |= doubtful
    order = {id(group): i for i, group in enumerate((*before, *after))}
    found.sort(key=lambda one: (order[id(one.before)], order[id(one.after)]))
    paired = {id(group) for one in found for group in (one.before, one.after)}
    alone = [[group for group in groups if id(group) not in paired] for groups in (before, after)]
    return (
        found,
        [_lonely(group, alone[1] or after, fields, unclear) for group in alone[0]],
        [_lonely(group, alone[0] or before, fields, unclear) for group in alone[1]],
    )


def sources_paired(ours: Set[str], theirs: Set[str]) -> list[tuple[str, str]]:
    """Which sources of two runs are compared: each with itself; those that only one run has with those that
    only the other has; and measurements with predictions where the other run measured nothing."""
    found = {(source, source) for source in ours & theirs}
    left, right = ours - theirs, theirs - ours
    found |= {(source, other) for source in left for other in right}
    if ours == {_PREDICTED}:
        found |= {(_PREDICTED, other) for other in right}
    if theirs == {_PREDICTED}:
        found |= {(source, _PREDICTED) for source in left}
    return sorted(found)


def _exactly(before: Sequence[Group], after: Sequence[Group]) -> list[Pairing]:
    known = {(g.identity.values, g.identity.phase): g for g in after}
    pairs = ((g, known.get((g.identity.values, g.identity.phase))) for g in before)
    return [Pairing(group, other, (), ()) for group, other in pairs if other is not None]


def _loosely(
    before: Sequence[Group], after: Sequence[Group], fields: Sequence[str]
) -> tuple[list[Pairing], set[int]]:
    """Mutually best candidates; and the ids of groups with several equally good ones."""
    scores = _scores(before, after, fields)
    best: dict[int, int] = {}
    for group, other, score in scores:
        for one in (id(group), id(other)):
            best[one] = max(best.get(one, -1), score)
    mutual = [(g, o) for g, o, score in scores if score == best[id(g)] == best[id(o)]]
    partners: dict[int, list[Group]] = defaultdict(list)
    for group, other in mutual:
        partners[id(group)].append(other)
        partners[id(other)].append(group)
    clear = [
        (g, o)
        for g, o in mutual
        if _are_one(partners[id(g)], fields)
        and _are_one(partners[id(o)], fields)
        and 1 in (len(partners[id(g)]), len(partners[id(o)]))
    ]
    settled = {id(one) for both in clear for one in both}
    unclear = {id(one) for both in mutual for one in both} - settled
    return [_pairing(g, o, fields) for g, o in clear], unclear


def _are_one(groups: Sequence[Group], fields: Sequence[str]) -> bool:
    """Whether groups are one point as far as anybody asked: one prediction may stand beside two ways of
    measuring it, but a log that names no device stands beside none of two devices."""
    places = [FIELDS.index(field) for field in fields if field != "load"]
    return len({tuple(group.identity.values[i] for i in places) for group in groups}) == 1


def _scores(
    before: Sequence[Group], after: Sequence[Group], fields: Sequence[str]
) -> list[tuple[Group, Group, int]]:
    """Candidates with the number of fields in which they agree; looked for among those that agree in the
    fields that everybody knows."""
    sure = [f for f in fields if f != "load" and _known_everywhere(f, (*before, *after))]
    places = [FIELDS.index(f) for f in sure]

    def bucket(group: Group) -> Hashable:
        return group.identity.phase, tuple(group.identity.values[i] for i in places)

    shelves: dict[Hashable, list[Group]] = defaultdict(list)
    for group in after:
        shelves[bucket(group)].append(group)
    found = []
    for group in before:
        for other in shelves.get(bucket(group), ()):
            score = _agreement(group.identity, other.identity, fields)
            if score is not None:
                found.append((group, other, score))
    return found


def _known_everywhere(field: str, groups: Iterable[Group]) -> bool:
    return all(group.identity.get(field) is not None for group in groups)


def _agreement(before: Identity, after: Identity, fields: Sequence[str]) -> int | None:
    """In how many fields two points agree; None where one contradicts."""
    for field in fields:
        one, other = before.get(field), after.get(field)
        if field == "load" and before.source != after.source:
            continue  # how something was measured is no part of what a prediction or a log is about
        if one is not None and other is not None and one != other:
            return None
    return sum(
        one is not None and one == other for one, other in zip(before.values, after.values, strict=True)
    )


def _pairing(before: Group, after: Group, fields: Sequence[str]) -> Pairing:
    differing, assumed = [], []
    for field in FIELDS:
        one, other = before.identity.get(field), after.identity.get(field)
        if one == other or (field == "load" and before.identity.source != after.identity.source):
            continue
        if one is not None and other is not None:
            differing.append(field)
        elif field in fields:
            assumed.append(field)
    return Pairing(before, after, tuple(differing), tuple(assumed))


def _lonely(group: Group, others: Sequence[Group], fields: Sequence[str], ambiguous: set[int]) -> Lonely:
    if id(group) in ambiguous:
        return Lonely(group, "fits several points of the other run equally well")
    alike = [o for o in others if o.identity.phase == group.identity.phase][:_MOST_NEIGHBOURS]
    if not alike:
        return Lonely(group, "the other run has nothing left of this phase to compare with")
    nearest = min((_conflicts(group.identity, o.identity, fields) for o in alike), key=len)
    if not nearest:
        return Lonely(group, "a better match took its only candidate")
    told = [f"{field} ({mine} against {theirs})" for field, mine, theirs in nearest]
    named = all(field in _NAMES for field, *_ in nearest)
    names = tuple((str(mine), str(theirs)) for _, mine, theirs in nearest) if named else ()
    return Lonely(group, "nearest point differs in " + ", ".join(told), names)


def _conflicts(one: Identity, other: Identity, fields: Sequence[str]) -> list[tuple[str, Value, Value]]:
    """(field, mine, theirs) for every field that keeps two points apart."""
    found: list[tuple[str, Value, Value]] = []
    for field in fields:
        mine, theirs = one.get(field), other.get(field)
        if mine is not None and theirs is not None and mine != theirs:
            found.append((field, mine, theirs))
    if not found and one.source != other.source:
        found.append(("source", one.source, other.source))
    return found
