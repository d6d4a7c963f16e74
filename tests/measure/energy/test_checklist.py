"""What the energy profiling plan asks for, one test an item, with the plan's own numbers where it has any."""

import dataclasses
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from engine.measure.energy.ablation import ablations
from engine.measure.energy.analysis import tables_of
from engine.measure.energy.attribution import window_rows
from engine.measure.energy.integrate import Board, below_resolution, sampling
from engine.measure.energy.log import FIELDS, as_log, read_log, to_text
from engine.measure.energy.phases import Subject, baseline, phase_rows
from engine.measure.energy.replay import read_trace
from engine.measure.energy.source import open_source
from engine.measure.energy.timeline import correlation, step_rows
from engine.measure.energy.trace import Event, Trace, channel
from engine.results.estimate import estimate
from engine.results.tables import make_table
from engine.score.energy_advice import energy_findings
from engine.spec.energy import EnergySettings
from engine.testing.power import PowerCourse, SimulatedBoard, smoke_trace, true_energies
from tests.source_tree import ROOT

SUBJECT = Subject(prompt_tokens=512, output_tokens=256, batch_size=8, parameters=1.24e9)
SETTINGS = EnergySettings(kind="energy", source="replay", trace="x", granularity="component")


@pytest.fixture(scope="module")
def smoke() -> Trace:
    return smoke_trace(trials=3, window_s=1.5)


@pytest.fixture(scope="module")
def tables(smoke: Trace):
    return tables_of(smoke, SUBJECT, SETTINGS)


def constant(watts: float, seconds: float, *events: Event, **more) -> Trace:
    """A recording of constant power, read every 100 ms."""
    times = np.arange(0.0, seconds + 0.05, 0.1)
    return Trace(
        "replay",
        (channel("0", times, {"power_w": np.full(len(times), watts)}),),
        events,
        period_s=0.1,
        **more,
    )


def board(trace: Trace, *, held: bool = True) -> Board:
    return Board(trace.channels, period_s=trace.period_s, held=held)


def test_93_no_power_source_but_nvml_or_nvidia_smi(nvml, tmp_path: Path) -> None:
    found = open_source(EnergySettings(kind="energy", source="nvml"))
    assert found.name == "nvml"
    found.close()
    # A recorded nvidia-smi CSV takes the same way to the same tables.
    path = tmp_path / "smi.csv"
    rows = (f"2026/03/04 10:15:{t:02d}.000, 0, 100.00 W" for t in range(11))
    path.write_text("timestamp, index, power.draw [W]\n" + "\n".join(rows) + "\n")
    (row,) = tables_of(read_trace(path), SUBJECT, SETTINGS)["summary"].to_pylist()
    assert row["energy_j"] == pytest.approx(1000.0)
    assert row["source"] == "metered"
    assert row["variant"] == "whole log"


def test_94_achieved_intervals_gaps_and_repeated_readings() -> None:
    # 139 intervals of 105 ms and one of 430 ms.
    steps = [0.105] * 70 + [0.430] + [0.105] * 69
    times = np.concatenate(([0.0], np.cumsum(steps)))
    found = sampling(times)
    assert found.median_s == pytest.approx(0.105)
    assert found.p95_s == pytest.approx(0.105)
    assert found.max_gap_s == pytest.approx(0.430)
    assert [round(end - begin, 3) for begin, end in found.gaps] == [0.430]
    # Reading a slow counter five times as often changes no integral.
    joules = np.floor(np.arange(0, 10, 0.1) / 0.1) * 30.0
    slow = Board([channel("0", np.arange(0, 10, 0.1), {"energy_j": joules})], period_s=0.1)
    often = Board([channel("0", np.arange(0, 10, 0.02), {"energy_j": np.repeat(joules, 5)})], period_s=0.1)
    assert often.window(2.0, 8.0).energy_j == pytest.approx(slow.window(2.0, 8.0).energy_j)
    assert slow.window(2.0, 8.0).energy_j == pytest.approx(6 * 300.0)
    with pytest.raises(ValueError, match="`sample_interval` must be between 10 ms and 100 ms"):
        EnergySettings.model_validate({"kind": "energy", "sample_interval": "5 ms"})


