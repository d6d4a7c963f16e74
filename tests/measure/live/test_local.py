"""A model in this process: the shape that was asked for, exact counts, and memory by the formula."""

from __future__ import annotations

import pytest

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure.live import oom
from engine.spec.catalog import load_hardware, load_model, load_quantization
from engine.spec.model import Model
from tests.measure.live.conftest import TINY

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

QUICK = {"repeats": 2, "warmup": "0 s", "check_oom": False}
CPU = {"kind": "local", "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def local():
    from engine.measure.local_model import LocalRequest, build_local_model

    return build_local_model(LocalRequest(Model.model_validate(TINY), device="cpu", threads=1, seed=3))


def rows_of(tables, phase):
    return {row["variant"]: row for row in tables["summary"] if row["phase"] == phase}


@pytest.mark.parametrize(
    "name",
    [
        "llama-3.2-1b", "opt-1.3b", "gpt2", "falcon-7b", "mixtral-8x7b", "qwen3-0.6b", "qwen3-30b-a3b",
        "deepseek-v2-lite", "gpt-oss-20b", "llama-4-scout", "gemma-3-1b", "phi-4-mini-3.8b",
        "qwen3-next-80b-a3b",
    ],
)  # fmt: skip
def test_catalogue_shapes_are_built_to_the_last_parameter(name):
    from transformers import AutoModelForCausalLM

    from engine.measure.local_config import transformers_config
    from engine.measure.local_weights import stored_parameters
    from engine.perfmodel.parameters import count_parameters

    model = load_model(name)
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(transformers_config(model))
    built.tie_weights()
    assert stored_parameters(built) == count_parameters(model).total


def test_random_weights_make_the_model_that_the_class_would(local):
    """Rotary angles and other buffers are rebuilt: a fresh model with these weights answers the same."""
    from transformers import AutoModelForCausalLM

    fresh = AutoModelForCausalLM.from_config(local.module.config)
    fresh.load_state_dict(local.module.state_dict())
    tokens = torch.arange(40).unsqueeze(0)
    with torch.inference_mode():
        assert torch.equal(fresh.eval()(tokens).logits, local.module(tokens).logits)


def test_the_same_seed_gives_the_same_weights(local):
    from engine.measure.local_model import LocalRequest, build_local_model

    again = build_local_model(LocalRequest(Model.model_validate(TINY), device="cpu", threads=1, seed=3))
    pairs = zip(local.module.parameters(), again.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_class_that_is_another_model_is_refused():
    from engine.measure.local_model import LocalRequest, build_local_model

    # A gated feed-forward where the shape says there is none: a third more weights than counted.
    shape = Model.model_validate({**TINY, "gated_ffn": False})
    with pytest.raises(MeasurementError) as caught:
        build_local_model(LocalRequest(shape, device="cpu", threads=1))
    # 2 layers x 64 x 128 more
    assert caught.value.message.startswith("the class `LlamaForCausalLM` has ")
    assert caught.value.hint == (
        "check `architecture` of the model; a class that differs would measure another model"
    )


def test_own_loop_and_generate_choose_the_same_tokens(local):
    from engine.measure.local_loop import Loop, generate_with_library, random_prompts

    prompts = random_prompts(local, sequences=3, length=20, seed=1)
    own = Loop(local).run(prompts, 9)
    assert own.tokens == generate_with_library(local, prompts, 9).tokens
    assert own.tokens == Loop(local, cache="static").run(prompts, 9).tokens
    assert (own.output_tokens, own.sequences, len(own.step_s)) == (9, 3, 8)
    # 2 tensors x 2 layers x 2 heads x 16 wide x 4 bytes x (20 + 8) tokens x 3 sequences
    assert own.kv_cache_bytes == 2 * 2 * 2 * 16 * 4 * 28 * 3


def test_on_another_device_nothing_is_predicted_beside(measure):
    tables = measure({"target": CPU, **QUICK})
    row = rows_of(tables, "request")["concurrency 1 (static batch)"]
    assert row["e2e_s"] > 0
    assert not {"bound_time_s", "estimated_time_s", "mfu"} & {k for k, v in row.items() if v is not None}
    (finding,) = [row for row in tables["findings"] if row["rule"] == "other-device"]
    assert finding["finding"].endswith("and the model ran on this machine's processor")
    assert {row["reason"] for row in tables["summary"]} == {finding["finding"]}


def test_generate_is_stamped_for_one_sequence_too(local):
    from engine.measure.local_loop import generate_with_library, random_prompts

    found = generate_with_library(local, random_prompts(local, sequences=1, length=8, seed=1), 5)
    assert len(found.token_ns) == 5
    assert list(found.token_ns) == sorted(found.token_ns)
    assert found.started_ns < found.token_ns[0]


def test_a_local_point_end_to_end(measure):
    # A sheet that does not tell what its memory is may be that of a processor.
    here = load_hardware("h100-sxm-80gb").model_dump(mode="json", exclude_none=True, exclude={"memory_kind"})
    tables = measure(
        {"target": {**CPU, "generate": True}, "load": {"concurrency": [1, 3]}, **QUICK}, hardware=here
    )
    request = rows_of(tables, "request")
    row = request["concurrency 3 (static batch)"]
    assert (row["completed_requests"], row["output_tokens"], row["error_rate"]) == (6, 24, 0)
    assert row["kv_cache_bytes"] == row["predicted_kv_cache_bytes"] == 2 * 2 * 2 * 16 * 4 * 19 * 3
    assert row["host_rss_peak_bytes"] > 50e6
    assert "device_allocated_peak_bytes" not in row
    assert row["bound_time_s"] > 0
    assert row["time_over_bound"] == pytest.approx(row["e2e_s"] / row["bound_time_s"])
    assert row["time_over_estimate"] == pytest.approx(row["e2e_s"] / row["estimated_time_s"])
    assert row["bound_time_s"] <= row["estimated_time_s_low"] <= row["estimated_time_s"]
    assert row["calibration"].startswith("h100-sxm-80gb")
    assert "concurrency 3 (generate())" in request
    decode = rows_of(tables, "decode")["concurrency 3 (static batch)"]
    assert decode["output_tokens_per_s"] == pytest.approx(3 / decode["time_s"])
    assert 0 < decode["mbu"] < 1
    assert rows_of(tables, "load")[None]["weights_bytes"] == 4 * rows_of(tables, "load")[None]["parameters"]
    observed = {r["setting"]: (r["requested"], r["observed"]) for r in tables["observed"]}
    assert observed["dtype"] == ("fp32", "fp32")
    assert observed["attention"][1] == "sdpa"
    assert observed["threads"] == ("1", "1")
    measured = [r for r in tables["requests"] if r["run_phase"] == "measured"]
    assert {(r["prompt_tokens"], r["output_tokens"], r["token_source"]) for r in measured} == {
        (16, 4, "exact")
    }


def test_faster_than_the_device_allows_is_an_error_with_suspects(measure):
    slow = {"name": "slow", "peak": {"fp32": "1 MFLOP/s"}, "memory_bandwidth": "1 MB/s", "confidence": "C"}
    tables = measure({"target": CPU, "load": {"concurrency": [1]}, **QUICK}, hardware=slow)
    found = [f for f in tables["findings"] if f["rule"] == "above-the-roof"]
    assert {f["severity"] for f in found} == {"error"}
    assert found[0]["evidence"] == (
        "wrong device or number format in the spec, fewer tokens than counted, or a prefix cache"
    )
    assert tables["findings"][0]["severity"] == "error"


def test_a_step_of_the_wall_clock_changes_no_duration(measure, monkeypatch):
    import time

    real, calls = time.time_ns, []

    def jumping():
        calls.append(1)
        return real() + len(calls) * 3_600_000_000_000

    monkeypatch.setattr(time, "time_ns", jumping)
    tables = measure({"target": CPU, "load": {"concurrency": [1]}, **QUICK})
    assert rows_of(tables, "request")["concurrency 1 (static batch)"]["e2e_s"] < 600


def test_more_requests_than_one_batch(measure):
    tables = measure({"target": CPU, "load": {"concurrency": [2], "requests": 5}, **QUICK})
    row = rows_of(tables, "request")["concurrency 2 (static batch)"]
    assert row["completed_requests"] == 2 * 6  # three batches of two a repeat
    numbers = [r["request"] for r in tables["requests"] if r["repeat"] == 0]
    assert numbers == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"load": {"pattern": "poisson", "rate": "5 /s"}}, "threads that call one model take turns"),
        ({"prompts": {"source": "file", "file": "p.txt"}}, "`prompts` from a file need a server"),
        ({"require": {"mfu": ">= 0.5"}}, "`require` of a live measurement limits single requests"),
        ({"load": {"pattern": "rate_search"}}, "`pattern: rate_search` needs `require`"),
        ({"load": {"pattern": "replay"}}, "`trace` belongs to `pattern: replay`"),
        ({"load": {"pattern": "constant"}}, "`pattern: constant` needs `rate`"),
        ({"load": {"pattern": "constant", "rate": ["0 /s"]}}, "`rate` must be above 0"),
        ({"target": {**CPU, "compile": True}}, "`compile: true` needs `cache: static`"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_runs(more, message):
    from pydantic import ValidationError

    from engine.spec.live import LiveSettings

    with pytest.raises(ValidationError) as caught:
        LiveSettings.model_validate({"kind": "live", "target": CPU, **more})
    assert message in str(caught.value)


def test_requests_that_overlap_in_this_process(measure):
    target = {**CPU, "batching": "continuous"}
    tables = measure({"target": target, "load": {"concurrency": [3], "requests": 7}, **QUICK})
    measured = [r for r in tables["requests"] if r["run_phase"] == "measured" and r["repeat"] == 0]
    assert len(measured) == 7
    assert {r["output_tokens"] for r in measured} == {4}
    overlapping = [a for a in measured for b in measured
                   if a is not b and a["sent_s"] < b["sent_s"] < a["last_token_s"]]  # fmt: skip
    assert overlapping
    assert tables["summary"][-1]["variant"] == "concurrency 3 (continuous batching)"


def test_what_cannot_fit_is_recorded_and_never_started(measure, monkeypatch):
    monkeypatch.setattr(
        "engine.measure.live.measure.available_memory", lambda *_, **__: oom.Available(0.72e9, "cpu", "given")
    )
    tables = measure(
        {"target": CPU, "load": {"concurrency": [1, 60000]}, **QUICK, "check_oom": True},
        workload={"prompt_tokens": 64},
    )
    rows = rows_of(tables, "request")
    assert rows["concurrency 1 (static batch)"]["status"] == "ok"
    too_large = rows["concurrency 60000 (static batch)"]
    assert too_large["status"] == "does_not_fit"
    assert too_large["reason"].startswith("needs ")
    assert "the largest concurrency that fits is " in too_large["reason"]
    assert too_large["completed_requests"] == 0


def test_running_out_of_memory_ends_one_load_and_rules_out_larger_ones(measure, monkeypatch):
    from engine.measure.local_loop import Loop

    run = Loop.run

    def limited(self, prompts, output_tokens, **more):
        if prompts.shape[0] >= 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return run(self, prompts, output_tokens, **more)

    monkeypatch.setattr(Loop, "run", limited)
    tables = measure({"target": CPU, "load": {"concurrency": [1, 4, 8]}, **QUICK}, failing=True)
    rows = rows_of(tables, "request")
    assert rows["concurrency 1 (static batch)"]["completed_requests"] == 2
    assert rows["concurrency 4 (static batch)"]["reason"] == (
        "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB"
    )
    assert rows["concurrency 8 (static batch)"]["reason"] == (
        "not tried: concurrency 4 (static batch) ran out of memory"
    )


def test_a_setting_that_is_not_what_runs_is_an_error(local):
    from dataclasses import replace

    from engine.measure.local_model import _refuse_mismatch

    wrong = replace(local, requested={**local.requested, "attention": "flash_attention_2"})
    with pytest.raises(MeasurementError) as caught:
        _refuse_mismatch(wrong)
    assert caught.value.message == (
        "`attention: flash_attention_2` was asked for, and the model runs with `sdpa`"
    )


def test_formats_and_devices_that_are_not_there():
    from engine.measure.local_model import choose_device, dtype_name_of

    assert [dtype_name_of(load_quantization(n)) for n in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    with pytest.raises(MeasurementError) as caught:
        dtype_name_of(load_quantization("int8-w8a8"))
    assert "its activations have 8 bits" in caught.value.message
    if not torch.cuda.is_available():
        with pytest.raises(EnvironmentMissing) as missing:
            choose_device("cuda")
        assert "device `cuda` was asked for" in missing.value.message


def test_real_weights_from_a_folder(local, tmp_path):
    from engine.measure.local_model import LocalRequest, build_local_model

    local.module.save_pretrained(str(tmp_path / "weights"))
    again = build_local_model(
        LocalRequest(
            Model.model_validate(TINY), weights="weights", device="cpu", threads=1, search=(tmp_path,)
        )
    )
    assert torch.equal(next(again.module.parameters()), next(local.module.parameters()))
    with pytest.raises(MeasurementError) as caught:
        build_local_model(
            LocalRequest(Model.model_validate(TINY), weights=str(tmp_path), device="cpu", threads=1)
        )
    assert caught.value.message.startswith(f"the weights `{tmp_path}` cannot be loaded: ")


def test_a_trained_tokenizer_has_exactly_the_wanted_size(tmp_path):
    from engine.measure.local_tokenizer import trained_tokenizer

    for size in (1000, 4099):
        tokenizer = trained_tokenizer(size, cache=tmp_path)
        assert len(tokenizer) == size
        assert tokenizer.decode(tokenizer("bade zozu 1 ü")["input_ids"]) == "bade zozu 1 ü"
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("tokenizer.json")}
    trained_tokenizer(1000, cache=tmp_path)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("tokenizer.json")}


