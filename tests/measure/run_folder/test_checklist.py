# ruff: noqa: E501 - log lines are as long as their tools write them
"""The document's run-folder parser, row by row: each test names the row of the acceptance list it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import SpecError
from engine.measure.run_folder.alignment import align, find_step
from engine.measure.run_folder.custom import evaluate, parse_formula
from engine.measure.run_folder.derive import Values, put_bandwidth, put_thermal
from engine.measure.run_folder.discovery import spellings
from engine.measure.run_folder.names import model_size
from engine.measure.run_folder.trace import FlagBuilder, TraceBuilder
from engine.score.scaling import Run, comparisons, picked, scaling_efficiency, scalings, trade_offs
from tests.measure.run_folder.trees import (
    TEN,
    constant,
    one,
    put,
    read,
    read_text,
    rules,
    settings,
    smi,
    timings,
    vllm,
    whole,
)

DOCUMENT_TREE = [
    f"llama_{s}/batch_{b}" for s, bs in (("7b", (1, 4, 8)), ("13b", (1, 4, 8)), ("70b", (1, 4))) for b in bs
]


def run(label: str, **values: float | str) -> Run:
    """A run by hand: texts are settings, numbers metrics."""
    texts = {k: v for k, v in values.items() if isinstance(v, str) or k == "batch_size"}
    numbers = {k: float(v) for k, v in values.items() if k not in texts}
    return Run(None, label, "ok", None, texts, numbers)


SPEEDS = (1200.0, 750.0, 180.0)
POWERS = (45.0, 65.0, 150.0)


def size_runs() -> list[Run]:
    """The document's three models."""
    sizes = (7e9, 13e9, 70e9)
    return [
        run(f"llama_{s / 1e9:.0f}b", throughput_tokens_per_s=t, average_power_w=w, parameters=s)
        for s, t, w in zip(sizes, SPEEDS, POWERS, strict=True)
    ]


@pytest.mark.parametrize("text", ["runs/", "runs\\", "runs", '"runs\\"'])
def test_row_01_trailing_separators(text: str) -> None:
    assert spellings(text, {})[0] == "runs"


def test_row_01_unc_and_windows_spellings() -> None:
    share = {"\\\\srv\\share": "/mnt/share"}
    assert spellings("\\\\srv\\share\\x\\", share)[0] == "/mnt/share/x"
    assert spellings("//srv/share/x", share)[0] == "/mnt/share/x"
    assert "a/b" in spellings("a\\b\\", {})
    assert spellings("C:\\data\\runs\\", {})[-1] == "/mnt/c/data/runs"


def test_row_01_same_runs_whatever_the_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {"x/llama_7b/batch_1/a.txt": timings()})
    monkeypatch.chdir(tmp_path)
    found = [
        [row["variant"] for row in read(path, mounts={"\\\\srv\\share": str(tmp_path)})["summary"]]
        for path in ("x/", "x\\", "\\\\srv\\share\\x")
    ]
    assert found[0] == found[1] == found[2] == ["llama_7b/batch_1"] * 3  # request, prefill and decode


def test_row_04_the_tree_of_the_document_has_eight_runs(tmp_path: Path) -> None:
    put(tmp_path, {f"{name}/inference_output.txt": timings() for name in DOCUMENT_TREE})
    tables = read(tmp_path)
    assert sorted(whole(tables)) == sorted(DOCUMENT_TREE)
    assert len(tables["points"]) == 8


@pytest.mark.parametrize(
    ("name", "size"),
    [("llama_7b", 7), ("llama-13b", 13), ("Llama_30B", 30), ("llama65b", 65), ("llama_2_70b", 70)],
)
def test_row_05_sizes_from_names(name: str, size: float) -> None:
    assert model_size(name) == size * 1e9


def test_row_06_custom_sizes(tmp_path: Path) -> None:
    assert model_size("llama-3.1-8b-instruct") == 8e9
    put(tmp_path, {"mymodel/batch_1/a.txt": timings()})
    row = one(tmp_path, models={"mymodel": {"parameters": 3.2e9}})
    assert row["parameters"] == 3.2e9


def test_row_07_unknown_model_is_one_diagnostic(tmp_path: Path) -> None:
    put(tmp_path, {"foo/batch_1/a.txt": timings(), "foo/batch_1/p.csv": constant(45.0, 10.0)})
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert row.get("parameters") is None
    assert row["status"] == "ok"
    (found,) = [f for f in tables["findings"] if f["rule"] == "unknown-model"]
    assert found["evidence"] == "foo/batch_1"
    assert "`foo`" in found["finding"]


