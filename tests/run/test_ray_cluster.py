"""What tasks ask of a cluster, refused before anything is submitted, and a run on a real local one."""

import time

import pytest

from engine.errors import EnvironmentMissing, MeasurementError
from engine.plan.compile import compile_plan
from engine.results.store import ResultStore
from engine.run.execute import run
from engine.run.ray_cluster import Needs, RayExecutor, limited, needs_of, refuse_infeasible
from tests.plan.specs import DEVICE, device, experiment


def needs(*measurements, **changes):
    return [
        needs_of(task) for task in compile_plan(experiment(measurements=list(measurements), **changes)).tasks
    ]


def test_measured_tasks_ask_for_the_device_of_their_point():
    swept = {"axes": {"hardware.memory_bandwidth": ["2 TB/s"]}}
    assert needs({"kind": "energy"}, sweep=swept) == [Needs(gpus=1, hardware="board")]
    assert needs({"kind": "live", "target": {"kind": "local"}}) == [Needs(gpus=1, hardware="board")]
    assert needs({"kind": "analytical"}) == [Needs()]
    spread = {"parallelism": {"pipeline": 2}}
    assert needs({"kind": "live", "target": {"kind": "local"}}, **spread) == [Needs(gpus=2, hardware="board")]


def test_what_reads_files_or_an_endpoint_stays_here():
    server = {"kind": "openai", "base_url": "http://127.0.0.1:8000/v1", "model": "m"}
    assert needs(
        {"kind": "run_folder", "path": "logs"},
        {"kind": "live", "target": server},
        {"kind": "live", "target": {"kind": "local", "device": "cpu"}},
        {"kind": "energy", "source": "replay", "trace": "t.csv"},
    ) == [None, None, None, None]


def node(alive=True, gpus=1, **labels):
    return {"Alive": alive, "Labels": labels, "Resources": {"CPU": 8, "GPU": gpus}}


def test_a_node_must_have_all_devices_of_a_task():
    refuse_infeasible([Needs(2, "h100")], [node(hardware="h100", gpus=2)])
    with pytest.raises(EnvironmentMissing, match=r"offers `h100 x 2` with an accelerator") as failure:
        refuse_infeasible([Needs(2, "h100")], [node(hardware="h100", gpus=1)])
    assert "hardware=h100`" in failure.value.hint


def test_devices_that_no_node_offers_are_named_before_anything_runs():
    asked = [Needs(), Needs(1, "b200-sxm"), Needs(1, "h100"), Needs(1, "mi300x"), Needs(1, "l40s")]
    nodes = [
        node(hardware="h100"),
        node(hardware="mi300x", gpus=0),
        node(alive=False, hardware="l40s"),
        node(),
    ]
    with pytest.raises(EnvironmentMissing) as failure:
        refuse_infeasible(asked, nodes)
    assert failure.value.message == (
        "no node of the cluster offers `b200-sxm`, `l40s`, `mi300x` with an accelerator "
        "(3 nodes; labelled: h100, mi300x)"
    )
    assert (
        failure.value.hint
        == "start nodes with `ray start --labels hardware=b200-sxm`, or leave the device out"
    )
    assert failure.value.exit_code == 3
    refuse_infeasible(asked[:1], [])
    refuse_infeasible([Needs(1, "h100")], nodes)


def test_a_missing_ray_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with (
        ResultStore.open(tmp_path / "run", write=True) as store,
        pytest.raises(EnvironmentMissing) as failure,
    ):
        run(compile_plan(experiment()), store, executor=RayExecutor())
    assert failure.value.message == "`--executor ray` needs `ray`, which is not installed"
    assert failure.value.hint == "pip install 'llm-experiment-engine[ray]'"


def test_a_task_on_a_node_is_broken_off_in_time():
    with pytest.raises(MeasurementError) as failure, limited(0.05):
        time.sleep(5)
    assert failure.value.message == "took longer than 0.05 s"
    with limited(None):
        time.sleep(0)


@pytest.mark.slow
def test_a_cluster_gives_the_same_bytes(tmp_path):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    axes = {"hardware": [DEVICE, device(name="other")], "workload.batch_size": [1, 2, 4]}
    plan = compile_plan(experiment(sweep={"axes": axes}))
    found = []
    for name, executor in (("cluster", RayExecutor()), ("alone", None)):
        with ResultStore.open(tmp_path / name, write=True) as store:
            assert run(plan, store, executor=executor).done == 2
        results = (tmp_path / name / "results").rglob("*.parquet")
        found.append({path.name: path.read_bytes() for path in results})
    assert found[0] == found[1]