def test_short_and_long_prompts_in_one_batch_say_what_each_says_alone(local):
    """Padding, positions and the mask must not reach into anybody's text."""
    from engine.measure.local_loop import Loop, generate_with_library, padded, random_prompts

    rows = random_prompts(local, sequences=3, length=20, seed=11)
    lengths = (20, 7, 13)
    prompts, mask = padded(rows, lengths)
    assert mask.sum(dim=1).tolist() == list(lengths)
    together = Loop(local).run(prompts, 6, mask=mask)
    assert together.sequences == 3
    for i, length in enumerate(lengths):
        alone = Loop(local).run(prompts[i : i + 1, 20 - length :], 6)
        assert alone.tokens[0] == together.tokens[i]
    assert generate_with_library(local, prompts, 6, mask=mask).tokens == together.tokens


@pytest.mark.parametrize("batching", ["static", "continuous"])
def test_a_mixed_load_counts_each_request_exactly(measure, batching):
    tables = measure(
        {
            "target": {**CPU, "batching": batching},
            "load": {"concurrency": [4], "prompt_lengths": [8, 32], "requests": 8},
            **QUICK,
        }
    )
    rows = [row for row in tables["requests"] if row["run_phase"] == "measured"]
    assert [row["prompt_tokens"] for row in rows if row["repeat"] == 0] == [8, 32] * 4
    assert {row["output_tokens"] for row in rows} == {4}
    (request,) = [row for row in tables["summary"] if row["phase"] == "request"]
    assert request["status"] == "ok"
    assert "of 8/32 prompt tokens" in request["variant"]
    assert request.get("bound_time_s") is None


