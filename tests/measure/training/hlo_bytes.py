"""Serialized HLO modules for tests, written field by field."""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

KERNEL = "AwsNeuronCustomNativeKernel"


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """A number; the default 0 is not written, as protocol buffers do."""
    return varint(field << 3) + varint(value) if value else b""


def blob(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def packed(field: int, values: Sequence[int]) -> bytes:
    return blob(field, b"".join(varint(v) for v in values))


def shape(dims: Sequence[int]) -> bytes:
    return number(2, 11) + packed(3, dims) + blob(5, packed(1, range(len(dims))))


@dataclass(frozen=True)
class Op:
    """One instruction."""

    id: int
    opcode: str
    dims: Sequence[int] = ()
    operands: Sequence[int] = ()
    contracting: tuple[Sequence[int], Sequence[int]] = ((), ())
    batch: tuple[Sequence[int], Sequence[int]] = ((), ())
    target: str = ""
    config: bytes | None = None
    kernel_output_feature: int | None = None

    def encode(self) -> bytes:
        out = blob(1, f"i{self.id}".encode()) + blob(2, self.opcode.encode()) + blob(3, shape(self.dims))
        if self.kernel_output_feature is not None:
            out += blob(16, number(4, self.kernel_output_feature))
        if self.target:
            out += blob(28, self.target.encode())
        if self.opcode == "dot":
            left, right = self.contracting
            out += blob(
                30, packed(1, left) + packed(2, right) + packed(3, self.batch[0]) + packed(4, self.batch[1])
            )
        out += number(35, self.id) + (packed(36, self.operands) if self.operands else b"")
        return out + (blob(43, self.config) if self.config is not None else b"")


def config(macs: object) -> bytes:
    return base64.b64encode(json.dumps({"func_name": "k", "mac_count": macs}).encode())


def module(*computations: Iterable[Op]) -> bytes:
    out = blob(1, b"m") + blob(2, b"main")
    for name, ops in enumerate(computations):
        body = blob(1, f"c{name}".encode()) + b"".join(blob(2, op.encode()) for op in ops) + number(5, name)
        out += blob(3, body)
    return out + number(5, 9)


def known_module() -> bytes:
    """One dot of 512 x 1024 by 1024 x 1024, one kernel of 121,543,255 multiply-adds, one softmax.

    512 x 1024 x 1024 = 536,870,912, so kernels do 121543255 / 658414167 of the work.
    """
    return module(
        [
            Op(0, "parameter", (512, 1024)),
            Op(1, "parameter", (1024, 1024)),
            Op(2, "dot", (512, 1024), (0, 1), contracting=((1,), (0,))),
            Op(3, "custom-call", (512, 1024), (2,), target=KERNEL, config=config("121543255")),
            Op(4, "custom-call", (512, 1024), (3,), target="AwsNeuronSoftmax"),
        ]
    )
