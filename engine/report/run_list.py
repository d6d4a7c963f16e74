"""The pages of `engine view`: a list of runs and a page for each, the same when served and when exported.

They are written with the report's style sheet and templates and hold a run's texts only after they were
cleaned, as a report does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from engine.errors import StoreError
from engine.report.clean import Redactor, identifying_values
from engine.report.html import asset, page_templates, policy, trusted
from engine.report.numbers import ABSENT
from engine.report.page import Fact
from engine.report.provenance import environment_facts
from engine.results.documents import EXPERIMENT
from engine.results.listing import STATES, RunEntry, failures, files_of
from engine.units import counted

if TYPE_CHECKING:
    import datetime as dt

    from engine.report.page import Tone

Mode = Literal["served", "exported"]

_MOST_FAILURES: Final = 50
_MOST_FILES: Final = 500
_TONES: Final[Mapping[str, Tone]] = {
    "running": "plain",
    "finished": "good",
    "partly failed": "warning",
    "failed": "bad",
    "unfinished": "warning",
    "damaged": "bad",
}


@dataclass(frozen=True)
class Page:
    """A document and the policy that it stands under."""

    text: str
    policy: str


@dataclass(frozen=True)
class Row:
    """A run as the list prints it: cleaned texts and the keys its columns are sorted by."""

    id: str
    stamp: str
    """Changes when anything that is printed does."""
    name: str
    title: str
    verdict: str
    stale: bool
    """The report is older than the results."""
    has_report: bool
    """There is a report, or one can be made."""
    comparable: bool
    """The plan and some results can be read."""
    state: str
    tone: Tone
    progress: str
    """What the state says in numbers: `3 of 10 tasks`."""
    share: float | None
    """Part of the tasks that is done while it runs; None otherwise."""
    reason: str
    kinds: tuple[str, ...]
    points: int | None
    devices: tuple[str, ...]
    models: tuple[str, ...]
    formats: tuple[str, ...]
    when: str
    commit: str
    dirty: bool
    """The spec's repository had changes that were not committed."""
    tags: tuple[str, ...]


def list_page(rows: Sequence[Row], *, name: str, mode: Mode, share: bool = False, advice: str = "") -> Page:
    """The list of runs; `name` is what the folder is called, `advice` what to do where there is no run."""
    return _page(
        "list.html",
        mode=mode,
        name=Redactor(share=share).text(name),
        rows=rows,
        advice=advice,
        counts=counts_text(rows),
        choices=_choices(rows),
        share=share,
        depth="",
    )


def counts_text(rows: Sequence[Row]) -> str:
    """How many runs there are: `3 runs: 1 running, 2 finished.`"""
    by_state = Counter(row.state for row in rows)
    states = ", ".join(f"{by_state[state]:,} {state}" for state in STATES if by_state[state])
    return f"{counted(len(rows), 'run')}: {states}." if rows else "No run yet."


def row_fragments(rows: Sequence[Row]) -> str:
    """Rows alone, for a page that is open while a run goes on."""
    return page_templates().get_template("view/rows.html").render(rows=rows, mode="served")


def run_page(
    entry: RunEntry, files: Sequence[tuple[str, int]], *, mode: Mode, share: bool = False, has_report: bool
) -> Page:
    """The page of one run: what it is, what failed, what it was made with, and its files."""
    redact = _redactor(entry, share)
    row = row_of(entry, share=share)
    return _page(
        "run.html",
        mode=mode,
        row=row,
        has_report=has_report,
        description=redact.text(entry.description or ""),
        holder=_holder(entry, redact),
        failures=_failures(entry, redact),
        facts=_facts(entry, redact),
        files=[_file(path, size, redact) for path, size in files[:_MOST_FILES]],
        more_files=max(0, len(files) - _MOST_FILES),
        spec=redact.text(_spec(entry.folder)),
        share=share,
        depth="../../",
    )


def message_page(
    title: str, message: str, hint: str = "", *, link: tuple[str, str] | None = None, depth: str = ""
) -> Page:
    """A page that says why there is nothing else to see; `link` is (text, address) of the way out."""
    redact = Redactor(share=False)
    return _page(
        "message.html", mode="served", title=title, message=redact.text(message),
        hint=redact.text(hint), link=link, share=False, depth=depth,
    )  # fmt: skip


def row_of(entry: RunEntry, *, share: bool = False) -> Row:
    """One run as it is printed."""
    redact = _redactor(entry, share)

    def texts(values: Iterable[str]) -> tuple[str, ...]:
        return tuple(redact.text(value) for value in values)

    reason = redact.text(entry.reason or "")
    title = redact.text(entry.title or entry.description or "")
    shown: dict[str, Any] = {
        "id": entry.id,
        "name": redact.text(entry.name),
        "title": title,
        "verdict": "" if entry.state == "damaged" else redact.text(entry.verdict or ""),
        "stale": entry.report == "stale",
        "has_report": _has_report(entry),
        "comparable": entry.state != "damaged" and entry.done > 0,
        "state": entry.state,
        "tone": _TONES[entry.state],
        "progress": _progress(entry),
        "share": entry.done / entry.tasks if entry.state == "running" and entry.tasks else None,
        "reason": reason,
        "kinds": texts(kind.replace("_", " ") for kind in entry.kinds),
        "points": entry.points,
        "devices": texts(entry.devices),
        "models": texts(entry.models),
        "formats": texts(entry.formats),
        "when": moment(entry.when),
        "commit": redact.text(entry.commit or "")[:10],
        "dirty": entry.dirty,
        "tags": texts(entry.tags),
    }
    stamp = hashlib.sha256(repr(sorted(shown.items())).encode("utf-8", "replace")).hexdigest()[:12]
    return Row(**shown, stamp=stamp)


