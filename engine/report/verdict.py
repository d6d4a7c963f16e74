"""The first screen: one sentence, a handful of numbers, and what went wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.report.charts.story import Story
from engine.report.choose import above_roof
from engine.report.numbers import quantity, scale_for, significant
from engine.report.page import Notice, Tile, Tone
from engine.report.workloads import lengths_of, words
from engine.units import counted

if TYPE_CHECKING:
    from engine.report.clean import Redactor
    from engine.report.records import Records

_TILES: Final = (
    "output_tokens_per_s_per_device", "output_tokens_per_s", "ttft_s", "tpot_s", "e2e_s",
    "energy_per_output_token_j", "cost_per_million_output_tokens_usd", "memory_needed_bytes",
    "training_sequences_per_s", "training_mfu", "time_s", "average_power_w",
)  # fmt: skip
_MOST_TILES: Final = 6
_BASIS: Final = {
    "bound": "predicted bound",
    "estimate": "predicted estimate",
    "measured": "measured",
    "derived": "derived",
}
_LONG_BASIS: Final = {
    "bound": "a predicted bound from the data sheets: no deployment is faster, real ones are slower",
    "estimate": "a prediction with calibrated efficiencies",
    "measured": "measured",
    "derived": "derived from other values",
}
_STATUS: Final[dict[str, tuple[str, Tone]]] = {
    "does_not_fit": ("Does not fit in memory", "warning"),
    "beyond_context": ("Beyond the model's context", "warning"),
    "failed": ("Failed", "bad"),
    "skipped": ("Skipped", "warning"),
}
_MOST_REASONS: Final = 12
_MOST_EXAMPLES: Final = 3


def verdict(story: Story) -> tuple[str, str, Tone]:
    """The sentence, what it is based on, and its tone."""
    choice, winner = story.choice, story.winner
    if winner is None:
        return "No point has a result to rank.", "See below what failed and why.", "bad"
    # Points of different lengths do different work: the answer says whose it is.
    where = f"At {words(choice.workload)}" if choice.workload else ""
    name = story.name(winner, full=True, without=_LENGTHS if where else ())
    numbers = _numbers(winner, choice.metric)
    basis = _based_on(story, basis_of(winner, long=True))
    if choice.requirements and not choice.qualified:
        wanted = "; ".join(r.text for r in choice.requirements)
        none = (
            f"none of {counted(choice.ok, f'ranked {ranked_noun(story)}')} meets every requirement ({wanted})"
        )
        missed = f"{where} {none}." if where else f"{none[:1].upper()}{none[1:]}."
        return f"{missed} The nearest by rank is {name}: {numbers}.", basis, "bad"
    best = f"{where} the best" if where else "Best"
    if choice.requirements:
        return f"{best} of those that qualify is {name}: {numbers}. {_met(story)}", basis, "good"
    if choice.ok > 1 or where:
        return f"{best} is {name}: {numbers}.{_leads(story)}", basis, "good"
    return f"{name}: {numbers}.", basis, "good"


_LENGTHS: Final = ("prompt_tokens", "output_tokens")


def ranked_noun(story: Story) -> str:
    """What the judged rows are: points, or where a measurement put several loads on one, loads."""
    return "load" if story.winner is not None and story.winner.get("variant") else "point"


def _leads(story: Story) -> str:
    others = story.choice.ok - 1
    return f" It leads {_field(story, others, 'other ')}." if others else ""


def _field(story: Story, count: int, before: str = "") -> str:
    """So many rows of those in the race."""
    choice = story.choice
    text = counted(count, before + ranked_noun(story))
    if choice.workload:
        return f"{text} of these lengths"
    return text + (" with a result" if choice.ok < story.rows.size else "")


def _met(story: Story) -> str:
    verb = "meets" if story.choice.qualified == 1 else "meet"
    return f"{story.choice.qualified:,} of {_field(story, story.choice.ok)} {verb} every requirement."


def _elsewhere(story: Story) -> str:
    """Whether the winner's deployment also wins at the other lengths."""
    choice = story.choice
    if choice.workload is None or story.winner is None:
        return ""
    bests = story.rows.take(list(choice.best_of_each_workload)).rows()
    others = [row for row in bests if lengths_of(row) != choice.workload]
    if not others:
        return " No point of other lengths has a result."
    mine = story.name(story.winner, full=True, without=(*_LENGTHS, "batch_size"))
    same = sum(story.name(row, full=True, without=(*_LENGTHS, "batch_size")) == mine for row in others)
    if len(others) == 1:
        outcome = f"at the other workload {'the same' if same else 'another'} deployment is best"
    elif same in (0, len(others)):
        outcome = f"at each of {len(others):,} other workloads {'the same' if same else 'another'} is best"
    else:
        outcome = f"of {len(others):,} other workloads the same deployment is best at {same:,}"
    return (
        f" Other lengths are other work and are not ranked against it: {outcome} (see Best point of each "
        "workload)."
    )


