"""What the bytes of an answer mean: events with their stamps, text, counts, reasons, and faults by class.

Runs after the answer has ended.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Final

from engine.measure.live.events import EVENT_END, blocks_of, cut_again
from engine.measure.live.http_client import Exchange
from engine.measure.live.json_text import from_json

__all__ = ["Answer", "read_answer"]

_DONE: Final = b"[DONE]"
_SHOWN: Final = 500
_TEXT_KEY: Final = re.compile(rb'"(?:content|text)": ?"')
_MOST_UNPACKED: Final = 256 * 1024 * 1024
_MOST_EVENTS: Final = 1_000_000
_LONGEST_RUN: Final = 256
"""Blocks compared at once, so that a stream whose form changes often costs no more than others."""
_MOST_TOKENS: Final = 10**9
"""No answer has more; what a server counts beyond it is no count."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its meaning."""

    error_class: str | None = None
    error: str | None = None
    text: str = ""
    first_text: str = ""
    """Text that came first: of all pieces with the first stamp."""
    streamed: bool | None = None
    """It came as events; False for one JSON body, None for neither."""
    event_ns: tuple[int, ...] = ()
    """Pieces with text or reasoning."""
    event_tokens: tuple[int, ...] | None = None
    first_event_ns: int | None = None
    first_answer_ns: int | None = None
    prompt_tokens: int | None = None
    cached_prompt_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_reason: str | None = None
    done_marker: bool = False
    server_prefill_s: float | None = None
    server_decode_s: float | None = None
    model: str | None = None
    """Name the server gave itself."""


def read_answer(exchange: Exchange, *, stream: bool) -> Answer:
    """The meaning of an exchange, or the class of its failure."""
    if exchange.error_class is not None and not exchange.pieces:
        return Answer(exchange.error_class, exchange.error)
    if exchange.status is not None and exchange.status != 200:
        return _refused(exchange)
    pieces = exchange.pieces
    packed = exchange.headers.get(b"content-encoding", b"identity").strip().lower()
    if b"gzip" not in packed and packed not in (b"", b"identity"):
        return Answer("protocol", f"the answer is packed as `{_shown(packed)}`, which nobody asked for")
    if b"gzip" in packed:
        unpacked = _unpacked(pieces)
        if unpacked is None:
            return Answer("protocol", "the compressed answer cannot be read")
        pieces = unpacked
    kind = exchange.headers.get(b"content-type", b"").lower()
    if stream and b"event-stream" in kind:
        answer = _streamed(pieces, exchange.stamps)
    elif b"json" in kind:
        answer = _whole(b"".join(pieces), exchange.done_ns)
    else:
        shown = kind.decode(errors="replace") or "nothing"
        return Answer("not-an-answer", f"status 200 with content type `{shown}`: {_shown(b''.join(pieces))}")
    if exchange.error_class is not None:
        return replace(answer, error_class=exchange.error_class, error=exchange.error)
    return answer


def _refused(exchange: Exchange) -> Answer:
    status = exchange.status or 0
    if 300 <= status < 400:
        place = exchange.headers.get(b"location", b"").decode(errors="replace")
        return Answer("redirect", f"status {status} to `{place[:200]}`; redirects are not followed")
    wait = exchange.headers.get(b"retry-after")
    after = f" (Retry-After {wait.decode(errors='replace')[:40]})" if wait else ""
    return Answer(f"http-{status}", f"status {status}{after}: {_shown(exchange.body)}")


def _shown(body: bytes) -> str:
    text = body[:_SHOWN].decode(errors="replace")
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _unpacked(pieces: Sequence[bytes]) -> list[bytes] | None:
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    found, total = [], 0
    try:
        for piece in pieces:
            found.append(unzip.decompress(piece, _MOST_UNPACKED - total))
            total += len(found[-1])
            if total >= _MOST_UNPACKED:
                return None
    except zlib.error:
        return None
    return found


