"""Terms of whole requests: recovered from synthetic servers, refused and dropped with a reason."""

from dataclasses import replace

import numpy as np
import pytest

from engine.errors import UsageError
from engine.perfmodel.assemble import fitted_requests, with_requests
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.parameter_sets import Chosen, choose
from engine.perfmodel.request_law import fit_requests
from engine.perfmodel.request_rows import RunKey, RunRows, gated_runs, predicted_request
from engine.spec.catalog import load_calibrations, load_hardware, load_model, load_quantization
from engine.spec.hardware import Hardware

H100 = load_hardware("h100-sxm-80gb")
SETS = load_calibrations([H100])
BF16 = load_quantization("bf16")
LONE = Hardware.model_validate(
    {
        "name": "lone",
        "vendor": "nobody",
        "peak": {"bf16": "400 TFLOP/s"},
        "memory": "80 GB",
        "memory_bandwidth": "2 TB/s",
    }
)


def rows(hardware: Hardware, *, continuous: bool) -> RunRows:
    """Four models at four batches and two prompt lengths, times still unknown."""
    names = ("llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b", "llama-2-13b")
    grid = [(i, p, b) for i in range(len(names)) for p in (200, 1500) for b in (1, 4, 16, 64)]
    which, prompt, batch = (np.array(column, dtype=np.int64) for column in zip(*grid, strict=True))
    nothing = np.full(len(grid), np.nan)
    return RunRows(
        deployments=tuple(Deployment(load_model(name), hardware, BF16) for name in names),
        which=which,
        prompt_tokens=prompt,
        output_tokens=np.full(len(grid), 128, dtype=np.int64),
        batch_size=batch,
        continuous=np.full(len(grid), continuous),
        tpot_s=nothing,
        ttft_s=nothing,
        energy_j=nothing,
    )


def own() -> Chosen:
    chosen = choose("auto", H100, SETS)
    assert chosen is not None
    return replace(chosen, request=None)


def served(step_s: float, share: float) -> RunRows:
    """A server with fitted operators whose steps take `step_s` longer and wait for `share` of prefills."""
    found = rows(H100, continuous=True)
    times = predicted_request(found, own())
    tpot = times["tpot_s"] + step_s + share * times["ttft_s"] / found.output_tokens
    return replace(found, tpot_s=tpot, ttft_s=times["ttft_s"])


def test_step_and_interference_of_a_known_server_are_found() -> None:
    outcome = fit_requests(served(1.5e-3, 0.8), own(), source="synthetic")
    assert outcome.request.step == pytest.approx(1.5e-3, rel=0.02)
    assert outcome.request.interference == pytest.approx(0.8, rel=0.02)
    assert outcome.operators == ()
    assert outcome.request.held_out.median < 0.01
    assert outcome.request.rows == 32


def test_efficiencies_of_a_device_without_operators_are_found() -> None:
    found = rows(LONE, continuous=False)
    # Kernels at half the peak and four fifths of the bandwidth are what two slower data sheets would give.
    slow = LONE.model_copy(
        update={"peak": LONE.peak.model_copy(update={"bf16": 200e12}), "memory_bandwidth": 1.6e12}
    )
    deployments = tuple(replace(d, hardware=slow) for d in found.deployments)
    bound = predicted_request(replace(found, deployments=deployments), None)
    found = replace(found, tpot_s=bound["tpot_s"] + 2e-3, ttft_s=bound["ttft_s"] + 2e-3)
    outcome = fit_requests(found, None, source="synthetic")
    (operator,) = outcome.operators
    # The bound takes the larger of both times of an operator and a kernel their fourth mean: a few percent.
    assert operator.parameters.memory_efficiency == pytest.approx(0.8, rel=0.05)
    assert operator.parameters.compute_efficiency == pytest.approx(0.5, rel=0.1)
    assert outcome.host is not None
    assert outcome.host.step == pytest.approx(2e-3, rel=0.1)
    assert outcome.request.held_out.median < 0.05


def test_a_set_of_whole_requests_predicts_what_was_measured() -> None:
    found = rows(LONE, continuous=False)
    bound = predicted_request(found, None)
    found = replace(found, tpot_s=1.5 * bound["tpot_s"] + 1e-3, ttft_s=2 * bound["ttft_s"])
    key = RunKey("lone", "mine", "1")
    requests = fitted_requests({key: found}, {}, {}, source="synthetic", ignored={})
    made = with_requests({}, requests, {key: found}, source="synthetic", fitted="2026-11-20")
    assert list(made) == ["lone-mine-1"]
    chosen = choose("lone-mine-1", LONE, made)
    predicted = predicted_request(found, chosen)
    assert np.median(np.abs(predicted["tpot_s"] / found.tpot_s - 1)) < 0.1
    assert np.median(np.abs(predicted["ttft_s"] / found.ttft_s - 1)) < 0.15


def test_impossible_and_absent_times_are_counted() -> None:
    found = served(1e-3, 0.8)
    tpot, ttft = found.tpot_s.copy(), found.ttft_s.copy()
    tpot[0] /= 1000  # milliseconds taken for seconds twice
    tpot[1] = ttft[1] = np.nan
    tpot[2] = ttft[2] = -1.0
    tpot[3] = ttft[3] = 9e4
    gated = gated_runs(replace(found, tpot_s=tpot, ttft_s=ttft))
    assert gated.dropped == {"no time between zero and an hour": 3, "faster than the data sheet allows": 1}
    assert len(gated.rows) == 28


def test_too_few_runs_are_refused() -> None:
    few = served(1e-3, 0.8).take(np.arange(4))
    with pytest.raises(UsageError, match="4 usable runs of 4 configurations, a fit needs 6 of 3"):
        fit_requests(few, own(), source="synthetic")


def test_times_to_the_first_token_under_load_are_no_prefills() -> None:
    found = served(1e-3, 0.8)
    lone = found.batch_size == 1
    assert np.isfinite(found.prefill_s[lone]).all()
    assert np.isnan(found.prefill_s[~lone]).all()


def test_energy_of_a_known_board_is_found() -> None:
    found = served(1e-3, 0.0)
    found = replace(found, continuous=np.zeros(len(found), dtype=np.bool_))
    work = predicted_request(found, own())
    tokens = found.batch_size * found.output_tokens
    time = (found.ttft_s + (found.output_tokens - 1) * found.tpot_s) / tokens
    joules = 100 * time + 5e-11 * work["memory_traffic_bytes"] / tokens + 4e-13 * work["tile_flops"] / tokens
    outcome = fit_requests(replace(found, energy_j=joules), own(), source="synthetic")
    assert outcome.energy is not None
    assert outcome.energy.coefficients.static_power == pytest.approx(100, rel=0.02)
    assert outcome.energy.coefficients.per_byte == pytest.approx(5e-11, rel=0.02)
    assert outcome.energy.held_out.median < 0.01
