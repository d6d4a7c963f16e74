"""Terms of whole requests from whole requests: what to learn from logs where nobody timed a kernel.

On a device with fitted operators two terms are missing: the step overhead of the engine and the
interference of prefills. On any other device three numbers are fitted that every kernel then shares: the
share of the peak, the share of the bandwidth, and the time of a step outside its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import UsageError
from engine.perfmodel.fit import Column, bands_of, folds_of, held_out_errors, least_absolute
from engine.perfmodel.parameter_sets import Chosen, Law
from engine.perfmodel.quantized import component_precisions
from engine.perfmodel.request_fit import fit_energy, fit_interference
from engine.perfmodel.request_rows import GatedRuns, RunRows, gated_runs, predicted_request
from engine.perfmodel.serving import prefill_share_s
from engine.spec.calibration import EnergyFit, HostFit, LawParameters, OperatorFit, RequestFit, TimeRange
from engine.spec.hardware import Precision

FEWEST_RUNS: Final = 6
_FEWEST_SITES: Final = 3
_EACH_OUT: Final = 10
_START: Final = (0.6, 0.7, 1e-3)
_LIMITS: Final = ((1e-3, 1.0), (1e-3, 1.0), (1e-7, 1.0))
_Split = tuple[NDArray[np.int64], str]
"""Fold of each row, and how they were made."""
_SHARE: Final = 1.0
"""Interference where no rows tell: every prefill delays the step it rides in by all of its time."""


@dataclass(frozen=True)
class RequestOutcome:
    """Fitted terms with the rows behind them and their held-out predictions."""

    gated: GatedRuns
    tpot_s: Column
    """By fits that had not seen the row's site."""
    ttft_s: Column
    request: RequestFit
    operators: tuple[OperatorFit, ...] = ()
    """Empty where operators were there before."""
    host: HostFit | None = None
    energy: EnergyFit | None = None
    energy_j: Column = field(default_factory=lambda: np.empty(0))
    """Held-out joules per output token; empty without a fit."""
    base: Chosen | None = None
    """The operators it stands on; None where it has its own."""
    notes: str = ""
    terms: str = ""
    """What was fitted, for people."""


def fit_requests(rows: RunRows, base: Chosen | None, *, source: str) -> RequestOutcome:
    """Request-level terms on top of `base`, the fitted operators of this very device; efficiencies without.

    Raises `UsageError` with the reason when the rows are too few or break physics.
    """
    gated = gated_runs(rows)
    rows = gated.rows
    _require_enough(gated)
    fold, split = _folds(rows.site)
    predict = _Shared(rows) if base is None else _Terms(rows, base)
    tpot, ttft = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for k in np.unique(fold):
        rest, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if len(rest) >= FEWEST_RUNS // 2:
            tpot[held], ttft[held] = predict.of(predict.fit(rest), held)
    everything = np.arange(len(rows))
    best = predict.fit(everything)
    request, errors = _request_fit(rows, tpot, (fold, split), best, predict, source=source)
    energy, joules = _energy(rows, predict.of(best, everything), (fold, split), base, source=source)
    outcome = RequestOutcome(
        gated, tpot, ttft, request, energy=energy, energy_j=joules, base=base, terms=predict.text(best)
    )
    if base is not None:
        return outcome
    return _with_operators(outcome, rows, best, np.concatenate([tpot, ttft]), errors)


def _folds(site: NDArray[Any]) -> tuple[NDArray[np.int64], str]:
    """Fold of each row: one a site where there are few, so that a fit always sees most of them."""
    kinds, place = np.unique(site, return_inverse=True)
    if len(kinds) <= _EACH_OUT:
        return np.asarray(place, dtype=np.int64), "each configuration held out"
    return folds_of(site), "5 folds by configuration"


def _require_enough(gated: GatedRuns) -> None:
    sites = len(np.unique(gated.rows.site)) if len(gated.rows) else 0
    if len(gated.rows) >= FEWEST_RUNS and sites >= _FEWEST_SITES:
        return
    lost = ", ".join(f"{count} {reason}" for reason, count in gated.dropped.items())
    raise UsageError(
        f"whole requests: {len(gated.rows)} usable runs of {sites} configurations, a fit needs {FEWEST_RUNS} "
        f"of {_FEWEST_SITES}",
        hint=f"left out: {lost}" if lost else "measure more models, batches or prompt lengths",
    )


def _share_s(rows: RunRows, prefill_s: Column) -> Column:
    """Prefill time of others in each step; none in a static batch."""
    return np.where(rows.continuous, prefill_share_s(prefill_s, rows.batch_size, rows.output_tokens), 0.0)


