"""Charts as pictures: SVG for page and PDF, PNG for the workbook, the same bytes every time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from engine.errors import ReportError
from engine.report.flatten import flattened
from engine.spec.remembered import recall, remember

_CLIP: Final = re.compile(r'(id="|url\(#)((?:clip|gradient_)[0-9]+)(?=["\)])')
_EXPORT: Final = "window.vegaEmbed = vegaEmbed;"
_ROOT: Final = re.compile(r'<svg ([^>]*?)width="([0-9.]+)" height="([0-9.]+)"')


def chart_svg(name: str, spec: Mapping[str, Any]) -> str:
    """The chart as SVG text whose ids are its own; raises `ReportError` when it cannot be drawn."""
    import vl_convert

    try:
        # No base address is allowed: a description could otherwise name data on the network.
        drawn = vl_convert.vegalite_to_svg(dict(spec), allowed_base_urls=[], show_warnings=False)
    except ValueError as err:
        raise ReportError(f"chart `{name}` cannot be drawn: {str(err)[:300]}") from err
    return flattened(_own_ids(name, drawn))


def _own_ids(name: str, svg: str) -> str:
    # vl-convert numbers clip paths on within a process, so the same chart would differ when drawn second,
    # and several charts of one page would share ids.
    seen: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        found = seen.setdefault(match.group(2), f"{name}-{len(seen)}")
        return match.group(1) + found

    return _CLIP.sub(renamed, svg)


def svg_size(svg: str) -> tuple[float, float]:
    """Width and height in pixels."""
    match = _ROOT.search(svg)
    if match is None:
        raise ReportError("a drawn chart has no size")
    return float(match.group(2)), float(match.group(3))


def svg_resized(svg: str, factor: float) -> str:
    """The same drawing, `factor` times as large."""
    width, height = svg_size(svg)
    size = f'width="{width * factor:.10g}" height="{height * factor:.10g}"'
    return _ROOT.sub(lambda root: f"<svg {root[1]}{size}", svg, count=1)


def png(svg: str, *, scale: float = 1.5) -> bytes:
    """The picture as PNG."""
    import vl_convert

    opaque = svg.replace(">", '><rect width="100%" height="100%" fill="#ffffff"/>', 1)
    found: bytes = vl_convert.svg_to_png(opaque, scale=scale)
    return found


def script_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that defines `vegaEmbed`."""
    import vl_convert

    # Joining the libraries takes two seconds and gives the same text for the same version.
    made_from = f"scripts of vl-convert {version('vl-convert-python')}: {_EXPORT}".encode()
    known = (recall(made_from) or {}).get("script")
    if isinstance(known, str):
        return known
    found: str = vl_convert.javascript_bundle(_EXPORT)
    remember(made_from, {"script": found})
    return found
