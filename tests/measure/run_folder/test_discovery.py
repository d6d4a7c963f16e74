"""Folders -> runs, configurations and repeats."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.measure.run_folder.devices import catalogue_name, known_devices
from engine.measure.run_folder.discovery import local_folder
from engine.measure.run_folder.names import is_model, model_size, place_of, quantization
from tests.measure.run_folder.trees import constant, put, read, timings, vllm, whole


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("qwen2.5-0.5b", 0.5), ("phi-3-mini-3.8b", 3.8), ("opt-1.3b", 1.3), ("llama3.2-1b", 1),
        ("gpt2-124M", 0.124),
        ("qwen3-30b-a3b", 30), ("llama_7b_q4_0", 7), ("TinyLlama-1.1B", 1.1), ("mixtral-8x7b", None),
        ("llama-3.1", None), ("bs8", None), ("4bit", None),
    ],
)  # fmt: skip
def test_sizes(name: str, billions: float | None) -> None:
    assert model_size(name) == (None if billions is None else pytest.approx(billions * 1e9))


def test_what_is_no_size_may_be_a_model_all_the_same() -> None:
    assert is_model("mixtral-8x7b")
    assert not is_model("foo")
    assert quantization("llama_7b_w4a16-g128") == "w4a16-g128"


def test_levels_are_taken_out_of_a_model_name() -> None:
    place = place_of(("llama_7b_fp16_batch4", "run_3"))
    assert (place.model, place.texts, place.counts) == (
        "llama_7b", {"quantization": "fp16"}, {"batch_size": 4, "repeat": 3},
    )  # fmt: skip


def test_parts_that_say_nothing_known_tell_configurations_apart(tmp_path: Path) -> None:
    put(tmp_path, {f"{part}/llama_7b/batch_1/a.txt": timings() for part in ("baseline", "optimised")})
    points = read(tmp_path)["points"]
    assert [point["settings"] for point in points] == ["label=baseline", "label=optimised"]


def test_dated_folders_are_repeats(tmp_path: Path) -> None:
    days = ("2026-03-04", "20260305_101500", "2026-03-06T10-15-00")
    put(tmp_path, {f"llama_7b/batch_1/{day}/a.txt": timings() for day in days})
    tables = read(tmp_path)
    assert len(tables["points"]) == 1
    assert len(whole(tables)) == 3


def test_several_logs_in_one_folder_are_repeats_told_apart_by_name(tmp_path: Path) -> None:
    put(tmp_path, {f"llama_7b/batch_1/{name}.txt": timings() for name in ("a", "b")})
    tables = read(tmp_path)
    assert len(tables["points"]) == 1
    assert sorted(whole(tables)) == ["llama_7b/batch_1: a.txt", "llama_7b/batch_1: b.txt"]


def test_folders_of_parts_belong_to_the_run_above(tmp_path: Path) -> None:
    put(
        tmp_path, {"llama_7b/batch_1/out.txt": timings(), "llama_7b/batch_1/power/p.csv": constant(45.0, 9.0)}
    )
    (row,) = whole(read(tmp_path)).values()
    assert (row["variant"], row["average_power_w"]) == ("llama_7b/batch_1", pytest.approx(45.0))


def test_models_of_one_benchmark_are_points_of_their_own(tmp_path: Path) -> None:
    rows = [
        {
            "model_type": f"llama {size} Q4_0",
            "n_prompt": 0,
            "n_gen": 128,
            "avg_ts": 100.0,
            "model_n_params": n,
        }
        for size, n in (("7B", 6_738_415_616), ("13B", 13_015_864_320))
    ]
    put(tmp_path, {"bench.json": json.dumps(rows)})
    tables = read(tmp_path)
    assert [point["model"] for point in tables["points"]] == ["llama 7B", "llama 13B"]
    assert [point["quantization"] for point in tables["points"]] == ["Q4_0", "Q4_0"]
    assert [row["parameters"] for row in tables["summary"]] == [6_738_415_616, 13_015_864_320]


def test_folders_are_in_the_order_people_expect(tmp_path: Path) -> None:
    put(tmp_path, {f"llama_{size}b/batch_{b}/a.txt": timings() for size in (13, 7) for b in (16, 4)})
    assert list(whole(read(tmp_path))) == [
        "llama_7b/batch_4", "llama_7b/batch_16", "llama_13b/batch_4", "llama_13b/batch_16",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA H100 PCIe", "h100-pcie-80gb"),
        ("Some board", None),
    ],
)
def test_devices_as_drivers_print_them(printed: str, name: str | None) -> None:
    assert catalogue_name(printed, known_devices().names) == name


def test_content_makes_a_run_whatever_folders_and_files_are_called(tmp_path: Path) -> None:
    put(tmp_path, {"odds/ends.dat": timings(), "odds/readme.dat": "nothing", "docs/readme.dat": "nothing"})
    tables = read(tmp_path)
    assert list(whole(tables)) == ["odds"]
    assert [(row["run"], row["file"]) for row in tables["files"]] == [
        ("odds", "odds/ends.dat"), ("odds", "odds/readme.dat"), (None, "docs/readme.dat"),
    ]  # fmt: skip


def test_what_one_log_says_is_not_said_of_another(tmp_path: Path) -> None:
    size = "llm_load_print_meta: model params     = 6.74 B\nllm_load_print_meta: model ftype      = Q4_0\n"
    put(tmp_path, {"odds/a.txt": size + timings(), "odds/b.txt": timings(prompt=32)})
    tables = read(tmp_path)
    rows = whole(tables)
    assert (rows["odds: a.txt"]["parameters"], rows["odds: b.txt"]["parameters"]) == (6.74e9, None)
    formats = {point["point"]: point["quantization"] for point in tables["points"]}
    assert [formats[row["point"]] for row in rows.values()] == ["Q4_0", None]


def test_settings_of_some_runs_only(tmp_path: Path) -> None:
    """Two machines in two zones: each gets its own offset, by folder and by pattern; the later one wins."""
    log = constant(45.0, 60.0)  # 10:00 to 10:01 on the clock of the log
    result = {
        host: vllm(end=f"20260304-{hour}0040", duration=20.0, tokens=100)
        for host, hour in (("a", "12"), ("b", "10"))
    }
    files = {
        f"llama_7b/gpu_{h}/batch_1/{n}": c for h in "ab" for n, c in (("p.csv", log), ("r.json", result[h]))
    }
    put(tmp_path, files)
    apart = whole(read(tmp_path))
    assert apart["llama_7b/gpu_a/batch_1"]["energy_j"] is None  # two hours apart
    assert apart["llama_7b/gpu_b/batch_1"]["energy_j"] == pytest.approx(900.0)  # 45 W x 20 s
    for overrides in (
        {"llama_7b/gpu_a": {"clock_offset": "7200 s"}},
        {"*/gpu_a/*": {"clock_offset": "7200 s"}},
        {
            "*": {"clock_offset": "1 h"},
            "*/gpu_a/*": {"clock_offset": "2 h"},
            "*/gpu_b/*": {"clock_offset": "0 s"},
        },
    ):
        found = whole(read(tmp_path, overrides=overrides))
        assert [row["energy_j"] for row in found.values()] == pytest.approx([900.0, 900.0])


def test_a_model_that_only_the_catalogue_sizes(tmp_path: Path) -> None:
    put(
        tmp_path, {"Mixtral-8x7B-Instruct-v0.1/batch_1/o.txt": timings(), "phi-nano/batch_1/o.txt": timings()}
    )
    tables = read(tmp_path)
    sizes = {name: row["parameters"] for name, row in whole(tables).items()}
    assert sizes == {"Mixtral-8x7B-Instruct-v0.1/batch_1": 46_702_792_704.0, "phi-nano/batch_1": None}
    (finding,) = [row for row in tables["findings"] if row["rule"] == "unknown-size"]
    assert finding["finding"].startswith("the size of model `phi-nano` is not known; it stays empty")


def test_requests_with_other_prompts_are_no_repeats(tmp_path: Path) -> None:
    put(tmp_path, {"llama_7b/batch_1/o.txt": timings(prompt=50) + timings(prompt=150) + timings(prompt=50)})
    tables = read(tmp_path)
    points = {row["point"]: row["prompt_tokens"] for row in tables["points"]}
    assert [points[row["point"]] for row in whole(tables).values()] == [50, 150, 50]


def test_a_file_for_a_folder_and_a_share_that_is_elsewhere(tmp_path: Path) -> None:
    put(tmp_path, {"runs/a.txt": timings()})
    with pytest.raises(UsageError, match="is a file, not a folder of runs"):
        local_folder(str(tmp_path / "runs/a.txt"))
    with pytest.raises(UsageError, match=r"looked for here as `/nowhere/runs`"):
        local_folder("C:\\data\\runs", mounts={"C:\\data": "/nowhere"})


def test_names_that_are_no_utf8_are_shown_and_read(tmp_path: Path) -> None:
    try:
        put(tmp_path, {f"{os.fsdecode(b'llama_7b_' + bytes([255]))}/batch_1/o.txt": timings()})
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    ((name, row),) = whole(read(tmp_path)).items()
    assert (name, row["throughput_tokens_per_s"], row["parameters"]) == ("llama_7b_\ufffd/batch_1", 20.0, 7e9)


def test_a_device_the_catalogue_does_not_have_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, {"llama_7b/o.txt": timings()})
    with pytest.raises(UsageError) as caught:
        read(tmp_path, overrides={"*": {"hardware": "h100-smx-80gb"}})
    assert (str(caught.value), caught.value.hint) == (
        "`h100-smx-80gb` is no device of the catalogue",
        "did you mean `h100-sxm-80gb`?",
    )


def test_settings_that_mean_no_run_are_said(tmp_path: Path) -> None:
    put(tmp_path, {"llama_7b/batch_1/o.txt": timings(), "llama_7b/batch_1/p.csv": constant(45.0, 10.0)})
    window = {"start": "2026-03-04T12:00:00", "end": "2026-03-04T12:00:05"}
    tables = read(
        tmp_path,
        windows={"llama_7b/batch_1": window, "llama_7b/batch_2": window},
        overrides={"llama_13b": {"zone": "+01:00"}, "*/batch_1": {"zone": "+01:00"}},
        models={"llama_7b": {"parameters": 6.7e9}, "mistral": {"parameters": 7e9}},
    )
    found = {row["finding"] for row in tables["findings"] if row["rule"] == "unused-setting"}
    assert found == {
        "`llama_7b/batch_2` under `windows` is no run or folder here",
        "`llama_13b` under `overrides` is no run or folder here",
        "`mistral` under `models` is no run or folder here",
    }
    (outside,) = [row["finding"] for row in tables["findings"] if row["rule"] == "no-common-clock"]
    span = "2026-03-04T10:00:00 to 2026-03-04T10:00:10"
    assert outside == f"the window in the spec lies outside the power log ({span})"
