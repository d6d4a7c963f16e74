"""A plan: which points in which order, which tasks, and fingerprints that move only when they must."""

import pytest

from engine.errors import NothingSelected, PlanError, SpecError
from engine.plan.compile import SPAN_COMBINATIONS, SPAN_POINTS, compile_plan
from tests.plan.specs import DEVICE, FORMAT, MODEL, device, experiment, swept


def rows(plan, *names):
    """Chosen counts of every point, in order."""
    return [
        tuple(int(block.grid.columns()[name][i]) for name in names)
        for block in plan.blocks
        for i in range(block.grid.size)
    ]


def test_an_experiment_without_a_sweep_is_one_point():
    plan = compile_plan(experiment(workload={"prompt_tokens": 7, "output_tokens": 3, "batch_size": 2}))
    assert plan.size == 1
    assert rows(plan, "prompt_tokens", "output_tokens", "batch_size") == [(7, 3, 2)]
    point = plan.point(0)
    assert point.label == "tiny on board, plain, batch 2, 7+3 tokens"
    assert point.workload.prefill_chunk_tokens is None


def test_axes_multiply_and_the_last_one_varies_fastest():
    plan = compile_plan(swept(axes={"workload.batch_size": [1, 2], "workload.prompt_tokens": [10, 20, 30]}))
    assert rows(plan, "batch_size", "prompt_tokens") == [(1, 10), (1, 20), (1, 30), (2, 10), (2, 20), (2, 30)]


def test_tied_values_move_together_under_every_axis_value():
    plan = compile_plan(
        swept(
            axes={"workload.batch_size": [1, 8]},
            tie=[
                {"workload.prompt_tokens": 512, "workload.output_tokens": 128},
                {"workload.prompt_tokens": 4096, "workload.output_tokens": 512},
            ],
        )
    )
    assert rows(plan, "batch_size", "prompt_tokens", "output_tokens") == [
        (1, 512, 128),
        (1, 4096, 512),
        (8, 512, 128),
        (8, 4096, 512),
    ]


def test_a_tie_may_join_a_name_and_a_count():
    plan = compile_plan(
        swept(
            tie=[
                {"parallelism.tensor": 1, "workload.batch_size": 4},
                {"parallelism.tensor": 2, "workload.batch_size": 16},
            ]
        )
    )
    found = [
        (plan.point(n).combination.parallelism.tensor, plan.point(n).workload.batch_size) for n in (0, 1)
    ]
    assert found == [(1, 4), (2, 16)]


def test_devices_vary_slowest_whatever_the_order_written():
    other = device(name="other")
    plan = compile_plan(swept(axes={"workload.batch_size": [1, 2], "hardware": [DEVICE, other]}))
    names = [plan.point(n).combination.labels["hardware"] for n in range(plan.size)]
    assert names == ["board", "board", "other", "other"]


def test_single_points_come_last():
    plan = compile_plan(
        swept(
            axes={"workload.batch_size": [1, 2]},
            points=[{"workload.batch_size": 64}, {"parallelism.tensor": 2}],
        )
    )
    assert rows(plan, "batch_size") == [(1,), (2,), (64,), (1,)]
    assert plan.point(3).combination.labels["parallelism"] == "parallelism{tensor=2}"


def test_drops_count_each_point_for_the_first_rule_that_matches():
    plan = compile_plan(
        swept(
            axes={"workload.batch_size": [1, 2, 4], "workload.prompt_tokens": [10, 20]},
            drop=[
                {"when": {"workload.batch_size": 4}, "because": "too large"},
                {
                    "when": {"workload.batch_size": [2, 4], "workload.prompt_tokens": 20},
                    "because": "too long",
                },
                {"when": {"workload.prompt_tokens": 99}, "because": "never there"},
            ],
        )
    )
    assert [(d.because, d.points) for d in plan.dropped] == [
        ("too large", 2),
        ("too long", 1),
        ("never there", 0),
    ]
    assert rows(plan, "batch_size", "prompt_tokens") == [(1, 10), (1, 20), (2, 10)]
    assert plan.dropped[1].when == {"workload.batch_size": ["2", "4"], "workload.prompt_tokens": ["20"]}


