"""The probe: every operator over its shapes within a budget of time, as rows of the `kernels` table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import MeasurementError
from engine.measure.device_probe import operators, shapes
from engine.measure.device_probe.host import host_rows
from engine.measure.device_probe.noise import Reference
from engine.measure.device_probe.operators import Bench, Call
from engine.measure.device_probe.shapes import Shape
from engine.measure.device_probe.sheet import device_name, sheet_text
from engine.measure.device_probe.timing import Read, Timed, clock_for, mean_of, timed
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
    """Time everything, write a device entry when asked, and return the `kernels` table; `findings` tell of a
    busy machine."""
    import torch
    import transformers

    from engine.results.tables import make_table

    device = choose_device(settings.device)
    if device == "cpu":
        torch.set_num_threads(settings.threads or usable_cores())
    name = settings.name or device_name(device)
    rows: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    for precision in settings.precisions:
        found, noise = _rows_of(settings, device, precision, tools)
        rows += [{**row, "precision": precision} for row in found]
        findings += [] if noise is None else [noise]
    for row in rows:
        row |= {"device": name, "engine": ENGINE, "engine_version": transformers.__version__}
    if settings.sheet is not None:
        _write_sheet(tools.spec_folder / settings.sheet, sheet_text(name, device, rows))
    tables = {"kernels": make_table("kernels", _columns(rows))}
    if findings:
        tools.say(f"{findings[0]['finding']}: {findings[0]['evidence']}")
        tables["findings"] = make_table("findings", _columns(findings))
    return tables


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row.get(key) for row in rows] for key in dict.fromkeys(k for r in rows for k in r)}


def _rows_of(
    settings: DeviceProbeSettings, device: str, precision: str, tools: Tools
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The rows of one number type, and what a reader must know about the machine."""
    import torch

    bench = Bench.on(device, getattr(torch, _TYPES[precision]), settings.cold_bytes)
    budget = settings.budget / len(settings.precisions)
    read = clock_for(device, settings.threads)
    reference = Reference.on(bench, read) if device == "cpu" else None
    with torch.inference_mode():
        launch = timed(operators.launch(bench), device, read=read)
    rows = [{"operator": "launch", **_times(launch)}]
    rows += _operators(_parts(settings.largest or _LARGEST[device]), bench, read, reference, budget, tools)
    if settings.host:
        tools.say(f"steps of small stacks of layers in {precision}")
        rows += host_rows(device, precision, settings.threads, read, pass_on=tools.pass_on)
    if device == "cuda" and torch.cuda.device_count() > 1:
        from engine.measure.device_probe.collective import all_reduce_rows

        rows += all_reduce_rows(precision)
    return rows, None if reference is None else reference.finding()


def _parts(largest: int) -> list[_Part]:
    copies = [{"bytes": size} for size in _COPIES]
    return [
        _Part("copy", copies, operators.copy, 0.05),
        _Part("gemm", shapes.gemm_shapes(largest), operators.gemm, 0.5),
        _Part("prefill_attention", shapes.prefill_shapes(largest), operators.attention, 0.15),
        _Part("decode_attention", shapes.decode_shapes(largest), operators.attention, 0.15),
        _Part("elementwise", shapes.elementwise_shapes(largest), operators.elementwise, 0.15),
    ]


def _operators(
    parts: Sequence[_Part],
    bench: Bench,
    read: Read,
    reference: Reference | None,
    budget_s: float,
    tools: Tools,
) -> list[dict[str, Any]]:
    """Every operator in rounds, the first of which says how many shapes there is time for."""
    found: dict[tuple[str, int], list[Timed]] = {}
    wanted = {part.operator: len(part.shapes) for part in parts}
    for number in range(_ROUNDS):
        for part in parts:
            tools.pass_on()
            tools.say(f"round {number + 1} of {_ROUNDS}: {part.operator}")
            ends = time.monotonic() + part.share * budget_s / _ROUNDS
            done = 0
            for i, shape in enumerate(part.shapes[: wanted[part.operator]]):
                # The first round chooses the shapes, the others time as many of them as there is time for.
                if time.monotonic() > ends and (number > 0 or i >= _ALWAYS):
                    break
                if reference is not None and i % _BETWEEN == 0:
                    reference.look()
                times = _timed(part, shape, bench, read)
                if times is not None:
                    found.setdefault((part.operator, i), []).append(times)
                done = i + 1
            if number == 0:
                wanted[part.operator] = done
    known = {part.operator: part for part in parts}
    return [
        {
            "operator": operator,
            **_dimensions(operator, known[operator].shapes[i], bench),
            **_times(mean_of(rounds), shared=_STEPS.get(operator, 1)),
        }
        for (operator, i), rounds in sorted(
            found.items(), key=lambda item: (list(known).index(item[0][0]), item[0][1])
        )
    ]


_ROUNDS: Final = 5
_ALWAYS: Final = 24
_BETWEEN: Final = 8
"""Shapes between two looks at the reference."""
_STEPS: Final = {"elementwise": 7}
"""Rows of the operator table behind one call: norms, rotations, activation and sums of a layer."""


def _timed(part: _Part, shape: Shape, bench: Bench, read: Read) -> Timed | None:
    import torch

    try:
        with torch.inference_mode():
            return timed(part.make(bench, shape), bench.device, read=read)
    except torch.OutOfMemoryError:
        return None  # the device is smaller than the shape


def _dimensions(operator: str, shape: Shape, bench: Bench) -> dict[str, Any]:
    if operator != "elementwise":
        return dict(shape)
    # Two norms, two rotations, a gated activation and two sums, as the operator table counts them.
    width, inner = shape["k"], shape["n"]
    kv = max(1, width // operators.HEAD // 4) * operators.HEAD
    elements = shape["m"] * (4 * width + 2 * width + 2 * kv + 3 * inner + 6 * width)
    return {"bytes": round(elements * bench.dtype.itemsize / _STEPS[operator])}


def _times(found: Timed, *, shared: int = 1) -> dict[str, Any]:
    return {
        "time_s": found.median_s / shared,
        "time_low_s": found.low_s / shared,
        "time_high_s": found.high_s / shared,
        "trials": found.trials,
    }


def _write_sheet(path: Path, text: str) -> None:
    from engine.results.atomic import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as err:
        raise MeasurementError(f"cannot write `{path}`: {err.strerror}") from err
