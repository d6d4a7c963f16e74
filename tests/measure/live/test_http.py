"""Loads against the paced and the instant stub: what is sent, when, and what is made of it."""

from __future__ import annotations

import asyncio
import json
import os
from itertools import pairwise

import pytest

from engine.errors import EnvironmentMissing, MeasurementError, UsageError
from engine.measure.live.http_client import address_of
from engine.measure.live.load import arrivals, read_trace
from engine.measure.live.search import queue_requests
from engine.spec.live import LiveSettings, Load
from engine.testing.faults import FAULTS, after
from engine.testing.stub_server import instant, paced, piece, running, usage

QUICK = {"repeats": 2, "warmup": "0 s", "predict": False}


def live(base, load, **more):
    target = {"kind": "openai", "base_url": base, "model": "stub", **more.pop("target", {})}
    return {"target": target, "load": load, **QUICK, **more}


def request_rows(tables):
    return [row for row in tables["requests"] if row["run_phase"] != "warmup"]


def test_closed_loop_keeps_its_number_in_flight(measure):
    with running(lambda: paced(0.02, 0.002)) as (base, server):
        tables = measure(live(base, {"concurrency": [1, 4], "requests": 12}))
    row = {r["variant"]: r for r in tables["summary"]}
    assert row["concurrency 4"]["completed_requests"] == 24
    assert row["concurrency 1"]["ttft_s"] >= 0.02
    assert row["concurrency 4"]["tpot_s"] >= 0.001
    assert {r["token_source"] for r in request_rows(tables)} == {"usage"}
    # No prompt was asked twice, over all loads, repeats and the probe.
    prompts = [json.dumps(asked.body["messages"]) for asked in server.asked]
    assert len(set(prompts)) == len(prompts)
    flying = request_rows(tables)
    most = max(
        sum(a["repeat"] == b["repeat"] and a["variant"] == b["variant"] == "concurrency 4"
            and a["sent_s"] <= b["sent_s"] < a["done_s"] for a in flying)
        for b in flying
    )  # fmt: skip
    assert most == 4


def test_the_servers_own_times_agree(measure):
    with running(lambda: paced(0.03, 0.003)) as (base, _):
        tables = measure(live(base, {"concurrency": [1], "requests": 8}))
    gaps = sorted(r["first_token_s"] - r["sent_s"] - r["server_prefill_s"] for r in request_rows(tables))
    assert gaps[0] >= 0  # we cannot see a token before the server wrote it
    assert all(r["server_decode_s"] > 0 for r in request_rows(tables))


def test_prompt_lengths_are_learnt_from_what_the_server_counts(measure):
    """Nobody here knows its tokenizer: three tokens a word, and 13 around them."""

    def script(asked, reply):
        reply.head()
        reply.event(piece(" a", chat=True, finish="length"))
        counts = {"prompt_tokens": 3 * asked.prompt_tokens + 13, "completion_tokens": 1}
        reply.event(json.dumps({"choices": [], "usage": counts}).encode())
        reply.end()

    with running(lambda: script) as (base, _):
        tables = measure(live(base, {"concurrency": [1], "requests": 4}), workload={"prompt_tokens": 100})
    assert {r["prompt_tokens"] for r in request_rows(tables)} == {100}
    assert "prompt-length" not in {f["rule"] for f in tables["findings"]}


def test_short_and_long_prompts_in_one_load(measure):
    with running(lambda: paced(0.001, 0.001)) as (base, _):
        load = {"concurrency": [2], "requests": 6, "prompt_lengths": [8, 30]}
        tables = measure(live(base, load, repeats=1))
    rows = sorted(request_rows(tables), key=lambda r: r["request"])
    assert [r["prompt_tokens"] for r in rows] == [8, 30] * 3


