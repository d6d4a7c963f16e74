"""From what phases cost to the metrics that are reported, by the names of `engine.metrics`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from engine.perfmodel.arithmetic import Arithmetic, Values, shifted
from engine.perfmodel.load import Load
from engine.perfmodel.memory import MemoryLoad, MemoryPlan, MemoryUse, largest_batch, longest_context
from engine.perfmodel.phase import Phase, band_metrics, request_bands
from engine.perfmodel.program import Plan
from engine.perfmodel.serving import serving_metrics
from engine.spec.calibration import EnergyFit

BOUNDS: Final = ("compute", "memory", "communication")
"""What a phase is bound by: the resource that is busy longest; the number stored is the position here."""
_BILLED_TOKENS: Final = 1e6


def phase_metrics(
    a: Arithmetic, plan: Plan, phase: Phase, *, output_tokens: Values | None, empty_flops: Values
) -> dict[str, Values]:
    """What a phase is reported as; `output_tokens` are those it yields, None where it yields none, and
    `empty_flops` those of empty rows in the tiles of experts."""
    hardware, devices = plan.deployment.hardware, plan.deployment.devices
    work_rate, byte_rate = phase.flops / phase.time_s, phase.bytes / phase.time_s
    found = {
        "time_s": phase.time_s,
        "flops": phase.flops,
        "memory_traffic_bytes": phase.bytes,
        "intensity_flops_per_byte": phase.flops / phase.bytes,
        "communication_bytes": phase.communication_bytes,
        "communication_s": phase.communication_s,
        "mfu": work_rate * (1 / (devices * plan.peak_flops_per_s)),
        "mbu": byte_rate * (1 / (devices * hardware.memory_bandwidth)),
        "bound": _bound(a, plan, phase),
    }
    if output_tokens is not None:
        found["output_tokens_per_s"] = output_tokens / phase.time_s
    found.update(band_metrics(phase))
    if plan.expert_row_flops:
        found["tile_flops"] = phase.flops + empty_flops
    found.update(_energy_metrics(a, plan, (phase,), (empty_flops,), phase.time_s, output_tokens))
    return found


def _bound(a: Arithmetic, plan: Plan, phase: Phase) -> Values:
    """Position in `BOUNDS` of the resource that is busy longest."""
    split, bandwidth = plan.deployment.parallelism, plan.deployment.hardware.memory_bandwidth
    # Devices that work at the same time on the layers of one stage.
    together = split.tensor * split.data
    peak = plan.general.one_peak
    # In bytes: what memory could move while the arithmetic units are busy.
    computing = phase.compute_s * (together * bandwidth) if peak is None else phase.flops * (bandwidth / peak)
    bound = computing < phase.bytes
    if plan.collectives:
        talking = phase.communication_s * (together * bandwidth)
        bound = a.where(talking > a.maximum(computing, phase.bytes), 2, bound)
    return bound


def _energy_metrics(
    a: Arithmetic,
    plan: Plan,
    phases: Sequence[Phase],
    empty_flops: Sequence[Values],
    time_s: Values,
    output_tokens: Values | None,
) -> dict[str, Values]:
    # Sheets state joules a FLOP of full tiles; in fits those of empty rows count too.
    fitted = _fitted_energy(plan) is not None
    worked = [shifted(p.flops, e if fitted else 0) for p, e in zip(phases, empty_flops, strict=True)]
    parts = [energy_j(a, plan, p.time_s, flops, p.bytes) for p, flops in zip(phases, worked, strict=True)]
    if parts[0] is None:
        return {}
    energy = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    found = {"energy_j": energy, "average_power_w": energy / time_s}
    if output_tokens is not None:
        found["energy_per_output_token_j"] = energy / output_tokens
        found["tokens_per_joule"] = output_tokens / energy
    return found


def _fitted_energy(plan: Plan) -> EnergyFit | None:
    return None if plan.timing is None else plan.timing.chosen.energy


def energy_j(a: Arithmetic, plan: Plan, time_s: Values, flops: Values, moved: Values) -> Values | None:
    """First-order energy over all devices, never above the boards' power; None without coefficients."""
    hardware, devices = plan.deployment.hardware, plan.deployment.devices
    fitted = _fitted_energy(plan)
    c = hardware.energy if fitted is None else fitted.coefficients
    if c is None:
        return None
    energy = devices * c.static_power * time_s + c.per_byte * moved + c.per_flop * flops
    if hardware.power is None:
        return energy
    return a.minimum(energy, devices * hardware.power * time_s)


def request_metrics(
    a: Arithmetic,
    plan: Plan,
    load: Load,
    *,
    prefill: Phase,
    generation: Phase,
    both: Phase,
    empty_flops: tuple[Values, Values],
) -> dict[str, Values]:
    """A request from its arrival to its last token, without queueing; `empty_flops` are those of empty rows
    in the tiles of experts, of either phase."""
    devices = plan.deployment.devices
    more = load.output - 1
    # With a single token there is nothing between tokens.
    more = a.where(more > 0, more, math.nan)
    tpot = generation.time_s / more
    tokens = load.batch * load.output
    rate = tokens / both.time_s
    found = {
        "time_s": both.time_s,
        "flops": both.flops,
        "memory_traffic_bytes": both.bytes,
        "communication_bytes": both.communication_bytes,
        "communication_s": both.communication_s,
        "ttft_s": prefill.time_s,
        "tpot_s": tpot,
        "generation_s": generation.time_s,
        "e2e_s": both.time_s,
        "output_tokens_per_s": rate,
        "output_tokens_per_s_per_device": rate if devices == 1 else rate / devices,
        "output_tokens_per_s_per_user": 1 / tpot,
        "total_tokens_per_s": load.batch * (load.prompt + load.output) / both.time_s,
        "prompt_tokens_per_s": load.batch * load.prompt / prefill.time_s,
        "requests_per_s": load.batch / both.time_s,
    }
    found.update(
        serving_metrics(
            a,
            plan,
            prompt=load.prompt,
            batch=load.batch,
            output=load.output,
            prefill=prefill,
            generation=generation,
        )
    )
    found.update(request_bands(tokens, more, prefill=prefill, generation=generation, both=both))
    if plan.expert_row_flops:
        found["tile_flops"] = both.flops + empty_flops[0] + empty_flops[1]
    found.update(_energy_metrics(a, plan, (prefill, generation), empty_flops, both.time_s, tokens))
    if "energy_j" in found:
        found["energy_per_request_j"] = found["energy_j"] / load.batch
        fitted = _fitted_energy(plan)
        if fitted is not None:
            for end, factor in (("low", fitted.bands[-1].low), ("high", fitted.bands[-1].high)):
                found[f"energy_per_output_token_j_{end}"] = found["energy_per_output_token_j"] * factor
    price = plan.deployment.hardware.price
    if price is not None:
        found["cost_per_million_output_tokens_usd"] = devices * price / 3600 / rate * _BILLED_TOKENS
    return found


def memory_metrics(
    a: Arithmetic, plan: Plan, memory: MemoryPlan, asked: MemoryLoad, used: MemoryUse
) -> dict[str, Values]:
    """What is held on the fullest device, and the most that would fit."""
    return {
        "parameters": plan.parameters,
        "weights_bytes": memory.weights_bytes,
        "kv_cache_bytes": used.kv_cache,
        "activations_bytes": used.activations,
        "reserve_bytes": memory.reserve_bytes,
        "memory_needed_bytes": used.needed,
        "memory_free_bytes": used.free,
        "max_batch_size": largest_batch(a, memory, asked),
        "max_context_tokens": longest_context(a, memory, asked),
    }