def _remark(story: Story) -> str:
    """What the winner's own row says a reader must know."""
    reason = (story.winner or {}).get("reason")
    return f" Note: {_words(story, reason)}." if reason else ""


def _words(story: Story, reason: str) -> str:
    """A reason as prose: the marks around names belong to a terminal."""
    return story.redact.text(reason).replace("`", "")


def _passed_over(story: Story) -> str:
    """The bound that stood before the winner by its numbers alone, and why it does not win."""
    choice = story.choice
    if choice.passed_over is None:
        return ""
    row = choice.row(choice.passed_over)
    return (
        f" {story.name(row, full=True)} has better numbers ({_numbers(row, choice.metric)}), but they "
        "are bounds from its data sheet, which no deployment reaches: without a calibration it does "
        "not compare."
    )


def _based_on(story: Story, basis: str) -> str:
    choice = story.choice
    ranked = (
        "the score of the spec's objectives"
        if choice.metric == "score"
        else METRICS[choice.metric].label.lower()
    )
    way = "highest" if choice.higher else "lowest"
    return (
        f"Ranked by {ranked} ({way} first), from rows that are {basis}.{_elsewhere(story)}{_remark(story)}"
        f"{_passed_over(story)}"
    )


def _numbers(row: Mapping[str, Any], metric: str) -> str:
    """The deciding metric and the two latencies, with units and intervals."""
    names = [metric, "output_tokens_per_s_per_device", "ttft_s", "tpot_s"]
    shown = []
    for name in dict.fromkeys(names):
        value = row.get(name)
        if name == "score" and value is not None:
            shown.append(f"score {significant(value)}")
        elif value is not None and name in METRICS:
            shown.append(f"{_phrase(name, value)}{_between(row, name)}")
    return ", ".join(shown[:4]) or "no numbers"


def _phrase(name: str, value: float) -> str:
    text = quantity(name, METRICS[name].unit, value)
    short = {
        "output_tokens_per_s_per_device": f"{text} per device",
        "ttft_s": f"first token after {text}",
        "tpot_s": f"{text} per token after it",
    }
    return short.get(name, f"{METRICS[name].label.lower()} {text}")


def _between(row: Mapping[str, Any], name: str) -> str:
    found = interval(row, name)
    return "" if not found else f" ({found})"


def interval(row: Mapping[str, Any], name: str) -> str:
    """`95 % interval 305 to 320 ms`; empty without one."""
    low, high = _ends(row, name)
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    unit = METRICS[name].unit if name in METRICS else ""
    scale = scale_for(name, unit, [row.get(name), low, high])
    level = "95 % interval" if row.get("basis") == "measured" else "90 % band"
    if name == "score":
        level = "score at the ends of all intervals:"
    number = [significant(v / scale.factor) for v in (low, high)]
    return f"{level} {number[0]} to {number[1]}{' ' + scale.unit if scale.unit else ''}"


# A rate by devices is the rate over a count, which is known exactly: its interval is the rate's.
_SHARED_INTERVAL: Final = {"output_tokens_per_s_per_device": "output_tokens_per_s"}


