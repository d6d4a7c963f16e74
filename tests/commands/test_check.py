from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Engine = Callable[..., Any]


def test_good_spec_says_so_on_stderr_only(engine: Engine, spec: Path) -> None:
    answer = engine("check", spec)
    assert (answer.code, answer.out, answer.err) == (0, "", "tiny.yaml: no problems\n")


def test_mistakes_of_every_section_come_at_once(engine: Engine, spec: Path) -> None:
    text = spec.read_text()
    text = text.replace("llama-3.1-8b", "llama-3.1-9b").replace("a100-sxm-80gb", "a100-sxm-81gb")
    text = text.replace("batch_size: [1, 8]", "batch_sise: [1, 8]").replace(
        "kind: analytical", "kind: analytic"
    )
    spec.write_text(text + "modle: x\n")
    answer = engine("check", spec)
    assert answer.code == 2
    assert answer.err == (
        "tiny.yaml:3:8: there is no model `llama-3.1-9b`\n"
        "    3 | model: llama-3.1-9b\n"
        "      |        ^ did you mean `llama-3.1-8b` or `llama-3.1-70b`?; looked in the shipped catalogue\n"
        "tiny.yaml:7:31: there is no device `a100-sxm-81gb`\n"
        "    7 |     hardware: [h100-sxm-80gb, a100-sxm-81gb]\n"
        "      |                               ^ did you mean `a100-sxm-80gb`?; "
        "looked in the shipped catalogue\n"
        "tiny.yaml:8:5: `workload.batch_sise` names no field that can be swept\n"
        "    8 |     workload.batch_sise: [1, 8]\n"
        "      |     ^ did you mean `workload.batch_size`?\n"
        "tiny.yaml:10:11: there is no `kind: analytic`\n"
        "   10 |   - kind: analytic\n"
        "      |           ^ did you mean `analytical`?\n"
        "tiny.yaml:13:1: unknown key `modle`\n"
        "   13 | modle: x\n"
        "      | ^ did you mean `model`?\n"
        "5 problems in tiny.yaml; nothing was run.\n"
    )


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ("workload.batch_size: []", "axis `workload.batch_size` has no values"),
        ("workload.batch_size: [1, 1]", "axis `workload.batch_size` lists `1` twice"),
        ("workload.nothing: [1]", "`workload.nothing` names no field that can be swept"),
    ],
)
def test_bad_axis(engine: Engine, spec: Path, axis: str, message: str) -> None:
    spec.write_text(spec.read_text().replace("workload.batch_size: [1, 8]", axis))
    answer = engine("check", spec)
    assert answer.code == 2
    assert answer.err.startswith("tiny.yaml:8:")
    assert message in answer.err


def test_machine_formats_go_to_stdout(engine: Engine, spec: Path) -> None:
    spec.write_text(spec.read_text() + "modle: x\n")
    found = json.loads(engine("check", spec, "--format", "json").out)
    assert [p["line"] for p in found["problems"]] == [13]
    sarif = json.loads(engine("check", spec, "--format", "sarif").out)
    assert sarif["version"] == "2.1.0"
    assert engine("check", spec, "--format", "github").out.startswith("::error file=tiny.yaml,line=13")


def test_too_many_points_are_refused_with_the_way_out(engine: Engine, spec: Path) -> None:
    values = ", ".join(str(n) for n in range(1, 1001))
    axes = "\n".join(
        f"    workload.{name}: [{values}]" for name in ("batch_size", "prompt_tokens", "output_tokens")
    )
    spec.write_text(spec.read_text().replace("    workload.batch_size: [1, 8]", axes))
    answer = engine("check", spec)
    assert answer.code == 2
    assert "the sweep has 2,000,000,000 points, more than the 100,000,000" in answer.err
    assert "--max-points 2000000000" in answer.err


def test_missing_file(engine: Engine, spec: Path) -> None:
    answer = engine("check", "absent.yaml")
    assert answer.code == 2
    assert "absent.yaml" in answer.err
    assert "Traceback" not in answer.err


def test_a_format_the_only_device_lacks_is_an_error(engine: Engine, spec: Path) -> None:
    answer = engine(
        "check", spec, "--set", "quantization=fp8", "--set", "sweep.axes.hardware=[a100-sxm-80gb]"
    )
    assert answer.code == 2
    assert "`NVIDIA A100 SXM4 80GB` does not offer" in answer.err


def test_a_format_one_device_of_a_sweep_lacks_is_a_warning(engine: Engine, spec: Path) -> None:
    spec.write_text(spec.read_text().replace("    workload", "    quantization: [bf16, fp8]\n    workload"))
    answer = engine("check", spec)
    assert answer.code == 0
    assert answer.err.startswith("tiny.yaml:8:26: warning: `fp8` computes")
    assert answer.err.endswith("1 problem; these combinations will be skipped.\n")
    dropped = "  drop:\n    - {when: {hardware: a100-sxm-80gb, quantization: fp8}, because: no fp8 units}\n"
    spec.write_text(spec.read_text().replace("measurements:", dropped + "measurements:"))
    assert engine("check", spec).err == "tiny.yaml: no problems\n"


def test_too_many_points_are_json_too(engine: Engine, spec: Path) -> None:
    answer = engine("check", spec, "--max-points", "3", "--format", "json")
    (problem,) = json.loads(answer.out)["problems"]
    assert answer.code == 2
    assert (problem["code"], problem["file"]) == ("bad-sweep", "tiny.yaml")
    assert problem["message"] == "the sweep has 4 points, more than the 3 that are predicted without asking"