def test_open_patterns_count_from_the_schedule(measure):
    """A server that takes one request at a time makes later ones wait; only the schedule shows it."""
    with running(lambda: paced(0.05, 0.001, parallel=1)) as (base, _):
        tables = measure(live(base, {"pattern": "constant", "rate": ["100 /s"], "requests": 10}, repeats=1))
    rows = sorted(request_rows(tables), key=lambda r: r["scheduled_s"])
    waits = [r["first_token_s"] - r["scheduled_s"] for r in rows]
    # Every 10 ms one arrives, every 50 ms one is served: the tenth waits at least 10 x 50 - 9 x 10 ms.
    assert waits[-1] >= 0.40
    row = tables["summary"][0]
    assert row["variant"] == "constant 100/s"
    assert row["ttft_from_schedule_s"] >= row["ttft_s"]
    assert row["offered_requests_per_s"] == pytest.approx(100)
    assert "saturated" in {f["rule"] for f in tables["findings"]}


def test_no_request_leaves_before_it_is_due(measure):
    with running(instant) as (base, _):
        tables = measure(live(base, {"pattern": "poisson", "rate": ["150 /s"], "requests": 40}, repeats=1))
    assert min(r["sent_s"] - r["scheduled_s"] for r in request_rows(tables)) >= 0


def test_a_server_that_keeps_up_is_not_saturated(measure):
    with running(lambda: paced(0.05, 0.001)) as (base, _):
        tables = measure(live(base, {"pattern": "constant", "rate": ["50 /s"], "requests": 20}, repeats=1))
    assert "saturated" not in {f["rule"] for f in tables["findings"]}


def test_a_binding_cap_is_named(measure):
    with running(lambda: paced(0.05, 0.001)) as (base, _):
        load = {"pattern": "constant", "rate": ["200 /s"], "requests": 10, "max_in_flight": 1}
        tables = measure(live(base, load, repeats=1))
    assert "client-limited" in {f["rule"] for f in tables["findings"]}
    assert max(r["sent_s"] - r["scheduled_s"] for r in request_rows(tables)) > 0.2


def test_schedules_by_hand_and_by_seed():
    def offsets(pattern, **more):
        load = Load.model_validate({"pattern": pattern, "rate": ["10 /s"], **more})
        return [a.at_s for a in arrivals(load, rate=10, count=2000, seed=5)]

    assert offsets("constant")[:4] == [0, 0.1, 0.2, 0.3]
    assert offsets("burst", burst=3)[:6] == pytest.approx([0, 0, 0, 0.3, 0.3, 0.3])
    assert offsets("poisson") == offsets("poisson")
    for pattern, spread in (("poisson", 1.0), ("gamma", 2**0.5)):
        times = offsets(pattern)
        gaps = [b - a for a, b in pairwise(times)]
        mean = sum(gaps) / len(gaps)
        deviation = (sum((g - mean) ** 2 for g in gaps) / len(gaps)) ** 0.5
        # The rate is met exactly: a search that offers another rate than it says answers wrong.
        assert mean == pytest.approx(0.1, rel=1e-9)
        # Coefficient of variation of gamma gaps of shape k is 1 / sqrt(k); 0.5 by default.
        assert deviation / mean == pytest.approx(spread, rel=0.12)
    ramp = offsets("ramp")
    # From 1/s to 10/s: 2000 requests take 2 x 2000 / 11 s; the gap shrinks from 1 s to a tenth.
    assert ramp[1] - ramp[0] == pytest.approx(1, rel=0.02)
    assert ramp[-1] - ramp[-2] == pytest.approx(0.1, rel=0.02)


def test_a_trace_is_replayed(measure, tmp_path):
    (tmp_path / "trace.csv").write_text(
        "arrival,prompt_tokens,output_tokens\n10.00,8,2\n10.05,16,3\n10.02,12,1\n"
    )
    with running(instant) as (base, _):
        load = {"pattern": "replay", "trace": "trace.csv", "time_scale": 2.0}
        tables = measure(live(base, load, repeats=1), folder=tmp_path)
    rows = sorted(request_rows(tables), key=lambda r: r["request"])
    assert [r["scheduled_s"] for r in rows] == pytest.approx([0, 0.04, 0.10], abs=1e-6)
    assert [(r["prompt_tokens_asked"], r["output_tokens"]) for r in rows] == [(8, 2), (12, 1), (16, 3)]


