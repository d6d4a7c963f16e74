"""An OpenAI-compatible server without a model: instant, or paced to the millisecond, or faulty on purpose.

`python -m engine.testing.stub_server --ttft 0.05 --gap 0.01` prints its address and serves until its input
closes. Every answer ends with the server's own times (`timings`), so that a client can be checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httptools

__all__ = ["Asked", "Reply", "StubServer", "instant", "paced", "running"]

_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_LAST: Final = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as the server saw it."""

    number: int
    """Requests so far, from 0."""
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    received_ns: int

    @property
    def tokens(self) -> int:
        """Output tokens asked for."""
        return int(self.body.get("max_tokens") or self.body.get("max_completion_tokens") or 16)

    @property
    def chat(self) -> bool:
        """Chat, else plain completions."""
        return "messages" in self.body

    @property
    def prompt_tokens(self) -> int:
        """Words of the prompt, or its token ids."""
        if self.chat:
            return sum(len(str(message.get("content", "")).split()) for message in self.body["messages"])
        prompt = self.body.get("prompt", "")
        return len(prompt) if isinstance(prompt, list) else len(str(prompt).split())


class Reply:
    """What a script writes with: raw bytes, or whole chunks of a chunked body."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.gone = False

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        if not self.gone and not self._transport.is_closing():
            self._transport.write(data)

    def head(self) -> None:
        """Head of an event stream."""
        self.raw(_HEAD)

    def event(self, data: bytes) -> None:
        """One server-sent event as a chunk."""
        self.raw(_chunk(b"data: " + data + b"\n\n"))

    def end(self) -> None:
        """End of the body."""
        self.raw(_LAST)

    def close(self) -> None:
        """Close the connection now."""
        self._transport.abort()

    def finish(self) -> None:
        """Close the connection once everything is written."""
        self._transport.close()

    def whole(
        self,
        body: bytes,
        *,
        status: str = "200 OK",
        kind: str = "application/json",
        more: bytes = b"",
    ) -> None:
        """A complete answer; `more` holds further header lines."""
        self.raw(
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n".encode()
            + more
            + b"\r\n"
            + body
        )


Script = Callable[[Asked, Reply], Any]
"""Answers one request; a coroutine function may wait."""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def piece(text: str | None, *, chat: bool, finish: str | None = None, **more: Any) -> bytes:
    """JSON of one event with text."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    if chat:
        choice["delta"] = {} if text is None else {"content": text}
    else:
        choice["text"] = text or ""
    return json.dumps({"id": "stub", "model": "stub", "choices": [choice], **more}).encode()


def usage(asked: Asked, tokens: int, **more: Any) -> bytes:
    """JSON of the event that carries the counts."""
    counts = {"prompt_tokens": asked.prompt_tokens, "completion_tokens": tokens}
    counts["total_tokens"] = counts["prompt_tokens"] + tokens
    return json.dumps({"id": "stub", "model": "stub", "choices": [], "usage": counts, **more}).encode()


def instant() -> Script:
    """Everything at once, in one write: what is measured is the client."""
    made: dict[tuple[int, int, bool], bytes] = {}

    def answer(asked: Asked, reply: Reply) -> None:
        key = (asked.tokens, asked.prompt_tokens, asked.chat)
        if key not in made:
            parts = [_HEAD]
            for i in range(asked.tokens):
                finish = "length" if i == asked.tokens - 1 else None
                parts.append(_chunk(b"data: " + piece(" token", chat=asked.chat, finish=finish) + b"\n\n"))
            parts.append(_chunk(b"data: " + usage(asked, asked.tokens) + b"\n\n"))
            parts.append(_chunk(b"data: [DONE]\n\n"))
            parts.append(_LAST)
            made[key] = b"".join(parts)
        reply.raw(made[key])

    return answer


def paced(ttft_s: float, gap_s: float, *, parallel: int | None = None) -> Script:
    """First token after `ttft_s`, then one every `gap_s`; at most `parallel` requests at once, if given.

    The times are those at which the server really wrote, told in `timings`.
    """
    gate = asyncio.Semaphore(parallel) if parallel else contextlib.nullcontext()
    made = {chat: _pieces(chat=chat) for chat in (True, False)}

    async def answer(asked: Asked, reply: Reply) -> None:
        async with gate:
            await _pace(asked, reply, ttft_s, gap_s, made[asked.chat])

    return answer


def _pieces(*, chat: bool) -> tuple[bytes, bytes, bytes]:
    """The first, a middle and the last piece; made beforehand, since later requests wait meanwhile."""
    begin = piece(None, chat=True, role="assistant") if chat else piece("", chat=False)
    return begin, piece(" token", chat=chat), piece(" token", chat=chat, finish="length")


