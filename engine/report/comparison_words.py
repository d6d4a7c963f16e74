"""A comparison in words: the verdict, what a reader must know, and how it was judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from engine.report.clean import Redactor, identifying_values
from engine.report.comparison_tables import (
    Line,
    change_text,
    lines_of,
    metric_label,
    short_name,
    varied_fields,
)
from engine.report.page import Assumption, Fact, Notice, Tile, Tone
from engine.results.compared import Against, Comparison, RunFacts
from engine.results.judging import ALPHA
from engine.results.matching import FIELDS
from engine.units import counted

_CORRECTIONS: Final = {
    "bh": "Benjamini and Hochberg's correction: of the changes named at most 5 % are expected to be false",
    "holm": "Holm's correction: at most 5 % chance of any false alarm",
    "none": "no correction: 5 % of all tests are expected to be false alarms",
}
_RESTS: Final = {"changed": "changed that are neither", "unknown": "without an interval"}
_MOST_EXAMPLES: Final = 3


def redactor(comparison: Comparison, *, share: bool) -> Redactor:
    """What cleans the texts of a comparison; with `share` it knows the hosts and users the runs differ in."""
    values = {
        f"{one.path}.{which}": text
        for against in comparison.against
        for one in against.environment
        for which, text in (("before", one.before), ("after", one.after))
    }
    return Redactor(share=share, known=identifying_values(values))


def headline(comparison: Comparison, redact: Redactor) -> tuple[str, Tone]:
    """The verdict in one sentence a run, and its tone."""
    varied = varied_fields(comparison)
    lines = lines_of(comparison)
    told = {a.run.letter: [line for line in lines if line.against is a] for a in comparison.against}
    loud = [a for a in comparison.against if a.has("regressed") or a.has("improved")]
    quiet = [a for a in comparison.against if a not in loud]
    sentences = [_sentence(against, told[against.run.letter], varied, redact) for against in loud]
    sentences += [_nothing(quiet, redact)] if quiet else []
    tone: Tone = "bad" if comparison.has("regressed") else "good" if comparison.has("improved") else "plain"
    return " ".join(sentences), tone


def _sentence(against: Against, lines: Sequence[Line], varied: Sequence[str], redact: Redactor) -> str:
    name = redact.text(against.run.title)
    counts = Counter(line.verdict for line in lines)
    total = sum(counts.values())
    where = f"{counted(total, 'comparison')} at {counted(len(against.points), 'point')}"
    parts = [f"{counts[v]:,} {v}" for v in ("regressed", "improved") if counts[v]]
    worst = lines[0]
    return f"{name}: {' and '.join(parts)} of {where}; first of all {_phrase(worst, varied, redact)}."


def _nothing(runs: Sequence[Against], redact: Redactor) -> str:
    """The runs without news in one sentence."""
    names = [redact.text(against.run.title) for against in runs]
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    counts = Counter[str]()
    for against in runs:
        counts.update(against.verdicts)
    total = sum(counts.values())
    rest = [f"{counts[v]:,} {words}" for v, words in _RESTS.items() if counts[v]]
    tail = f" ({', '.join(rest)})" if rest else ""
    return f"{listed}: nothing got better or worse in {counted(total, 'comparison')}{tail}."


def _phrase(line: Line, varied: Sequence[str], redact: Redactor) -> str:
    where = redact.text(short_name(line.point, varied))
    if line.change is None:
        return f"status {line.point.status[0]} -> {line.point.status[1]} at {where}".replace("_", " ")
    label = metric_label(line.change.metric)
    label = label if label[1:2].isupper() else label[:1].lower() + label[1:]
    return f"{label} {change_text(line.change)} at {where}"


def basis(comparison: Comparison) -> str:
    """What the verdicts rest on, in one or two sentences."""
    options = comparison.options
    tests = sum(against.tests for against in comparison.against)
    words = []
    if tests:
        words.append(
            f"95 % intervals (Welch); {counted(tests, 'test')} with {_CORRECTIONS[options.correction]}"
        )
    if options.threshold:
        words.append(f"changes of less than {100 * options.threshold:g} % do not count")
    if options.noise is not None:
        words.append(f"runs of the same are taken to vary by {100 * options.noise:g} %")
    words.append("between predictions any difference is a change")
    text = "; ".join(words)
    return f"{text[:1].upper()}{text[1:]}."


def comparison_tiles(comparison: Comparison) -> tuple[Tile, ...]:
    """How many comparisons got which verdict."""
    counts: Counter[str] = Counter()
    for against in comparison.against:
        counts.update(against.verdicts)
    unmatched = sum(len(against.unmatched) for against in comparison.against)
    points = max(len(against.points) for against in comparison.against)
    several = f"in {len(comparison.against)} runs; " if len(comparison.against) > 1 else ""
    tones: dict[str, Tone] = {"regressed": "bad", "improved": "good"}
    said = {
        "regressed": "worse beyond noise",
        "improved": "better beyond noise",
        "changed": "neither way is better",
        "within noise": "no change is shown",
        "unknown": "differ, without an interval",
    }
    found = [
        Tile(
            verdict.capitalize(), f"{counts[verdict]:,}", "", words, number=float(counts[verdict]),
            tone=tones.get(verdict, "plain") if counts[verdict] else "plain",
            name=f"verdict-{verdict.replace(' ', '-')}",
        )
        for verdict, words in said.items()
        if counts[verdict] or verdict != "changed"
    ]  # fmt: skip
    found.append(Tile("Points compared", f"{points:,}", "", f"{several}{unmatched:,} without a partner",
                      name="points", number=float(points)))  # fmt: skip
    return tuple(found)


def comparison_notices(comparison: Comparison, redact: Redactor) -> tuple[Notice, ...]:
    """What keeps the runs from being compared in full."""
    found: list[Notice] = []
    for against in comparison.against:
        for letter, whose, other in (
            ("A", comparison.baseline, against.run),
            (against.run.letter, against.run, comparison.baseline),
        ):
            own = [one for one in against.unmatched if one.letter == letter]
            if own:
                same = next((one.same for one in own if one.same), "")
                examples = [f"{one.identity.label}: {one.reason}" for one in own[:_MOST_EXAMPLES]]
                found.append(
                    Notice(
                        "unmatched",
                        f"Only in {redact.text(whose.title)}",
                        len(own),
                        f"{redact.text(other.title)} has no such point",
                        tuple(redact.text(text) for text in examples),
                        redact.text(f"If names differ and nothing else, `{same}` says so.") if same else "",
                    )
                )
        if against.never_ok:
            found.append(
                Notice(
                    "never-ok", f"Neither ok in A nor in {against.run.letter}", against.never_ok,
                    "nothing can be said of them", tone="bad",
                )
            )  # fmt: skip
    found += _about_runs(comparison, redact)
    notes = Counter(note for a in comparison.against for point in a.points for note in point.notes)
    found += [
        Notice("note", "Points to read with care", count, redact.text(note))
        for note, count in sorted(notes.items(), key=lambda item: (-item[1], item[0]))[:8]
    ]
    return tuple(found)


def _about_runs(comparison: Comparison, redact: Redactor) -> Iterator[Notice]:
    for run in (comparison.baseline, *(against.run for against in comparison.against)):
        if run.unfinished:
            yield Notice("unfinished", f"{redact.text(run.title)} is not finished", run.unfinished,
                         "tasks of its plan have no result")  # fmt: skip
        if run.disturbed:
            yield Notice(
                "disturbed",
                f"{redact.text(run.title)} was measured on a disturbed machine",
                len(run.disturbed),
                redact.text("; ".join(run.disturbed[:_MOST_EXAMPLES])),
                detail="Differences may be the machine's: measure again, or give `--noise`.",
            )
        if run.sessions > 1:
            yield Notice(
                "sessions",
                f"{redact.text(run.title)} was made in parts",
                run.sessions,
                "sessions of engine run; versions and machines of all of them are listed",
            )


_MATCHING: Final = (
    "Points are matched by what was asked, not by fingerprints; a field that one run does not know fits "
    "anything as long as that leaves one candidate. The batch size of a prediction is a load's concurrency."
)
_REPEATS: Final = (
    "Noise of a value from repeats: Student's t over their means, Welch's degrees of freedom for "
    "differences. Requests of one repeat share the machine's state and do not count as independent."
)
_ONE_REPEAT: Final = (
    "Noise of a value from one repeat: circular block bootstrap over its requests. It says how sure the "
    "number of this repeat is, not how much the next one would differ."
)
_PREDICTIONS: Final = (
    "A prediction has no noise: beside another prediction any difference beyond rounding is a change. "
    "Beside a measurement its 90 % band is its uncertainty; a bound has none."
)


def method(comparison: Comparison) -> tuple[Assumption, ...]:
    """How it was judged, for those who would do it again."""
    options = comparison.options
    matched = "all fields" if options.match == FIELDS else ", ".join(options.match) or "phase alone"
    effect = "A change counts where the test excludes that its true size is at most the threshold."
    shares = "Failed requests: difference of two shares, a failure and a success added to each."
    tests = "Tests are corrected for their number, for each pair of runs on its own; intervals are not."
    blocks = "blocks of n^(1/3) requests"
    rows = (
        (_MATCHING, matched, "engine compare --match, --ignore"),
        (_REPEATS, f"{1 - ALPHA:.0%} intervals", "Welch 1947; Satterthwaite 1946"),
        (_ONE_REPEAT, blocks, "Politis and Romano 1992"),
        (shares, "error_rate", "Agresti and Caffo 2000"),
        (_PREDICTIONS, "relative difference above 1e-9", "64-bit numbers"),
        (tests, _CORRECTIONS[options.correction], "Benjamini and Hochberg 1995; Holm 1979"),
        (effect, f"{100 * options.threshold:g} %", "engine compare --threshold"),
    )
    return tuple(Assumption("Comparison", *row) for row in rows)


def run_facts(comparison: Comparison, redact: Redactor) -> tuple[Fact, ...]:
    """Where each run comes from."""
    runs = (comparison.baseline, *(against.run for against in comparison.against))
    return tuple(
        Fact(redact.text(run.title), name, redact.entry(name, value))
        for run in runs
        for name, value in _facts(run)
    )


def _facts(run: RunFacts) -> Iterator[tuple[str, str]]:
    yield "Plan", run.fingerprint or "unknown"
    yield "Design points", f"{run.points:,}"
    yield "Sources", ", ".join(run.sources) or "none"
    for name, value in (
        ("Started", run.started),
        ("Ended", run.ended),
        ("Engine", run.engine),
        ("Command", run.command),
        ("Seed", run.seed),
    ):
        yield name, "unknown" if value is None else str(value)
