"""What this very server understands, found out before anything is measured.

Servers differ in which optional fields they take and refuse; a tiny request with all of them shows it. What
is refused is left out from then on, and stands in the results; nothing is taken out while measuring.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure.live.answer import Answer, read_answer
from engine.measure.live.http_client import Address, HttpClient
from engine.measure.live.json_text import to_json
from engine.results.environment import without_secrets
from engine.spec.live import HttpTarget

__all__ = ["Dialect", "Speaker", "probe"]

_PROBE_TOKENS: Final = 4
_ATTEMPTS: Final = 8
_PROBE_TEXT: Final = "one two three four five six seven eight"


@dataclass(frozen=True)
class Dialect:
    """Which optional fields are sent, and what the answers hold."""

    fields: frozenset[str]
    """Optional fields the server takes."""
    limit: str = "max_tokens"
    """Name of the output limit."""
    takes_ids: bool = False
    """The prompt may be a list of token ids."""
    tells_usage: bool = False
    tells_timings: bool = False
    tokenizes: bool = False
    """It has `/tokenize`."""
    overhead: int = 0
    """Tokens it adds to a text, where both counts are known."""
    prompt_tokens: int | None = None
    """What it counted for the probe's text."""
    notes: tuple[str, ...] = ()
    model: str | None = None
    """Name it gave itself."""


