"""Which points of two runs are the same, and why others are not."""

from __future__ import annotations

import pytest

from engine.results.matching import FIELDS, Group, groups_of, pair, plain_name
from tests.results.comparing import live, run


def groups(*points, source="predicted", rows=None, same=None) -> list[Group]:
    rows = rows or [{"point": i, "source": source, "tpot_s": 1.0} for i in range(len(points))]
    made = run(rows, points=points)
    return groups_of(made.points, made.summary, same=same)


def names(pairings) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(one.before.points, one.after.points) for one in pairings]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("meta-llama/Llama-3.1-8B", "llama-3.1-8b"),
        ("llama_7b", "llama-7b"),
        ("llama-3.1-8b{num_hidden_layers=2}", "llama-3.1-8b{num_hidden_layers=2}"),
        ("H100 SXM", "h100-sxm"),
        (None, None),
        ("", None),
    ],
)
def test_names_are_compared_in_one_form(name: str | None, plain: str | None) -> None:
    assert plain_name(name) == plain


def test_equal_points_match_whatever_their_numbers() -> None:
    found, left, right = pair(groups({"batch_size": 1}, {"batch_size": 8}), groups({"batch_size": 8}))
    assert names(found) == [((1,), (0,))]
    assert [(one.group.points, one.reason) for one in left] == [
        ((0,), "nearest point differs in batch_size (1 against 8)")
    ]
    assert right == []


def test_a_field_that_one_run_does_not_know_fits_the_only_candidate() -> None:
    found, _, _ = pair(
        groups({"batch_size": 1}, {"batch_size": 8}), groups({"batch_size": 8, "hardware": None})
    )
    assert names(found) == [((1,), (0,))]
    assert found[0].assumed == ("hardware",)


def test_it_fits_none_of_two() -> None:
    two = groups({"hardware": "h100"}, {"hardware": "a100"})
    unknown = groups({"hardware": None, "tensor": 1}, {"hardware": None, "tensor": None})
    found, left, right = pair(two, unknown)
    # The one that knows more fits each of two: neither is the same for sure.
    assert found == []
    assert {one.reason for one in (*left, *right)} <= {
        "fits several points of the other run equally well", "a better match took its only candidate",
    }  # fmt: skip


def test_ignored_fields_may_differ() -> None:
    fields = tuple(field for field in FIELDS if field != "hardware")
    found, _, _ = pair(groups({"hardware": "h100"}), groups({"hardware": "a100"}), fields=fields)
    assert names(found) == [((0,), (0,))]
    assert found[0].differing == ("hardware",)


def test_points_that_agree_in_everything_come_first() -> None:
    fields = tuple(field for field in FIELDS if field != "hardware")
    found, _, _ = pair(
        groups({"hardware": "a100"}, {"hardware": "h100"}),
        groups({"hardware": "h100"}, {"hardware": "h200"}),
        fields=fields,
    )
    assert names(found) == [((0,), (1,)), ((1,), (0,))]


def test_the_batch_of_a_prediction_is_the_concurrency_of_a_load() -> None:
    predicted = groups({"batch_size": 1}, {"batch_size": 4})
    rows = [live(point=0, tpot_s=1.0), live(point=0, tpot_s=2.0, variant="concurrency 4 (static batch)")]
    found, left, right = pair(predicted, groups({"batch_size": 1}, rows=rows))
    assert [(p.before.points, p.after.identity.get("load")) for p in found] == [
        ((0,), "closed load"), ((1,), "static batch"),
    ]  # fmt: skip
    assert not left
    assert not right


def test_one_prediction_stands_beside_two_ways_of_measuring_it() -> None:
    rows = [live(point=0, tpot_s=1.0, variant=f"concurrency 1 ({how})") for how in ("loop", "generate()")]
    measured = groups({}, rows=rows)
    assert len(pair(groups({}), measured)[0]) == 2
    assert len(pair(measured, groups({}))[0]) == 2


def test_loads_of_live_runs_must_agree() -> None:
    one = groups({}, rows=[live(point=0, tpot_s=1.0, variant="concurrency 1 (static batch)")])
    other = groups({}, rows=[live(point=0, tpot_s=1.0, variant="concurrency 1 (generate())")])
    found, left, _ = pair(one, other)
    assert found == []
    assert left[0].reason == "nearest point differs in load (static batch against generate())"


def test_a_source_that_both_have_is_compared_with_itself() -> None:
    rows = [{"point": 0, "tpot_s": 1.0}, live(point=0, tpot_s=1.0)]
    found, left, right = pair(groups({}, rows=rows), groups({}, rows=rows))
    assert [(p.before.identity.source, p.after.identity.source) for p in found] == [
        ("live", "live"), ("predicted", "predicted"),
    ]  # fmt: skip
    assert not left
    assert not right


def test_a_run_that_measured_nothing_is_compared_with_what_the_other_measured() -> None:
    rows = [{"point": 0, "tpot_s": 1.0}, {"point": 0, "source": "run_folder", "tpot_s": 2.0}]
    found, _, _ = pair(groups({}), groups({}, rows=rows))
    assert [p.after.identity.source for p in found] == ["predicted", "run_folder"]


def test_a_prediction_beside_a_measurement_is_not_compared_with_measurements_of_another_run() -> None:
    both = [live(point=0, tpot_s=1.0), {"point": 0, "tpot_s": 1.0}]
    found, _, right = pair(groups({}, rows=both[:1]), groups({}, rows=both))
    assert [p.after.identity.source for p in found] == ["live"]
    assert [one.group.identity.source for one in right] == ["predicted"]


def test_logs_of_one_configuration_are_repeats() -> None:
    rows = [
        {"point": 0, "source": "run_folder", "variant": name, "tpot_s": 1.0} for name in ("run/1", "run/2")
    ]
    (group,) = groups({}, rows=rows)
    assert len(group.rows) == 2


def test_names_that_mean_the_same_match() -> None:
    ours = groups({"model": "llama-2-7b"})
    theirs = groups({"model": "llama_7b"}, same={"llama-7b": "llama-2-7b"})
    assert names(pair(ours, theirs)[0]) == [((0,), (0,))]


def test_formats_of_logs_are_known_by_their_other_names() -> None:
    assert groups({"quantization": "F16"})[0].identity.get("quantization") == "fp16"
    assert groups({"quantization": "bfloat16"})[0].identity.get("quantization") == "bf16"


def test_phases_never_mix() -> None:
    ours = groups({}, rows=[{"point": 0, "phase": "prefill", "tpot_s": 1.0}])
    theirs = groups({}, rows=[{"point": 0, "phase": "decode", "tpot_s": 1.0}])
    found, left, _ = pair(ours, theirs)
    assert found == []
    assert left[0].reason == "the other run has nothing left of this phase to compare with"


def test_labels_say_what_somebody_asked_for() -> None:
    (group,) = groups({"tensor": 2, "batch_size": 8, "settings": "a=1"})
    assert group.identity.label == (
        "llama-3.1-8b on h100-sxm-80gb, bf16, batch 8, 2048+256 tokens, tensor 2, a=1"
    )
    (unknown,) = groups({"model": None, "output_tokens": None, "hardware": None})
    assert unknown.identity.label == "model unknown, bf16, batch 1, 2048+? tokens"


def test_groups_come_in_the_order_of_the_points() -> None:
    made = run(
        [{"point": i, "tpot_s": 1.0} for i in (2, 0, 1)], points=[{"batch_size": b} for b in (1, 2, 4)]
    )
    assert [group.points for group in groups_of(made.points, made.summary)] == [(0,), (1,), (2,)]
