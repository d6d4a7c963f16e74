"""Every way a server can fail gets its class, and what went well before it is kept."""

from __future__ import annotations

import asyncio

import pytest

from engine.measure.live.answer import read_answer
from engine.measure.live.dialect import Dialect, Speaker
from engine.measure.live.http_client import HttpClient, address_of
from engine.spec.live import Deadlines, HttpTarget
from engine.testing.faults import FAULTS
from engine.testing.stub_server import StubServer, piece, usage

TIMES = {"connect": "1 s", "first_byte": "150 ms", "idle": "150 ms", "total": "600 ms"}


def exchange_with(script, *, requests=1, deadlines=TIMES, stream=True):
    """Answers of a server in the same loop, and the client that asked."""

    async def run():
        server = StubServer(script)
        port = await server.start()
        target = HttpTarget(kind="openai", base_url=f"http://127.0.0.1:{port}/v1", model="m", stream=stream)
        address = address_of(target.base_url)
        client = HttpClient(address, Deadlines.model_validate(deadlines))
        speaker = Speaker(target, address, Dialect(frozenset(("stream_options",))), key="secret-key")
        try:
            found = [await client.send(speaker.request("one two", 4)) for _ in range(requests)]
        finally:
            client.close()
            server.stop()
        return [read_answer(exchange, stream=stream) for exchange in found], found, server, client

    return asyncio.run(run())


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_class(name):
    answers, _, _, _ = exchange_with(FAULTS[name].answer)
    assert answers[0].error_class == FAULTS[name].expected, answers[0].error


def test_text_that_came_before_a_cut_keeps_its_stamps():
    answers, exchanges, _, _ = exchange_with(FAULTS["cut"].answer)
    assert answers[0].error == "the connection was closed in the middle of the answer"
    assert len(answers[0].event_ns) == 3
    assert exchanges[0].sent_ns < answers[0].event_ns[0] <= exchanges[0].done_ns


@pytest.mark.parametrize("texts", [
    [" a", " b", " c", " d"],
    [" a", "", " b", ' "quoted"', " c\\n", "", "ü", " d"],
    ["", "", " a", " a", " b"],
    [" a", " {}", '"}}]}', " b"],
])  # fmt: skip
def test_texts_of_equal_events_are_those_that_json_says(texts):
    """Most events are cut apart without being parsed; that must not change what they say."""

    def script(asked, reply):
        reply.head()
        for text in texts:
            reply.event(piece(text, chat=True))
        reply.event(piece(None, chat=True, finish="length"))
        reply.event(usage(asked, 7))
        reply.end()

    answers, _, _, _ = exchange_with(script)
    assert answers[0].error_class is None
    assert answers[0].text == "".join(texts)
    assert len(answers[0].event_ns) == sum(bool(text) for text in texts)
    assert answers[0].output_tokens == 7


def test_nobody_listens():
    async def run():
        client = HttpClient(address_of("http://127.0.0.1:1/v1"), Deadlines())
        return await client.send(b"GET / HTTP/1.1\r\n\r\n")

    exchange = asyncio.run(run())
    assert (exchange.error_class, exchange.error) == ("refused", "nobody listens there")


def test_a_name_without_address():
    async def run():
        client = HttpClient(address_of("http://nowhere.invalid/v1"), Deadlines())
        return await client.send(b"GET / HTTP/1.1\r\n\r\n")

    assert asyncio.run(run()).error_class == "dns"


def test_a_plain_server_behind_https():
    async def run():
        server = StubServer(FAULTS["no-done"].answer)
        port = await server.start()
        client = HttpClient(address_of(f"https://127.0.0.1:{port}/v1"), Deadlines.model_validate(TIMES))
        try:
            return await client.send(b"GET / HTTP/1.1\r\n\r\n")
        finally:
            server.stop()

    assert asyncio.run(run()).error_class in ("tls", "connect", "connect-timeout")


def test_the_key_is_sent_to_the_server_and_nowhere_else():
    answers, _, server, _ = exchange_with(FAULTS["redirect"].answer)
    assert server.asked[0].headers["authorization"] == "Bearer secret-key"
    assert server.count == 1
    assert answers[0].error == (
        "status 307 to `http://127.0.0.1:1/v1/chat/completions`; redirects are not followed"
    )


def test_a_connection_closed_while_idle_is_opened_again_and_counted():
    def closes_afterwards(asked, reply):
        FAULTS["no-done"].answer(asked, reply)
        if asked.number == 0:
            reply.finish()

    answers, _, _, client = exchange_with(closes_afterwards, requests=2)
    assert [a.error_class for a in answers] == [None, None]
    assert client.opened == 2


def test_connections_are_used_again():
    _, exchanges, server, client = exchange_with(FAULTS["no-done"].answer, requests=5)
    assert (client.opened, server.connections) == (1, 1)
    assert [e.connected_ns is None for e in exchanges] == [False, True, True, True, True]


def test_retry_after_is_shown():
    answers, _, _, _ = exchange_with(FAULTS["too-many-wait"].answer)
    assert answers[0].error == 'status 429 (Retry-After 3): {"error": {"message": "no"}}'