class _Terms:
    """Step overhead and interference on top of fitted operators."""

    def __init__(self, rows: RunRows, base: Chosen) -> None:
        found = predicted_request(rows, replace(base, request=None))
        self.rows, self.decode, self.prefill = rows, found["tpot_s"], found["ttft_s"]
        self.share_s = _share_s(rows, self.prefill)
        self.known = _SHARE if base.request is None else base.request.interference

    def fit(self, places: NDArray[Any]) -> Column:
        """Seconds of a step and interference."""
        seen = places[np.isfinite(self.rows.tpot_s[places])]
        if not len(seen):
            return np.array([1e-7, self.known])
        share_s = self.share_s[seen]
        if share_s.any():
            return np.array(fit_interference(self.decode[seen], share_s, self.rows.tpot_s[seen]))
        step, _ = fit_interference(self.decode[seen], share_s, self.rows.tpot_s[seen])
        return np.array([step, self.known])

    def of(self, terms: Column, places: NDArray[Any]) -> tuple[Column, Column]:
        """Times per token and to the first one."""
        tpot = self.decode[places] + terms[0] + terms[1] * self.share_s[places]
        return tpot, self.prefill[places]

    def text(self, terms: Column) -> str:
        """The terms in words."""
        return f"step {1e6 * terms[0]:.4g} us, interference {terms[1]:.3g}, on fitted operators"


class _Shared:
    """Efficiencies that all kernels share, where no operator was timed."""

    def __init__(self, rows: RunRows) -> None:
        self.rows = rows
        self.precision = _precision(rows)

    def fit(self, places: NDArray[Any]) -> Column:
        """Compute efficiency, memory efficiency and seconds of a step."""
        rows = self.rows.take(places)

        def residual(logs: Column) -> Column:
            tpot, ttft = self.times(np.exp(logs), rows)
            found: Column = np.concatenate([np.log(tpot / rows.tpot_s), np.log(ttft / rows.prefill_s)])
            known: Column = found[np.isfinite(found)]
            return known

        bounds = np.log(np.array(_LIMITS)).T
        _, logs = least_absolute(residual, np.log(_START), bounds=bounds, steps=25)
        return np.asarray(np.exp(logs))

    def of(self, terms: Column, places: NDArray[Any]) -> tuple[Column, Column]:
        """Times per token and to the first one."""
        return self.times(terms, self.rows.take(places))

    def times(self, terms: Column, rows: RunRows) -> tuple[Column, Column]:
        """Times of any rows under some terms."""
        found = predicted_request(rows, self._chosen(terms))
        share_s = _share_s(rows, found["ttft_s"])
        return found["tpot_s"] + terms[2] + _SHARE * share_s, found["ttft_s"] + terms[2]

    def _chosen(self, terms: Column) -> Chosen:
        parameters = shared_parameters(terms)
        anywhere = TimeRange.model_construct(low=0.0, high=np.inf)
        law = Law("overlapped", parameters, parameters, _NO_BANDS, anywhere, "", False, 1.0)
        return Chosen("", {("gemm", self.precision): law}, (), True, None, None, None, False, 1.0, ())

    def text(self, terms: Column) -> str:
        """The terms in words."""
        shares = f"compute efficiency {terms[0]:.3g}, memory efficiency {terms[1]:.3g}"
        return f"{shares}, step {1e6 * terms[2]:.4g} us"


_NO_BANDS: Final = tuple(bands_of(np.ones(1), np.ones(1), edges_s=()))


def shared_parameters(terms: Column) -> LawParameters:
    """The law of every kernel; a step's overhead is counted once and not for each of them."""
    given = {"launch": 0.0, "compute_efficiency": float(terms[0]), "memory_efficiency": float(terms[1])}
    return LawParameters.model_validate(given, context={"trusted": True})


def _precision(rows: RunRows) -> Precision:
    """The arithmetic of most rows."""
    each = [component_precisions(d.model, d.quantization)["attention projections"] for d in rows.deployments]
    counts = np.bincount(rows.which, minlength=len(each))
    return each[int(np.argmax(counts))]