@pytest.mark.parametrize("source", ["synthetic", "file"])
def test_prompts_of_a_file_have_no_prediction(measure, tmp_path, source):
    (tmp_path / "asked.txt").write_text("one two three\nfour five\n")
    prompts = {"source": "file", "file": "asked.txt"} if source == "file" else {}
    with running(instant) as (base, _):
        tables = measure(
            live(base, {"requests": 4}, repeats=1, prompts=prompts, predict=True), folder=tmp_path
        )
    assert (tables["summary"][0].get("bound_time_s") is None) is (source == "file")


def test_a_trace_may_have_dates(tmp_path):
    (tmp_path / "azure.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,14,4\n2023-11-16 18:17:04.0319600,19,3\n"
    )
    first, second = read_trace(tmp_path / "azure.csv")
    assert (first.prompt_tokens, first.output_tokens) == (14, 4)
    assert second.at_s == pytest.approx(0.052, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "row 2 of `t` has no arrival time"),
        ("arrival\nsoon\n", "row 2 of `t`: `arrival` is `soon`, not a number"),
        ("arrival\n-1\n", "row 2 of `t`: `arrival` is `-1`, not a number"),
        ("arrival\nnan\n", "row 2 of `t`: `arrival` is `nan`, not a number"),
        ('{"arrival": 1}\n[2]\n', "line 2 of the trace is not an object"),
        ("arrival\n", "trace `t` has no rows"),
    ],
)
def test_a_bad_trace_names_its_row(tmp_path, text, message):
    (tmp_path / "t").write_text(text)
    with pytest.raises(MeasurementError) as caught:
        read_trace(tmp_path / "t")
    assert caught.value.message == message


def test_fields_a_server_refuses_are_left_out_and_recorded(measure):
    def strict():
        answer = instant()

        def script(asked, reply):
            extra = sorted({"ignore_eos", "min_tokens"} & set(asked.body))
            if extra:
                reply.whole(json.dumps({"detail": f"unknown fields: {extra}"}).encode(),
                            status="422 Unprocessable Entity")  # fmt: skip
                return
            answer(asked, reply)

        return script

    with running(strict) as (base, _):
        tables = measure(live(base, {"concurrency": [1], "requests": 4}))
    observed = {row["setting"]: row for row in tables["observed"]}
    assert observed["ignore_eos"] == {
        "point": 0, "variant": None, "setting": "ignore_eos", "requested": "true", "observed": "false",
    }  # fmt: skip
    assert observed["dialect"]["observed"] == "refused with status 422: ignore_eos, min_tokens"
    assert tables["summary"][0]["error_rate"] == 0


def test_token_ids_are_sent_where_the_server_takes_them(measure):
    with running(instant) as (base, server):
        tables = measure(
            live(base, {"concurrency": [1], "requests": 3}, target={"endpoint": "completions"}),
            workload={"prompt_tokens": 20},
        )
    assert {len(a.body["prompt"]) for a in server.asked[2:]} == {20}
    assert {r["prompt_tokens"] for r in request_rows(tables)} == {20}


def test_usage_with_every_piece_tells_tokens_of_each(measure):
    def continuous():
        def script(asked, reply):
            reply.head()
            for i, total in enumerate((3, 4, 6)):
                counts = {"prompt_tokens": 3, "completion_tokens": total}
                reply.event(piece(" x", chat=asked.chat, finish="length" if i == 2 else None, usage=counts))
            reply.event(b"[DONE]")
            reply.end()

        return script

    with running(continuous) as (base, _):
        tables = measure(live(base, {"concurrency": [1], "requests": 2}))
    assert {(r["output_tokens"], r["events"]) for r in request_rows(tables)} == {(6, 3)}
    assert "itl_s" not in tables["summary"][0]


