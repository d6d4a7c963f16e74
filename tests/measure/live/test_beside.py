"""The bound and the estimate that stand in the row of a measured load."""

from __future__ import annotations

import pytest

from engine.measure.live.beside import predict_beside
from engine.measure.live.records import Level, Measured, Repeat, Request
from engine.measure.live.summary import Goals, summary_rows
from engine.plan.compile import compile_plan
from engine.spec.experiment import Experiment

LIVE = {"kind": "live", "target": {"kind": "local"}}


def point_of(*measurements, hardware="h100-sxm-80gb"):
    experiment = Experiment.model_validate(
        {
            "version": 1,
            "name": "beside",
            "model": "llama-3.1-8b",
            "hardware": hardware,
            "quantization": "bf16",
            "workload": {"prompt_tokens": 1024, "output_tokens": 128},
            "measurements": list(measurements) or [LIVE],
        }
    )
    return next(compile_plan(experiment).tasks[-1].points())


def test_a_batch_takes_what_the_analytical_row_of_that_batch_says():
    from engine.measure.analytical import measure_analytical
    from engine.measure.registry import Tools

    point = point_of()
    beside = predict_beside(point, sequences=8, served=False)
    experiment = {
        "version": 1,
        "name": "row",
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm-80gb",
        "quantization": "bf16",
        "workload": {"prompt_tokens": 1024, "output_tokens": 128, "batch_size": 8},
        "measurements": [{"kind": "analytical"}],
    }
    task = compile_plan(Experiment.model_validate(experiment)).tasks[0]
    rows = measure_analytical(task.settings, task, Tools(None, None, seed=1))["summary"].to_pylist()
    row = next(row for row in rows if row["phase"] == "request")
    found = beside.estimated("request")
    assert found.time_s == pytest.approx(row["e2e_s"], rel=1e-9)
    assert (found.low_s, found.high_s) == pytest.approx((row["e2e_s_low"], row["e2e_s_high"]), rel=1e-9)
    assert beside.bound_s("request") == pytest.approx(row["bound_time_s"], rel=1e-9)
    assert beside.estimated("decode").time_s == pytest.approx(row["tpot_s"], rel=1e-9)
    assert beside.calibration == row["calibration"]


def test_a_served_request_waits_and_shares_its_steps():
    beside = predict_beside(point_of(), sequences=32, served=True)
    request = beside.estimate.phases["request"]
    found = beside.estimated("request")
    assert found.time_s == request["serving_ttft_s"] + 127 * request["serving_tpot_s"]
    assert found.low_s < found.time_s < found.high_s


def test_the_bound_of_a_served_request_is_that_of_one_alone():
    """A server may put prompts of some and tokens of others into one step, so that a batch that runs prefill
    and decode one after the other is no bound of it."""
    alone = predict_beside(point_of(), sequences=1, served=True).bound_s("request")
    served = predict_beside(point_of(), sequences=64, served=True)
    assert served.bound_s("request") == alone
    assert predict_beside(point_of(), sequences=64, served=False).bound_s("request") > 1.5 * alone
    assert served.estimated("request").time_s > alone


@pytest.mark.parametrize(("tokens", "predicted"), [(128, True), (127, False)])
def test_nothing_is_predicted_for_answers_of_another_length(tokens, predicted):
    events = tuple(range(1, tokens + 1))
    request = Request(0, 0, 0, 0, tokens, event_ns=events, output_tokens=tokens, output_tokens_asked=128)
    measured = Measured(Level("concurrency 1", concurrency=1), [Repeat(0, [request], 0, tokens)])
    beside = predict_beside(point_of(), sequences=1, served=True)
    row = summary_rows(measured, Goals({}, 0.01, 128, 1024), beside)[0]
    assert ("bound_time_s" in row, "estimated_time_s" in row) == (predicted, predicted)


def test_without_a_parameter_set_there_is_a_bound_alone():
    beside = predict_beside(point_of(hardware="mi300x"), sequences=1, served=False)
    assert beside.bound_s("request") > 0
    assert beside.estimated("request") is None
    assert beside.calibration is None


def test_the_spec_says_which_parameters_it_is_put_beside():
    assert (
        predict_beside(
            point_of({"kind": "analytical", "calibration": "none"}, LIVE), sequences=1, served=False
        ).calibration
        is None
    )
    named = {"kind": "analytical", "calibration": "a100-sxm-80gb-vllm-0.14.0"}
    assert (
        predict_beside(point_of(named, LIVE), sequences=1, served=False).calibration
        == "a100-sxm-80gb-vllm-0.14.0"
    )
