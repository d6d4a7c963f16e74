"""The page: one file without network, complete without scripts, safe whatever a spec or a log says."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final, Literal

from engine.errors import ReportError
from engine.report.numbers import prefixes
from engine.report.own import OwnSection
from engine.report.page import Chart, Column, Fact, Table, View
from engine.spec.catalog import packaged_root

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

Mode = Literal["screen", "pdf"]

_LINE_LETTERS: Final = 180
"""Letters that a table has room for on a page on its side."""
_PRINT_COLUMNS: Final = 14


_SHAPES: Final = frozenset(
    {
        "svg",
        "g",
        "path",
        "line",
        "rect",
        "text",
        "tspan",
        "circle",
        "defs",
        "clipPath",
        "linearGradient",
        "stop",
        "title",
    }
)
_ATTRIBUTES: Final = frozenset(
    {
        "class",
        "clip-path",
        "clipPathUnits",
        "cx",
        "cy",
        "d",
        "display",
        "dominant-baseline",
        "dx",
        "dy",
        "fill",
        "fill-opacity",
        "font-family",
        "font-size",
        "font-style",
        "font-weight",
        "gradientUnits",
        "height",
        "href",
        "id",
        "offset",
        "opacity",
        "pointer-events",
        "r",
        "role",
        "rx",
        "ry",
        "stop-color",
        "stop-opacity",
        "stroke",
        "stroke-dasharray",
        "stroke-dashoffset",
        "stroke-linecap",
        "stroke-linejoin",
        "stroke-miterlimit",
        "stroke-opacity",
        "stroke-width",
        "text-anchor",
        "transform",
        "version",
        "viewBox",
        "width",
        "x",
        "x1",
        "x2",
        "y",
        "y1",
        "y2",
    }
)


def render_page(
    view: View, svgs: Mapping[str, str], *, mode: Mode, bundle: str = "", added: Sequence[OwnSection] = ()
) -> str:
    """The whole document: for the screen with scripts (`bundle` is Vega's), for the PDF without."""
    from markupsafe import Markup

    css = asset("report.css") + _paper(view.page)
    script = asset("report.js") if mode == "screen" else ""
    main = [i for i, column in enumerate(view.points.columns) if not column.optional]
    return (
        page_templates()
        .get_template("report/page.html")
        .render(
            view=view,
            mode=mode,
            css=trusted(css),
            bundle=trusted(bundle),
            script=trusted(script),
            csp=policy(css, bundle, script),
            data=trusted(packed_data(script_json(page_data(view)))) if mode == "screen" else "",
            svgs={chart.name: trusted(_still(chart, svgs)) for chart in view.charts}
            if mode == "screen"
            else {},
            defined={definition.name: definition for definition in view.definitions},
            filters=_filters(view),
            main_columns=main,
            print_columns=_on_paper(view.best, main),
            column_shares=_column_shares,
            more="the workbook has all of them"
            if mode == "screen"
            else "the HTML report and the workbook have all of them",
            row_kind=_row_kind,
            added=[(one.name, one.title, Markup(one.body)) for one in added],  # noqa: S704 - cleaned by `own`
        )
    )


def trusted(text: str) -> Markup:
    """Text of this package, or drawn and checked by it, that is not escaped again."""
    from markupsafe import Markup

    if "</script" in text.lower() or "</style" in text.lower():
        raise ReportError("an embedded asset would end its own element")
    return Markup(text)  # noqa: S704 - packaged files, checked SVG and escaped JSON only


def _still(chart: Chart, svgs: Mapping[str, str]) -> str:
    """The drawing as one picture with one description; the marks have none, the table beneath holds them."""
    svg = _checked(chart.name, svgs[chart.name])
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(chart.alt, quote=True)}" ', 1)


def _checked(name: str, svg: str) -> str:
    """The drawing, if it is nothing but shapes and text."""
    # Labels are escaped by the renderer; this makes sure of it for whatever version is installed. Without a
    # document type there are no entities that could expand.
    import xml.etree.ElementTree as ET

    if "<!" in svg:
        raise ReportError(f"chart `{name}` holds more than shapes and text")
    try:
        root = ET.fromstring(svg)  # noqa: S314 - drawn by vl-convert, entities are refused above
    except ET.ParseError as err:
        raise ReportError(f"chart `{name}` is not well-formed: {err}") from err
    for element in root.iter():
        plain = all(key.split("}")[-1] in _ATTRIBUTES or key.startswith("aria-") for key in element.attrib)
        inner = all(v.startswith("#") for key, v in element.attrib.items() if key.split("}")[-1] == "href")
        if element.tag.split("}")[-1] not in _SHAPES or not plain or not inner:
            raise ReportError(f"chart `{name}` holds more than shapes and text")
    return svg