def packed(sizes):
    """A server that sends pieces of so many tokens, words here, and counts at the end only."""

    async def script(asked, reply):
        reply.head()
        for number, size in enumerate(sizes):
            finish = "length" if number == len(sizes) - 1 else None
            reply.event(piece(" token" * size, chat=asked.chat, finish=finish))
            await asyncio.sleep(0.004)
        reply.event(usage(asked, sum(sizes)))
        reply.event(b"[DONE]")
        reply.end()

    return script


def test_tokens_of_the_first_piece_are_counted_where_somebody_can(measure, monkeypatch):
    """Pieces of 5, 1, 3 and 3: the time of a token is that of the 7 after the first piece."""
    monkeypatch.setattr("engine.measure.live.serve.load_tokenizer", lambda *_: lambda text: len(text.split()))
    with running(lambda: packed((5, 1, 3, 3))) as (base, _):
        target = {"tokenizer": "words"}
        tables = measure(live(base, {"concurrency": [1], "requests": 4}, target=target))
    for row in request_rows(tables):
        assert (row["first_tokens"], row["first_tokens_source"]) == (5, "tokenizer")
        assert row["output_tokens"] == 12
    spans = [(r["last_token_s"] - r["first_token_s"]) / 7 for r in request_rows(tables)]
    assert tables["summary"][0]["tpot_s"] == pytest.approx(sum(spans) / len(spans), rel=1e-6)
    (finding,) = [f for f in tables["findings"] if f["rule"] == "packed-pieces"]
    assert finding["severity"] == "note"
    assert finding["finding"] == (
        "concurrency 1: 8 of 8 answers came in pieces of 3 tokens on average; those of the first one were "
        "counted by tokenizer"
    )


def test_a_first_piece_that_nobody_can_count_leaves_no_time_per_token(measure):
    with running(lambda: packed((5, 1, 3, 3))) as (base, _):
        limits = {"tpot_s": "<= 1 s"}
        tables = measure(live(base, {"concurrency": [1], "requests": 4}, require=limits))
    (row,) = tables["summary"]
    assert row["ttft_s"] > 0
    assert "tpot_s" not in row
    assert "goodput_share" not in row
    found = {f["rule"]: f for f in tables["findings"]}
    assert found["packed-pieces"]["finding"].endswith(
        "nobody knows how many the first one of 8 held, so they have no time per token"
    )
    assert found["packed-pieces"]["change"] == "target: {tokenizer: FOLDER_OR_NAME}"
    assert found["goodput-unknown"]["finding"] == (
        "concurrency 1: 8 requests lack a metric that `require` limits, so there is no goodput"
    )


def test_a_search_whose_limits_nobody_can_judge_says_so(measure):
    with running(lambda: packed((5, 1, 3, 3))) as (base, _):
        load = {"pattern": "rate_search", "requests": 4, "rate": ["100 /s"]}
        tables = measure(live(base, load, require={"tpot_s": "<= 1 s"}), failing=True)
    (row,) = tables["summary"]
    assert row["reason"].startswith("100.0% of the requests lack a metric that `require` limits")


def test_cached_prompts_are_found(measure):
    def caching():
        def script(asked, reply):
            reply.head()
            reply.event(piece(" x", chat=asked.chat, finish="length"))
            details = {"prompt_tokens": 16, "completion_tokens": 1,
                       "prompt_tokens_details": {"cached_tokens": 8}}  # fmt: skip
            reply.event(json.dumps({"choices": [], "usage": details}).encode())
            reply.event(b"[DONE]")
            reply.end()

        return script

    with running(caching) as (base, _):
        tables = measure(live(base, {"concurrency": [1], "requests": 4}))
    assert tables["summary"][0]["cached_prompt_share"] == 0.5
    assert tables["summary"][0]["short_share"] == 1.0
    assert {"prefix-cache", "short-answers"} <= {f["rule"] for f in tables["findings"]}


