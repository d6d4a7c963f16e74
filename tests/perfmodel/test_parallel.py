"""Splits over devices: shares, volumes, times, bubbles."""

from __future__ import annotations

import pytest

from engine.perfmodel.deployment import device_link
from engine.perfmodel.parallel import Collective, collectives
from engine.perfmodel.point import predict_point
from engine.perfmodel.rows import OperatorRow, operator_rows
from engine.spec.model import Model
from engine.spec.workload import Parallelism, Workload
from tests.perfmodel.shapes import LATENT, LLAMA_8B, MIXTRAL, deploy, device

WORK = Workload(prompt_tokens=256, output_tokens=8, batch_size=8)


def found(model: Model = LLAMA_8B, **split: object) -> dict[str, Collective]:
    return {c.name: c for c in collectives(deploy(model, parallelism=Parallelism(**split)))}


def rows(model: Model, **split: object) -> list[OperatorRow]:
    return operator_rows(deploy(model, parallelism=Parallelism(**split)), WORK, phases=["decode"])


def test_link_rates_are_one_direction():
    assert device_link(device()).bandwidth_bytes_per_s == 300e9
    one_way = {"name": "X", "bandwidth": "600 GB/s", "basis": "per direction per device"}
    assert device_link(device(link=one_way)).bandwidth_bytes_per_s == 600e9
    assert device_link(device(link=None, pcie="PCIe4 x16")).bandwidth_bytes_per_s == 16 * 1.969e9
    assert device_link(device(link=None, pcie="PCIe5 x8")).bandwidth_bytes_per_s == 8 * 3.938e9
    # a count beyond 16 is all lanes of a CPU, not one slot
    assert device_link(device(link=None, pcie="PCIe5 x128")).bandwidth_bytes_per_s == 16 * 3.938e9
    assert device_link(device(link=None)) is None


def test_one_device_is_silent():
    assert found() == {}
    phases = predict_point(deploy(), WORK).phases
    assert phases["decode"]["communication_s"] == 0


def test_ring_all_reduce():
    reduce = found(tensor=4)["layer sums"]
    # two sums in each of 32 layers; 2 (n - 1) / n of each token's 4096 x 2 bytes
    assert (reduce.kind, reduce.count, reduce.group) == ("all-reduce", 64, 4)
    assert reduce.volume_bytes == 2 * 3 / 4 * 8192
    assert reduce.latency_s == pytest.approx(6e-6)
    assert reduce.s_per_unit == pytest.approx(2 * 3 / 4 * 8192 / 300e9)
    assert found(tensor=4)["logits"].volume_bytes == 3 / 4 * 128_256 * 2
    assert found(tensor=4)["embedding"].count == 1


def test_a_sequence_parallel_sum_is_cut_in_two():
    halves, whole = found(tensor=4, sequence_parallel=True), found(tensor=4)["layer sums"]
    parts = (halves["layer sums"], halves["layer inputs"])
    assert [p.kind for p in parts] == ["reduce-scatter", "all-gather"]
    # the same bytes and the same ring steps in all
    assert sum(p.volume_bytes for p in parts) == whole.volume_bytes
    assert sum(p.latency_s for p in parts) == pytest.approx(whole.latency_s)


def test_a_group_over_two_nodes_reduces_inside_first():
    reduce = found(tensor=16)["layer sums"]
    # inside a node of 8: 2 x 7/8 of the message; between two nodes: 2 x 1/2 of an eighth of it
    assert reduce.volume_bytes == 2 * 7 / 8 * 8192 + 8192 / 8
    assert reduce.s_per_unit == pytest.approx(2 * 7 / 8 * 8192 / 300e9 + 8192 / 8 / 50e9)
    assert reduce.latency_s == pytest.approx(14 * 1e-6 + 2 * 5e-6)
    assert reduce.link == "NVLink3 (data sheet, bidirectional total per device) and infiniband-400g"


def test_expert_dispatch_and_combine():
    talk = found(MIXTRAL, expert=8, data=8)
    assert set(talk) == {"expert dispatch", "expert combine"}
    # two rows of 4096 x 2 bytes a token, of which 7/8 leave the device
    assert talk["expert dispatch"].volume_bytes == 2 * 8192 * 7 / 8
    assert talk["expert dispatch"].count == 32
    wide = found(MIXTRAL, tensor=8, expert=8)
    # the sum after attention stays, the experts' sum becomes dispatch and combine of an eighth of the tokens
    assert wide["layer sums"].count == 32
    assert wide["expert combine"].volume_bytes == 2 * 8192 / 8 * 7 / 8


def test_stage_hand_over():
    send = found(pipeline=4)["stage hand-over"]
    assert (send.kind, send.count, send.volume_bytes) == ("send", 3, 8192)
    assert send.s_per_unit == pytest.approx(8192 / 300e9)
    far = found(tensor=8, pipeline=2)["stage hand-over"]
    assert far.s_per_unit == pytest.approx(1024 / 50e9)
    assert far.latency_s == pytest.approx(5e-6)


def test_communication_time_of_a_phase():
    split = Parallelism(tensor=4)
    decode = predict_point(deploy(parallelism=split), WORK).phases["decode"]
    talk = found(tensor=4)
    expected = sum(
        c.count * (c.latency_s + 8 * c.s_per_unit)
        for c in (talk["embedding"], talk["layer sums"], talk["logits"])
    )
    assert decode["communication_s"] == pytest.approx(expected)
    hidden = Parallelism(tensor=4, overlap=0.75)
    less = predict_point(deploy(parallelism=hidden), WORK).phases["decode"]
    assert less["communication_s"] == pytest.approx(expected / 4)
    assert less["time_s"] == pytest.approx(decode["time_s"] - 0.75 * expected)