def test_a_drop_matches_names_and_counts_together():
    plan = compile_plan(
        swept(
            axes={
                "hardware": [DEVICE, device(name="other")],
                "quantization": [FORMAT, {"name": "small", "weight_attn": 4}],
                "workload.batch_size": [1, 2],
            },
            drop=[
                {
                    "when": {"quantization": {"name": "small", "weight_attn": 4}, "workload.batch_size": 2},
                    "because": "no kernel for this size",
                }
            ],
        )
    )
    labels = [(b.combination.labels["hardware"], b.combination.labels["quantization"]) for b in plan.blocks]
    assert labels == [("board", "plain"), ("board", "small"), ("other", "plain"), ("other", "small")]
    assert [block.grid.size for block in plan.blocks] == [2, 1, 2, 1]
    assert [block.first_point for block in plan.blocks] == [0, 2, 3, 5]
    assert plan.dropped[0].points == 2


def test_a_drop_may_name_a_field_that_nothing_sweeps():
    def size(**when):
        rule = {"when": {key.replace("__", "."): value for key, value in when.items()}, "because": "as it is"}
        try:
            return compile_plan(
                experiment(
                    parallelism={"tensor": 2},
                    sweep={"axes": {"workload.batch_size": [1, 2]}, "drop": [rule]},
                )
            ).size
        except NothingSelected:
            return 0

    assert size(parallelism__tensor=2) == 0
    assert size(parallelism__tensor=[1, 4]) == 2
    assert size(parallelism__tensor=2, workload__batch_size=2) == 1
    assert size(hardware__memory="80 GB") == 0
    assert size(hardware__memory="40 GB") == 2
    assert size(workload__speculation__tokens=4) == 2


def test_a_plan_without_points_is_refused():
    with pytest.raises(NothingSelected) as failure:
        compile_plan(swept(drop=[{"when": {"workload.batch_size": 1}, "because": "nothing left"}]))
    assert failure.value.message == "every point of the sweep is dropped"
    assert failure.value.hint == "loosen a rule under `sweep.drop`"
    assert failure.value.exit_code == 5


def test_kinds_can_be_chosen():
    both = experiment(measurements=[{"kind": "analytical"}, {"kind": "energy"}])
    assert [task.kind for task in compile_plan(both).tasks] == ["analytical", "energy"]
    assert [task.kind for task in compile_plan(both, only=["energy"]).tasks] == ["energy"]
    with pytest.raises(NothingSelected) as failure:
        compile_plan(both, only=["live"])
    assert failure.value.message == "no measurement of kind `live` in this spec"


def test_measured_points_are_tasks_of_their_own_and_readings_belong_to_none():
    plan = compile_plan(
        experiment(
            sweep={"axes": {"workload.batch_size": [1, 2]}},
            measurements=[
                {"kind": "energy"},
                {"kind": "analytical"},
                {"kind": "run_folder", "path": "logs"},
            ],
        )
    )
    shape = [(task.kind, task.size, [list(r) for r in task.point_numbers]) for task in plan.tasks]
    assert shape == [
        ("energy", 1, [[0]]),
        ("energy", 1, [[1]]),
        ("analytical", 2, [[0, 1]]),
        ("run_folder", 0, []),
    ]
    assert [point.workload.batch_size for point in plan.tasks[1].points()] == [2]