def test_95_marked_windows_get_the_energy_between_their_marks() -> None:
    trace = constant(100.0, 20.0, Event("phase", "prefill", 2.0, 6.0), Event("phase", "decode", 8.0, 18.0))
    rows = {row["phase"]: row for row in phase_rows(trace, board(trace), SUBJECT)}
    assert rows["prefill"]["energy_j"] == pytest.approx(400.0)
    assert rows["decode"]["energy_j"] == pytest.approx(1000.0)
    # The same from a log that marks `begin` and `end` on its measurements.
    marks = {2.0: "begin", 6.0: "end"}
    log = {
        "device": "0",
        "measurements": [
            {"timestamp": t / 10, "power_mw": 100_000.0, "component": "mlp", "event": marks.get(t / 10, "")}
            for t in range(100)
        ],
    }
    (event,) = read_log(log, file="a.json").events
    assert (event.component, event.begin_s, event.end_s) == ("mlp", 2.0, 6.0)


def test_96_idle_is_subtracted_with_its_own_uncertainty() -> None:
    trace = constant(100.0, 10.0, Event("phase", "request", 0.0, 10.0), baseline_w=60.0)
    (row,) = phase_rows(trace, board(trace), SUBJECT)
    assert row["energy_j"] == pytest.approx(1000.0)
    assert row["net_energy_j"] == pytest.approx(400.0)
    # Two idle windows that differ: their spread widens the net interval. A negative net stays negative.
    times = np.arange(0.0, 60.0, 0.1)
    watts = np.where(times < 20, 60.0, np.where(times < 40, 70.0, 50.0))
    events = (
        Event("idle", "idle", 1.0, 19.0, variant="resident before"),
        Event("idle", "idle", 21.0, 39.0, variant="resident after"),
        Event("phase", "request", 42.0, 49.0), Event("phase", "request", 50.0, 57.0),
    )  # fmt: skip
    trace = Trace("replay", (channel("0", times, {"power_w": watts}),), events, period_s=0.1)
    assert baseline(trace, board(trace)).mean == pytest.approx(65.0)
    (row,) = phase_rows(trace, board(trace), SUBJECT)
    assert row["net_energy_j"] == pytest.approx(7 * (50.0 - 65.0))
    assert row["net_energy_j_high"] - row["net_energy_j_low"] > 7 * 5


def test_97_integration_of_power_over_time() -> None:
    ramp = Board([channel("0", [0.0, 1.0, 2.0], {"power_w": [0.0, 100.0, 0.0]})], period_s=0.1, held=False)
    assert ramp.window(0.0, 2.0).energy_j == pytest.approx(100.0)
    assert ramp.window(0.5, 1.5).energy_j == pytest.approx(75.0)  # edges are interpolated
    single = Board([channel("0", [1.0], {"power_w": [80.0]})], period_s=0.1)
    found = single.window(0.9, 1.9, resolvable=False)
    assert found.energy_j == pytest.approx(80.0)
    assert found.reason == "a single reading held over the window"


BY_PHASE = """\
Timestamp,Phase,Runtime (s),GPU Energy (mJ),Output Token Limit,Number of Input Tokens,Iteration,Batch Size,\
CPU Energy (J),GPU Energy (J),Prompt
1772619300.0,tokenizer,0.25,15000,32,0,0,32,0.4,15.0,"startup"
1772619300.25,model load,40.0,2400000,32,0,0,32,70.0,2400.0,"startup"
1772619340.3,start-inference-16-0,2.0,140000,16,24,0,32,3.0,140.0,"First line, then more"
1772619342.4,start-inference-16-1,0.5,80000,16,24,1,32,0.8,80.0,"First line, then more"
1772619343.0,start-inference-16-2,0.5,82000,16,24,2,32,0.8,82.0,"First line, then more"
"""


