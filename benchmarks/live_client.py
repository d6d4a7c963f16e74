"""What the load generator adds to what it measures: rate, delay of first tokens, CPU per token, start-up.

    python benchmarks/live_client.py [--seconds 5] [--client-core 0 --server-core 1]

The server is the stub of `engine.testing` in a process of its own, pinned to one core, the client to
another. Delays are the client's time to first token minus the time the server says it took.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from engine.measure.live.dialect import Dialect, Speaker
from engine.measure.live.drive import Asked, Driven, closed_loop, no_collection, to_record
from engine.measure.live.http_client import HttpClient, address_of
from engine.measure.live.records import Request
from engine.spec.live import Deadlines, HttpTarget


def _stub(core: int | None, *options: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "engine.testing.stub_server", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {core})
    return process, process.stdout.readline().strip()


def _speaker(url: str) -> Speaker:
    target = HttpTarget(kind="openai", base_url=url, model="stub")
    return Speaker(target, address_of(url), Dialect(frozenset(("stream_options",))))


def _run(
    url: str, requests: int, concurrency: int, tokens: int
) -> tuple[Driven, list[Request], float, float]:
    """What was sent, records, wall seconds and CPU seconds of the client with everything it does."""
    speaker = _speaker(url)

    async def drive() -> Driven:
        client = HttpClient(speaker.address, Deadlines())
        asked = [Asked(i, speaker.request("one two three", tokens), 3, tokens) for i in range(requests)]
        try:
            with no_collection():
                return await closed_loop(client, asked, concurrency)
        finally:
            client.close()

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        wall, cpu = time.perf_counter(), time.process_time()
        driven = runner.run(drive())
        records = [
            to_record(s, speaker, repeat=0, phase="measured", count=None, count_source="")
            for s in driven.sent
        ]
        return driven, records, time.perf_counter() - wall, time.process_time() - cpu


def instant(core: int | None, seconds: float) -> dict[str, Any]:
    """Requests and tokens per second against a server that needs no time."""
    process, url = _stub(core)
    try:
        _, _, wall, _ = _run(url, 500, 64, 64)
        count = max(1000, round(500 / wall * seconds))
        driven, records, wall, cpu = _run(url, count, 64, 64)
        assert all(r.good and r.output_tokens == 64 for r in records)
        sending = (driven.ended_ns - driven.started_ns) / 1e9
        return {
            "requests": count,
            "requests_per_s": count / sending,
            "requests_per_s_with_reading": count / wall,
            "tokens_per_s_with_reading": count * 64 / wall,
            "tokens_per_cpu_s": count * 64 / cpu,
        }
    finally:
        process.communicate("")


def paced(core: int | None, concurrency: int, seconds: float) -> dict[str, Any]:
    """Delay of first tokens and CPU per token at 100 tokens/s a stream."""
    process, url = _stub(core, "--ttft", "0.05", "--gap", "0.01")
    try:
        _run(url, concurrency, concurrency, 16)
        rounds = max(2, round(seconds / 0.7))
        _, records, _, cpu = _run(url, concurrency * rounds, concurrency, 64)
        assert all(r.good and r.output_tokens == 64 for r in records)
        errors = sorted(
            (r.ttft_s - r.server_prefill_s) * 1e3 for r in records if r.ttft_s and r.server_prefill_s
        )
        return {
            "concurrency": concurrency,
            "requests": len(records),
            "ttft_error_ms_mean": statistics.fmean(errors),
            "ttft_error_ms_p50": statistics.median(errors),
            "ttft_error_ms_max": errors[-1],
            "tokens_per_cpu_s": len(records) * 64 / cpu,
        }
    finally:
        process.communicate("")


def start_up() -> float:
    """Seconds from nothing to the first byte of a request on the wire."""
    process, url = _stub(None)
    code = (
        "import time; t = time.time()\n"
        "from engine.measure.live.serve import measure_server\n"
        "from engine.measure.live.http_client import HttpClient, address_of\n"
        "from engine.spec.live import Deadlines\n"
        "import asyncio, uvloop\n"
        "async def one():\n"
        f"    client = HttpClient(address_of({url!r}), Deadlines())\n"
        "    return await client.send(b'GET /v1/models HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "asyncio.Runner(loop_factory=uvloop.new_event_loop).run(one())\n"
    )
    try:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - begin
    finally:
        process.communicate("")


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--client-core", type=int)
    parser.add_argument("--server-core", type=int)
    options = parser.parse_args()
    os.chdir(Path(__file__).resolve().parent.parent)
    if options.client_core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.client_core})
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    shown = {"instant": instant(options.server_core, options.seconds)}
    for concurrency in (1, 64):
        shown[f"paced, C={concurrency}"] = paced(options.server_core, concurrency, options.seconds)
    shown["start-up"] = {"seconds": start_up()}
    for name, values in shown.items():
        print(name)
        for key, value in values.items():
            print(f"  {key:30} {value:,.2f}")


if __name__ == "__main__":
    main()