@dataclass(slots=True)
class _Reading:
    """What has been understood so far."""

    texts: list[bytes] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    counts: list[int | None] = field(default_factory=list)
    """Output tokens so far, told with each piece."""
    first: int | None = None
    answer: int | None = None
    finish: str | None = None
    done: bool = False
    usage: dict[str, Any] | None = None
    timings: dict[str, Any] | None = None
    model: str | None = None


class _Pattern:
    """What the events of one stream have in common around their text.

    Most events differ in nothing else, so that the text can be cut out of later ones; whatever does not match
    exactly is parsed in full.
    """

    def __init__(self) -> None:
        self._before = self._after = b""
        self.head = b"data: "
        """What this server writes before the data."""

    def learn(self, data: bytes, text: str) -> None:
        """Take an event with this text as the pattern, where the text stands in it as it is."""
        places = list(_TEXT_KEY.finditer(data))
        if len(places) != 1:
            return
        start = places[0].end()
        end = data.find(b'"', start)
        if data[start:end] == text.encode(errors="replace") and b"\\" not in data[start:end]:
            self._before, self._after = self.head + data[:start], data[end:] + EVENT_END

    def take(self, reading: _Reading, blocks: Sequence[bytes], first: int, stamps: Sequence[int]) -> int:
        """Read blocks from `first` on for as long as they match; the position of the first that was not read.

        How many tokens a second the generator can stand is decided here.
        """
        before, after = self._before, self._after
        if not before or first == len(blocks):
            return first
        block = blocks[first]
        if not (block.startswith(before) and block.endswith(after) and block.find(b"\n") == len(block) - 2):
            return first
        texts = _strings(_between(blocks[first : first + _LONGEST_RUN], before, after))
        count = len(texts)
        times = stamps[first : first + count]
        if not all(texts):
            times = [time for time, text in zip(times, texts, strict=True) if text]
            texts = [text for text in texts if text]
        reading.texts += texts
        reading.stamps += times
        reading.counts += [None] * len(texts)
        return first + count


def _between(blocks: Sequence[bytes], before: bytes, after: bytes) -> list[bytes]:
    """What stands between the two in each block, up to the first one that is not of this form; it is not the
    first of all."""
    count = len(blocks)
    while not (blocks[count - 1].startswith(before) and blocks[count - 1].endswith(after)):
        count -= 1
    if count < len(blocks):
        blocks = blocks[:count]
    texts = list(map(itemgetter(slice(len(before), -len(after))), blocks))
    # In most streams only the last few blocks differ: one comparison of everything instead of two a block.
    if before + (after + before).join(texts) + after == b"".join(blocks):
        return texts
    alike = [block.startswith(before) and block.endswith(after) for block in blocks]
    return texts[: alike.index(False)]


def _strings(texts: list[bytes]) -> list[bytes]:
    """What JSON makes of each of these between quotes, up to the first of several lines; nothing where one of
    them is not a string."""
    plain = b"".join(texts)
    if b"\n" in plain:  # a block of several events
        texts = texts[: next(i for i, text in enumerate(texts) if b"\n" in text)]
        plain = b"".join(texts)
    if b'"' not in plain and b"\\" not in plain:
        return texts
    # A string does not go over the end of a line: as many strings as texts are these texts and nothing else.
    try:
        found = from_json(b'["' + b'",\n"'.join(texts) + b'"]')
    except (ValueError, RecursionError):
        return []
    if len(found) != len(texts) or not all(isinstance(text, str) for text in found):
        return []
    return [text.encode(errors="replace") for text in found]


def _streamed(pieces: Sequence[bytes], stamps: Sequence[int]) -> Answer:
    reading, pattern = _Reading(), _Pattern()
    blocks, times = blocks_of(pieces, stamps)
    fault: tuple[str, str] | None = None
    position = 0
    while fault is None:
        position = pattern.take(reading, blocks, position, times)
        if position == len(blocks):
            break
        if not blocks[position].endswith(EVENT_END):
            blocks, times = cut_again(blocks[position:], times[position:])
            position = 0
        fault = _take_block(reading, times[position], blocks[position], pattern)
        position += 1
        if position > _MOST_EVENTS:
            fault = ("too-large", "more than a million events")
    if fault is None and not reading.done and reading.finish is None:
        fault = ("cut", "the stream ended without a reason and without `[DONE]`")
    return _answer(reading, fault)