@pytest.fixture(scope="module")
def by_phase(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("phases") / "comma.csv"
    path.write_text(BY_PHASE)
    rows = tables_of(read_trace(path), SUBJECT, SETTINGS)["summary"].to_pylist()
    return {(row["phase"], row["variant"]): row for row in rows}


def test_98_model_loading(by_phase) -> None:
    row = by_phase["load", None]
    assert (row["energy_j"], row["time_s"]) == (2400.0, 40.0)


def test_99_input_processing(by_phase, tmp_path: Path) -> None:
    row = by_phase["tokenize", None]
    assert (row["energy_j"], row["time_s"]) == (15.0, 0.25)
    assert "below resolution: 0.25 s is shorter than 10 sensor periods" in row["reason"]
    path = tmp_path / "semicolon.csv"
    path.write_text("timestamp;tag;duration;nvidia_gpu_0\n1772619300.5;tokenizer;0.30;16000\n")
    (row,) = tables_of(read_trace(path), SUBJECT, SETTINGS)["summary"].to_pylist()
    assert (row["phase"], row["energy_j"]) == ("tokenize", 16.0)


def layered(layers: int = 32, *, seconds: float = 1.2, parts: int = 2) -> Trace:
    """A prefill of many layers with attention and feed-forward in each, at 200 to 300 W."""
    chance = np.random.default_rng(1)
    course = PowerCourse()
    course.add(2.0, 80.0)
    events = []
    begin = course.now_s
    for layer in range(layers):
        first = course.now_s
        for part in ("attention", "ffn")[:parts]:
            window = course.add(seconds, 200.0 + 100.0 * chance.random())
            events.append(Event("component", "prefill", *window, component=part, layer=layer))
        events.append(Event("layer", "prefill", first, course.now_s, layer=layer))
        course.add(0.01, 90.0)
    events.insert(0, Event("phase", "prefill", begin, course.now_s, tokens=4096))
    course.add(2.0, 80.0)
    device = SimulatedBoard(course)
    times = np.arange(0.0, course.now_s, 0.05)
    readings = {"power_w": device.power_w(times), "energy_j": device.counter_j(times)}
    return Trace("simulated", (channel("0", times, readings),), tuple(events), period_s=0.1)


def test_100_layers_one_by_one() -> None:
    trace = layered()
    rows = window_rows(trace, board(trace), "layer")
    layers = [row for row in rows if row["component"] == "layer"]
    assert [row["layer"] for row in layers] == list(range(32))
    whole = next(row for row in rows if row["parent"] is None)
    assert sum(row["energy_j"] for row in layers) <= whole["energy_j"]
    rest = next(row for row in rows if row["component"] == "unattributed")
    assert sum(row["energy_j"] for row in layers) + rest["energy_j"] == pytest.approx(whole["energy_j"])
    assert {row["method"] for row in layers} == {"window"}


def test_101_attention_and_feed_forward_apart_in_every_layer() -> None:
    trace = layered(8)
    rows = window_rows(trace, board(trace), "component")
    for part in ("attention", "ffn"):
        assert [row["layer"] for row in rows if row["component"] == part] == list(range(8))
    # Too short for the sensor: shared by time, and every row says so.
    short = layered(8, seconds=0.02)
    rows = [row for row in window_rows(short, board(short), "component") if row["component"] == "ffn"]
    assert {row["method"] for row in rows} == {"time_weighted"}
    assert all("below resolution: 0.02 s" in row["reason"] for row in rows)


def test_102_output_and_zero_is_allowed() -> None:
    trace = constant(100.0, 20.0, Event("phase", "detokenize", 2.0, 4.0, iterations=100, tokens=64))
    (row,) = phase_rows(trace, board(trace), SUBJECT)
    assert row["energy_j"] == pytest.approx(2.0)
    idle = Trace("replay", (), (Event("phase", "detokenize", 0.0, 2.0, energy_j=0.0),))
    (row,) = phase_rows(idle, board(idle), SUBJECT)
    assert row["energy_j"] == 0.0
    assert row["status"] == "ok"


def leaves(rows: list[dict], phase: str) -> list[dict]:
    """Rows that nothing is part of: they add up to the phase."""
    own = [row for row in rows if row["phase"] == phase]
    above = {(row["parent"], row["layer"] if row["parent"] == "layer" else None) for row in own}
    return [
        row
        for row in own
        if (row["component"], row["layer"] if row["component"] == "layer" else None) not in above
    ]


def test_103_three_views_of_one_recording_have_one_total() -> None:
    trace = layered(12)
    totals = []
    for view in ("phase", "layer", "component"):
        rows = window_rows(trace, board(trace), view)
        totals.append(math.fsum(row["energy_j"] for row in leaves(rows, "prefill")))
    assert totals[1] == pytest.approx(totals[0], abs=1e-9)
    assert totals[2] == pytest.approx(totals[0], abs=1e-9)


def test_104_hooked_and_unhooked_outputs_are_bit_equal() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from engine.measure.energy.anatomy import dissect
    from engine.measure.energy.capture import Capture

    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, vocab_size=50,
                                 num_attention_heads=2)
    ).eval()  # fmt: skip
    tokens = torch.arange(6).reshape(1, 6)
    with torch.inference_mode():
        plain = model(input_ids=tokens).logits
        with Capture(model, dissect(model)) as seen:
            hooked = model(input_ids=tokens).logits
    assert torch.equal(plain, hooked)
    assert len(seen.calls) > 20


