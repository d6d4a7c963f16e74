"""What must hold for every kernel of every shipped parameter set, whatever its shape: more work never takes
less time, nothing jumps but at the edges of tiles and waves, and nothing is faster than the sheet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.perfmodel.fit import KernelRows, predicted_s
from engine.perfmodel.forms import TILE
from engine.perfmodel.kernel_table import gated_rows
from engine.spec.calibration import OperatorFit
from engine.spec.catalog import load_calibrations, load_hardware
from engine.spec.hardware import Hardware

DEVICES = {sheet.name: sheet for sheet in map(load_hardware, ("a100-sxm-80gb", "h100-sxm-80gb"))}
SHAPES: dict[str, dict[str, list[int]]] = {
    "gemm": {"m": [1, 64, 1024], "n": [256, 4096, 65536], "k": [256, 4096, 65536]},
    "prefill_attention": {"batch": [1, 16], "q_len": [64, 900], "num_heads": [8, 64], "num_kv_heads": [1, 8]},
    "decode_attention": {"batch": [1, 100], "kv_len": [128, 5000], "num_heads": [8], "num_kv_heads": [1, 8]},
    "experts": {"m": [1, 500], "n": [1024, 14336], "k": [4096]},
    "all_reduce": {"message_bytes": [512, 10**6]},
}
REST = {"head_dim": 128, "num_experts": 8, "topk": 2, "tp": 1, "num_gpus": 4}
GROWING = ("m", "n", "k", "batch", "q_len", "kv_len", "message_bytes")
STEPS, POWERS = np.arange(1, 1200, dtype=np.float64), 2.0 ** np.arange(0, 18)


Shapes: TypeAlias = dict[str, NDArray[np.float64]]


def fits() -> Iterator[tuple[str, OperatorFit, Hardware]]:
    for sheet in DEVICES.values():
        for name, found in load_calibrations([sheet]).items():
            if found.device_name == sheet.name:
                for fit in found.operators:
                    yield f"{name} {fit.operator} {fit.precision} {fit.devices}", fit, sheet


FITS = list(fits())
each_fit = pytest.mark.parametrize(("fit", "sheet"), [f[1:] for f in FITS], ids=[f[0] for f in FITS])


def lines(fit: OperatorFit, along: NDArray[np.float64]) -> Iterator[tuple[str, Shapes]]:
    """Shapes that grow along one dimension, from every corner of the others."""
    shapes = SHAPES[fit.operator]
    for name in shapes:
        if name not in GROWING:
            continue
        others = [other for other in shapes if other != name]
        corners = np.meshgrid(*(shapes[other] for other in others), indexing="ij")
        for corner in zip(*(grid.ravel() for grid in corners), strict=True) if others else [()]:
            given = {**REST, **dict(zip(others, corner, strict=True)), name: along}
            if fit.operator == "prefill_attention":
                given["kv_len"] = given["q_len"]
            yield name, {key: np.broadcast_to(value, along.shape) * 1.0 for key, value in given.items()}


def rows_of(fit: OperatorFit, sheet: Hardware, shapes: Shapes) -> KernelRows:
    # Slow enough for no row to be left out as impossible.
    slow = np.full(len(next(iter(shapes.values()))), 3000.0)
    found = gated_rows(fit.operator, fit.precision, {**shapes, "measured_s": slow}, sheet)
    assert not found.dropped
    return found.rows


@each_fit
@pytest.mark.parametrize("along", [STEPS, POWERS], ids=["one by one", "powers of two"])
def test_more_work_never_takes_less_time(
    fit: OperatorFit, sheet: Hardware, along: NDArray[np.float64]
) -> None:
    for name, shapes in lines(fit, along):
        time = predicted_s(rows_of(fit, sheet, shapes), fit.form, fit.parameters)
        falls = np.flatnonzero(time[1:] < time[:-1] * (1 - 1e-12))
        assert not len(falls), (name, {key: value[falls[0]] for key, value in shapes.items()})


@each_fit
def test_times_jump_at_the_edges_of_tiles_and_waves_only(fit: OperatorFit, sheet: Hardware) -> None:
    for name, shapes in lines(fit, STEPS[63:]):
        rows = rows_of(fit, sheet, shapes)
        time = predicted_s(rows, fit.form, fit.parameters)
        # Work grows in step with the dimension, or with its square where queries and cache grow together...
        allowed = 2.1 / shapes[name][:-1]
        jump = time[1:] / time[:-1] - 1
        waves = np.zeros(len(time)) if rows.waves is None else np.ceil(rows.waves)
        edge = np.zeros(len(jump), dtype=np.bool_)
        if name in ("m", "n", "q_len"):
            edge = shapes[name][:-1] % TILE == 0
        # ... and beyond that only where a tile or a wave begins, by at most as much again.
        edge |= waves[1:] > waves[:-1]
        assert (jump[~edge] <= allowed[~edge]).all(), (name, float((jump - allowed)[~edge].max()))
        assert (jump <= 1 + allowed).all(), name


@each_fit
def test_no_kernel_is_faster_than_the_memory_and_products_not_than_arithmetic(
    fit: OperatorFit, sheet: Hardware
) -> None:
    for _, shapes in lines(fit, POWERS):
        rows = rows_of(fit, sheet, shapes)
        time = predicted_s(rows, fit.form, fit.parameters)
        # Decode attention is timed by what it reads, and switches that add up on the way beat a ring.
        bound = rows.memory_s if fit.form == "waves" else rows.bound_s
        if fit.operator == "all_reduce":
            bound = bound / 2
        assert (time >= bound * (1 - 1e-12)).all()
