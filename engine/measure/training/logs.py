"""Training logs: progress bars, key=value lines, JSON lines and TensorBoard events as steps.

A value is read whole, exponent and all; a value that cannot be used is counted and left out. Equal values in
a row are kept: a constant throughput is a throughput.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from engine.errors import MeasurementError

if TYPE_CHECKING:
    from engine.measure.training.tensorboard import Events

LONGEST_LINE: Final = 65_536
_NUMBER: Final = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf(?:inity)?)"
_PAIR: Final = re.compile(
    rf"""['"]?([A-Za-z_][\w./-]{{0,80}})['"]?\s{{0,3}}[=:]\s{{0,3}}['"]?({_NUMBER})(,\d+(?:\.\d+)?)*(?![\w.])""",
    re.IGNORECASE,
)
"""A name and its number; the third group is what follows a comma without a space, as in `2,05` or `2,000`."""
_BAR: Final = re.compile(r"(\d+)%\|[^|]*\|\s*(\d+)/(\d+|\?)\s*\[([\d:]+)<")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?")

NAMES: Final = {
    "training_loss": ("reduced_train_loss", "train_loss", "training_loss", "loss"),
    "learning_rate": ("learning_rate", "lr"),
    "sequences_per_s": (
        "throughput", "sequences_per_s", "seq_per_s", "throughput_seq_per_sec", "seq_per_second",
        "samples_per_second", "train_samples_per_second",
    ),
    "step": ("global_step", "step", "iteration", "iter"),
    "step_s": ("step_time", "step_time_s", "time_per_step", "seconds_per_step"),
    "gradient_norm": ("gradient_norm", "grad_norm"),
    "consumed_samples": ("consumed_samples",),
    "clock_s": ("wall_time", "_timestamp"),
}  # fmt: skip
"""Our name -> names in logs, the preferred one first."""
FORMS: Final = ("progress bar", "key=value", "json lines", "tensorboard")
ABOVE_ZERO: Final = ("sequences_per_s", "step_s")
"""What some frameworks print as 0 before they have measured it."""
_SUMMARY: Final = "train_runtime"
"""Marks a trainer's closing line: its loss is the mean of the run, not that of a last step."""


@dataclass(frozen=True)
class Step:
    """What one line says; None where it says nothing."""

    line: int
    """Line of the log, or position of the event."""
    step: int | None = None
    elapsed_s: float | None = None
    """Seconds since the start of the progress bar, else since the first time the log states."""
    training_loss: float | None = None
    learning_rate: float | None = None
    sequences_per_s: float | None = None
    step_s: float | None = None
    """Seconds of one step."""
    gradient_norm: float | None = None
    consumed_samples: float | None = None


