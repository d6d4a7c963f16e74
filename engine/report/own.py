"""A user's own sections: templates rendered in a sandbox, in a process with limits on time, memory and size.

`report.templates: DIR` in a spec names a folder. Each `NAME.html` in it becomes a section of that name after
the packaged ones, in the order of the names; its first heading-free line `{# title: ... #}` gives the title.
Templates see `report`, plain data of everything the report shows, and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

from engine.errors import ReportError
from engine.report.page import View
from engine.report.pdf import child_environment

SECONDS: Final = 10
MEMORY_BYTES: Final = 512 * 2**20
MOST_CHARACTERS: Final = 1_000_000
"""Characters that all own sections may make together."""
_MOST_FILES: Final = 20
_TEMPLATE_BYTES: Final = 200_000
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_TITLE: Final = re.compile(r"\{#\s*title:\s*(.{1,120}?)\s*#\}")


@dataclasses.dataclass(frozen=True)
class OwnSection:
    """One rendered and cleaned section."""

    name: str
    title: str
    body: str


def own_sections(view: View, folder: Path) -> list[OwnSection]:
    """Render every template of a folder; raises `ReportError` naming the template and its line."""
    files = _templates(folder)
    if not files:
        return []
    given = {
        "templates": files,
        "report": report_data(view),
        "most": MOST_CHARACTERS,
        "memory": MEMORY_BYTES,
    }
    answer = _rendered(given, folder)
    return [
        OwnSection(f"own-{name}", _title(name, files[name]), cleaned(answer[name])) for name in sorted(answer)
    ]


def report_data(view: View) -> dict[str, Any]:
    """The view as plain values: what a template may look at."""
    points = view.points
    return {
        "title": view.title,
        "description": view.description,
        "verdict": view.verdict,
        "verdict_basis": view.verdict_basis,
        "tiles": [dataclasses.asdict(tile) for tile in view.tiles],
        "notices": [dataclasses.asdict(notice) for notice in view.notices],
        "counts": dict(view.counts),
        "points": [
            {column.name: value for column, value in zip(points.columns, row, strict=True)}
            for row in view.points.rows
        ],
        "findings": [dataclasses.asdict(finding) for finding in view.findings],
        "assumptions": [dataclasses.asdict(row) for row in view.assumptions],
        "provenance": [dataclasses.asdict(fact) for fact in view.provenance],
        "fingerprint": view.fingerprint,
        "version": view.version,
        "made_utc": view.made.isoformat(),
    }


def _templates(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        raise ReportError(f"`report.templates` names `{folder}`, which is no folder")
    root = folder.resolve()
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.html")):
        if not _NAME.fullmatch(path.stem):
            raise ReportError(f"`{path.name}`: a section's name is made of a-z, 0-9 and `-`")
        # A link out of the folder would print a file that the spec's author may not read.
        if path.is_symlink() or not path.resolve().is_relative_to(root):
            raise ReportError(f"`{path.name}` is a link; templates are plain files")
        if path.stat().st_size > _TEMPLATE_BYTES:
            raise ReportError(f"`{path.name}` is larger than {_TEMPLATE_BYTES:,} bytes")
        found[path.stem] = path.read_text(encoding="utf-8")
    if len(found) > _MOST_FILES:
        raise ReportError(f"`{folder}` holds more than {_MOST_FILES} templates")
    return found


def _title(name: str, text: str) -> str:
    match = _TITLE.search(text)
    return match[1] if match else name.replace("-", " ").capitalize()


def _rendered(given: dict[str, Any], folder: Path) -> dict[str, str]:
    """What the child made of the templates."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "engine.report.sandbox"],
            input=json.dumps(given).encode("utf-8"),
            capture_output=True,
            timeout=SECONDS,
            check=False,
            env=child_environment(),
        )
    except subprocess.TimeoutExpired:
        raise ReportError(f"templates in `{folder}` took longer than {SECONDS} s and were given up") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1][:300] if lines else f"exit code {done.returncode} (out of memory?)"
        raise ReportError(f"templates in `{folder}` failed: {reason}")
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


_ALLOWED: Final = frozenset(
    {
        "a", "abbr", "b", "blockquote", "br", "caption", "cite", "code", "dd", "del", "details", "div",
        "dl", "dt", "em", "figcaption", "figure", "h3", "h4", "h5", "hr", "i", "ins", "kbd", "li", "ol",
        "p", "pre", "q", "s", "section", "small", "span", "strong", "sub", "summary", "sup", "table",
        "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul", "var",
    }
)  # fmt: skip
_VOID: Final = frozenset({"br", "hr"})
_KEPT: Final = frozenset({"class", "colspan", "rowspan", "scope", "title"})
_SILENT: Final = frozenset({"script", "style", "template", "iframe", "object", "svg", "math", "noscript"})


def cleaned(text: str) -> str:
    """HTML that only lays out text: no scripts, no styles, no pictures, no links but inner ones."""
    cleaner = _Cleaner()
    cleaner.feed(text)
    cleaner.close()
    return cleaner.result()


class _Cleaner(HTMLParser):
    """Writes allowed elements again, closes what was left open, drops the rest and keeps its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._out: list[str] = []
        self._open: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        from html import escape

        if tag in _SILENT:
            self._silent += 1
        if self._silent or tag not in _ALLOWED:
            return
        kept = [
            (n, v or "")
            for n, v in attrs
            if n in _KEPT or (tag == "a" and n == "href" and (v or "").startswith("#"))
        ]
        self._out.append("<" + tag + "".join(f' {n}="{escape(v)}"' for n, v in kept) + ">")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        if self._silent or tag not in self._open:
            return
        while self._open:
            closed = self._open.pop()
            self._out.append(f"</{closed}>")
            if closed == tag:
                return

    def handle_data(self, data: str) -> None:
        from html import escape

        if not self._silent:
            self._out.append(escape(data))

    def result(self) -> str:
        """The clean text with every element closed."""
        return "".join(self._out) + "".join(f"</{tag}>" for tag in reversed(self._open))
