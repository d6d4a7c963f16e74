"""`engine profile`: the spec it stands for, and what it prints of a replayed recording."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.cli import app
from engine.commands.loading import load_checked
from engine.errors import UsageError
from engine.testing.power import write_smoke_trace


def profile(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["--quiet", "--no-progress", "profile", *arguments])


def test_the_spec_it_stands_for(tmp_path: Path) -> None:
    shown = profile(
        "--model", "llama-3.2-1b", "--granularity", "component", "--hardware", "h100-sxm-80gb", "--heads",
        "--print-spec",
    )  # fmt: skip
    assert shown.exit_code == 0
    assert shown.stdout == (
        "# Written by `engine profile`; edit it and use `engine run`.\n"
        "version: 1\n"
        "name: profile-llama-3.2-1b\n"
        "model: llama-3.2-1b\n"
        "hardware: h100-sxm-80gb\n"
        "quantization: bf16\n"
        "workload:\n"
        "  prompt_tokens: 512\n"
        "  output_tokens: 64\n"
        "  batch_size: 1\n"
        "measurements:\n"
        "  - kind: analytical\n"
        "  - kind: energy\n"
        "    source: auto\n"
        "    granularity: component\n"
        "    method: loop\n"
        "    trials: 10\n"
        "    repeats: 5\n"
        "    heads: true\n"
        "    target: {kind: local, weights: random, device: auto}\n"
        "    on_missing: error\n"
        "report:\n"
        "  formats: [html]\n"
    )
    spec = tmp_path / "profile.yaml"
    spec.write_text(shown.stdout)
    assert load_checked(spec).experiment.measurements[1].kind == "energy"


@pytest.mark.parametrize(
    "more",
    [
        ["--time-only"],
        ["--ablation", "--granularity", "layer"],
        ["--batch", "8"],
        ["--devices", "2", "--hardware", "h100-sxm-80gb"],
    ],
)
def test_every_spec_it_writes_is_valid(more: list[str], tmp_path: Path) -> None:
    shown = profile("--model", "llama-3.2-3b", "--print-spec", *more)
    spec = tmp_path / "profile.yaml"
    spec.write_text(shown.stdout)
    kinds = [m.kind for m in load_checked(spec).experiment.measurements]
    assert kinds.count("energy") == 1


def test_several_devices_need_a_name() -> None:
    shown = profile(
        "--model", "llama-3.3-70b", "--devices", "2", "--hardware", "h100-sxm-80gb", "--print-spec"
    )
    assert "\nparallelism: {pipeline: 2}\n" in shown.stdout
    unknown = profile("--model", "llama-3.3-70b", "--devices", "2", "--print-spec")
    assert isinstance(unknown.exception, UsageError)
    assert unknown.exception.message == (
        "`--devices 2` needs to know what joins them, and this machine's device is not known"
    )


def test_replay_needs_a_recording() -> None:
    shown = profile("--model", "llama-3.2-1b", "--source", "replay")
    assert isinstance(shown.exception, UsageError)
    assert shown.exception.message == "`--source replay` needs `--trace FILE`"


def test_a_replayed_profile_is_printed_logged_and_drawn(tmp_path: Path) -> None:
    trace = tmp_path / "smoke.json.gz"
    write_smoke_trace(trace)
    shown = profile(
        "--model", "llama-3.2-1b", "--hardware", "h100-sxm-80gb", "--trace", str(trace), "--batch", "8",
        "--gen-toks", "256", "--runs", str(tmp_path / "runs"), "--log", str(tmp_path / "log.json"),
        "--figures", str(tmp_path / "figures"),
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    decode = next(line for line in lines if line.startswith("decode    "))
    assert "330 J" in decode
    ffn = next(line for line in lines if line.startswith("decode: ffn "))
    assert ffn.split()[:5] == ["decode:", "ffn", "16", "99", "µs"]
    assert "54.5%" in ffn
    assert any(
        line.startswith("advice   energy-hotspot: decode: `ffn` takes 55% of a step") for line in lines
    )
    assert any("r = " in line and "(n = " in line for line in lines)
    assert any("the evidence does not suffice for advice on batch" in line for line in lines)
    log = json.loads((tmp_path / "log.json").read_text())
    assert {"device", "baseline_power_watts", "sampling_rate_ms", "measurements"} <= set(log)
    assert log["source"] == "simulated"
    assert {row["component"] for row in log["measurements"]} >= {"prefill", "decode", "ffn"}
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == {
        f"{name}.{form}"
        for name in ("request-flows", "energy-flows", "component-bars", "layers", "power")
        for form in ("svg", "png")
    }


def test_places_that_cannot_be_written_are_told_before_anything_runs(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    found = profile("--model", "llama-3.2-1b", "--figures", str(taken), "--runs", str(tmp_path / "runs"))
    assert found.exit_code == 2
    assert "is a file" in found.output
    found = profile(
        "--model", "llama-3.2-1b", "--log", str(taken / "x.json"), "--runs", str(tmp_path / "runs")
    )
    assert isinstance(found.exception, UsageError)
    assert found.exception.message == f"the folder `{taken}` cannot be made: File exists"
    assert not (tmp_path / "runs").exists()


def test_real_weights_lie_beside_their_config(tmp_path: Path) -> None:
    config = tmp_path / "own" / "config.json"
    config.parent.mkdir()
    config.write_text("{}")
    asked = ("--model", str(config), "--weights", "real", "--print-spec")
    found = profile(*asked)
    assert isinstance(found.exception, UsageError)
    assert found.exception.message == f"there are no weights (`*.safetensors`) in `{config.parent}`"
    (config.parent / "model.safetensors").write_bytes(b"")
    assert f'weights: "{config.parent}"' in profile(*asked).stdout
    assert (
        "weights: meta-llama/Llama-3.2-1B"
        in profile("--model", "meta-llama/Llama-3.2-1B", "--weights", "real", "--print-spec").stdout
    )
