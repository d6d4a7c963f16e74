"""Whole requests that were measured: which rows a fit of request-level terms may use, and why not others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.fit import Column
from engine.perfmodel.kernel_table import GATE
from engine.perfmodel.parameter_sets import Chosen
from engine.perfmodel.summary import WorkloadArrays, summarise

_LONGEST_S: Final = 3600.0
_FEWEST_GROUPS: Final = 3
_ZERO: Final = np.zeros(1, dtype=np.int64)


class RunKey(NamedTuple):
    """Whose terms a fit gives."""

    device: str
    engine: str
    engine_version: str

    def __str__(self) -> str:
        engine = " ".join(part for part in (self.engine, self.engine_version) if part)
        return ", ".join(part for part in ("whole requests", self.device, engine) if part)


@dataclass(frozen=True)
class RunRows:
    """Whole requests of one device and engine as columns of one length; NaN where nothing was measured."""

    deployments: tuple[Deployment, ...]
    """What ran, without parameters."""
    which: NDArray[np.int64]
    """Position of each row's deployment."""
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    batch_size: NDArray[np.int64]
    """Requests at once."""
    continuous: NDArray[np.bool_]
    """Requests come and go, so that a decode step may wait for prefills of others."""
    tpot_s: Column
    """Time per output token after the first."""
    ttft_s: Column
    """Time to the first token."""
    energy_j: Column
    """Joules per output token."""

    def __len__(self) -> int:
        return len(self.which)

    def take(self, rows: NDArray[Any]) -> RunRows:
        """Some of the rows."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return replace(self, **columns)

    @property
    def prefill_s(self) -> Column:
        """Times to the first token that hold one prefill and no wait: static batches and lone requests."""
        return np.where(self.continuous & (self.batch_size > 1), np.nan, self.ttft_s)

    @property
    def site(self) -> NDArray[Any]:
        """What is held out together: a model in a format on a split, or where there are few, a shape too."""
        names = [_name(self.deployments[i]) for i in self.which]
        if len(set(names)) < _FEWEST_GROUPS:
            shapes = zip(names, self.prompt_tokens, self.batch_size, strict=True)
            names = [f"{name}|{prompt}|{batch}" for name, prompt, batch in shapes]
        return np.array(names)


_COLUMNS: Final = (
    "which",
    "prompt_tokens",
    "output_tokens",
    "batch_size",
    "continuous",
    "tpot_s",
    "ttft_s",
    "energy_j",
)


def _name(deployment: Deployment) -> str:
    model, split = deployment.model, deployment.parallelism
    shape = f"{model.name}|{model.hidden_size}|{model.num_hidden_layers}"
    return f"{shape}|{deployment.quantization.name}|{split.tensor}"


def predicted_request(rows: RunRows, chosen: Chosen | None, *, bands: bool = False) -> dict[str, Column]:
    """Metrics of each row's request by its deployment under some parameters, with their bands where asked
    for; the bound without any."""
    found: dict[str, Column] = {}
    for i, deployment in enumerate(rows.deployments):
        places = np.flatnonzero(rows.which == i)
        if not len(places):
            continue
        # It ran, so it fits, whatever the memory plan of a prediction says.
        hardware = deployment.hardware.model_copy(update={"memory": None, "usable_memory": None})
        arrays = WorkloadArrays(
            rows.prompt_tokens[places],
            rows.output_tokens[places],
            rows.batch_size[places],
            _ZERO,
            _ZERO,
            _ZERO,
        )
        request = summarise(replace(deployment, hardware=hardware, calibration=chosen), arrays).phases[
            "request"
        ]
        for name in (*_WANTED, *(_BANDED if bands else ())):
            column = found.setdefault(name, np.full(len(rows), np.nan))
            # Without experts no tile is empty; a set without terms of requests has nothing under load.
            given = request.get(name, request["flops"] if name == "tile_flops" else np.nan)
            column[places] = np.broadcast_to(np.asarray(given, dtype=np.float64), len(places))
    return found


_WANTED: Final = ("tpot_s", "ttft_s", "tile_flops", "memory_traffic_bytes")
_BANDED: Final = tuple(
    f"{name}{end}" for name in ("serving_tpot_s", "tpot_s", "ttft_s") for end in ("", "_low", "_high")
)


@dataclass(frozen=True)
class GatedRuns:
    """Rows that can be used, and what became of the others."""

    rows: RunRows
    dropped: dict[str, int]
    """Reason -> rows."""


def gated_runs(rows: RunRows) -> GatedRuns:
    """The rows with a time no device could beat; single times faster than the data sheet are taken out."""
    dropped: dict[str, int] = {}
    tpot, ttft = rows.tpot_s.copy(), rows.ttft_s.copy()
    for times in (tpot, ttft):
        times[~((times > 0) & (times < _LONGEST_S))] = np.nan
    alive = np.isfinite(tpot) | np.isfinite(ttft)
    _count(dropped, "no time between zero and an hour", ~alive)
    bound = _bounds(rows)
    unknown = alive & ~np.isfinite(bound["ttft_s"])
    _count(dropped, "the model cannot run so: no bound", unknown)
    # Who comes alone waits for one prefill, not for those of all.
    first = bound["ttft_s"] / np.where(rows.continuous, rows.batch_size, 1)
    fast = alive & ((tpot < GATE * bound["tpot_s"]) | (ttft < GATE * first))
    _count(dropped, "faster than the data sheet allows", fast)
    kept = np.flatnonzero(alive & ~unknown & ~fast)
    return GatedRuns(replace(rows, tpot_s=tpot, ttft_s=ttft).take(kept), dropped)


def _count(dropped: dict[str, int], reason: str, bad: NDArray[np.bool_]) -> None:
    if bad.any():
        dropped[reason] = int(bad.sum())


def _bounds(rows: RunRows) -> dict[str, Column]:
    """Bounds of each row; those of an impossible deployment are NaN and do not take the others along."""
    found = {name: np.full(len(rows), np.nan) for name in _WANTED}
    for i in range(len(rows.deployments)):
        places = np.flatnonzero(rows.which == i)
        try:
            part = predicted_request(rows.take(places), None)
        except EngineError:
            continue
        for name, column in part.items():
            found[name][places] = column
    return found
