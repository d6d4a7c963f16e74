"""Plain connections read together and stamped by the kernel.

A streamed token costs a wake-up and a read, whatever is done with it; an event loop that wakes for each one
spends most of a core on waking. Here all sockets stand in one epoll of their own, a wake-up reads whatever
has come, and while many answers are under way it first waits a moment for more. That is free of charge for
the numbers: the kernel notes when bytes arrived (SO_TIMESTAMPNS), so that neither the wait nor a busy machine
makes a token late. Linux only; elsewhere, and for TLS, `HttpClient` uses the transports of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

__all__ = ["PlainTransport", "SocketGroup", "offered"]

# <asm-generic/socket.h>; the same on every 64-bit Linux that Python wheels are made for. Not in `socket`.
_SO_TIMESTAMPNS: Final = 35
_STAMP: Final = struct.Struct("qq")
_READ_BYTES: Final = 64 * 1024

_MIDDLE: Final = (b"\n\n\r\n", b"\r\n\r\n\r\n")
"""How a read ends that ends with an event and its chunk: more must follow, and nothing needs doing now."""
_LONGEST_GATHER_S: Final = 0.001
_LEAST_GATHER_S: Final = 0.0002
_SHARE_OF_REQUEST: Final = 0.005
"""Of the time of a request: its end is seen late by at most so much, and the next one leaves as late."""
_SHARE_OF_GAP: Final = 0.25
"""Of the time between two reads of a stream: two tokens that arrive within one wait have one stamp."""
_GATHER_FROM: Final = 16
"""Requests in flight from which reads are gathered."""
_SAME_MOMENT_NS: Final = 20_000


def offered() -> bool:
    """This machine can stamp and gather reads."""
    return sys.platform == "linux" and hasattr(select, "epoll") and sys.maxsize > 2**32


class Receiver(Protocol):
    """What a transport tells of its connection."""

    def connection_made(self, transport: PlainTransport) -> None:
        """It is there."""

    def take(self, reads: Sequence[tuple[bytes, int]]) -> None:
        """Bytes came, and when: a stamp may be off where the wall clock was set just now."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone: closed by the other side without an exception."""


class PlainTransport:
    """One socket; writes at once what the kernel takes, and the rest when it can."""

    def __init__(self, sock: socket.socket, receiver: Receiver, group: SocketGroup) -> None:
        self.receive = sock.recvmsg
        self.patient = False
        """In the middle of a stream: reads may be put aside until something ends."""
        self.aside: list[tuple[bytes, list[Any], int]] = []
        """Reads that nobody has looked at, with their stamps and the wall clock's lead."""
        self._sock = sock
        self._receiver = receiver
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._unsent = b""
        self._open = True

    def write(self, data: bytes) -> None:
        """Send; a failure is told to the receiver."""
        if not self._open:
            return
        self._unsent = self._send(data)
        if self._unsent:
            self._loop.add_writer(self._sock.fileno(), self._write_more)

    def _send(self, data: bytes) -> bytes:
        """What the kernel did not take."""
        try:
            return data[self._sock.send(data) :]
        except (BlockingIOError, InterruptedError):
            return data
        except OSError as err:
            self._loop.call_soon(self.lost, err)
            return b""

    def _write_more(self) -> None:
        self._unsent = self._send(self._unsent)
        if not self._unsent:
            self._loop.remove_writer(self._sock.fileno())

    def catch_up(self) -> None:
        """Hand over what was put aside."""
        if not self.aside:
            return
        reads, self.aside = self.aside, []
        stamps = _STAMP.iter_unpack(b"".join([extras[0][2] for _, extras, _ in reads]))
        self._receiver.take(
            [
                (data, seconds * 1_000_000_000 + nanoseconds - lead)
                for (data, _, lead), (seconds, nanoseconds) in zip(reads, stamps, strict=True)
            ]
        )

    def deliver(self, data: bytes, now_ns: int) -> None:
        """Hand over bytes without a stamp of their own."""
        self.catch_up()
        self._receiver.take(((data, now_ns),))

    def lost(self, exc: Exception | None) -> None:
        """The other side is gone."""
        self.catch_up()
        if self._open:
            self._close()
            self._receiver.connection_lost(exc)

    def abort(self) -> None:
        """Close now, whatever is unsent."""
        if self._open:
            self._close()
            self._loop.call_soon(self._receiver.connection_lost, None)

    def _close(self) -> None:
        self._open = False
        if self._unsent:
            self._loop.remove_writer(self._sock.fileno())
        self._group.forget(self._sock.fileno())
        self._sock.close()


class SocketGroup:
    """The sockets of one client, in the event loop that runs when it is made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._poll = select.epoll()
        self._loop.add_reader(self._poll.fileno(), self._ready)
        self._by_number: dict[int, PlainTransport] = {}
        self.in_flight = 0
        """Requests under way, as the client counts them."""
        self._gather_s = 0.0
        self._room = socket.CMSG_SPACE(_STAMP.size)

    async def connect(self, host: str, port: int, receiver: Receiver) -> None:
        """Connect to the first address that answers; raises the `OSError` of the last one."""
        failure: OSError = OSError(f"`{host}` has no address")
        for family, kind, number, _, place in await self._loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, number)
            try:
                sock.setblocking(False)
                await self._loop.sock_connect(sock, place)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.suppress(OSError):  # a sandbox without stamps: those of the reads are used
                    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            except OSError as err:
                sock.close()
                failure = err
                continue
            except BaseException:
                sock.close()
                raise
            transport = PlainTransport(sock, receiver, self)
            self._by_number[sock.fileno()] = transport
            self._poll.register(sock.fileno(), select.EPOLLIN)
            receiver.connection_made(transport)
            return
        raise failure

    def ended(self, request_s: float, reads: int) -> None:
        """A request took so long in so many reads: how long reads may be gathered follows from it."""
        most = min(
            _LONGEST_GATHER_S, _SHARE_OF_REQUEST * request_s, _SHARE_OF_GAP * request_s / max(1, reads)
        )
        self._gather_s += (most - self._gather_s) / 16

    def forget(self, number: int) -> None:
        """Read this socket no longer."""
        if self._by_number.pop(number, None) is not None:
            self._poll.unregister(number)

    def _ready(self) -> None:
        """Read every socket that has something; what decides nothing yet is put aside."""
        if self.in_flight >= _GATHER_FROM and self._gather_s >= _LEAST_GATHER_S:
            time.sleep(self._gather_s)
        ready = self._poll.poll(0)
        now, lead = _clocks()
        room = self._room
        for number, _ in ready:
            transport = self._by_number.get(number)
            if transport is None:
                continue
            try:
                data, extras, _, _ = transport.receive(_READ_BYTES, room)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as err:
                transport.lost(err)
                continue
            if not data:
                transport.lost(None)
            elif not extras:
                transport.deliver(data, now)
            else:
                transport.aside.append((data, extras, lead))
                if not (transport.patient and data.endswith(_MIDDLE)):
                    transport.catch_up()

    def close(self) -> None:
        """Close every socket."""
        for transport in list(self._by_number.values()):
            transport.abort()
        if not self._poll.closed:
            self._loop.remove_reader(self._poll.fileno())
            self._poll.close()


def _clocks() -> tuple[int, int]:
    """The monotonic clock and the lead of the wall clock over it, in ns, read at one moment."""
    for _ in range(3):
        before, wall, after = time.perf_counter_ns(), time.time_ns(), time.perf_counter_ns()
        if after - before < _SAME_MOMENT_NS:  # else something came between
            break
    return after, wall - after