def test_a_block_of_predictions_never_crosses_a_device():
    plan = compile_plan(
        swept(
            axes={
                "hardware": [DEVICE, device(name="other")],
                "workload.prompt_tokens": list(range(1, 301)),
                "workload.batch_size": list(range(1, 301)),
            }
        )
    )
    # 300 x 300 = 90,000 points a device: one full task of 65,536 and one of 24,464 for each.
    assert [task.size for task in plan.tasks] == [SPAN_POINTS, 24_464, SPAN_POINTS, 24_464]
    assert [[(r.start, r.stop) for r in task.point_numbers] for task in plan.tasks] == [
        [(0, 65_536)],
        [(65_536, 90_000)],
        [(90_000, 155_536)],
        [(155_536, 180_000)],
    ]


def test_many_combinations_are_shared_out_over_tasks():
    plan = compile_plan(
        swept(
            axes={
                "parallelism.tensor": list(range(1, 1001)),
                "workload.batch_size": [1, 2],
            }
        )
    )
    assert [(task.size, len(task.spans)) for task in plan.tasks] == [
        (2 * SPAN_COMBINATIONS, SPAN_COMBINATIONS),
        (2 * (1000 - SPAN_COMBINATIONS), 1000 - SPAN_COMBINATIONS),
    ]


def test_an_added_device_leaves_the_other_tasks_alone():
    axes = {"workload.batch_size": [1, 2]}
    one = compile_plan(swept(axes={"hardware": [DEVICE], **axes}))
    two = compile_plan(swept(axes={"hardware": [device(name="other"), DEVICE], **axes}))
    assert one.tasks[0].fingerprint == two.tasks[1].fingerprint
    assert one.tasks[0].fingerprint != two.tasks[0].fingerprint


# Fingerprints


def only_task(**changes):
    (task,) = compile_plan(experiment(**changes)).tasks
    return task


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "renamed"},
        {"description": "words"},
        {"report": {"formats": ["html"]}},
        {"model": {**MODEL, "notes": "a remark", "source": "a paper"}},
        {"hardware": device(memory="80000 MB")},
        {"hardware": dict(reversed(DEVICE.items()))},
        {"workload": {"batch_size": 1}},
        {"measurements": [{"kind": "analytical", "causal": True}]},
    ],
    ids=["name", "description", "report", "prose", "unit", "order", "default", "setting-default"],
)
def test_what_cannot_change_a_number_keeps_the_fingerprint(changes):
    assert only_task(**changes).fingerprint == only_task().fingerprint


@pytest.mark.parametrize(
    ("changes", "same_subject"),
    [
        ({"workload": {"batch_size": 2}}, False),
        ({"model": {**MODEL, "vocab_size": 101}}, False),
        ({"hardware": device(memory_bandwidth="2 TB/s")}, False),
        ({"quantization": {"name": "plain", "weight_attn": 8}}, False),
        ({"parallelism": {"tensor": 2}}, False),
        ({"measurements": [{"kind": "analytical", "causal": False}]}, True),
    ],
    ids=["workload", "model", "hardware", "format", "parallelism", "setting"],
)
def test_what_can_change_a_number_changes_the_fingerprint(changes, same_subject):
    assert only_task(**changes).fingerprint != only_task().fingerprint
    assert (only_task(**changes).subject == only_task().subject) is same_subject


def test_a_raised_result_version_changes_the_fingerprint_and_not_the_subject():
    one, two = (compile_plan(experiment(), versions={"analytical": v}).tasks[0] for v in (1, 2))
    assert one.fingerprint != two.fingerprint
    assert one.subject == two.subject


def test_a_base_value_that_an_axis_replaces_does_not_count():
    axes = {"axes": {"workload.prompt_tokens": [10, 20]}}
    one = compile_plan(experiment(sweep=axes, workload={"prompt_tokens": 100}))
    two = compile_plan(experiment(sweep=axes, workload={"prompt_tokens": 200}))
    assert one.fingerprint == two.fingerprint


