"""Whatever the sweep: the points are those of a plain product with the matching ones left out."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import NothingSelected
from engine.plan.compile import compile_plan
from engine.plan.document import plan_document, plan_from_document
from tests.plan.specs import swept

PATHS = ("workload.batch_size", "workload.prompt_tokens", "workload.output_tokens", "parallelism.tensor")
VALUES = st.lists(st.integers(1, 6), min_size=1, max_size=4, unique=True)
AXES = st.dictionaries(st.sampled_from(PATHS), VALUES, max_size=3)
DROPS = st.lists(
    st.dictionaries(
        st.sampled_from(PATHS), st.lists(st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=2
    ),
    max_size=3,
)
DEFAULTS = {
    "workload.batch_size": 1,
    "workload.prompt_tokens": 2048,
    "workload.output_tokens": 256,
    "parallelism.tensor": 1,
}


def expected(axes, drops):
    """Values of every point, by brute force: settings outside, counts inside, each in the order written."""
    outside = [path for path in axes if not path.startswith("workload")]
    order = [*outside, *(path for path in axes if path.startswith("workload"))]
    points = []
    for row in itertools.product(*(axes[path] for path in order)):
        point = {**DEFAULTS, **dict(zip(order, row, strict=True))}
        if not any(all(point[path] in values for path, values in drop.items()) for drop in drops):
            points.append(tuple(point[path] for path in PATHS))
    return points


def found(plan):
    """The same of a plan, each point asked for by its number."""
    points = [plan.point(number) for number in range(plan.size)]
    return [
        (
            p.workload.batch_size,
            p.workload.prompt_tokens,
            p.workload.output_tokens,
            p.combination.parallelism.tensor,
        )
        for p in points
    ]


@settings(max_examples=60, deadline=None)
@given(axes=AXES, drops=DROPS)
def test_points_are_those_of_the_product(axes, drops):
    spec = swept(axes=axes, drop=[{"when": when, "because": "as it is"} for when in drops])
    wanted = expected(axes, drops)
    try:
        plan = compile_plan(spec)
    except NothingSelected:
        assert wanted == []
        return
    assert found(plan) == wanted
    assert plan.size + sum(d.points for d in plan.dropped) == plan.expansion.combinations
    numbers = [n for task in plan.tasks for span in task.point_numbers for n in span]
    assert numbers == list(range(plan.size))
    again = plan_from_document(plan_document(plan), to_run=True)
    assert again.fingerprint == plan.fingerprint
    assert found(again) == wanted
