"""What an energy measurement may not say."""

import pytest
from pydantic import ValidationError

from engine.spec.energy import EnergySettings


def refused(**settings: object) -> str:
    with pytest.raises(ValidationError) as caught:
        EnergySettings.model_validate({"kind": "energy", **settings})
    return str(caught.value.errors()[0]["msg"]).removeprefix("Value error, ")


@pytest.mark.parametrize("interval", ["5 ms", "150 ms"])
def test_sampling_stays_where_sensors_are(interval: str) -> None:
    assert refused(sample_interval=interval) == "`sample_interval` must be between 10 ms and 100 ms"


def test_a_trace_and_replay_belong_together() -> None:
    told = "`trace` belongs to `source: replay`, and that needs it"
    assert refused(source="replay") == told
    assert refused(trace="a.json") == told
    assert refused(source="replay", trace="a.json", metrics=["time"]) == (
        "`source: replay` reads recorded power; `metrics: [time]` measures here"
    )


def test_settings_that_would_be_ignored_are_refused() -> None:
    told = "energy runs plain batches step by step: no `{}` here"
    compiled = {"kind": "local", "cache": "static", "compile": True}
    assert refused(target=compiled) == told.format("compile")
    assert refused(target={"kind": "local", "batching": "continuous"}) == told.format("batching")
    assert refused(metrics=["time", "time"]) == "`metrics` names one thing twice"
    told = "`heads` needs `granularity: component` and `method: loop`"
    assert refused(heads=True) == told
    assert refused(heads=True, granularity="component", method="time_weighted") == told
    assert refused(ablation=True) == (
        "`ablation` needs `granularity: layer` or `component`, and `method: loop`"
    )
    EnergySettings(kind="energy", heads=True, ablation=True, granularity="component")


def test_how_long_a_point_takes() -> None:
    # 17 components in two phases, ten trials of 12 s: 4080 s; idle 3 x 20 s, probe 2 s, requests 6 x 7.5 s.
    settings = EnergySettings(kind="energy", granularity="component")
    assert settings.expected_s(layers=16) == pytest.approx(4080 + 60 + 2 + 45)
    assert EnergySettings(kind="energy").expected_s(layers=16) == pytest.approx(107)
    # Eight groups of heads in two phases: 8 x 2 x 10 x 12 s more.
    heads = EnergySettings(kind="energy", granularity="component", heads=True)
    assert heads.expected_s(layers=16, heads=8) == pytest.approx(4080 + 107 + 1920)
    assert settings.expected_s(layers=16, heads=8) == pytest.approx(4080 + 107)
    quick = EnergySettings(kind="energy", granularity="component", method="time_weighted")
    assert quick.expected_s(layers=16) == pytest.approx(107)
