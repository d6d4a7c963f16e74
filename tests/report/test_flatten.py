"""Fewer elements, the same picture."""

import io
from typing import Any

from engine.report.draw import chart_svg, png
from engine.report.flatten import flattened

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" viewBox="0 0 9 9">'


def drawing(inner: str) -> str:
    return flattened(f"{HEAD}{inner}</svg>").removeprefix(HEAD).removesuffix("</svg>")


def test_places_are_worked_out_and_lines_of_one_look_joined() -> None:
    grid = '<line transform="translate(1.001,2)" x2="0" y2="5" stroke="#eee"/>'
    found = drawing(
        f'<g class="a" transform="translate(10,20)"><g transform="translate(0.5,0)">{grid * 2}</g></g>'
    )
    assert found == '<path d="M11.5,22L11.5,27M11.5,22L11.5,27" stroke="#eee"/>'


def test_shapes_that_overlap_stay_apart() -> None:
    square = '<path transform="translate({},0)" d="M0,0h4v4h-4Z" fill="#00f" opacity="0.5"/>'
    apart = drawing(square.format(0) + square.format(20))
    over = drawing(square.format(0) + square.format(2))
    assert apart == '<path d="M0,0h4,4v4h-4ZM20,0h4v4h-4Z" fill="#00f" opacity="0.5"/>'.replace("h4,4", "h4")
    assert over.count("<path") == 2


def test_what_is_not_seen_goes() -> None:
    hidden = '<path class="background" d="M0,0h0v0h0Z" fill="#000"/><path d="M0,0h9v9h-9Z"/>'
    faint = '<path d="M0,0h9v9h-9Z" fill="#000" opacity="0"/><text opacity="0">gone</text>'
    assert drawing(f'<g role="x" aria-label="y">{hidden}{faint}</g>') == ""


def test_arcs_move_their_ends_and_keep_their_radii() -> None:
    assert drawing('<path transform="translate(5,7)" d="M2,0A2,2,0,1,1,-2,0" fill="#000"/>') == (
        '<path d="M7,7A2,2,0,1,1,3,7" fill="#000"/>'
    )


def test_words_are_escaped_and_turned_words_keep_their_turn() -> None:
    turned = '<text transform="translate(1,2) rotate(-90)" fill="#333">a &lt;b&gt;</text>'
    assert drawing(f'<g transform="translate(3,4)">{turned}</g>') == (
        '<text transform="translate(3,4) translate(1,2) rotate(-90)" fill="#333">a &lt;b&gt;</text>'
    )


def test_a_clipped_group_keeps_its_place() -> None:
    found = drawing(
        '<g transform="translate(3,4)"><g clip-path="url(#c)"><path d="M0,0L1,1" stroke="#000"/></g></g>'
    )
    assert found == (
        '<g clip-path="url(#c)" transform="translate(3,4)"><path d="M0,0L1,1" stroke="#000"/></g>'
    )


def test_the_picture_is_the_same_but_for_a_hundredth_of_a_pixel() -> None:
    import vl_convert
    from PIL import Image, ImageChops

    rows = [{"x": i, "y": i * i % 17, "kind": f"k{i % 3}"} for i in range(30)]
    spec: dict[str, Any] = {
        "data": {"values": rows}, "mark": {"type": "point", "filled": True, "opacity": 0.5}, "width": 300,
        "encoding": {"x": {"field": "x", "type": "quantitative"}, "y": {"field": "y", "type": "quantitative"},
                     "color": {"field": "kind"}, "shape": {"field": "kind"}},
    }  # fmt: skip
    before = vl_convert.vegalite_to_svg(spec)
    after = chart_svg("x", spec)
    pictures = [Image.open(io.BytesIO(png(svg))).convert("L") for svg in (before, after)]
    counts = ImageChops.difference(*pictures).histogram()
    assert sum(counts[64:]) <= 10
    assert after.count("<") < before.count("<") / 2