def test_105_a_log_with_time_stamps(smoke: Trace) -> None:
    log = as_log(smoke)
    assert {"device", "baseline_power_watts", "sampling_rate_ms", "measurements"} <= set(log)
    assert log["sampling_rate_ms"] == 100.0
    assert FIELDS == (
        "timestamp", "power_mw", "power_w", "gpu_util", "mem_util", "temp", "component", "event"
    )  # fmt: skip
    assert all(set(FIELDS) <= set(row) for row in log["measurements"])
    first = log["measurements"][0]
    assert first["power_mw"] == pytest.approx(1e3 * first["power_w"])
    # Read again it gives the same tables.
    again = read_log(json.loads(to_text(log)), file="log.json")
    before, after = (tables_of(t, SUBJECT, SETTINGS) for t in (smoke, again))
    for name in ("summary", "components", "samples"):
        for left, right in zip(before[name].to_pylist(), after[name].to_pylist(), strict=True):
            assert {k: v for k, v in right.items() if not isinstance(v, float)} == {
                k: v for k, v in left.items() if not isinstance(v, float)
            }
            numbers = {k: v for k, v in left.items() if isinstance(v, float)}
            assert {k: right[k] for k in numbers} == pytest.approx(numbers, rel=1e-6, abs=1e-9)


def test_106_statistics_over_runs() -> None:
    found = estimate([4.10, 4.00, 4.05])
    # std 0.05; t(2) = 4.303; 4.303 x 0.05 / sqrt(3) = 0.1242
    assert (found.mean, found.n, found.std) == (pytest.approx(4.05), 3, pytest.approx(0.05))
    assert found.half_width == pytest.approx(0.1242, abs=1e-4)


VARIANTS = {
    "baseline": {"energy": [4.1, 4.0, 4.05], "power": [67.2, 65.6, 66.4], "duration": [0.061, 0.061, 0.061]},
    "without_LlamaMLP": {
        "energy": [4.06, 3.36, 4.02], "power": [66.6, 65.9, 65.9], "duration": [0.061, 0.051, 0.061]
    },
}  # fmt: skip


def test_107_a_difference_counts_only_beyond_its_interval(tmp_path: Path) -> None:
    path = tmp_path / "variants.json"
    path.write_text(json.dumps(VARIANTS))
    trace = read_trace(path)
    (found,) = ablations(trace.events, period_s=0.1)
    assert found.saved.mean == pytest.approx(0.2367, abs=1e-4)
    assert found.relative == pytest.approx(0.0584, abs=1e-4)
    assert not found.significant
    assert (
        "1 of 3 runs lasted another time than 0.061 s; without them the difference is 0.01 J" in found.reason
    )
    assert "holds 0" in found.reason
    assert "below resolution: runs of 0.061 s on a sensor of 0.1 s" in found.reason
    rows = tables_of(trace, SUBJECT, SETTINGS)
    (row,) = [r for r in rows["components"].to_pylist() if r["method"] == "ablation"]
    assert row["valid"] is False
    told = next(r for r in rows["findings"].to_pylist() if r["rule"] == "ablation")
    assert told["finding"] == "leaving out `without_LlamaMLP` saves 0.2367 J, 5.84%"
    assert told["evidence"].startswith("not significant")