def test_a_point_measured_alone_is_the_same_in_every_sweep():
    energy = [{"kind": "energy"}]
    alone = compile_plan(experiment(measurements=energy, workload={"batch_size": 2}))
    among = compile_plan(experiment(measurements=energy, sweep={"axes": {"workload.batch_size": [1, 2, 3]}}))
    assert alone.tasks[0].fingerprint == among.tasks[1].fingerprint


# Refusals


def problem(call):
    with pytest.raises(SpecError) as failure:
        call()
    (found,) = failure.value.problems
    return found.code, found.message, found.hint, found.path


def test_a_prefix_as_long_as_a_prompt_is_refused():
    spec = swept(axes={"workload.prompt_tokens": [64, 512], "workload.shared_prefix_tokens": [0, 64]})
    assert problem(lambda: compile_plan(spec)) == (
        "prefix-too-long",
        "`workload.shared_prefix_tokens` 64 is not below `workload.prompt_tokens` 64 at 1 points",
        None,
        ("sweep",),
    )


def test_a_single_point_of_the_product_is_refused():
    spec = swept(
        axes={"workload.batch_size": [1, 2]}, points=[{"workload.batch_size": 3}, {"workload.batch_size": 2}]
    )
    assert problem(lambda: compile_plan(spec)) == (
        "repeated-point",
        "row 2 of `sweep.points` is point 1 of the sweep already",
        "remove the row",
        ("sweep", "points", 1),
    )


def test_an_impossible_combination_names_what_was_changed():
    spec = swept(axes={"model.num_attention_heads": [4, 3]})
    code, message, _, path = problem(lambda: compile_plan(spec))
    assert (code, path) == ("broken-rule", ("sweep",))
    assert message.startswith("`model.num_attention_heads` = 3: ")
    assert "`hidden_size` 64 does not divide by `num_attention_heads` 3" in message


def test_a_billion_points_are_counted_not_made():
    axes = {
        f"workload.{name}": list(range(1, 1001)) for name in ("batch_size", "prompt_tokens", "output_tokens")
    }
    with pytest.raises(PlanError) as failure:
        compile_plan(swept(axes=axes))
    assert failure.value.message == (
        "the sweep has 1,000,000,000 points, more than the 100,000,000 that are predicted without asking"
    )
    assert failure.value.hint == "shorten an axis, draw a `sample`, or pass `--max-points 1000000000`"


def test_measured_points_have_a_lower_limit_that_can_be_raised():
    spec = experiment(
        sweep={"axes": {"workload.prompt_tokens": list(range(1, 10_002))}}, measurements=[{"kind": "energy"}]
    )
    with pytest.raises(PlanError) as failure:
        compile_plan(spec)
    assert failure.value.message == (
        "the sweep has 10,001 points, more than the 10,000 that are measured without asking"
    )
    assert compile_plan(spec, max_points=10_001).size == 10_001


def test_a_number_outside_the_plan_is_no_point():
    with pytest.raises(IndexError):
        compile_plan(experiment()).point(1)


def test_logs_alone_plan_no_point_and_take_no_sweep():
    from engine.plan.check import check

    logs = {
        "model": "from the logs",
        "hardware": "from the logs",
        "measurements": [{"kind": "run_folder", "path": "x"}],
    }
    plan = compile_plan(experiment(**logs))
    assert (plan.size, [task.kind for task in plan.tasks], dict(plan.entries.get("model", {}))) == (
        0,
        ["run_folder"],
        {},
    )
    assert check(plan.experiment) == ()
    with pytest.raises(SpecError) as failure:
        check(experiment(**logs, sweep={"axes": {"workload.batch_size": [1, 2]}}))
    assert [(p.code, p.path) for p in failure.value.problems] == [("nothing-to-sweep", ("sweep",))]
    with pytest.raises(SpecError) as failure:
        check(experiment(**{**logs, "measurements": [{"kind": "analytical"}]}))
    assert [p.message for p in failure.value.problems] == [
        "there is no model `from the logs`", "there is no device `from the logs`",
    ]  # fmt: skip
