"""Presets over result tables: rows of training and inference become one judged score each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from engine.errors import UsageError
from engine.results.tables import make_table
from engine.score.nki_llama import (
    DISCREPANCIES,
    DOCUMENT_SCALE,
    InferenceScore,
    NkiLlamaScore,
    TrainingScore,
    known_accuracy,
    passed,
    threshold,
)
from engine.score.rows import is_one_of, judged_rows
from engine.spec.condition import parse_condition

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.spec.scoring import Scoring

Row = Mapping[str, Any]
_TOO_LARGE: Final = "the score is larger than any number: a reference, a base or a value is far off"


@dataclass(frozen=True)
class JudgedPreset:
    """One judged combination of a training row and an inference row."""

    point: int | None
    variant: str | None
    source: str
    phase: str
    row: int
    """Row of `summary` that stands for it: the inference row where there is one."""
    result: NkiLlamaScore | None
    """None when a number is missing; `reason` names it."""
    low: NkiLlamaScore | None
    """The same at the bad ends of the inputs' intervals; None without intervals."""
    high: NkiLlamaScore | None
    reason: str | None

    @property
    def least(self) -> float:
        """Score at the bad ends, the score itself without intervals."""
        found = self.low or self.result
        return found.score if found else 0.0

    @property
    def most(self) -> float:
        """Score at the good ends, the score itself without intervals."""
        found = self.high or self.result
        return found.score if found else 0.0


def judge_preset(scoring: Scoring, summary: pa.Table) -> tuple[JudgedPreset, ...]:
    """Every training row with every inference result that belongs to it, best first.

    An inference benchmark of the training run itself comes first; else the request rows of the judged
    source stand in, measured before predicted. Raises `UsageError` when there is nothing to judge.
    """
    training = _rows(summary, "training")
    if not training:
        raise UsageError(
            f"`preset: {scoring.preset}` needs a training run",
            hint="add a measurement of `kind: training`",
        )
    found: list[JudgedPreset] = []
    for place, row in training:
        requests = _inference_rows(scoring, summary, row["point"])
        if scoring.preset == "nki-llama-contest":
            found.append(_judge_contest(scoring, place, row, requests))
        elif not requests:
            found.append(_judge(scoring, place, row, None))
        else:
            found += [_judge(scoring, at, row, request) for at, request in requests]
    return tuple(sorted(found, key=lambda j: -j.result.score if j.result else float("inf")))


def _rows(summary: pa.Table, phase: str, **wanted: str) -> list[tuple[int, Row]]:
    import numpy as np

    mask = is_one_of(summary, "phase", phase) & is_one_of(summary, "status", "ok")
    for column, text in wanted.items():
        mask &= is_one_of(summary, column, text)
    places = np.flatnonzero(mask)
    return list(zip([int(i) for i in places], summary.take(places).to_pylist(), strict=True))


def _inference_rows(scoring: Scoring, summary: pa.Table, point: int | None) -> list[tuple[int, Row]]:
    own = [pair for pair in _rows(summary, "request", source="training") if pair[1]["point"] == point]
    if own or scoring.source == "training":
        return own
    others = judged_rows(summary, phase="request", source=scoring.source)
    if others.source is None or others.source == "training":
        return []
    rows = summary.take(others.rows).to_pylist()
    return [(int(i), row) for i, row in zip(others.rows, rows, strict=True) if row["status"] == "ok"]


def _judge(scoring: Scoring, place: int, training: Row, request: Row | None) -> JudgedPreset:
    reason = _missing(training, request) or _unmet(scoring, training, request)
    shown = request or training
    named = (
        shown["point"],
        shown.get("variant"),
        shown["source"],
        "request" if request else "training",
        place,
    )
    if reason:
        return JudgedPreset(*named, None, None, None, reason)
    value, low, high = (_result(scoring, training, request, end) for end in ("", "_low", "_high"))
    if not all(math.isfinite(end.score) for end in (value, low, high)):
        return JudgedPreset(*named, None, None, None, _TOO_LARGE)
    certain = low.score == high.score
    return JudgedPreset(*named, value, None if certain else low, None if certain else high, None)


def _missing(training: Row, request: Row | None) -> str | None:
    needed = [("training_mfu", training), ("training_sequences_per_s", training), ("kernel_ratio", training)]
    if request is not None:
        needed += [("e2e_s", request)]
    lacking = [name for name, row in needed if row.get(name) is None]
    if request is not None and _tokens(request, "") is None:
        lacking.append("total_tokens_per_s")
    if not lacking:
        return None
    return f"not known: {', '.join(f'`{name}`' for name in lacking)}"


def _unmet(scoring: Scoring, training: Row, request: Row | None) -> str | None:
    """What the requirements find wrong, in the inference row first."""
    for metric, text in scoring.require.items():
        found = [row[metric] for row in (request, training) if row and row.get(metric) is not None]
        if not found:
            return f"`{metric}` is not known, required {text}"
        if not parse_condition(metric, str(text)).holds(float(found[0])):
            return f"`{metric}` misses the required {text}"
    return None