def test_row_07_missing_metrics_and_wrong_throughput_are_said_with_their_place(tmp_path: Path) -> None:
    broken = (
        timings()
        + "llama_perf_context_print:        eval time =       0.00 ms /     1 runs   (    0.00 ms per token,      inf tokens per second)\n"
    )
    put(tmp_path, {"llama_7b/batch_1/a.txt": broken.replace("4950.00", "0.00")})
    put(tmp_path, {"llama_7b/batch_4/a.txt": timings()})
    tables = read(tmp_path)
    found = {f["rule"]: f["evidence"] for f in tables["findings"]}
    assert found["no-generation"] == "llama_7b/batch_1/a.txt:1"
    assert ("no-power", "llama_7b/batch_1") in {(f["rule"], f["evidence"]) for f in tables["findings"]}


@pytest.mark.parametrize(("folder", "batch"), [("batch_1", 1), ("batch-4", 4), ("bs8", 8), ("B16", 16)])
def test_row_08_batch_from_folder(tmp_path: Path, folder: str, batch: int) -> None:
    put(tmp_path, {f"llama_7b/{folder}/a.txt": timings()})
    assert read(tmp_path)["points"][0]["batch_size"] == batch


def test_row_08_no_batch_is_empty(tmp_path: Path) -> None:
    put(tmp_path, {"llama_7b/a.txt": timings()})
    assert read(tmp_path)["points"][0]["batch_size"] is None


def test_row_09_a_model_folder_may_be_the_root(tmp_path: Path) -> None:
    put(tmp_path, {f"llama_7b/batch_{b}/a.txt": timings() for b in (1, 4, 8)})
    rows = whole(read(tmp_path / "llama_7b"))
    assert sorted(rows) == ["batch_1", "batch_4", "batch_8"]
    assert {row["parameters"] for row in rows.values()} == {7e9}


def test_row_12_power_and_temperature_in_one_table(tmp_path: Path) -> None:
    rows = "".join(f"2026/03/04 10:00:0{i}.000,0,{100 + i},{60 + i}\n" for i in range(4))
    _, found = read_text(
        tmp_path, "timestamp,index,power.draw [W],temperature.gpu\n" + rows, name="thermal_data.csv"
    )
    assert {(t.quantity, float(t.peak.max())) for t in found.traces} == {
        ("power", 103.0),
        ("temperature", 63.0),
    }


def test_row_13_memory_in_bytes_and_no_bandwidth_from_a_share_of_time(tmp_path: Path) -> None:
    power = "timestamp, index, power.draw [W], memory.used [MiB], utilization.memory [%]\n"
    power += "".join(f"2026/03/04 10:00:0{i}.000, 0, 90 W, 20480 MiB, 40 %\n" for i in range(4))
    put(tmp_path, {"llama_7b/batch_1/a.txt": timings(), "llama_7b/batch_1/p.csv": power})
    row = one(tmp_path)
    assert row["memory_used_bytes"] == 21_474_836_480  # 20480 x 2^20
    assert row.get("bandwidth_utilization") is None


def test_row_14_missing_empty_and_truncated_files(tmp_path: Path) -> None:
    cut = constant(45.0, 3.0)[:-20]  # the last row loses its power
    put(
        tmp_path,
        {
            "llama_7b/batch_1/a.txt": timings(),
            "llama_7b/batch_1/power.csv": cut,
            "llama_7b/batch_4/a.txt": b"",
            "llama_7b/batch_8/power.csv": "\n".join(constant(45.0, 3.0).splitlines()[:2]) + "\n",
        },
    )
    tables = read(tmp_path)
    files = {row["file"].split("/", 1)[1]: row for row in tables["files"]}
    assert (files["batch_1/power.csv"]["rows_read"], files["batch_1/power.csv"]["rows_dropped"]) == (3, 1)
    assert files["batch_1/power.csv"]["reason"] == "the last row is cut"
    assert files["batch_4/a.txt"]["reason"] == "empty: zero bytes"
    assert files["batch_8/power.csv"]["rows_read"] == 1


