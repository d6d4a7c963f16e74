"""The wire reader and the counting of multiply-adds: by hand, and against ten thousand damaged inputs."""

import base64
import json
import random
import tracemalloc
from pathlib import Path

import pytest

from engine.errors import MeasurementError
from engine.measure.training.cache import read_cache
from engine.measure.training.hlo import Counting, count_module
from engine.measure.training.wire import Damaged, fields, numbers, signed
from tests.measure.training.hlo_bytes import (
    KERNEL,
    Op,
    blob,
    config,
    known_module,
    module,
    number,
    packed,
)


def dot(left: tuple[int, ...], right: tuple[int, ...], **numbers: tuple[tuple[int, ...], ...]) -> bytes:
    return module([Op(7, "parameter", left), Op(8, "parameter", right), Op(9, "dot", (), (7, 8), **numbers)])  # type: ignore[arg-type]


def test_a_dot_with_batch_dimensions() -> None:
    # 4 heads of [16, 8] x [8, 32]: 4 x 16 x 8 x 32
    data = dot((4, 16, 8), (4, 8, 32), contracting=((2,), (1,)), batch=((0,), (0,)))
    assert count_module(data).dot_macs == 4 * 16 * 8 * 32


def test_a_vector_product_and_a_scalar() -> None:
    assert count_module(dot((8,), (8,), contracting=((0,), (0,)))).dot_macs == 8
    assert count_module(dot((), ())).dot_macs == 1


def test_a_dimension_of_zero_is_no_work_and_no_ratio() -> None:
    found = count_module(dot((0, 4), (4, 2), contracting=((1,), (0,))))
    assert (found.total_macs, found.ratio) == (0, None)


def test_ids_of_64_bits_resolve_within_their_computation() -> None:
    big = (1 << 63) + 5  # negative as a signed number
    ops = [
        Op(big, "parameter", (2, 3)),
        Op(9, "parameter", (3, 4)),
        Op(1, "dot", (), (big, 9), contracting=((1,), (0,))),
    ]
    same_ids_elsewhere = [Op(big, "parameter", (100, 100)), Op(9, "parameter", (100, 100))]
    assert count_module(module(same_ids_elsewhere, ops)).dot_macs == 2 * 3 * 4


def test_every_computation_counts_once() -> None:
    ops = [
        Op(1, "parameter", (2, 2)),
        Op(2, "dot", (), (1, 1), contracting=((1,), (0,))),
        Op(3, "while", (), (2,)),
    ]
    assert count_module(module(ops, ops)).dot_macs == 2 * 8


def test_operands_may_come_one_by_one() -> None:
    body = blob(2, b"dot") + blob(30, packed(1, [1]) + packed(2, [0])) + number(35, 3)
    body += number(36, 1) + number(36, 2)  # not packed
    parts = [Op(1, "parameter", (2, 3)).encode(), Op(2, "parameter", (3, 5)).encode(), body]
    assert count_module(blob(3, b"".join(blob(2, part) for part in parts))).dot_macs == 30


@pytest.mark.parametrize(
    "target", ["AwsNeuronCustomNativeKernel2", "awsneuroncustomnativekernel", "AwsNeuron"]
)
def test_targets_match_exactly(target: str) -> None:
    data = module([Op(1, "custom-call", (2,), target=target, config=config(50))])
    assert (count_module(data).kernel_macs, count_module(data).other_custom_calls) == (0, 1)
    assert count_module(data, Counting(kernel_targets=(target,))).kernel_macs == 50


@pytest.mark.parametrize(("count", "macs"), [(7, 7), ("7", 7), (7.0, 7), (0, 0)])
def test_the_count_of_a_kernel(count: object, macs: int) -> None:
    found = count_module(module([Op(1, "custom-call", target=KERNEL, config=config(count))]))
    assert (found.kernel_macs, found.notes) == (macs, ())


@pytest.mark.parametrize(
    "data",
    [
        config(-1),
        config("many"),
        config("9" * 400),
        config(True),
        config(None),
        config(2.5),
        config([1]),
        b"not base64!",
        base64.b64encode(b"[" * 50_000),
        base64.b64encode(json.dumps({"other": 1}).encode()),
        base64.b64encode(b"\xff\xfe\x00"),
    ],
)
def test_a_count_that_cannot_be_read_is_nothing_and_said(data: bytes) -> None:
    found = count_module(module([Op(1, "custom-call", target=KERNEL, config=data)]))
    assert (found.kernel_macs, found.kernel_calls) == (0, 1)
    assert found.notes == ("a kernel's `mac_count` cannot be read: counted as 0",)


