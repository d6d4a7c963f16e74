"""Terms of whole requests for `fit_shared_data.py`: serving runs of one model, and energy of many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from engine.errors import EngineError
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.fit import Column, bands_of, held_out_errors, least_absolute
from engine.perfmodel.parameter_sets import choose
from engine.perfmodel.request_fit import fit_energy, fit_interference, held_out_by
from engine.perfmodel.serving import prefill_share_s
from engine.perfmodel.summary import WorkloadArrays, summarise
from engine.spec.calibration import Calibration, EnergyFit, HeldOut, RequestFit
from engine.spec.catalog import load_hardware, load_model, load_quantization
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Parallelism, Workload

DEVICE: Final = "h100-sxm-80gb"
SERVED: Final = f"{DEVICE}-trtllm-1.3.0rc20"
METERED: Final = f"{DEVICE}-vllm-0.24.0"
# A model that no fit has seen is further out than a row of known models: quantiles that cover nine of ten.
MISS: Final = 0.025
# Prompt lengths are not in the table. With these the time between tokens is unbiased over the models;
# they were chosen once for all models of a scenario. Reasoning runs count long outputs more than once.
PROMPTS: Final = {"lm-arena-chat": 1000, "gpqa": 3000, "sourcegraph-fim": 1500}
SILICON: Final = (
    "177 Llama-3.1-8B runs, TRT-LLM 1.0.0rc3, one H100 node: aiconfigurator (Apache-2.0) 095f58a5, "
    "silicon_sample.csv; mean time per output token"
)
ML_ENERGY: Final = (
    "ML.ENERGY leaderboard v3 (data Apache-2.0) 0cd52dab, vLLM, H100, text scenarios; GPU energy in steady "
    "state, prefill included"
)
_WORDS: Final = ("-fp8", "-instruct", "-2507", "-thinking", "-coder")


@dataclass(frozen=True)
class RunFits:
    """Fits of whole requests by parameter set, and lines for the error table."""

    request: dict[str, RequestFit]
    energy: dict[str, EnergyFit]
    lines: list[str]


def run_fits(path: Path, sets: dict[str, Calibration]) -> RunFits:
    """Everything that needs whole runs."""
    table = pd.read_csv(path)
    served, lines = serving_fit(table, sets)
    metered, energy, more = metered_fits(table, sets, served.interference)
    return RunFits({SERVED: served, METERED: metered}, {METERED: energy}, lines + more)


def serving_fit(table: pd.DataFrame, sets: dict[str, Calibration]) -> tuple[RequestFit, list[str]]:
    """Step overhead and interference, judged by tensor split, batch, input and output length."""
    runs = table[(table.source == "aiconfigurator_silicon") & table.model.str.contains("Llama-3.1-8B")]
    keys = ["raw_ref", "tp", "isl", "osl", "batch"]
    runs = runs.pivot_table(index=keys, columns="metric", values="value").reset_index()
    model, bf16 = load_model("llama-3.1-8b"), load_quantization("bf16")
    found = [
        phases(model, bf16, r.tp, (r.isl, r.osl, r.batch), sets, SERVED)["request"] for r in runs.itertuples()
    ]
    decode = np.array([f["tpot_s"] for f in found])
    prefill = prefill_share_s(
        np.array([f["ttft_s"] for f in found]), runs.batch.to_numpy(), runs.osl.to_numpy()
    )
    measured = runs.tpot_mean.to_numpy() * 1e-3

    def predict(rest: Any, held: Any) -> Column:
        step, share = fit_interference(decode[rest], prefill[rest], measured[rest])
        return np.asarray(decode[held] + step + share * prefill[held])

    by = {name: held_out_by(runs[name].to_numpy(), predict) for name in ("tp", "batch", "isl", "osl")}
    mape = {name: float(np.mean(np.abs(p / measured - 1))) for name, p in by.items()}
    line = "TPOT held out by " + ", ".join(f"{name} {value:.1%}" for name, value in mape.items())
    errors = held_out_errors(by["tp"], measured, group_numbers(runs.tp), split=f"MAPE: {line}")
    step, share = fit_interference(decode, prefill, measured)
    fit = request_fit(step, share, by["tp"], measured, errors.model_dump(), SILICON)
    return fit, [f"{SERVED}: {line}; step {step * 1e6:.1f} us, interference {share:.3f}"]


def metered_fits(
    table: pd.DataFrame, sets: dict[str, Calibration], share: float
) -> tuple[RequestFit, EnergyFit, list[str]]:
    """Bands of the time between tokens over models that no fit has seen, and energy coefficients."""
    runs = metered_runs(table)
    rows = [metered_row(run, sets) for run in runs.itertuples()]
    usable = np.array([row is not None for row in rows])
    runs, data = runs[usable].reset_index(drop=True), np.array([row for row in rows if row is not None])
    batch, osl, devices = (runs[name].to_numpy() for name in ("batch", "osl", "n_gpus"))
    kernels = data[:, 0] + share * prefill_share_s(data[:, 6], batch, osl)
    waits = share * data[:, 7] * (batch - 1) / osl  # layers of experts in the prompts of others
    family = runs.model.str.replace("-FP8", "").str.replace("-Thinking", "-Instruct")
    measured = runs.itl_median.to_numpy() * 1e-3
    groups = group_numbers(family)
    # The mean over all steps: sequences at once over tokens a second. The median sees few prefills.
    mean = batch / runs.output_throughput.to_numpy()

    def with_prompts(rest: Any, held: Any) -> Column:
        return np.asarray(kernels[held] + fit_waits(kernels[rest], waits[rest], mean[rest]) * waits[held])

    between = held_out_by(groups, with_prompts)
    errors = held_out_errors(
        between, measured, groups, split="models that no parameter was fitted to", miss=MISS
    )
    request = request_fit(1e-7, share, between, measured, errors.model_dump(), ML_ENERGY)
    request = request.model_copy(update={"expert_prompt": fit_waits(kernels, waits, mean)})
    subject = f"time between tokens, {len(runs)} runs of {family.nunique()} models"
    lines = [error_line(subject, errors)]
    lines.append(
        f"{METERED}: a layer of experts in a step with a prompt {request.expert_prompt * 1e3:.3g} ms"
    )
    errors_of_mean = held_out_errors(between, mean, groups, split=errors.split, miss=MISS)
    lines.append(error_line("mean time per output token of the same runs", errors_of_mean))
    moved = data[:, 2] / batch + data[:, 5] / osl
    flops = data[:, 1] / batch + data[:, 4] / osl
    joules = runs.energy_per_output_token.to_numpy()
    times = {"measured": devices / runs.output_throughput.to_numpy(), "predicted": devices * between / batch}
    board = load_hardware(DEVICE).power or np.inf

    def predict(rest: Any, held: Any, time: Column) -> Column:
        fitted = times["measured"]
        c = fit_energy(fitted[rest], moved[rest], flops[rest], joules[rest], limit_j=board * fitted[rest])
        return np.minimum(c[0] * time[held] + c[1] * moved[held] + c[2] * flops[held], board * time[held])

    for name, time in times.items():
        found = held_out_by(groups, lambda rest, held, t=time: predict(rest, held, t))
        errors = held_out_errors(found, joules, groups, split="by model, times predicted too", miss=MISS)
        lines.append(error_line(f"J/token held out by model, time {name}", errors))
    lines += kind_lines(runs, {"mean time per token": (between, mean), "J/token": (found, joules)})
    c = fit_energy(times["measured"], moved, flops, joules, limit_j=board * times["measured"])
    energy = EnergyFit.model_validate(
        {
            "coefficients": {"static_power": c[0], "per_byte": c[1], "per_flop": c[2], "source": ML_ENERGY},
            "rows": len(runs),
            "held_out": errors.model_dump(),
            "bands": [b.model_dump() for b in bands_of(found, joules, edges_s=(), miss=MISS)],
        },
        context={"trusted": True},
    )
    return request, energy, lines


def fit_waits(kernels_s: Column, waits: Column, measured_s: Column) -> float:
    """Seconds of each wait that bring kernels + waits closest to measured times, where there are waits."""
    seen = waits > 0

    def residual(logs: Column) -> Column:
        found: Column = np.log((kernels_s + np.exp(logs[0]) * waits)[seen] / measured_s[seen])
        return found

    _, found = least_absolute(residual, np.log([3e-4]), bounds=np.log(np.array([[1e-7, 1e-2]])).T)
    return float(np.exp(found[0]))


def kind_lines(runs: pd.DataFrame, what: dict[str, tuple[Column, Column]]) -> list[str]:
    """Errors by kind of model and number format: who runs which may expect what."""
    experts = np.array([known.moe is not None for known in map(known_model, runs.model) if known is not None])
    kinds = np.where(experts, "experts", "dense").astype(object) + " in " + runs.precision.to_numpy()
    lines = []
    for kind in sorted(set(kinds)):
        rows = kinds == kind
        errors = [
            f"{name} {np.median(np.abs(p[rows] / m[rows] - 1)):.1%} / {np.median(p[rows] / m[rows]):.2f}"
            for name, (p, m) in what.items()
        ]
        lines.append(f"{METERED}: {kind}, {rows.sum()} runs, median error and ratio: {', '.join(errors)}")
    return lines


def error_line(subject: str, errors: HeldOut) -> str:
    """One line of the error table."""
    numbers = f"{errors.median:.1%} / {errors.p90:.1%} / {errors.ratio:.2f}"
    return f"{METERED}: {subject}: {numbers}, covered {errors.coverage:.0%}"


def request_fit(
    step: float, share: float, predicted: Column, measured: Column, errors: dict[str, Any], source: str
) -> RequestFit:
    """The fit as settings."""
    return RequestFit.model_validate(
        {
            "step": step,
            "interference": share,
            "rows": len(measured),
            "held_out": errors,
            "bands": [b.model_dump() for b in bands_of(predicted, measured, edges_s=(), miss=MISS)],
            "source": source,
        },
        context={"trusted": True},
    )


def metered_runs(table: pd.DataFrame) -> pd.DataFrame:
    """Text runs, one row each, with tokens per request."""
    runs = table[(table.source == "mlenergy_v3") & table.scenario.isin(list(PROMPTS))]
    keys = ["model", "n_gpus", "precision", "concurrency", "batch", "scenario"]
    runs = runs.pivot_table(index=keys, columns="metric", values="value").reset_index()
    runs["osl"] = runs.energy_per_request / runs.energy_per_output_token
    return runs


def metered_row(run: Any, sets: dict[str, Calibration]) -> list[float] | None:
    """Time, FLOPs and bytes of a decode step, then of one prefill, the time of a whole batch of prefills and
    the layers of experts; None for what cannot be predicted."""
    model = known_model(run.model)
    if model is None:
        return None
    names = {"bfloat16": "bf16", "fp8": "fp8", "mxfp4": "mxfp4"}
    quantization = load_quantization(names[run.precision])
    if run.precision == "mxfp4":  # weights in 4 bits, arithmetic in 16: the device has no fp4
        quantization = quantization.model_copy(update={"compute": "bf16"})
    prompt = PROMPTS[run.scenario]
    shape = (int(prompt + run.osl / 2), 2, max(1, round(run.batch)))
    try:
        step = phases(model, quantization, run.n_gpus, shape, sets, METERED)["decode"]
        first = phases(model, quantization, run.n_gpus, (prompt, 2, 1), sets, METERED)["prefill"]
        together = phases(model, quantization, run.n_gpus, (prompt, 2, shape[2]), sets, METERED)["prefill"]
    except EngineError:
        return None
    wanted = ("time_s", "tile_flops", "memory_traffic_bytes")
    row = [*(part.get(name, part["flops"]) for part in (step, first) for name in wanted), together["time_s"]]
    row.append(sum(run.count for run in model.layer_runs if run.feed_forward == "moe"))
    return row if np.isfinite(row).all() else None


def known_model(name: str) -> Model | None:
    """The catalogue's model of a hub name; editions of one architecture share a shape."""
    short = name.split("/")[1].lower()
    for word in _WORDS:
        short = short.replace(word, "")
    for candidate in (name, short):
        try:
            return load_model(candidate)
        except EngineError:
            continue
    return None


def phases(
    model: Model,
    quantization: Quantization,
    devices: float,
    shape: tuple[float, float, float],
    sets: dict[str, Calibration],
    name: str,
) -> dict[str, dict[str, float]]:
    """Predicted metrics by phase of prompt, output and batch, kernels only."""
    hardware = load_hardware(DEVICE)
    key = (name, int(devices), model.name, quantization.name, quantization.compute)
    if key not in _DEPLOYMENTS:
        chosen = choose(name, hardware, sets)
        split = Parallelism(tensor=int(devices))
        _DEPLOYMENTS[key] = Deployment(model, hardware, quantization, split, calibration=chosen)
    prompt, output, batch = (int(value) for value in shape)
    workload = Workload(prompt_tokens=prompt, output_tokens=output, batch_size=batch)
    found = summarise(_DEPLOYMENTS[key], WorkloadArrays.of(workload)).phases
    return {phase: {metric: float(v[0]) for metric, v in values.items()} for phase, values in found.items()}


_DEPLOYMENTS: dict[tuple[Any, ...], Deployment] = {}


def group_numbers(values: pd.Series) -> Any:
    """Numbers of the groups of a column, for bands made without one's own group."""
    return pd.factorize(values)[0]
