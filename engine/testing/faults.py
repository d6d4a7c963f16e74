"""Servers that fail in every way a load generator must survive, each by name with the class it must get."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from engine.testing.stub_server import Asked, Reply, Script, piece, usage

__all__ = ["FAULTS", "Fault", "after"]


@dataclass(frozen=True)
class Fault:
    """One way to fail, or an oddity that must not be taken for a failure."""

    answer: Script
    expected: str | None
    """Error class the request must get; None when it must end well."""


def _tokens(asked: Asked, reply: Reply, count: int | None = None, *, finish: bool = True) -> None:
    """Plain content events."""
    wanted = asked.tokens if count is None else count
    for i in range(wanted):
        last = finish and i == wanted - 1
        reply.event(piece(" token", chat=asked.chat, finish="length" if last else None))


def _status(status: str, *, more: bytes = b"") -> Script:
    def answer(_asked: Asked, reply: Reply) -> None:
        reply.whole(b'{"error": {"message": "no"}}', status=status, more=more)

    return answer


def _reset(_asked: Asked, reply: Reply) -> None:
    reply.close()


def _cut(asked: Asked, reply: Reply) -> None:
    reply.head()
    _tokens(asked, reply, 3, finish=False)
    asyncio.get_running_loop().call_later(0.02, reply.close)


def _ends_early(asked: Asked, reply: Reply) -> None:
    reply.head()
    _tokens(asked, reply, 3, finish=False)
    reply.end()


async def _stall(asked: Asked, reply: Reply) -> None:
    reply.head()
    _tokens(asked, reply, 2, finish=False)
    await asyncio.sleep(60)


async def _silent(_asked: Asked, _reply: Reply) -> None:
    await asyncio.sleep(60)


async def _role_then_silence(_asked: Asked, reply: Reply) -> None:
    reply.head()
    reply.event(b'{"choices": [{"index": 0, "delta": {"role": "assistant", "content": null}}]}')
    await asyncio.sleep(60)


async def _endless(asked: Asked, reply: Reply) -> None:
    reply.head()
    while not reply.gone:
        reply.event(piece(" more", chat=asked.chat))
        await asyncio.sleep(0.005)


async def _byte_by_byte(asked: Asked, reply: Reply) -> None:
    reply.head()
    text = b"data: " + piece(" tökén", chat=asked.chat).replace(b"\\u00f6", "ö".encode()) + b"\n\n"
    final = b"data: " + piece(" end", chat=asked.chat, finish="length") + b"\n\n"
    for byte in text + final + b"data: " + usage(asked, 2) + b"\n\ndata: [DONE]\n\n":
        reply.raw(b"1\r\n%c\r\n" % byte)
        await asyncio.sleep(0)
    reply.end()


def _bad_utf8(asked: Asked, reply: Reply) -> None:
    reply.head()
    _tokens(asked, reply, 1, finish=False)
    reply.event(b'{"choices": [{"delta": {"content": "\xff\xfe"}}]}')
    reply.end()


def _bad_json(asked: Asked, reply: Reply) -> None:
    reply.head()
    _tokens(asked, reply, 1, finish=False)
    reply.event(b'{"choices": [{"delta": ')
    reply.end()


def _error_event(asked: Asked, reply: Reply) -> None:
    reply.head()
    _tokens(asked, reply, 2, finish=False)
    reply.event(b'{"error": {"message": "engine died", "code": 500}}')
    reply.end()


def _html(_asked: Asked, reply: Reply) -> None:
    reply.whole(b"<html>login</html>", kind="text/html")


def _no_usage(asked: Asked, reply: Reply) -> None:
    reply.head()
    _tokens(asked, reply)
    reply.event(b"[DONE]")
    reply.end()


def _no_done(asked: Asked, reply: Reply) -> None:
    reply.head()
    _tokens(asked, reply)
    reply.event(usage(asked, asked.tokens))
    reply.end()


def _two_usages(asked: Asked, reply: Reply) -> None:
    reply.head()
    _tokens(asked, reply)
    reply.event(usage(asked, 1))
    reply.event(usage(asked, asked.tokens))
    reply.event(b"[DONE]")
    reply.end()


def _empty(asked: Asked, reply: Reply) -> None:
    reply.head()
    reply.event(piece(None, chat=asked.chat, finish="stop"))
    reply.event(usage(asked, 0))
    reply.event(b"[DONE]")
    reply.end()


def _merged(asked: Asked, reply: Reply) -> None:
    """All events in one chunk, twice the same role event, comments and CRLF line ends."""
    parts = [b": keep-alive\r\n\r\n", b'data: {"choices": [{"delta": {"role": "assistant"}}]}\r\n\r\n' * 2]
    for i in range(asked.tokens):
        finish = "length" if i == asked.tokens - 1 else None
        parts.append(b"event: message\r\ndata: " + piece(" x", chat=asked.chat, finish=finish) + b"\r\n\r\n")
    parts.append(b"data: " + usage(asked, asked.tokens) + b"\r\n\r\ndata: [DONE]\r\n\r\n")
    body = b"".join(parts)
    reply.head()
    reply.raw(b"%x\r\n%s\r\n" % (len(body), body))
    reply.end()


def _gzipped(asked: Asked, reply: Reply) -> None:
    body = b"data: " + piece(" x", chat=asked.chat, finish="stop") + b"\n\ndata: " + usage(asked, 1) + b"\n\n"
    reply.whole(gzip.compress(body), kind="text/event-stream", more=b"Content-Encoding: gzip\r\n")


def _two_choices(_asked: Asked, reply: Reply) -> None:
    reply.head()
    reply.event(b'{"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}')
    reply.end()


def _not_http(_asked: Asked, reply: Reply) -> None:
    reply.raw(b"SSH-2.0-OpenSSH_9.2\r\n")


def _huge_head(_asked: Asked, reply: Reply) -> None:
    reply.raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 900) for i in range(90)))


def _closing(asked: Asked, reply: Reply) -> None:
    """No length and no chunks: the end of the connection is the end of the answer."""
    reply.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    for i in range(asked.tokens):
        finish = "length" if i == asked.tokens - 1 else None
        reply.raw(b"data: " + piece(" x", chat=asked.chat, finish=finish) + b"\n\n")
    reply.raw(b"data: " + usage(asked, asked.tokens) + b"\n\ndata: [DONE]\n\n")
    reply.finish()


_REDIRECT: Final = b"Location: http://127.0.0.1:1/v1/chat/completions\r\n"

FAULTS: Final[dict[str, Fault]] = {
    "unauthorised": Fault(_status("401 Unauthorized"), "http-401"),
    "forbidden": Fault(_status("403 Forbidden"), "http-403"),
    "not-found": Fault(_status("404 Not Found"), "http-404"),
    "request-timeout": Fault(_status("408 Request Timeout"), "http-408"),
    "too-large-request": Fault(_status("413 Content Too Large"), "http-413"),
    "unprocessable": Fault(_status("422 Unprocessable Entity"), "http-422"),
    "too-many": Fault(_status("429 Too Many Requests"), "http-429"),
    "too-many-wait": Fault(_status("429 Too Many Requests", more=b"Retry-After: 3\r\n"), "http-429"),
    "server-error": Fault(_status("500 Internal Server Error"), "http-500"),
    "bad-gateway": Fault(_status("502 Bad Gateway"), "http-502"),
    "unavailable": Fault(_status("503 Service Unavailable"), "http-503"),
    "gateway-timeout": Fault(_status("504 Gateway Timeout"), "http-504"),
    "redirect": Fault(_status("307 Temporary Redirect", more=_REDIRECT), "redirect"),
    "reset": Fault(_reset, "reset"),
    "cut": Fault(_cut, "cut"),
    "ends-early": Fault(_ends_early, "cut"),
    "stall": Fault(_stall, "idle-timeout"),
    "silent": Fault(_silent, "first-byte-timeout"),
    "role-then-silence": Fault(_role_then_silence, "idle-timeout"),
    "endless": Fault(_endless, "total-timeout"),
    "bad-utf8": Fault(_bad_utf8, "bad-utf8"),
    "bad-json": Fault(_bad_json, "bad-json"),
    "error-event": Fault(_error_event, "error-event"),
    "html": Fault(_html, "not-an-answer"),
    "empty": Fault(_empty, "empty-answer"),
    "two-choices": Fault(_two_choices, "many-choices"),
    "not-http": Fault(_not_http, "protocol"),
    "huge-head": Fault(_huge_head, "too-large"),
    "byte-by-byte": Fault(_byte_by_byte, None),
    "merged": Fault(_merged, None),
    "no-usage": Fault(_no_usage, None),
    "no-done": Fault(_no_done, None),
    "two-usages": Fault(_two_usages, None),
    "gzip": Fault(_gzipped, None),
    "until-close": Fault(_closing, None),
}


def after(good: Callable[[], Script], count: int, fault: Script) -> Callable[[], Script]:
    """A server that answers `count` requests well, and then fails."""

    def make() -> Script:
        healthy = good()

        def answer(asked: Asked, reply: Reply) -> object:
            return healthy(asked, reply) if asked.number < count else fault(asked, reply)

        return answer

    return make