@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_matrix_work_of_shards_adds_up_to_the_whole(tensor: int):
    whole = {(r.layer_kind, r.operator): r for r in rows(LLAMA_8B)}
    for row in rows(LLAMA_8B, tensor=tensor):
        if row.operator in ("q", "k", "v", "o", "gate", "up", "down", "LM head", "scores", "context"):
            alone = whole[(row.layer_kind, row.operator)]
            assert tensor * row.flops == alone.flops
            assert tensor * row.weight_bytes == alone.weight_bytes
            assert tensor * row.kv_read_bytes == alone.kv_read_bytes
            assert row.parameters == alone.parameters


def test_heads_beyond_the_group_are_replicated():
    shared = {r.operator: r for r in rows(LLAMA_8B, tensor=16)}
    alone = {r.operator: r for r in rows(LLAMA_8B)}
    assert shared["k"].weight_bytes == alone["k"].weight_bytes / 8
    assert shared["scores"].kv_read_bytes == alone["scores"].kv_read_bytes / 8
    assert shared["scores"].flops == alone["scores"].flops / 16


def test_sequence_parallel_norms():
    plain = {r.operator: r for r in rows(LLAMA_8B, tensor=4)}
    split = {r.operator: r for r in rows(LLAMA_8B, tensor=4, sequence_parallel=True)}
    assert split["norm"].flops == plain["norm"].flops / 4
    assert split["residual"].total_bytes == plain["residual"].total_bytes / 4


def test_latent_down_projections_stay_whole():
    shared = {r.operator: r for r in rows(LATENT, tensor=4)}
    alone = {r.operator: r for r in rows(LATENT)}
    assert shared["kv down"].weight_bytes == alone["kv down"].weight_bytes
    assert shared["q up"].weight_bytes == alone["q up"].weight_bytes / 4
    assert shared["KV append"].kv_write_bytes == alone["KV append"].kv_write_bytes


def test_experts_inside_a_tensor_group():
    # Eight devices as four expert ranks of two experts each, every expert cut in two.
    (up,) = [r for r in rows(MIXTRAL, tensor=8, expert=4) if r.operator == "expert up"]
    (alone,) = [r for r in rows(MIXTRAL) if r.operator == "expert up"]
    per_expert = 4096 * 14336 * 2
    # the busiest rank holds at most two experts, of which a device reads halves
    assert alone.weight_bytes / per_expert / 4 / 2 < up.weight_bytes / per_expert <= 2 / 2
    split = predict_point(deploy(MIXTRAL, parallelism=Parallelism(tensor=8, expert=4)), WORK)
    whole = predict_point(deploy(MIXTRAL), WORK)
    assert split.phases["request"]["distinct_experts"] == whole.phases["request"]["distinct_experts"]
    # over all devices the experts are computed once; norms, router and sums run on each of the eight
    assert split.phases["decode"]["flops"] == pytest.approx(whole.phases["decode"]["flops"], rel=2e-3)


def test_replicas_share_the_batch():
    four = predict_point(deploy(parallelism=Parallelism(data=4)), WORK).phases["decode"]
    quarter = predict_point(deploy(), WORK.model_copy(update={"batch_size": 2})).phases["decode"]
    assert four["time_s"] == quarter["time_s"]
    assert four["flops"] == 4 * quarter["flops"]
    assert four["output_tokens_per_s"] == pytest.approx(4 * quarter["output_tokens_per_s"])


def test_replicas_that_share_experts_meet_their_tokens():
    apart = predict_point(deploy(MIXTRAL, parallelism=Parallelism(data=8)), WORK)
    together = predict_point(deploy(MIXTRAL, parallelism=Parallelism(data=8, expert=8)), WORK)
    assert apart.phases["request"]["distinct_experts"] == 2
    # eight tokens in one group
    assert together.phases["request"]["distinct_experts"] == pytest.approx(8 * (1 - 0.75**8))


def test_pipeline_time():
    one = predict_point(deploy(), WORK).phases["decode"]
    staged = predict_point(deploy(parallelism=Parallelism(pipeline=4)), WORK).phases["decode"]
    # one micro-batch passes all stages: the same work, one stage at a time
    assert staged["time_s"] - staged["communication_s"] == pytest.approx(one["time_s"])
    assert staged["flops"] == one["flops"]


def test_micro_batches_fill_the_pipeline():
    split = Parallelism(pipeline=4, micro_batches=8)
    filled = predict_point(deploy(parallelism=split), WORK).phases["decode"]
    piece = operator_rows(deploy(parallelism=split), WORK, phases=["decode"])
    layer = sum(r.time_s for r in piece if r.layer_kind == "full+dense")
    ends = {r.layer_kind: 0.0 for r in piece}
    for r in piece:
        ends[r.layer_kind] += r.time_s
    # eight pieces of one sequence: all stages once, then seven more times the slowest, the one with the head
    expected = 32 * layer + ends["embedding"] + ends["head"] + 7 * (8 * layer + ends["head"])
    assert filled["time_s"] - filled["communication_s"] == pytest.approx(expected)


def test_the_label_says_what_is_busiest():
    slow = {"name": "wire", "bandwidth": "1 GB/s", "basis": "per direction per device"}
    bound = predict_point(deploy(hardware=device(link=slow), parallelism=Parallelism(tensor=8)), WORK).bounds
    assert bound["prefill"] == "communication"
    bound = predict_point(deploy(), WORK).bounds
    assert (bound["prefill"], bound["decode"]) == ("compute", "memory")