async def _pace(
    asked: Asked, reply: Reply, ttft_s: float, gap_s: float, pieces: tuple[bytes, bytes, bytes]
) -> None:
    opening, token, closing = pieces
    reply.head()
    reply.event(opening)
    begin = time.perf_counter()
    first = last = 0
    for i in range(asked.tokens):
        # Aimed at the schedule, not at the last token: lateness does not add up.
        await asyncio.sleep(max(0.0, begin + ttft_s + i * gap_s - time.perf_counter()))
        last = time.perf_counter_ns()
        first = first or last
        reply.event(closing if i == asked.tokens - 1 else token)
        if reply.gone:
            return
    timings = {
        "prompt_ms": (first - asked.received_ns) / 1e6,
        "predicted_ms": (last - first) / 1e6,
        "prompt_n": asked.prompt_tokens,
        "predicted_n": asked.tokens,
    }
    reply.event(usage(asked, asked.tokens, timings=timings))
    reply.event(b"[DONE]")
    reply.end()


class StubServer:
    """Serves a script on a loopback port, in the loop it is started in."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        """Every request to a completions endpoint, in order of arrival."""
        self.keep = True
        """Keep what was asked; off for benchmarks."""
        self.connections = 0
        self.count = 0
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen and return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Serving(self), "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()


class _Serving(asyncio.Protocol):
    """One connection of the stub."""

    def __init__(self, server: StubServer) -> None:
        self._server = server
        self._transport: Any = None
        self._parser = httptools.HttpRequestParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._url = b""
        self._received = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._replies: list[Reply] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.connections += 1

    def data_received(self, data: bytes) -> None:
        self._received = time.perf_counter_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        self._headers, self._body, self._url = {}, [], b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode(errors="replace")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        # Others that are ready are read first: what is stamped late here would be laid to the client.
        asyncio.get_running_loop().call_soon(
            self._answer, self._url, self._headers, b"".join(self._body), self._received
        )

    def _answer(self, url: bytes, headers: dict[str, str], data: bytes, received_ns: int) -> None:
        if self._transport.is_closing():
            return
        reply = Reply(self._transport)
        path = url.decode(errors="replace")
        if not path.endswith("/completions"):
            status = "200 OK" if path.endswith("/models") else "404 Not Found"
            reply.whole(b'{"object": "list", "data": [{"id": "stub"}]}', status=status)
            return
        try:
            body = json.loads(data)
        except ValueError:
            body = {}
        asked = Asked(self._server.count, path, headers, body, received_ns)
        self._server.count += 1
        if self._server.keep:
            self._server.asked.append(asked)
        self._replies.append(reply)
        found = self._server.script(asked, reply)
        if asyncio.iscoroutine(found):
            task = asyncio.get_running_loop().create_task(found)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def connection_lost(self, _exc: Exception | None) -> None:
        for reply in self._replies:
            reply.gone = True
        for task in self._tasks:
            task.cancel()


@contextmanager
def running(make: Callable[[], Script]) -> Iterator[tuple[str, StubServer]]:
    """Base URL and server, in a thread of its own until the block ends; `make` is called in its loop."""
    loop = asyncio.new_event_loop()
    found: list[tuple[int, StubServer]] = []
    ready = threading.Event()

    async def begin() -> None:
        server = StubServer(make())
        found.append((await server.start(), server))
        ready.set()

    async def finish() -> None:
        found[0][1].stop()
        waiting = asyncio.all_tasks(loop) - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    def serve() -> None:
        loop.run_until_complete(begin())
        loop.run_forever()
        loop.run_until_complete(finish())
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield f"http://127.0.0.1:{found[0][0]}/v1", found[0][1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def main(arguments: list[str]) -> None:
    """Serve until the input closes."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft", type=float, help="seconds to the first token; instant when absent")
    parser.add_argument("--gap", type=float, default=0.01, help="seconds between tokens")
    parser.add_argument("--parallel", type=int, help="most requests at once")
    options = parser.parse_args(arguments)

    async def serve() -> None:
        script = instant() if options.ttft is None else paced(
            options.ttft, options.gap, parallel=options.parallel
        )  # fmt: skip
        server = StubServer(script)
        server.keep = False
        sys.stdout.write(f"http://127.0.0.1:{await server.start(options.port)}/v1\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        server.stop()

    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ModuleNotFoundError:
        runner = asyncio.Runner()
    with runner:
        runner.run(serve())


if __name__ == "__main__":
    main(sys.argv[1:])
