"""macOS powermetrics: its text, and CSV files derived from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from engine.measure.run_folder.delimited import split
from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import number
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.recorder import Recorder
from engine.measure.run_folder.text import Source, lines
from engine.spec.run_folder import RunFolderSettings

_SAMPLE: Final = re.compile(r"\*\*\* Sampled system activity \((.*?)\) \(([0-9.]+) ?ms elapsed\) \*\*\*")
_POWER: Final = re.compile(
    r"^\s*(CPU Power|GPU Power|ANE Power|Combined Power[^:]*|Package Power)\s*:\s*([0-9.]+) ?(m?W)\b"
)
_TAGGED: Final = re.compile(r"^[^,]{1,200},[0-9.]+,[0-9.]+,[0-9.]+,[0-9.]+,[0-9.]+\s*$")
_INFERENCE: Final = re.compile(r"infer|generat|decod|prefill|prompt", re.IGNORECASE)
_NAMED: Final = re.compile(r"^event,timestamp,.*,ALL_TASKS,cpu,gpu\s*$", re.IGNORECASE)


def sniff_text(source: Source) -> bool:
    """Whether a sample of powermetrics stands near the start."""
    return bool(_SAMPLE.search(source.head))


def read_text(source: Source, settings: RunFolderSettings) -> Read:
    """Chip power; each sample is the mean over the interval before it, which its header names."""
    start = _start(source)
    recorder = Recorder(zone="none" if start is None else "utc", held=True)
    clock = start or 0.0
    parts: dict[str, float] = {}
    samples = 0
    for _, line in lines(source):
        if found := _SAMPLE.search(line):
            samples += _close(recorder, clock, parts, start or 0.0)
            if samples == 0 and not parts:
                clock = start or 0.0
            clock += float(found.group(2)) / 1e3
            parts = {}
        elif found := _POWER.match(line):
            # `GPU Power` stands twice in a sample; the second, in the part on GPU usage, differs slightly.
            watts = float(found.group(2)) * (1e-3 if found.group(3) == "mW" else 1.0)
            parts.setdefault(found.group(1).split("(")[0].strip(), watts)
    samples += _close(recorder, clock, parts, start or 0.0)
    return Read(traces=recorder.finish(), rows_read=samples, notes=recorder.notes())


def _start(source: Source) -> float | None:
    """When the first interval began, in s since 1970; None where the date of its end cannot be read."""
    found = _SAMPLE.search(source.head)
    try:
        end = datetime.strptime(found.group(1).strip(), "%a %b %d %H:%M:%S %Y %z") if found else None
    except ValueError:
        return None
    return None if found is None or end is None else end.timestamp() - float(found.group(2)) / 1e3


def _close(recorder: Recorder, clock: float, parts: dict[str, float], start: float) -> int:
    total = parts.get("Combined Power", parts.get("Package Power"))
    if total is None:
        total = sum(parts.values()) if parts else None
    if total is None:
        return 0
    if recorder.readings == 0:  # the first interval has a beginning too
        recorder.add("power", "soc", "", start, total)
    recorder.add("power", "soc", "", clock, total)
    return 1


def sniff_derived(source: Source) -> bool:
    """Whether every first line is a tag and five numbers, or the header of such a table is there."""
    first = source.first_lines(3)
    return bool(first) and (
        bool(_NAMED.match(first[0])) or (len(first) > 1 and all(_TAGGED.match(line) for line in first))
    )


def read_derived(source: Source, settings: RunFolderSettings) -> Read:
    """Chip power from columns tag, interval in ms, process, all tasks, CPU mW, GPU mW."""
    recorder = Recorder(zone="none", held=True)
    clock, rows, dropped = 0.0, 0, 0
    tags: dict[str, float] = {}
    lengths: dict[str, float] = {}
    for _, line in lines(source):
        cells = split(line, ",")
        numbers = [number(cell) for cell in cells[1:6]]
        if len(cells) != 6 or numbers[0] is None or numbers[3] is None or numbers[4] is None:
            dropped += bool(line.strip()) and not _NAMED.match(line)
            continue
        seconds, watts = numbers[0] / 1e3, (numbers[3] + numbers[4]) / 1e3
        if not rows:
            recorder.add("power", "soc", "", 0.0, watts)
        clock += seconds
        rows += 1
        recorder.add("power", "soc", "", clock, watts)
        tags[cells[0]] = tags.get(cells[0], 0.0) + seconds * watts
        lengths[cells[0]] = lengths.get(cells[0], 0.0) + seconds
    facts, how = _of_inference(tags, lengths)
    parts = ", ".join(f"{tag} {joules:.4g} J" for tag, joules in list(tags.items())[:8])
    notes = (*recorder.notes(), Note("phases", f"energy by tag: {parts}", "note"))
    return Read(
        traces=recorder.finish(), facts=facts, how=how, rows_read=rows, rows_dropped=dropped, notes=notes
    )


def _of_inference(
    joules: Mapping[str, float], seconds: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, str]]:
    """Energy, time and power of rows tagged as inference, where others are tagged as something else."""
    own = [tag for tag in joules if _INFERENCE.search(tag)]
    time_s = sum(seconds[tag] for tag in own)
    if len(own) == len(joules) or not time_s > 0:
        return {}, {}
    energy = sum(joules[tag] for tag in own)
    facts = {"energy_j": energy, "window_s": time_s, "average_power_w": energy / time_s}
    return facts, dict.fromkeys(facts, f"rows tagged {', '.join(f'`{tag}`' for tag in own[:4])}")


FORMATS = (
    Format("powermetrics text", "macOS powermetrics", sniff_text, read_text),
    Format("powermetrics CSV", "CSV derived from powermetrics", sniff_derived, read_derived),
)