def test_memory_that_runs_out_on_the_host_ends_one_load_only(measure, monkeypatch):
    """The process is bounded to what is free, so that an allocation fails before the kernel ends it all."""
    from engine.measure.live import measure as live_measure

    free = oom.Available(300e6, "cpu", "a small machine")
    monkeypatch.setattr(live_measure, "available_memory", lambda *_, **__: free)
    tables = measure(
        {"target": CPU, "load": {"concurrency": [1, 16384]}, **QUICK},
        workload={"prompt_tokens": 64},
        failing=True,
    )
    rows = rows_of(tables, "request")
    assert rows["concurrency 1 (static batch)"]["completed_requests"] == 2
    large = rows["concurrency 16384 (static batch)"]
    assert large["status"] == "failed"
    assert large["reason"].startswith("out of memory: ")


def test_the_bound_is_lifted_again():
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with oom.bounded(oom.Available(1e9, "cpu", "here")):
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] != before[0]
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with oom.bounded(oom.Available(1e9, "cuda", "a device")):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_manager_that_runs_out_of_memory_leaves_what_was_measured(measure, monkeypatch):
    from engine.measure.live.continuous import _Manager

    step, calls = _Manager.closed_loop, []

    def limited(self, count, concurrency, **more):
        calls.append(more["phase"])
        if calls.count("measured") == 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(self, count, concurrency, **more)

    monkeypatch.setattr(_Manager, "closed_loop", limited)
    load = {"concurrency": [2], "requests": 4}
    tables = measure({"target": {**CPU, "batching": "continuous"}, "load": load, **QUICK}, failing=True)
    (row,) = [row for row in tables["summary"] if row["phase"] == "request"]
    assert (row["status"], row["completed_requests"]) == ("failed", 4)
    assert row["reason"] == "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB"
