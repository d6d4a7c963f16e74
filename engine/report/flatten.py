"""A drawn chart with a third of its elements: places worked out, like shapes joined, the unseen left out.

Vega writes one element a mark inside five groups. Browsers and WeasyPrint walk through all of them; the same
picture with few elements is a smaller page and a PDF in half the time.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Final

Box = tuple[float, float, float, float]

_MOVE: Final = re.compile(r"translate\(\s*([-\d.e]+)[ ,]+([-\d.e]+)\s*\)")
_TOKEN: Final = re.compile(r"([A-Za-z])|(-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")
# Which numbers of a command are places, by their position within it: absolute commands are moved.
_PLACES: Final = {
    "M": "xy", "L": "xy", "T": "xy", "H": "x", "V": "y", "C": "xyxyxy", "S": "xyxy", "Q": "xyxy",
    "A": "rr---xy",
}  # fmt: skip
_RELATIVE: Final = {"m": 2, "l": 2, "t": 2, "h": 1, "v": 1, "c": 6, "s": 4, "q": 4}
# Names of marks for scripts and readers of single marks: the whole picture has one description.
_UNSEEN: Final = ("class", "role", "pointer-events", "transform", "display")
_MOST_JOINED: Final = 80
"""Shapes of one element: finding out whether they overlap takes their number squared."""


@dataclass
class _Run:
    """Shapes of one look that become one element."""

    look: tuple[tuple[str, str], ...] = ()
    pieces: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)


def flattened(svg: str) -> str:
    """The same picture with fewer elements; the text is an SVG document of its own."""
    root = ET.fromstring(svg)  # noqa: S314 - drawn by vl-convert from a description without addresses
    kept = {key: root.get(key, "") for key in ("width", "height", "viewBox")}
    out = ['<svg xmlns="http://www.w3.org/2000/svg"', *(f' {k}="{v}"' for k, v in kept.items()), ">"]
    run = _Run()
    for child in root:
        _write(child, 0.0, 0.0, out, run)
    _end(run, out)
    return "".join(out) + "</svg>"


def _write(element: ET.Element, x: float, y: float, out: list[str], run: _Run) -> None:
    """One element and what is in it, moved by (x, y)."""
    name = _name(element.tag)
    moved = _moved(element.get("transform", ""))
    look = _look(element)
    if name == "g" and moved is not None:
        _group(element, x + moved[0], y + moved[1], look, out, run)
    elif name in ("path", "line") and moved is not None:
        _shape(element, x + moved[0], y + moved[1], look, out, run)
    elif name == "text":
        if element.get("opacity") != "0":
            _end(run, out)
            out.append(_text(element, x, y, look))
    else:  # definitions, and shapes turned or stretched: as they are, in a group that brings them in place
        _end(run, out)
        inner = _verbatim(element)
        out.append(
            inner if not (x or y) else f'<g transform="translate({_short(x)},{_short(y)})">{inner}</g>'
        )


def _group(
    element: ET.Element, x: float, y: float, look: tuple[tuple[str, str], ...], out: list[str], run: _Run
) -> None:
    """A group melts away, unless it gives its parts a look or cuts them off."""
    if not look:
        for child in element:
            _write(child, x, y, out, run)
        return
    _end(run, out)
    # A clip path is measured where its group stands, so such a group keeps its place.
    clipped = element.get("clip-path") is not None
    place = f' transform="translate({_short(x)},{_short(y)})"' if clipped and (x or y) else ""
    start = len(out)
    out.append(f"<g{_attributes(look)}{place}>")
    inner = _Run()
    for child in element:
        _write(child, 0.0 if clipped else x, 0.0 if clipped else y, out, inner)
    _end(inner, out)
    if len(out) == start + 1:
        out.pop()
    else:
        out.append("</g>")


def _shape(
    element: ET.Element, x: float, y: float, look: tuple[tuple[str, str], ...], out: list[str], run: _Run
) -> None:
    """A shape joins those of its look before it where nothing tells them apart."""
    seen = dict(look)
    path = seen.pop("d", "") or _line(seen)
    filled = _name(element.tag) == "path" and seen.get("fill", "none") not in ("none", "transparent")
    stroked = seen.get("stroke", "none") != "none" and seen.get("stroke-width") != "0"
    if not (filled or stroked) or "M0,0h0v0h0Z" in path or element.get("opacity") == "0":
        return
    text, box = _at(path, x, y)
    look = tuple(sorted(seen.items()))
    # Where filled or faint shapes overlap, one element would look different from two.
    apart = (filled or "opacity" in seen) and any(_touch(box, other) for other in run.boxes)
    if run.look != look or apart or len(run.pieces) >= _MOST_JOINED:
        _end(run, out)
        run.look = look
    run.pieces.append(text)
    run.boxes.append(box)


def _end(run: _Run, out: list[str]) -> None:
    if run.pieces:
        out.append(f'<path d="{"".join(run.pieces)}"{_attributes(run.look)}/>')
    run.look, run.pieces, run.boxes = (), [], []


def _text(element: ET.Element, x: float, y: float, look: tuple[tuple[str, str], ...]) -> str:
    """Words keep their own element: a reader selects them."""
    given = element.get("transform", "")
    moved = _moved(given)
    if moved is not None:
        place = f' x="{_short(x + moved[0])}" y="{_short(y + moved[1])}"'
    else:
        place = f' transform="translate({_short(x)},{_short(y)}) {_short_numbers(given)}"'
    inner = escape(element.text or "", quote=False) + "".join(_verbatim(child) for child in element)
    return f"<text{place}{_attributes(look)}>{inner}</text>"


def _verbatim(element: ET.Element) -> str:
    name = _name(element.tag)
    given = tuple(
        (_name(k), v) for k, v in element.attrib.items() if k not in _UNSEEN[:3] and not k.startswith("aria-")
    )
    inner = escape(element.text or "", quote=False) + "".join(
        _verbatim(child) + escape(child.tail or "", quote=False) for child in element
    )
    return f"<{name}{_attributes(given)}>{inner}</{name}>"


def _look(element: ET.Element) -> tuple[tuple[str, str], ...]:
    """What an element looks like: every attribute but places, names for scripts, and what says nothing."""
    return tuple(
        (key, value)
        for key, value in element.attrib.items()
        if key not in _UNSEEN and not key.startswith("aria-") and (key, value) != ("opacity", "1")
    )


def _attributes(look: tuple[tuple[str, str], ...]) -> str:
    return "".join(f' {key}="{escape(value, quote=True)}"' for key, value in look)


def _line(seen: dict[str, str]) -> str:
    ends = [float(seen.pop(key, 0.0) or 0.0) for key in ("x1", "y1", "x2", "y2")]
    return "M{},{}L{},{}".format(*ends)


def _moved(transform: str) -> tuple[float, float] | None:
    """How far a transformation moves; None where it does more than that."""
    if not transform:
        return 0.0, 0.0
    match = _MOVE.fullmatch(transform.strip())
    return (float(match[1]), float(match[2])) if match else None


def _at(path: str, x: float, y: float) -> tuple[str, Box]:
    """The path moved by (x, y), and the box around it."""
    out: list[str] = []
    across: list[float] = []
    down: list[float] = []
    for command, numbers in _commands(path):
        places = _PLACES.get(command, "")
        shown, reach = [], 0.0
        for i, number in enumerate(numbers):
            kind = places[i % len(places)] if places else "-"
            reach = number if kind == "r" else reach
            number += x if kind == "x" else y if kind == "y" else 0.0
            if kind in "xy":
                (across if kind == "x" else down).extend((number - reach, number + reach))
            shown.append(_short(number))
        if command in _RELATIVE and across and down:
            _reach(command, numbers, across, down)
        out.append(command + ",".join(shown))
    if not across or not down:
        return "".join(out), (x, y, x, y)
    return "".join(out), (min(across), min(down), max(across), max(down))


def _reach(command: str, numbers: list[float], across: list[float], down: list[float]) -> None:
    """Widen a box by relative steps; too wide a box only joins less."""
    step = _RELATIVE[command]
    if command == "v":
        down.extend(down[-1] + n for n in numbers)
    else:
        across.extend(across[-1] + n for n in (numbers if step == 1 else numbers[::2]))
        if step > 1:
            down.extend(down[-1] + n for n in numbers[1::2])


def _commands(path: str) -> Iterator[tuple[str, list[float]]]:
    command, numbers = "", list[float]()
    for match in _TOKEN.finditer(path):
        if match[1]:
            if command:
                yield command, numbers
            command, numbers = match[1], []
        else:
            numbers.append(float(match[2]))
    if command:
        yield command, numbers


def _touch(a: Box, b: Box) -> bool:
    return a[0] <= b[2] + 1 and b[0] <= a[2] + 1 and a[1] <= b[3] + 1 and b[1] <= a[3] + 1


def _short(number: float) -> str:
    """Hundredths of a pixel are finer than any screen or printer shows."""
    return f"{round(number, 2) + 0.0:.10g}"


def _short_numbers(text: str) -> str:
    return re.sub(r"-?\d+\.\d+", lambda match: _short(float(match[0])), text)


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]
