"""Reads of a stream: their stamps, long writes, and what is put aside until the answer ends."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from engine.measure.live.answer import read_answer
from engine.measure.live.drive import LoopWatch
from engine.measure.live.http_client import Exchange, HttpClient, _Connection, address_of
from engine.spec.live import Deadlines
from engine.testing.stub_server import StubServer, piece, usage

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def send(script, *, request=b"GET /v1/completions HTTP/1.1\r\n\r\n", many=1, **deadlines):
    """Exchanges of requests sent at once, and the server, both in one loop."""

    async def run():
        server = StubServer(script)
        port = await server.start()
        client = HttpClient(address_of(f"http://localhost:{port}/v1"), Deadlines.model_validate(deadlines))
        try:
            found = await asyncio.gather(*(client.send(request) for _ in range(many)))
        finally:
            client.close()
            server.stop()
        return found, server

    return asyncio.run(run())


async def three_and_silence(asked, reply):
    reply.head()
    for _ in range(3):
        reply.event(piece(" a", chat=False))
        await asyncio.sleep(0.01)
    await asyncio.sleep(60)


def raw_server(serve):
    """Port of a thread that hands its first connection to `serve`."""
    listening = socket.create_server(("127.0.0.1", 0))

    def run():
        with listening, listening.accept()[0] as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            serve(peer)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return listening.getsockname()[1], thread


def test_a_token_that_waited_for_a_busy_client_is_stamped_late_and_the_watch_says_so():
    written = []

    def serve(peer):
        peer.recv(4096)
        peer.sendall(HEAD + chunk(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'))
        time.sleep(0.1)
        written.append(time.perf_counter_ns())
        peer.sendall(chunk(b'data: {"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}]}\n\n'))
        time.sleep(0.4)
        peer.sendall(b"0\r\n\r\n")

    port, thread = raw_server(serve)

    async def run():
        client = HttpClient(address_of(f"http://127.0.0.1:{port}/v1"), Deadlines())
        async with LoopWatch() as watch:
            sending = asyncio.create_task(client.send(b"GET / HTTP/1.1\r\n\r\n"))
            await asyncio.sleep(0.05)
            time.sleep(0.35)  # busy while the second token arrives
            free = time.perf_counter_ns()
            try:
                return await sending, watch.result(reached_cap=False), free
            finally:
                client.close()

    exchange, seen, free_ns = asyncio.run(run())
    thread.join()
    answer = read_answer(exchange, stream=True)
    assert answer.text == "ab"
    # It came while nobody read: its stamp is that of the read, never one before it was written.
    assert answer.event_ns[1] >= free_ns > written[0]
    assert exchange.sent_ns < answer.event_ns[0] < answer.event_ns[1] <= exchange.done_ns
    assert seen.lag_p99_s > 0.3


def test_what_was_put_aside_is_kept_when_a_run_is_stopped():
    async def run():
        server = StubServer(three_and_silence)
        port = await server.start()
        client = HttpClient(address_of(f"http://localhost:{port}/v1"), Deadlines())
        sending = asyncio.create_task(client.send(b"GET /v1/completions HTTP/1.1\r\n\r\n"))
        await asyncio.sleep(0.2)
        (connection,) = client._all
        exchange = connection.exchange
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        client.close()
        server.stop()
        return exchange

    exchange = asyncio.run(run())
    assert exchange.error_class == "cancelled"
    assert len(exchange.pieces) == len(exchange.stamps) == 3


def test_a_stream_put_aside_is_looked_at_by_the_deadlines():
    """Every read ends like one in the middle of a stream, and then nothing comes any more."""

    (exchange,), _ = send(three_and_silence, first_byte="200 ms", idle="200 ms", total="5 s")
    assert exchange.error_class == "idle-timeout"
    assert [p[:5] for p in exchange.pieces] == [b"data:"] * 3
    assert len(set(exchange.stamps)) == len(exchange.stamps) == 3


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_many_streams_at_once_lose_nothing(line_end):
    async def script(asked, reply):
        reply.head()
        for i in range(asked.number % 5 + 3):
            event = b"data: " + piece(f" {asked.number}-{i}", chat=True) + 2 * line_end
            reply.raw(chunk(event))
            await asyncio.sleep(0)
        for event in (piece(None, chat=True, finish="stop"), usage(asked, asked.number % 5 + 3)):
            reply.raw(chunk(b"data: " + event + 2 * line_end))
        reply.end()

    found, _ = send(script, many=40)
    answers = [read_answer(exchange, stream=True) for exchange in found]
    assert all(a.error_class is None for a in answers)
    assert sorted(a.text for a in answers) == sorted(
        "".join(f" {n}-{i}" for i in range(n % 5 + 3)) for n in range(40)
    )
    assert all(len(a.event_ns) == a.output_tokens for a in answers)


def test_a_request_larger_than_the_socket_takes():
    def counts(asked, reply):
        reply.whole(b'{"length": %d}' % len(asked.body["prompt"]))

    body = b'{"prompt": "%s"}' % (b"x" * 8_000_000)
    request = b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    (exchange,), _ = send(counts, request=request)
    assert exchange.body == b'{"length": 8000000}'


def test_a_second_answer_to_one_request_is_dropped_with_its_connection():
    def twice(_asked, reply):
        reply.raw((HEAD + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n") * 2)

    (exchange,), server = send(twice)
    assert exchange.body == b"data: [DONE]\n\n"
    assert exchange.error_class is None
    assert server.connections == 1


def test_pieces_have_the_stamp_of_the_read_they_came_in():
    """Two events in one read, one cut over two reads, and one a read."""
    events = [chunk(b"data: %d\n\n" % n) for n in range(5)]
    reads = [HEAD, events[0] + events[1], events[2][:-3], events[2][-3:], events[3], events[4] + b"0\r\n\r\n"]

    async def run():
        connection = _Connection(lambda _: None)
        connection.connection_made(asyncio.Transport())
        connection._transport = type("Sink", (), {"write": lambda *_: None, "abort": lambda _: None})()
        connection.start(exchange := Exchange(), b"")
        connection._reads, connection._stamps = list(reads), [10, 20, 30, 40, 50, 60]
        connection.catch_up()
        return exchange

    exchange = asyncio.run(run())
    assert exchange.body == b"".join(b"data: %d\n\n" % n for n in range(5))
    assert list(zip(exchange.pieces, exchange.stamps, strict=True)) == [
        (b"data: 0\n\n", 20),
        (b"data: 1\n\n", 20),
        (b"data: 2\n", 30),
        (b"\n", 40),
        (b"data: 3\n\n", 50),
        (b"data: 4\n\n", 60),
    ]
    assert (exchange.first_byte_ns, exchange.done_ns, exchange.reads) == (10, 60, 6)
