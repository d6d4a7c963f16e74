"""Numbers worked out by hand, and intervals that cover what they promise."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from engine.measure.live.records import Level, Measured, Repeat, Request
from engine.measure.live.statistics import (
    document_percentile,
    enough_for,
    narrow_enough,
    percentile,
    percentiles,
    steady_window,
    trend_is_up,
)
from engine.measure.live.summary import Goals, error_share, meets, summary_rows, tokens_in

MS = 1_000_000
GOOD = {"ttft_s": "<= 60 ms"}


def request(number=0, *, sent=0, first=50, gap=10, tokens=5, scheduled=None, **more):
    """A request with times in milliseconds."""
    events = tuple((sent + first + i * gap) * MS for i in range(tokens))
    at = sent * MS
    defaults = {
        "number": number,
        "scheduled_ns": at if scheduled is None else scheduled * MS,
        "dispatched_ns": at,
        "sent_ns": at,
        "done_ns": events[-1] if events else at + first * MS,
        "event_ns": events,
        "output_tokens": tokens,
        "prompt_tokens": 16,
    }
    return Request(**{**defaults, **more})


def test_a_request_by_hand():
    r = request(sent=100, first=50, gap=10, tokens=5, scheduled=80)
    assert r.ttft_s == 0.05
    assert r.ttft_from_schedule_s == 0.07
    assert r.queue_s == 0.02
    assert r.e2e_s == 0.09  # 50 + 4 x 10
    assert r.tpot_s == pytest.approx(0.01)  # (90 - 50) / (5 - 1)
    assert r.ntpot_s == pytest.approx(0.018)  # 90 / 5
    assert r.output_tokens_per_s_per_user == pytest.approx(100)


def test_one_token_has_no_time_per_token():
    assert request(tokens=1).tpot_s is None


def test_a_first_piece_of_several_tokens_is_taken_out():
    r = request(tokens=3, first=50, gap=10, event_tokens=(4, 1, 1), output_tokens=6)
    assert r.tpot_s == pytest.approx(0.01)  # 20 ms / (6 - 4)
    assert not r.one_token_events


def test_pieces_of_several_tokens_say_what_is_known_of_the_first():
    """Four tokens a piece on average: to take one for the first piece would be wrong by 3 tokens."""
    many = request(tokens=25, output_tokens=100)
    assert (many.packed, many.first_tokens, many.first_tokens_source) == (True, 4, "mean of the pieces")
    assert many.tpot_s == pytest.approx(0.0025)  # 24 gaps of 10 ms / 96 tokens; 99 would give 2.42 ms
    counted = replace(many, first_counted=1, first_counter="tokenizer")
    assert counted.tpot_s == pytest.approx(0.24 / 99)
    assert counted.first_tokens_source == "tokenizer"
    few = request(tokens=20, output_tokens=80)
    assert (few.first_tokens, few.first_tokens_source, few.tpot_s) == (None, "not known", None)
    told = replace(few, event_tokens=(61, *(1,) * 19), token_source="usage")
    assert (told.first_tokens, told.first_tokens_source) == (61, "usage")
    assert told.tpot_s == pytest.approx(0.01)  # 190 ms / 19


def test_tokens_that_share_the_first_read_are_all_left_out():
    """Three pieces at once, then two 10 ms apart: 20 ms are the time of two tokens."""
    merged = replace(request(tokens=5), event_ns=tuple(ms * MS for ms in (50, 50, 50, 60, 70)))
    assert (merged.first_pieces, merged.first_tokens) == (3, 3)
    assert merged.tpot_s == pytest.approx(0.01)
    told = replace(merged, event_tokens=(2, 1, 1, 1, 1), output_tokens=6)
    assert told.first_tokens == 4
    # Of pieces of two tokens two came first: in 40 pieces nobody can say, in 41 they are taken for the mean.
    for pieces, first in ((40, None), (41, 4)):
        many = request(tokens=pieces, output_tokens=2 * pieces)
        assert replace(many, event_ns=(many.event_ns[1], *many.event_ns[1:])).first_tokens == first


@pytest.mark.parametrize(("output", "reason", "packed"), [
    (105, "length", False),  # 5 % more tokens than pieces: some had no text
    (106, "length", True),
    (106, "stop", False),  # one of them ended the answer
])  # fmt: skip
def test_a_few_tokens_without_text_do_not_make_pieces_of_several(output, reason, packed):
    r = request(tokens=100, gap=1, output_tokens=output, finish_reason=reason)
    assert r.packed is packed
    if not packed:
        assert (r.first_tokens, r.first_tokens_source) == (1, "one a piece")


def test_pieces_of_one_read_have_no_gaps():
    assert request(tokens=4).own_stamps == 4
    assert replace(request(tokens=4), event_ns=(5, 5, 5, 9)).own_stamps == 2


def test_an_answer_in_one_read_has_no_time_per_token_and_misses_no_limit_on_it():
    at_once = request(tokens=4, gap=0)
    assert at_once.tpot_s is None
    assert at_once.output_tokens_per_s_per_user is None
    assert meets(at_once, {"tpot_s": "<= 1 ms", "ttft_s": "<= 60 ms"})
    assert not meets(at_once, {"tpot_s": "<= 1 ms", "ttft_s": "<= 40 ms"})


@pytest.mark.parametrize(("merged", "told"), [(1, True), (2, False)])
def test_a_few_merged_reads_do_not_hide_the_gaps_of_all(merged, told):
    """Of 5 requests with 4 pieces one may share its read (19 of 20 = 95 %), two may not."""
    requests = [request(tokens=4) for _ in range(5)]
    for i in range(merged):
        stamps = requests[i].event_ns
        requests[i] = replace(requests[i], event_ns=(stamps[0], stamps[0], *stamps[2:]))
    measured = Measured(Level("x", concurrency=1), [Repeat(0, requests, 0, 10**9)])
    assert ("itl_s" in summary_rows(measured, Goals({}, 0.01, 4, 16), None)[0]) is told


def test_percentiles_need_their_numbers():
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert document_percentile([1.0, 2.0, 3.0, 4.0], 50) == 3.0
    assert [n for n in (58, 59) if enough_for(95, n)] == [59]  # 0.95^59 = 0.0485
    assert [n for n in (298, 299) if enough_for(99, n)] == [299]
    found = percentiles([float(i) for i in range(40)])
    assert found[50] == 19.5
    assert found[95] is None
    assert found[99] is None


def test_repeats_end_when_enough_is_known():
    def repeats(*means):
        return [Repeat(i, [request(tokens=2, first=ms, gap=0)], 0, 1) for i, ms in enumerate(means)]

    # 100, 101, 99 ms: spread 1 ms, half width 4.303 x 1 / sqrt(3) = 2.48 ms
    assert narrow_enough(repeats(100, 101, 99), 0.025)
    assert not narrow_enough(repeats(100, 101, 99), 0.024)
    assert not narrow_enough(repeats(100, 100), 0.5)
    assert not narrow_enough(repeats(100, 101, 99), None)


def test_a_rising_series_is_seen_and_noise_is_not():
    chance = random.Random(1)
    times = [float(i) for i in range(20)]
    assert trend_is_up(times, [t + chance.gauss(0, 1) for t in times])
    alarms = sum(trend_is_up(times, [chance.gauss(0, 1) for _ in times]) for _ in range(400))
    assert alarms / 400 < 0.06


def test_the_steady_window_leaves_out_ramp_and_drain():
    requests = [request(i, sent=i * 10) for i in range(10)]
    assert steady_window(requests, 4) == (30 * MS, 90 * MS)
    assert steady_window(requests[:7], 4) is None


def test_tokens_of_a_window():
    r = request(sent=0, first=50, gap=10, tokens=5)  # at 50, 60, 70, 80, 90 ms
    assert tokens_in([r], (55 * MS, 80 * MS)) == 3
    # Ten tokens in five pieces of unknown size: two a piece.
    assert tokens_in([request(tokens=5, output_tokens=10)], (55 * MS, 80 * MS)) == 6


def failed(number, **more):
    return request(number, outcome="failed", error_class="http-500", tokens=0, **more)


def test_failures_stay_in_the_denominator():
    requests = [*(request(i) for i in range(3)), failed(3)]
    assert error_share(requests) == 0.25
    measured = Measured(Level("concurrency 2", concurrency=2), [Repeat(0, requests, 0, 10**9)])
    goals = Goals({"ttft_s": "<= 60 ms"}, 0.01, 5, 16)
    row = summary_rows(measured, goals, None)[0]
    assert (row["completed_requests"], row["failed_requests"], row["error_rate"]) == (3, 1, 0.25)
    assert row["status"] == "failed"
    assert row["reason"] == "25.0% of the requests failed, more than 1.0%; 1 x http-500"
    assert row["goodput_share"] == 0.75
    assert row["ttft_s"] == pytest.approx(0.05)


def test_goodput_asks_for_every_limit():
    limits = {"ttft_s": "<= 60 ms", "tpot_s": "<= 8 ms"}
    assert meets(request(first=50, gap=5), limits)
    assert not meets(request(first=50, gap=10), limits)
    assert not meets(request(first=70, gap=5), limits)
    assert not meets(failed(0), limits)
    assert meets(request(first=50, tokens=1), limits)  # one token has no gap to miss


def test_limits_that_nobody_can_judge_leave_no_goodput():
    whole = request(tokens=0, output_tokens=5, streamed=False)  # one JSON body: no first token
    assert meets(whole, {"ttft_s": "<= 60 ms"}) is None
    assert meets(whole, {"ttft_s": "<= 60 ms", "e2e_s": "<= 40 ms"}) is False
    assert meets(whole, {"e2e_s": "<= 60 ms"}) is True
    measured = Measured(Level("x", concurrency=1), [Repeat(0, [request(0), whole], 0, 10**9)])
    for limits, share in (({"ttft_s": "<= 60 ms"}, None), ({"e2e_s": "<= 60 ms"}, 0.5)):
        row = summary_rows(measured, Goals(limits, 0.01, 5, 16), None)[0]
        assert row.get("goodput_share") == share


def test_a_repeat_of_failures_counts_in_goodput():
    """Two good requests of four; one of the repeats has none."""
    repeats = [Repeat(0, [request(0), request(1)], 0, 10**9), Repeat(1, [failed(0), failed(1)], 0, 10**9)]
    row = summary_rows(Measured(Level("x", concurrency=1), repeats), Goals(GOOD, 0.01, 5, 16), None)[0]
    assert row["goodput_share"] == 0.5
    assert row["goodput_requests_per_s_n"] == 2
    none = Measured(Level("x", concurrency=1), repeats[1:])
    assert summary_rows(none, Goals(GOOD, 0.01, 5, 16), None)[0]["goodput_share"] == 0


def test_sum_of_rates_and_wall_rate_differ_when_requests_take_turns():
    # Two requests of 90 ms and 5 tokens, one after the other.
    requests = [request(0, sent=0), request(1, sent=90)]
    measured = Measured(Level("concurrency 2", concurrency=2), [Repeat(0, requests, 0, 10**9)])
    row = summary_rows(measured, Goals({}, 0.01, 5, 16), None)[0]
    assert row["sum_of_request_tokens_per_s"] == pytest.approx(2 * 5 / 0.09)
    assert row["wall_output_tokens_per_s"] == pytest.approx(10 / 0.18)


def test_repeats_make_the_interval_and_requests_do_not():
    repeats = [Repeat(n, [request(i, first=50 + n) for i in range(30)], 0, 10**9) for n in range(5)]
    row = summary_rows(Measured(Level("x", concurrency=1), repeats), Goals({}, 0.01, 5, 16), None)[0]
    # means 50..54 ms: spread 1.5811 ms, half width 2.776 x 1.5811 / sqrt(5) = 1.963 ms
    assert row["ttft_s_high"] - row["ttft_s"] == pytest.approx(0.001963, abs=1e-6)
    assert row["ttft_s_n"] == 150
    assert row["ttft_s_p99"] is None


def open_load(*sent):
    requests = [request(i, sent=at, first=50, gap=10, tokens=5) for i, at in enumerate(sent)]
    measured = Measured(Level("burst", rate=8.0, pattern="burst"), [Repeat(0, requests, 0, 10**9)])
    return summary_rows(measured, Goals({}, 0.01, 5, 16), None)[0]


def test_bursts_are_offered_and_served_at_their_rate():
    """Three bursts of 8, one a second: the second is served inside [1 s, 2 s], 8 requests in a second."""
    row = open_load(*[1000.0 * (i // 8) for i in range(24)])
    assert row["offered_requests_per_s"] == 8  # 16 before the last moment in 2 s, not 23
    assert row["requests_per_s"] == 8
    assert row["output_tokens_per_s"] == 40


def test_two_bursts_have_no_steady_window():
    row = open_load(*[1000.0 * (i // 8) + i % 8 for i in range(16)])
    assert row["requests_per_s"] == pytest.approx(16 / 1.097)  # all from 0 to 1007 + 90 ms


def test_a_load_without_a_concurrency_has_no_sum_of_rates():
    assert "sum_of_request_tokens_per_s" not in open_load(*range(0, 1000, 50))