def test_108_energy_of_each_step_adds_up_to_decode(smoke: Trace) -> None:
    one = dataclasses.replace(smoke, events=tuple(e for e in smoke.events if not e.warmup and e.repeat == 0))
    meter = board(one)
    rows = step_rows(one, meter)
    assert [row["step"] for row in rows] == list(range(255))
    (decode,) = [row for row in phase_rows(one, meter, SUBJECT) if row["phase"] == "decode"]
    assert math.fsum(row["energy_j"] for row in rows) == pytest.approx(decode["energy_j"], rel=1e-9)


def test_109_power_against_intensity(smoke: Trace, tables) -> None:
    found = correlation(smoke, board(smoke))
    assert found.n >= 3
    assert 0.9 < found.r <= 1.0
    told = next(r for r in tables["findings"].to_pylist() if r["rule"] == "power-follows-intensity")
    assert told["evidence"] == f"n = {found.n}"
    assert f"r = {found.r:.3f}" in told["finding"]


def test_110_two_names_for_one_efficiency() -> None:
    # 1200 tokens/s at 45 W for 10 s.
    event = Event("phase", "request", 1.0, 11.0, tokens=12_000)
    trace = constant(45.0, 12.0, event)
    (row,) = phase_rows(trace, board(trace), SUBJECT)
    assert round(row["tokens_per_joule"], 1) == 26.7
    assert row["tokens_per_s_per_w"] == pytest.approx(row["tokens_per_joule"])
    assert row["output_tokens_per_s"] == pytest.approx(1200.0)


def test_111_efficiency_by_batch_with_warm_up_apart(by_phase) -> None:
    assert set(by_phase) == {
        ("tokenize", None), ("load", None),
        ("request", "batch 32, 16 tokens"), ("request", "batch 32, 16 tokens, warm-up"),
    }  # fmt: skip
    measured = by_phase["request", "batch 32, 16 tokens"]
    warm = by_phase["request", "batch 32, 16 tokens, warm-up"]
    assert measured["energy_j"] == pytest.approx(81.0)  # (80 + 82) / 2, without iteration 0
    assert measured["energy_j_n"] == 2
    assert warm["energy_j"] == 140.0
    assert measured["energy_per_output_token_j"] == pytest.approx(81.0 / (16 * 32))


def test_112_models_compared_by_token_and_by_parameter() -> None:
    from engine.measure.energy.measure import subject_of
    from engine.plan.compile import compile_plan
    from engine.spec.experiment import Experiment

    models = ["llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3.2-1b", "llama-3.2-3b", "llama-3.3-70b"]
    experiment = Experiment.model_validate(
        {
            "version": 1, "name": "sizes", "model": "llama-2-7b", "hardware": "h100-sxm-80gb",
            "sweep": {"axes": {"model": models}}, "measurements": [{"kind": "energy"}],
        }
    )  # fmt: skip
    trace = constant(300.0, 20.0, Event("phase", "request", 2.0, 12.0, tokens=1000))
    per_token, per_billion = [], []
    for task in compile_plan(experiment).tasks:
        subject = subject_of(next(task.points()))
        (row,) = phase_rows(trace, board(trace), subject)
        per_token.append(row["energy_per_output_token_j"])
        per_billion.append(row["energy_per_output_token_per_billion_j"])
    assert per_token == pytest.approx([3.0] * 6)  # 3000 J over 1000 tokens
    # 6.738, 13.016 and 68.977 billion parameters, then 1.236, 3.213 and 70.554.
    billions = [6.738, 13.016, 68.977, 1.236, 3.213, 70.554]
    assert per_billion == pytest.approx([3.0 / b for b in billions], rel=1e-3)