def _result(scoring: Scoring, training: Row, request: Row | None, end: str) -> NkiLlamaScore:
    """The score of the values, or of the bad (`_low`) or good (`_high`) ends of their intervals."""
    preset = scoring.preset or "nki-llama"
    options = scoring.nki_llama
    ratio = float(training["kernel_ratio"])
    part = TrainingScore(
        _end(training, "training_mfu", end), _end(training, "training_sequences_per_s", end), ratio, options
    )
    if request is None:
        return NkiLlamaScore(preset, options, part, (), _notes(scoring, None))
    scale = DOCUMENT_SCALE if scoring.preset == "nki-llama-document" else 1.0
    ok = passed(request.get("accuracy"), options)
    if ok is None and scoring.preset == "nki-llama-document":
        ok = True  # the document's code has the constant 1 here, and prints a pass
    inference = InferenceScore(
        _end(request, "e2e_s", {"_low": "_high", "_high": "_low"}.get(end, "")),
        _tokens(request, end) or 0.0,
        ratio,
        options.reference_latency,
        options.reference_throughput,
        ok,
        scale,
        known_accuracy(request.get("accuracy"), options),
    )
    return NkiLlamaScore(preset, options, part, (inference,), _notes(scoring, request))


def _end(row: Row, metric: str, end: str) -> float:
    value = row.get(metric + end)
    return float(row[metric] if value is None else value)


def _tokens(row: Row, end: str) -> float | None:
    """Tokens per second of a request, prompt tokens included where the source counts them."""
    name = "total_tokens_per_s" if row.get("total_tokens_per_s") is not None else "output_tokens_per_s"
    return None if row.get(name) is None else _end(row, name, end)


def _judge_contest(
    scoring: Scoring, place: int, training: Row, requests: list[tuple[int, Row]]
) -> JudgedPreset:
    options = scoring.nki_llama
    named = (training["point"], None, training["source"], "request", place)
    by_variant = {row.get("variant"): row for _, row in requests}
    pairs: list[tuple[float, float, Row | None, str]] = [
        (p.latency, p.throughput, by_variant.get(f"prompt {p.prompt}"), f"`prompt {p.prompt}`")
        for p in options.prompts
    ] or [
        (options.reference_latency, options.reference_throughput, row, "the request") for _, row in requests
    ]
    lacking = [name for _, _, row, name in pairs if row is None or row.get("e2e_s_p99") is None]
    if training.get("kernel_ratio") is None:
        lacking.append("`kernel_ratio`")
    if lacking or not pairs:
        reason = (
            f"not known: {', '.join(lacking)} (99th percentile of latency)"
            if pairs
            else "no inference result"
        )
        return JudgedPreset(*named, None, None, None, reason)
    parts = tuple(
        InferenceScore(
            float(row["e2e_s_p99"]), _tokens(row, "") or 0.0, float(training["kernel_ratio"]),
            latency, throughput, passed(row.get("accuracy"), options),
            checks_passed=known_accuracy(row.get("accuracy"), options),
        )
        for latency, throughput, row, _ in pairs
        if row is not None
    )  # fmt: skip
    result = NkiLlamaScore("nki-llama-contest", options, None, parts, _notes(scoring, requests[0][1]))
    if not math.isfinite(result.score):
        return JudgedPreset(*named, None, None, None, _TOO_LARGE)
    return JudgedPreset(*named, result, None, None, None)


def _notes(scoring: Scoring, request: Row | None) -> tuple[str, ...]:
    return tuple(_sentences(scoring, request))


def _sentences(scoring: Scoring, request: Row | None) -> Iterator[str]:
    if request is None:
        yield "training-only mode: there is no inference result, so the training score stands alone"
        return
    if request.get("accuracy") is None and scoring.nki_llama.accuracy is None:
        yield "accuracy was not assessed and counts as 1"
    if request.get("total_tokens_per_s") is not None and request["source"] == "training":
        yield "inference throughput counts prompt tokens too"
    if scoring.preset == "nki-llama":
        yield f"formula of the text used (`preset: nki-llama`); {DISCREPANCIES[0].text}"
    elif scoring.preset == "nki-llama-document":
        yield (
            "inference score divided by 10,000 (`preset: nki-llama-document`) to give the numbers the "
            "document prints; `preset: nki-llama` is the formula of its text"
        )


