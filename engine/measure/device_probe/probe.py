"""The probe: every operator over its shapes within a budget of time, as rows of the `kernels` table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import MeasurementError
from engine.measure.device_probe import operators, shapes
from engine.measure.device_probe.host import host_rows
from engine.measure.device_probe.operators import Bench, Call
from engine.measure.device_probe.shapes import Shape
from engine.measure.device_probe.sheet import device_name, sheet_text
from engine.measure.device_probe.timing import timed
from engine.measure.local_model import choose_device, usable_cores
from engine.spec.device_probe import DeviceProbeSettings

if TYPE_CHECKING:
    from engine.measure.registry import Tools
    from engine.results.tables import Tables

_TYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_LARGEST: Final = {"cpu": 2048, "mps": 4096, "cuda": 16384}
_COPIES: Final = (2**20, 2**23, 2**26)
ENGINE: Final = "transformers"
"""Operators run as this library runs them: eager torch kernels and a cache that grows by joining."""


@dataclass(frozen=True)
class _Part:
    """One kind of operator with its share of the budget."""

    operator: str
    shapes: Sequence[Shape]
    make: Callable[[Bench, Shape], Call]
    share: float


def probe(settings: DeviceProbeSettings, tools: Tools) -> Tables:
    """Time everything, write a device entry when asked, and return the `kernels` table."""
    import torch
    import transformers

    from engine.results.tables import make_table

    device = choose_device(settings.device)
    if device == "cpu":
        torch.set_num_threads(settings.threads or usable_cores())
    name = settings.name or device_name(device)
    rows: list[dict[str, Any]] = []
    for precision in settings.precisions:
        found = list(_rows_of(settings, device, precision, tools))
        rows += [{**row, "precision": precision} for row in found]
    for row in rows:
        row |= {"device": name, "engine": ENGINE, "engine_version": transformers.__version__}
    if settings.sheet is not None:
        _write_sheet(tools.spec_folder / settings.sheet, sheet_text(name, device, rows))
    columns = {key: [row.get(key) for row in rows] for key in dict.fromkeys(k for r in rows for k in r)}
    return {"kernels": make_table("kernels", columns)}


def _rows_of(
    settings: DeviceProbeSettings, device: str, precision: str, tools: Tools
) -> Iterator[dict[str, Any]]:
    import torch

    bench = Bench.on(device, getattr(torch, _TYPES[precision]), settings.cold_bytes)
    largest = settings.largest or _LARGEST[device]
    budget = settings.budget / len(settings.precisions)
    yield {"operator": "launch", **_times(operators.launch(bench), device)}
    for part in _parts(largest):
        tools.say(f"{part.operator} in {precision}")
        yield from _part_rows(bench, part, ends=time.monotonic() + part.share * budget)
    if settings.host:
        tools.say(f"decode steps of tiny models in {precision}")
        yield from host_rows(device, precision, settings.threads)
    if device == "cuda" and torch.cuda.device_count() > 1:
        from engine.measure.device_probe.collective import all_reduce_rows

        yield from all_reduce_rows(precision)


def _parts(largest: int) -> list[_Part]:
    copies = [{"bytes": size} for size in _COPIES]
    return [
        _Part("copy", copies, operators.copy, 0.05),
        _Part("gemm", shapes.gemm_shapes(largest), operators.gemm, 0.5),
        _Part("prefill_attention", shapes.prefill_shapes(largest), operators.attention, 0.15),
        _Part("decode_attention", shapes.decode_shapes(largest), operators.attention, 0.15),
        _Part("elementwise", shapes.elementwise_shapes(largest), operators.norm, 0.1),
    ]


def _part_rows(bench: Bench, part: _Part, *, ends: float) -> Iterator[dict[str, Any]]:
    """Shapes until the time is spent; the first few are always measured."""
    import torch

    with torch.inference_mode():
        for i, shape in enumerate(part.shapes):
            if time.monotonic() > ends and i >= _ALWAYS:
                return
            try:
                times = _times(part.make(bench, shape), bench.device)
            except torch.OutOfMemoryError:
                continue  # the device is smaller than the shape
            yield {"operator": part.operator, **_dimensions(part, shape, bench), **times}


_ALWAYS: Final = 24


def _dimensions(part: _Part, shape: Shape, bench: Bench) -> dict[str, Any]:
    if part.operator != "elementwise":
        return dict(shape)
    # Read once, written once.
    return {"bytes": 2 * shape["m"] * shape["k"] * bench.dtype.itemsize}


def _times(call: Call, device: str) -> dict[str, Any]:
    found = timed(call, device)
    return {
        "time_s": found.median_s,
        "time_low_s": found.low_s,
        "time_high_s": found.high_s,
        "trials": found.trials,
    }


def _write_sheet(path: Path, text: str) -> None:
    from engine.results.atomic import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as err:
        raise MeasurementError(f"cannot write `{path}`: {err.strerror}") from err