def summary(*rows):
    names = dict.fromkeys(name for row in rows for name in row)
    return make_table("summary", {name: [row.get(name) for row in rows] for name in names})


def points(*sizes: int):
    return make_table(
        "points",
        {"point": list(range(len(sizes))), "model": ["m"] * len(sizes), "batch_size": list(sizes),
         "quantization": ["bf16"] * len(sizes), "prompt_tokens": [512] * len(sizes)},
    )  # fmt: skip


def metered(point: int, joules: float, half: float) -> dict:
    return {
        "point": point, "source": "metered", "phase": "request", "status": "ok", "energy_j": joules * 100,
        "energy_per_output_token_j": joules, "energy_per_output_token_j_low": joules - half,
        "energy_per_output_token_j_high": joules + half,
    }  # fmt: skip


def test_113_advice_with_its_evidence_or_none() -> None:
    apart = {"summary": summary(metered(0, 0.455, 0.01), metered(1, 0.165, 0.01)), "points": points(8, 32)}
    batch = next(row for row in energy_findings(apart) if row["rule"] == "energy-batch")
    assert (
        batch["finding"] == "batch 32 takes the least energy per token; weights are read once for more tokens"
    )
    assert batch["evidence"] == "8: 0.455 J/token (0.445 to 0.465), 32: 0.165 J/token (0.155 to 0.175)"
    assert batch["gain"] == "64% less energy per output token"  # 1 - 0.165 / 0.455
    assert batch["change"] == "workload:\n  batch_size: 32"
    near = {"summary": summary(metered(0, 0.17, 0.01), metered(1, 0.165, 0.01)), "points": points(8, 32)}
    batch = next(row for row in energy_findings(near) if row["rule"] == "energy-batch")
    assert batch["finding"] == "the evidence does not suffice for advice on batch"
    assert batch["gain"] is None
    named = {row["rule"] for row in energy_findings(near)}
    assert {"energy-quantization", "energy-context", "energy-clock", "energy-power-cap"} <= named


def test_114_report_and_export_from_a_run_folder_alone(tmp_path: Path) -> None:
    from engine.cli import main

    def engine(*arguments: str) -> int:
        with pytest.raises(SystemExit) as done:
            main(["--quiet", *arguments])
        return int(done.value.code or 0)

    runs = str(tmp_path / "runs")
    assert engine("run", str(ROOT / "specs" / "energy_smoke.yaml"), "--runs", runs) == 0
    folder = tmp_path / "runs" / "energy-smoke"
    html = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "Energy by component" in html
    assert "simulated" in html
    for form in ("csv", "json"):
        target = tmp_path / f"components.{form}"
        assert engine("export", str(folder), "components", "--format", form, "--output", str(target)) == 0
    import pandas as pd

    table = pd.read_csv(tmp_path / "components.csv")
    rows = json.loads((tmp_path / "components.json").read_text())
    rows = rows["rows"] if isinstance(rows, dict) else rows
    assert len(table) == len(rows) > 300
    left = [row["energy_j"] for row in rows if row["energy_j"] is not None]
    assert table["energy_j"].dropna().tolist() == pytest.approx(left, rel=1e-12)


def story_charts(tables) -> dict:
    """The report's energy charts of these tables."""
    from types import SimpleNamespace

    from engine.report.charts.energy import energy_charts

    redact = SimpleNamespace(text=lambda value: value)
    story = SimpleNamespace(tables=tables, winner=None, redact=redact, choice=None)
    return {chart.name: chart for chart in energy_charts(story)}


def values_of(chart) -> list[dict]:
    return [row for data in _datasets(chart.spec) for row in data]