def preset_tables(judged: tuple[JudgedPreset, ...]) -> tuple[pa.Table, pa.Table]:
    """Tables `scores` and `score_factors` of judged presets."""
    known = [j for j in judged if j.result]
    ranks = {id(j): 1 + sum(_above(o, j) for o in known) for j in known}
    best = {id(j): 1 + sum(o.least > j.most for o in known) for j in known}
    worst = {id(j): 1 + sum(o.most > j.least for o in known if o is not j) for j in known}
    scores = make_table(
        "scores",
        {
            "point": [j.point for j in judged],
            "source": [j.source for j in judged],
            "phase": [j.phase for j in judged],
            "variant": [j.variant for j in judged],
            "score": [j.result.score if j.result else None for j in judged],
            "score_low": [j.low.score if j.low else None for j in judged],
            "score_high": [j.high.score if j.high else None for j in judged],
            "rank": [ranks.get(id(j)) for j in judged],
            "rank_best": [best.get(id(j)) for j in judged],
            "rank_worst": [worst.get(id(j)) for j in judged],
            "eligible": [j.result is not None for j in judged],
            "reason": [j.reason for j in judged],
        },
    )
    rows = [{"point": j.point, "variant": j.variant, **row} for j in known for row in _rows_with_ends(j)]
    names = (
        "point",
        "variant",
        "part",
        "metric",
        "value",
        "reference",
        "factor",
        "factor_low",
        "factor_high",
        "weight",
        "contribution",
        "formula",
    )
    return scores, make_table("score_factors", {name: [row.get(name) for row in rows] for name in names})


def _rows_with_ends(judged: JudgedPreset) -> Iterator[Row]:
    """Every factor of a judged preset, with those at both ends of the inputs' intervals where they differ."""
    value = judged.result
    if value is None:
        return
    ends = (factor_rows(end or value) for end in (judged.low, judged.high))
    for row, low, high in zip(factor_rows(value), *ends, strict=True):
        certain = low["factor"] == high["factor"]
        yield dict(row) if certain else {**row, "factor_low": low["factor"], "factor_high": high["factor"]}


def _above(other: JudgedPreset, judged: JudgedPreset) -> bool:
    return bool(other.result and judged.result and other.result.score > judged.result.score)


def factor_rows(result: NkiLlamaScore) -> Iterator[Row]:
    """Every factor of a score, then the parts it adds up to."""
    if result.training is not None and result.mode != "inference_only":
        yield from _training_factors(result.training)
    for name, part in zip(result.parts, result.inference, strict=True):
        yield from _inference_factors(name, part, threshold(result.options))
    if result.mode == "combined" and result.training is not None:
        options = result.options
        inference = result.inference_score or 0.0
        for name, value, weight in (
            ("training score", result.training.score, options.training_weight),
            ("inference score", inference, options.inference_weight),
        ):
            yield {"part": "score", "metric": name, "value": value, "factor": value, "weight": weight,
                   "contribution": weight * value, "formula": "weight x part"}  # fmt: skip


def _training_factors(part: TrainingScore) -> Iterator[Row]:
    options = part.options
    first = "1" if options.kernel_term == "one_plus_ratio" else "0.1"
    for metric, value, reference, factor, formula in (
        ("training_mfu", part.mfu, options.base_mfu, part.mfu_improvement, "value / reference"),
        ("training_sequences_per_s", part.sequences_per_s, options.base_throughput,
         part.throughput_improvement, "value / reference"),
        ("loss improvement", options.loss_improvement, None, options.loss_improvement, "value"),
        ("convergence rate", options.convergence_rate, None, options.convergence_rate, "value"),
        ("kernel_ratio", part.kernel_ratio, None, part.kernel_factor, f"{first} + value"),
    ):  # fmt: skip
        yield {"part": "training", "metric": metric, "value": value, "reference": reference,
               "factor": factor, "weight": 1.0, "contribution": factor, "formula": formula}  # fmt: skip


def _inference_factors(name: str, part: InferenceScore, least: float) -> Iterator[Row]:
    known = part.checks_passed
    rows: list[tuple[str, float | None, float | None, float, str]] = [
        ("accuracy", known, None if known is None else least, part.accuracy,
         "1, not assessed" if known is None else "1 from the reference on, else 0"),
        ("e2e_s", part.latency_s, part.reference_latency_s, part.reduced_latency, "reference / value"),
        ("total_tokens_per_s", part.tokens_per_s, part.reference_tokens_per_s, part.increased_throughput,
         "value / reference"),
        ("kernel_ratio", part.kernel_ratio, None, 1 + part.kernel_ratio, "1 + value"),
    ]  # fmt: skip
    if part.scale != 1.0:
        rows.append(("document scale", part.scale, None, part.scale, "value"))
    for metric, value, reference, factor, formula in rows:
        yield {"part": name, "metric": metric, "value": value, "reference": reference,
               "factor": factor, "weight": 1.0, "contribution": factor, "formula": formula}  # fmt: skip


def per_file_scores(result: NkiLlamaScore, ratios: list[float | None]) -> list[float | None]:
    """The training score each compiled module would have by its own kernel ratio."""
    training = result.training
    if training is None:
        return [None] * len(ratios)
    return [None if ratio is None else replace(training, kernel_ratio=ratio).score for ratio in ratios]
