"""Estimates of whole models: above the bound, inside their bands, monotone, alike for one point and many."""

from dataclasses import replace

import numpy as np
import pytest

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.parameter_sets import Chosen, Law, choose
from engine.perfmodel.point import predict_point
from engine.perfmodel.program import compiled
from engine.perfmodel.summary import WorkloadArrays, summarise
from engine.spec.analytical import AnalyticalSettings
from engine.spec.calibration import Band, LawParameters, TimeRange
from engine.spec.catalog import load_calibrations, load_hardware, load_model, load_quantization
from engine.spec.hardware import Hardware
from engine.spec.workload import Parallelism, Workload

H100 = load_hardware("h100-sxm-80gb")
BAND = Band.model_validate({"low": 0.9, "high": 1.1, "rows": 20}, context={"trusted": True})
CHOSEN = choose("auto", H100, load_calibrations([H100]))


def deployment(
    model: str = "llama-3.1-8b", *, tensor: int = 1, quantization: str = "bf16", arrivals: float | None = None
) -> Deployment:
    settings = AnalyticalSettings.model_validate(
        {"kind": "analytical", "arrivals": arrivals}, context={"trusted": True}
    )
    return Deployment(
        load_model(model),
        H100,
        load_quantization(quantization),
        Parallelism(tensor=tensor),
        settings,
        calibration=CHOSEN,
    )


def request(found: Deployment, **workload: int) -> dict[str, float]:
    return predict_point(found, Workload(**workload)).phases["request"]


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite", "gemma-3-12b"])
@pytest.mark.parametrize("quantization", ["bf16", "fp8"])
def test_estimates_stand_above_the_bound_and_inside_their_band(model: str, quantization: str) -> None:
    found = deployment(model, tensor=4, quantization=quantization)
    for batch in (1, 7, 64):
        phases = predict_point(found, Workload(prompt_tokens=700, output_tokens=50, batch_size=batch)).phases
        for phase, metrics in phases.items():
            name = "e2e_s" if phase == "request" else "time_s"
            if phase == "decode_last":
                assert metrics["bound_time_s"] <= metrics["time_s"]
                continue
            low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
            assert metrics["bound_time_s"] <= low <= metrics["time_s"] <= high, phase


def test_the_estimate_of_a_known_deployment() -> None:
    # Llama-3.1-8B on one H100 with vLLM, batch 64: ML.ENERGY measured 11.5 ms between tokens in chats, and
    # AIConfigurator's tables give 46.7 ms of prefill for 2048 tokens; neither was fitted.
    chat = request(deployment(), prompt_tokens=1000, output_tokens=400, batch_size=64)
    assert chat["serving_tpot_s"] == pytest.approx(11.5e-3, rel=0.25)
    assert request(deployment(), prompt_tokens=2048, output_tokens=2)["ttft_s"] == pytest.approx(
        46.7e-3, rel=0.1
    )


def test_more_work_takes_longer() -> None:
    found = deployment()
    by_batch = [request(found, batch_size=b)["tpot_s"] for b in (1, 2, 4, 8, 16, 32, 64, 128)]
    by_prompt = [request(found, prompt_tokens=p)["tpot_s"] for p in (128, 256, 1024, 4096, 16384)]
    assert by_batch == sorted(by_batch)
    assert by_prompt == sorted(by_prompt)


def test_one_point_and_many_agree() -> None:
    found = deployment("mixtral-8x7b", tensor=2)
    batches, prompts = np.array([1, 3, 8, 8, 40, 8, 1, 3]), np.array([64, 100, 900, 2000, 64, 64, 64, 64])
    one = np.ones(1, dtype=np.int64)
    arrays = WorkloadArrays(prompts, 32 * one, batches, 0 * one, 0 * one, 0 * one)
    together = summarise(found, arrays).phases
    for i, (batch, prompt) in enumerate(zip(batches, prompts, strict=True)):
        single = predict_point(
            found, Workload(prompt_tokens=int(prompt), output_tokens=32, batch_size=int(batch))
        ).phases
        for phase in together:
            for name in single[phase].keys() & {"time_s", "time_s_low", "e2e_s_high", "bound_time_s"}:
                assert together[phase][name][i] == pytest.approx(single[phase][name], rel=1e-9), (phase, name)


def test_the_bound_does_not_move() -> None:
    plain = Deployment(load_model("llama-3-8b"), H100, load_quantization("bf16"))
    workload = Workload(prompt_tokens=2048, output_tokens=256, batch_size=8)
    bound = predict_point(plain, workload).phases
    estimate = predict_point(deployment("llama-3-8b"), workload).phases
    for phase, metrics in bound.items():
        assert estimate[phase]["bound_time_s"] == pytest.approx(metrics["time_s"], rel=1e-12)
        assert "bound_time_s" not in metrics
    # The golden bound: 5.151 ms for a step at batch 8.
    assert estimate["decode"]["bound_time_s"] == pytest.approx(5.151e-3, rel=2e-4)