def _datasets(node):
    if isinstance(node, dict):
        if isinstance(node.get("values"), list) and node["values"] and isinstance(node["values"][0], dict):
            yield node["values"]
        for inner in node.values():
            yield from _datasets(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _datasets(inner)


@pytest.mark.parametrize("chart, through", [("energy-flows", "decode"), ("request-flows", "decode: ffn")])
def test_115_what_flows_in_flows_out(tables, chart: str, through: str) -> None:
    rows = values_of(story_charts(tables)[chart])
    nodes = {row["name"]: row["value"] for row in rows if row.get("kind") == "node"}
    ribbons = {row["link"]: row for row in rows if row.get("kind") == "ribbon"}.values()
    inflow: dict[str, float] = {}
    outflow: dict[str, float] = {}
    for ribbon in ribbons:
        outflow[ribbon["from"]] = outflow.get(ribbon["from"], 0.0) + ribbon["value"]
        inflow[ribbon["to"]] = inflow.get(ribbon["to"], 0.0) + ribbon["value"]
    assert {"prefill", "decode", through} <= set(inflow) & set(outflow)
    for name in set(inflow) & set(outflow):
        assert inflow[name] == pytest.approx(outflow[name], rel=1e-3)
    assert all(nodes[name] == pytest.approx(value, rel=1e-3) for name, value in inflow.items())
    assert any("unattributed" in name for name in nodes)


def test_115_the_flow_of_a_request_rests_on_metered_phases(tables) -> None:
    rows = values_of(story_charts(tables)["request-flows"])
    metered = {r["phase"]: r["energy_j"] for r in tables["summary"].to_pylist() if not r["variant"]}
    nodes = {row["name"]: row["value"] for row in rows if row.get("kind") == "node"}
    scale = nodes["load"] / metered["load"]
    assert nodes["prefill"] == pytest.approx(metered["prefill"] * scale, rel=1e-3)
    assert nodes["decode"] == pytest.approx(metered["decode"] * scale, rel=1e-3)
    # 255 steps of 16 feed-forwards.
    wanted = ("ffn", "decode", None, "loop")
    listed = tables["components"].to_pylist()
    each = next(
        r["energy_j"] for r in listed if (r["component"], r["phase"], r["layer"], r["method"]) == wanted
    )
    assert nodes["decode: ffn"] == pytest.approx(255 * 16 * each * scale, rel=1e-3)


def test_116_layers_by_components() -> None:
    trace = dataclasses.replace(layered(32), source="replay")
    chart = story_charts(tables_of(trace, SUBJECT, SETTINGS))["layers"]
    cells = [row for row in values_of(chart) if row["component"].split(",")[0] in ("attention", "ffn")]
    assert len(cells) == 32 * 2
    assert "Energy (J)" in json.dumps(chart.spec)  # the scale of colours has a unit


def test_116_invalid_cells_are_hatched_and_have_no_colour() -> None:
    trace = dataclasses.replace(layered(8), source="replay")
    rows = tables_of(trace, SUBJECT, SETTINGS)["components"].to_pylist()
    for row in rows:
        row["valid"] = row["valid"] and (row["component"], row["layer"]) != ("ffn", 3)
    names = list(rows[0])
    table = make_table("components", {name: [row[name] for row in rows] for name in names})
    chart = story_charts({"components": table})["layers"]
    cells = {(r["component"], r["layer"]): r["value"] for r in values_of(chart)}
    assert cells["ffn, prefill", 3] is None
    assert cells["ffn, prefill", 2] > 0
    colored, hatched = chart.spec["layer"]
    assert colored["transform"] == [{"filter": "datum.value !== null"}]
    assert hatched["mark"]["type"] == "text"


def test_117_power_over_time_with_its_windows(tables) -> None:
    chart = story_charts(tables)["power"]
    rows = values_of(chart)
    marked = {row["phase"] for row in rows if "from" in row and row.get("phase")}
    assert {"idle", "prefill", "decode"} <= marked
    drawn = max(row["p"] for row in rows if "p" in row)
    table = max(row["power_w"] for row in tables["samples"].to_pylist())
    assert drawn == pytest.approx(table, rel=1e-3)
    inside = max(row["power_w"] for row in tables["samples"].to_pylist() if row["phase"] == "prefill")
    peak = max(row["peak_power_w"] for row in tables["summary"].to_pylist() if row["phase"] == "prefill")
    assert peak == pytest.approx(inside, rel=1e-9)


def test_118_bars_are_the_values_of_the_table(tables) -> None:
    chart = story_charts(tables)["component-bars"]
    bars = {(r["component"], r["phase"]): r for r in values_of(chart) if "low" in r}
    row = next(r for r in tables["components"].to_pylist()
               if (r["component"], r["phase"], r["layer"]) == ("down", "decode", None))  # fmt: skip
    bar = bars["down", "decode"]
    scale = bar["value"] / (row["energy_j"] * row["count"])
    assert bar["low"] == pytest.approx(row["energy_low_j"] * row["count"] * scale, rel=1e-3)
    assert bar["high"] == pytest.approx(row["energy_high_j"] * row["count"] * scale, rel=1e-3)
    assert scale in (pytest.approx(1.0, rel=1e-3), pytest.approx(1e3, rel=1e-3))
    true = true_energies()["down"]
    assert row["energy_low_j"] * 0.995 <= true <= row["energy_high_j"] * 1.005


def test_118_points_are_compared_gross_and_above_idle() -> None:
    rows = [
        metered(0, 0.4, 0.02) | {"net_energy_j": 20.0, "net_energy_j_low": 18.0, "net_energy_j_high": 22.0},
        metered(1, 0.2, 0.01),
    ]
    chart = story_charts({"summary": summary(*rows), "points": points(8, 32)})["energy-points"]
    bars = {(r["name"], r["kind"]): r for r in values_of(chart) if "kind" in r}
    gross, net = bars["batch 8", "gross"], bars["batch 8", "above idle"]
    scale = gross["value"] / 0.4
    assert (gross["low"], gross["high"]) == (pytest.approx(0.38 * scale), pytest.approx(0.42 * scale))
    # 40 J over 100 tokens; 20 J of them above idle.
    assert (net["value"], net["low"]) == (pytest.approx(0.2 * scale), pytest.approx(0.18 * scale))
    assert bars["batch 32", "gross"]["value"] == pytest.approx(0.2 * scale)


def test_119_parts_against_the_whole_and_the_cost_of_looking(tables) -> None:
    findings = [row["finding"] for row in tables["findings"].to_pylist() if row["rule"] == "parts-add-up"]
    assert any("parts of `step` hold 9" in text and "of its energy" in text for text in findings)
    step = next(r for r in tables["components"].to_pylist()
                if (r["component"], r["phase"]) == ("step", "decode") and r["step"] is None)  # fmt: skip
    parts = [r for r in tables["components"].to_pylist()
             if r["parent"] == "step" and r["phase"] == "decode" and r["layer"] is None
             and r["method"] in ("loop", "remainder")]  # fmt: skip
    total = math.fsum(r["energy_j"] * r["count"] for r in parts)
    assert total == pytest.approx(step["energy_j"], rel=1e-9)  # with the remainder, nothing is lost


def test_120_what_is_too_short_for_the_sensor_says_so() -> None:
    assert below_resolution(0.061, 0.1) == (
        "below resolution: 0.061 s is shorter than 10 sensor periods of 0.1 s; "
        "only many repeats of it can be metered"
    )
    trace = constant(62.0, 10.0, Event("phase", "request", 2.0, 2.061))
    (row,) = phase_rows(trace, board(trace), SUBJECT)
    assert row.get("energy_j") is None  # absent, not 0
    assert row["status"] == "skipped"
    assert row["reason"].startswith("below resolution: 0.061 s")
    # A window that can be resolved carries what its ends and the sensor's gain may be off by.
    trace = constant(100.0, 10.0, Event("phase", "request", 2.0, 7.0))
    (row,) = phase_rows(trace, board(trace), SUBJECT)
    assert row["energy_systematic_j"] == pytest.approx(0.05 * 500.0 + 100.0 * 0.1)


def test_the_shipped_recording_is_the_one_the_program_makes() -> None:
    path = ROOT / "specs" / "example_traces" / "llama32_1b_smoke.json.gz"
    made = to_text(as_log(smoke_trace()))
    assert gzip.decompress(path.read_bytes()).decode() == made


def test_the_shipped_recording_has_a_counter_that_its_power_bears_out(tables) -> None:
    told = [row["reason"] for row in tables["summary"].to_pylist()]
    assert not [text for text in told if "disagree" in (text or "")]
