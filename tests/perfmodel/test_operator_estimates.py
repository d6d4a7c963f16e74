"""Estimates of single operators: they add up to the phase, share kernels by their bounds, and say why not."""

import pytest

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.parameter_sets import choose
from engine.perfmodel.point import predict_point
from engine.perfmodel.rows import OPERATOR_PHASES, OperatorRow, operator_rows
from engine.spec.analytical import AnalyticalSettings
from engine.spec.catalog import load_calibrations, load_hardware, load_model, load_quantization
from engine.spec.workload import Parallelism, Workload

H100 = load_hardware("h100-sxm-80gb")
SETS = load_calibrations([H100])
WORK = Workload(prompt_tokens=700, output_tokens=50, batch_size=8)


def deployment(
    model: str = "llama-3.1-8b", *, wanted: str = "auto", device: str = "h100-sxm-80gb", **split: float
) -> Deployment:
    hardware = load_hardware(device)
    trusted = {"trusted": True}
    settings = AnalyticalSettings.model_validate(
        {"kind": "analytical", "calibration": wanted}, context=trusted
    )
    return Deployment(
        load_model(model),
        hardware,
        load_quantization("bf16"),
        Parallelism.model_validate(split, context=trusted),
        settings,
        choose(wanted, hardware, load_calibrations([hardware])),
    )


def named(rows: list[OperatorRow]) -> dict[str, OperatorRow]:
    return {f"{row.layer_kind} {row.operator}": row for row in rows}


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite", "gemma-3-12b"])
@pytest.mark.parametrize(
    "split", [{"tensor": 4}, {"tensor": 4, "overlap": 0.5}, {"tensor": 2, "pipeline": 2}]
)
def test_operators_add_up_to_the_phase(model: str, split: dict[str, float]) -> None:
    found = deployment(model, **split)
    phases = predict_point(found, WORK).phases
    for phase in OPERATOR_PHASES:
        rows = operator_rows(found, WORK, phases=[phase])
        estimates = [(row.estimate_s, row.count) for row in rows if row.estimate_s is not None]
        assert sum(time * count for time, count in estimates) == pytest.approx(phases[phase]["time_s"])
        assert sum(r.time_s * r.count for r in rows) == pytest.approx(phases[phase]["bound_time_s"])


def test_operators_of_one_kernel_share_it_as_they_share_its_bounds() -> None:
    rows = named(operator_rows(deployment(), WORK, phases=["decode"]))
    q, k = rows["full+dense q"], rows["full+dense k"]
    assert q.estimate_s is not None
    assert k.estimate_s is not None
    assert q.estimate_s / k.estimate_s == pytest.approx(q.time_s / k.time_s)
    assert (q.estimate_note, k.estimate_note) == ("in one kernel with k, v", "in one kernel with q, v")
    assert rows["full+dense o"].estimate_note == ""


def test_every_estimate_lies_in_its_band() -> None:
    rows = operator_rows(deployment(tensor=2), WORK, phases=["prefill"])
    for row in rows:
        if row.estimate_low_s is not None and row.estimate_high_s is not None:
            assert row.estimate_low_s <= (row.estimate_s or 0) <= row.estimate_high_s, row.operator
    assert [row.operator for row in rows if row.estimate_high_s is None] in ([], ["between kernels"])


def test_what_an_engine_does_between_kernels_is_a_row_without_work_or_band() -> None:
    last = operator_rows(deployment(tensor=2), WORK, phases=["decode"])[-1]
    step = SETS["h100-sxm-80gb-vllm-0.24.0"].request
    host = SETS["h100-sxm-80gb-vllm-0.24.0"].host
    assert (last.layer_kind, last.operator, last.bound, last.flops) == ("engine", "between kernels", None, 0)
    expected = (0 if step is None else step.step + step.collective_step) + (
        0 if host is None else host.step + host.layer * 32
    )
    assert last.estimate_s == pytest.approx(expected)
    assert (last.estimate_low_s, last.estimate_note) == (None, "has no band of its own")


@pytest.mark.parametrize(
    ("wanted", "device", "why"),
    [
        ("none", "h100-sxm-80gb", "the experiment asks for bounds (`calibration: none`)"),
        ("auto", "mi300x", "no fitted parameters for `AMD Instinct MI300X`"),
    ],
)
def test_without_parameters_every_operator_says_why(wanted: str, device: str, why: str) -> None:
    rows = operator_rows(deployment(wanted=wanted, device=device), WORK)
    assert {(row.estimate_s, row.estimate_note) for row in rows} == {(None, why)}


def test_a_form_of_attention_that_the_estimate_does_not_take_is_blank() -> None:
    # By bounds one sequence is quickest absorbed; with launches of kernels, expanded.
    work = Workload(prompt_tokens=700, output_tokens=50)
    rows = named(operator_rows(deployment("deepseek-v2-lite", tensor=4), work, phases=["decode"]))
    scores = rows["full+dense scores"]
    assert scores.estimate_s is None
    assert (
        scores.estimate_note == "the estimate takes the other form of latent attention, which is faster here"
    )
