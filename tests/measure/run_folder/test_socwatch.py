"""SoC Watch summaries: units in the heads, tables that are asked for, folders with a verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.measure.run_folder.trees import put, read, read_text, rules, timings, whole

SUMMARY = """\
Intel(R) SoC Watch version 2024.5
Collection duration (sec): 20.0

Package C-State Summary: Residency (Percentage and Time)
--------------------------------------------------------
C-State , CPU/Package_0 Residency (%) , CPU/Package_0 Residency (msec)
------- , --------------------------- , ------------------------------
PC0     , 80.00                       , 16000.00
PC10    , 20.00                       , 4000.00

Package Power Summary: Average Rate and Total
---------------------------------------------
Component     , Metric , Average Rate (mW) , Total (mJ)
---------     , ------ , ----------------- , ----------
CPU/IA_0      , Power  , 6000.00           , 120000.00
CPU/Package_0 , Power  , 15000.00          , 300000.00

Temperature Metrics Summary - Sampled: Min/Max/Avg
--------------------------------------------------
Component            , Min (oC) , Max (oC) , Avg (oC)
-------------------- , -------- , -------- , --------
CPU/Package_0/Core_0 , 40       , 70       , 55.5
CPU/Package_0/Core_1 , 41       , 72       , 56.5

DDR Bandwidth Requests by Component Summary: Average Rate and Total
-------------------------------------------------------------------
Component , Average Rate (MB/s) , Total (MB)
Total     , 12000.00            , 240000.00

NPU P-State Summary - Sampled: Approximated Residency (Percentage)
------------------------------------------------------------------
Frequency (MHz) , NPU (%)
0    , 50.0
950  , 20.0
1400 , 5.0
1900 , 25.0
"""


def test_units_of_the_heads_are_used_and_a_bandwidth_is_no_power(tmp_path: Path) -> None:
    name, found = read_text(tmp_path, SUMMARY, name="soc.csv")
    assert name == "SoC Watch summary"
    assert found.facts == {
        "average_power_w": 15.0,  # 15000 mW
        "energy_j": 300.0,  # 300000 mJ
        "window_s": 20.0,
        "peak_temperature_c": 72.0,
        "average_temperature_c": 56.0,  # of 55.5 and 56.5
    }


def test_a_power_without_a_total_is_taken_over_the_collection_time(tmp_path: Path) -> None:
    text = SUMMARY.replace(" , Total (mJ)", "").replace(" , 300000.00", "").replace(" , 120000.00", "")
    _, found = read_text(tmp_path, text, name="soc.csv")
    assert found.facts["energy_j"] == 300.0  # 15 W x 20 s
    assert found.how["energy_j"] == "average package power x collection time"


def test_without_a_package_there_is_no_power(tmp_path: Path) -> None:
    text = (
        "DDR Bandwidth Summary: Average Rate and Total\n\nComponent, Average Rate (MB/s)\nCC0_RD_BW, 12000\n"
    )
    _, found = read_text(tmp_path, text, name="soc.csv")
    assert not found.facts
    assert [note.code for note in found.notes] == ["no-total"]


def test_tables_that_are_asked_for_become_columns(tmp_path: Path) -> None:
    put(tmp_path, {"llama_7b/batch_1/soc.csv": SUMMARY, "llama_7b/batch_1/out.txt": timings()})
    wanted = [
        {"key": "PKG", "lookup": "Package C-State Summary: Residency"},
        {"key": "NPU", "lookup": "NPU P-State Summary", "buckets": ["0", "1-1899", "1900"]},
        {"key": "GPU", "lookup": "Graphics C-State Summary"},
    ]
    tables = read(tmp_path, tables=wanted)
    found = {f"{row['title']} [{row['unit']}]": row["value"] for row in tables["custom"]}
    assert found == {
        "PKG: PC0, CPU/Package_0 Residency [%]": 80.0,
        "PKG: PC10, CPU/Package_0 Residency [%]": 20.0,
        "PKG: PC0, CPU/Package_0 Residency [msec]": 16000.0,
        "PKG: PC10, CPU/Package_0 Residency [msec]": 4000.0,
        "NPU: 0, NPU [%]": 50.0,
        "NPU: 1-1899, NPU [%]": 25.0,  # 20 + 5
        "NPU: 1900, NPU [%]": 25.0,
    }
    assert "no-table" in rules(tables)  # `Graphics C-State Summary` is not there


@pytest.mark.parametrize("mark", [".PASS", "run.PASS", "x.pass"])
def test_a_folder_with_a_verdict_is_one_run_with_all_below_it(tmp_path: Path, mark: str) -> None:
    put(tmp_path, {f"llama_7b/r1/{mark}": ""})
    put(tmp_path, {"llama_7b/r1/a/out.txt": timings(), "llama_7b/r1/b/soc.csv": SUMMARY})
    (row,) = whole(read(tmp_path, verdicts=True)).values()
    assert (row["variant"], row["average_power_w"], row["ttft_s"]) == ("llama_7b/r1", 15.0, 0.12)
    assert len(whole(read(tmp_path))) > 1  # without the option each folder is a run


def test_a_run_marked_as_failed_is_shown_and_not_compared(tmp_path: Path) -> None:
    put(tmp_path, {"llama_7b/r1/x.FAIL": "", "llama_7b/r1/out.txt": timings()})
    tables = read(tmp_path, verdicts=True)
    (row,) = whole(tables).values()
    assert (row["status"], row["reason"]) == ("failed", "marked as failed by `x.FAIL`")
    assert row["throughput_tokens_per_s"] == 20.0
    assert "marked-failed" in rules(tables)
