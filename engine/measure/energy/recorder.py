"""A process of its own that reads power at fixed times and writes Parquet, so that no busy interpreter delays
it: polled from a thread beside two busy ones, 20 ms become 62 ms; from a process they stay below 30.

`python -m engine.measure.energy.recorder` with a line of JSON on its input; it ends when that input closes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from engine.errors import EngineError, MeasurementError
from engine.measure.energy.tape import COLUMNS, ReadingTape

if TYPE_CHECKING:
    from engine.measure.energy.source import PowerSource
    from engine.measure.energy.tape import Tape
    from engine.measure.energy.trace import Channel, Floats

_ROWS_IN_MEMORY: Final = 2_000
"""Rows kept before they go to disk: a few hundred kilobytes, whatever the length of the measurement."""
SLOW_S: Final = 0.1
"""Clocks, temperature, memory, use and the mean power of a second change slowly; most cost a call of their
own. As often it is asked whether recording is to end."""
_START_S: Final = 30.0
_END_S: Final = 30.0


@dataclass(frozen=True)
class RecorderReport:
    """What recording cost."""

    rows: int
    seconds: float
    cpu_s: float
    """Processor time of the recorder while it recorded, writing to disk included."""
    start_s: float
    """Processor time before the first reading: interpreter, libraries, looking for devices."""
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
        self.report = RecorderReport(**said)
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
    tape: Tape,
    path: Path,
    *,
    interval_s: float,
    ended: Callable[[], bool],
    started: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Read at fixed times until `ended()`, asked ten times a second, says so; what was done, as data.

    `started` is called when the first reading is taken.
    """
    writer = _Writer(path)
    rows = late = turn = 0
    start_s = time.process_time()
    begin = slow_at = time.perf_counter()
    try:
        while True:
            moment = time.perf_counter()
            slow = moment >= slow_at
            tape.turn(moment, slow=slow)
            turn += 1
            if slow:
                slow_at = moment + SLOW_S - interval_s / 2
                if turn == 1:
                    started()
                elif ended():
                    break
            if len(tape) >= _ROWS_IN_MEMORY:
                rows += writer.write(tape.drain())
            wait = begin + turn * interval_s - time.perf_counter()
            if wait < -interval_s:
                late += 1
                # Readings that were missed are gaps and are reported; they are not made up in a hurry.
                turn = int((time.perf_counter() - begin) / interval_s) + 1
                wait = begin + turn * interval_s - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
    finally:
        rows += writer.write(tape.drain())
        writer.close()
    return {
        "rows": rows,
        "late": late,
        "seconds": time.perf_counter() - begin,
        "cpu_s": time.process_time() - start_s,
        "start_s": start_s,
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

    def write(self, columns: Sequence[Floats]) -> int:
        """Add rows, an array a column; how many."""
        pa, size = self._pa, len(columns[0])
        if size:
            buffers = [[None, pa.py_buffer(values)] for values in columns]
            arrays = [pa.Array.from_buffers(pa.float64(), size, pair) for pair in buffers]
            self._file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        return size

    def close(self) -> None:
        self._file.close()


def main() -> None:
    """The process behind `Recorder`."""
    order = json.loads(sys.stdin.readline())
    said: dict[str, Any]
    try:
        source, tape = _open(order)
        names = {device.uuid: device.name for device in source.devices}
        said = record(
            tape,
            Path(order["path"]),
            interval_s=order["interval_s"],
            ended=_input_closed,
            started=lambda: _say({"ready": True, "pid": os.getpid(), "names": names}),
        )
        source.close()
    except EngineError as err:
        said = {"error": err.message}
    _say(said)


def _input_closed() -> bool:
    """True when whoever started this wants it to end, or is gone."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def _say(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def _open(order: dict[str, Any]) -> tuple[PowerSource, Tape]:
    if order["source"] == "nvidia-smi":
        from engine.measure.energy.nvidia_smi import NvidiaSmi

        program = NvidiaSmi(uuids=order["uuids"], interval_s=order["interval_s"])
        return program, ReadingTape(program)
    from engine.measure.energy.nvml import Nvml

    library = Nvml(uuids=order["uuids"])
    return library, library.tape(_ROWS_IN_MEMORY)


if __name__ == "__main__":
    main()
