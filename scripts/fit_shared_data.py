"""Fit the shipped parameter sets from tables of measured operators and runs, and write the error tables.

    python scripts/fit_shared_data.py DATA [--write]

DATA holds `operator_times.csv` and `end_to_end.csv` in the form that docs/calibration.md describes; their
rows are not part of this project. Without `--write` nothing but the tables on the terminal changes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from fit_shared_runs import run_fits

from engine.perfmodel.operator_fit import Fitted, fit_operator
from engine.spec.calibration import Calibration, OperatorKind
from engine.spec.calibration_file import calibration_text
from engine.spec.catalog import load_hardware
from engine.spec.hardware import Hardware, Precision

ROOT: Final = Path(__file__).resolve().parent.parent
DEVICES: Final = {"A100-SXM4-80GB": "a100-sxm-80gb", "H100-SXM5-80GB": "h100-sxm-80gb"}
KINDS: Final[dict[str, OperatorKind]] = {
    "gemm": "gemm",
    "attn_prefill": "prefill_attention",
    "attn_decode": "decode_attention",
    "moe": "experts",
    "comm_allreduce": "all_reduce",
}
AICONFIGURATOR: Final = (
    "aiconfigurator (Apache-2.0) 095f58a51c4ca8e61b66ec108d86f223f8d559ce, "
    "aic-core/src/aiconfigurator_core/systems/data"
)
VIDUR: Final = "vidur (MIT) 7d47513363ec447a741ac5e47241580b47724fbf, data/profiling/compute"
NOTES: Final = {
    "aiconfigurator": "Operators captured in a CUDA graph, mean of at least 6 replays: no launch from the "
    "host; weights rotate past the cache, activations may stay in it.",
    "vidur": "Kernel times inside serving layers, median, 1 us resolution; one GPU holds the shard.",
}


@dataclass(frozen=True)
class Key:
    """One parameter set."""

    device: str
    engine: str
    version: str
    source: str

    @property
    def name(self) -> str:
        """File name without its suffix."""
        return f"{self.device}-{self.engine}-{self.version}".rstrip("-")


def main() -> None:
    """Fit, print, and write when asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true", help="write hardware/calibrations")
    options = parser.parse_args()
    fits = operator_fits(options.data / "operator_times.csv")
    for key, found in fits.items():
        for fitted in found:
            print(f"{key.name:38} {row_text(fitted)}")
    sets = {key.name: calibration(key, found) for key, found in fits.items()}
    runs = run_fits(options.data / "end_to_end.csv", sets)
    print(*runs.lines, sep="\n")
    if options.write:
        folder = ROOT / "hardware" / "calibrations"
        folder.mkdir(exist_ok=True)
        for name, found in sets.items():
            whole = {"request": runs.request.get(name), "energy": runs.energy.get(name)}
            text = calibration_text(found.model_copy(update=whole))
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def operator_fits(path: Path) -> dict[Key, list[Fitted]]:
    """Every operator of every set."""
    table = pd.read_csv(path)
    table["measured_s"] = table.measured_us * 1e-6
    found: dict[Key, list[Fitted]] = {}
    columns = ["hardware", "source", "source_version", "op", "precision"]
    for (hardware, source, version, op, precision), rows in table.groupby(columns):
        engine, number = ("cublas", "") if source == "vidur" else version.split("-", 1)
        key = Key(DEVICES[hardware], engine, number, source)
        device = load_hardware(key.device)
        parts = rows.groupby("num_gpus") if op == "comm_allreduce" else [(None, rows)]
        for devices, part in parts:
            found.setdefault(key, []).append(one_fit(KINDS[op], precision, part, device, devices))
    return found


def one_fit(
    kind: OperatorKind, precision: Precision, rows: pd.DataFrame, device: Hardware, devices: float | None
) -> Fitted:
    """One kind of operator; the precision of a collective is that of what it sends."""
    columns = {name: rows[name].to_numpy() for name in rows.columns if rows[name].dtype != object}
    numbers = {name: np.asarray(c, dtype=np.float64) for name, c in columns.items() if c.dtype.kind in "fi"}
    return fit_operator(kind, precision, numbers, device, devices=None if devices is None else int(devices))


def row_text(fitted: Fitted) -> str:
    """One line of the error table."""
    fit, errors = fitted.fit, fitted.fit.held_out
    kind = fit.operator if fit.devices is None else f"{fit.operator} x{fit.devices}"
    return (
        f"{kind:18} {fit.precision:5} {fit.rows:5} {fit.sites:4}  "
        f"{errors.median:6.1%} {errors.p90:6.1%} {errors.ratio:5.2f}  covered {errors.coverage:.0%}"
    )


def calibration(key: Key, found: list[Fitted]) -> Calibration:
    """The operators of one parameter set."""
    device = load_hardware(key.device)
    return Calibration.model_validate(
        {
            "name": f"{device.name}, {key.engine} {key.version}".strip(),
            "device": key.device,
            "device_name": device.name,
            "vendor": device.vendor,
            "architecture": device.architecture,
            "engine": key.engine,
            "engine_version": key.version,
            "source": VIDUR if key.source == "vidur" else AICONFIGURATOR,
            "fitted": datetime.now(UTC).date().isoformat(),
            "operators": [operator_data(f, found) for f in found if not contradicted(f)],
            "notes": NOTES.get(key.source),
        },
        context={"trusted": True},
    )


def operator_data(fitted: Fitted, found: list[Fitted]) -> dict[str, Any]:
    """One fit as data; an 8-bit product within a model launches like a 16-bit one of the same engine."""
    data = fitted.fit.model_dump()
    if fitted.fit.operator == "gemm" and fitted.fit.precision == "fp8":
        like = next(f.fit for f in found if f.fit.operator == "gemm" and f.fit.precision == "bf16")
        data["launch_in_model"] = like.parameters.launch
    return data


def contradicted(fitted: Fitted) -> bool:
    """Expert layers in fp8: the table's kernels reach a sixth of the bandwidth, and with them the measured
    time between tokens of fp8 models comes out twice too long; with 16-bit efficiencies it is right."""
    return fitted.fit.operator == "experts" and fitted.fit.precision == "fp8"


if __name__ == "__main__":
    main()