def _take_block(reading: _Reading, stamp: int, block: bytes, pattern: _Pattern) -> tuple[str, str] | None:
    """Take in the events of one block; a fault when one cannot be understood."""
    for event in block.split(EVENT_END):
        if event.startswith(b"data: ") and b"\n" not in event:
            data = event[6:]
        elif not event:
            continue
        else:
            lines = event.split(b"\n")
            found = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
            if not found:
                continue  # a comment, or other fields only
            data = b"\n".join(found)
            if any(line.startswith(b"event:") and line[6:].strip() == b"error" for line in lines):
                return "error-event", f"the server sent an error: {_shown(data)}"
        if reading.first is None:
            reading.first = stamp
        if data == _DONE:
            reading.done = True
            continue
        pattern.head = event.removesuffix(data)
        fault = _understand(reading, stamp, data, pattern)
        if fault is not None:
            return fault
    return None


def _understand(reading: _Reading, stamp: int, data: bytes, pattern: _Pattern) -> tuple[str, str] | None:
    """Take in one event; a fault when it cannot be understood."""
    try:
        event = from_json(data)
    except UnicodeDecodeError:
        return "bad-utf8", f"an event is not UTF-8: {_shown(data)}"
    except (ValueError, RecursionError):
        if b"\xff" in data or not _is_utf8(data):
            return "bad-utf8", f"an event is not UTF-8: {_shown(data)}"
        return "bad-json", f"an event is not JSON: {_shown(data)}"
    if not isinstance(event, dict):
        return "bad-json", f"an event is not an object: {_shown(data)}"
    if event.get("error") is not None or event.get("object") == "error":
        shown = event.get("error") or event.get("message")
        return "error-event", f"the server sent an error: {_shown(str(shown).encode())}"
    usage = event.get("usage")
    if isinstance(usage, dict):
        reading.usage = usage
    if isinstance(event.get("timings"), dict):
        reading.timings = event["timings"]
    if reading.model is None and isinstance(event.get("model"), str):
        reading.model = event["model"]
    choices = event.get("choices")
    if not choices:
        return None
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        return "bad-json", "`choices` is not a list of objects"
    if len(choices) > 1 or choices[0].get("index"):
        return "many-choices", "more than one choice; exactly one was asked for"
    answered = _take_choice(reading, stamp, choices[0], usage)
    if answered and usage is None and reading.finish is None:
        pattern.learn(data, answered)
    return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _take_choice(reading: _Reading, stamp: int, choice: dict[str, Any], usage: Any) -> str | None:
    """Note the piece of a choice; its visible text, if it has any."""
    delta = choice.get("delta")
    if isinstance(delta, dict):
        text = delta.get("content")
        thought = delta.get("reasoning_content") or delta.get("reasoning")
    else:
        text, thought = choice.get("text"), None
    if isinstance(text, list):
        text, thought = _of_parts(text)
    if text or thought:
        reading.stamps.append(stamp)
        reading.texts.append(str(text or thought).encode(errors="replace"))
        reading.counts.append(_count(usage.get("completion_tokens")) if isinstance(usage, dict) else None)
        if text and reading.answer is None:
            reading.answer = stamp
    reason = choice.get("finish_reason")
    if reason:
        reading.finish = str(reason)
    return text if isinstance(text, str) and text else None


def _of_parts(parts: list[Any]) -> tuple[str, str]:
    """Visible text and reasoning of content that comes as a list of parts."""
    mappings = [part for part in parts if isinstance(part, dict)]
    text = "".join(str(part["text"]) for part in mappings if part.get("text"))
    return text, "".join(_of_parts(part["thinking"])[0] for part in mappings
                         if isinstance(part.get("thinking"), list))  # fmt: skip