def test_too_many_failures_fail_the_load_and_keep_what_went_well(measure):
    # A probe, two prompts to learn lengths from, and eight good requests.
    with running(after(instant, 11, FAULTS["server-error"].answer)) as (base, _):
        tables = measure(live(base, {"concurrency": [2], "requests": 12}, repeats=1), failing=True)
    row = tables["summary"][0]
    assert row["status"] == "failed"
    assert (row["completed_requests"], row["failed_requests"]) == (8, 4)
    assert row["reason"].startswith("33.3% of the requests failed, more than 1.0%; 4 x http-500")
    assert row["ttft_s"] is not None
    assert {r["outcome"] for r in request_rows(tables)} == {"ok", "failed"}


def test_a_dead_server_is_given_up_after_twenty_failures(measure):
    with running(after(instant, 1, FAULTS["reset"].answer)) as (base, _):
        tables = measure(live(base, {"concurrency": [1], "requests": 500}, repeats=1), failing=True)
    assert len(request_rows(tables)) == 20
    assert "20 failures in a row" in tables["summary"][0]["reason"]


def test_a_repeat_of_failures_only_is_the_last(measure):
    with running(after(instant, 11, FAULTS["reset"].answer)) as (base, _):
        load = {"concurrency": [1], "requests": 8}
        tables = measure(live(base, load, repeats=5), failing=True)
    (row,) = tables["summary"]
    assert (row["completed_requests"], row["failed_requests"]) == (8, 8)
    assert row["reason"].endswith("given up after 2 of 5 repeats: nothing of the last one ended well")


def test_time_limit_keeps_what_was_measured(measure):
    with running(lambda: paced(0.02, 0.001)) as (base, _):
        load = {"concurrency": [1], "requests": 5000}
        tables = measure(live(base, load, repeats=3, time_limit="2 s"))
    row = tables["summary"][0]
    assert row["status"] == "ok"
    assert 1 <= row["completed_requests"] < 200
    assert "of 5000 requests" in row["reason"]
    assert "stopped after 1 of 3 repeats: time limit" in row["reason"]


def test_a_load_that_is_known_well_is_not_repeated(measure):
    with running(lambda: paced(0.02, 0.001)) as (base, _):
        tables = measure(live(base, {"concurrency": [1], "requests": 4}, repeats=8, precision=1.0))
    assert {r["repeat"] for r in request_rows(tables)} < set(range(8))
    assert tables["summary"][0]["wall_output_tokens_per_s_n"] < 8


def test_memory_of_a_server_whose_process_is_named(measure):
    with running(instant) as (base, _):
        tables = measure(live(base, {"concurrency": [1], "requests": 2}, target={"process": os.getpid()}))
    assert tables["summary"][0]["host_rss_peak_bytes"] > 30e6


def test_no_server_at_all(measure):
    with pytest.raises(MeasurementError) as caught:
        measure(live("http://127.0.0.1:1/v1", {"concurrency": [1]}))
    assert caught.value.message == (
        "`http://127.0.0.1:1/v1` gave no usable answer: refused: nobody listens there"
    )
    assert caught.value.hint == "start the server, or correct `base_url`"


def test_a_missing_key_names_its_variable_and_a_key_is_never_stored(measure, monkeypatch):
    settings = live("http://127.0.0.1:1/v1", {"concurrency": [1]}, target={"api_key_env": "LIVE_KEY"})
    monkeypatch.delenv("LIVE_KEY", raising=False)
    with pytest.raises(EnvironmentMissing) as caught:
        measure(settings)
    assert caught.value.message == "the environment variable `LIVE_KEY` is not set"
    monkeypatch.setenv("LIVE_KEY", "canary-0123456789")

    def echoing():
        answer = instant()

        def script(asked, reply):
            if asked.number > 2:
                reply.whole(asked.headers["authorization"].encode(), status="401 Unauthorized")
            else:
                answer(asked, reply)

        return script

    with running(echoing) as (base, server):
        tables = measure(
            live(base, {"concurrency": [1], "requests": 4}, target={"api_key_env": "LIVE_KEY"}), failing=True
        )
    assert server.asked[0].headers["authorization"] == "Bearer canary-0123456789"
    assert "canary" not in json.dumps(tables)


