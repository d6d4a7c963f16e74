"""A wheel carries everything the checkout reads from its root, and is enough on its own."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.source_tree import ROOT

DATA = ("hardware", "specs/models", "specs/quantization", "templates", "schemas")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder a wheel of this checkout unpacks to, as pip would leave it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.parametrize("folder", DATA)
def test_the_wheel_carries_the_data(unpacked: Path, folder: str) -> None:
    def files(root: Path) -> set[Path]:
        return {path.relative_to(root) for path in root.rglob("*") if path.is_file()}

    expected = files(ROOT / folder)
    assert expected
    assert files(unpacked / "engine/_data" / folder) == expected


def test_the_wheel_is_typed_and_carries_no_tests(unpacked: Path) -> None:
    assert (unpacked / "engine/py.typed").is_file()
    (information,) = unpacked.glob("*.dist-info")
    assert {path.name for path in unpacked.iterdir()} == {"engine", information.name}


def test_the_default_install_has_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    heavy = ("torch", "transformers", "ray", "duckdb")
    assert [need for need in project["dependencies"] if need.startswith(heavy)] == []