def _whole(body: bytes, done_ns: int) -> Answer:
    """An answer in one piece."""
    try:
        event = from_json(body)
    except (ValueError, RecursionError):
        return Answer("bad-json" if _is_utf8(body) else "bad-utf8", f"not JSON: {_shown(body)}")
    if not isinstance(event, dict):
        return Answer("bad-json", f"not an object: {_shown(body)}")
    choices = event.get("choices")
    reading = _Reading(first=done_ns)
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
        if isinstance(message, dict):
            event = {**event, "choices": [{**choices[0], "delta": message}, *choices[1:]]}
    fault = _understand_whole(reading, done_ns, event)
    answer = _answer(reading, fault)
    # Nothing is known of when its tokens came.
    return replace(answer, streamed=False, event_ns=(), event_tokens=None, first_answer_ns=None)


def _understand_whole(reading: _Reading, stamp: int, event: dict[str, Any]) -> tuple[str, str] | None:
    if event.get("error") is not None:
        return "error-event", f"the server sent an error: {_shown(str(event['error']).encode())}"
    usage = event.get("usage")
    reading.usage = usage if isinstance(usage, dict) else None
    timings = event.get("timings")
    reading.timings = timings if isinstance(timings, dict) else None
    reading.model = event.get("model") if isinstance(event.get("model"), str) else None
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "bad-json", "the answer has no `choices`"
    if len(choices) > 1:
        return "many-choices", "more than one choice; exactly one was asked for"
    _take_choice(reading, stamp, choices[0], usage)
    return None


def _answer(reading: _Reading, fault: tuple[str, str] | None) -> Answer:
    usage, timings = reading.usage or {}, reading.timings or {}
    prompt = usage.get("prompt_tokens_details")
    output = usage.get("completion_tokens_details")
    cached = _count(prompt.get("cached_tokens")) if isinstance(prompt, dict) else None
    if cached is None:
        cached = _count(timings.get("cache_n"))
    tokens = _count(usage.get("completion_tokens"))
    text = b"".join(reading.texts)
    first = b"".join(reading.texts[: reading.stamps.count(reading.stamps[0])]) if reading.stamps else b""
    if fault is None and not _is_utf8(text):
        fault = ("bad-utf8", f"the text is not UTF-8: {_shown(text)}")
    if reading.stamps:
        tokens = tokens or None  # text came, so a count of nothing is none
    if fault is None and not reading.stamps and not tokens:
        fault = ("empty-answer", f"no text came, finish reason `{reading.finish}`")
    return Answer(
        error_class=fault[0] if fault else None,
        error=fault[1] if fault else None,
        text=text.decode(errors="replace"),
        first_text=first.decode(errors="replace"),
        streamed=True,
        event_ns=tuple(reading.stamps),
        event_tokens=_by_event(reading.counts, tokens),
        first_event_ns=reading.first,
        first_answer_ns=reading.answer,
        prompt_tokens=_count(usage.get("prompt_tokens")) or None,
        cached_prompt_tokens=cached,
        output_tokens=tokens,
        reasoning_tokens=_count(output.get("reasoning_tokens")) if isinstance(output, dict) else None,
        finish_reason=reading.finish,
        done_marker=reading.done,
        server_prefill_s=_seconds(timings.get("prompt_ms")),
        server_decode_s=_seconds(timings.get("predicted_ms")),
        model=reading.model,
    )


def _by_event(counts: list[int | None], total: int | None) -> tuple[int, ...] | None:
    """Tokens of each piece, where the server told the sum with every piece and it only grows."""
    if None in counts or len(counts) < 2 or total is None:
        return None
    told = [count for count in counts if count is not None]
    steps = [after - before for before, after in zip([0, *told], told, strict=False)]
    # The token that only ends an answer may come without a piece.
    return tuple(steps) if min(steps) >= 0 and total - told[-1] in (0, 1) else None


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= _MOST_TOKENS else None


def _seconds(value: object) -> float | None:
    return float(value) / 1e3 if isinstance(value, int | float) and not isinstance(value, bool) else None
