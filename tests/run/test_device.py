"""One measurement at a time on a device, across runs; waiting says for whom."""

import threading

import pytest

from engine.results.lock import FolderLock
from engine.run.device import device_of, hold_device
from engine.spec.energy import EnergySettings
from engine.spec.live import LiveSettings


def live(**target):
    return LiveSettings.model_validate({"kind": "live", "target": target})


SERVER = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}


@pytest.mark.parametrize(
    ("settings", "device"),
    [
        (live(kind="local", device="cpu"), "cpu"),
        (live(**SERVER), None),
        (EnergySettings(kind="energy", source="replay", trace="t.csv"), None),
    ],
    ids=["cpu", "server", "replay"],
)
def test_what_a_task_holds(settings, device):
    assert device_of(settings) == device


def test_a_second_run_waits_and_says_for_whom(tmp_path):
    said, order = [], []
    first = hold_device("cpu", say=said.append, folder=tmp_path)
    first.__enter__()

    def second():
        with hold_device("cpu", say=said.append, folder=tmp_path):
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
    with hold_device(None, say=print, folder=tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_failed_measurement_lets_the_next_one_in(tmp_path):
    with pytest.raises(ZeroDivisionError), hold_device("cpu", say=print, folder=tmp_path):
        _ = 1 / 0
    (path,) = tmp_path.iterdir()
    FolderLock(path).release()