def _ends(row: Mapping[str, Any], name: str) -> tuple[float | None, float | None]:
    whole = _SHARED_INTERVAL.get(name)
    own = row.get(f"{name}_low"), row.get(f"{name}_high")
    if own != (None, None) or whole is None or not row.get(whole) or row.get(name) is None:
        return own
    low, high = _ends(row, whole)
    share = row[name] / row[whole]
    return (None, None) if low is None or high is None else (low * share, high * share)


def basis_of(row: Mapping[str, Any], *, long: bool = False) -> str:
    """What a row rests on, for people."""
    key = row.get("basis") or ("measured" if row.get("source") != "predicted" else "")
    words = (_LONG_BASIS if long else _BASIS).get(key, key or "of unknown basis")
    calibration = row.get("calibration")
    return f"{words} ({calibration})" if calibration and long else words


def tiles(story: Story) -> tuple[Tile, ...]:
    """The winner's numbers, each with source, n and interval, and how many points meet the requirements."""
    choice, winner = story.choice, story.winner
    if winner is None:
        return ()
    found: list[Tile] = []
    wanted = [choice.metric, *_TILES] if choice.metric in METRICS else list(_TILES)
    for name in dict.fromkeys(wanted):
        if winner.get(name) is None or (
            name == "output_tokens_per_s" and any(t.name.endswith("per_device") for t in found)
        ):
            continue
        if name == "time_s" and winner.get("e2e_s") is not None:
            continue
        found.append(_tile(winner, name))
    found = found[:_MOST_TILES]
    if choice.metric == "score" and winner.get("score") is not None:
        score = significant(winner["score"])
        found.insert(
            0,
            Tile(
                "Score",
                score,
                "",
                "1 is the reference",
                interval(winner, "score"),
                name="score",
                number=winner["score"],
            ),
        )
    if choice.requirements:
        share = f"{choice.qualified:,} of {choice.ok:,}"
        wanted_text = "; ".join(r.text for r in choice.requirements)
        if choice.workload:
            wanted_text = f"at {words(choice.workload)}: {wanted_text}"
        found.append(
            Tile(
                "Points that meet the requirements",
                share,
                "",
                wanted_text,
                tone="good" if choice.qualified else "bad",
                name="requirements",
            )
        )
    return tuple(found)


def _tile(winner: Mapping[str, Any], name: str) -> Tile:
    metric = METRICS[name]
    scale = scale_for(name, metric.unit, [winner[name]])
    n = winner.get(f"{name}_n")
    source = basis_of(winner) + (f", n = {int(n):,}" if n else "")
    spread = interval(winner, name) or _no_interval(winner)
    return Tile(
        metric.label,
        significant(winner[name] / scale.factor),
        scale.unit,
        source,
        spread,
        name,
        name=name,
        number=winner[name] / scale.factor,
    )


def _no_interval(row: Mapping[str, Any]) -> str:
    """Why a value stands alone."""
    if row.get("source") == "predicted":
        return "no interval: one computed value"
    return "no interval: fewer than two repeats"


def notices(story: Story) -> tuple[Notice, ...]:
    """Each reason why points are not ok: how many, which, and by how much memory falls short."""
    found: list[Notice] = []
    for status, (title, tone) in _STATUS.items():
        rows = story.rows.where(story.rows.mask("status", status))
        if rows.size:
            found += _by_reason(story, rows, status, title, tone)
    found += _impossible(story)
    found += _other_sources(story)
    for rule in story.choice.unread:
        found.append(Notice("requirement", "Requirement not applied", 1, _words(story, rule), tone="bad"))
    return tuple(found)


def unscored(problems: Sequence[str], redact: Redactor) -> list[Notice]:
    """Why the spec's scoring gave no score; what ranks the points instead stands with the answer."""
    return [
        Notice("unscored", "Score not worked out", 1, redact.text(problem), tone="bad")
        for problem in problems
    ]


