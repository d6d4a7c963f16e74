"""One measurement at a time on a device, across runs; waiting says for whom."""

import threading

import pytest

from engine.results.lock import FolderLock
from engine.run.device import devices_of, hold_devices
from engine.spec.device_probe import DeviceProbeSettings
from engine.spec.energy import EnergySettings
from engine.spec.live import LiveSettings


def live(**target):
    return LiveSettings.model_validate({"kind": "live", "target": target})


SERVER = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}


@pytest.mark.parametrize(
    ("settings", "devices"),
    [
        (live(kind="local", device="cpu"), ("cpu",)),
        (live(**SERVER), ()),
        (DeviceProbeSettings(kind="device_probe", device="cpu"), ("cpu",)),
        (EnergySettings(kind="energy", source="replay", trace="t.csv"), ()),
    ],
    ids=["cpu", "server", "probe", "replay"],
)
def test_what_a_task_holds(settings, devices):
    assert devices_of(settings) == devices


@pytest.mark.parametrize(
    ("visible", "count", "devices"),
    [
        (None, 1, ("gpu-0",)),
        (None, 2, ("gpu-0", "gpu-1")),
        ("2,3,5", 2, ("gpu-2", "gpu-3")),  # the first of those it sees
        ("GPU-abc", 1, ("gpu-GPU-abc",)),
    ],
)
def test_spread_layers_hold_each_of_their_devices(monkeypatch, visible, count, devices):
    monkeypatch.setattr("engine.run.device.Path.exists", lambda _: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices_of(live(kind="local"), count=count) == devices


def test_a_second_run_waits_and_says_for_whom(tmp_path):
    said, order = [], []
    first = hold_devices(("cpu",), say=said.append, folder=tmp_path)
    first.__enter__()

    def second():
        with hold_devices(("cpu",), say=said.append, folder=tmp_path):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    while not said:
        thread.join(0.01)
    order.append("first")
    first.__exit__(None, None, None)
    thread.join()
    assert order == ["first", "second"]
    assert len(said) == 1
    assert said[0].startswith("waiting: `device cpu` is in use by process ")


def test_what_holds_nothing_waits_for_nothing(tmp_path):
    with hold_devices((), say=print, folder=tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_failed_measurement_lets_the_next_one_in(tmp_path):
    with pytest.raises(ZeroDivisionError), hold_devices(("cpu",), say=print, folder=tmp_path):
        _ = 1 / 0
    (path,) = tmp_path.iterdir()
    FolderLock(path).release()
