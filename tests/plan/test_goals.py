"""What an experiment requires of single requests is what its live measurements call goodput."""

import pytest

from engine.plan.compile import compile_plan
from engine.plan.goals import with_goals
from tests.plan.specs import experiment

LOCAL = {"kind": "live", "target": {"kind": "local"}}
GOALS = {"ttft_s": "<= 500 ms", "output_tokens_per_s": ">= 100", "tpot_s": "<= 50 ms"}


def required(*measurements, **scoring):
    found = with_goals(experiment(measurements=list(measurements), scoring=scoring))
    return [getattr(one, "require", None) for one in found.measurements]


def test_limits_that_a_single_request_has_are_taken_over():
    per_request = {"ttft_s": "<= 500 ms", "tpot_s": "<= 50 ms"}
    assert required({"kind": "analytical"}, LOCAL, require=GOALS) == [None, per_request]


def test_limits_of_the_measurement_itself_come_first():
    own = {"e2e_s": "<= 2 s"}
    assert required({**LOCAL, "require": own}, require=GOALS) == [own]


def test_nothing_is_made_up():
    assert required(LOCAL, require={"output_tokens_per_s": ">= 100"}) == [{}]
    assert required(LOCAL) == [{}]


@pytest.mark.parametrize(("limit", "same"), [("<= 500 ms", True), ("<= 400 ms", False)])
def test_another_limit_is_another_measurement(limit, same):
    def fingerprint(text):
        return compile_plan(
            experiment(measurements=[LOCAL], scoring={"require": {"ttft_s": text}})
        ).fingerprint

    assert (fingerprint(limit) == fingerprint("<= 500 ms")) is same