def moment(when: dt.datetime | None) -> str:
    """A time as the list prints it; in UTC."""
    return when.strftime("%Y-%m-%d %H:%M") if when else ABSENT


def size_text(size: int) -> str:
    """A file's size for people."""
    if size < 1000:
        return counted(size, "byte")
    return f"{size / 1e3:,.0f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"


def files_to_show(entry: RunEntry) -> list[tuple[str, int]]:
    """Files of a run with their sizes: reports and documents first, results after them."""
    return sorted(
        files_of(entry.folder), key=lambda file: (file[0].count("/") > 1, "/" not in file[0], file[0])
    )


def _has_report(entry: RunEntry) -> bool:
    if entry.state == "damaged":  # it cannot be made again, but may lie there
        return entry.report == "there"
    return entry.report != "absent" or entry.done + entry.failed > 0


def _redactor(entry: RunEntry, share: bool) -> Redactor:
    known = (
        identifying_values(entry.session) | identifying_values(entry.holder or {}, "holder.") if share else {}
    )
    return Redactor(share=share, known=known)


def _page(template: str, *, mode: Mode, **values: Any) -> Page:
    css = asset("report.css") + asset("view.css", "view")
    script = asset("view.js", "view")
    csp = policy(css, script)
    if mode == "served":  # the open page asks for rows that changed, and its form leads to the comparison
        csp = csp.replace("form-action 'none'", "form-action 'self'; connect-src 'self'")
    text = (
        page_templates()
        .get_template(f"view/{template}")
        .render(mode=mode, css=trusted(css), script=trusted(script), csp=csp, **values)
    )
    return Page(text, csp)


def _progress(entry: RunEntry) -> str:
    if not entry.tasks:
        return ""
    if entry.state in ("partly failed", "failed"):
        return f"{entry.failed:,} of {counted(entry.tasks, 'task')} failed"
    if entry.state == "finished":
        return counted(entry.tasks, "task")
    failed = f", {entry.failed:,} failed" if entry.failed else ""
    return f"{entry.done:,} of {counted(entry.tasks, 'task')}{failed}"


def _choices(rows: Sequence[Row]) -> list[tuple[str, str, list[str]]]:
    """Filters that can narrow the list: (name, label, values), those with more than one value."""
    found: list[tuple[str, str, list[str]]] = [
        ("state", "State", [state for state in STATES if any(row.state == state for row in rows)]),
        ("kinds", "Kind", sorted({value for row in rows for value in row.kinds})),
        ("devices", "Device", sorted({value for row in rows for value in row.devices})),
        ("models", "Model", sorted({value for row in rows for value in row.models})),
        ("tags", "Tag", sorted({value for row in rows for value in row.tags})),
    ]
    return [(name, label, values) for name, label, values in found if len(values) > 1]


def _holder(entry: RunEntry, redact: Redactor) -> str:
    if entry.holder is None:
        return ""
    told = {key: redact.entry(key, entry.holder.get(key, "unknown")) for key in ("pid", "host", "since")}
    return f"process {told['pid']} on {told['host']} since {told['since']}"


def _failures(entry: RunEntry, redact: Redactor) -> list[tuple[str, int]]:
    """(reason, how often) of failed tasks, the most frequent first."""
    if not entry.failed:
        return []
    try:
        found = Counter(redact.text(reason) for reason in failures(entry).values())
    except StoreError as err:
        return [(redact.text(err.message), entry.failed)]
    return found.most_common(_MOST_FAILURES)


def _facts(entry: RunEntry, redact: Redactor) -> list[Fact]:
    found = [
        Fact("Run", "Folder", redact.entry("folder", entry.folder)),
        Fact("Run", "Points", ABSENT if entry.points is None else f"{entry.points:,}"),
        Fact("Run", "Tasks", _progress(entry) or ABSENT),
        Fact("Run", "Measurements", redact.text(", ".join(entry.kinds)) or ABSENT),
        Fact("Run", "Models", redact.text(", ".join(entry.models)) or ABSENT),
        Fact("Run", "Devices", redact.text(", ".join(entry.devices)) or ABSENT),
        Fact("Run", "Number formats", redact.text(", ".join(entry.formats)) or ABSENT),
        Fact("Run", "Started (UTC)", moment(entry.started)),
        Fact("Run", "Ended (UTC)", moment(entry.ended)),
        Fact("Run", "Plan", redact.text(entry.fingerprint or ABSENT)),
    ]
    return found + list(environment_facts(entry.session, redact))


def _file(path: str, size: int, redact: Redactor) -> tuple[str, str, str]:
    """(name, address, size) of a file; one whose name may not be printed has no address."""
    shown = redact.text(path)
    return shown, path if shown == path else "", size_text(size)


def _spec(folder: Path) -> str:
    try:
        return (folder / EXPERIMENT).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
