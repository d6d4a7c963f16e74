"""Parameter sets as files: what is refused, and that shipped ones read back as they were written."""

from pathlib import Path

import pytest

from engine.errors import CatalogError, LocatedError
from engine.spec.calibration import Calibration
from engine.spec.calibration_file import calibration_text
from engine.spec.catalog import catalog_files, load_calibrations, load_hardware, parsed_file
from engine.spec.document import read_document, validate


@pytest.mark.parametrize("path", catalog_files("calibration").values(), ids=lambda path: path.stem)
def test_shipped_files_are_what_the_writer_writes(path: Path) -> None:
    found = parsed_file("calibration", path)
    assert isinstance(found, Calibration)
    assert calibration_text(found) == path.read_text(encoding="utf-8")


def broken(old: str, new: str) -> str:
    """A shipped file with one thing changed, and what is said about it."""
    text = catalog_files("calibration")["h100-sxm-80gb-nccl-2.29.2"].read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(LocatedError) as caught:
        validate(read_document("set.yaml", data=text.replace(old, new, 1).encode()), Calibration)
    return caught.value.problems[0].message


def test_times_need_units() -> None:
    assert "needs a unit" in broken("launch: 5.98 us", "launch: 5.98")


def test_efficiencies_have_limits() -> None:
    assert "must be at most 2" in broken("memory_efficiency: 0.7468", "memory_efficiency: 7.468")


def test_bands_must_rise() -> None:
    text = broken("- {low:", "- {below: 20 us, low:")
    assert text == "`bands` must rise in `below`, and only the last one leaves it out"


def test_a_users_set_beside_the_spec_is_found_first(tmp_path: Path) -> None:
    device = load_hardware("mi300x")
    source = catalog_files("calibration")["h100-sxm-80gb-vllm-0.24.0"].read_text(encoding="utf-8")
    own = source.replace("device_name: NVIDIA H100 SXM 80GB", f"device_name: {device.name}")
    (tmp_path / "hardware" / "calibrations").mkdir(parents=True)
    (tmp_path / "hardware" / "calibrations" / "mine.yaml").write_text(own, encoding="utf-8")
    assert list(load_calibrations([device], search=(tmp_path,))) == ["mine"]


def test_sets_of_the_vendor_come_along_where_a_device_has_no_attention(tmp_path: Path) -> None:
    device = load_hardware("l40s")
    found = parsed_file("calibration", catalog_files("calibration")["h100-sxm-80gb-vllm-0.24.0"])
    assert isinstance(found, Calibration)
    folder = tmp_path / "hardware" / "calibrations"
    folder.mkdir(parents=True)
    for kinds, count in ((("gemm",), 8), (("gemm", "prefill_attention", "decode_attention"), 1)):
        fits = [fit for fit in found.operators if fit.operator in kinds]
        own = found.model_copy(update={"device_name": device.name, "operators": fits})
        (folder / "mine.yaml").write_text(calibration_text(own), encoding="utf-8")
        # All seven shipped ones are NVIDIA's.
        assert len(load_calibrations([device], search=(tmp_path,))) == count


def test_a_broken_set_is_located(tmp_path: Path) -> None:
    device = load_hardware("mi300x")
    folder = tmp_path / "hardware" / "calibrations"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"name: mine\ndevice_name: {device.name}\n", encoding="utf-8")
    with pytest.raises(CatalogError) as caught:
        load_calibrations([device], search=(tmp_path,))
    assert caught.value.problems[0].file == str(folder / "mine.yaml")
    assert caught.value.message == "`device`, `engine`, `source` and `fitted` are missing"
