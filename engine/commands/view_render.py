"""Reports and comparisons for `engine view`, made by the engine's own commands in a process of their own.

A report loads libraries of some hundred megabytes and keeps a core busy for seconds: apart, it cannot make
the list slow, and whatever a strange run does to it ends with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.results.listing import RunEntry


def report_command(
    entry: RunEntry, folder: Path, *, formats: Sequence[str] = ("html",), share: bool = False
) -> list[str]:
    """Arguments of Python that write the reports of a run into a folder."""
    command = ["-m", "engine", "--quiet", "report", str(entry.folder.resolve()), "-o", str(folder.resolve())]
    return [*command, "--formats", ",".join(formats), *(["--share"] if share else [])]


def compare_command(entries: Sequence[RunEntry], folder: Path, *, ignored: str = "") -> list[str]:
    """Arguments of Python that write `compare.html` into a folder; the first run is the baseline.

    `ignored` are fields in which points may differ, comma-separated.
    """
    runs = [str(entry.folder.resolve()) for entry in entries]
    # Who ticks a run that goes on wants to see how far it came.
    partial = ["--partial"] if any(entry.state in ("running", "unfinished") for entry in entries) else []
    options = ["--formats", "html", "-o", str(folder.resolve()), *partial]
    options += ["--ignore", ignored] if ignored else []
    return ["-m", "engine", "--quiet", "compare", *runs, *options]


def reason_of(said: bytes) -> tuple[str, str | None]:
    """(reason, hint) from what a command printed when it failed."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    for i, line in enumerate(lines):
        if line.startswith("error: "):
            hint = lines[i + 1].strip() if len(lines) > i + 1 and lines[i + 1].startswith("  ") else None
            return line.removeprefix("error: "), hint
    return (lines[-1] if lines else "it ended without a word"), None