def page_templates() -> Environment:
    """The packaged templates: autoescaped, and an unknown name is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(packaged_root() / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groupby_kept"] = _grouped
    environment.filters["lower_first"] = _lower_first
    environment.filters["code"] = _with_code
    return environment


def _grouped(facts: Iterable[Fact]) -> list[tuple[str, list[Fact]]]:
    """Facts by group, in order of appearance."""
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.group, []).append(fact)
    return list(groups.items())


def asset(name: str, folder: str = "report") -> str:
    """A packaged style sheet or script."""
    return (packaged_root() / "templates" / folder / name).read_text(encoding="utf-8")


def _paper(page: str) -> str:
    return f"@page {{ size: {page}; }}\n@page wide {{ size: {page} landscape; }}\n"


def policy(css: str, *scripts: str) -> str:
    """The content security policy: this style, these scripts, and nothing from anywhere."""
    allowed = " ".join(_hash(script) for script in scripts if script) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(css)}; img-src data:; base-uri "
        "'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _row_kind(table: Table, row: int) -> str:
    """`off` for a point without a result."""
    if table.name != "points":
        return ""
    place = next((i for i, column in enumerate(table.columns) if column.name == "status"), None)
    return "" if place is None or table.rows[row][place] in ("ok", None) else "off"


def _on_paper(table: Table, main: Sequence[int]) -> list[int]:
    """Columns that fit across a page: the first ones, and the last, which says what became of a point."""
    if len(main) <= _PRINT_COLUMNS:
        return list(main)
    status = [i for i in main if table.columns[i].name == "status"]
    return [i for i in main if i not in status][: _PRINT_COLUMNS - len(status)] + status


def _column_shares(table: Table, shown: Sequence[int], limit: int) -> list[float]:
    """Width of each column in percent: no word is broken where that can be had, and what is left goes to the
    columns that want more. Asking every cell again takes WeasyPrint most of its time."""
    needed, wanted = [], []
    for j in shown:
        column = table.columns[j]
        texts = [table.text(i, j) for i in range(min(limit, len(table.rows)))]
        head = f"{column.label} {column.scale.unit}".split()
        # A number stays with its unit and its band.
        between = "\n" if column.align == "number" else None
        word = max(
            max((len(word) for word in head), default=1) * 1.35,  # bold
            max((len(word) for text in texts for word in text.split(between)), default=1),
            3,
        )
        needed.append(min(word, 28) + 2)
        # Formulas and notes wrap well.
        wanted.append(max(needed[-1], min(max(map(len, texts), default=1), 28) + 2))
    more = sum(wanted) - sum(needed)
    share = min(1.0, max(0.0, _LINE_LETTERS - sum(needed)) / more) if more else 0.0
    widths = [least + share * (most - least) for least, most in zip(needed, wanted, strict=True)]
    total = sum(widths)
    return [round(100 * width / total, 2) for width in widths]


def _lower_first(label: str) -> str:
    """A label inside a sentence; acronyms keep their capitals."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


def _with_code(text: str) -> Markup:
    """Text whose names in backticks are set as code; an odd backtick is one of the text."""
    from markupsafe import Markup, escape

    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    marked = [
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    ]
    return Markup("").join(marked)


def _filters(view: View) -> list[tuple[str, str, list[str]]]:
    """Axes a reader may narrow everything to: devices and number formats with at most 40 values, the empty
    one for points of which it is not known."""
    found = []
    for name, title in (("hardware", "Device"), ("quantization", "Number format")):
        place = next((i for i, column in enumerate(view.points.columns) if column.name == name), None)
        if place is None:
            continue
        values = list(dict.fromkeys(str(row[place] or "") for row in view.points.rows))
        if 1 < len(values) <= 40:
            found.append((name, title, values))
    return found


def page_data(view: View) -> dict[str, Any]:
    """What the page's script works with: exact values of the tables, descriptions of the charts."""
    tables = [view.points, *(table for section in view.sections for table in section.tables)]
    return {
        "name": view.name,
        "tables": {table.name: _table_data(table) for table in tables},
        "charts": {chart.name: _chart_data(chart) for chart in view.charts},
        "only": {chart.name: dict(chart.only) for chart in view.charts if chart.only},
        "config": view.charts[0].spec["config"] if view.charts else {},
    }


def _chart_data(chart: Chart) -> dict[str, Any]:
    return {
        key: value for key, value in chart.spec.items() if key not in ("config", "$schema", "description")
    }


def _table_data(table: Table) -> dict[str, Any]:
    """A table column by column: a column of one value is that value, texts are places in a list of texts."""
    units = table.units or tuple("" for _ in table.columns)
    columns = [_column_data(column, unit) for column, unit in zip(table.columns, units, strict=True)]
    for i, column in enumerate(columns):
        column.update(_packed([_json_value(row[i]) for row in table.rows]))
        between = [row[i] for row in table.intervals] if table.intervals else []
        if any(between):
            column["intervals"] = [None if b is None else [_json_value(end) for end in b] for b in between]
    return {"title": table.title, "size": len(table.rows), "columns": columns}


def _packed(values: list[Any]) -> dict[str, Any]:
    if values and all(value == values[0] and type(value) is type(values[0]) for value in values):
        return {"same": values[0]}
    if any(isinstance(value, str) for value in values):
        texts: dict[Any, int] = {}
        places = [texts.setdefault(value, len(texts)) for value in values]
        return {"texts": list(texts), "places": places}
    return {"values": values}


def _column_data(column: Column, unit: str) -> dict[str, Any]:
    return {
        "name": column.name,
        "label": column.label,
        "unit": column.scale.unit,
        "base": unit,
        "factor": column.scale.factor,
        "decimals": column.scale.decimals,
        "number": column.align == "number",
        "optional": column.optional,
        "each": [list(pair) for pair in prefixes(column.scale.each)],
        "metric": column.metric,
        "meaning": column.meaning,
    }


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.10g}") if math.isfinite(value) else None
    return value


# `</script>` ends the element whatever the JSON says; the two separators end a JavaScript line.
_ESCAPES: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


_PLAIN_CHARACTERS: Final = 1_000_000
"""Data beyond this is compressed: a large run otherwise makes a page that no mail server takes."""


def packed_data(text: str) -> str:
    """The JSON itself, or gzip in base64 where it is long; the first letter tells which."""
    if len(text) <= _PLAIN_CHARACTERS:
        return text
    # No time and no name in the header: the same data gives the same bytes.
    return base64.b64encode(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0)).decode("ascii")


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escaped in _ESCAPES.items():
        text = text.replace(character, escaped)
    return text
