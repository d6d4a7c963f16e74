"""What fits on the devices of a deployment, in closed form and without NumPy: for plans and `require`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.perfmodel.arithmetic import SCALAR
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.load import drafting, load_of_workload, memory_load, memory_plan_of
from engine.perfmodel.memory import largest_batch, longest_context, memory_use
from engine.perfmodel.program import compiled
from engine.spec.workload import Workload


@dataclass(frozen=True)
class Fit:
    """Memory of the fullest device for one workload, in bytes."""

    weights_bytes: float
    kv_cache_bytes: float
    activations_bytes: float
    reserve_bytes: float
    needed_bytes: float
    usable_bytes: float | None
    """Share of the device memory that may be used; None when the sheet does not say how much there is."""
    shortfall_bytes: float
    """What is missing; 0 when it fits or when nobody knows."""
    fits: bool


def memory_fit(deployment: Deployment, workload: Workload, *, draft: Deployment | None = None) -> Fit:
    """Whether a workload fits, and what takes the room."""
    plan = compiled(deployment)
    speculation = drafting(workload.speculation, compiled(draft) if draft is not None else None)
    memory = memory_plan_of(plan, speculation)
    used = memory_use(SCALAR, memory, memory_load(SCALAR, plan, load_of_workload(workload), speculation))
    shortfall = 0.0 if memory.usable_bytes is None else max(0.0, -float(used.free))
    return Fit(
        weights_bytes=memory.weights_bytes,
        kv_cache_bytes=float(used.kv_cache),
        activations_bytes=float(used.activations),
        reserve_bytes=memory.reserve_bytes,
        needed_bytes=float(used.needed),
        usable_bytes=memory.usable_bytes,
        shortfall_bytes=shortfall,
        fits=bool(used.fits),
    )


def maximum_batch(deployment: Deployment, workload: Workload) -> int | None:
    """Most sequences of this length, over all replicas, that fit; None when the memory is unknown."""
    plan = compiled(deployment)
    load = memory_load(SCALAR, plan, load_of_workload(workload), drafting(workload.speculation, None))
    return _whole(largest_batch(SCALAR, plan.memory, load))


def maximum_context(deployment: Deployment, workload: Workload) -> int | None:
    """Longest prompt plus output that fits at this batch; None when the memory is unknown or no limit."""
    plan = compiled(deployment)
    load = memory_load(SCALAR, plan, load_of_workload(workload), drafting(workload.speculation, None))
    return _whole(longest_context(SCALAR, plan.memory, load))


def cache_tokens(deployment: Deployment) -> int | None:
    """Tokens of cache beside the weights and the reserve on each replica, activations left out.

    None when the memory is unknown, or when some layers keep a window and tokens differ in size.
    """
    memory = compiled(deployment).memory
    if memory.usable_bytes is None or memory.window_bytes_per_token or not memory.full_bytes_per_token:
        return None
    room = memory.usable_bytes - memory.weights_bytes - memory.reserve_bytes
    return max(0, math.floor(room / memory.full_bytes_per_token))


def _whole(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None
