"""nvidia-smi as text and as a program: the traps of its CSV, and a pretend program on the PATH."""

import os
import stat
import sys
from pathlib import Path

import pytest

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure.energy.nvidia_smi import NvidiaSmi, chosen_fields, offered_fields
from engine.measure.energy.replay import read_trace
from engine.measure.energy.smi_text import number, read_dmon, read_query_csv

DEVICE = "GPU-00000000-1111-2222-3333-444444444444"
_ROW = f"2026/03/04 10:15:00.%s00, 0, {DEVICE}, NVIDIA H100, "
MASKED = (
    "timestamp, index, uuid, name, power.draw [W], power.draw.instant [W], utilization.gpu [%], "
    "memory.used [MiB], temperature.gpu, clocks.current.sm [MHz], clocks_event_reasons.active\n"
    + _ROW % 1 + "80.00 W, 81.50 W, 0 %, 20480 MiB, 40, 1410 MHz, 0x0000000000000001\n"
    + _ROW % 2 + "[N/A], [Not Supported], 98 %, 20480 MiB, 41, 1980 MHz, 0x0000000000000020\n"
    + _ROW % 3 + "300.0 W, [Unknown Error], 98 %, 20480 MiB, 41, 1980 MHz, 0x4\n"
    + _ROW % 4 + "300.0 W, 31"
)  # fmt: skip


def test_absent_cells_are_absent_and_the_cut_line_is_dropped() -> None:
    trace = read_query_csv(MASKED, file="a.csv")
    (one,) = trace.channels
    assert one.device == DEVICE
    assert one.name == "NVIDIA H100"
    assert one.times_s.tolist() == pytest.approx([0.0, 0.1, 0.2], abs=1e-6)
    # The instant field is preferred where it says something, the plain one stands in where it does not.
    assert one.readings["power_w"].tolist() == pytest.approx([81.5, float("nan"), 300.0], nan_ok=True)
    assert one.readings["memory_used_bytes"][0] == 20480 * 2**20
    assert one.readings["utilization"].tolist() == [0.0, 0.98, 0.98]
    assert one.readings["sm_clock_hz"].tolist() == [1.41e9, 1.98e9, 1.98e9]
    assert one.readings["throttle"].tolist() == [1, 0x20, 4]
    assert trace.notes == ("1 rows of `a.csv` could not be used",)


@pytest.mark.parametrize(
    "cell", ["[N/A]", "N/A", "[Not Supported]", "not supported", "[Unknown Error]", "", "Unknown"]
)
def test_every_way_to_say_absent(cell: str) -> None:
    assert number(cell, "w") is None


@pytest.mark.parametrize(
    "cell, unit, value",
    [("30.70 W", "", 30.7), ("30.70", "w", 30.7), ("20480 MiB", "mib", 20480 * 2**20), ("97", "%", 0.97)],
)
def test_units_stand_in_the_cell_or_in_the_header(cell: str, unit: str, value: float) -> None:
    assert number(cell, unit) == pytest.approx(value)


def test_two_devices_interleaved_with_repeated_headers() -> None:
    text = (
        "timestamp, index, power.draw.instant [W]\n"
        "2026/03/04 10:15:00.120, 0, 198.57 W\n"
        "2026/03/04 10:15:00.120, 1, 100.00 W\n"
        "timestamp, index, power.draw.instant [W]\n"
        "2026/03/04 10:15:00.620, 0, 200.00 W\n"
        "2026/03/04 10:15:00.620, 1, 102.00 W\n"
    )
    trace = read_query_csv(text, file="two.csv")
    assert [one.device for one in trace.channels] == ["0", "1"]
    assert trace.channels[1].readings["power_w"].tolist() == [100.0, 102.0]
    assert trace.notes == ()


def test_a_clock_that_was_set_back_is_refused() -> None:
    text = "timestamp, power.draw [W]\n2026/10/25 02:59:59.900, 80 W\n2026/10/25 02:00:00.000, 80 W\n"
    with pytest.raises(MeasurementError) as caught:
        read_query_csv(text, file="fold.csv")
    assert caught.value.message == "`fold.csv`: the time goes back at line 3"


