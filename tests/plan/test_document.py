"""A plan as a file makes the same plan again, whatever became of the catalogue."""

import json

import pytest

from engine.errors import PlanError
from engine.plan.compile import compile_plan
from engine.plan.document import plan_document, plan_from_document, resolved_experiment
from engine.spec.experiment import Experiment
from tests.plan.specs import DEVICE, device, experiment


def the_plan():
    return compile_plan(
        experiment(
            model="llama-3.1-8b",
            sweep={
                "axes": {
                    "hardware": [DEVICE, device(name="other")],
                    "hardware.memory_bandwidth": ["1.5 TB/s", "2 TB/s"],
                    "workload.batch_size": [1, 2, 4],
                },
                "points": [{"workload.batch_size": 64}],
                "drop": [{"when": {"workload.batch_size": 4}, "because": "too large"}],
            },
            measurements=[{"kind": "analytical", "reserve": "1.5 GiB"}, {"kind": "energy"}],
        ),
        versions={"analytical": 3},
    )


def written(plan):
    return json.loads(json.dumps(plan_document(plan), allow_nan=False))


def test_a_plan_comes_back_the_same():
    plan = the_plan()
    again = plan_from_document(written(plan), to_run=True)
    assert [t.fingerprint for t in again.tasks] == [t.fingerprint for t in plan.tasks]
    assert [t.result_version for t in again.tasks] == [t.result_version for t in plan.tasks]
    assert (again.size, again.dropped) == (plan.size, plan.dropped) == (9, plan.dropped)
    assert again.experiment == plan.experiment


def test_entries_of_the_catalogue_travel_with_the_plan():
    document = written(the_plan())
    assert document["entries"]["model"]["llama-3.1-8b"]["num_hidden_layers"] == 32
    document["entries"]["model"]["llama-3.1-8b"]["num_hidden_layers"] = 33
    with pytest.raises(PlanError) as failure:
        plan_from_document(document, to_run=True)
    assert failure.value.message == (
        "the plan does not come out as it was written: this engine resolves the same text differently"
    )


def test_old_results_are_read_under_their_old_fingerprints():
    """As when a later engine knows one more setting, or another default."""
    plan = the_plan()
    document = written(plan)
    document["versions"]["analytical"] = 4
    with pytest.raises(PlanError):
        plan_from_document(document, to_run=True)
    again = plan_from_document(document, to_run=False)
    assert [t.fingerprint for t in again.tasks] == [t.fingerprint for t in plan.tasks]
    assert again.fingerprint == plan.fingerprint


def test_points_that_would_be_mixed_up_are_not_read():
    document = written(the_plan())
    document["versions"]["analytical"] = 4
    document["experiment"]["sweep"]["axes"]["workload.batch_size"] = [1, 3, 4]
    with pytest.raises(PlanError, match="does not come out as it was written"):
        plan_from_document(document, to_run=False)


def test_a_limit_that_was_raised_stays_raised():
    spec = experiment(
        sweep={"axes": {"workload.prompt_tokens": list(range(1, 10_003))}}, measurements=[{"kind": "energy"}]
    )
    assert plan_from_document(written(compile_plan(spec, max_points=20_000)), to_run=True).size == 10_002


@pytest.mark.parametrize("missing", ["experiment", "entries", "versions", "fingerprint", "tasks"])
def test_a_damaged_plan_says_so(missing):
    document = written(the_plan())
    del document[missing]
    with pytest.raises(PlanError) as failure:
        plan_from_document(document, to_run=True)
    assert failure.value.message == "the plan is damaged"


def test_a_plan_of_another_format_says_so():
    with pytest.raises(PlanError) as failure:
        plan_from_document({"format": 2}, to_run=False)
    assert failure.value.message == "the plan has format 2, this engine reads 1"


def test_the_resolved_experiment_is_an_experiment():
    resolved = resolved_experiment(the_plan())
    catalogue = resolved.pop("x-catalogue")
    assert set(catalogue) == {"model"}
    assert compile_plan(Experiment.model_validate(resolved)).size == 9
