"""Multi-head latent attention: DeepSeek-V3's published sizes, and both forms."""

from __future__ import annotations

import pytest

from engine.perfmodel.layers import layer_operators
from engine.perfmodel.operators import Operator, share_of
from engine.perfmodel.point import predict_point
from engine.perfmodel.rows import operator_rows
from engine.spec.analytical import AnalyticalSettings
from engine.spec.catalog import load_model
from engine.spec.quantization import Quantization
from engine.spec.workload import Parallelism, Workload
from tests.perfmodel.shapes import LATENT, deploy

V3 = load_model("deepseek-v3")


def operators(form: str = "auto") -> dict[str, Operator]:
    settings = AnalyticalSettings.model_validate({"kind": "analytical", "mla": form})
    share = share_of(V3, Quantization(), Parallelism(), settings)
    return {o.name: o for o in layer_operators(share, "full", "moe")}


def test_parameters_of_deepseek_v3():
    assert predict_point(deploy(V3), Workload()).phases["request"]["parameters"] == 671_026_419_200
    # h r_q + r_q + r_q 128 (128 + 64) + h (512 + 64) + 512 + 512 x 128 (128 + 128) + 128 x 128 h
    expected = 7168 * 1536 + 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 + 512 * 128 * 256 + 128 * 128 * 7168
    assert expected == 187_107_328
    names = ("q down", "q latent norm", "q up", "kv down", "kv latent norm", "o")
    for form, more in (("absorbed", ("q absorb", "v up")), ("expanded", ("kv up",))):
        found = operators(form)
        assert sum(found[name].parameters for name in (*names, *more)) == expected


def test_cache_of_a_token_is_the_latent_vector():
    work = Workload(prompt_tokens=999, output_tokens=1)
    # 576 elements of two bytes in each of 61 layers, whatever the number of heads
    assert predict_point(deploy(V3), work).phases["request"]["kv_cache_bytes"] == 1000 * 61 * 576 * 2


def test_work_for_each_pair():
    absorbed, expanded = operators("absorbed"), operators("expanded")
    pair = [sum(found[name].flops["Q"] for name in ("scores", "context")) for found in (absorbed, expanded)]
    # 2 x 128 x (576 + 512) against 2 x 128 x (192 + 128): 3.4 times
    assert pair == [278_528, 81_920]


def test_absorbed_decode_reads_the_latent_cache_once():
    found = operators("absorbed")
    assert found["scores"].kv_read_bytes == {"K": 576 * 2}
    assert found["context"].kv_read_bytes == {}
    assert found["q absorb"].flops == {"T": 2 * 128 * 128 * 512}
    assert found["v up"].flops == {"T": 2 * 128 * 512 * 128}


def test_expanded_keys_and_values_are_written_and_read():
    found = operators("expanded")
    per_position = 128 * (192 + 128) * 2
    assert found["kv up"].output_bytes == {"K": per_position}
    assert found["scores"].input_bytes["K"] + found["context"].input_bytes["K"] == per_position
    # that is 71 times the latent vector of 576 elements
    assert per_position / (576 * 2) == pytest.approx(71.1, abs=0.05)
    assert found["kv up"].flops == {"K": 2 * 512 * 128 * 256}


@pytest.mark.parametrize("phase", ["prefill", "decode", "decode_last"])
def test_the_faster_form_is_taken(phase: str):
    for batch in (1, 16):
        work = Workload(prompt_tokens=700, output_tokens=30, batch_size=batch)
        times = {
            form: predict_point(deploy(LATENT, mla=form), work).phases[phase]["time_s"]
            for form in ("auto", "absorbed", "expanded")
        }
        assert times["auto"] == pytest.approx(min(times["absorbed"], times["expanded"]))


def test_decode_absorbs_and_a_long_prompt_expands():
    names = {
        phase: {r.operator for r in operator_rows(deploy(V3), Workload(prompt_tokens=4096), phases=[phase])}
        for phase in ("prefill", "decode")
    }
    assert "kv up" in names["prefill"]
    assert "q absorb" in names["decode"]


def test_sparse_attention_looks_at_a_fixed_number_of_positions():
    v32 = load_model("deepseek-v3.2")
    made = operator_rows(deploy(v32), Workload(prompt_tokens=8191), phases=["decode"])
    found = {r.operator: r for r in made}
    # 2048 of 8192 positions, each a latent vector; the indexer sees all of them with keys of 128
    assert found["scores"].kv_read_bytes == 2048 * 576 * 2
    assert found["index scores"].kv_read_bytes == 8192 * 128 * 2
    assert found["index scores"].flops == (2 * 64 * 128 + 3 * 64) * 8192
