"""Charts as pictures: SVG for page and PDF, PNG for the workbook, the same bytes every time."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, Final

from engine.errors import ReportError

_CLIP: Final = re.compile(r'(id="|url\(#)((?:clip|gradient_)[0-9]+)(?=["\)])')
_ROOT: Final = re.compile(r'<svg ([^>]*?)width="([0-9.]+)" height="([0-9.]+)"')


def chart_svg(name: str, spec: Mapping[str, Any]) -> str:
    """The chart as SVG text whose ids are its own; raises `ReportError` when it cannot be drawn."""
    import vl_convert

    try:
        # No base address is allowed: a description could otherwise name data on the network.
        drawn = vl_convert.vegalite_to_svg(dict(spec), allowed_base_urls=[], show_warnings=False)
    except ValueError as err:
        raise ReportError(f"chart `{name}` cannot be drawn: {str(err)[:300]}") from err
    return _own_ids(name, drawn)


def _own_ids(name: str, svg: str) -> str:
    # vl-convert numbers clip paths on within a process, so the same chart would differ when drawn second,
    # and several charts of one page would share ids.
    seen: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        found = seen.setdefault(match.group(2), f"{name}-{len(seen)}")
        return match.group(1) + found

    return _CLIP.sub(renamed, svg)


# What only readers of single marks and mouse pointers use, and shapes that are not shown: a third of the
# text, which WeasyPrint and browsers walk through all the same.
_HIDDEN: Final = r'<path class="(?:back|fore)ground"[^>]*(?:display="none"|d="M0,0h0v0h0Z"[^>]*)/>'
_UNSEEN: Final = re.compile(_HIDDEN + r'|\s(?:aria-[a-z]+|role|pointer-events)="[^"]*"|\sopacity="1"')
_CLASSES: Final = re.compile(r'\sclass="[^"]*"')


def slim(svg: str, *, classes: bool = False) -> str:
    """The same picture without what is not seen; `classes` keeps the names that styles refer to."""
    found = _UNSEEN.sub("", svg)
    return found if classes else _CLASSES.sub("", found)


def svg_size(svg: str) -> tuple[float, float]:
    """Width and height in pixels."""
    match = _ROOT.search(svg)
    if match is None:
        raise ReportError("a drawn chart has no size")
    return float(match.group(2)), float(match.group(3))


def png(svg: str, *, scale: float = 1.5) -> bytes:
    """The picture as PNG."""
    import vl_convert

    opaque = svg.replace(">", '><rect width="100%" height="100%" fill="#ffffff"/>', 1)
    found: bytes = vl_convert.svg_to_png(opaque, scale=scale)
    return found


def script_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that defines `vegaEmbed`; takes about two seconds."""
    import vl_convert

    found: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return found


if __name__ == "__main__":
    # Run as a process of its own beside the drawing of charts, because vl-convert does one thing at a time.
    sys.stdout.buffer.write(script_bundle().encode("utf-8"))