@dataclass(frozen=True)
class Speaker:
    """Builds requests: a head made once, a body for each prompt."""

    target: HttpTarget
    address: Address
    dialect: Dialect
    key: str | None = field(default=None, repr=False)

    def request(self, prompt: str | list[int], output_tokens: int) -> bytes:
        """A complete request, ready to be written."""
        body = to_json(self.body(prompt, output_tokens))
        return self._head(len(body)) + body

    def body(self, prompt: str | list[int], output_tokens: int) -> dict[str, Any]:
        """What is asked for, with the optional fields this server takes."""
        target = self.target
        found: dict[str, Any] = {"model": target.model, self.dialect.limit: output_tokens}
        if target.endpoint == "chat":
            found["messages"] = [{"role": "user", "content": prompt}]
        else:
            found["prompt"] = prompt
        optional: dict[str, Any] = {"temperature": target.temperature}
        if target.stream:
            found["stream"] = True
            optional["stream_options"] = {"include_usage": True}
        if target.ignore_eos:
            optional |= {"ignore_eos": True, "min_tokens": output_tokens}
        return found | {name: value for name, value in optional.items() if name in self.dialect.fields}

    def without_key(self, text: str | None) -> str | None:
        """A text of the server, in which it may have repeated our key, without it."""
        return text.replace(self.key, "***") if text and self.key else text

    def _head(self, length: int) -> bytes:
        path = f"{self.address.path}/{'chat/' if self.target.endpoint == 'chat' else ''}completions"
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: {self.address.host_header}",
            "Content-Type: application/json",
            "Accept: text/event-stream" if self.target.stream else "Accept: application/json",
            "Accept-Encoding: identity",
            f"Content-Length: {length}",
        ]
        if self.key:
            lines.append(f"Authorization: Bearer {self.key}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def key_of(target: HttpTarget, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key from the environment; raises `EnvironmentMissing` naming the variable, never its value."""
    if target.api_key_env is None:
        return None
    key = environment.get(target.api_key_env, "").strip()
    if not key:
        raise EnvironmentMissing(
            f"the environment variable `{target.api_key_env}` is not set",
            hint="it holds the key of the server; the key itself never stands in a spec",
        )
    if not key.isprintable() or " " in key:
        raise EnvironmentMissing(f"the key in `{target.api_key_env}` holds blanks or control characters")
    return key


_OPTIONAL: Final = ("stream_options", "ignore_eos", "min_tokens", "temperature")


async def probe(
    target: HttpTarget,
    address: Address,
    client: HttpClient,
    *,
    key: str | None,
    count: Callable[[str], int] | None,
    tokenizes: bool,
    vocab_size: int,
) -> tuple[Speaker, Answer]:
    """A speaker for this server and the answer that proved it; raises `MeasurementError` for no answer."""
    dialect = Dialect(frozenset(_OPTIONAL), tokenizes=tokenizes)
    for _ in range(_ATTEMPTS):
        speaker = Speaker(target, address, dialect, key)
        exchange = await client.send(speaker.request(_PROBE_TEXT, _PROBE_TOKENS))
        answer = read_answer(exchange, stream=target.stream)
        if answer.error_class is None:
            break
        smaller = _without_refused(dialect, speaker, answer, exchange.status)
        if smaller is None:
            raise _no_answer(speaker, answer)
        dialect = smaller
    else:
        raise _no_answer(speaker, answer)
    overhead = 0
    if count is not None and answer.prompt_tokens is not None:
        overhead = max(0, answer.prompt_tokens - count(_PROBE_TEXT))
    dialect = replace(
        dialect,
        tells_usage=answer.output_tokens is not None,
        tells_timings=answer.server_prefill_s is not None,
        overhead=overhead,
        prompt_tokens=answer.prompt_tokens,
        model=answer.model,
    )
    if target.endpoint == "completions" and await _takes_ids(
        Speaker(target, address, dialect, key), client, vocab_size
    ):
        dialect = replace(dialect, takes_ids=True, overhead=0)
    return Speaker(target, address, dialect, key), answer


async def _takes_ids(speaker: Speaker, client: HttpClient, vocab_size: int) -> bool:
    ids = [min(vocab_size - 1, 100 + i) for i in range(8)]
    exchange = await client.send(speaker.request(ids, _PROBE_TOKENS))
    answer = read_answer(exchange, stream=speaker.target.stream)
    # A server that took the list for something else counts other tokens.
    return answer.error_class is None and answer.prompt_tokens in (None, len(ids), len(ids) + 1)


def _without_refused(
    dialect: Dialect, speaker: Speaker, answer: Answer, status: int | None
) -> Dialect | None:
    """The dialect without the fields that an error names; None when the error is about something else."""
    if status not in (400, 422):
        return None
    text = answer.error or ""
    if "max_completion_tokens" in text and dialect.limit == "max_tokens":
        return replace(dialect, limit="max_completion_tokens", notes=(*dialect.notes, "max_tokens renamed"))
    sent = set(speaker.body("", 1)) & dialect.fields
    named = {name for name in sent if re.search(rf"\b{name}\b", text)}
    if not named and sent - {"temperature"}:
        # It does not say which; the rarest first.
        named = {next(name for name in ("ignore_eos", "min_tokens", "stream_options") if name in sent)}
    if not named:
        return None
    note = f"refused with status {status}: " + ", ".join(sorted(named))
    return replace(dialect, fields=dialect.fields - named, notes=(*dialect.notes, note))


def _no_answer(speaker: Speaker, answer: Answer) -> MeasurementError:
    hints = {
        "refused": "start the server, or correct `base_url`",
        "tls": "put the authority of a private certificate into the file that `SSL_CERT_FILE` names",
        "http-401": "name the variable that holds the key with `api_key_env`",
        "http-403": "the key may not use this model",
        "http-404": "`base_url` usually ends in /v1, and `model` is the name the server serves",
        "redirect": "write the address it points to into `base_url`",
    }
    error = without_secrets(speaker.without_key(answer.error) or "")
    return MeasurementError(
        f"`{without_secrets(speaker.target.base_url)}` gave no usable answer: {answer.error_class}: {error}",
        hint=hints.get(answer.error_class or ""),
        error_class=answer.error_class,
    )


class ServerTokenizer:
    """Counts tokens with the server's own `/tokenize`, for texts and whole answers."""

    def __init__(self, target: HttpTarget, *, key: str | None) -> None:
        import httpx

        base = target.base_url.rstrip("/").removesuffix("/v1")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(
            base_url=base, headers=headers, timeout=10, follow_redirects=False, trust_env=False
        )
        self._model = target.model

    def count(self, text: str) -> int | None:
        """Tokens without special ones; None when the server has no such endpoint."""
        import httpx

        body = {"content": text, "prompt": text, "model": self._model, "add_special": False,
                "add_special_tokens": False}  # fmt: skip
        try:
            answer = self._client.post("/tokenize", json=body)
            found = answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None
        if not isinstance(found, dict):
            return None
        if isinstance(found.get("tokens"), list):
            return len(found["tokens"])
        count = found.get("count")
        return count if isinstance(count, int) else None

    def close(self) -> None:
        """Close its connection."""
        self._client.close()