@pytest.mark.parametrize(
    "address",
    ["http://user:secret@127.0.0.1:1/v1", "ftp://x/v1", "http://h:99999/v1", "http://a..b/v1"],
)
def test_addresses_that_cannot_work(address):
    with pytest.raises(UsageError) as caught:
        address_of(address)
    assert "secret" not in caught.value.message


def test_saturation_stops_past_the_knee(measure):
    with running(lambda: paced(0.03, 0.01, parallel=2)) as (base, _):
        tables = measure(live(base, {"pattern": "saturation", "requests": 8}, repeats=1))
    variants = [row["variant"] for row in tables["summary"]]
    assert variants[:2] == ["concurrency 1", "concurrency 2"]
    assert len(variants) <= 4
    assert "saturated" in tables["summary"][-1]["reason"]


def test_the_highest_rate_within_limits_is_a_bracket(measure):
    """Four at a time, 40 ms each: 100 requests/s is the most, whatever the limit on waiting allows."""
    with running(lambda: paced(0.03, 0.01 / 3, parallel=4)) as (base, _):
        load = {"pattern": "rate_search", "requests": 60, "rate": ["400 /s"], "resolution": 0.5}
        limits = {"ttft_from_schedule_s": "<= 200 ms"}
        tables = measure(live(base, load, repeats=1, require=limits, attainment=0.9, time_limit="60 s"))
    reasons = " ".join(row["reason"] for row in tables["summary"])
    assert "the highest rate within the limits is at least" in reasons or "no tried rate" in reasons
    rows = sorted(tables["summary"], key=lambda row: row["offered_requests_per_s"])
    assert any(word in rows[-1]["reason"] for word in ("queue grows", "are wanted"))
    assert all(row["variant"].startswith("search ") for row in rows)


@pytest.mark.parametrize(("limits", "requests"), [
    ({"ttft_from_schedule_s": "<= 500 ms", "e2e_s": "<= 2 s"}, 1600),  # 4 x (40/s x 0.5 s)^2
    ({"tpot_s": "<= 50 ms"}, 0),
])  # fmt: skip
def test_a_longer_queue_takes_its_square_of_requests(limits, requests):
    settings = LiveSettings.model_validate(
        {"kind": "live", **live("http://127.0.0.1:1/v1", {}, require=limits)}
    )
    assert queue_requests(settings, 40) == requests


def test_a_rate_holds_only_over_as_many_requests_as_a_queue_takes(measure, monkeypatch):
    """Sixteen requests leave no time for a queue of 60 ms: whatever passes must pass over more."""
    monkeypatch.setattr("engine.measure.live.serve._OPEN_SECONDS", 0.1)
    with running(lambda: paced(0.01, 0.001, parallel=2)) as (base, _):
        load = {"pattern": "rate_search", "resolution": 0.5, "rate": ["120 /s"]}
        limits = {"ttft_from_schedule_s": "<= 60 ms"}
        tables = measure(live(base, load, repeats=1, require=limits, attainment=0.5))
    rows = tables["summary"]
    assert len({row["variant"] for row in rows}) == len(rows)
    passed = [row for row in rows if "of the requests meet the limits" in row["reason"]
              and "are wanted" not in row["reason"]]  # fmt: skip
    assert passed
    for row in passed:
        rate = float(row["variant"].removeprefix("search ").removesuffix("/s"))
        # The name has four digits of the rate.
        assert row["completed_requests"] == pytest.approx(4 * (rate * 0.06) ** 2, abs=2)
    # What was looked at first is warm-up of the same load.
    looked = [r for r in tables["requests"] if r["run_phase"] == "warmup"]
    assert len(looked) >= 16
    (answer,) = [f for f in tables["findings"] if f["rule"] == "rate-search"]
    assert answer["finding"].startswith("the highest rate within the limits is at least ")
    assert "too high" not in answer["finding"]
    assert answer["evidence"] == "limits: `ttft_from_schedule_s <= 60 ms`"


