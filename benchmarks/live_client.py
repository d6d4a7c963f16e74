"""What the load generator adds to what it measures: rate, delay of first tokens, CPU per token, start-up.

    python benchmarks/live_client.py [--rounds 5 --seconds 2] [--client-core 0 --server-core 1]

The server is the stub of `engine.testing` in a process of its own, pinned to one core, the client to
another. Delays are the client's time to first token minus the time the server says it took. Every figure is
taken once a round and shown as its median, so that all of them see the same moods of the machine; the
yardstick of CPU per token is the least that Python can do: uvloop, a protocol, a parser, a stamp a read.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httptools

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


@dataclass(frozen=True)
class _Ran:
    """One load, with what it cost the client."""

    driven: Driven
    records: list[Request]
    wall_s: float
    """Making requests, sending them and reading every answer."""
    cpu_s: float
    """The same, of this process."""
    sending_cpu_s: float
    """Without reading the answers into records."""


def _run(url: str, requests: int, concurrency: int, tokens: int) -> _Ran:
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
        sending = time.process_time() - cpu
        records = [
            to_record(s, speaker, repeat=0, phase="measured", count=None, count_source="")
            for s in driven.sent
        ]
        return _Ran(driven, records, time.perf_counter() - wall, time.process_time() - cpu, sending)


class _Peer(asyncio.Protocol):
    """A client that sends, stamps and parts answers, and makes nothing of them."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.stamps: list[int] = []
        self.on_body = self.pieces.append
        self._transport: Any = None
        self._parser: Any = None
        self._ended: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[None]:
        self._parser = httptools.HttpResponseParser(self)
        self._ended = ended = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return ended

    def data_received(self, data: bytes) -> None:
        self.stamps.append(time.perf_counter_ns())
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._ended is not None:
            self._ended.set_result(None)

    def close(self) -> None:
        self._transport.abort()


def _run_peer(url: str, rounds: int, concurrency: int, tokens: int) -> float:
    """CPU seconds of the bare client for so many requests on each of its connections."""
    speaker = _speaker(url)
    request = speaker.request("one two three", tokens)

    async def slot() -> None:
        place = speaker.address
        _, peer = await asyncio.get_running_loop().create_connection(_Peer, place.host, place.port)
        for _ in range(rounds):
            await peer.ask(request)
        assert len(peer.stamps) >= rounds * 2
        peer.close()

    async def drive() -> None:
        with no_collection():
            await asyncio.gather(*(slot() for _ in range(concurrency)))

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        cpu = time.process_time()
        runner.run(drive())
        return time.process_time() - cpu


def instant(core: int | None, seconds: float) -> dict[str, float]:
    """Requests and tokens per second against a server that needs no time."""
    process, url = _stub(core)
    try:
        count = max(1000, round(500 / _run(url, 500, 64, 64).wall_s * seconds))
        ran = _run(url, count, 64, 64)
        assert all(r.good and r.output_tokens == 64 for r in ran.records)
        sending = (ran.driven.ended_ns - ran.driven.started_ns) / 1e9
        return {
            "requests_per_s, sending": count / sending,
            "requests_per_s, with reading": count / ran.wall_s,
            "tokens_per_s, sending": count * 64 / sending,
            "tokens_per_s, with reading": count * 64 / ran.wall_s,
        }
    finally:
        process.communicate("")


def paced(core: int | None, concurrency: int, seconds: float) -> dict[str, float]:
    """Delay of first tokens and CPU per token at 100 tokens/s a stream, beside the bare client."""
    process, url = _stub(core, "--ttft", "0.05", "--gap", "0.01")
    try:
        _run(url, concurrency, concurrency, 16)
        rounds = max(2, round(seconds / 0.7))
        tokens = concurrency * rounds * 64
        bare = tokens / _run_peer(url, rounds, concurrency, 64)
        ran = _run(url, concurrency * rounds, concurrency, 64)
        assert all(r.good and r.output_tokens == 64 for r in ran.records)
        errors = sorted(
            (r.ttft_s - r.server_prefill_s) * 1e3 for r in ran.records if r.ttft_s and r.server_prefill_s
        )
        sending, everything = tokens / ran.sending_cpu_s, tokens / ran.cpu_s
        return {
            "ttft_error_ms, mean": statistics.fmean(errors),
            "ttft_error_ms, p50": statistics.median(errors),
            "ttft_error_ms, max": errors[-1],
            "client_lag_ms, p99": (ran.driven.watch.lag_p99_s or 0.0) * 1e3,
            "tokens_per_cpu_s, bare client": bare,
            "tokens_per_cpu_s, sending": sending,
            "tokens_per_cpu_s, with reading": everything,
            "sending over bare client": sending / bare,
            "with reading over bare client": everything / bare,
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load in a round")
    parser.add_argument("--client-core", type=int)
    parser.add_argument("--server-core", type=int)
    options = parser.parse_args()
    os.chdir(Path(__file__).resolve().parent.parent)
    if options.client_core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.client_core})
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    rounds: list[dict[str, dict[str, float]]] = []
    for _ in range(options.rounds):
        shown = {"instant, C=64": instant(options.server_core, options.seconds)}
        for concurrency in (1, 64):
            shown[f"paced, C={concurrency}"] = paced(options.server_core, concurrency, options.seconds)
        shown["start-up"] = {"seconds": start_up()}
        rounds.append(shown)
    for load, values in rounds[0].items():
        print(load)
        for name in values:
            each = [found[load][name] for found in rounds]
            print(f"  {name:32} {statistics.median(each):12,.2f}   {min(each):,.2f} to {max(each):,.2f}")


if __name__ == "__main__":
    main()
