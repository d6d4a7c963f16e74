"""Power through the program nvidia-smi: no energy counter, so energy is always integrated power."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure.energy.smi_text import query_columns, query_row
from engine.measure.energy.source import WAY_OUT, Metered, Quick, Reading

WANTED: Final = (
    ("timestamp",), ("index",), ("uuid",), ("name",), ("power.draw.instant",), ("power.draw.average",),
    ("power.draw",), ("temperature.gpu",), ("utilization.gpu",), ("utilization.memory",), ("memory.used",),
    ("clocks.sm", "clocks.current.sm"), ("clocks.mem", "clocks.current.memory"),
    ("clocks_event_reasons.active", "clocks_throttle_reasons.active"),
)  # fmt: skip
"""Fields to ask for, with older names; one unknown field would fail the whole query."""
_ANSWER_S: Final = 20.0


def offered_fields(help_text: str) -> set[str]:
    """Names that `nvidia-smi --help-query-gpu` lists: each in quotes, alone or with others."""
    return set(re.findall(r'"([a-z_][a-z0-9_.]*)"', help_text))


def chosen_fields(offered: set[str]) -> list[str]:
    """The wanted fields that this version has, each under the newest of its names."""
    found = (next((name for name in names if name in offered), None) for names in WANTED)
    return [name for name in found if name is not None]


class NvidiaSmi:
    """One long-running query; each reading is the next row of every device."""

    name = "nvidia-smi"

    def __init__(self, *, uuids: Sequence[str] | None = None, interval_s: float = 0.1) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._interval_s = interval_s
        self._fields = chosen_fields(offered_fields(_ask("--help-query-gpu")))
        if "power.draw" not in self._fields and "power.draw.instant" not in self._fields:
            raise EnvironmentMissing("nvidia-smi offers no power reading", hint=WAY_OUT)
        self._devices = self._identify(uuids)
        self._columns: list[tuple[str, str]] = []

    @property
    def devices(self) -> tuple[Metered, ...]:
        """The devices that count."""
        return self._devices

    def keep(self, uuids: Collection[str]) -> None:
        """See `PowerSource`."""
        self._devices = tuple(device for device in self._devices if device.uuid in uuids)

    def _identify(self, uuids: Sequence[str] | None) -> tuple[Metered, ...]:
        rows = [
            line.split(",")
            for line in _ask("--query-gpu=index,uuid,name", "--format=csv,noheader").splitlines()
        ]
        found = [
            Metered(uuid=row[1].strip(), index=int(row[0]), name=",".join(row[2:]).strip())
            for row in rows
            if len(row) >= 3 and row[0].strip().isdigit()
        ]
        if uuids is not None:
            missing = [uuid for uuid in uuids if uuid not in {device.uuid for device in found}]
            if missing:
                raise EnvironmentMissing(f"nvidia-smi knows no device `{missing[0]}`", hint=WAY_OUT)
            found = [device for device in found if device.uuid in uuids]
        if not found:
            raise EnvironmentMissing("nvidia-smi sees no device", hint=WAY_OUT)
        return tuple(found)

    def read(self, *, slow: bool = True) -> list[Reading]:
        """The next row of each device; waits for it, and raises `MeasurementError` when the program ended."""
        found: dict[str, Reading] = {}
        wanted = {device.uuid for device in self.devices}
        while len(found) < len(wanted):
            cells = [cell.strip() for cell in self._line().split(",")]
            if len(cells) != len(self._columns):
                continue
            row = query_row(self._columns, cells)
            if row is not None and row[0] in wanted:
                found[row[0]] = {**row[2], "time_s": _moment(row[1])}
        return [found[device.uuid] for device in self.devices]

    def _line(self) -> str:
        if self._process is None:
            self._process = subprocess.Popen(
                ["nvidia-smi", f"--query-gpu={','.join(self._fields)}", "--format=csv",
                 f"-lms={max(10, round(self._interval_s * 1e3))}"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            self._columns = query_columns(self._next())
        return self._next()

    def _next(self) -> str:
        stream = self._process.stdout if self._process else None
        line = stream.readline() if stream else ""
        if not line:
            raise MeasurementError("nvidia-smi ended in the middle of the measurement")
        return line.rstrip("\n")

    def quick(self, *, slow: bool = False) -> Quick:
        """Nothing: a row takes as long as the interval, which a loop cannot wait for."""
        return Quick(None, None)

    def users(self) -> dict[str, set[int]]:
        """See `PowerSource`."""
        found: dict[str, set[int]] = {device.uuid: set() for device in self._devices}
        for line in _ask("--query-compute-apps=pid,gpu_uuid", "--format=csv,noheader").splitlines():
            pid, _, uuid = (cell.strip() for cell in line.partition(","))
            if pid.isdigit() and uuid in found:
                found[uuid].add(int(pid))
        return found

    def close(self) -> None:
        """End the program."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _moment(stamp_s: float) -> float:
    """A time stamp of the program on this machine's monotonic clock: rows may wait in a pipe."""
    now = datetime.now().replace(tzinfo=UTC).timestamp()  # noqa: DTZ005 - it writes local time without a zone
    return time.perf_counter() - (now - stamp_s)


def _ask(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
    except FileNotFoundError as err:
        raise EnvironmentMissing("the program `nvidia-smi` is not there", hint=WAY_OUT) from err
    except (OSError, subprocess.TimeoutExpired) as err:
        raise EnvironmentMissing(f"`nvidia-smi` does not answer: {err}", hint=WAY_OUT) from err
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise EnvironmentMissing(f"`nvidia-smi` failed: {said[0] if said else done.returncode}", hint=WAY_OUT)
    return done.stdout