def _impossible(story: Story) -> list[Notice]:
    """Rows above the roof of their device, from whatever source; they are never ranked."""
    import numpy as np

    places = np.flatnonzero(above_roof(story.found) & story.found.mask("status", "ok"))
    if not len(places):
        return []
    examples = tuple(story.name(row) for row in story.found.take(places[:_MOST_EXAMPLES]).rows())
    reason = (
        "more than all of the device's peak or bandwidth is used, which cannot be: look for a wrong "
        "device, skipped work, cached prompts, or a wrong count of tokens; these rows are not ranked"
    )
    return [Notice("impossible", "Above the roof", len(places), reason, examples, tone="bad")]


def _by_reason(story: Story, rows: Records, status: str, title: str, tone: Tone) -> list[Notice]:
    if status == "does_not_fit":
        return [_misfit(story, rows, title, tone)]
    import numpy as np

    codes, reasons = rows.codes("reason")
    groups = {reason or "no reason recorded": np.flatnonzero(codes == i) for i, reason in enumerate(reasons)}
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    found = []
    for reason, members in ordered[:_MOST_REASONS]:
        examples = tuple(story.name(row) for row in rows.take(members[:_MOST_EXAMPLES]).rows())
        found.append(Notice(status, title, len(members), _words(story, reason), examples, tone=tone))
    rest = sum(len(members) for _, members in ordered[_MOST_REASONS:])
    if rest:
        found.append(
            Notice(status, title, rest, f"for {len(ordered) - _MOST_REASONS:,} further reasons", tone=tone)
        )
    return found


def _misfit(story: Story, rows: Records, title: str, tone: Tone) -> Notice:
    import numpy as np

    free = rows.numbers("memory_free_bytes")
    known = np.flatnonzero(np.isfinite(free))
    detail = ""
    examples: tuple[str, ...] = ()
    if len(known):
        order = known[np.argsort(-free[known], kind="stable")]
        nearest = rows.take([int(order[0])]).rows()[0]
        furthest = rows.take([int(order[-1])]).rows()[0]
        detail = (
            f"Short by {quantity('memory_free_bytes', 'B', -nearest['memory_free_bytes'])} at the "
            f"least ({story.name(nearest)}) and "
            f"{quantity('memory_free_bytes', 'B', -furthest['memory_free_bytes'])} at the most "
            f"({story.name(furthest)})."
        )
    else:
        examples = tuple(
            story.name(row) for row in rows.take(list(range(min(_MOST_EXAMPLES, rows.size)))).rows()
        )
    codes, labels = rows.codes("hardware")
    devices = dict(zip(labels, np.bincount(codes, minlength=len(labels)).tolist(), strict=True))
    per = ", ".join(
        f"{story.redact.text(d)} {n:,}"
        for d, n in sorted(devices.items(), key=lambda i: story.device_rank(i[0]))
    )
    reason = "weights, KV cache, activations and reserve need more than the usable device memory"
    return Notice("does_not_fit", title, rows.size, f"{reason}; by device: {per}", examples, detail, tone)


def _other_sources(story: Story) -> list[Notice]:
    """Failures in rows that are not ranked; they must not vanish because another source is judged."""
    others = story.found.where(~story.found.mask("source", story.choice.source))
    found = []
    for source in dict.fromkeys(others.texts("source")):
        mine = others.where(others.mask("source", source) & others.mask("status", "failed", "skipped"))
        groups: dict[tuple[str, str], int] = {}
        for key in zip(mine.texts("status"), mine.texts("reason"), strict=True):
            groups[key] = groups.get(key, 0) + 1
        for (status, reason), count in sorted(groups.items(), key=lambda item: (-item[1], item[0]))[
            :_MOST_REASONS
        ]:
            title, tone = _STATUS[status]
            words = _words(story, reason or "no reason recorded")
            found.append(Notice(status, f"{title} ({source})", count, words, tone=tone))
    return found


def status_counts(story: Story) -> tuple[tuple[str, int], ...]:
    """(words, judged rows) for each status that occurs."""
    words = {"ok": "ok", "does_not_fit": "do not fit", "beyond_context": "beyond the model's context",
             "failed": "failed", "skipped": "skipped"}  # fmt: skip
    counts = ((text, int(story.rows.mask("status", status).sum())) for status, text in words.items())
    return tuple((text, count) for text, count in counts if count)