def test_rows_15_to_19_timings(tmp_path: Path) -> None:
    put(tmp_path, {"llama_7b/batch_1/a.txt": timings(steps=127, time_ms=9271.0, prompt_ms=512.64)})
    row = one(tmp_path)
    assert row["throughput_tokens_per_s"] == pytest.approx(13.70, abs=0.005)  # row 15: 127 / 9.271
    assert row["tpot_s"] * 1e3 == pytest.approx(73.00)  # row 16: 9271 / 127
    assert row["throughput_tokens_per_s"] * row["tpot_s"] * 1e3 == pytest.approx(1000.0)
    assert row["ttft_s"] * 1e3 == pytest.approx(512.64)  # row 17
    assert row["generation_s"] * 1e3 == pytest.approx(9271.0)  # row 18
    assert row["output_tokens"] == 128  # row 19: 127 runs + the token of the prompt pass


def test_row_20_average_power_of_a_constant(tmp_path: Path) -> None:
    put(tmp_path, {"llama_7b/batch_1/p.csv": constant(45.0, 10.0)})
    assert one(tmp_path)["average_power_w"] == pytest.approx(45.0)


def test_row_21_peak_is_that_of_the_sum(tmp_path: Path) -> None:
    rows = "".join(
        f"2026/03/04 10:00:0{t}.000, {gpu}, {watts} W\n"
        for t, both in enumerate([(100, 90), (218, 150), (150, 200)])
        for gpu, watts in enumerate(both)
    )
    put(tmp_path, {"llama_7b/batch_1/p.csv": "timestamp, index, power.draw [W]\n" + rows})
    assert one(tmp_path)["peak_power_w"] == 368.0  # 218 + 150, not 218 + 200


def test_row_22_energy_per_token(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "llama_7b/batch_1/p.csv": constant(45.0, 10.0),
            "llama_7b/batch_1/r.json": vllm(end="20260304-100010", duration=10.0, tokens=12_000),
        },
    )
    assert one(tmp_path)["energy_per_output_token_j"] == pytest.approx(0.0375)  # 45 W x 10 s / 12000


def test_row_23_power_efficiency(tmp_path: Path) -> None:
    expected = {}
    for name, speed, watts in zip(("7b", "13b", "70b"), SPEEDS, POWERS, strict=True):
        folder = f"llama_{name}/batch_1"
        result = vllm(end="20260304-100010", duration=10.0, tokens=round(speed * 10))
        put(tmp_path, {f"{folder}/p.csv": constant(watts, 10.0), f"{folder}/r.json": result})
        expected[folder] = round(speed / watts, 1)
    found = {name: round(row["tokens_per_s_per_w"], 1) for name, row in whole(read(tmp_path)).items()}
    assert (
        found == expected == {"llama_7b/batch_1": 26.7, "llama_13b/batch_1": 11.5, "llama_70b/batch_1": 1.2}
    )


def test_row_24_the_log_wins_over_the_name(tmp_path: Path) -> None:
    put(tmp_path, {"llama_7b/batch_1/a.txt": "llm_load_print_meta: model params     = 6.74 B\n" + timings()})
    assert one(tmp_path)["parameters"] == 6.74e9


def test_row_25_memory_from_buffers_or_from_a_sampler(tmp_path: Path) -> None:
    buffers = (
        "llm_load_tensors:        CPU buffer size =  3647.87 MiB\n"
        "llama_kv_cache_init:        CPU KV buffer size =   256.00 MiB\n"
        "llama_new_context_with_model:        CPU compute buffer size =    70.50 MiB\n"
    )
    put(tmp_path, {"llama_7b/batch_1/a.txt": buffers + timings()})
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert row["memory_used_bytes"] / 2**20 == pytest.approx(3974.37)  # 3647.87 + 256.00 + 70.50
    (how,) = [
        o["how"] for o in tables["origins"] if o["metric"] == "memory_used_bytes" and o["phase"] == "request"
    ]
    assert how == "sum of weights 3647.87 MiB + KV cache 256.00 MiB + compute buffer 70.50 MiB"
    sampler = "timestamp, memory.used [MiB]\n" + "".join(
        f"2026/03/04 10:00:0{i}.000, 400{i} MiB\n" for i in range(4)
    )
    put(tmp_path, {"llama_7b/batch_1/m.csv": sampler})
    assert one(tmp_path)["memory_used_bytes"] / 2**20 == 4003


