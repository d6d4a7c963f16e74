"""Several measurements of one kind are told apart, and two equal ones refused."""

import pytest

from engine.errors import SpecError
from engine.plan.check import check
from engine.plan.compile import compile_plan
from engine.plan.variants import variants
from tests.plan.specs import experiment


def labels(*measurements):
    return variants(experiment(measurements=list(measurements)).measurements)


BOUND = {"kind": "analytical", "calibration": "none"}


def test_a_kind_that_occurs_once_needs_no_label():
    assert labels(BOUND, {"kind": "energy"}) == [None, None]


def test_only_what_differs_is_told():
    assert labels(BOUND, {"kind": "energy"}, {**BOUND, "causal": False}) == [
        "causal=True",
        None,
        "causal=False",
    ]
    assert labels(
        BOUND,
        {**BOUND, "routing": {"exponent": 0.5}},
        {**BOUND, "expert_tile": 8, "routing": {"exponent": 0.5}},
    ) == [
        "routing.exponent=0.6, expert_tile=none",
        "routing.exponent=0.5, expert_tile=none",
        "routing.exponent=0.5, expert_tile=8",
    ]


def test_one_setting_that_tells_all_apart_is_enough():
    assert labels(
        BOUND,
        {**BOUND, "expert_tile": 8, "causal": False},
        {**BOUND, "expert_tile": 4, "causal": False},
    ) == ["expert_tile=none", "expert_tile=8", "expert_tile=4"]


def test_equal_measurements_are_refused():
    twice = experiment(measurements=[BOUND, {"kind": "energy"}, {**BOUND, "causal": True}])
    for refuse in (compile_plan, check):
        with pytest.raises(SpecError) as failure:
            refuse(twice)
        (problem,) = failure.value.problems
        assert (problem.code, problem.message, problem.hint, problem.path) == (
            "repeated-measurement",
            "measurement 3 is the same as measurement 1",
            "remove one, or change a setting",
            ("measurements", 2),
        )
