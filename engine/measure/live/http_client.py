"""A small HTTP/1.1 client that stamps what it reads and does nothing else while requests are under way.

General clients spend more time on a streamed token than a fast server does (httpx adds tens of milliseconds
to a first token at 64 streams); here a read costs a stamp and an append, and meaning is made afterwards.
Redirects are never followed, so a key never reaches another host.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httptools

from engine.errors import UsageError
from engine.measure.live.pulse import Pulse
from engine.spec.live import Deadlines

__all__ = ["Address", "Exchange", "HttpClient", "address_of"]

_LONGEST_SWEEP_S: Final = 0.5
_LARGEST_BODY: Final = 64 * 1024 * 1024
_LARGEST_HEAD: Final = 64 * 1024
_MIDDLE: Final = (b"\n\n\r\n", b"\r\n\r\n\r\n")
"""How a read ends that ends with an event and its chunk: more must follow, and nothing needs doing now."""


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int
    secure: bool
    path: str
    """Path of the base URL, without a slash at the end."""

    @property
    def host_header(self) -> str:
        """Value of the `Host` header."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == (443 if self.secure else 80) else f"{name}:{self.port}"


def address_of(base_url: str) -> Address:
    """The parts of a base URL; raises `UsageError` for one that cannot be used."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # as asking for its address does
    except ValueError as err:  # a name that cannot be encoded too
        raise UsageError(f"`{base_url[:80]}` is not an address: {err}") from err
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("`base_url` must be http://host:port/path or https://...")
    if parts.username or parts.password:
        raise UsageError(
            "`base_url` must not hold a user name or a password", hint="name the key with `api_key_env`"
        )
    secure = parts.scheme == "https"
    return Address(parts.hostname, port or (443 if secure else 80), secure, parts.path.rstrip("/"))


@dataclass(slots=True, eq=False)
class Exchange:
    """One request on the wire and what came back, as raw stamps and bytes."""

    sent_ns: int = 0
    connected_ns: int | None = None
    """None when a live connection was used again."""
    first_byte_ns: int | None = None
    done_ns: int = 0
    last_ns: int = 0
    """Last sign of life, for deadlines."""
    status: int | None = None
    headers: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    """One for each piece of the body; pieces of one read share it."""
    reads: int = 0
    size: int = 0
    error_class: str | None = None
    error: str | None = None
    retried: bool = False

    @property
    def body(self) -> bytes:
        """All of the body."""
        return b"".join(self.pieces)


def _nobody(_body: bytes) -> None:
    """Bytes of a body before anything was asked."""


class _Connection(asyncio.Protocol):
    """One connection; at most one exchange at a time."""

    def __init__(self, gone: Callable[[_Connection], None]) -> None:
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._number: int | None = None
        """Of the socket; None where bytes are to be encrypted first."""
        self._parser: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self.exchange: Exchange | None = None
        self.alive = False
        self.used = False
        self._ends_with_connection = False
        self._keep = True
        self._head_size = 0
        self._patient = False
        """In the middle of a stream: reads may be put aside until something ends."""
        self._reads: list[bytes] = []
        """Reads that nobody has looked at."""
        self._stamps: list[int] = []
        """When each of them came."""
        self._ended: int | None = None
        """Pieces of the body at its end."""
        self.on_body: Callable[[bytes], None] = _nobody
        """Called by the parser for every piece: the list of the exchange itself, which costs no frame."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.alive = True
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sock is not None and transport.get_extra_info("sslcontext") is None:
            self._number = sock.fileno()

    def start(self, exchange: Exchange, request: bytes) -> asyncio.Future[None]:
        """Write a request; the future is done when its end is known."""
        self.exchange = exchange
        self.on_body = exchange.pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._ends_with_connection, self._keep, self._head_size = False, True, 0
        self._patient = False
        self._ended = None
        self._waiter = asyncio.get_running_loop().create_future()
        if self._transport is None or not self.alive:
            self.fail("reset", "the connection was closed before the request was sent")
            return self._waiter
        exchange.sent_ns = exchange.last_ns = time.perf_counter_ns()
        self._write(request)
        return self._waiter

    def _write(self, request: bytes) -> None:
        """Hand a request to the kernel now: a loop may write at the end of its turn, long after the stamp."""
        transport = self._transport
        if transport is None:
            return
        if self._number is not None and not (transport.is_closing() or transport.get_write_buffer_size()):
            with contextlib.suppress(OSError):  # the transport finds the same and tells it
                request = request[os.write(self._number, request) :]
        if request:
            transport.write(request)

    def data_received(self, data: bytes) -> None:
        """All that a streamed token costs while requests are under way."""
        self._stamps.append(time.perf_counter_ns())
        self._reads.append(data)
        if not (self._patient and data.endswith(_MIDDLE)):
            self.catch_up()

    def catch_up(self) -> None:
        """Look at what has been read meanwhile."""
        if not self._reads:
            return
        reads, stamps = self._reads, self._stamps
        self._reads, self._stamps = [], []
        exchange = self.exchange
        if exchange is None:
            self.close()  # bytes that nobody asked for
            return
        if exchange.first_byte_ns is None:
            exchange.first_byte_ns = stamps[0]
        exchange.reads += len(reads)
        exchange.size += sum(map(len, reads))
        try:
            self._feed(exchange, reads, stamps)
        except httptools.HttpParserUpgrade:
            self.fail("protocol", "the server switched to another protocol")
        except httptools.HttpParserError as err:
            self.fail("protocol", f"not an HTTP answer: {err}")
        if exchange.size > _LARGEST_BODY:
            self.fail("too-large", f"the answer is larger than {_LARGEST_BODY >> 20} MiB")

    def _feed(self, exchange: Exchange, reads: Sequence[bytes], stamps: Sequence[int]) -> None:
        """Parse reads; every piece of the body has the stamp of the read it came in."""
        pieces, times, feed = exchange.pieces, exchange.stamps, self._parser.feed_data
        exchange.last_ns = stamps[-1]
        ends: list[int] = []
        first = len(pieces) + 1
        try:
            for data in reads:
                feed(data)
                ends.append(len(pieces))
        finally:
            if self._ended is not None and len(pieces) > self._ended:
                del pieces[self._ended :]  # of a second answer, which nobody asked for
                self.close()
            if ends[:-1] == list(range(first, first + len(reads) - 1)):
                times += stamps[:-1]  # most servers send a piece a read; the last one often holds more
            else:
                for end, stamp in zip(ends, stamps, strict=False):
                    times += [stamp] * (end - len(times))
            times += [stamps[-1]] * (len(pieces) - len(times))
            del times[len(pieces) :]

    # httptools calls these while it is fed

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self.exchange
        if exchange is not None:
            self._head_size += len(name) + len(value)
            if self._head_size > _LARGEST_HEAD:
                self.fail("too-large", "the headers are larger than 64 KiB")
            exchange.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        if exchange is not None:
            exchange.status = self._parser.get_status_code()
            headers = exchange.headers
            self._ends_with_connection = b"content-length" not in headers and b"chunked" not in headers.get(
                b"transfer-encoding", b""
            )
            self._keep = bool(self._parser.should_keep_alive())
            self._patient = b"chunked" in headers.get(b"transfer-encoding", b"")

    def on_message_complete(self) -> None:
        if self.exchange is None:
            return
        if 100 <= (self.exchange.status or 0) < 200:
            self.exchange.headers.clear()  # an interim answer (100, 102, 103): the real one follows
        else:
            self._ended = len(self.exchange.pieces)
            if not self._keep:
                self.close()
            self._finish(complete=True)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.catch_up()
        self.alive = False
        self._gone(self)
        exchange = self.exchange
        if exchange is None:
            return
        if exc is None and exchange.status is not None and self._ends_with_connection:
            self._finish()
        elif exchange.first_byte_ns is None:
            self.fail("reset", "the server closed the connection without an answer")
        else:
            self.fail("cut", "the connection was closed in the middle of the answer")

    def fail(self, error_class: str, error: str) -> None:
        """End the exchange with a failure; the connection is not used again."""
        self.catch_up()
        exchange = self.exchange
        self.close()
        if exchange is not None:
            if exchange.error_class is None:
                exchange.error_class, exchange.error = error_class, error
            self._finish()

    def _finish(self, *, complete: bool = False) -> None:
        exchange, self.exchange = self.exchange, None
        self._patient = False
        if exchange is not None:
            exchange.done_ns = exchange.last_ns if complete else time.perf_counter_ns()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Close at once; a second call does nothing."""
        self.alive = False
        if self._transport is not None:
            self._transport.abort()


class HttpClient:
    """Connections to one server: live ones are used again, deadlines are watched for all of them."""

    def __init__(
        self, address: Address, deadlines: Deadlines, *, secure: ssl.SSLContext | None = None
    ) -> None:
        self._address = address
        self._deadlines = deadlines
        self._ssl = (secure or ssl.create_default_context()) if address.secure else None
        self._free: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._sweeper: Pulse | None = None
        self._sweep_s = min(_LONGEST_SWEEP_S, deadlines.first_byte / 10, deadlines.idle / 10)
        self.opened = 0
        """Connections opened so far."""

    async def send(self, request: bytes) -> Exchange:
        """Send a complete request and wait for its end, whatever that is; nothing is raised."""
        exchange = Exchange()
        connection = self._take()
        reused = connection is not None
        if connection is None:
            connection = await self._connect(exchange)
            if connection is None:
                return exchange
        await self._on(connection, exchange, request)
        if exchange.error_class == "reset" and reused and exchange.first_byte_ns is None:
            # A server may close an idle connection at the moment it is used: not an answer, so once more.
            exchange = Exchange(retried=True)
            fresh = await self._connect(exchange)
            if fresh is not None:
                await self._on(fresh, exchange, request)
        return exchange

    async def _on(self, connection: _Connection, exchange: Exchange, request: bytes) -> None:
        if self._sweeper is None:
            self._sweeper = Pulse(self._sweep_s, self._sweep)
        waiter = connection.start(exchange, request)
        try:
            await waiter
        except asyncio.CancelledError:
            connection.fail("cancelled", "the run was stopped")
            raise
        if connection.alive:
            self._free.append(connection)

    def _take(self) -> _Connection | None:
        while self._free:
            connection = self._free.pop()
            if connection.alive:
                return connection
        return None

    async def _connect(self, exchange: Exchange) -> _Connection | None:
        exchange.sent_ns = time.perf_counter_ns()
        made = _Connection(self._all.discard)
        try:
            async with asyncio.timeout(self._deadlines.connect):
                await asyncio.get_running_loop().create_connection(
                    lambda: made, self._address.host, self._address.port, ssl=self._ssl
                )
        except OSError as err:  # every way a connection can fail is one: time, name, TLS, refusal
            exchange.error_class, exchange.error = self._why_not(err)
            exchange.done_ns = time.perf_counter_ns()
            return None
        exchange.connected_ns = time.perf_counter_ns()
        self.opened += 1
        self._all.add(made)
        return made

    def _why_not(self, err: OSError) -> tuple[str, str]:
        """Class and words for a connection that could not be made."""
        if isinstance(err, TimeoutError):
            return "connect-timeout", "no connection within the deadline"
        if isinstance(err, ssl.SSLError):
            return "tls", str(err.reason or err)
        if isinstance(err, socket.gaierror):
            return "dns", f"`{self._address.host}` has no address: {err.strerror}"
        if isinstance(err, ConnectionRefusedError):
            return "refused", "nobody listens there"
        kind = "descriptors" if err.errno in (errno.EMFILE, errno.ENFILE) else "connect"
        return kind, err.strerror or str(err)

    def _sweep(self, _due: float) -> None:
        """End exchanges that are past a deadline: one pass over all, instead of a timer for each read."""
        now = time.perf_counter_ns()
        for connection in list(self._all):
            connection.catch_up()
            exchange = connection.exchange
            if exchange is None:
                continue
            if (now - exchange.sent_ns) / 1e9 > self._deadlines.total:
                connection.fail("total-timeout", f"not done within {self._deadlines.total:g} s")
            elif exchange.first_byte_ns is None:
                if (now - exchange.sent_ns) / 1e9 > self._deadlines.first_byte:
                    connection.fail(
                        "first-byte-timeout", f"no answer within {self._deadlines.first_byte:g} s"
                    )
            elif (now - exchange.last_ns) / 1e9 > self._deadlines.idle:
                connection.fail("idle-timeout", f"nothing for {self._deadlines.idle:g} s in mid-answer")

    def close(self) -> None:
        """Close every connection."""
        if self._sweeper is not None:
            self._sweeper.stop()
            self._sweeper = None
        for connection in list(self._all):
            connection.close()
        self._all.clear()
        self._free.clear()