def test_attention_in_the_middle_of_a_run_stands_for_all_its_steps() -> None:
    found = deployment()
    whole = request(found, prompt_tokens=512, output_tokens=65, batch_size=16)["generation_s"]
    steps = [
        predict_point(found, Workload(prompt_tokens=512 + i, output_tokens=2, batch_size=16)).phases["decode"]
        for i in range(64)
    ]
    assert whole == pytest.approx(sum(step["time_s"] for step in steps), rel=1e-3)


def test_kernels_are_those_an_engine_launches() -> None:
    timing = compiled(deployment()).timing
    assert timing is not None
    families = [(timed.kernel.family, timed.kernel.columns, timed.count) for timed in timing.common]
    # Joined projections: 4096 + 2 x 1024 columns, and 2 x 14336.
    assert ("gemm", 6144, 32) in families
    assert ("gemm", 28672, 32) in families
    assert [f for f in families if f[0] == "attention"] == [("attention", 0, 32)]


def test_serving_adds_the_share_of_prefills() -> None:
    found = request(deployment(), prompt_tokens=2048, output_tokens=256, batch_size=32)
    assert CHOSEN is not None
    assert CHOSEN.request is not None
    # Of the 32 in a batch, each waits for the prefills of the 31 others.
    share = CHOSEN.request.interference * found["ttft_s"] * 31 / 32 / 256
    assert found["serving_interference_s"] == pytest.approx(share)
    assert found["serving_tpot_s"] == pytest.approx(found["tpot_s"] + share)
    whole = found["serving_ttft_s"] + 255 * found["serving_tpot_s"]
    assert found["serving_output_tokens_per_s"] == pytest.approx(32 * 256 / whole)
    assert found["serving_tpot_s_low"] <= found["serving_tpot_s"] <= found["serving_tpot_s_high"]


def test_a_queue_grows_with_arrivals_and_is_absent_where_it_never_ends() -> None:
    shape = {"prompt_tokens": 512, "output_tokens": 128, "batch_size": 16}
    rate = request(deployment(), **shape)["serving_output_tokens_per_s"] / 128
    waits = [
        request(deployment(arrivals=rate * load), **shape)["serving_queue_s"] for load in (0.5, 0.8, 0.9)
    ]
    assert waits == sorted(waits)
    assert waits[0] < 1e-2
    assert np.isnan(request(deployment(arrivals=1.2 * rate), **shape)["serving_queue_s"])
    assert "serving_queue_s" not in request(deployment(), **shape)


def test_energy_comes_with_the_set_and_stays_below_the_boards() -> None:
    found = request(deployment(tensor=4), batch_size=64)
    assert found["energy_j"] <= 4 * 700 * found["time_s"] * (1 + 1e-12)
    low, high = found["energy_per_output_token_j_low"], found["energy_per_output_token_j_high"]
    assert low < found["energy_per_output_token_j"] < high


def test_sizes_never_fitted_are_flagged() -> None:
    # A prompt of half a million tokens: an attention kernel of seconds, where 45 ms was the longest fitted.
    long = request(deployment("llama-3.1-8b", tensor=4), prompt_tokens=100_000, output_tokens=2)
    assert long["extrapolated"]
    assert not request(deployment(), prompt_tokens=2048, output_tokens=64, batch_size=8)["extrapolated"]


def test_packed_weights_are_flagged_and_surer_of_less() -> None:
    plain, packed = compiled(deployment()).timing, compiled(deployment(quantization="w4a16-g128")).timing
    assert plain is not None
    assert packed is not None
    assert plain.notes == ()
    assert packed.notes == ("packed weights take the efficiencies of plain ones, with a wider band",)
    widths = [
        {timed.law.widened for timed in timing.common if timed.kernel.family == "gemm"}
        for timing in (plain, packed)
    ]
    assert widths == [{1.0}, {1.4}]


