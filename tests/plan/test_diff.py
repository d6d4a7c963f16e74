"""What a later plan keeps, and the reason for every task that it does not."""

import pytest

from engine.plan.compile import compile_plan
from engine.plan.diff import compare
from engine.plan.stored import StoredTask, describe
from tests.plan.specs import DEVICE, MODEL, device, experiment


def remembered(plan, state="done", error=None):
    """The tasks of a plan as a store would hold them."""
    found = {}
    for task in plan.tasks:
        d = describe(task)
        sections = {
            section: {label: d.contents[digest] for label, digest in labels.items()}
            for section, labels in d.sections.items()
        }
        found[task.fingerprint] = StoredTask(
            task.fingerprint, state, d.kind, d.subject, d.names, d.result_version, d.points, d.settings,
            sections, error,
        )  # fmt: skip
    return found


def verdict(before, after, **versions):
    """(fate, why) of the only task of a changed experiment."""
    old = remembered(compile_plan(experiment(**before)))
    (found,) = compare(compile_plan(experiment(**after), versions=versions), old).verdicts
    return found.fate, found.why


def test_what_is_done_is_kept():
    assert verdict({}, {}) == ("kept", None)


def test_other_points_are_new():
    assert verdict({}, {"workload": {"batch_size": 2}}) == ("new", None)


LIVE = {"kind": "live", "target": {"kind": "local"}}


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (
            {"measurements": [{**LIVE, "repeats": 5}]},
            {"measurements": [{**LIVE, "repeats": 10}]},
            "measurement `live` changed: repeats: 5 -> 10",
        ),
        (
            {},
            {"measurements": [{"kind": "analytical", "routing": {"exponent": 0.5}}]},
            "measurement `analytical` changed: routing.exponent: 0.6 -> 0.5",
        ),
        (
            {},
            {"hardware": device(memory_bandwidth="2 TB/s")},
            "hardware `board` changed: memory_bandwidth: 1000000000000 B/s -> 2000000000000 B/s",
        ),
        (
            {},
            {"model": {**MODEL, "vocab_size": 101}, "hardware": {**DEVICE, "power": "300 W"}},
            "model `tiny` changed: vocab_size: 100 -> 101; hardware `board` changed: power: none -> 300 W",
        ),
    ],
    ids=["setting", "nested", "device", "two"],
)
def test_the_reason_names_what_changed(before, after, why):
    assert verdict(before, after) == ("again", why)


def test_a_raised_result_version_is_a_reason():
    assert verdict({}, {}, analytical=2) == ("again", "result_version of `analytical` 1 -> 2")


def test_many_changes_are_counted():
    fate, why = verdict({}, {"measurements": [{"kind": "analytical", "causal": False, "attention": "fused",
                             "fused_qkv": True, "fused_gate_up": True, "lm_head": "all"}]})  # fmt: skip
    assert fate == "again"
    assert why.endswith("fused_qkv: False -> True and 2 more")


def test_failures_stay_failures_until_they_are_tried_again():
    plan = compile_plan(experiment())
    old = remembered(plan, "failed", "out of memory")
    (found,) = compare(plan, old).verdicts
    assert (found.fate, found.why) == ("failed", "out of memory")
    (found,) = compare(plan, old, retry_failed=True).verdicts
    assert (found.fate, found.why) == ("again", "failed before: out of memory")


def test_results_given_up_run_again():
    plan = compile_plan(experiment())
    (found,) = compare(plan, remembered(plan, "stale")).verdicts
    assert (found.fate, found.why) == ("again", "given up by `--fresh`")


def test_points_are_counted_by_fate():
    energy = [{"kind": "energy"}]
    before = compile_plan(experiment(measurements=energy, sweep={"axes": {"workload.batch_size": [1, 2]}}))
    after = compile_plan(experiment(measurements=energy, sweep={"axes": {"workload.batch_size": [2, 3, 4]}}))
    found = compare(after, remembered(before))
    assert {fate: found.points(fate) for fate in ("kept", "new", "again", "failed")} == {
        "kept": 1, "new": 2, "again": 0, "failed": 0,
    }  # fmt: skip
    assert found.stale == 1
