"""Which share of a compiled program's multiply-adds custom kernels do, read from HLO modules.

Every instruction of every computation counts once: trip counts of loops and repeated calls are not in the
file in a form that can be trusted. A `dot` of [..., K] by [..., K, N] does the product of all left dimensions
times the free right ones. What the compiler hands to its own kernels states its multiply-adds in its
`backend_config`, base64 of JSON. Field numbers: openxla/xla, xla/service/hlo.proto and xla/xla_data.proto.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.measure.training.wire import BYTES, Damaged, Field, fields, numbers, text

LARGEST_FILE: Final = 2 * 2**30
"""Protocol-buffer messages end at 2 GiB."""
LARGEST_CONFIG: Final = 16 * 2**20
_MOST_DIMENSIONS: Final = 64
_MOST_OPERANDS: Final = 1_000_000
_LARGEST_COUNT: Final = 10**30
"""No program does more; larger numbers are damage, and would be slow to print."""

# HloModuleProto, HloComputationProto
_COMPUTATIONS, _INSTRUCTIONS = 3, 2
# HloInstructionProto
_OPCODE, _SHAPE, _CONVOLUTION, _TARGET, _DOT, _ID, _OPERANDS, _CONFIG = 2, 3, 16, 28, 30, 35, 36, 43
# ShapeProto, DotDimensionNumbers, ConvolutionDimensionNumbers
_DIMENSIONS = 3
_RIGHT_CONTRACTING, _RIGHT_BATCH = 2, 4
_KERNEL_OUTPUT_FEATURE = 4

_OTHER_FORMS: Final = (
    (b"HloModule ", "HLO as text"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"version https://git-lfs", "a pointer of Git LFS"),
)
"""What stands under these names at times: first bytes and what they show."""


@dataclass(frozen=True)
class Counting:
    """What counts."""

    kernel_targets: Collection[str] = ("AwsNeuronCustomNativeKernel",)
    """Targets of custom calls that are kernels; matched exactly."""
    convolutions: bool = False
    """Whether convolutions count beside dots."""


@dataclass(frozen=True)
class KernelUsage:
    """Multiply-adds of one module."""

    dot_macs: int
    convolution_macs: int
    """0 unless convolutions count."""
    kernel_macs: int
    instructions: int
    kernel_calls: int
    other_custom_calls: int
    """Custom calls to targets that are not kernels; they add nothing."""
    notes: tuple[str, ...] = ()

    @property
    def total_macs(self) -> int:
        """All counted multiply-adds."""
        return self.dot_macs + self.convolution_macs + self.kernel_macs

    @property
    def ratio(self) -> float | None:
        """Share done by kernels; None when nothing was counted."""
        return self.kernel_macs / self.total_macs if self.total_macs else None


@dataclass
class _Instruction:
    opcode: str = ""
    target: str = ""
    dimensions: tuple[int, ...] = ()
    operands: list[int] = field(default_factory=list)
    dot: Field | None = None
    convolution: Field | None = None
    config: Field | None = None


@dataclass
class _Tally:
    dot: int = 0
    convolution: int = 0
    kernel: int = 0
    instructions: int = 0
    kernels: int = 0
    others: int = 0
    notes: list[str] = field(default_factory=list)


def read_module(path: Path, counting: Counting | None = None) -> KernelUsage:
    """Multiply-adds of the HLO module in a file; raises `Damaged` when it is none."""
    with path.open("rb") as stream:
        data = stream.read(LARGEST_FILE + 1)
    return count_module(data, counting)


def count_module(data: bytes, counting: Counting | None = None) -> KernelUsage:
    """Multiply-adds of a serialized HLO module; raises `Damaged` when the bytes are none."""
    counting = counting or Counting()
    if len(data) > LARGEST_FILE:
        raise Damaged("larger than 2 GiB, which no module is")
    if not data:
        raise Damaged("empty")
    if other := next((name for start, name in _OTHER_FORMS if data.startswith(start)), None):
        raise Damaged(f"{other}, not a serialized module")
    tally = _Tally()
    computations = 0
    for part in fields(data, 0, len(data)):
        if part.number == _COMPUTATIONS:
            computations += 1
            _count_computation(data, part, counting, tally)
    if not computations or not tally.instructions:
        raise Damaged("no HLO module: it holds no instruction")
    return KernelUsage(
        tally.dot, tally.convolution, tally.kernel, tally.instructions, tally.kernels, tally.others,
        tuple(dict.fromkeys(tally.notes)),
    )  # fmt: skip


def _count_computation(data: bytes, place: Field, counting: Counting, tally: _Tally) -> None:
    """Operands are named by id within their computation and stand before their users, as the format asks."""
    shapes: dict[int, tuple[int, ...]] = {}
    for part in _messages(data, place, _INSTRUCTIONS):
        number, instruction = _instruction(data, part)
        tally.instructions += 1
        shapes[number] = instruction.dimensions
        if instruction.opcode == "dot":
            tally.dot += _bounded(_dot_macs(data, instruction, shapes))
        elif instruction.opcode == "convolution" and counting.convolutions:
            tally.convolution += _bounded(_convolution_macs(data, instruction, shapes))
        elif instruction.opcode == "custom-call":
            if instruction.target in counting.kernel_targets:
                tally.kernels += 1
                tally.kernel += _kernel_macs(data, instruction, tally.notes)
            else:
                tally.others += 1


def _messages(data: bytes, place: Field, number: int) -> Iterator[Field]:
    if place.kind != BYTES:
        raise Damaged("a message is none")
    return (part for part in fields(data, place.start, place.stop) if part.number == number)


def _instruction(data: bytes, place: Field) -> tuple[int, _Instruction]:
    found = _Instruction()
    number = 0  # a number that is 0 is not written
    if place.kind != BYTES:
        raise Damaged("an instruction is none")
    for part in fields(data, place.start, place.stop):
        if part.number == _OPCODE:
            found.opcode = text(data, part)
        elif part.number == _TARGET:
            found.target = text(data, part)
        elif part.number == _SHAPE:
            found.dimensions = _dimensions(data, part)
        elif part.number == _ID:
            number = part.value
        elif part.number == _OPERANDS:
            # Ids are 64-bit patterns: compare them as such, whatever their sign.
            found.operands += [n & 0xFFFF_FFFF_FFFF_FFFF for n in numbers(data, part, most=_MOST_OPERANDS)]
        elif part.number == _DOT:
            found.dot = part
        elif part.number == _CONVOLUTION:
            found.convolution = part
        elif part.number == _CONFIG:
            found.config = part
    return number, found


def _dimensions(data: bytes, place: Field) -> tuple[int, ...]:
    found: list[int] = []
    for part in _messages(data, place, _DIMENSIONS):
        found += numbers(data, part, most=_MOST_DIMENSIONS)
    if len(found) > _MOST_DIMENSIONS or any(n < 0 for n in found):
        raise Damaged("a shape has dimensions that cannot be")
    return tuple(found)


def _dot_macs(data: bytes, instruction: _Instruction, shapes: dict[int, tuple[int, ...]]) -> int:
    left, right = _operands(instruction, shapes)
    taken: set[int] = set()
    for part in fields(data, instruction.dot.start, instruction.dot.stop) if instruction.dot else ():
        if part.number in (_RIGHT_CONTRACTING, _RIGHT_BATCH):
            taken.update(numbers(data, part, most=_MOST_DIMENSIONS))
    if any(not 0 <= axis < len(right) for axis in taken):
        raise Damaged("a dot contracts a dimension it does not have")
    return math.prod(left) * math.prod(size for axis, size in enumerate(right) if axis not in taken)


def _convolution_macs(data: bytes, instruction: _Instruction, shapes: dict[int, tuple[int, ...]]) -> int:
    """Each output element sums over the kernel's window and input features: the kernel without its output
    features. Padding counts like data."""
    _, kernel = _operands(instruction, shapes)
    output_feature = 0
    if instruction.convolution is not None:
        for part in _messages(data, instruction.convolution, _KERNEL_OUTPUT_FEATURE):
            output_feature = part.value
    if output_feature >= len(kernel):
        raise Damaged("a convolution names a dimension it does not have")
    return math.prod(instruction.dimensions) * math.prod(
        size for axis, size in enumerate(kernel) if axis != output_feature
    )


def _operands(
    instruction: _Instruction, shapes: dict[int, tuple[int, ...]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if len(instruction.operands) < 2 or any(n not in shapes for n in instruction.operands[:2]):
        raise Damaged(f"a {instruction.opcode} names operands that are not there")
    return shapes[instruction.operands[0]], shapes[instruction.operands[1]]


def _kernel_macs(data: bytes, instruction: _Instruction, notes: list[str]) -> int:
    """`mac_count` of a kernel; 0 with a note where it cannot be read."""
    place = instruction.config
    if place is None or place.start == place.stop:
        notes.append("a kernel states no `mac_count`: counted as 0")
        return 0
    if place.stop - place.start > LARGEST_CONFIG:
        notes.append("a kernel's configuration is larger than 16 MiB: counted as 0")
        return 0
    try:
        return _mac_count(data[place.start : place.stop])
    except (ValueError, binascii.Error, RecursionError):
        notes.append("a kernel's `mac_count` cannot be read: counted as 0")
        return 0


def _mac_count(config: bytes) -> int:
    plain = config if config.lstrip()[:1] == b"{" else base64.b64decode(config, validate=True)
    found: Any = json.loads(plain)
    count = found.get("mac_count") if isinstance(found, dict) else None
    if isinstance(count, bool) or not isinstance(count, int | str | float) or len(str(count)) > 40:
        raise ValueError("no count")
    value = int(count)
    if not 0 <= value <= _LARGEST_COUNT or (isinstance(count, float) and value != count):
        raise ValueError("no count")
    return value


def _bounded(macs: int) -> int:
    if macs > _LARGEST_COUNT:
        raise Damaged("a dimension is larger than any program has")
    return macs
