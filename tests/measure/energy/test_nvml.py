"""The NVML source through the real nvidia-ml-py, on the pretend library."""

import os
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure.energy.nvml import Nvml
from engine.measure.energy.probe import probe
from engine.measure.energy.source import open_source
from engine.spec.energy import EnergySettings

FIRST = "GPU-00000000-fake-0000-0000-000000000000"
SECOND = "GPU-00000000-fake-0000-0000-000000000001"


def test_a_whole_reading(nvml, source) -> None:
    found = source()
    nvml.move_to(3.05)
    (reading,) = found.read()
    # 80 W from the start: 3.0 s to the last update, after the 1000 J that a running driver has behind it.
    assert reading["energy_j"] == pytest.approx(1000 + 80 * 3.0)
    assert reading["power_w"] == reading["average_power_w"] == pytest.approx(80.0)
    assert reading["temperature_c"] == 45
    assert reading["sm_clock_hz"] == 1.98e9
    assert reading["memory_clock_hz"] == 2.619e9
    assert reading["utilization"] == 0.97
    assert reading["memory_utilization"] == 0.41
    assert reading["memory_used_bytes"] == 20 * 2**30
    assert reading["throttle"] == 0


def test_who_the_device_is(source) -> None:
    (device,) = source().devices
    assert (device.uuid, device.name, device.scope) == (FIRST, "Pretend H100", "gpu")
    assert device.facts["driver"] == "580.00.fake"
    assert device.facts["power_limit_w"] == 700
    # No threshold on this architecture: 45 C now and 42 C of margin.
    assert device.facts["slowdown_temperature_c"] == 87
    assert "missing" not in device.facts


def test_a_field_that_answers_not_supported_in_a_good_call_is_absent(source) -> None:
    found = source(has_counter=0, has_instant=0)
    (reading,) = found.read()
    assert "energy_j" not in reading
    assert "power_w" not in reading
    assert reading["average_power_w"] == pytest.approx(80.0)
    assert found.devices[0].facts["missing"] == "power_w, energy_j"


def test_the_plain_power_call_stands_in_where_no_field_answers(source) -> None:
    (reading,) = source(has_average=0, has_instant=0).read()
    assert reading["average_power_w"] == pytest.approx(80.0)


def test_power_of_a_module_says_so(source) -> None:
    assert source(gpu_scope=0).devices[0].scope == "module"


def test_only_the_devices_asked_for_are_counted(nvml) -> None:
    nvml.set(count=2)
    nvml.move_to(10.0)
    both = Nvml()
    one = Nvml(uuids=[SECOND])
    # The second one idles at 50 W.
    assert both.quick().power_w == pytest.approx(130.0)
    assert one.quick().power_w == pytest.approx(50.0)
    assert [device.uuid for device in one.devices] == [SECOND]
    both.close()
    one.close()


def test_a_split_neighbour_does_not_stand_in_the_way(nvml) -> None:
    nvml.set(count=2, second_mig=1, second_pid=99)
    found = Nvml()
    assert found.users() == {FIRST: set(), SECOND: {99}}
    found.keep({FIRST})
    assert [device.uuid for device in found.devices] == [FIRST]
    assert found.quick().power_w == pytest.approx(80.0)  # not 130 W: only the model's device counts
    assert found.users() == {FIRST: set()}
    found.close()
    other = Nvml()
    with pytest.raises(MeasurementError, match=f"MIG is on for `{SECOND}`"):
        other.keep({SECOND})
    other.close()


def test_a_device_closed_to_this_user_hides_no_other(nvml) -> None:
    nvml.set(count=2, closed=0)
    found = Nvml()
    assert [device.uuid for device in found.devices] == [SECOND]
    found.close()
    nvml.set(count=1)
    with pytest.raises(EnvironmentMissing, match="NVML sees 1 devices and may open none"):
        Nvml()


@pytest.mark.parametrize("result", [3, 13, 999])  # not supported, no such function, unknown error
def test_where_the_call_for_fields_fails_older_calls_stand_in(nvml, source, result: int) -> None:
    found = source(fields_result=result)
    nvml.move_to(3.05)
    (reading,) = found.read(slow=False)
    assert reading == pytest.approx({"energy_j": 1000 + 80 * 3.0, "average_power_w": 80.0})
    quick = found.quick()
    assert (quick.energy_j, quick.power_w, quick.averaged) == (
        pytest.approx(1240.0),
        pytest.approx(80.0),
        True,
    )
    assert found.devices[0].facts["missing"] == "power_w"


