"""A sweep is checked value by value, and every mistake of it is found in one pass."""

import pytest

from engine.errors import SpecError
from engine.plan.expand import expand, label_of
from engine.plan.sampling import draw
from engine.spec.hardware import Hardware
from engine.spec.sweep import Sample
from engine.spec.workload import Parallelism
from tests.plan.specs import DEVICE, FORMAT, swept


def problems(**sweep):
    """(code, message, hint, path) of every problem."""
    with pytest.raises(SpecError) as failure:
        expand(swept(**sweep))
    return [(p.code, p.message, p.hint, p.path) for p in failure.value.problems]


def test_numbers_stay_columns_and_names_do_not():
    found = expand(
        swept(axes={"workload.batch_size": [1, 2], "quantization": [FORMAT], "parallelism.tensor": [1]})
    )
    assert [factor.paths for factor in found.named] == [("quantization",), ("parallelism.tensor",)]
    assert [factor.paths for factor in found.numeric] == [("workload.batch_size",)]
    assert found.combinations == 2


def test_every_mistake_comes_at_once():
    assert problems(
        axes={
            "workload.batch_sise": [1],
            "workload.prompt_tokens": [],
            "workload.output_tokens": [5, 5],
            "workload.batch_size": [0],
        },
        tie=[{"workload.batch_size": 4}],
    ) == [
        (
            "unknown-axis",
            "`workload.batch_sise` names no field that can be swept",
            "did you mean `workload.batch_size`?",
            ("sweep", "axes", "workload.batch_sise"),
        ),
        (
            "empty-axis",
            "axis `workload.prompt_tokens` has no values",
            "give at least one value, or remove the axis",
            ("sweep", "axes", "workload.prompt_tokens"),
        ),
        (
            "repeated-value",
            "axis `workload.output_tokens` lists `5` twice",
            "remove one",
            ("sweep", "axes", "workload.output_tokens", 1),
        ),
        (
            "out-of-range",
            "item 1 of `workload.batch_size` is 0; it must be at least 1",
            None,
            ("sweep", "axes", "workload.batch_size", 0),
        ),
        (
            "swept-twice",
            "`workload.batch_size` is varied in both `axes` and `tie`",
            "keep one of them",
            ("sweep", "tie", 0, "workload.batch_size"),
        ),
    ]


def test_a_path_that_resembles_nothing_lists_the_fields_of_its_section():
    ((_, _, hint, _),) = problems(axes={"parallelism.zzzz": [1]})
    assert hint.startswith("fields that can be swept: parallelism.tensor, parallelism.pipeline")


def test_tied_rows_set_the_same_fields():
    assert problems(
        tie=[{"workload.prompt_tokens": 1, "workload.output_tokens": 2}, {"workload.prompt_tokens": 3}]
    ) == [
        (
            "tie-keys",
            (
                "every tied row sets the same fields; the first one sets `workload.prompt_tokens`, "
                "`workload.output_tokens`"
            ),
            None,
            ("sweep", "tie", 1),
        )
    ]
    assert problems(tie=[{}])[0][:2] == ("empty-tie", "a tied row sets no field")


def test_repeated_rows_are_refused():
    same = {"workload.prompt_tokens": 1, "workload.output_tokens": 2}
    assert problems(tie=[same, dict(reversed(same.items()))]) == [
        ("repeated-row", "row 2 of `sweep.tie` repeats row 1", "remove one", ("sweep", "tie", 1))
    ]
    assert problems(points=[{"workload.batch_size": 3}, {"workload.batch_size": 3}]) == [
        ("repeated-row", "row 2 of `sweep.points` repeats row 1", "remove one", ("sweep", "points", 1))
    ]


def test_conditions_of_drops_are_checked_too():
    found = problems(drop=[{"when": {"workload.batch": 1}, "because": "no reason"}])
    assert found == [
        (
            "unknown-axis",
            "`workload.batch` names no field that can be swept",
            "did you mean `workload.batch_size`?",
            ("sweep", "drop", 0, "when", "workload.batch"),
        )
    ]


def test_ranges_rise_and_only_counts_are_drawn():
    def sample(path, **span):
        return {"sample": {"points": 3, "ranges": {path: span}}}

    assert problems(**sample("workload.batch_size", low=8, high=1))[0][:2] == (
        "bad-range",
        "range of `workload.batch_size` must rise",
    )
    assert problems(**sample("workload.batch_size", low=0, high=8, log=True))[0][1] == (
        "range of `workload.batch_size` must rise from above 0"
    )
    assert problems(**sample("parallelism.tensor", low=1, high=8))[0][:2] == (
        "not-a-number",
        "`parallelism.tensor` cannot be sampled; only counts of `workload` can",
    )


def sample_of(**changes):
    return Sample.model_validate(
        {"points": 8, "seed": 7, "ranges": {"workload.batch_size": {"low": 1, "high": 800}}, **changes}
    )


def test_a_latin_hypercube_puts_one_draw_in_each_slice():
    drawn = sorted(value for (value,) in draw(sample_of()))
    # Eight slices of (800 - 1) / 8 = 99.875 counts each.
    assert [int((value - 1) // 99.875) for value in drawn] == list(range(8))


def test_draws_are_the_same_for_the_same_seed():
    assert draw(sample_of()) == draw(sample_of())
    assert draw(sample_of()) != draw(sample_of(seed=8))
    assert draw(sample_of(method="random")) == draw(sample_of(method="random"))


def test_counts_drawn_twice_are_one_point():
    spans = {"workload.batch_size": {"low": 1, "high": 2}}
    found = expand(swept(sample={"points": 50, "ranges": spans}))
    assert sorted(found.numeric[0].rows) == [(1,), (2,)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8, "8"),
        (3.0, "3"),
        (2.5, "2.5"),
        (None, "None"),
        ("bf16", "bf16"),
        (Parallelism(tensor=2), 'custom {"tensor":2}'),
        (Hardware.model_validate(DEVICE), "board"),
    ],
)
def test_labels_are_short(value, text):
    assert label_of(value) == text
