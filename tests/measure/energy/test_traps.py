"""Recordings with the traps that users' files have: right numbers worked out by hand, or a plain refusal."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import MeasurementError
from engine.measure.energy.analysis import tables_of
from engine.measure.energy.phases import Subject
from engine.measure.energy.replay import read_trace
from engine.spec.energy import EnergySettings

SUBJECT = Subject(prompt_tokens=512, output_tokens=256, batch_size=8, parameters=1.24e9)
SETTINGS = EnergySettings(kind="energy", source="replay", trace="x", granularity="component")
HEAD = "timestamp, index, power.draw.instant [W], temperature.gpu, clocks_event_reasons.active\n"
NO_SLOWDOWN = "0x0000000000000001"


def rows(cell, count: int = 51, *, index: int = 0, step_s: float = 0.1, mask=lambda at: NO_SLOWDOWN):
    """Rows every 100 ms from 10:00:00; `cell(k)` is the power of reading k."""
    return [
        f"2026/03/04 10:00:{at * step_s:06.3f}, {index}, {cell(at)}, 50, {mask(at)}" for at in range(count)
    ]


def tables(tmp_path: Path, text: str | bytes, name: str = "smi.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return {t: rows.to_pylist() for t, rows in tables_of(read_trace(path), SUBJECT, SETTINGS).items()}


def whole(tmp_path: Path, lines, head: str = HEAD):
    (row,) = tables(tmp_path, head + "\n".join(lines) + "\n")["summary"]
    return row


def steady(at: int) -> str:
    return "100.00 W"


def test_a_ramp_is_a_trapezoid(tmp_path: Path) -> None:
    # 0 to 100 W in 5 s: 250 J, whatever the steps.
    row = whole(tmp_path, rows(lambda at: f"{2 * at:.2f} W"))
    assert row["energy_j"] == pytest.approx(250.0)
    assert row["peak_power_w"] == 100.0
    assert row["energy_systematic_j"] == pytest.approx(0.05 * 250 + 100 * 0.1)


def test_two_devices_add_up(tmp_path: Path) -> None:
    both = sorted(rows(steady) + rows(lambda at: "50.00 W", index=1))
    assert whole(tmp_path, both)["energy_j"] == pytest.approx(5 * 150.0)


@pytest.mark.parametrize("cell", ["[N/A]", "[Unknown Error]", "ERR!", "nan W", "-5.00 W", "inf W"])
def test_readings_that_are_none_are_a_gap_and_are_told(tmp_path: Path, cell: str) -> None:
    # Ten of 51 readings are missing, from 2.0 to 2.9 s: 1.1 s of 5 s lie between two that are there.
    row = whole(tmp_path, rows(lambda at: cell if 20 <= at < 30 else "100.00 W"))
    assert row["energy_j"] == pytest.approx(500.0)
    assert row["largest_gap_s"] == pytest.approx(1.1)
    assert row["gap_energy_share"] == pytest.approx(1.1 / 5)
    assert ("10 readings were negative or infinite" in row["reason"]) == (cell in ("-5.00 W", "inf W"))


@pytest.mark.parametrize("cell", ["[Not Supported]", "-1 W"])
def test_no_power_at_all_is_a_row_that_says_so(tmp_path: Path, cell: str) -> None:
    row = whole(tmp_path, rows(lambda at: cell))
    assert (row["status"], row.get("energy_j")) == ("skipped", None)
    assert row["reason"].startswith("the log names no phases; no power was read")


def test_a_log_without_a_power_column_says_so(tmp_path: Path) -> None:
    row = whole(
        tmp_path,
        [f"2026/03/04 10:00:{at:02d}.000, 50" for at in range(9)],
        head="timestamp, temperature.gpu\n",
    )
    assert (row["status"], row.get("energy_j")) == ("skipped", None)


def test_one_reading_has_no_energy(tmp_path: Path) -> None:
    row = whole(tmp_path, rows(steady, 1))
    assert (row["status"], row.get("energy_j")) == ("skipped", None)  # absent, not 0
    assert "a single reading spans no time" in row["reason"]


def test_rows_written_twice_are_no_gap(tmp_path: Path) -> None:
    row = whole(tmp_path, [line for line in rows(steady) for _ in range(2)])
    assert (row["energy_j"], row["gap_energy_share"]) == (pytest.approx(500.0), 0.0)


def test_slowdowns_and_heat_of_a_bare_log(tmp_path: Path) -> None:
    # Thermal from 1.0 to 1.9 s and from 3.0 to 3.2 s: two events, 13 readings; "idle" (0x1) is none.
    hot = rows(steady, mask=lambda at: "0x20" if 10 <= at < 20 or 30 <= at < 33 else NO_SLOWDOWN)
    row = whole(tmp_path, hot)
    assert (row["throttle_events"], row["peak_temperature_c"]) == (2, 50.0)


def test_a_file_that_a_windows_shell_wrote(tmp_path: Path) -> None:
    text = (HEAD + "\r\n".join(rows(steady)) + "\r\n").encode("utf-16")
    (row,) = tables(tmp_path, text)["summary"]
    assert row["energy_j"] == pytest.approx(500.0)


@pytest.mark.parametrize("cell", ["100,5 W", "100 W, more"])
def test_cells_split_by_a_comma(tmp_path: Path, cell: str) -> None:
    with pytest.raises(MeasurementError) as caught:
        whole(tmp_path, rows(lambda at: cell))
    assert caught.value.message == (
        "`smi.csv`: 51 rows have another number of cells than the 5 of the header"
    )
    assert "a decimal comma" in caught.value.hint


def test_power_of_unknown_span_carries_a_warning(tmp_path: Path) -> None:
    head = HEAD.replace(".instant", "")
    told = [row["finding"] for row in tables(tmp_path, head + "\n".join(rows(steady)) + "\n")["findings"]]
    assert any(text.startswith("`power.draw` is a mean over 1 s") for text in told)


TIMES = [round(0.1 * at, 6) for at in range(101)]


def log(tmp_path: Path, measurements, *events, **head):
    document = {"baseline_power_watts": 60.0, "measurements": measurements, "events": list(events), **head}
    return tables(tmp_path, json.dumps(document), "log.json")


def reading(time_s: float, watts: float | None, joules: float | None = None, **more):
    return {"timestamp": time_s, "event": "sample", "power_w": watts, "energy_counter_j": joules, **more}


def window(begin_s: float, end_s: float, phase: str = "decode", **more):
    return {"kind": "phase", "phase": phase, "begin_s": begin_s, "end_s": end_s, **more}


def test_net_energy_and_energy_per_token_by_hand(tmp_path: Path) -> None:
    (row,) = log(tmp_path, [reading(t, 100.0) for t in TIMES], window(2, 8, tokens=2040))["summary"]
    assert row["energy_j"] == pytest.approx(600.0)
    assert row["net_energy_j"] == pytest.approx(6 * (100 - 60))
    assert row["energy_per_output_token_j"] == pytest.approx(600 / 2040)
    assert row["tokens_per_joule"] == row["tokens_per_s_per_w"] == pytest.approx(2040 / 600)
    assert row["output_tokens_per_s"] == pytest.approx(340.0)


def test_a_counter_that_power_does_not_bear_out_is_doubted(tmp_path: Path) -> None:
    readings = [reading(t, 100.0, 5000 + 200 * t) for t in TIMES]
    (row,) = log(tmp_path, readings, window(2, 8))["summary"]
    assert row["energy_j"] == pytest.approx(1200.0)
    assert "counter 1200 J and integrated power 600 J disagree" in row["reason"]
    readings = [reading(t, 100.0, 5000 + 101 * t) for t in TIMES]
    (row,) = log(tmp_path, readings, window(2, 8))["summary"]
    assert "disagree" not in row["reason"]


@pytest.mark.parametrize(
    "counter, told",
    [
        (lambda t: 5000 + 100 * t if t < 5 else 100 * (t - 5), "the energy counter went backwards"),
        (lambda t: 5000.0, "the energy counter did not move in 10.0 s"),
    ],
    ids=("reset", "stuck"),
)
def test_a_counter_that_cannot_be_used_gives_way_to_power(tmp_path: Path, counter, told: str) -> None:
    (row,) = log(tmp_path, [reading(t, 100.0, counter(t)) for t in TIMES], window(2, 8))["summary"]
    assert row["energy_j"] == pytest.approx(600.0)
    assert told in row["reason"]
    (row,) = log(tmp_path, [reading(t, None, counter(t)) for t in TIMES], window(2, 8))["summary"]
    assert (row["status"], row.get("energy_j")) == ("skipped", None)
    assert told in row["reason"]


def test_a_counter_with_holes_and_a_reading_of_zero(tmp_path: Path) -> None:
    gone = {30: None, 31: None, 50: 0.0}
    readings = [reading(t, None, gone.get(at, 5000 + 100 * t)) for at, t in enumerate(TIMES)]
    (row,) = log(tmp_path, readings, window(2, 8))["summary"]
    assert row["energy_j"] == pytest.approx(600.0)


@pytest.mark.parametrize(
    "event, told",
    [
        (window(8, 2), "`events.0`: a window of `decode` lasts from 8 to 2"),
        (window(2, 2, energy_j=5), "`events.0`: a window of `decode` lasts from 2 to 2"),
        (window(2, 8, iterations=0), "`events.0.iterations`: input should be greater than or equal to 1"),
        (window(2, 8, tokens=0), "`events.0.tokens`: input should be greater than or equal to 1"),
        (window(2, 8, layer="top"), "`events.0.layer`: input should be a valid integer, unable to parse"),
        (window(2, float("inf")), "`events.0.end_s`: input should be a finite number"),
        (window(2, 8, note="x"), "`events.0.note`: extra inputs are not permitted"),
        (window(2, 8) | {"kind": "odd"}, "`events.0.kind`: input should be 'phase', 'step', 'layer'"),
    ],
)
def test_windows_that_cannot_have_been(tmp_path: Path, event, told: str) -> None:
    with pytest.raises(MeasurementError) as caught:
        log(tmp_path, [reading(t, 100.0) for t in TIMES], event)
    assert caught.value.message.startswith(f"`log.json` is no energy log: {told}")


TRIAL = {"component": "q", "phase": "decode", "trial": 0}


@pytest.mark.parametrize(
    "head, told",
    [
        ({"baseline_power_watts": "sixty"}, "`baseline_power_watts`: input should be a valid number"),
        ({"facts": [1]}, "`facts`: input should be a valid dictionary"),
        ({"notes": 3}, "`notes`: input should be a valid list"),
        ({"sensor_period_s": 0}, "`sensor_period_s`: input should be greater than 0"),
        ({"loops": [TRIAL | {"times_s": [1, 2], "iterations": [1]}]},
         "`loops.0`: the reads of a loop of `q` are not of one length"),
        ({"loops": [TRIAL | {"times_s": [2, 1], "iterations": [1, 2]}]},
         "`loops.0`: a loop of `q` goes backwards"),
    ],
)  # fmt: skip
def test_what_a_log_may_not_say(tmp_path: Path, head, told: str) -> None:
    with pytest.raises(MeasurementError) as caught:
        log(tmp_path, [reading(t, 100.0) for t in TIMES], **head)
    assert caught.value.message.startswith(f"`log.json` is no energy log: {told}")


def test_phases_that_nobody_knows_are_named(tmp_path: Path) -> None:
    found = log(tmp_path, [reading(t, 100.0) for t in TIMES], window(2, 8, "summarize"))["findings"]
    assert any(row["finding"].startswith("1 windows of `summarize` are in no table") for row in found)


def test_marks_alone_give_their_component_its_energy(tmp_path: Path) -> None:
    marks = {2.0: "begin", 6.0: "end"}
    readings = [
        {"timestamp": t, "power_w": 100.0, "component": "attention", "event": marks.get(t, "sample")}
        for t in TIMES
    ]
    (row,) = [r for r in log(tmp_path, readings)["components"] if r["component"] == "attention"]
    assert (row["energy_j"], row["time_s"]) == (pytest.approx(400.0), pytest.approx(4.0))
    assert (row["method"], row["parent"]) == ("window", None)


def test_milliseconds_for_seconds_are_noticed(tmp_path: Path) -> None:
    readings = [reading(1e3 * t, 100.0) for t in TIMES]
    found = log(tmp_path, readings, window(2000, 8000), sampling_rate_ms=100)["findings"]
    told = "the head says a reading every 100 ms, the time stamps one every 100 s"
    assert told in [row["finding"] for row in found]


def test_windows_seen_through_an_averaged_sensor_are_as_coarse_as_it_is(tmp_path: Path) -> None:
    readings = [
        {"timestamp": t, "event": "sample", "average_power_w": 100.0} for t in np.arange(0, 30, 0.1).tolist()
    ]
    short, long = (log(tmp_path, readings, window(*ends))["summary"][0] for ends in ((2, 8), (2, 22)))
    assert "6 s is shorter than 10 sensor periods of 1 s" in short["reason"]
    assert long["energy_j"] == pytest.approx(2000.0)
    assert long["energy_systematic_j"] == pytest.approx(0.05 * 2000 + 100 * 1.0)


@pytest.mark.parametrize(
    "variants",
    [
        {"baseline": {"energy": [4.1, 4.0], "duration": [1.0]}},
        {"baseline": {"energy": [4.1, "x"], "duration": [1.0, 1.0]}},
        {"baseline": {"energy": [4.1]}},
    ],
)
def test_runs_whose_energies_and_durations_do_not_match(tmp_path: Path, variants) -> None:
    with pytest.raises(MeasurementError, match="do not go together"):
        tables(tmp_path, json.dumps(variants), "runs.json")


ODD = (None, -1, 0, 1e308, float("nan"), float("inf"), "x", "", [], {}, True, [None], "\ud800", 2**70)


def places(node, path=()):
    """Every place in a document, lists by their first entries."""
    inner = node.items() if isinstance(node, dict) else enumerate(node[:3]) if isinstance(node, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


def test_whatever_stands_in_a_log_there_are_tables_or_one_error(tmp_path: Path) -> None:
    import copy
    import random

    loop = TRIAL | {"parent": "step", "share": {"0": 1.0}, "times_s": TIMES, "energy_j": TIMES,
                    "iterations": [10 * at for at in range(101)], "power_w": [9.0] * 101,
                    "throttle": [0] * 101}  # fmt: skip
    document = {
        "device": "X", "source": "nvml", "sampling_rate_ms": 100, "sensor_period_s": 0.1, "notes": ["a"],
        "facts": {"slowdown_temperature_c": 87}, "loops": [loop],
        "measurements": [reading(t, 100.0, 5000 + 100 * t, temp=40, throttle=0, device="A") for t in TIMES],
        "events": [window(1, 4, tokens=8, intensity=1.5), window(1, 2) | {"kind": "layer", "layer": 0}],
    }  # fmt: skip
    everywhere = list(places(document))
    chance = random.Random(6)
    read = 0
    for _ in range(150):
        changed = copy.deepcopy(document)
        *above, last = chance.choice(everywhere)
        node = changed
        for key in above:
            node = node[key]
        node[last] = chance.choice(ODD)
        try:
            tables(tmp_path, json.dumps(changed), "log.json")
            read += 1
        except MeasurementError:
            pass
    assert 10 < read < 140  # some changes are harmless, some are refused, none ends otherwise
