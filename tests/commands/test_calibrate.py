"""`engine calibrate` and `engine validate-model` from a file of timings to a prediction with its band."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from tests.perfmodel.synthetic import measured

Engine = Callable[..., Any]


def rows(answer: Any) -> list[dict[str, str]]:
    """An exported table."""
    return list(csv.DictReader(io.StringIO(answer.out)))


DEVICE = """\
name: synthetic
vendor: nobody
peak: {bf16: 400 TFLOP/s, fp16: 400 TFLOP/s}
memory: 80 GB
memory_bandwidth: 2 TB/s
sm_count: 100
confidence: C
"""


@pytest.fixture
def timings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a device of its own and a table of its kernels, in microseconds under foreign names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "synthetic.yaml").write_text(DEVICE, encoding="utf-8")
    path = tmp_path / "times.csv"
    names = ["op", "took", "m", "n", "k", "batch", "q_len", "kv_len", "num_heads", "num_kv_heads", "head_dim"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for kind in ("gemm", "prefill_attention", "decode_attention"):
            table = measured(kind, noise=0.05)
            for i, seconds in enumerate(table.pop("measured_s")):
                shape = {name: int(column[i]) for name, column in table.items()}
                writer.writerow({"op": kind, "took": seconds * 1e6, **shape})
    return path


COMMON = ("--column", "time_us=took", "--constant", "device=synthetic", "--constant", "precision=bf16")


def test_from_timings_to_a_prediction(engine: Engine, timings: Path) -> None:
    target = timings.parent / "hardware" / "calibrations" / "mine.yaml"
    done = engine("calibrate", timings, "-o", target, *COMMON, "--constant", "engine=mine")
    assert done.code == 0, done.err
    assert done.out == f"{target}\n"
    assert f"specs in `{timings.parent}` find it" in done.err
    assert "gemm in bf16, synthetic, mine: 72 rows of 12 shapes, held out " in done.err
    spec = timings.parent / "try.yaml"
    spec.write_text(
        "version: 1\nname: try\nmodel: llama-3.1-8b\nhardware: synthetic\n"
        "measurements: [{kind: analytical}, {kind: analytical, calibration: none}]\n",
        encoding="utf-8",
    )
    assert engine("run", spec, "--no-report").code == 0
    found = {r["basis"]: r for r in rows(engine("export", "try", "summary")) if r["phase"] == "request"}
    assert set(found) == {"estimate", "bound"}
    estimate = found["estimate"]
    assert estimate["calibration"] == "mine"
    assert float(estimate["bound_time_s"]) == pytest.approx(float(found["bound"]["time_s"]))
    assert float(estimate["tpot_s_low"]) < float(estimate["tpot_s"]) < float(estimate["tpot_s_high"])


def test_a_fit_of_nothing_says_why(engine: Engine, timings: Path) -> None:
    few = timings.parent / "few.csv"
    few.write_text("\n".join(timings.read_text(encoding="utf-8").splitlines()[:2]) + "\n", encoding="utf-8")
    done = engine("calibrate", few, "-o", timings.parent / "x.yaml", *COMMON)
    assert done.code == 2
    assert "`gemm` has 1 usable rows of 1 shapes, a fit needs 12 of 3" in done.err
    assert not (timings.parent / "x.yaml").exists()


def test_an_absent_table_is_no_run(engine: Engine, timings: Path) -> None:
    done = engine("calibrate", "typo.csv", "-o", timings.parent / "x.yaml")
    assert (done.code, done.err) == (2, "error: there is no file `typo.csv`\n")


def test_a_mistake_in_an_own_sheet_is_said(engine: Engine, timings: Path) -> None:
    sheet = timings.parent / "hardware" / "synthetic.yaml"
    sheet.write_text(DEVICE.replace("2 TB/s", "2 TB"), encoding="utf-8")
    done = engine("calibrate", timings, "-o", timings.parent / "x.yaml", *COMMON)
    assert done.code == 2
    assert "memory_bandwidth" in done.err
    assert "in the catalogue" not in done.err


def test_one_of_the_two_sorts_can_be_left_out(engine: Engine, timings: Path) -> None:
    target = timings.parent / "mine.yaml"
    asked = ("calibrate", timings, "-o", target, *COMMON, "--constant", "engine=mine", "--only")
    done = engine(*asked, "operators")
    assert (done.code, done.out) == (0, f"{target}\n")
    assert "specs find parameter sets in a folder `hardware/calibrations` beside them" in done.err
    refused = engine(*asked, "requests")
    assert refused.code == 2
    assert "`--only requests`: there are no whole requests here" in refused.err
    assert "`- kind: live`" in refused.err
    served = timings.parent / "served.csv"
    columns = "model,device,prompt_tokens,output_tokens,batch_size,tpot_ms"
    served.write_text(f"{columns}\nllama-3.1-8b,h100-sxm-80gb,128,128,1,9\n", encoding="utf-8")
    refused = engine("calibrate", served, "-o", target, "--only", "operators")
    assert refused.code == 2
    assert "`--only operators`: there are no times of operators here" in refused.err
    assert "`- kind: device_probe`" in refused.err


def test_errors_of_the_model_as_a_table(engine: Engine, timings: Path) -> None:
    done = engine("validate-model", timings, *COMMON, "--format", "markdown")
    assert done.code == 0
    assert done.out.startswith("| gemm in bf16, synthetic | all | 72 | 12 | ")
    shipped = engine("validate-model", timings, *COMMON, "--shipped")
    assert "no parameters: the bound alone" in shipped.out


def test_a_lone_forward_pass_is_judged_as_a_prefill(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "passes.csv"
    path.write_text(
        "device,model,prompt_tokens,output_tokens,batch_size,ttft_ms,tpot_ms\n"
        "h100-sxm-80gb,llama-3.1-8b,2048,1,1,46.7,\n"
        "h100-sxm-80gb,llama-3.1-8b,2048,1,1,,\n"
    )
    done = engine("validate-model", path, "--shipped", "--format", "json")
    assert done.code == 0, done.err
    assert "1 runs left out: a single output token has no time between tokens" in done.err
    (line, each) = json.loads(done.out)
    assert each["size"] == "llama-3.1-8b of width 4096, 2048 + 1 tokens, batch 1"
    assert line["subject"].startswith("prefill, whole requests, h100-sxm-80gb")
    assert (line["rows"], line["covered"]) == (1, 1.0)
    assert line["median"] < 0.15


def test_a_report_of_the_fit(engine: Engine, timings: Path) -> None:
    folder = timings.parent / "report"
    done = engine("calibrate", timings, "-o", timings.parent / "mine.yaml", *COMMON, "--report", folder)
    assert done.code == 0, done.err
    page = (folder / "calibration.html").read_text(encoding="utf-8")
    assert "held out" in page
    assert page.count('<figure class="chart">') == 6
    assert "Nothing: every row was used." in page
    book = openpyxl.load_workbook(folder / "calibration.xlsx")
    assert book.sheetnames == ["Errors", "Fits", "Left out", "Charts"]
    assert {row[-1] for row in book["Errors"].iter_rows(min_row=2, values_only=True)} == {None}
    assert [row[0] for row in book["Fits"].iter_rows(min_row=2, values_only=True)] == [
        f"{kind} in bf16, synthetic" for kind in ("gemm", "prefill attention", "decode attention")
    ]
    assert [row[0] for row in book["Left out"].iter_rows(values_only=True)] == ["nothing: every row was used"]
    assert len(book["Charts"]._images) == 6


LOGS = Path(__file__).parents[2] / "specs" / "example_runs"
MODELS = ("--name", "llama_7b=llama-2-7b", "--name", "llama_13b=llama-2-13b")


def test_a_folder_of_logs_gives_terms_of_whole_requests(engine: Engine, timings: Path) -> None:
    target, folder = timings.parent / "logs.yaml", timings.parent / "report"
    done = engine(
        "calibrate", LOGS, "-o", target, *MODELS, "--constant", "engine=llama.cpp", "--report", folder
    )
    assert done.code == 0, done.err
    assert "whole requests, a100-sxm-80gb, llama.cpp: 6 runs, step " in done.err
    assert "2 runs left out: no model `llama_70b` in the catalogue" in done.err
    text = target.read_text(encoding="utf-8")
    assert "device: a100-sxm-80gb\n" in text
    assert "request:\n  step: " in text
    assert "operators:" not in text  # those of the device are in the catalogue
    page = (folder / "calibration.html").read_text(encoding="utf-8")
    assert "time per token, whole requests, a100-sxm-80gb, llama.cpp" in page
    assert page.count('<figure class="chart">') == 2


def test_logs_of_unknown_models_say_how_to_name_them(engine: Engine, timings: Path) -> None:
    done = engine("calibrate", LOGS, "-o", timings.parent / "x.yaml")
    assert done.code == 2
    assert "say which entry is meant with `--name THEIRS=OURS`" in done.err


def test_a_table_of_whole_requests(engine: Engine, timings: Path) -> None:
    path = timings.parent / "served.csv"
    lines = ["model,isl,osl,concurrency,tp,itl_ms,ttft_ms"]
    # A lone 8 B model on 2 TB/s reads 16 GB a step: 8 ms, and prefills at 400 TFLOP/s.
    for prompt in (512, 1024, 2048):
        for batch in (1, 8, 32):
            token_ms = 10 + 0.02 * batch + (batch - 1) * (prompt / 10) / 128  # a step, and prefills of others
            lines.append(f"llama-3.1-8b,{prompt},128,{batch},1,{token_ms},{prompt / 10}")
    lines.append("llama-3.1-8b,512,128,1,1,0.01,51")
    lines.append("no-such-model,512,128,1,1,10,51")
    lines.append("llama-3.1-8b,512,128,x,1,10,51")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    target = timings.parent / "hardware" / "calibrations" / "served.yaml"
    done = engine(
        "calibrate", path, "-o", target, "--constant", "device=synthetic", "--constant", "precision=bf16"
    )
    assert done.code == 0, done.err
    assert "whole requests, synthetic: 9 runs, compute efficiency " in done.err
    assert "1 runs left out: faster than the data sheet allows" in done.err
    assert "1 runs left out: no model `no-such-model` in the catalogue" in done.err
    assert "1 runs left out: `batch_size` is not a whole number above zero" in done.err
    judged = engine("validate-model", path, "--constant", "device=synthetic", "--constant", "precision=bf16")
    assert judged.out.startswith(
        "time per token, whole requests, synthetic, all: 9 rows of 9 shapes, median "
    )
    spec = timings.parent / "try.yaml"
    spec.write_text(
        "version: 1\nname: try\nmodel: llama-3.1-8b\nhardware: synthetic\nworkload: {prompt_tokens: 1024}\n"
        "measurements: [{kind: analytical}]\n",
        encoding="utf-8",
    )
    assert engine("run", spec, "--no-report").code == 0
    (found,) = [r for r in rows(engine("export", "try", "summary")) if r["phase"] == "request"]
    assert found["calibration"] == "served"
    assert float(found["tpot_s"]) == pytest.approx(10e-3, rel=0.1)
