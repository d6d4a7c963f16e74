"""Write the error tables of docs/calibration.md from measured tables: held-out figures and transfers only.

python scripts/calibration_tables.py DATA
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from fit_shared_data import DEVICES, ROOT, calibration, operator_fits
from fit_shared_runs import run_fits
from unseen_runs import first_token_lines, served_runs, unseen_lines

from engine.perfmodel.fit import band_factors, predicted_s
from engine.perfmodel.measured_table import Outcome, Subject, fit_table
from engine.perfmodel.parameter_sets import TRANSFERRED_WIDER
from engine.perfmodel.validate import lines_of
from engine.results.measured import read_measured
from engine.spec.calibration import Calibration
from engine.spec.catalog import load_calibrations, load_hardware

PAGE: Final = ROOT / "docs" / "calibration.md"
HELD_OUT: Final = (
    "| operator, device, engine | size | rows | sites | median % | p90 % | ratio | within 10 % | within 25 % "
    "| bound, median % |\n|---|---|---|---|---|---|---|---|---|---|"
)
TRANSFER: Final = (
    "| operator | fitted on | judged on | median % | p90 % | ratio | in own band % | in widened band % |\n"
    "|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Fit, judge, and replace what stands between the markers of the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    devices = {name: load_hardware(entry) for name, entry in DEVICES.items()}
    outcome = fit_table(read_measured(data / "operator_times.csv"), devices)
    fits = operator_fits(data / "operator_times.csv")
    runs = run_fits(
        data / "end_to_end.csv", {key.name: calibration(key, found) for key, found in fits.items()}
    )
    held_out = [HELD_OUT, *(line.as_markdown() for line in lines_of(outcome) if line.rows)]
    served = served_runs(pd.read_csv(data / "end_to_end.csv"), shipped())
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in {
        "operators": held_out,
        "transfer": [TRANSFER, *transfers(outcome, _another_device)],
        "engines": [TRANSFER, *transfers(outcome, _another_engine)],
        "requests": [f"- {line}" for line in runs.lines],
        "unseen": [f"- {line}" for line in unseen_lines(served)],
        "first tokens": [f"- {line}" for line in first_token_lines(served)],
    }.items():
        text = between(text, name, "\n".join(lines))
    PAGE.write_text(text, encoding="utf-8")


def shipped() -> dict[str, Calibration]:
    """The parameter sets as they ship."""
    return load_calibrations([load_hardware(entry) for entry in DEVICES.values()])


def transfers(outcome: Outcome, away: Callable[[Subject, Subject], bool]) -> Iterator[str]:
    """Each fit on the usual rows of others that are `away`; bands are widened as between devices."""
    for here, judged in outcome.fits.items():
        rows = judged.gated.rows.take(np.flatnonzero(judged.gated.rows.usual))
        for there, fitted in outcome.fits.items():
            if not away(here, there):
                continue
            predicted = predicted_s(rows, fitted.fit.form, fitted.fit.parameters)
            error = np.abs(predicted / rows.measured_s - 1)
            low, high = band_factors(fitted.fit.bands, predicted)
            ratio, wider = rows.measured_s / predicted, TRANSFERRED_WIDER[here.operator]
            inside = [float(np.mean((ratio >= low / w) & (ratio <= high * w))) for w in (1.0, wider)]
            cells = (
                here.operator.replace("_", " ") + (f" x{here.devices}" if here.devices else ""),
                f"{there.device}, {there.engine or there.engine_version}",
                f"{here.device}, {here.engine or here.engine_version}",
                f"{100 * float(np.median(error)):.1f}",
                f"{100 * float(np.quantile(error, 0.9)):.1f}",
                f"{float(np.median(predicted / rows.measured_s)):.2f}",
                *(f"{100 * share:.0f}" for share in inside),
            )
            yield f"| {' | '.join(cells)} |"


def _another_device(one: Subject, other: Subject) -> bool:
    same = (one.operator, one.precision, one.devices) == (other.operator, other.precision, other.devices)
    return same and one.device != other.device


def _another_engine(one: Subject, other: Subject) -> bool:
    sixteen = {one.precision, other.precision} <= {"bf16", "fp16"}
    same = one.operator == other.operator and one.devices == other.devices
    near = one.precision == other.precision or sixteen
    return same and near and one.device == other.device and one.engine != other.engine


def between(text: str, name: str, content: str) -> str:
    """The page with new content between the markers of this name."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    found, count = pattern.subn(lambda match: f"{match[1]}{content}\n{match[2]}", text)
    if count != 1:
        raise SystemExit(f"{PAGE} has {count} places for `{name}`")
    return found


if __name__ == "__main__":
    main()