def test_row_26_bandwidth(tmp_path: Path) -> None:
    row = Values(values={"throughput_tokens_per_s": 50.0})
    put_bandwidth(row, bytes_per_token=14e9, peak_bytes_per_s=1555e9)
    assert row.values["bandwidth_utilization"] == pytest.approx(0.450, abs=5e-4)  # 14e9 x 50 / 1555e9
    bare = Values(values={"throughput_tokens_per_s": 50.0})
    put_bandwidth(bare, bytes_per_token=14e9, peak_bytes_per_s=None)
    assert bare.absent["bandwidth_utilization"] == "no peak bandwidth is declared and the device is not known"


def test_row_27_cache_hit_rate(tmp_path: Path) -> None:
    head = "System;;;;\nDate;Time;L3HIT;Proc Energy (Joules);L3MISS\n"
    rows = "".join(f"2026-03-04;10:00:0{i}.000;0,83;40,0;5\n" for i in range(3))
    put(tmp_path, {"llama_7b/batch_1/pcm.csv": head + rows})
    assert one(tmp_path)["cache_hit_rate"] == pytest.approx(0.83)
    counters = "Date,Time,L3HITS,L3MISS,L3HIT\n" + "".join(
        f"2026-03-04,10:00:0{i}.000,83,17,0.83\n" for i in range(3)
    )
    _, found = read_text(tmp_path / "b", counters, name="pcm.csv")
    assert found.facts["cache_hit_rate"] == pytest.approx(0.83)  # 83 / (83 + 17)


def test_rows_28_and_29_temperatures(tmp_path: Path) -> None:
    ramp = "timestamp, temperature.gpu\n" + "".join(
        f"2026/03/04 10:00:{i:02d}.000, {30 + 2 * i}\n" for i in range(11)
    )
    put(tmp_path, {"llama_7b/batch_1/t.csv": ramp})
    row = one(tmp_path)
    assert row["peak_temperature_c"] == 50.0
    assert row["average_temperature_c"] == pytest.approx(40.0)  # 30 to 50 in a straight line


def test_row_30_throttling_events_are_rising_edges(tmp_path: Path) -> None:
    flags = ("Not Active", "Active", "Active", "Not Active", "Active")
    text = "timestamp, clocks_event_reasons.hw_thermal_slowdown\n"
    text += "".join(f"2026/03/04 10:00:0{i}.000, {flag}\n" for i, flag in enumerate(flags))
    put(tmp_path, {"llama_7b/batch_1/t.csv": text})
    row = one(tmp_path)
    assert (row["throttle_events"], row["throttled_samples"]) == (2, 3)


def test_row_31_headroom() -> None:
    import numpy as np

    builder = TraceBuilder("temperature", "device", "0")
    builder.add(np.array([0.0, 1.0]), np.array([60.0, 63.0]))
    trace = builder.finish()
    assert trace is not None
    declared, bare = Values(), Values()
    put_thermal(declared, [trace], None, limit_c=83.0, file="t.csv")
    put_thermal(bare, [trace], None, limit_c=None, file="t.csv")
    assert declared.values["thermal_headroom_c"] == 20.0
    assert bare.absent["thermal_headroom_c"] == "no throttle temperature is logged or declared"
    margin = TraceBuilder("margin", "device", "0")
    margin.add(np.array([0.0, 1.0]), np.array([25.0, 21.0]))
    limit = margin.finish()
    assert limit is not None
    logged = Values()
    put_thermal(logged, [trace, limit], None, limit_c=None, file="t.csv")
    assert logged.values["thermal_headroom_c"] == 21.0


def test_row_32_model_size_comparison() -> None:
    ((_, group),) = comparisons(size_runs(), "parameters")
    table = [(r.get("throughput_tokens_per_s"), r.get("average_power_w")) for r in group]
    assert table == [(1200.0, 45.0), (750.0, 65.0), (180.0, 150.0)]


def test_row_33_batch_impact() -> None:
    speeds, latencies = (100.0, 350.0, 450.0), (0.2, 0.18, 0.2)
    runs = [
        run(f"batch_{b}", batch_size=b, throughput_tokens_per_s=s, e2e_s=e)
        for b, s, e in zip((1, 4, 8), speeds, latencies, strict=True)
    ]
    ((_, group),) = comparisons(runs, "batch_size")
    assert [r.get("throughput_tokens_per_s") / speeds[0] for r in group] == [1.0, 3.5, 4.5]
    assert [r.get("e2e_s") * 1e3 for r in group] == pytest.approx([200.0, 180.0, 200.0])


