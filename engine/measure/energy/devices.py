"""Which devices a model here runs on: only their energy is the model's, and only by UUID are they known."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from engine.errors import EnvironmentMissing, MeasurementError

if TYPE_CHECKING:
    from engine.measure.local_model import LocalModel
    from engine.spec.live import LocalTarget


def refuse_unmetered(target: LocalTarget) -> None:
    """Raise `EnvironmentMissing` where a model would run on a processor that no power source here reads."""
    from engine.measure.local_model import choose_device

    device = choose_device(target.device)
    if device != "cuda":
        raise EnvironmentMissing(
            f"the model would run on `{device}`: NVML and nvidia-smi read the power of NVIDIA devices only",
            hint="install a CUDA build of torch, or measure time alone with `metrics: [time]`",
        )


def uuids_of(local: LocalModel) -> tuple[str, ...]:
    """UUIDs of the devices that hold the weights of a model, as NVML writes them."""
    import torch

    places = {tensor.device for tensor in local.module.parameters()}
    return tuple(sorted({_uuid(torch, place) for place in places if place.type == "cuda"}))


def _uuid(torch: Any, place: Any) -> str:
    # The index is that of CUDA, which CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER change; NVML's is another.
    return f"GPU-{torch.cuda.get_device_properties(place).uuid}"


def require_known(wanted: Collection[str], known: Collection[str]) -> None:
    """Raise `MeasurementError` where a model runs on a device whose power is not read."""
    missing = sorted(set(wanted) - set(known))
    if missing or not wanted:
        raise MeasurementError(
            f"the model runs on `{', '.join(missing) or 'no device'}`, whose power is not among "
            f"{', '.join(sorted(known))}",
            hint="a container or CUDA_VISIBLE_DEVICES may hide it; MIG instances have no power of their own",
        )
