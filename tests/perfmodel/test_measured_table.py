"""Tables of timings: what is fitted, what is counted as left out, and names that become files."""

import numpy as np
import pytest

from engine.perfmodel.assemble import calibrations_of
from engine.perfmodel.measured_table import Measured, fit_table
from engine.perfmodel.parameter_sets import choose
from engine.perfmodel.validate import held_out_table, shipped_table
from engine.spec.calibration import Calibration
from engine.spec.calibration_file import calibration_text
from engine.spec.document import read_document, validate
from tests.perfmodel.synthetic import DEVICE, measured


def table(
    *, noise: float = 0.05, engine: str = "test", device: str = "synthetic", factor: float = 1.0
) -> Measured:
    """GEMM and attention of the synthetic device as one table."""
    parts = {kind: measured(kind, noise=noise) for kind in ("gemm", "prefill_attention", "decode_attention")}
    names = sorted({name for part in parts.values() for name in part})
    sizes = [len(part["measured_s"]) for part in parts.values()]
    numbers = {
        ("time_s" if name == "measured_s" else name): np.concatenate(
            [part.get(name, np.full(n, np.nan)) for part, n in zip(parts.values(), sizes, strict=True)]
        )
        for name in names
    }
    numbers["time_s"] = numbers["time_s"] * factor
    operators = np.array([kind for kind, n in zip(parts, sizes, strict=True) for _ in range(n)], dtype=object)

    def same(text: str) -> np.ndarray:
        return np.array([text] * len(operators), dtype=object)

    texts = {
        "device": same(device),
        "engine": same(engine),
        "engine_version": same("1.0"),
        "operator": operators,
        "precision": same("bf16"),
    }
    return Measured(texts, numbers)


DEVICES = {"synthetic": DEVICE}


def test_a_table_becomes_one_parameter_set_that_reads_back() -> None:
    found = table()
    outcome = fit_table(found, DEVICES)
    assert outcome.refused == {}
    ((name, made),) = calibrations_of(outcome, found, DEVICES, source="a test", fitted="2026-11-20").items()
    assert name == "synthetic-test-1.0"
    assert [fit.operator for fit in made.operators] == ["gemm", "prefill_attention", "decode_attention"]
    text = calibration_text(made)
    again = validate(read_document("calibration.yaml", data=text.encode()), Calibration)
    assert again.operators[0].parameters.launch == pytest.approx(
        made.operators[0].parameters.launch, rel=1e-3
    )
    assert calibration_text(again) == text
    chosen = choose("auto", DEVICE, {name: again})
    assert chosen is not None
    assert chosen.law("gemm", "bf16") is not None


def test_times_in_another_unit_are_refused() -> None:
    outcome = fit_table(table(factor=1e-3), DEVICES)
    assert outcome.fits == {}
    reason = outcome.refused["gemm in bf16, synthetic, test 1.0"]
    assert "faster than the data sheet allows" in reason


def test_an_unknown_device_is_counted() -> None:
    outcome = fit_table(table(device="h1000"), DEVICES)
    assert outcome.fits == {}
    assert outcome.ignored == {"no device `h1000` in the catalogue": len(table())}


def test_repeated_shapes_count_once() -> None:
    found = table()
    twice = found.take(np.concatenate([np.arange(len(found)), np.arange(40)]))
    outcome = fit_table(twice, DEVICES)
    gemm = next(fit for subject, fit in outcome.fits.items() if subject.operator == "gemm")
    assert gemm.gated.dropped["repeated shape, median taken"] == 40


def test_names_from_a_table_cannot_leave_the_folder() -> None:
    found = table(engine="../../etc/x")
    outcome = fit_table(found, DEVICES)
    (name,) = calibrations_of(outcome, found, DEVICES, source="a test", fitted="2026-11-20")
    assert name == "synthetic-.-.-etc-x-1.0"


def test_held_out_errors_and_those_of_given_parameters() -> None:
    found = table(noise=0.0)
    lines = held_out_table(found, DEVICES)
    whole = next(line for line in lines if line.size == "all" and line.subject.startswith("gemm"))
    assert whole.median < 0.01
    assert whole.bound_median > 0.15
    outcome = fit_table(found, DEVICES)
    made = calibrations_of(outcome, found, DEVICES, source="a test", fitted="2026-11-20")
    again = shipped_table(found, DEVICES, made)
    assert all(line.median < 0.01 for line in again if line.size == "usual shapes" or "gemm" in line.subject)
    assert shipped_table(found, DEVICES, {})[0].note == "no parameters: the bound alone"


def test_the_share_of_rows_inside_their_band_is_told() -> None:
    found = table(noise=0.1)
    outcome = fit_table(found, DEVICES)
    made = calibrations_of(outcome, found, DEVICES, source="a test", fitted="2026-11-20")
    line = next(line for line in shipped_table(found, DEVICES, made) if line.subject.startswith("gemm"))
    assert 0.85 < line.covered <= 1
    # Twice as slow as the rows that made the bands.
    far = shipped_table(table(noise=0.0, factor=2.0), DEVICES, made)
    line = next(line for line in far if line.subject.startswith("gemm"))
    assert line.covered == 0
    assert ", in band 0%, bound " in str(line)
    assert next(iter(held_out_table(found, DEVICES))).as_data()["covered"] is None
    (one,) = shipped_table(found.take(np.array([0])), DEVICES, made)[:1]
    assert (one.rows, "outside the band" in str(one)) == (1, one.covered == 0)


def test_times_in_another_unit_are_warned_of() -> None:
    # Everything a thousand times slower breaks no law of physics, but no device is that slow.
    outcome = fit_table(table(factor=1000), DEVICES)
    warnings = [text for fitted in outcome.fits.values() for text in fitted.warnings]
    assert len(warnings) == 3
    assert all("of the data sheet: are the times in another unit?" in text for text in warnings)
    assert all(not fitted.warnings for fitted in fit_table(table(), DEVICES).fits.values())