def test_row_34_scaling_efficiency() -> None:
    assert scaling_efficiency(3.5, 2.0) == 1.75


def test_row_35_scaling_7b_to_13b_and_its_rounding() -> None:
    found = scalings(size_runs()[:2], "parameters", resources=("parameters",))
    (s,) = found
    assert (s.performance_ratio, s.resource_ratio) == (0.625, pytest.approx(13 / 7))
    assert f"{s.efficiency:.4f}" == "0.3365"
    assert f"{s.efficiency_of_rounded:.4f}" == "0.3333"  # 0.62 / 1.86
    assert s.note == "0.34 from exact ratios; ratios rounded first (0.62 / 1.86) would give 0.33"


def test_row_36_resource_can_be_chosen() -> None:
    (s,) = scalings(size_runs()[:2], "parameters", resources=("average_power_w",))
    assert s.efficiency == pytest.approx(0.433, abs=5e-4)  # 0.625 / (65 / 45)
    by_batch = [run("1", batch_size=1, throughput_tokens_per_s=100.0, memory_used_bytes=1e9)]
    by_batch.append(run("4", batch_size=4, throughput_tokens_per_s=350.0, memory_used_bytes=2e9))
    (b,) = scalings(by_batch, "batch_size", resources=("memory_used_bytes",))
    assert b.efficiency == 1.75
    by_device = [
        run(d, hardware=d, throughput_tokens_per_s=t, average_power_w=w)
        for d, t, w in (("a", 1.0, 10.0), ("b", 3.0, 20.0))
    ]
    (h,) = scalings(by_device, "hardware", resources=("average_power_w",))
    assert h.efficiency == 1.5


def test_row_37_precision_and_platform_groups() -> None:
    runs = [run(f, model="m", quantization=f, throughput_tokens_per_s=1.0) for f in ("fp32", "fp16", "int8")]
    ((text, group),) = comparisons(runs, "quantization")
    assert (text, len(group)) == ("model m", 3)


def test_row_38_a_dominated_run_is_flagged() -> None:
    runs = [
        run(name, throughput_tokens_per_s=speed, average_power_w=watts)
        for name, speed, watts in (
            ("a", 100.0, 50.0),
            ("b", 200.0, 80.0),
            ("c", 150.0, 90.0),
            ("d", 300.0, 120.0),
        )
    ]
    beaten = {t.run.label: t.dominated_by.label for t in trade_offs(runs) if t.dominated_by}
    assert beaten == {"c": "b"}


def test_row_39_the_documents_custom_metrics(tmp_path: Path) -> None:
    document = json.loads(
        '{"metrics": {"throughput": {"name": "tokens/second", "unit": "tokens/sec"},'
        ' "latency": {"name": "milliseconds/token", "unit": "ms/tok"},'
        ' "efficiency": {"name": "tokens/watt", "unit": "tok/W"}}}'
    )
    put(tmp_path, {"llama_7b/batch_1/a.txt": timings()})
    rows = read(tmp_path, **document)["custom"]
    assert [row["title"] for row in rows] == ["tokens/second", "milliseconds/token", "tokens/watt"]
    assert [row["value"] for row in rows] == [pytest.approx(20.0), pytest.approx(50.0), None]
    assert rows[2]["reason"] == "no power log was found"


def test_row_40_a_formula_and_an_unknown_symbol() -> None:
    formula = parse_formula("tok_per_s/avg_w", of="e")
    assert evaluate(formula, {"throughput_tokens_per_s": 1200.0, "average_power_w": 45.0}) == (
        pytest.approx(26.67, abs=0.01),
        "",
    )
    with pytest.raises(SpecError) as caught:
        parse_formula("tok_per_s/volts", of="e")
    assert str(caught.value) == "metric `e`: unknown symbol `volts`"


