"""Cutting a body into events: the answer and its stamps are the same however its bytes came."""

from __future__ import annotations

import random

import pytest

from engine.measure.live.answer import read_answer
from engine.measure.live.events import blocks_of, cut_again
from engine.measure.live.http_client import Exchange
from engine.measure.live.json_text import from_json, to_json
from engine.testing.stub_server import piece

TEXTS = [" a", "", " b", ' "quoted"', " c\\n", "\n\n", "ü", ' a","b', " d", "😀"]


def exchange(pieces, stamps):
    kind = {b"content-type": b"text/event-stream"}
    return Exchange(status=200, headers=kind, pieces=pieces, stamps=stamps, done_ns=10**9)


def body_of(texts, *, line_end=b"\n"):
    """Events of these texts, with one of another form in the middle, and what follows the last."""
    events = [piece(text, chat=True) for text in texts]
    events.insert(len(events) // 2, piece(" other", chat=True, created=7))
    events.append(piece(None, chat=True, finish="length", usage={"completion_tokens": 9, "prompt_tokens": 2}))
    return [b"data: " + event + 2 * line_end for event in [*events, b"[DONE]"]]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("seed", range(12))
def test_an_answer_says_the_same_however_its_bytes_were_cut(seed, line_end):
    draw = random.Random(seed)
    texts = [draw.choice(TEXTS if seed % 2 else TEXTS[:3]) for _ in range(40)]
    events = body_of(texts, line_end=line_end)
    body = b"".join(events)
    cuts = sorted(draw.sample(range(1, len(body)), 30))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    # An event is there when the piece with its last byte is.
    ends = [sum(map(len, events[: i + 1])) for i in range(len(events))]
    stamps = [next(i for i, cut in enumerate([*cuts, len(body)]) if cut >= end) for end in ends]
    whole = read_answer(exchange(events, stamps), stream=True)
    assert whole.text == "".join([*texts[:20], " other", *texts[20:]])
    assert len(whole.event_ns) == sum(map(bool, texts)) + 1
    assert read_answer(exchange(pieces, list(range(31))), stream=True) == whole


def test_several_events_in_a_piece_share_its_stamp():
    events = body_of([" a"] * 8)
    pieces = [b"".join(events[i : i + 2]) for i in range(0, len(events), 2)]
    answer = read_answer(exchange(pieces, list(range(len(pieces)))), stream=True)
    assert answer.event_ns == (0, 0, 1, 1, 2, 2, 3, 3, 4)
    assert answer.text == " a" * 4 + " other" + " a" * 4


def test_what_looks_like_one_text_and_is_two_is_no_text():
    """`a","b` between quotes is two strings, and an event that holds it is no JSON."""
    events = [
        b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % text for text in (b"x", b"y", b'a","b')
    ]
    answer = read_answer(exchange(events, [1, 2, 3]), stream=True)
    assert (answer.error_class, answer.text, answer.event_ns) == ("bad-json", "xy", (1, 2))


def test_nothing_is_cut_that_may_be_whole():
    pieces = [b"data: 1\n\n", b"data: 2\n\ndata: 3\n\n", b"data: 4"]
    assert blocks_of(pieces, [1, 2, 3]) == (pieces, [1, 2, 3])
    assert cut_again(pieces, [1, 2, 3]) == ([b"data: %d\n\n" % i for i in range(1, 5)], [1, 2, 2, 3])
    assert blocks_of([b"\xef", b"\xbb\xbfdata: 1\r\n", b"\r\n"], [1, 2, 3]) == (
        [b"data: 1\n\n", b"\n\n"],
        [3, 3],
    )


def test_half_a_character_is_read_and_written():
    assert from_json(b'"\\ud83d"') == "\ud83d"
    assert to_json({"a": ["\ud83d", 1]}) == b'{"a":["\\ud83d",1]}'
