from __future__ import annotations

from pathlib import Path

import pytest

from engine.spec import catalog
from engine.spec.remembered import recall, remember

DEVICE = "name: mine\npeak: {bf16: 10 TFLOP/s}\nmemory_bandwidth: 1 TB/s\n"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.platform", "linux")


def test_values_come_back_for_the_same_bytes_only() -> None:
    assert recall(b"a: 1") is None
    remember(b"a: 1", {"a": 1})
    assert recall(b"a: 1") == {"a": 1}
    assert recall(b"a: 2") is None


def test_damaged_or_unwritable_caches_are_ignored(tmp_path: Path) -> None:
    remember(b"a: 1", {"a": 1})
    (file,) = (tmp_path / "cache").rglob("*.json")
    file.write_text("{", encoding="utf-8")
    assert recall(b"a: 1") is None
    for path in sorted((tmp_path / "cache").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("a file where a folder should be")
    remember(b"a: 1", {"a": 1})
    assert recall(b"a: 1") is None


def test_an_edited_device_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    path = tmp_path / "hardware" / "mine.yaml"
    path.write_text(DEVICE)
    assert catalog.load_hardware("mine", search=[tmp_path]).memory_bandwidth == 1e12
    path.write_text(DEVICE.replace("1 TB/s", "2.5 TB/s"))
    assert catalog.load_hardware("mine", search=[tmp_path]).memory_bandwidth == 2.5e12


def test_remembered_values_that_no_longer_validate_are_read_again(tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "mine.yaml").write_text(DEVICE)
    remember(DEVICE.encode(), {"name": "mine", "gone": 1})
    assert catalog.load_hardware("mine", search=[tmp_path]).name == "mine"