def test_a_file_without_power_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(MeasurementError, match=r"`x\.csv` is no recording of power"):
        read_trace(path)
    path.write_text("")
    with pytest.raises(MeasurementError, match=r"`x\.csv` is empty"):
        read_trace(path)
    with pytest.raises(EnvironmentMissing, match="there is no trace"):
        read_trace(tmp_path / "absent.csv")


def test_dmon_with_and_without_times() -> None:
    head = "#Date Time gpu pwr gtemp mtemp sm\n#YYYYMMDD HH:MM:SS Idx W C C %\n"
    text = head + " 20260304 10:15:00 0 120 50 - 80\n 20260304 10:15:00 1 118 49 - 78\n" + head
    text += " 20260304 10:15:01 0 240 55 - 99\n 20260304 10:15:01 1 232 54 - 98\n"
    trace = read_dmon(text, file="d.txt")
    assert [one.readings["power_w"].tolist() for one in trace.channels] == [[120, 240], [118, 232]]
    assert trace.channels[0].times_s.tolist() == [0.0, 1.0]
    assert trace.channels[0].readings["utilization"].tolist() == [0.8, 0.99]
    bare = "# gpu pwr\n# Idx W\n 0 100\n 0 110\n"
    trace = read_dmon(bare, file="b.txt", interval_s=0.5)
    assert trace.channels[0].times_s.tolist() == [0.0, 0.5]
    assert trace.notes == ("`b.txt` carries no times; one row every 0.5 s was assumed",)


HELP = """\
List of valid properties to query for the switch "--query-gpu=":
"timestamp"
"index"
"uuid" or "gpu_uuid"
"name" or "gpu_name"
"power.draw"
"temperature.gpu"
"clocks.sm" or "clocks.current.sm"
"clocks_throttle_reasons.active"
"""


def test_only_fields_that_this_version_offers_are_asked_for() -> None:
    assert chosen_fields(offered_fields(HELP)) == [
        "timestamp", "index", "uuid", "name", "power.draw", "temperature.gpu", "clocks.sm",
        "clocks_throttle_reasons.active",
    ]  # fmt: skip


PROGRAM = f"""\
#!{sys.executable}
import sys, time
asked = " ".join(sys.argv[1:])
if "--help-query-gpu" in asked:
    print('''{HELP}''')
elif "--query-gpu=index,uuid,name" in asked:
    print("0, GPU-a, Pretend A\\n1, GPU-b, Pretend B")
elif "--query-compute-apps" in asked:
    print("4242, GPU-b\\n77, GPU-a")
else:
    assert "power.draw.instant" not in asked, "a field that is not offered fails the whole query"
    print("timestamp, index, uuid, name, power.draw [W], temperature.gpu, clocks.current.sm [MHz], "
          "clocks_throttle_reasons.active", flush=True)
    for turn in range(50):
        for index, uuid in enumerate(("GPU-a", "GPU-b")):
            print(f"2026/03/04 10:15:{{turn:02d}}.000, {{index}}, {{uuid}}, Pretend, "
                  f"{{100 + turn + index}}.00 W, 50, 1410 MHz, 0x0000000000000000", flush=True)
        time.sleep(0.01)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "nvidia-smi"
    path.write_text(PROGRAM)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return path


def test_readings_of_the_program(program: Path) -> None:
    source = NvidiaSmi(uuids=["GPU-b"], interval_s=0.01)
    try:
        assert [device.name for device in source.devices] == ["Pretend B"]
        first, second = source.read(), source.read()
        assert first[0]["power_w"] == 101.0
        assert second[0]["power_w"] == 102.0
        assert "energy_j" not in first[0]  # there is no such field
        assert source.users() == {"GPU-b": {4242}}  # the other device's are not ours to count
    finally:
        source.close()


def test_a_program_that_ends_is_an_error(program: Path) -> None:
    program.write_text(PROGRAM.replace("range(50)", "range(1)"))
    source = NvidiaSmi(interval_s=0.01)
    try:
        source.read()
        with pytest.raises(MeasurementError, match="nvidia-smi ended in the middle of the measurement"):
            source.read()
    finally:
        source.close()


def test_a_program_that_fails_says_what_it_said(program: Path) -> None:
    program.write_text(f"#!{sys.executable}\nprint('NVIDIA-SMI has failed')\nraise SystemExit(9)\n")
    with pytest.raises(EnvironmentMissing, match="`nvidia-smi` failed: NVIDIA-SMI has failed"):
        NvidiaSmi()