def _request_fit(
    rows: RunRows, tpot: Column, held_out: _Split, best: Column, predict: _Terms | _Shared, *, source: str
) -> tuple[RequestFit, dict[str, Any]]:
    """The fit as settings with the errors of the time per token, or to the first one where that is all."""
    seen = np.isfinite(rows.tpot_s) & np.isfinite(tpot)
    measured, predicted = rows.tpot_s[seen], tpot[seen]
    fold, split = held_out
    if not len(measured):
        raise UsageError(
            "whole requests have no time per output token", hint="log TPOT or inter-token latency"
        )
    errors = held_out_errors(predicted, measured, fold[seen], split=split).model_dump()
    terms = isinstance(predict, _Terms)
    fit = RequestFit.model_validate(
        {
            "step": float(best[0]) if terms else 0.0,
            "interference": float(best[1]) if terms else _SHARE,
            "rows": len(measured),
            "held_out": errors,
            "bands": [b.model_dump() for b in bands_of(predicted, measured, edges_s=())],
            "source": source,
        },
        context={"trusted": True},
    )
    return fit, errors


def _with_operators(
    outcome: RequestOutcome, rows: RunRows, best: Column, predicted: Column, errors: dict[str, Any]
) -> RequestOutcome:
    measured = np.concatenate([rows.tpot_s, rows.prefill_s])
    seen = np.isfinite(measured) & np.isfinite(predicted)
    operator = OperatorFit.model_validate(
        {
            "operator": "gemm",
            "precision": _precision(rows),
            "form": "overlapped",
            "parameters": shared_parameters(best).model_dump(),
            "rows": len(rows),
            "sites": len(np.unique(rows.site)),
            "dropped": sum(outcome.gated.dropped.values()),
            "held_out": errors,
            "bands": [b.model_dump() for b in bands_of(predicted[seen], measured[seen], edges_s=())],
            # Of kernels within whole requests nothing is known: no size of them is extrapolated.
            "time_range": {"low": 1e-9, "high": float(np.nanmax(measured))},
            "source_version": "whole requests",
        },
        context={"trusted": True},
    )
    host = HostFit.model_validate(
        {"step": float(best[2]), "layer": 0.0, "rows": len(rows)}, context={"trusted": True}
    )
    notes = "Efficiencies that all kernels share, from whole requests: no kernel was timed by itself."
    if not np.isfinite(rows.prefill_s).any():
        notes += " No time of a prefill without a queue was among them: the compute efficiency is a guess."
    return replace(outcome, operators=(operator,), host=host, notes=notes)


def _energy(
    rows: RunRows,
    times: tuple[Column, Column],
    held_out_by: _Split,
    base: Chosen | None,
    *,
    source: str,
) -> tuple[EnergyFit | None, Column]:
    """Static power and energies of work, where enough rows have joules; held out like the times."""
    fold, split = held_out_by
    tpot, ttft = times
    devices = np.array([rows.deployments[i].devices for i in rows.which], dtype=np.float64)
    first = np.where(np.isfinite(rows.prefill_s), rows.prefill_s, ttft)
    whole = first + (rows.output_tokens - 1) * np.where(np.isfinite(rows.tpot_s), rows.tpot_s, tpot)
    tokens = rows.batch_size * rows.output_tokens
    seen = np.flatnonzero(np.isfinite(rows.energy_j) & (rows.energy_j > 0) & np.isfinite(whole))
    if len(seen) < FEWEST_RUNS:
        return None, np.empty(0)
    work = predicted_request(rows, base)
    time, moved, flops = (
        devices * whole / tokens,
        work["memory_traffic_bytes"] / tokens,
        work["tile_flops"] / tokens,
    )
    board = rows.deployments[0].hardware.power or np.inf

    def fitted(places: NDArray[Any]) -> Column:
        return fit_energy(
            time[places], moved[places], flops[places], rows.energy_j[places], limit_j=board * time[places]
        )

    def joules(c: Column, places: NDArray[Any]) -> Column:
        work_j = c[0] * time[places] + c[1] * moved[places] + c[2] * flops[places]
        drawn: Column = np.minimum(work_j, board * time[places])
        return drawn

    held_out = np.full(len(rows), np.nan)
    for k in np.unique(fold[seen]):
        rest, held = seen[fold[seen] != k], seen[fold[seen] == k]
        if len(rest) >= FEWEST_RUNS // 2:
            held_out[held] = joules(fitted(rest), held)
    known = seen[np.isfinite(held_out[seen])]
    if not len(known):
        return None, np.empty(0)
    c = fitted(seen)
    errors = held_out_errors(held_out[known], rows.energy_j[known], fold[known], split=split)
    fit = EnergyFit.model_validate(
        {
            "coefficients": {"static_power": c[0], "per_byte": c[1], "per_flop": c[2], "source": source},
            "rows": len(seen),
            "held_out": errors.model_dump(),
            "bands": [b.model_dump() for b in bands_of(held_out[known], rows.energy_j[known], edges_s=())],
        },
        context={"trusted": True},
    )
    return fit, held_out
