"""Reading tables of timings: names, units, constants, and what is refused."""

from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.results.measured import read_measured

TEXT = "op,hardware,source_version,precision,m,n,k,measured_us\ngemm,gpu,vllm-0.24.0,bf16,1,2,3,12.5\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "times.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_public_names_and_units_are_understood(tmp_path: Path) -> None:
    found = read_measured(written(tmp_path, TEXT))
    assert {name: column[0] for name, column in found.texts.items()} == {
        "device": "gpu",
        "engine": "vllm",
        "engine_version": "0.24.0",
        "operator": "gemm",
        "precision": "bf16",
    }
    assert found.numbers["time_s"][0] == pytest.approx(12.5e-6)


def test_columns_can_be_named_and_shared_values_given(tmp_path: Path) -> None:
    path = written(tmp_path, "rows,width,depth,took\n1,2,3,0.5\n")
    found = read_measured(
        path,
        columns={"m": "rows", "n": "width", "k": "depth", "time_ms": "took"},
        constants={"operator": "gemm", "precision": "fp16", "device": "mine"},
    )
    assert found.numbers["time_s"][0] == pytest.approx(5e-4)
    assert found.texts["device"][0] == "mine"


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no column `latencyy`"):
        read_measured(written(tmp_path, TEXT), columns={"time_us": "latencyy"})


def test_what_every_row_needs_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column for `precision`, `device`"):
        read_measured(written(tmp_path, "operator,time_s\ngemm,1\n"))


def test_two_times_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has times in `time_ms` and in `time_us`"):
        read_measured(written(tmp_path, TEXT.replace("k,", "time_ms,")))


def test_semicolons_and_decimal_commas_are_read(tmp_path: Path) -> None:
    found = read_measured(written(tmp_path, TEXT.replace(",", ";").replace("12.5", "12,5")))
    assert found.numbers["time_s"][0] == pytest.approx(12.5e-6)


def test_number_types_go_by_the_names_of_torch_too(tmp_path: Path) -> None:
    assert read_measured(written(tmp_path, TEXT.replace("bf16", "bfloat16"))).texts["precision"][0] == "bf16"


def test_words_in_number_columns_are_unknown(tmp_path: Path) -> None:
    found = read_measured(written(tmp_path, TEXT.replace("12.5", "fast")))
    assert str(found.numbers["time_s"][0]) == "nan"
