"""The sheet of scores: its formulas compute what the engine computed."""

import datetime as dt
import shutil
import subprocess
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from engine.report.score_sheet import ScoreSheet, score_sheet
from engine.report.sheets import Workbook
from engine.results.tables import make_table
from engine.score.weights import ScoreResult, score
from engine.spec.scoring import Scoring

VALUES = {"output_tokens_per_s": [500.0, 2000.0, 900.0], "tpot_s": [0.01, 0.04, 0.02]}


def judged(**scoring: Any) -> ScoreResult:
    same = {"source": "predicted", "phase": "request", "status": "ok"}
    columns = {"point": [0, 1, 2], **{k: [v] * 3 for k, v in same.items()}, **VALUES}
    return score(
        Scoring.model_validate(scoring),
        make_table("points", {"point": [0, 1, 2]}),
        make_table("summary", columns),
    )


def written(folder: Path, result: ScoreResult) -> Any:
    book = Workbook(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), title="t")
    score_sheet(book, ScoreSheet(result, ("a", "b", "c")))
    book.save(folder / "t.xlsx")
    return openpyxl.load_workbook(folder / "t.xlsx")["Score"]


def recalculated(folder: Path, **books: Any) -> dict[str, Any]:
    """The sheets as LibreOffice computes them, by name."""
    office = shutil.which("soffice") or pytest.skip("no LibreOffice on this machine")
    for name, sheet in books.items():
        sheet.parent.save(folder / f"{name}.xlsx")
    out = folder / "computed"
    command = [office, f"-env:UserInstallation={(folder / 'profile').as_uri()}", "--headless", "--convert-to",
               "xlsx", "--outdir", str(out), *(str(folder / f"{name}.xlsx") for name in books)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    return {name: openpyxl.load_workbook(out / f"{name}.xlsx", data_only=True)["Score"] for name in books}


OBJECTIVES: list[dict[str, Any]] = [
    {"metric": "output_tokens_per_s", "weight": 0.6, "reference": 1000},
    {"metric": "tpot_s", "weight": 0.4, "reference": 0.02},
]


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "added": ("weighted_sum", {}),
    "mean": ("weighted_geometric_mean", {}),
    "multiplied": ("product", {}),
    "logarithm": ("weighted_sum", {"normalization": "log_ratio"}),
    "scaled": ("weighted_sum", {"normalization": "min_max", "reference": None}),
    "target": ("weighted_sum", {"normalization": "target", "tolerance": 0.5}),
}


def result_of(kind: str) -> ScoreResult:
    aggregation, changes = KINDS[kind]
    return judged(objectives=[{**objective, **changes} for objective in OBJECTIVES], aggregation=aggregation)


@pytest.mark.parametrize(
    ("kind", "score_formula", "factor_formula"),
    [
        ("added", "=$C$3*G14+$C$4*I14", "=F14/$D$3"),
        ("mean", "=G14^$C$3*I14^$C$4", "=F14/$D$3"),
        ("logarithm", "=$C$3*G14+$C$4*I14", "=1+LOG(F14/$D$3,2)"),
        ("scaled", "=$C$3*G14+$C$4*I14", "=(F14-$E$3)/($D$3-$E$3)"),
        ("target", "=$C$3*G14+$C$4*I14", "=MAX(0,1-ABS(F14-$D$3)/$E$3)"),
    ],
)
def test_formulas(tmp_path: Path, kind: str, score_formula: str, factor_formula: str) -> None:
    sheet = written(tmp_path, result_of(kind))
    assert (sheet["D14"].value, sheet["G14"].value) == (score_formula, factor_formula)
    assert (sheet["B14"].value, sheet["C3"].value) == ("=RANK(D14,$D$14:$D$16)", "=B3/SUM($B$3:$B$4)")
    assert [sheet[f"A{line}"].value for line in (14, 15, 16)] == ["a", "b", "c"]


