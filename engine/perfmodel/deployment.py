"""What is predicted - a model on devices in a number format - and whether that is possible at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from engine.errors import PlanError
from engine.perfmodel.quantized import component_precisions, missing_precisions
from engine.spec.analytical import AnalyticalSettings
from engine.spec.hardware import Hardware
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Parallelism

if TYPE_CHECKING:
    from engine.perfmodel.parameter_sets import Chosen

Severity = Literal["error", "note"]

_PCIE: Final = re.compile(r"PCIe([3-6])(?:/[3-6])?(?: x(\d+))?")
# Bytes/s per lane and direction after line coding: PCI-SIG base specifications 3.0 to 6.0.
_PCIE_LANE: Final = {"3": 0.985e9, "4": 1.969e9, "5": 3.938e9, "6": 7.563e9}
# Per device and direction: line rate / 8.
NODE_LINKS: Final = {"infiniband-400g": 50e9, "infiniband-200g": 25e9, "ethernet-100g": 12.5e9}

# Shared by all deployments: what is compiled is found again by the identity of its settings.
_ONE_DEVICE: Final = Parallelism()
_DEFAULT_SETTINGS: Final = AnalyticalSettings(kind="analytical")


@dataclass(frozen=True, eq=False)
class Deployment:
    """A model in a number format on a group of devices, with the conventions of its prediction."""

    model: Model
    hardware: Hardware
    quantization: Quantization
    parallelism: Parallelism = _ONE_DEVICE
    settings: AnalyticalSettings = _DEFAULT_SETTINGS
    calibration: Chosen | None = None
    """Fitted parameters that turn the bound into an estimate; the bound alone without them."""

    @property
    def devices(self) -> int:
        """Devices in all replicas."""
        return self.parallelism.devices


@dataclass(frozen=True)
class Issue:
    """Something a reader must know before trusting a prediction; an `error` forbids it."""

    severity: Severity
    field: str
    """Path of the setting it is about, such as `parallelism.tensor`."""
    message: str


@dataclass(frozen=True)
class DeviceLink:
    """Rate of the connection between the devices of one host."""

    name: str
    bandwidth_bytes_per_s: float
    """One direction, one device."""
    basis: str
    """How the rate was read from the data sheet."""


def device_link(hardware: Hardware) -> DeviceLink | None:
    """The connection between devices of a host, or None when the sheet names none."""
    if hardware.link is not None:
        both = hardware.link.basis == "bidirectional total per device"
        rate = hardware.link.bandwidth / (2 if both else 1)
        return DeviceLink(hardware.link.name, rate, f"data sheet, {hardware.link.basis}")
    found = _PCIE.match(hardware.pcie or "")
    if found is None:
        return None
    # A slot has 16 lanes; larger counts on a sheet are those of a whole CPU.
    lanes = min(int(found[2] or 16), 16)
    return DeviceLink(hardware.pcie or "", lanes * _PCIE_LANE[found[1]], "host interface, per direction")


def require_possible(deployment: Deployment) -> None:
    """Nothing, or a `PlanError` that names every reason why this deployment cannot be predicted."""
    errors = [issue for issue in check_deployment(deployment) if issue.severity == "error"]
    if errors:
        raise PlanError("; ".join(issue.message for issue in errors), issues=errors)


def check_deployment(deployment: Deployment) -> list[Issue]:
    """Errors that forbid a prediction, then notes on what it assumes."""
    issues = [
        *_precision_issues(deployment),
        *_tensor_issues(deployment),
        *_expert_issues(deployment),
        *_pipeline_issues(deployment),
        *_link_issues(deployment),
        *_routing_issues(deployment),
        *_memory_issues(deployment),
        *(Issue("note", "model", text) for text in deployment.model.assumptions),
    ]
    return sorted(issues, key=lambda issue: issue.severity)


def _precision_issues(deployment: Deployment) -> list[Issue]:
    quantization, hardware = deployment.quantization, deployment.hardware
    offered = ", ".join(name for name, value in hardware.peak if value is not None)
    used = set(component_precisions(deployment.model, quantization).values())
    lent = [
        Issue("note", "quantization", f"`{hardware.name}` has no {wanted}: computed at its {other} rate")
        for wanted, other in (("bf16", "fp16"), ("fp16", "bf16"))
        if wanted in used and getattr(hardware.peak, wanted) is None and getattr(hardware.peak, other)
    ]
    return lent + [
        Issue(
            "error",
            "quantization",
            f"`{quantization.name}` computes {users} in {precision}, which `{hardware.name}` does not offer "
            + (f"(it has {offered})" if offered else "(no dense peak of it is published)"),
        )
        for precision, users in missing_precisions(deployment.model, quantization, hardware).items()
    ]


def _tensor_issues(deployment: Deployment) -> list[Issue]:
    model, tensor = deployment.model, deployment.parallelism.tensor
    if tensor == 1:
        return []
    issues = []
    field = "parallelism.tensor"
    heads = {"attention heads": model.num_attention_heads}
    if model.linear_attention is not None:
        heads["linear-attention key heads"] = model.linear_attention.num_key_heads
        heads["linear-attention value heads"] = model.linear_attention.num_value_heads
    for noun, count in heads.items():
        if count % tensor:
            issues.append(
                Issue("error", field, f"{count} {noun} of `{model.name}` do not divide over {tensor} devices")
            )
    kv_heads = model.kv_heads
    if model.mla is not None:
        issues.append(Issue("note", field, "the latent cache is replicated on every device of the group"))
    elif tensor > kv_heads:
        issues.append(
            Issue(
                "note", field, f"{tensor} devices share {kv_heads} key/value heads: the heads are replicated"
            )
        )
    elif kv_heads % tensor:
        issues.append(
            Issue(
                "note",
                field,
                f"{kv_heads} key/value heads over {tensor} devices: "
                f"the fullest holds {-(-kv_heads // tensor)}",
            )
        )
    widths = {"feed-forward width": model.intermediate_size, "vocabulary": model.vocab_size}
    if model.moe is not None and deployment.parallelism.expert == 1:
        widths["expert width"] = model.moe.intermediate_size
    for noun, width in widths.items():
        if width is not None and width % tensor:
            issues.append(
                Issue("note", field, f"the {noun} {width} is padded to {-(-width // tensor)} on each device")
            )
    return issues


def _expert_issues(deployment: Deployment) -> list[Issue]:
    model, split = deployment.model, deployment.parallelism
    expert, field = split.expert, "parallelism.expert"
    if expert == 1:
        return []
    if model.moe is None:
        return [Issue("error", field, f"`{model.name}` has no experts to spread over {expert} devices")]
    issues = []
    if model.moe.num_experts % expert:
        issues.append(
            Issue("error", field, f"{model.moe.num_experts} experts do not divide over {expert} devices")
        )
    group = split.tensor * split.data
    if group % expert:
        issues.append(
            Issue("error", field, f"{expert} expert ranks do not divide the tensor x data group of {group}")
        )
    elif split.tensor % expert and expert % split.tensor:
        issues.append(
            Issue("error", field, f"{expert} expert ranks and {split.tensor} tensor ranks do not nest")
        )
    return issues


def _pipeline_issues(deployment: Deployment) -> list[Issue]:
    layers, split = deployment.model.num_hidden_layers, deployment.parallelism
    field = "parallelism.pipeline"
    if split.pipeline > layers:
        return [Issue("error", field, f"{layers} layers cannot fill {split.pipeline} pipeline stages")]
    if layers % split.pipeline:
        most = -(-layers // split.pipeline)
        return [Issue("note", field, f"{layers} layers over {split.pipeline} stages: the fullest has {most}")]
    return []


def _link_issues(deployment: Deployment) -> list[Issue]:
    hardware, split = deployment.hardware, deployment.parallelism
    if split.tensor * split.pipeline == 1 and split.expert == 1:
        return []
    link = device_link(hardware)
    issues = []
    if link is None:
        # Guessing a link would make up the very number that decides whether to split.
        message = f"`{hardware.name}` names no link between devices, so communication cannot be predicted"
        issues.append(Issue("error", "hardware", message))
    elif hardware.link is None:
        rate = f"{link.bandwidth_bytes_per_s / 1e9:.1f} GB/s per direction"
        issues.append(Issue("note", "hardware", f"devices talk over {link.name}: {rate}"))
    largest = max(split.tensor * split.pipeline, split.expert)
    if largest > split.devices_per_node:
        message = (
            f"a group of {largest} devices spans nodes of {split.devices_per_node}: {split.node_link} between"
        )
        issues.append(Issue("note", "parallelism.node_link", message))
    return issues


def _routing_issues(deployment: Deployment) -> list[Issue]:
    moe, routing = deployment.model.moe, deployment.settings.routing
    if moe is None or routing.law != "given":
        return []
    field = "measurements.routing.probabilities"
    given = routing.probabilities
    if given is None:
        return [Issue("error", field, "the routing law `given` needs `probabilities`")]
    if len(given) != moe.num_experts:
        return [Issue("error", field, f"{len(given)} probabilities for {moe.num_experts} experts")]
    if abs(sum(given) - moe.num_experts_per_tok) > 1e-3 * moe.num_experts_per_tok:
        return [
            Issue(
                "error",
                field,
                f"probabilities add up to {sum(given):g}, each token uses {moe.num_experts_per_tok} experts",
            )
        ]
    return []


def _memory_issues(deployment: Deployment) -> list[Issue]:
    hardware = deployment.hardware
    if hardware.usable_memory is None and hardware.memory is None:
        return [Issue("note", "hardware", f"the memory of `{hardware.name}` is unknown: fit is not checked")]
    return []
