"""Predictions as rows: which rows, in which order, with which status, and the numbers of the model."""

from pathlib import Path

import pytest

from engine.measure.registry import Tools, find
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.summary import WorkloadArrays, summarise
from engine.plan.compile import compile_plan
from tests.plan.specs import DEVICE, device, experiment

TOOLS = Tools(Path(), Path())


def tables(**changes):
    """All tables of the only task of an experiment."""
    (task,) = compile_plan(experiment(**changes)).tasks
    return find("analytical").function(task.settings, task, TOOLS)


def summary(**changes):
    return tables(**changes)["summary"].to_pylist()


def test_every_point_has_a_row_in_every_phase_phase_by_phase():
    rows = summary(sweep={"axes": {"workload.batch_size": [1, 2]}})
    assert [(row["phase"], row["point"]) for row in rows] == [
        ("request", 0), ("request", 1), ("prefill", 0), ("prefill", 1),
        ("decode", 0), ("decode", 1), ("decode_last", 0), ("decode_last", 1),
    ]  # fmt: skip
    assert {(row["source"], row["basis"], row["status"], row["reason"]) for row in rows} == {
        ("predicted", "bound", "ok", None)
    }


def test_numbers_are_those_of_the_model():
    batches, prompts = [1, 3, 8], [16, 64, 256]
    rows = summary(sweep={"axes": {"workload.batch_size": batches, "workload.prompt_tokens": prompts}})
    plan = compile_plan(experiment(sweep={"axes": {"workload.batch_size": batches}}))
    block = plan.blocks[0].combination
    deployment = Deployment(block.model, block.hardware, block.quantization, block.parallelism)
    for number in (0, 4, 8):
        batch, prompt = batches[number // 3], prompts[number % 3]
        one = summarise(
            deployment,
            WorkloadArrays.of(
                block.workload.model_copy(update={"batch_size": batch, "prompt_tokens": prompt})
            ),
        )
        for row in rows:
            if row["point"] == number:
                expected = {
                    name: values[0] for name, values in one.phases[row["phase"]].items() if name != "bound"
                }
                told = {name: row[name] for name in expected if row[name] is not None}
                assert told == pytest.approx({name: expected[name] for name in told}, rel=1e-12)
                assert len(told) >= len(expected) - 1  # a context without limit is null


def test_decode_reads_every_weight_once():
    # Tiny model, bf16: each layer q 64x64, k and v 64x32, o 64x64, three 64x128 matrices = 36,864 weights;
    # two layers, the 64x100 head, 5 norms of 64. One token: 2 x (2 x 36,864 + 6,400 + 320) = 160,896 bytes
    # at least; 1 TB/s moves them in 0.16 us.
    (row,) = [row for row in summary() if row["phase"] == "decode"]
    assert row["memory_traffic_bytes"] > 160_896
    assert row["time_s"] > 160_896 / 1e12
    assert row["bound"] == "memory"


def test_combinations_of_one_device_share_a_task():
    found = compile_plan(
        experiment(sweep={"axes": {"parallelism.overlap": [0.0, 0.5], "workload.batch_size": [1, 2]}})
    )
    (task,) = found.tasks
    rows = find("analytical").function(task.settings, task, TOOLS)["summary"].to_pylist()
    assert [row["point"] for row in rows] == [0, 1, 2, 3] * 4


def test_points_that_do_not_fit_keep_their_memory_and_lose_their_times():
    small = device(memory="1 MB")
    rows = summary(hardware=small, sweep={"axes": {"workload.batch_size": [1, 4000]}})
    first, second = rows[0], rows[1]
    # Usable: 90 % of 1 MB.
    assert second["status"] == "does_not_fit"
    short = -second["memory_free_bytes"]
    assert second["memory_needed_bytes"] - short == pytest.approx(900_000)
    assert second["reason"].startswith("needs ")
    assert second["reason"].endswith(" GB more than the 0.0 GB usable")
    assert second["time_s"] is None
    assert second["tpot_s"] is None
    assert first["memory_needed_bytes"] < second["memory_needed_bytes"]


def test_a_shortfall_is_told_in_gigabytes_rounded_up():
    # 80 GB x 0.9 = 72.0 GB usable.
    rows = summary(workload={"prompt_tokens": 4000, "batch_size": 100_000})
    row = rows[0]
    tenths = -(row["memory_free_bytes"] // 1e8)
    assert row["reason"] == f"needs {tenths / 10:,.1f} GB more than the 72.0 GB usable"


def test_a_context_beyond_the_model_is_marked():
    rows = summary(workload={"prompt_tokens": 4096, "output_tokens": 1})
    assert {(row["status"], row["reason"]) for row in rows} == {
        ("beyond_context", "4,097 tokens are more than the 4,096 the model admits")
    }
    assert rows[0]["time_s"] > 0
    assert summary(workload={"prompt_tokens": 4095, "output_tokens": 1})[0]["status"] == "ok"


def test_what_a_device_cannot_do_is_skipped_with_the_reason():
    rows = summary(
        quantization={"name": "eight", "weight_attn": 8, "weight_ffn": 8, "activation": 8, "integer": False}
    )
    assert {row["status"] for row in rows} == {"skipped"}
    assert "time_s" not in rows[0]
    assert "which `board` does not offer (it has bf16, int8)" in rows[0]["reason"]
    assert len(rows) == 4


def test_notes_stand_beside_numbers():
    linked = device(link={"name": "L", "bandwidth": "100 GB/s", "basis": "per direction per device"})
    rows = summary(hardware=linked, parallelism={"tensor": 4})
    assert rows[0]["status"] == "ok"
    assert rows[0]["reason"] == "4 devices share 2 key/value heads: the heads are replicated"


def test_a_device_of_unknown_memory_fits_everything_and_says_so():
    unknown = {key: value for key, value in DEVICE.items() if key != "memory"}
    rows = summary(hardware=unknown, workload={"batch_size": 100_000})
    assert (rows[0]["status"], rows[0]["memory_free_bytes"]) == ("ok", None)
    assert rows[0]["reason"] == "the memory of `board` is unknown: fit is not checked"


def test_operators_are_stored_when_asked_for():
    asked = {"kind": "analytical", "operators": True}
    found = tables(measurements=[asked], sweep={"axes": {"workload.batch_size": [1, 2]}})
    rows = found["operators"].to_pylist()
    assert {row["point"] for row in rows} == {0, 1}
    assert {row["phase"] for row in rows} == {"prefill", "decode", "decode_last"}
    down = [row for row in rows if row["operator"].lower().startswith("down") and row["phase"] == "decode"]
    # 64 x 128 weights, 2 FLOPs each and token: 16,384 for one sequence, 32,768 for two; in both layers.
    assert [(row["point"], row["flops"], row["count"]) for row in down] == [
        (0, 16_384.0, 2),
        (1, 32_768.0, 2),
    ]
    assert set(tables()) == {"summary"}


def test_speculation_uses_the_draft_model_of_the_catalogue():
    drafted = summary(
        model="llama-3.1-8b",
        workload={"speculation": {"tokens": 4, "acceptance": 1.0, "draft_model": "llama-3.2-1b"}},
    )
    free = summary(model="llama-3.1-8b", workload={"speculation": {"tokens": 4, "acceptance": 1.0}})
    plain = summary(model="llama-3.1-8b")
    assert free[0]["tpot_s"] < drafted[0]["tpot_s"] < plain[0]["tpot_s"]
    assert drafted[0]["weights_bytes"] > plain[0]["weights_bytes"]
