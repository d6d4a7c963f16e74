"""Prefill on one group of devices, decode on another, the cache sent between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.program import compiled
from engine.perfmodel.summary import Summary, WorkloadArrays, summarise
from engine.spec.workload import Parallelism

LIMITS: Final = ("prefill", "decode", "transfer")
"""What limits the rate of a pair; `Disaggregated.limited_by` holds positions here."""


@dataclass(frozen=True)
class Disaggregated:
    """A pool of prefill instances that feeds a pool of decode instances; one value a point."""

    ttft_s: NDArray[np.float64]
    """Prefill of one prefill batch and the transfer of its cache, without queueing."""
    transfer_s: NDArray[np.float64]
    """Sending the cache of one request."""
    transfer_bytes: NDArray[np.float64]
    """Cache of one request's prompt, over all layers."""
    tpot_s: NDArray[np.float64]
    e2e_s: NDArray[np.float64]
    requests_per_s: NDArray[np.float64]
    """Rate of the slowest part: prefill pool, decode pool or link."""
    output_tokens_per_s: NDArray[np.float64]
    output_tokens_per_s_per_device: NDArray[np.float64]
    limited_by: NDArray[np.int8]
    fits: NDArray[np.bool_]
    prefill: Summary
    decode: Summary


@dataclass(frozen=True)
class Pools:
    """How many instances of each deployment there are, and the link between them."""

    link_bandwidth_bytes_per_s: float
    """Rate from one prefill instance to one decode instance."""
    link_latency_s: float = 0.0
    prefill_instances: int = 1
    decode_instances: int = 1
    prefill_batch: int = 1
    """Prompts that a prefill instance takes together."""


def disaggregate(
    prefill: Deployment, decode: Deployment, workload: WorkloadArrays, *, pools: Pools
) -> Disaggregated:
    """Predictions of the pair; `workload.batch_size` is the batch of one decode instance."""
    single = replace(workload, batch_size=np.array([pools.prefill_batch], dtype=np.int64))
    first = summarise(prefill, single)
    second = summarise(decode, workload)
    size = np.asarray(_cache_bytes(prefill, workload.prompt_tokens), dtype=np.float64)
    transfer = pools.link_latency_s + size / pools.link_bandwidth_bytes_per_s
    prefill_s = first.phases["request"]["ttft_s"]
    generation_s = second.phases["request"]["generation_s"]
    links = min(pools.prefill_instances, pools.decode_instances)
    with np.errstate(divide="ignore"):
        rates = np.broadcast_arrays(
            pools.prefill_instances * pools.prefill_batch / prefill_s,
            pools.decode_instances * workload.batch_size / generation_s,
            links / transfer,
        )
    slowest = np.stack(rates)
    rate = slowest.min(axis=0)
    ttft = prefill_s + transfer
    devices = pools.prefill_instances * prefill.devices + pools.decode_instances * decode.devices
    tokens = rate * workload.output_tokens
    n = len(rate)
    return Disaggregated(
        ttft_s=np.broadcast_to(ttft, n),
        transfer_s=np.broadcast_to(transfer, n),
        transfer_bytes=np.broadcast_to(size, n),
        tpot_s=second.phases["request"]["tpot_s"],
        e2e_s=np.broadcast_to(ttft + generation_s, n),
        requests_per_s=rate,
        output_tokens_per_s=tokens,
        output_tokens_per_s_per_device=tokens / devices,
        limited_by=slowest.argmin(axis=0).astype(np.int8),
        fits=np.broadcast_to(first.fits & second.fits, n),
        prefill=first,
        decode=second,
    )


def _cache_bytes(deployment: Deployment, prompt: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cache of prompts over all layers and heads, windowed layers keeping their window."""
    # Shards and replicated heads are put together: the plan of the same model on one device.
    alone = replace(deployment, parallelism=_ALONE) if deployment.devices > 1 else deployment
    plan = compiled(alone).memory
    kept = np.minimum(prompt, plan.window) if plan.window else 0
    full = plan.full_bytes_per_token * prompt + plan.window_bytes_per_token * kept
    return np.asarray(full + plan.state_bytes_per_sequence, dtype=np.float64)


_ALONE: Final = Parallelism()