def test_row_42_a_log_that_starts_early_is_cut_to_the_window(tmp_path: Path) -> None:
    samples = [(float(t), 300.0 if 10 <= t <= 22 else 50.0) for t in range(31)]
    put(
        tmp_path,
        {
            "llama_13b/batch_1/power_metrics.csv": smi(samples),
            "llama_13b/batch_1/inference_output.txt": vllm(end="20260304-100022", duration=12.0, tokens=1200),
        },
    )
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert row["energy_j"] == pytest.approx(3600.0)  # 300 W x 12 s
    # 9 s at 50 W, 12 s at 300 W, 7 s at 50 W, and two edges of 1 s at (50 + 300) / 2
    assert row["whole_log_energy_j"] == pytest.approx(9 * 50 + 3600 + 7 * 50 + 2 * 175)
    # Outside the window: 450 + 350 + 350 J over 18 s
    assert row["idle_power_w"] == pytest.approx((9 * 50 + 7 * 50 + 2 * 175) / 18)
    assert "power-starts-early" in rules(tables)
    (early,) = [f["finding"] for f in tables["findings"] if f["rule"] == "power-starts-early"]
    assert early == "the power log starts 10.0 s before the window"


def test_row_43_a_step_finds_the_window_and_is_labelled() -> None:
    import numpy as np

    builder = TraceBuilder("power", "device", "0")
    power = np.concatenate([np.full(40, 10.0), np.full(60, 100.0), np.full(30, 10.0)])
    builder.add(TEN + np.arange(130) * 0.1, power)
    trace = builder.finish()
    assert trace is not None
    found = find_step(trace)
    assert found is not None
    assert found[0] - TEN == pytest.approx(3.95, abs=0.06)  # between samples 39 and 40
    assert found[1] - TEN == pytest.approx(9.95, abs=0.06)
    alignment = align(trace, settings(), run="x")
    assert alignment.window is not None
    assert alignment.window.kind == "step"
    assert alignment.window.text.startswith("heuristic:")


@pytest.mark.parametrize(("pick", "power"), [("min", 1.0), ("median", 2.0), ("max", 4.0)])
def test_row_44_one_of_repeated_runs(pick: str, power: float) -> None:
    runs = [run(str(w), average_power_w=w) for w in (4.0, 1.0, 3.0, 2.0)]
    assert picked(runs, pick=pick).get("average_power_w") == power  # type: ignore[arg-type]


def test_a_flag_set_in_the_first_row_is_one_event() -> None:
    import numpy as np

    builder = FlagBuilder("0")
    builder.add(np.array([0.0, 1.0, 2.0]), np.array([True, True, False]))
    trace = builder.finish()
    assert trace is not None
    assert trace.edges_s == (0.0,)


def test_heat_keeps_the_whole_log_where_the_window_is_a_guess(tmp_path: Path) -> None:
    rows = "".join(
        f"2026/03/04 10:00:{t:02d}.000, {300 if 10 <= t < 20 else 50} W, {40 + t}\n" for t in range(30)
    )
    put(tmp_path, {"llama_7b/batch_1/p.csv": "timestamp, power.draw [W], temperature.gpu\n" + rows})
    row = one(tmp_path)
    assert row["reason"].startswith("heuristic:")
    assert row["peak_temperature_c"] == 69.0  # at the end, ten seconds after power fell
    assert row["average_power_w"] > 250


def test_a_setting_left_out_joins_the_runs_that_state_it_only_where_that_compares_more() -> None:
    """Rows 36 and 37: unsaid number formats are named as such, labels are never guessed."""
    stated = [run("a1", model="a", quantization="F16", batch_size=1, parameters=7e9)]
    unsaid = [run(f"a{b}", model="a", batch_size=b, parameters=7e9) for b in (4, 8)]
    ((text, group),) = comparisons([*stated, *unsaid], "batch_size")
    assert (text, [r.label for r in group]) == ("model a, quantization F16 where stated", ["a1", "a4", "a8"])
    other = run("b4", model="b", batch_size=4, parameters=13e9)
    ((text, group),) = comparisons([*stated, *unsaid, other], "parameters")
    assert (text, [r.label for r in group]) == ("batch_size 4", ["a4", "b4"])
    labelled = run("x1", model="a", settings="label=x", batch_size=1)
    assert comparisons([labelled, unsaid[0]], "batch_size") == []


def test_row_30_flags_of_single_letters(tmp_path: Path) -> None:
    rows = "".join(f"{i},45,{flag}\n" for i, flag in enumerate("NYYNY"))
    put(tmp_path, {"llama_7b/batch_1/thermal_data.csv": "time_s,power_w,throttle\n" + rows})
    row = one(tmp_path)
    assert (row["throttle_events"], row["throttled_samples"]) == (2, 3)
