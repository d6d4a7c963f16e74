"""A process of its own that reads power at fixed times and writes Parquet, so that no busy interpreter delays
it: polled from a thread beside two busy ones, 20 ms become 62 ms; from a process they stay below 30.

`python -m engine.measure.energy.recorder` with a line of JSON on its input; it ends when that input closes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from engine.errors import EngineError, MeasurementError

if TYPE_CHECKING:
    from engine.measure.energy.source import PowerSource
    from engine.measure.energy.trace import Channel

_ROWS_IN_MEMORY: Final = 2_000
"""Rows kept before they go to disk: a few hundred kilobytes, whatever the length of the measurement."""
_SLOW_S: Final = 0.1
"""Clocks, temperature, memory and use change slowly; each costs a call of its own."""
_START_S: Final = 30.0
_END_S: Final = 30.0
COLUMNS: Final = (
    "time_s", "device", "power_w", "average_power_w", "energy_j", "temperature_c", "utilization",
    "memory_utilization", "memory_used_bytes", "sm_clock_hz", "memory_clock_hz", "throttle",
)  # fmt: skip


@dataclass(frozen=True)
class RecorderReport:
    """What recording cost."""

    rows: int
    seconds: float
    cpu_s: float
    """Processor time of the recorder while it recorded."""
    late: int
    """Readings that came more than one interval late."""

    @property
    def cpu_share(self) -> float:
        """Share of one core."""
        return self.cpu_s / self.seconds if self.seconds > 0 else 0.0


class Recorder:
    """Records from `start` to `stop`; as a context it never leaves a process behind."""

    def __init__(self, source: str, *, uuids: Sequence[str], interval_s: float, folder: Path) -> None:
        self._order = {"source": source, "uuids": list(uuids), "interval_s": interval_s}
        self._path = folder / "samples.parquet"
        self._process: subprocess.Popen[bytes] | None = None
        self.report: RecorderReport | None = None
        self.ready: dict[str, Any] = {}
        """What the process said when it was ready."""

    def __enter__(self) -> Recorder:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            _close(process)

    def start(self) -> None:
        """Return when the first reading is taken; raises `MeasurementError` when there is none."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engine.measure.energy.recorder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        line = json.dumps({**self._order, "path": str(self._path)}).encode()
        _stream(self._process.stdin).write(line + b"\n")
        _stream(self._process.stdin).flush()
        self.ready = self._answer(_START_S)

    def stop(self) -> list[Channel]:
        """End recording; everything that was read, one channel a device."""
        if self._process is None:
            raise MeasurementError("the recorder is not running")
        _stream(self._process.stdin).close()
        said = self._answer(_END_S)
        self.report = RecorderReport(said["rows"], said["seconds"], said["cpu_s"], said["late"])
        self._process.wait(_END_S)
        _close(self._process)
        self._process = None
        return read_channels(self._path, devices=self.ready["names"])

    def _answer(self, seconds: float) -> dict[str, Any]:
        stream = _stream(self._process.stdout if self._process else None)
        if not select.select([stream], [], [], seconds)[0]:
            raise MeasurementError(f"the recorder did not answer within {seconds:g} s")
        line = stream.readline()
        if not line:
            raise MeasurementError("the recorder ended before it was asked to")
        said: dict[str, Any] = json.loads(line)
        if said.get("error"):
            raise MeasurementError(said["error"])
        return said


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise MeasurementError("the recorder is not running")
    return stream


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def read_channels(path: Path, *, devices: Mapping[str, str]) -> list[Channel]:
    """Channels of a file that a recorder wrote; `devices` are UUID -> name in the order it numbered them."""
    import numpy as np
    import pyarrow.parquet as pq

    from engine.measure.energy.trace import channel

    table = pq.read_table(path)
    columns = {name: table[name].to_numpy() for name in COLUMNS}
    found = []
    for number, (uuid, name) in enumerate(devices.items()):
        own = columns["device"] == number
        readings = {q: columns[q][own] for q in COLUMNS[2:] if not np.isnan(columns[q][own]).all()}
        found.append(channel(uuid, columns["time_s"][own], readings, name=name))
    return found


def record(
    source: PowerSource,
    path: Path,
    *,
    interval_s: float,
    until: Callable[[float], bool],
    started: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Read at fixed times until `until(seconds)` - a wait - says so; what was done, as data.

    `started` is called when the first reading is taken.
    """
    writer = _Writer(path)
    rows = late = turn = 0
    begin = time.perf_counter()
    cpu = time.process_time()
    slow_every = max(1, round(_SLOW_S / interval_s))
    try:
        while True:
            moment = time.perf_counter()
            found = source.read(slow=turn % slow_every == 0)
            for device, reading in enumerate(found):
                writer.add(reading.get("time_s", moment), device, reading)
                rows += 1
            turn += 1
            if turn == 1:
                started()
            wait = begin + turn * interval_s - time.perf_counter()
            if wait < -interval_s:
                late += 1
                # Readings that were missed are gaps and are reported; they are not made up in a hurry.
                turn = int((time.perf_counter() - begin) / interval_s) + 1
                wait = begin + turn * interval_s - time.perf_counter()
            if until(max(wait, 0.0)):
                break
    finally:
        writer.close()
    return {
        "rows": rows,
        "late": late,
        "seconds": time.perf_counter() - begin,
        "cpu_s": time.process_time() - cpu,
    }


class _Writer:
    """Rows to Parquet, a group at a time; numbers lie as they will in the file, NaN where one is absent.

    Arrow takes them as buffers: made from lists it would look for pandas first, a third of a second.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa = pa
        self._schema = pa.schema([(name, pa.float64()) for name in COLUMNS])
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows = [array("d") for _ in COLUMNS]

    def add(self, moment: float, device: int, reading: Mapping[str, float]) -> None:
        self._rows[0].append(moment)
        self._rows[1].append(device)
        for name, values in zip(COLUMNS[2:], self._rows[2:], strict=True):
            values.append(reading.get(name, math.nan))
        if len(self._rows[0]) >= _ROWS_IN_MEMORY:
            self._flush()

    def _flush(self) -> None:
        pa, size = self._pa, len(self._rows[0])
        if size:
            buffers = [[None, pa.py_buffer(values)] for values in self._rows]
            arrays = [pa.Array.from_buffers(pa.float64(), size, pair) for pair in buffers]
            self._file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
            self._rows = [array("d") for _ in COLUMNS]

    def close(self) -> None:
        self._flush()
        self._file.close()


def main() -> None:
    """The process behind `Recorder`."""
    order = json.loads(sys.stdin.readline())
    try:
        source = _open(order)
        names = {device.uuid: device.name for device in source.devices}
        said = record(
            source,
            Path(order["path"]),
            interval_s=order["interval_s"],
            until=_input_closed,
            started=lambda: _say({"ready": True, "pid": os.getpid(), "names": names}),
        )
        source.close()
    except EngineError as err:
        said = {"error": err.message}
    _say(said)


def _input_closed(seconds: float) -> bool:
    """Wait; True when whoever started this wants it to end, or is gone."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def _say(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def _open(order: dict[str, Any]) -> PowerSource:
    if order["source"] == "nvidia-smi":
        from engine.measure.energy.nvidia_smi import NvidiaSmi

        return NvidiaSmi(uuids=order["uuids"], interval_s=order["interval_s"])
    from engine.measure.energy.nvml import Nvml

    return Nvml(uuids=order["uuids"])


if __name__ == "__main__":
    main()