def test_a_single_row_has_its_own_rate_within_a_model_too() -> None:
    # A CPU that reads weights at half its bandwidth for one row and at a tenth for more: a decode step at
    # batch 1 is little else than weights.
    cpu = Hardware.model_validate(
        {"name": "cpu", "peak": {"bf16": 1e14}, "memory": 64e9, "memory_bandwidth": 1e11},
        context={"trusted": True},
    )
    laws = {}
    for kind in ("gemm", "prefill_attention", "decode_attention", "elementwise"):
        given = {"launch": 0.0, "memory_efficiency": 0.1, "single_row": 0.5 if kind == "gemm" else None}
        p = LawParameters.model_validate(given, context={"trusted": True})
        everywhere = TimeRange.model_construct(low=0.0, high=1e9)
        laws[kind, "bf16"] = Law("overlapped", p, p, (BAND,), everywhere, "", False, 1.0)
    chosen = Chosen("", laws, (), True, None, None, None, False, 1.0, ())
    model = load_model("llama-3.1-8b")
    found = Deployment(model, cpu, load_quantization("bf16"), calibration=chosen)
    step = {
        batch: predict_point(found, Workload(prompt_tokens=1, output_tokens=2, batch_size=batch)).phases[
            "decode"
        ]
        for batch in (1, 2)
    }
    # 15.0 GB of weights without the embedding table: 0.30 s at half the bandwidth, 1.5 s at a tenth.
    assert step[1]["time_s"] == pytest.approx(0.30, rel=0.02)
    assert step[2]["time_s"] == pytest.approx(1.50, rel=0.02)


def test_who_is_alone_waits_for_no_prefill() -> None:
    found = request(deployment(), prompt_tokens=2048, output_tokens=256, batch_size=1)
    assert found["serving_interference_s"] == 0
    assert found["serving_tpot_s"] == found["tpot_s"]
    assert found["serving_ttft_s"] == found["ttft_s"]
    only_first = request(deployment(), prompt_tokens=2048, output_tokens=1, batch_size=1)
    assert only_first["serving_ttft_s"] == only_first["ttft_s"]


def test_what_passes_between_the_matrices_of_an_expert_is_moved() -> None:
    timing = compiled(deployment("mixtral-8x7b")).timing
    assert timing is not None
    (experts,) = [timed.kernel for timed in timing.common if timed.kernel.family == "experts"]
    # 4096 in and out of each row, and 6 x 14336 between: gate and up write, the activation reads and writes.
    assert dict(experts.bytes)["R"] == (2 * 4096 + 6 * 14336) * 2


def test_tiles_of_experts_are_worked_on_whole() -> None:
    phases = predict_point(
        deployment("mixtral-8x7b", tensor=2), Workload(prompt_tokens=4096, output_tokens=5, batch_size=1)
    ).phases
    decode, prefill = phases["decode"], phases["prefill"]
    # One token has two experts with a row each: 2 x 128 - 2 rows are empty, of 3 matrices in 32 layers.
    assert decode["tile_flops"] - decode["flops"] == pytest.approx(254 * 2 * 3 * 4096 * 14336 * 32)
    # A prompt fills them: 8192 rows for 8 experts.
    assert prefill["tile_flops"] == prefill["flops"]
    whole = phases["request"]
    assert whole["tile_flops"] - whole["flops"] == pytest.approx(4 * (decode["tile_flops"] - decode["flops"]))
    assert "tile_flops" not in predict_point(deployment(), Workload(output_tokens=5)).phases["request"]


def test_a_long_prompt_takes_the_layers_of_experts_longer() -> None:
    assert CHOSEN is not None
    assert CHOSEN.request is not None
    plain = replace(
        CHOSEN, request=CHOSEN.request.model_copy(update={"expert_prompt": 0.0, "interference": 1.0})
    )
    waits = CHOSEN.request.model_copy(update={"expert_prompt": 1e-3, "interference": 1.0})
    # 512 tokens and more outgrow the captured graphs, 256 and fewer do not, half of those between do.
    for prompt, together, apart in ((2048, 1, 1), (384, 1, 0.5), (192, 0.5, 0), (128, 0, 0)):
        without, found = (
            request(replace(deployment("mixtral-8x7b", tensor=2), calibration=chosen), prompt_tokens=prompt,
                    output_tokens=100, batch_size=2)
            for chosen in (plain, replace(CHOSEN, request=waits))
        )  # fmt: skip
        # 32 layers, once for both prompts of a batch; under load the other prompt is a step of its own.
        assert found["ttft_s"] - without["ttft_s"] == pytest.approx(0.032 * together, abs=1e-12)
        gained = found["serving_interference_s"] - without["serving_interference_s"]
        assert gained == pytest.approx(0.032 * apart / 100, abs=1e-12)
        assert found["tpot_s"] == without["tpot_s"]
    dense = replace(deployment(), calibration=replace(CHOSEN, request=waits))
    assert request(dense, prompt_tokens=2048)["ttft_s"] == request(deployment(), prompt_tokens=2048)["ttft_s"]
