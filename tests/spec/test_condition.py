"""Conditions on metrics, and how a spec that gets them wrong is told."""

import re
from pathlib import Path

import pytest

from engine.errors import EngineError, SpecError
from engine.metrics import METRICS
from engine.spec.condition import condition_pattern, example_condition
from engine.spec.document import read_document, validate
from engine.spec.experiment import Experiment
from engine.spec.scoring import Condition, parse_condition

HEAD = """
version: 1
name: a
model: llama-3.1-8b
hardware: h100-sxm-80gb
measurements: [{kind: analytical}]
"""


@pytest.mark.parametrize(
    "metric, text, expected",
    [
        ("ttft_s", "<= 500 ms", Condition("<=", 0.5)),
        ("ttft_s", "<=0.5", Condition("<=", 0.5)),
        ("ttft_s", " < 2 min ", Condition("<", 120.0)),
        ("memory_needed_bytes", "<= 80 GiB", Condition("<=", 80 * 2**30)),
        ("energy_per_output_token_j", "< 1.5 kJ", Condition("<", 1500.0)),
        ("output_tokens_per_s", ">= 1000", Condition(">=", 1000.0)),
        ("output_tokens_per_s", ">= 1000 tokens/s", Condition(">=", 1000.0)),
        ("thermal_headroom_c", "> -5 C", Condition(">", -5.0)),
        ("accuracy", ">= 0.9", Condition(">=", 0.9)),
    ],
)
def test_limit_is_in_the_metrics_base_unit(metric, text, expected):
    assert parse_condition(metric, text) == expected


@pytest.mark.parametrize(
    "metric, text, message, hint",
    [
        ("ttft_s", "500 ms", "`500 ms` is not a condition", "write a comparison, e.g. `<= 500 ms`"),
        ("accuracy", "0.9", "`0.9` is not a condition", "write a comparison, e.g. `>= 0.5`"),
        ("ttft_s", "<= -1", "`-1 s` is negative", "write a duration of zero or more"),
        ("ttft_s", "<= 80 GB", "`80 GB` is not a duration", "`GB` makes a size; write e.g. `500 ms`"),
        ("mfu", ">= 40 %", "`40 %` is no value of `mfu`", "write a number without a unit, e.g. `>= 0.5`"),
        ("mfu", ">= 1e999", "`1e999` is no value of `mfu`", "write a number without a unit, e.g. `>= 0.5`"),
        (
            "requests_per_s",
            ">= 5 tokens/s",
            "`5 tokens/s` is no value of `requests_per_s`",
            "write a number, optionally with the unit `requests/s`, e.g. `>= 100 requests/s`",
        ),
        ("ttft_ms", "<= 5", "there is no metric `ttft_ms`", "did you mean `ttft_s`?"),
        ("zzz", "<= 5", "there is no metric `zzz`", "`engine explain` lists them"),
    ],
)
def test_what_is_no_condition_is_refused_with_a_way_out(metric, text, message, hint):
    with pytest.raises(EngineError) as caught:
        parse_condition(metric, text)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_value_at_the_limit_holds_only_where_equality_is_allowed():
    assert [Condition(sign, 2.0).holds(2.0) for sign in ("<=", ">=", "<", ">")] == [True, True, False, False]
    assert not Condition("<=", 2.0).holds(float("nan"))


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_the_editors_pattern_and_the_parser_agree(metric):
    texts = [example_condition(metric), ">= 3", "<3.5e2", "< 5 apples", "3", "<= ", "== 3", ">= -2", "<= 1 s"]
    for text in texts:
        try:
            parse_condition(metric.name, text)
            accepted = True
        except EngineError:
            accepted = False
        assert bool(re.search(condition_pattern(metric), text)) == accepted, text


def test_each_mistake_in_a_spec_is_shown_at_its_own_place(tmp_path: Path):
    spec = tmp_path / "a.yaml"
    spec.write_text(
        HEAD.lstrip()
        + "scoring:\n"
        + "  objectives:\n"
        + "    - {metric: ttft_ms}\n"
        + "  require:\n"
        + '    output_token_per_s: ">= 5"\n'
        + "    tpot_s: 5\n"
        + '    e2e_s: "<= 500 mss"\n'
    )
    with pytest.raises(SpecError) as caught:
        validate(read_document(spec), Experiment)
    assert [(p.line, p.column, p.code, p.message, p.hint) for p in caught.value.problems] == [
        (8, 16, "unknown-metric", "`metric`: there is no metric `ttft_ms`", "did you mean `ttft_s`?"),
        (
            10, 5, "unknown-metric", "there is no metric `output_token_per_s`",
            "did you mean `output_tokens_per_s`?",
        ),
        (11, 13, "bad-condition", "`tpot_s`: `5` is not a condition", "write a comparison, e.g. `<= 500 ms`"),
        (
            12, 12, "bad-unit", "`e2e_s`: `500 mss` is not a duration",
            "use one of `s`, `ms`, `us`, `µs`, `ns`, `min`, `h`",
        ),
    ]  # fmt: skip


def test_conditions_are_kept_as_written(tmp_path: Path):
    spec = tmp_path / "a.yaml"
    spec.write_text(HEAD.lstrip() + 'scoring: {require: {ttft_s: "<= 500 ms"}}\n')
    experiment = validate(read_document(spec), Experiment)
    assert experiment.scoring is not None
    assert experiment.scoring.require == {"ttft_s": "<= 500 ms"}
