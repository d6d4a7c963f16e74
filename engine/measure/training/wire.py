"""Reading protocol-buffer messages without their schema compiled: bounds checked, nothing copied.

Only what an HLO module needs: fields of a message in order, varints and packed lists of them. A message is
walked, never built, so memory stays that of the file; nesting is the caller's, so there is no recursion to
exhaust. The encoding: protobuf.dev, "Encoding", 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
_LONGEST_VARINT: Final = 10
"""Bytes of a 64-bit number, seven bits each."""


class Damaged(ValueError):
    """Bytes that are no message: cut short, or changed."""


class Field(NamedTuple):
    """One field of a message."""

    number: int
    kind: int
    value: int
    """The number of a varint; 0 otherwise."""
    start: int
    """Where the bytes of the field begin; meaningless for a varint."""
    stop: int


def varint(data: bytes, place: int, stop: int) -> tuple[int, int]:
    """The unsigned number at `place` and where the next byte is."""
    if place < stop and data[place] < 0x80:  # most numbers have one byte
        return data[place], place + 1
    value = shift = 0
    for i in range(place, min(place + _LONGEST_VARINT, stop)):
        byte = data[i]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, i + 1
        shift += 7
    raise Damaged("a number runs past its end")


def fields(data: bytes, start: int, stop: int) -> Iterator[Field]:
    """The fields of the message in `data[start:stop]`; raises `Damaged` where it makes no sense."""
    place = start
    while place < stop:
        tag, place = varint(data, place, stop)
        number, kind = tag >> 3, tag & 7
        if number == 0 or number > 0x1FFF_FFFF:
            raise Damaged("a field has a number that cannot be")
        if kind == VARINT:
            value, place = varint(data, place, stop)
            yield Field(number, kind, value, place, place)
            continue
        if kind == BYTES:
            length, place = varint(data, place, stop)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:  # groups were given up before HLO existed
            raise Damaged("a field has a type that cannot be")
        if length > stop - place:
            raise Damaged("a field runs past the end")
        yield Field(number, kind, 0, place, place + length)
        place += length


def signed(value: int) -> int:
    """A 64-bit pattern as the signed number it stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def numbers(data: bytes, field: Field, *, most: int) -> list[int]:
    """Signed numbers of a repeated field, packed or a single one; raises `Damaged` beyond `most`."""
    if field.kind == VARINT:
        return [signed(field.value)]
    if field.kind != BYTES:
        raise Damaged("a list of numbers is none")
    found: list[int] = []
    place = field.start
    while place < field.stop:
        value, place = varint(data, place, field.stop)
        found.append(signed(value))
        if len(found) > most:
            raise Damaged(f"a list has more than {most} numbers")
    return found


def text(data: bytes, field: Field) -> str:
    """A text field; what is not UTF-8 is shown as a replacement character."""
    if field.kind != BYTES:
        raise Damaged("a text is none")
    return data[field.start : field.stop].decode("utf-8", errors="replace")