def test_a_search_of_few_requests_says_what_it_cannot_see(measure):
    with running(instant) as (base, _):
        load = {"pattern": "rate_search", "requests": 20, "rate": ["200 /s"]}
        tables = measure(live(base, load, repeats=1, require={"ttft_s": "<= 100 ms"}))
    (answer,) = [f for f in tables["findings"] if f["rule"] == "rate-search"]
    assert answer["finding"] == (  # 4 x (200/s x 0.1 s)^2
        "the highest rate within the limits is at least 200/s, the highest that was tried; in 20 requests no "
        "queue builds up that takes 1600, so it may be too high"
    )


def test_reasoning_text_counts_as_first_token_but_not_as_answer(measure):
    def thinking():
        async def script(asked, reply):
            reply.head()
            reply.event(b'{"choices": [{"delta": {"reasoning_content": "hm"}}]}')
            await asyncio.sleep(0.02)
            reply.event(piece(" x", chat=True, finish="stop"))
            reply.event(usage(asked, 2))
            reply.event(b"[DONE]")
            reply.end()

        return script

    with running(thinking) as (base, _):
        tables = measure(live(base, {"concurrency": [1], "requests": 3}))
    row = tables["summary"][0]
    assert row["ttft_answer_s"] >= row["ttft_s"] + 0.019


def plain():
    def script(asked, reply):
        body = {"choices": [{"message": {"content": "a b c d"}, "finish_reason": "length"}],
                "usage": {"prompt_tokens": 16, "completion_tokens": 4}}  # fmt: skip
        reply.whole(json.dumps(body).encode())

    return script


def test_a_server_that_ignores_streaming_is_named_and_its_whole_times_hold(measure):
    with running(plain) as (base, _):
        tables = measure(live(base, {"concurrency": [2], "requests": 4}, require={"ttft_s": "<= 1 s"}))
    (row,) = tables["summary"]
    assert (row["status"], row["output_tokens"], row["completed_requests"]) == ("ok", 2 * 4 * 4, 8)
    assert "ttft_s" not in row
    assert "goodput_share" not in row
    for request in request_rows(tables):
        assert request["streamed"] is False
        assert request["first_token_s"] is None
        assert request["done_s"] > request["sent_s"]
    found = {f["rule"]: f for f in tables["findings"]}
    assert found["not-streamed"]["severity"] == "warning"
    assert found["not-streamed"]["finding"] == (
        "concurrency 2: the server ignored `stream: true`: 8 of 8 answers came in one piece"
    )
    assert found["not-streamed"]["change"] == "target: {stream: false}"
    assert {"setting": "stream", "requested": "true", "observed": "false"}.items() <= next(
        r for r in tables["observed"] if r["setting"] == "stream"
    ).items()


def test_answers_without_text_are_named(measure):
    """Calls of tools are tokens and no text."""

    def calling():
        def script(asked, reply):
            reply.head()
            call = {"index": 0, "function": {"name": "f", "arguments": "{}"}}
            reply.event(json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode())
            reply.event(piece(None, chat=True, finish="tool_calls"))
            reply.event(usage(asked, 5))
            reply.end()

        return script

    with running(calling) as (base, _):
        tables = measure(live(base, {"concurrency": [1], "requests": 2}))
    assert tables["summary"][0]["output_tokens"] == 2 * 2 * 5
    assert "ttft_s" not in tables["summary"][0]
    assert "no-text" in {f["rule"] for f in tables["findings"]}


def test_whole_answers_have_no_first_token(measure):
    with running(plain) as (base, _):
        tables = measure(live(base, {"concurrency": [1], "requests": 3}, target={"stream": False}))
    row = tables["summary"][0]
    assert "ttft_s" not in row
    assert row["e2e_s"] > 0
    assert row["output_tokens"] == 2 * 3 * 4
