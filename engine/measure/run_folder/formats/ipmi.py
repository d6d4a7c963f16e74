"""`ipmitool dcmi power reading`: power of the whole node, fans and supplies included."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.recorder import Recorder
from engine.measure.run_folder.text import Source, lines
from engine.spec.run_folder import RunFolderSettings

_LINE: Final = re.compile(
    r"^\s*(Instantaneous power reading|Minimum during sampling period|Maximum during sampling period|"
    r"Average power reading over sample period|Sampling period|IPMI timestamp|Power reading state is)"
    r"\s*:\s*(.*?)\s*$"
)


def sniff(source: Source) -> bool:
    """Whether a power reading of DCMI stands near the start."""
    return "Instantaneous power reading" in source.head


def read(source: Source, settings: RunFolderSettings) -> Read:
    """One reading, or a series of them as a trace."""
    blocks: list[dict[str, str]] = []
    for _, line in lines(source):
        if found := _LINE.match(line):
            if found.group(1) == "Instantaneous power reading" or not blocks:
                blocks.append({})
            blocks[-1][found.group(1)] = found.group(2)
    notes = [Note("node-power", "power of the whole node, fans and supplies included", "note")]
    if blocks and not blocks[0].get("Power reading state is", "activated").startswith("activated"):
        notes.append(Note("not-activated", "the node says that its power reading is not activated"))
    if len(blocks) == 1:
        return Read(facts=_facts(blocks[0]), how=_how(blocks[0]), rows_read=1, notes=tuple(notes))
    recorder = Recorder(timed=all(_stamp(block) is not None for block in blocks))
    for i, block in enumerate(blocks):
        watts, stamp = _watts(block, "Instantaneous power reading"), _stamp(block)
        if watts:
            recorder.add(
                "power", "node", "node", stamp if stamp is not None else i * (settings.interval or 1.0), watts
            )
    return Read(traces=recorder.finish(), rows_read=len(blocks), notes=(*notes, *recorder.notes()))


def _watts(block: dict[str, str], label: str) -> float | None:
    found = re.match(r"([0-9.]+) Watts", block.get(label, ""))
    # 0 mostly means that the node cannot say.
    return float(found.group(1)) if found and float(found.group(1)) > 0 else None


def _stamp(block: dict[str, str]) -> float | None:
    text = re.sub(r"\s+", " ", block.get("IPMI timestamp", ""))
    try:
        return datetime.strptime(text, "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _facts(block: dict[str, str]) -> dict[str, float]:
    average, peak = (
        _watts(block, "Average power reading over sample period"),
        _watts(block, "Maximum during sampling period"),
    )
    facts = {"average_power_w": average or _watts(block, "Instantaneous power reading"), "peak_power_w": peak}
    return {metric: value for metric, value in facts.items() if value is not None}


def _how(block: dict[str, str]) -> dict[str, str]:
    period = block.get("Sampling period", "unknown period")
    return {
        "average_power_w": f"node power as printed, over {period}",
        "peak_power_w": f"largest node power as printed, over {period}",
    }


FORMATS = (Format("ipmitool dcmi", "node power reading", sniff, read),)