def test_fields_that_fail_once_are_absent_once(nvml, source) -> None:
    found = source()
    nvml.set(fields_result=999)
    assert "energy_j" not in found.read()[0]
    nvml.set(fields_result=0)
    assert "energy_j" in found.read()[0]


def test_a_device_without_any_power_is_refused_at_once(nvml, source) -> None:
    found = source(fields_result=3, no_counter_call=1)
    assert found.devices[0].facts["missing"] == "power_w, energy_j"
    nvml.set(no_power_call=1)  # a virtual device
    with pytest.raises(EnvironmentMissing) as caught:
        Nvml()
    assert caught.value.message == f"NVML reads neither power nor energy of Pretend H100 ({FIRST})"


def test_a_device_that_is_not_there(nvml) -> None:
    with pytest.raises(EnvironmentMissing, match="NVML knows no device `GPU-elsewhere`"):
        Nvml(uuids=["GPU-elsewhere"])


def test_mig_is_refused(nvml) -> None:
    nvml.set(mig=1)
    with pytest.raises(MeasurementError) as caught:
        Nvml()
    assert caught.value.message == (
        f"MIG is on for `{FIRST}`: its power belongs to the whole board, not to one instance"
    )


def test_other_processes_are_seen(source) -> None:
    found = source(foreign_pid=4242)
    assert found.users() == {FIRST: {4242}}


def test_a_device_lost_in_the_middle_is_an_error(nvml, source) -> None:
    found = source(lost_at=5)
    nvml.move_to(6.0)
    with pytest.raises(MeasurementError, match=f"device `{FIRST}` was lost"):
        found.read()


def test_another_module_called_pynvml_is_refused(monkeypatch, nvml) -> None:
    monkeypatch.delattr(pynvml, "_nvmlGetFunctionPointer")
    with pytest.raises(EnvironmentMissing, match="is not that of nvidia-ml-py"):
        Nvml()


@pytest.mark.parametrize("period, continuous", [(0.1, 1), (0.02, 1), (0.1, 0)])
def test_the_probe_finds_the_period_of_the_counter(nvml, source, period: float, continuous: int) -> None:
    nvml.set(counter_period=period, power_period=0.1, continuous=continuous)
    found = probe(source(), nvml, duration_s=2.0, interval_s=0.002, load=lambda t: toggled(nvml, t))
    assert found.counter_s == pytest.approx(0.1 if not continuous else period, abs=0.004)
    assert found.instant_s == pytest.approx(0.1, abs=0.004)
    assert found.looks == pytest.approx(1000, abs=2)
    assert found.note() is None


def toggled(nvml, elapsed: float) -> None:
    # Power that never stands still: every update shows.
    now = nvml.now()
    nvml.work(now, now + 0.002, 200 + 100 * (int(elapsed / 0.01) % 7))


def test_a_probe_that_sees_nothing_change_says_so(nvml, source) -> None:
    found = probe(source(stuck=1), nvml, duration_s=1.0, interval_s=0.01)
    assert found.known is None
    assert found.note() == "no sensor period was found in 100 looks, 0.1 s is assumed"


NO_DRIVER = """
from engine.measure.energy.source import open_source
from engine.spec.energy import EnergySettings
from engine.errors import EnvironmentMissing
try:
    open_source(EnergySettings(kind="energy", source="SOURCE"))
except EnvironmentMissing as err:
    print(err.message, "|", err.hint)
"""


@pytest.mark.parametrize("asked", ["nvml", "auto"])
def test_without_a_driver_the_message_names_the_way_out(asked: str, tmp_path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a driver")
    environment = {**os.environ, "PATH": str(tmp_path)}
    environment.pop("LD_LIBRARY_PATH", None)
    done = subprocess.run(
        [sys.executable, "-c", NO_DRIVER.replace("SOURCE", asked)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, hint = done.stdout.strip().split(" | ")
    first = "NVML cannot be used: nvml shared library not found"
    both = f"no power can be read here: {first}; the program `nvidia-smi` is not there"
    assert said == (first if asked == "nvml" else both)
    assert hint == (
        "run it where an NVIDIA driver is installed, replay a recording with `source: replay`, measure time "
        "alone with `metrics: [time]`, or go on without with `on_missing: skip`"
    )


def test_auto_takes_nvml_where_it_is(nvml) -> None:
    found = open_source(EnergySettings(kind="energy"))
    assert found.name == "nvml"
    found.close()
