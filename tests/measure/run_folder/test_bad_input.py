"""Files as shares hold them: what cannot be read is a row with its reason, and the rest is reported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engine.errors import NothingSelected, SpecError, UsageError
from engine.measure.run_folder.custom import parse_formula
from tests.measure.run_folder.trees import (
    constant,
    one,
    put,
    read,
    read_text,
    rules,
    settings,
    smi,
    stamp,
    timings,
    whole,
)

RUN = "llama_7b/batch_1"


def files(tables: dict[str, list[dict[str, Any]]]) -> dict[str, tuple[str, str | None]]:
    """(status, reason) by file name."""
    return {row["file"].rsplit("/", 1)[-1]: (row["status"], row["reason"]) for row in tables["files"]}


def test_every_unreadable_file_is_a_row(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            f"{RUN}/a.txt": timings(),
            f"{RUN}/empty.csv": b"",
            f"{RUN}/binary.log": bytes(range(256)) * 40,
            f"{RUN}/notes.txt": "nothing to see",
            f"{RUN}/cut.json": '{"mean_ttft_ms": 3, "output_throughput": 2, "errors": [',
            f"{RUN}/picture.png": b"\x89PNG",
            f"{RUN}/blank.txt": "\n\n\n",
        },
    )
    found = files(read(tmp_path))
    assert found["a.txt"][0] == "read"
    assert found["empty.csv"] == ("unreadable", "empty: zero bytes")
    assert found["binary.log"] == ("unreadable", "binary, not text")
    assert found["notes.txt"] == ("unreadable", "no known format; it starts `nothing to see`")
    assert found["cut.json"][0] == "unreadable"
    assert "JSON is cut off at line 1" in str(found["cut.json"][1])
    assert found["picture.png"] == ("unreadable", "not a log: `.png` files are not opened")
    assert found["blank.txt"] == ("unreadable", "only blank lines")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = "timestamp;board power [W];note\n" + "".join(f"2026-03-04 10:00:0{i};45,5;°\n" for i in range(4))
    put(tmp_path, {f"{RUN}/power.csv": text.encode(encoding)})
    assert one(tmp_path)["average_power_w"] == pytest.approx(45.5)  # a decimal comma too


def test_mixed_units_are_converted_cell_by_cell(tmp_path: Path) -> None:
    text = smi([(0, 100.0), (1, 100.0)]) + "2026/03/04 10:00:02.000, 0, 100000 mW\n"
    put(tmp_path, {f"{RUN}/power.csv": text})
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert row["average_power_w"] == pytest.approx(100.0)
    assert "mixed-units" in rules(tables)


@pytest.mark.parametrize(
    "absent", ["[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", "-", "", "nan", "ERR!"]
)
def test_every_way_to_say_nothing(tmp_path: Path, absent: str) -> None:
    text = smi([(0, 50.0), (1, 50.0), (3, 50.0)]).replace("10:00:03", "10:00:02")
    text += f"2026/03/04 10:00:03.000, 0, {absent}\n"
    put(tmp_path, {f"{RUN}/power.csv": text})
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert (row["peak_power_w"], row["energy_j"]) == (50.0, pytest.approx(100.0))
    assert tables["files"][0]["rows_dropped"] == 1


def test_repeated_headers_are_counted_and_no_rows(tmp_path: Path) -> None:
    text = constant(45.0, 2.0) + constant(45.0, 2.0, start=3.0)
    put(tmp_path, {f"{RUN}/power.csv": text})
    tables = read(tmp_path)
    assert (tables["files"][0]["rows_read"], tables["files"][0]["rows_dropped"]) == (6, 0)  # no reading lost
    assert tables["files"][0]["warnings"] == "the header stands again 1 time"


def test_disorder_and_repeats_do_not_change_the_energy(tmp_path: Path) -> None:
    ramp = [(float(i), 100.0 + 10.0 * i) for i in range(6)]
    put(tmp_path, {"llama_7b/batch_1/power.csv": smi(ramp)})
    mixed = [ramp[0], ramp[2], ramp[1], ramp[3], ramp[3], *ramp[4:]]
    put(tmp_path, {"llama_7b/batch_4/power.csv": smi(mixed)})
    tables = read(tmp_path)
    energies = {row["energy_j"] for row in whole(tables).values()}
    assert energies == {625.0}  # a straight line from 100 to 150 W over 5 s: 125 W x 5 s
    assert {"out-of-order", "repeated-times"} <= set(rules(tables))


def test_a_clock_set_back_is_said_and_taken_out(tmp_path: Path) -> None:
    samples = [(3600.0 + i, 100.0) for i in range(5)] + [(5.0 + i, 100.0) for i in range(5)]
    put(tmp_path, {f"{RUN}/power.csv": smi(samples)})
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert row["energy_j"] == pytest.approx(900.0)  # ten samples, 1 s apart
    assert "clock-jump" in rules(tables)


def test_a_gap_is_reported_with_its_share(tmp_path: Path) -> None:
    samples = [(float(i), 100.0) for i in range(5)] + [(14.0 + i, 100.0) for i in range(5)]
    put(tmp_path, {f"{RUN}/power.csv": smi(samples)})
    assert one(tmp_path)["gap_energy_share"] == pytest.approx(10 / 18)  # 4 s to 14 s of 18 s


def test_a_line_without_end_does_not_fill_memory(tmp_path: Path) -> None:
    put(tmp_path, {f"{RUN}/power.csv": constant(45.0, 5.0).encode() + b"x" * 12_000_000})
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert row["average_power_w"] == pytest.approx(45.0)
    assert tables["files"][0]["rows_dropped"] == 1


def test_links_that_leave_the_tree_are_refused(tmp_path: Path) -> None:
    put(tmp_path, {"outside.txt": timings(), f"runs/{RUN}/a.txt": timings()})
    (tmp_path / f"runs/{RUN}/link.txt").symlink_to(tmp_path / "outside.txt")
    (tmp_path / "runs/elsewhere").symlink_to(tmp_path, target_is_directory=True)
    found = files(read(tmp_path / "runs"))
    assert found == {
        "a.txt": ("read", None),
        "link.txt": ("unreadable", "a link that leads out of the folder; copy the file instead"),
        "elsewhere": (
            "unreadable",
            "a link to a folder: links are not followed; give that folder as a root of its own",
        ),
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    put(tmp_path, {f"{RUN}/a.txt": timings()})
    os.mkfifo(tmp_path / RUN / "power.csv")
    assert files(read(tmp_path))["power.csv"] == ("unreadable", "not a regular file")


def test_nothing_readable_is_an_error_with_advice(tmp_path: Path) -> None:
    put(tmp_path, {f"{RUN}/a.txt": "hello"})
    with pytest.raises(NothingSelected) as caught:
        read(tmp_path)
    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        f"of 1 file below `{tmp_path}` none can be read ({RUN}/a.txt: no known format; it starts `hello`)"
    )
    assert "--list-formats" in str(caught.value.hint)
    with pytest.raises(NothingSelected, match="holds no file"):
        read(put(tmp_path / "empty", {"x/.keep": ""}))


def test_a_missing_folder_says_how_to_mount_a_share(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read("\\\\server\\data\\llama_runs\\")
    assert "--mount" in str(caught.value.hint)
    with pytest.raises(UsageError) as caught:
        read("llama_runs\\ -o x.xlsx")
    assert "a backslash before a blank joins them" in str(caught.value.hint)


def test_logs_of_two_zones_share_no_window_and_it_is_said(tmp_path: Path) -> None:
    from tests.measure.run_folder.trees import vllm

    put(
        tmp_path,
        {
            f"{RUN}/power.csv": constant(45.0, 20.0),
            f"{RUN}/r.json": vllm(end="20260304-120015", duration=10.0, tokens=100),  # two hours later
        },
    )
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert row.get("energy_j") is None
    assert row["whole_log_energy_j"] == pytest.approx(900.0)
    (found,) = [f["finding"] for f in tables["findings"] if f["rule"] == "zone-difference"]
    assert "after a shift of -2 h" in found
    (moved,) = whole(read(tmp_path, clock_offset="7200 s")).values()
    assert moved["energy_j"] == pytest.approx(450.0)


def test_repeats_of_one_configuration_stay_repeats(tmp_path: Path) -> None:
    put(tmp_path, {f"llama_7b/batch_1/run_{i}/a.txt": timings(time_ms=5000.0 + i) for i in range(3)})
    tables = read(tmp_path)
    assert len(tables["points"]) == 1
    assert sorted(whole(tables)) == [f"llama_7b/batch_1/run_{i}" for i in range(3)]


def test_patterns_of_the_spec_replace_the_built_in_ones(tmp_path: Path) -> None:
    put(tmp_path, {"exp-A-n16/a.txt": timings()})
    tables = read(tmp_path, levels=[r"exp-(?P<model>[A-Z])-n(?P<batch_size>\d+)"])
    point = tables["points"][0]
    assert (point["model"], point["batch_size"]) == ("A", 16)
    with pytest.raises(ValueError, match="needs named groups"):
        settings(tmp_path, levels=["exp"])


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "a.b", "x[0]", "lambda: 1", "'x' * 9", "energy_j ** 99", "1 if 2 else 3", "(" * 500],
)
def test_formulas_are_arithmetic_and_nothing_else(text: str) -> None:
    with pytest.raises(SpecError, match="metric `m`"):
        parse_formula(text, of="m")


def test_formula_like_text_stays_text(tmp_path: Path) -> None:
    _, found = read_text(tmp_path, "llm_load_print_meta: model ftype      = =cmd|' /C calc'!A0\n" + timings())
    assert found.texts["quantization"] == "=cmd|' /C calc'!A0"


def test_a_thousand_notes_become_fifty_and_a_count(tmp_path: Path) -> None:
    put(tmp_path, {f"llama_7b/batch_{i}/a.txt": timings() for i in range(1, 61)})
    found = [f for f in read(tmp_path)["findings"] if f["rule"] == "no-thermal"]
    assert len(found) == 51
    assert found[-1]["finding"].startswith("10 more findings of this rule")


def test_a_throttle_flag_is_on_the_repaired_clock(tmp_path: Path) -> None:
    """Power cells are empty where the clock goes back an hour: flags and readings stay together."""
    rows = ["timestamp, power.draw [W], temperature.gpu, clocks_event_reasons.active"]
    for i in range(40):
        watts = "100.00 W" if i % 8 == 0 or i >= 26 else "[N/A]"
        mask = "0x0000000000000040" if i in (3, 4, 8, 30) else "0x0000000000000000"
        rows.append(f"{stamp(i - (3600 if i >= 25 else 0))}, {watts}, 50, {mask}")
    put(tmp_path, {f"{RUN}/power.csv": "\n".join(rows) + "\n"})
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert row["window_s"] == pytest.approx(39.0)
    assert (row["throttle_events"], row["whole_log_throttle_events"], row["throttled_samples"]) == (3, 3, 4)
    jumps = [f["finding"] for f in tables["findings"] if f["rule"] == "clock-jump"]
    assert jumps == ["the clock is set back by 3600 s; later times are shifted by as much"]


def test_idle_time_in_a_log_without_a_window_is_said(tmp_path: Path) -> None:
    put(tmp_path, {f"{RUN}/power.csv": constant(45.0, 60.0), f"{RUN}/o.txt": timings()})
    findings = [f["finding"] for f in read(tmp_path)["findings"] if f["rule"] == "idle-included"]
    assert findings == ["the power log lasts 60 s, the run 5.07 s: energy per token is too high by idle time"]


def test_a_serving_run_is_as_long_as_its_benchmark_not_as_a_request(tmp_path: Path) -> None:
    text = (
        "============ Serving Benchmark Result ============\n"
        "Successful requests:                     10\n"
        "Benchmark duration (s):                  20.00\n"
        "Total generated tokens:                  1000\n"
        "Output token throughput (tok/s):         50.00\n"
        "Mean E2EL (ms):                          2000.00\n"
        "==================================================\n"
    )
    samples = [(float(i), 300.0 if 10 <= i < 30 else 60.0) for i in range(41)]
    put(tmp_path, {f"{RUN}/power.csv": smi(samples), f"{RUN}/o.txt": text})
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert row["window_s"] == pytest.approx(20.0)
    assert "window-length" not in rules(tables)  # a request of 2 s is not the run


def test_json_that_breaks_off_is_called_that(tmp_path: Path) -> None:
    put(tmp_path, {f"{RUN}/r.json": '{"date": "20260304-160100", "backend": "vl', f"{RUN}/o.txt": timings()})
    assert files(read(tmp_path))["r.json"] == (
        "unreadable",
        "JSON is cut off at line 1: Unterminated string starting at",
    )


def test_a_binary_file_keeps_its_size(tmp_path: Path) -> None:
    put(tmp_path, {f"{RUN}/power.csv": b"\x00\x01\x02" * 100, f"{RUN}/o.txt": timings()})
    sizes = {row["file"]: row["size_bytes"] for row in read(tmp_path)["files"]}
    assert sizes[f"{RUN}/power.csv"] == 300


def test_zeros_that_a_power_cut_leaves_cost_one_row(tmp_path: Path) -> None:
    head, *rows = constant(45.0, 20.0).splitlines(keepends=True)
    text = (head + "".join(rows[:10])).encode() + b"\0" * 512 + "".join(rows[10:]).encode()
    put(tmp_path, {f"{RUN}/power.csv": text})
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert (row["average_power_w"], row["window_s"]) == (pytest.approx(45.0), pytest.approx(20.0))
    assert (tables["files"][0]["rows_read"], tables["files"][0]["rows_dropped"]) == (20, 1)


def test_a_run_that_is_the_root_has_the_roots_name(tmp_path: Path) -> None:
    put(tmp_path, {"llama_7b/batch_4/o.txt": timings()})
    ((name, row),) = whole(read(tmp_path / "llama_7b/batch_4")).items()
    assert (name, row["status"]) == ("batch_4", "ok")


def test_energy_that_was_not_sampled_is_said(tmp_path: Path) -> None:
    """Ten seconds, an hour that the clock was set forward, ten more: 3601 of 3619 s were never sampled."""
    samples = [(float(i), 100.0) for i in range(10)] + [(3610.0 + i, 100.0) for i in range(10)]
    put(tmp_path, {f"{RUN}/power.csv": smi(samples)})
    tables = read(tmp_path)
    (finding,) = [f["finding"] for f in tables["findings"] if f["rule"] == "sampling-gaps"]
    assert finding == (
        "100% of the energy lies in gaps of the power log, the longest 3601 s: "
        "perhaps a clock that was set forward"
    )
    (row,) = whole(tables).values()
    assert row["gap_energy_share"] == pytest.approx(3601 / 3619)