def test_the_last_usage_counts():
    answers, _, _, _ = exchange_with(FAULTS["two-usages"].answer)
    assert answers[0].output_tokens == 4


def test_a_merged_answer_has_one_stamp_and_says_so():
    answers, exchanges, _, _ = exchange_with(FAULTS["merged"].answer)
    assert len(answers[0].event_ns) == 4
    assert len(set(answers[0].event_ns)) == 1
    assert exchanges[0].reads < 4


def test_text_cut_in_mid_character_is_put_together():
    answers, _, _, _ = exchange_with(FAULTS["byte-by-byte"].answer)
    assert answers[0].text == " tökén end"
    assert answers[0].output_tokens == 2


def streamed(*events, before=b"", after=b"data: [DONE]\n\n"):
    """A server that sends these bytes as an event stream of known length."""

    def answer(_asked, reply):
        body = b"".join(events) + after
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
        reply.raw(before + head + body)

    return answer


def event(text, **more):
    return b"data: " + piece(text, chat=True, **more) + b"\n\n"


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints\r\nLink: </a>"])
def test_an_interim_answer_is_not_the_answer(interim):
    script = streamed(event(" a", finish="stop"), before=b"HTTP/1.1 " + interim + b"\r\n\r\n")
    answers, exchanges, _, client = exchange_with(script, requests=2)
    assert [answer.text for answer in answers] == [" a", " a"]
    assert [answer.error_class for answer in answers] == [None, None]
    assert b"link" not in exchanges[0].headers
    assert client.opened == 1


@pytest.mark.parametrize("last", [
    b'data: {"object": "error", "message": "engine died", "code": 500}\n\n',
    b"event: error\ndata: engine died\n\n",
    b'event:error\ndata: {"detail": "engine died"}\n\n',
])  # fmt: skip
def test_an_error_without_a_key_of_that_name_is_an_error(last):
    answers, _, _, _ = exchange_with(streamed(event(" a"), last))
    assert answers[0].error_class == "error-event"
    assert "engine died" in answers[0].error


def test_a_packing_nobody_asked_for_is_named():
    def answer(_asked, reply):
        reply.whole(b"\x0b\x02\x80", kind="text/event-stream", more=b"Content-Encoding: br\r\n")

    answers, _, _, _ = exchange_with(answer)
    assert answers[0].error_class == "protocol"
    assert answers[0].error == "the answer is packed as `br`, which nobody asked for"


def test_a_character_cut_between_its_halves_is_no_failure():
    halves = [
        b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % half for half in (b"\\ud83d", b"\\ude00")
    ]
    answers, _, _, _ = exchange_with(streamed(event(" a"), *halves, event(" b", finish="stop")))
    assert answers[0].error_class is None
    assert len(answers[0].event_ns) == 4


def test_a_byte_order_mark_hides_no_event():
    answers, _, _, _ = exchange_with(streamed(b"\xef\xbb\xbf" + event(" a"), event(" b", finish="stop")))
    assert answers[0].text == " a b"

    async def in_two_chunks(_asked, reply):
        reply.head()
        for data in (b"\xef", b"\xbb\xbf" + event(" a"), event(" b", finish="stop")):
            reply.raw(b"%x\r\n%s\r\n" % (len(data), data))
            await asyncio.sleep(0.005)
        reply.end()

    answers, _, _, _ = exchange_with(in_two_chunks)
    assert answers[0].text == " a b"
    assert len(set(answers[0].event_ns)) == 2


def test_a_second_choice_is_a_failure_however_it_comes():
    """Its tokens are in the usage, and its text is in nobody's."""
    second = b'data: {"choices": [{"index": 1, "delta": {"content": " b"}}]}\n\n'
    answers, _, _, _ = exchange_with(streamed(event(" a"), event(" a"), second, event(" a", finish="stop")))
    assert answers[0].error_class == "many-choices"

    def both(_asked, reply):
        reply.whole(b'{"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}')

    answers, _, _, _ = exchange_with(both, stream=False)
    assert answers[0].error_class == "many-choices"


@pytest.mark.parametrize(
    ("told", "counted"), [(0, None), (2.0, 2), (2.5, None), (-1, None), (10**9, 10**9), (10**22, None)]
)
def test_counts_that_cannot_be_are_none(told, counted):
    more = {"usage": {"prompt_tokens": told, "completion_tokens": told}}
    answers, _, _, _ = exchange_with(streamed(event(" a"), event(" b", finish="stop", **more)))
    assert answers[0].error_class is None
    assert (answers[0].prompt_tokens, answers[0].output_tokens) == (counted, counted)


def test_content_in_parts_is_text_and_reasoning():
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    parts = [{"type": "text", "text": " a"}, {"type": "text", "text": " b"}]
    answers, _, _, _ = exchange_with(streamed(event(thought), event(parts, finish="stop")))
    assert answers[0].text == "hm a b"
    assert len(answers[0].event_ns) == 2
    assert answers[0].first_answer_ns == answers[0].event_ns[1]
