"""What differs besides the numbers, by path."""

from __future__ import annotations

from engine.results.differences import environment_differences, shown, spec_differences
from tests.results.comparing import table


def texts(found) -> list[str]:
    return [str(one) for one in found]


def test_every_value_that_differs_has_its_path() -> None:
    before = {"name": "a", "workload": {"batch_size": 1, "prompt_tokens": 5}, "tags": ["x"]}
    after = {"name": "a", "workload": {"batch_size": 8, "prompt_tokens": 5}, "tags": ["x", "y"], "new": True}
    assert texts(spec_differences(before, after)) == [
        "workload.batch_size: 1 -> 8",
        "tags: [x] -> [x, y]",
        "new: none -> true",
    ]


def test_measurements_are_known_by_their_kind() -> None:
    before = {"measurements": [{"kind": "live", "repeats": 3}]}
    after = {"measurements": [{"kind": "analytical"}, {"kind": "live", "repeats": 5}]}
    assert texts(spec_differences(before, after)) == [
        "measurements.analytical: none -> {kind: analytical}",
        "measurements.live.repeats: 3 -> 5",
    ]


def test_two_of_a_kind_are_numbered() -> None:
    before = {"measurements": [{"kind": "live", "repeats": 3}, {"kind": "live", "repeats": 3}]}
    after = {"measurements": [{"kind": "live", "repeats": 3}, {"kind": "live", "repeats": 4}]}
    assert texts(spec_differences(before, after)) == ["measurements.live[2].repeats: 3 -> 4"]


def test_entries_of_the_catalogue_are_looked_into_where_both_have_them() -> None:
    before = {"x-catalogue": {"hardware": {"h100": {"memory": "80000000000 B"}, "a100": {"memory": 40}}}}
    after = {"x-catalogue": {"hardware": {"h100": {"memory": "94500000000 B"}}}}
    assert texts(spec_differences(before, after)) == [
        "hardware.a100: used -> none",
        "hardware.h100.memory: 80 GB -> 94.5 GB",
    ]


def test_equal_specs_differ_in_nothing() -> None:
    spec = {"a": {"b": [1, {"c": 2}]}, "x-catalogue": {"model": {"m": {"layers": 2}}}}
    assert spec_differences(spec, spec) == ()


def test_long_values_are_cut() -> None:
    text = shown(list(range(1000)))
    assert text is not None
    assert len(text) == 120
    assert text.endswith(" ...")
    assert shown(None) is None


def test_environments_differ_in_what_they_say_and_not_in_when() -> None:
    before = [
        {"host": "a", "started": "1", "id": "x", "command": "c", "gpus": [{"driver": "550", "name": "H"}]}
    ]
    after = [
        {"host": "b", "started": "2", "id": "y", "command": "d", "gpus": [{"driver": "560", "name": "H"}]}
    ]
    assert texts(environment_differences(before, after)) == ["host: a -> b", "gpus.0.driver: 550 -> 560"]


def test_a_run_made_in_parts_shows_each_value() -> None:
    before = [{"host": "a"}, {"host": "c"}, {"host": "a"}]
    assert texts(environment_differences(before, [{"host": "a"}])) == ["host: a; c -> a"]


def test_a_missing_device_is_a_difference() -> None:
    found = environment_differences([{"gpus": []}], [{"gpus": [{"name": "H100"}]}])
    assert texts(found) == ["gpus.0.name: none -> H100"]


def test_what_was_observed_counts_too() -> None:
    seen = [
        table("observed", [{"setting": "gpu_clock", "observed": f"{clock} MHz"} for clock in clocks])
        for clocks in ((1980, 1980), (1200, 1980))
    ]
    found = environment_differences([], [], observed=(seen[0], seen[1]))
    assert texts(found) == ["observed.gpu_clock: 1980 MHz -> 1200 MHz; 1980 MHz"]
