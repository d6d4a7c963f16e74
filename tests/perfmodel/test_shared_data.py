"""Stored errors against the tables the shipped sets were fitted on, where those are at hand.

ENGINE_SHARED names a folder with `data/operator_times.csv`, as for `samples/` elsewhere; the rows are no
part of this project.
"""

import os
from pathlib import Path

import pytest

from engine.perfmodel.measured_table import fit_table
from engine.perfmodel.parameter_sets import choose
from engine.perfmodel.validate import shipped_table
from engine.results.measured import read_measured
from engine.spec.calibration import Calibration
from engine.spec.catalog import catalog_files, load_hardware, parsed_file

FOLDER = os.environ.get("ENGINE_SHARED", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="ENGINE_SHARED names no folder of measured tables")
DEVICES = {"A100-SXM4-80GB": "a100-sxm-80gb", "H100-SXM5-80GB": "h100-sxm-80gb"}


def test_parameters_reproduce_their_stored_errors_and_bands_cover() -> None:
    table = read_measured(Path(FOLDER) / "data" / "operator_times.csv")
    devices = {name: load_hardware(entry) for name, entry in DEVICES.items()}
    outcome = fit_table(table, devices)
    for subject, fitted in outcome.fits.items():
        stored = parsed_file("calibration", catalog_files("calibration")[stem(subject.device, subject)])
        assert isinstance(stored, Calibration)
        for fit in stored.operators:
            if (fit.operator, fit.precision, fit.devices) == (
                subject.operator, subject.precision, subject.devices,
            ) and fit.rows == fitted.fit.rows:  # fmt: skip
                assert fitted.fit.held_out.median == pytest.approx(fit.held_out.median, abs=0.01)
                assert fitted.fit.held_out.p90 == pytest.approx(fit.held_out.p90, abs=0.01)
        assert 0.85 <= fitted.fit.held_out.coverage <= 0.97, subject


def stem(device: str, subject: object) -> str:
    engine, version = getattr(subject, "engine", ""), getattr(subject, "engine_version", "")
    known = catalog_files("calibration")
    name = f"{DEVICES[device]}-{engine}-{version}"
    return name if name in known else f"{DEVICES[device]}-cublas"


def test_what_a_prediction_would_use_is_close() -> None:
    table = read_measured(Path(FOLDER) / "data" / "operator_times.csv")
    devices = {name: load_hardware(entry) for name, entry in DEVICES.items()}
    sets = {n: parsed_file("calibration", p) for n, p in catalog_files("calibration").items()}
    found = {n: s for n, s in sets.items() if isinstance(s, Calibration)}
    assert choose("auto", devices["H100-SXM5-80GB"], found) is not None
    lines = [line for line in shipped_table(table, devices, found) if line.size == "all" and line.rows]
    gemm = [line for line in lines if line.subject.startswith("gemm in bf16")]
    assert max(line.median for line in gemm) < 0.15
