"""Where events begin and end in the pieces of a streamed body, and when each of them was complete.

Server-sent events as their standard has them: any line end, events and characters cut anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

__all__ = ["EVENT_END", "blocks_of", "cut_again"]

EVENT_END: Final = b"\n\n"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


def blocks_of(pieces: Sequence[bytes], stamps: Sequence[int]) -> tuple[Sequence[bytes], Sequence[int]]:
    """Pieces of a body with line ends made equal, and a stamp for each.

    Most servers send an event a piece, so nothing is cut that may be whole: a piece that does not end with an
    event asks for `cut_again`.
    """
    body = b"".join(pieces)
    if body.startswith(_BYTE_ORDER_MARK):
        pieces = _without_mark(pieces)
    if b"\r" not in body:
        return pieces, stamps
    events, ends = _of_any_line_end(b"".join(pieces))
    return events, _stamps_at(ends, pieces, stamps)


def cut_again(pieces: Sequence[bytes], stamps: Sequence[int]) -> tuple[list[bytes], list[int]]:
    """Each event with its blank line, and the stamp of the piece that ended it."""
    events = [event + EVENT_END for event in b"".join(pieces).split(EVENT_END)]
    return events, _stamps_at(list(accumulate(map(len, events))), pieces, stamps)


def _without_mark(pieces: Sequence[bytes]) -> list[bytes]:
    """The pieces without the byte order mark at their start, however it was cut."""
    left, found = len(_BYTE_ORDER_MARK), []
    for piece in pieces:
        found.append(piece[left:])
        left = max(0, left - len(piece))
    return found


def _of_any_line_end(body: bytes) -> tuple[list[bytes], list[int]]:
    """Events, and the position in the body where each ends, for any line ends that the standard allows."""
    events: list[bytes] = []
    ends: list[int] = []
    lines: list[bytes] = []
    position = 0
    for match in _LINE_END.finditer(body):
        line, position = body[position : match.start()], match.end()
        if line:
            lines.append(line)
            continue
        events.append(b"\n".join(lines) + EVENT_END)
        ends.append(position)
        lines = []
    return [*events, b"\n".join([*lines, body[position:]]) + EVENT_END], [*ends, len(body)]


def _stamps_at(ends: Sequence[int], pieces: Sequence[bytes], stamps: Sequence[int]) -> list[int]:
    """Stamp of the piece in which each event ends; the last event may lack its blank line."""
    limits = list(accumulate(map(len, pieces)))
    found: list[int] = []
    index = 0
    for end in ends:
        while index < len(limits) - 1 and limits[index] < end:
            index += 1
        found.append(stamps[index])
    return found
