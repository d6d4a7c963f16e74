"""Runs to report on, made up from first-order formulas: plausible, repeatable, quick."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.plan.compile import Plan, compile_plan
from engine.report.inputs import ReportInputs
from engine.results.points import points_table
from engine.results.tables import make_table
from engine.spec.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
BITS = {"bf16": 16, "fp8": 8, "w4a16-g128": 4.25, "int8-w8a8": 8, "kv-fp8": 16}
PARAMETERS = 8.03e9
KV_TOKEN_BYTES = 2 * 32 * 8 * 128 * 2  # keys and values, layers, heads, head size, bf16

ENVIRONMENT: dict[str, Any] = {
    "engine": "0.1.0",
    "python": "3.11.9",
    "packages": {"numpy": "2.1.0", "pyarrow": "26.0.0", "torch": None},
    "platform": "Linux-6.1-x86_64",
    "machine": "x86_64",
    "host": "rack7-node12",
    "cpu": "Some CPU",
    "cpu_count": 32,
    "memory_bytes": 137438953472,
    "gpus": [
        {
            "index": 0,
            "name": "NVIDIA H100",
            "uuid": "GPU-11111111-2222-3333-4444-555555555555",
            "driver": "570.1",
        }
    ],
    "command": "engine run /home/alice/specs/sweep.yaml",
    "seed": 7,
    "started": "2026-01-02T03:04:05Z",
    "ended": "2026-01-02T03:04:12Z",
    "exit_code": 0,
}


def experiment(**changes: Any) -> Experiment:
    """A sweep of one model over devices, formats and batches."""
    body: dict[str, Any] = {
        "version": 1,
        "name": "sample-sweep",
        "description": "Llama-3.1-8B over batch, context, number format and device.",
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm-80gb",
        "sweep": {
            "axes": {
                "hardware": ["a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm", "l40s"],
                "quantization": ["bf16", "fp8", "w4a16-g128"],
                "workload.batch_size": [1, 4, 16, 64, 256],
            },
            "tie": [
                {"workload.prompt_tokens": 512, "workload.output_tokens": 128},
                {"workload.prompt_tokens": 4096, "workload.output_tokens": 512},
            ],
            "drop": [
                {
                    "when": {"hardware": "a100-sxm-80gb", "quantization": "fp8"},
                    "because": "no fp8 tensor cores",
                }
            ],
        },
        "measurements": [{"kind": "analytical"}],
        "scoring": {"require": {"ttft_s": "<= 2 s", "tpot_s": "<= 50 ms"}},
    }
    body.update(changes)
    return Experiment.model_validate(body)


def plan(**changes: Any) -> Plan:
    return compile_plan(experiment(**changes), search=[ROOT])


def summary(compiled: Plan) -> pa.Table:
    """Predicted rows, one a point: weights and cache streamed once a step, prefill at 60 % of peak."""
    columns: dict[str, list[Any]] = {}
    for row in points_table(compiled).to_pylist():
        sheet = next(b for b in compiled.blocks if row["point"] in b.points).combination.hardware
        for name, value in predicted(row, sheet).items():
            columns.setdefault(name, []).append(value)
    return make_table("summary", columns)


def predicted(row: dict[str, Any], sheet: Any) -> dict[str, Any]:
    batch, prompt, output = row["batch_size"], row["prompt_tokens"], row["output_tokens"]
    weights = PARAMETERS * BITS[row["quantization"]] / 8
    cache = KV_TOKEN_BYTES * batch * (prompt + output)
    activations = 1.2e5 * batch * prompt
    usable = 0.9 * sheet.memory
    needed = weights + cache + activations + 1e9
    fits = needed <= usable
    ttft = 2 * PARAMETERS * batch * prompt / (0.6 * sheet.peak.bf16)
    tpot = (weights + cache * (prompt + output / 2) / (prompt + output)) / sheet.memory_bandwidth
    e2e = ttft + (output - 1) * tpot
    rate = batch * output / e2e
    energy = (e2e * (sheet.power or 300) * 0.8) / (batch * output)
    known = {
        "ttft_s": ttft,
        "tpot_s": tpot,
        "e2e_s": e2e,
        "output_tokens_per_s": rate,
        "output_tokens_per_s_per_device": rate,
        "output_tokens_per_s_per_user": 1 / tpot,
        "energy_per_output_token_j": energy,
        "mfu": 2 * PARAMETERS * batch * prompt / (ttft * sheet.peak.bf16),
    }
    memory = {
        "weights_bytes": weights, "kv_cache_bytes": float(cache), "activations_bytes": activations,
        "reserve_bytes": 1e9, "memory_needed_bytes": needed, "memory_free_bytes": usable - needed,
    }  # fmt: skip
    return {
        "point": row["point"],
        "source": "predicted",
        "phase": "request",
        "variant": None,
        "basis": "bound",
        "status": "ok" if fits else "does_not_fit",
        "reason": None if fits else "needs more memory than the device has",
        "bound": "memory",
        "calibration": None,
        **{k: v if fits else None for k, v in known.items()},
        **memory,
    }


def operators(compiled: Plan, points: list[int]) -> pa.Table:
    """Four operators of prefill and decode for each of these points."""
    rows: list[dict[str, Any]] = []
    for number in points:
        block = next(b for b in compiled.blocks if number in b.points)
        point, sheet = compiled.point(number), block.combination.hardware
        for phase, tokens in (("prefill", point.workload.batch_size * point.workload.prompt_tokens),
                              ("decode", point.workload.batch_size)):  # fmt: skip
            for name, inside, outside in (
                ("qkv_proj", 4096, 6144),
                ("o_proj", 4096, 4096),
                ("gate_up_proj", 4096, 28672),
                ("down_proj", 14336, 4096),
            ):
                flops = 2.0 * tokens * inside * outside
                weight, moved_in, moved_out = (
                    2.0 * inside * outside,
                    2.0 * tokens * inside,
                    2.0 * tokens * outside,
                )
                total = weight + moved_in + moved_out
                peak = sheet.peak.bf16 or 1e12
                roof = min(peak, flops / total * sheet.memory_bandwidth)
                rows.append(
                    {
                        "point": number,
                        "phase": phase,
                        "layer_kind": "decoder",
                        "operator": name,
                        "count": 32,
                        "flops": flops,
                        "parameters": float(inside * outside),
                        "weight_bytes": weight,
                        "input_bytes": moved_in,
                        "output_bytes": moved_out,
                        "kv_read_bytes": 0.0,
                        "kv_write_bytes": 0.0,
                        "total_bytes": total,
                        "intensity_flops_per_byte": flops / total,
                        "bound": "compute" if roof == peak else "memory",
                        "peak_flops_per_s": peak,
                        "attainable_flops_per_s": roof,
                        "time_s": flops / roof / 0.8,
                        "formula": f"2 x tokens x {inside} x {outside}; bytes: weights + in + out",
                    }
                )
    return make_table("operators", {name: [row[name] for row in rows] for name in rows[0]})


def inputs(**changes: Any) -> ReportInputs:
    """A predicted sweep of 110 points with operators of the best point of each device."""
    experiment_changes = changes.pop("experiment_changes", {})
    compiled = plan(**experiment_changes)
    table = summary(compiled)
    best = best_points(compiled, table)
    given: dict[str, Any] = {
        "experiment": compiled.experiment,
        "plan": compiled,
        "tables": {
            "points": points_table(compiled),
            "summary": table,
            "operators": operators(compiled, best),
        },
        "spec_text": "version: 1\nname: sample-sweep\n",
        "resolved_text": "version: 1\nname: sample-sweep\nquantization: bf16\n",
        "environment": ENVIRONMENT,
        "run_summary": {"kept": 0, "new": len(compiled.tasks), "failed": 0},
    }
    return ReportInputs(**(given | changes))


def best_points(compiled: Plan, table: pa.Table) -> list[int]:
    """The fastest point of each device under the two requirements."""
    best: dict[str, tuple[float, int]] = {}
    for row in table.to_pylist():
        label = next(b for b in compiled.blocks if row["point"] in b.points).combination.labels["hardware"]
        if row["status"] == "ok" and row["ttft_s"] <= 2 and row["tpot_s"] <= 0.05:
            rate = row["output_tokens_per_s_per_device"]
            if rate > best.get(label, (-math.inf, 0))[0]:
                best[label] = (rate, row["point"])
    return [point for _, point in best.values()]


def measured_inputs(**changes: Any) -> ReportInputs:
    """Six predicted points of which three were benchmarked under three loads and one was metered."""
    given = {
        "sweep": {"axes": {"hardware": ["h100-sxm-80gb", "l40s"], "workload.batch_size": [1, 8, 32]}},
        "measurements": [
            {"kind": "analytical"},
            {"kind": "live", "target": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"},
             "load": {"concurrency": [1, 4, 16]}},
            {"kind": "energy"},
        ],
        "scoring": {
            "objectives": [
                {"metric": "output_tokens_per_s", "weight": 0.6, "reference": 1000},
                {"metric": "ttft_s", "weight": 0.4, "reference": 0.25},
            ],
        },
    }  # fmt: skip
    compiled = plan(**given)
    predicted_rows = summary(compiled)
    first = predicted_rows.to_pylist()
    live = [_live(first[point], load) for point in (0, 1, 2) for load in (1, 4, 16)]
    live.append(
        {"point": 3, "source": "live", "phase": "request", "variant": "concurrency 1", "basis": "measured",
         "status": "failed", "reason": "server closed the connection after 3 requests"}
    )  # fmt: skip
    from engine.results.tables import concatenate

    names = list(dict.fromkeys(name for row in live for name in row))
    rows = make_table("summary", {name: [row.get(name) for row in live] for name in names})
    return inputs(
        experiment_changes=given,
        **{
            "tables": {
                "points": points_table(compiled),
                "summary": concatenate("summary", [predicted_rows, rows]),
                "operators": operators(compiled, [0]),
                "requests": requests(),
                "components": components(),
                "samples": samples(),
                "findings": findings(),
            },
        }
        | changes,
    )


def _live(row: dict[str, Any], load: int) -> dict[str, Any]:
    """A benchmark that is 15 to 40 % slower than its prediction, with intervals of 4 %."""
    slow = 1.15 + 0.05 * math.log2(load)
    found: dict[str, Any] = {
        "point": row["point"], "source": "live", "phase": "request", "variant": f"concurrency {load}",
        "basis": "measured", "status": "ok", "error_rate": 0.0, "completed_requests": 120.0,
    }  # fmt: skip
    values = {"ttft_s": row["ttft_s"] * slow, "tpot_s": row["tpot_s"] * slow, "e2e_s": row["e2e_s"] * slow,
              "output_tokens_per_s": load * 0.8 * row["output_tokens_per_s"] / slow}  # fmt: skip
    for name, value in values.items():
        found |= {name: value, f"{name}_low": 0.96 * value, f"{name}_high": 1.04 * value, f"{name}_n": 120}
        if name != "output_tokens_per_s":
            found |= {
                f"{name}_p50": 0.95 * value,
                f"{name}_p90": 1.3 * value,
                f"{name}_p95": 1.5 * value,
                f"{name}_p99": 2.2 * value,
            }
    return found


def requests() -> pa.Table:
    """A hundred requests for two loads of point 0, the last of each failed."""
    rows = []
    for load in (1, 4):
        for i in range(100):
            sent = 0.1 * i
            wait = 0.02 * load * (1 + (i * 37 % 100) / 100)
            bad = i == 99
            rows.append(
                {
                    "point": 0,
                    "variant": f"concurrency {load}",
                    "repeat": 0,
                    "request": i,
                    "run_phase": "drain" if i >= 90 else "measured",
                    "scheduled_s": sent,
                    "dispatched_s": sent,
                    "sent_s": sent,
                    "first_token_s": None if bad else sent + wait,
                    "last_token_s": None if bad else sent + wait + 0.5,
                    "done_s": None if bad else sent + wait + 0.51,
                    "prompt_tokens": 512,
                    "output_tokens": None if bad else 128,
                    "token_source": "usage",
                    "outcome": "failed" if bad else "ok",
                    "error_class": "connection" if bad else None,
                    "error": "connection reset" if bad else None,
                }
            )
    return make_table("requests", {name: [row[name] for row in rows] for name in rows[0]})


def components() -> pa.Table:
    """Four components in two phases, their sum, and one of them layer by layer."""
    rows: list[dict[str, Any]] = []
    sizes = {"attention": 0.8, "mlp": 1.9, "norm": 0.1, "lm_head": 0.4}
    for phase, factor in (("prefill", 5.0), ("decode", 1.0)):
        for name, energy in sizes.items():
            count = 1 if name == "lm_head" else 32
            rows.append(_component(phase, name, "model", None, count, factor * energy / count))
        rows.append(_component(phase, "model", None, None, 1, factor * sum(sizes.values())))
        rows += [
            _component(phase, "mlp layer", "mlp by layer", layer, 1, factor * 0.06 * (1 + layer / 40))
            for layer in range(8)
        ]
    return make_table("components", {name: [row[name] for row in rows] for name in rows[0]})


def _component(
    phase: str, name: str, parent: str | None, layer: int | None, count: int, energy: float
) -> dict[str, Any]:
    return {
        "point": 0,
        "phase": phase,
        "layer": layer,
        "component": name,
        "parent": parent,
        "method": "loop",
        "count": count,
        "time_s": energy / 400,
        "time_low_s": energy / 410,
        "time_high_s": energy / 390,
        "energy_j": energy,
        "energy_low_j": 0.95 * energy,
        "energy_high_j": 1.05 * energy,
        "net_energy_j": 0.8 * energy,
        "n": 12,
        "valid": True,
        "reason": None,
    }


def samples() -> pa.Table:
    """Half a minute of power at 20 Hz: idle, prefill, decode."""
    rows = []
    for i in range(600):
        phase = "idle" if i < 100 else "prefill" if i < 220 else "decode"
        level = {"idle": 70.0, "prefill": 640.0, "decode": 430.0}[phase]
        rows.append(
            {
                "point": 0,
                "device": "GPU-11111111-2222-3333-4444-555555555555",
                "time_s": i / 20,
                "power_w": level + 12 * math.sin(i),
                "temperature_c": 40 + i / 30,
                "phase": phase,
            }
        )
    return make_table("samples", {name: [row[name] for row in rows] for name in rows[0]})


def findings() -> pa.Table:
    return make_table(
        "findings",
        {
            "point": [0, None],
            "rule": ["weights-dominate", "no-price"],
            "severity": ["advice", "note"],
            "finding": [
                "Decode reads mostly weights: fewer bits per weight make it faster.",
                "Cost is unknown.",
            ],
            "evidence": ["weights are 93 % of the traffic of a decode step", "no device has a price"],
            "gain": ["up to 1.9 x faster decode (bound)", None],
            "change": ["quantization: w4a16-g128", "hardware:\n  price: 2.5 USD/h"],
        },
    )
