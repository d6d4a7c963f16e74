"""Power that a program made up says so in every row, and no ranking takes it."""

from engine.measure.energy.analysis import tables_of
from engine.measure.energy.phases import Subject
from engine.results.tables import concatenate, make_table
from engine.score.energy_advice import energy_findings
from engine.score.rows import judged_rows
from engine.spec.energy import EnergySettings
from engine.testing.power import smoke_trace

TABLES = tables_of(
    smoke_trace(trials=2, window_s=1.2),
    Subject(512, 256, 8),
    EnergySettings(kind="energy", source="replay", trace="x", granularity="component"),
)


def test_every_row_is_labelled() -> None:
    told = "simulated power: no device was metered"
    for row in TABLES["summary"].to_pylist():
        assert row["basis"] == "simulated"
        assert told in row["reason"]
    for row in TABLES["components"].to_pylist():
        assert told in row["reason"]
    for row in energy_findings(TABLES):
        assert row["evidence"].endswith("(simulated power)")


def test_no_ranking_takes_simulated_power() -> None:
    predicted = make_table(
        "summary",
        {"point": [0], "source": ["predicted"], "phase": ["decode"], "basis": ["bound"], "status": ["ok"]},
    )
    both = concatenate("summary", [TABLES["summary"], predicted])
    judged = judged_rows(both, phase="decode", source=None)
    assert judged.source == "predicted"
    assert len(judged_rows(both, phase="decode", source="metered").rows) == 0
    # Nor does a simulated row lend what the judged one lacks.
    places = judged.places("energy_per_output_token_j")
    assert places.tolist() == judged.rows.tolist()