@pytest.mark.office
def test_a_calculator_finds_the_engines_scores_and_moves_with_the_weights(tmp_path: Path) -> None:
    books = {kind: written(tmp_path, result_of(kind)) for kind in KINDS}
    books["moved"] = written(tmp_path, result_of("mean"))
    books["moved"]["B3"], books["moved"]["B4"] = 0.1, 0.9
    found = recalculated(tmp_path, **books)
    for kind in KINDS:
        rows = result_of(kind).scores.to_pylist()
        assert [found[kind][f"D{14 + i}"].value for i in range(3)] == pytest.approx(
            [r["score"] for r in rows]
        )
        assert [found[kind][f"B{14 + i}"].value for i in range(3)] == [r["rank"] for r in rows]
    again = [{**o, "weight": w} for o, w in zip(OBJECTIVES, (0.1, 0.9), strict=True)]
    place = judged(objectives=again).scores["point"].to_pylist()
    first = result_of("mean").scores["point"].to_pylist()
    moved = [found["moved"][f"B{14 + i}"].value for i in range(3)]
    assert moved == [place.index(point) + 1 for point in first]
    assert moved != [1, 2, 3]
    # The list above the table is in the new order, with the new scores.
    names = [first.index(point) for point in place]
    assert [found["moved"][f"A{9 + i}"].value for i in range(3)] == ["abc"[i] for i in names]
    assert [found["moved"][f"C{9 + i}"].value for i in range(3)] == pytest.approx(
        judged(objectives=again).scores["score"].to_pylist()
    )


@pytest.mark.office
def test_rows_of_equal_score_have_a_place_each(tmp_path: Path) -> None:
    same = [{"metric": "output_tokens_per_s", "weight": 1.0, "normalization": "target", "reference": 9e4,
             "tolerance": 1.0}]  # fmt: skip
    result = judged(objectives=same, aggregation="weighted_sum")
    assert result.scores["score"].to_pylist() == [0, 0, 0]
    found = recalculated(tmp_path, tied=written(tmp_path, result))["tied"]
    assert [found[f"A{8 + i}"].value for i in range(3)] == ["a", "b", "c"]


def test_values_are_there_without_a_calculator(tmp_path: Path) -> None:
    result = judged(objectives=OBJECTIVES)
    written(tmp_path, result)
    cached = openpyxl.load_workbook(tmp_path / "t.xlsx", data_only=True)["Score"]
    assert [cached[f"D{line}"].value for line in (14, 15, 16)] == pytest.approx(
        result.scores["score"].to_pylist()
    )
    assert [cached[f"A{line}"].value for line in (9, 10, 11)] == ["a", "b", "c"]


def test_a_preset_factor_by_factor(tmp_path: Path) -> None:
    rows = {
        "point": [0, 0], "source": ["training"] * 2, "phase": ["training", "request"], "status": ["ok"] * 2,
        "training_mfu": [0.2, None], "training_sequences_per_s": [50.0, None], "kernel_ratio": [0.25, None],
        "e2e_s": [None, 20.0], "total_tokens_per_s": [None, 30.0], "accuracy": [None, 1.0],
    }  # fmt: skip
    result = score(
        Scoring.model_validate({"preset": "nki-llama"}),
        make_table("points", {"point": [0]}),
        make_table("summary", rows),
    )
    sheet = written(tmp_path, result)
    assert [sheet[f"E{line}"].value for line in (4, 9, 10)] == ["=C4/D4", "=IF(C9>=D9,1,0)", "=D10/C10"]
    assert [sheet[f"C{line}"].value for line in (8, 9, 12)] == [0.25, 1.0, "=C8"]
    total = next(row[0].row for row in sheet.iter_rows() if row[0].value == "score")
    assert sheet[f"E{total}"].value == f"=SUM(E{total - 2}:E{total - 1})"
    cached = openpyxl.load_workbook(tmp_path / "t.xlsx", data_only=True)["Score"]
    # 0.4 x 0.2/0.5 x 50/100 x 1.25 + 0.6 x 50/20 x 30/10 x 1.25
    assert cached[f"E{total}"].value == pytest.approx(0.1 + 5.625)
    assert [cached[f"C{total - 2 + i}"].value for i in (0, 1)] == pytest.approx([0.25, 9.375])
