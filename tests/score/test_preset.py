"""Presets over result tables: which rows meet, what is missing, what the intervals do."""

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from engine.errors import UsageError
from engine.results.tables import make_table
from engine.score.nki_llama import DISCREPANCIES
from engine.score.weights import ScoreResult, score
from engine.spec.scoring import Scoring

MFU, RATIO = 0.15476632087498107, 121543255 / 658414167
TRAINING = {
    "point": 0, "source": "training", "phase": "training", "status": "ok", "training_mfu": MFU,
    "training_sequences_per_s": 2.1, "kernel_ratio": RATIO,
}  # fmt: skip
BENCHMARK = {
    "point": 0, "source": "training", "phase": "request", "variant": "e2e_model", "status": "ok",
    "e2e_s": 12.13149, "total_tokens_per_s": 52.76,
}  # fmt: skip


def table(*rows: dict[str, Any]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return make_table("summary", {name: [row.get(name) for row in rows] for name in names})


def judge(*rows: dict[str, Any], **scoring: Any) -> ScoreResult:
    found = Scoring.model_validate({"preset": "nki-llama", **scoring})
    return score(found, make_table("points", {"point": [0]}), table(*rows))


def test_the_documents_numbers_come_out_of_tables() -> None:
    (row,) = judge(TRAINING, BENCHMARK).scores.to_pylist()
    assert row["score"] == pytest.approx(15.4586, abs=5e-5)
    assert (row["rank"], row["variant"], row["score_low"]) == (1, "e2e_model", None)
    (row,) = judge(TRAINING, BENCHMARK, preset="nki-llama-document").scores.to_pylist()
    assert row["score"] == pytest.approx(0.0046256, abs=5e-8)


def test_training_alone() -> None:
    found = judge(TRAINING)
    assert found.scores["score"].to_pylist() == [pytest.approx(0.00770012, abs=5e-9)]
    assert found.notes == (
        "training-only mode: there is no inference result, so the training score stands alone",
    )


def test_factors_give_the_parts_and_the_parts_the_score() -> None:
    found = judge(TRAINING, BENCHMARK)
    rows = found.factors().to_pylist()
    product = {"training": 1.0, "inference": 1.0}
    for row in rows:
        if row["part"] in product:
            product[row["part"]] *= row["factor"]
    parts = [row for row in rows if row["part"] == "score"]
    assert [row["value"] for row in parts] == pytest.approx(list(product.values()))
    assert sum(row["contribution"] for row in parts) == pytest.approx(found.scores["score"][0].as_py())
    assert [row["weight"] for row in parts] == [0.4, 0.6]


@pytest.mark.parametrize("source", ["predicted", "live"])
def test_any_result_of_ours_instead_of_a_report(source: str) -> None:
    rows = [
        {**BENCHMARK, "point": n, "source": source, "e2e_s": 10.0 / n, "total_tokens_per_s": 20.0}
        for n in (1, 2)
    ]
    found = judge(TRAINING, *rows)
    assert found.scores["point"].to_pylist() == [2, 1]  # best first
    assert found.scores["source"].to_pylist() == [source, source]
    training = 0.4 * 0.00770012
    expected = [training + 0.6 * 50 / latency * 2 * (1 + RATIO) for latency in (5.0, 10.0)]
    assert found.scores["score"].to_pylist() == pytest.approx(expected, rel=1e-6)


def test_output_tokens_stand_in_where_no_total_is_known() -> None:
    row = {**BENCHMARK, "total_tokens_per_s": None, "output_tokens_per_s": 52.76}
    assert (
        judge(TRAINING, row).scores["score"].to_pylist()
        == judge(TRAINING, BENCHMARK).scores["score"].to_pylist()
    )


@pytest.mark.parametrize("name", ["training_mfu", "training_sequences_per_s", "kernel_ratio"])
def test_what_is_missing_is_no_score_and_named(name: str) -> None:
    found = judge({**TRAINING, name: None}, BENCHMARK)
    (row,) = found.scores.to_pylist()
    assert (row["score"], row["rank"], row["eligible"]) == (None, None, False)
    assert row["reason"] == f"not known: `{name}`"
    assert found.ranked == 0


@pytest.mark.parametrize(
    ("require", "reason"),
    [
        ({"e2e_s": "<= 13 s", "training_mfu": ">= 0.1"}, None),
        ({"e2e_s": "<= 10 s"}, "`e2e_s` misses the required <= 10 s"),
        ({"training_mfu": ">= 0.4"}, "`training_mfu` misses the required >= 0.4"),
        ({"accuracy": ">= 0.9"}, "`accuracy` is not known, required >= 0.9"),
    ],
)
def test_requirements_hold_for_presets_too(require: dict[str, str], reason: str | None) -> None:
    (row,) = judge(TRAINING, BENCHMARK, require=require).scores.to_pylist()
    assert (row["reason"], row["eligible"]) == (reason, reason is None)


def test_intervals_of_the_inputs_reach_the_score() -> None:
    training = {**TRAINING, "training_sequences_per_s_low": 2.0, "training_sequences_per_s_high": 2.2}
    request = {**BENCHMARK, "e2e_s_low": 12.0, "e2e_s_high": 13.0}
    (row,) = judge(training, request).scores.to_pylist()
    low = 0.4 * 0.00770012 * 2.0 / 2.1 + 0.6 * 50 / 13.0 * 5.276 * (1 + RATIO)
    high = 0.4 * 0.00770012 * 2.2 / 2.1 + 0.6 * 50 / 12.0 * 5.276 * (1 + RATIO)
    assert (row["score_low"], row["score_high"]) == (
        pytest.approx(low, rel=1e-6),
        pytest.approx(high, rel=1e-6),
    )


def test_factors_carry_the_ends_of_their_inputs() -> None:
    training = {**TRAINING, "training_sequences_per_s_low": 2.0, "training_sequences_per_s_high": 2.2}
    rows = judge(training, {**BENCHMARK, "e2e_s_low": 12.0, "e2e_s_high": 12.5}).factors().to_pylist()
    ends = {row["metric"]: (row["factor_low"], row["factor_high"]) for row in rows}
    assert ends["training_sequences_per_s"] == pytest.approx((0.020, 0.022))
    assert ends["e2e_s"] == pytest.approx((50 / 12.5, 50 / 12.0))  # a longer latency is the bad end
    assert ends["training_mfu"] == ends["accuracy"] == ends["total_tokens_per_s"] == (None, None)


def test_ranks_that_the_intervals_allow() -> None:
    found = [
        {**BENCHMARK, "variant": f"prompt {i}", "e2e_s": mid, "e2e_s_low": low, "e2e_s_high": high}
        for i, (low, mid, high) in enumerate([(9.0, 10.0, 11.5), (11.0, 12.0, 13.0), (20.0, 21.0, 22.0)])
    ]
    rows = judge(TRAINING, *found).scores.to_pylist()
    # The first two overlap between 11 and 11.5 s; the third is behind both whatever happens.
    assert [(row["rank"], row["rank_best"], row["rank_worst"]) for row in rows] == [
        (1, 1, 2),
        (2, 1, 2),
        (3, 3, 3),
    ]


def test_a_preset_needs_a_training_run() -> None:
    with pytest.raises(UsageError) as caught:
        judge({**BENCHMARK, "source": "live"})
    assert caught.value.message == "`preset: nki-llama` needs a training run"


def test_every_factor_helps() -> None:
    before = judge(TRAINING, BENCHMARK).scores["score"][0].as_py()
    better = [
        ({**TRAINING, "training_mfu": 2 * MFU}, BENCHMARK),
        ({**TRAINING, "training_sequences_per_s": 4.2}, BENCHMARK),
        ({**TRAINING, "kernel_ratio": 0.5}, BENCHMARK),
        (TRAINING, {**BENCHMARK, "e2e_s": 6.0}),
        (TRAINING, {**BENCHMARK, "total_tokens_per_s": 60.0}),
    ]
    assert all(judge(*rows).scores["score"][0].as_py() > before for rows in better)


def test_the_contest_names_prompts_without_a_percentile() -> None:
    found = judge(TRAINING, BENCHMARK, preset="nki-llama-contest")
    assert found.scores["reason"].to_pylist() == ["not known: the request (99th percentile of latency)"]


@pytest.mark.parametrize(
    ("scoring", "message"),
    [
        ({"objectives": [{"metric": "ttft_s"}]}, "brings its own objectives"),
        ({"nki_llama": {"training_weight": 0.5}}, "add up to 1.1, not 1"),
        ({"nki_llama": {"reference_throughput": 0}}, "greater than 0"),
        ({"nki_llama": {"reference_latency": "0 ms"}}, "must be above 0"),
        ({"nki_llama": {"base_mfu": 0.0}}, "greater than 0"),
        ({"nki_llama": {"accuracy": 1.5}}, "less than or equal to 1"),
        ({"preset": "nki"}, "Input should be"),
        ({"preset": None, "nki_llama": {"base_mfu": 0.4}}, "`nki_llama` belongs to `preset`"),
        ({"penalty": 0.1}, "`penalty` belongs to `missing: penalty`, not to `missing: exclude`"),
    ],
)
def test_wrong_presets(scoring: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Scoring.model_validate({"preset": "nki-llama", **scoring})
    assert message in str(caught.value)


def test_discrepancies_name_field_numbers_and_ratio() -> None:
    first = DISCREPANCIES[0]
    assert (first.code, first.field, first.document) == ("score-scale", "component_scores.inference", 0.0026)
    assert first.computed == pytest.approx(50000 / 12131.49 * 5.276 * (1 + RATIO), rel=1e-6)
    assert first.ratio == pytest.approx(1e-4, rel=0.02)  # the printed number has two digits
    assert {d.code for d in DISCREPANCIES} == {"score-scale", "latency-reduction", "throughput-increase"}