@dataclass(frozen=True)
class TrainingLog:
    """A log, read."""

    path: Path
    form: str
    """Kind of line most steps came from, of `FORMS`."""
    steps: tuple[Step, ...]
    first_time: datetime | None
    last_time: datetime | None
    lines: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How often a value could not be used, by name: not finite, not above 0, or with a comma in it."""
    notes: tuple[str, ...] = ()
    """What a reader must know."""

    def after_warmup(self, steps: int) -> tuple[Step, ...]:
        """The steps without those in the first `steps` steps of the run; lines where none is numbered."""
        numbered = [s.step for s in self.steps if s.step is not None]
        if not numbered:
            return self.steps[steps:]
        first = numbered[0]
        return tuple(s for s in self.steps if s.step is not None and s.step - first >= steps)


def read_log(path: Path) -> TrainingLog:
    """The steps of a log file or TensorBoard folder; raises `MeasurementError` when there is none."""
    from engine.measure.training import tensorboard

    if path.is_dir() or tensorboard.is_event_file(path):
        return _from_events(path, tensorboard.read_events(path))
    try:
        with path.open("r", encoding=_encoding(path), errors="replace", newline=None) as stream:
            return _from_lines(path, stream)
    except OSError as err:
        raise MeasurementError(f"`{path}` cannot be read: {(err.strerror or str(err)).lower()}") from err


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _from_lines(path: Path, stream: TextIO) -> TrainingLog:
    found: list[tuple[str, Step]] = []
    left_out: dict[str, int] = {}
    times: list[datetime] = []
    count = 0
    # Universal newlines split at carriage returns too: progress bars overwrite their line.
    for count, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE), ""), start=1):
        time = _time(line)
        times = [times[0], time] if times and time else times or ([time] if time else [])
        bar = _BAR.search(line)
        form, values = _values(line, bar)
        known = _known(values, left_out)
        if known:
            if time is not None:
                known = {"clock_s": (time - times[0]).total_seconds()} | known
            found.append((form, _step(count, known, bar)))
    if not found:
        raise MeasurementError(
            f"`{path}` holds no training step", hint="looked for loss, lr, throughput and step in every line"
        )
    forms = Counter(form for form, _ in found)
    # The clock of a progress bar and that of other lines start apart: only one of them is used.
    mixed = FORMS[0] in forms and len(forms) > 1
    steps = [replace(step, elapsed_s=None) if mixed and form != FORMS[0] else step for form, step in found]
    form = forms.most_common(1)[0][0]
    return TrainingLog(
        path, form, tuple(_with_step_times(steps)), times[0] if times else None,
        times[-1] if times else None, count, left_out,
    )  # fmt: skip


def _values(line: str, bar: re.Match[str] | None) -> tuple[str, dict[str, float]]:
    """Kind of line and the numbers it names."""
    text = line.strip()
    if text[:1] == "{" and text[-1:] == "}":
        try:
            found: Any = json.loads(text)
        except (ValueError, RecursionError):
            found = None  # the repr of a mapping, as some trainers print; its pairs are found below
        if isinstance(found, dict):
            numbers = {k: float(v) for k, v in found.items() if _is_number(v)}
            return FORMS[2], numbers
        return FORMS[1], _pairs(text)
    return (FORMS[0], _pairs(line[bar.end() :])) if bar else (FORMS[1], _pairs(text))


def _pairs(text: str) -> dict[str, float]:
    """Numbers by name; NaN for `2,05` and `2,000`, which different countries read differently."""
    return {name: math.nan if comma else float(value) for name, value, comma in _PAIR.findall(text)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _known(values: Mapping[str, float], left_out: dict[str, int]) -> dict[str, float]:
    """Values under our names; a line that has only a step number says nothing."""
    short = {name.rsplit("/", 1)[-1].lower(): value for name, value in values.items()}
    found: dict[str, float] = {}
    for ours, names in NAMES.items():
        value = next((short[name] for name in names if name in short), None)
        if value is None or (_SUMMARY in short and ours == "training_loss"):
            continue
        if math.isfinite(value) and (value > 0 or ours not in ABOVE_ZERO):
            found[ours] = value
        else:
            left_out[ours] = left_out.get(ours, 0) + 1
    return found if set(found) - {"step", "consumed_samples", "clock_s"} else {}


def _step(line: int, known: Mapping[str, float], bar: re.Match[str] | None) -> Step:
    step = known.get("step", float(bar[2]) if bar else None)
    return Step(
        line,
        int(step) if step is not None and abs(step) < 2**53 else None,
        _seconds(bar[4]) if bar else known.get("clock_s"),
        known.get("training_loss"),
        known.get("learning_rate"),
        known.get("sequences_per_s"),
        known.get("step_s"),
        known.get("gradient_norm"),
        known.get("consumed_samples"),
    )


def _seconds(text: str) -> float | None:
    parts = text.split(":")
    if len(parts) > 3 or not all(part.isdigit() and len(part) < 10 for part in parts):
        return None
    total = 0
    for part in parts:
        total = total * 60 + int(part)
    return float(total)


def _with_step_times(steps: list[Step]) -> Iterator[Step]:
    """Steps with the seconds of a step from the log's clock, where no line says it itself."""
    start = next((s.elapsed_s for s in steps if s.elapsed_s is not None and s.elapsed_s > 1e8), 0.0)
    before: Step | None = None
    for step in steps:
        elapsed = None if step.elapsed_s is None else step.elapsed_s - start
        found = step.step_s
        if found is None and before is not None and elapsed is not None and before.elapsed_s is not None:
            passed = (step.step or 0) - (before.step or 0)
            if passed > 0 and elapsed >= before.elapsed_s:
                found = (elapsed - before.elapsed_s) / passed
        shown = replace(step, elapsed_s=elapsed, step_s=found)
        yield shown
        before = shown if elapsed is not None else before


def _time(line: str) -> datetime | None:
    """The first time a line states."""
    match = _TIME.search(line)
    if match is None:
        return None
    try:
        moment = datetime.fromisoformat(f"{match[1]} {match[2]}")
    except ValueError:
        return None
    return moment.replace(microsecond=int((match[3] or "0").ljust(6, "0")))


def _from_events(path: Path, events: Events) -> TrainingLog:
    left_out: dict[str, int] = {}
    steps = []
    for number, (step, values) in enumerate(sorted(events.scalars.items()), start=1):
        clock = {"wall_time": events.times[step]} if step in events.times else {}
        known = _known({**values, **clock, "step": float(step)}, left_out)
        if known:
            steps.append(_step(number, known, None))
    if not steps:
        raise MeasurementError(f"`{path}` holds no loss, learning rate or throughput")
    first, last = (
        datetime.fromtimestamp(end(events.times.values()), tz=UTC) if events.times else None
        for end in (min, max)
    )
    return TrainingLog(
        path, FORMS[3], tuple(_with_step_times(steps)), first, last, len(events.scalars), left_out,
        events.notes,
    )  # fmt: skip