def test_a_kernel_without_configuration() -> None:
    found = count_module(module([Op(1, "custom-call", target=KERNEL)]))
    assert found.notes == ("a kernel states no `mac_count`: counted as 0",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"HloModule jit_f, entry_computation_layout={}", "HLO as text, not a serialized module"),
        (b"\x1f\x8b\x08\x00", "compressed by gzip, not a serialized module"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS, not a serialized module"),
        (b"\x0a\x01m", "no HLO module: it holds no instruction"),
        (blob(3, b""), "no HLO module: it holds no instruction"),
        (b"\x0b\x01", "a field has a type that cannot be"),
        (b"\x00\x01", "a field has a number that cannot be"),
        (b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a field runs past the end"),
        (b"\x08" + b"\xff" * 11, "a number runs past its end"),
        (number(3, 5), "a message is none"),
        (module([Op(1, "dot", (), (5, 6))]), "a dot names operands that are not there"),
        (module([Op(1, "dot", (), ())]), "a dot names operands that are not there"),
        (dot((2, 2), (2, 2), contracting=((1,), (7,))), "a dot contracts a dimension it does not have"),
        (module([Op(1, "parameter", (-3,))]), "a shape has dimensions that cannot be"),
        (module([Op(1, "parameter", [1] * 65)]), "a list has more than 64 numbers"),
        (dot((2**62, 2**62), (2**62,)), "a dimension is larger than any program has"),
    ],
)
def test_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(Damaged) as caught:
        count_module(data)
    assert str(caught.value) == message


def test_ten_thousand_damaged_modules_do_no_harm() -> None:
    """Whatever a file holds, reading it ends with a count or with `Damaged`, in bounded memory."""
    good = known_module()
    dice = random.Random(20260211)
    counted = 0
    tracemalloc.start()
    for turn in range(10_000):
        data = bytearray(good)
        for _ in range(dice.randint(1, 6)):
            place = dice.randrange(len(data))
            match dice.randrange(5):
                case 0:
                    data[place] = dice.randrange(256)
                case 1:
                    data[place] ^= 1 << dice.randrange(8)
                case 2:
                    del data[place : place + dice.randint(1, 40)]
                case 3:
                    data[place:place] = bytes(dice.randrange(256) for _ in range(dice.randint(1, 20)))
                case _:
                    data[place:place] = data[: dice.randint(1, 80)]
            if not data:
                data = bytearray(b"\x1a")
        if turn % 10 == 0:
            data = bytearray(dice.randbytes(dice.randint(1, 300)))
        try:
            found = count_module(bytes(data), Counting(convolutions=bool(turn % 2)))
        except Damaged:
            continue
        counted += 1
        assert 0 <= found.kernel_macs <= found.total_macs
        assert found.ratio is None or 0 <= found.ratio <= 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counted > 100  # the mutations reach what comes after the wire format
    assert peak < 5_000_000


def test_the_reader_of_fields() -> None:
    data = (
        number(1, 300)
        + blob(2, b"ab")
        + bytes([3 << 3 | 5])
        + b"\x01\x02\x03\x04"
        + bytes([4 << 3 | 1])
        + bytes(8)
    )
    found = [(f.number, f.kind, f.value, data[f.start : f.stop]) for f in fields(data, 0, len(data))]
    assert found == [(1, 0, 300, b""), (2, 2, 0, b"ab"), (3, 5, 0, b"\x01\x02\x03\x04"), (4, 1, 0, bytes(8))]
    assert signed((1 << 64) - 1) == -1
    (field,) = fields(packed(1, [1, -2, 300]), 0, len(packed(1, [1, -2, 300])))
    assert numbers(packed(1, [1, -2, 300]), field, most=3) == [1, -2, 300]


def test_a_folder_without_modules(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="there is no folder"):
        read_cache(tmp_path / "none")
    with pytest.raises(MeasurementError, match="no HLO module in"):
        read_cache(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.hlo")
    (tmp_path / "real.hlo").write_bytes(known_module())
    assert len(read_cache(tmp_path).files) == 1


def test_bytes_that_jax_writes() -> None:
    jax = pytest.importorskip(
        "jax", reason="jax is not installed; the other tests write the bytes themselves"
    )

    def model(x, w, image, kernel):  # type: ignore[no-untyped-def]
        heads = jax.numpy.einsum("bqd,bkd->bqk", x, w)
        return heads.sum(), jax.lax.conv(image, kernel, (1, 1), "SAME")

    shapes = [(4, 16, 8), (4, 32, 8), (1, 3, 8, 8), (16, 3, 3, 3)]
    arguments = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]
    lowered = jax.jit(model).lower(*arguments).compiler_ir("hlo")
    data = lowered.as_serialized_hlo_module_proto()
    found = count_module(data, Counting(convolutions=True))
    assert found.dot_macs == 4 * 16 * 8 * 32
    assert found.convolution_macs == 16 * 8 * 8 * 3 * 3 * 3
