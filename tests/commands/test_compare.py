"""`engine compare` on stored runs: what it prints, writes, refuses, and with which exit code it ends."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.commands.loading import load, plan_of
from engine.results.documents import write_documents, write_session
from engine.results.store import ResultStore
from tests.commands.conftest import SPEC, Answer
from tests.results.comparing import interval, table

Engine = Callable[..., Answer]

LIVE = SPEC.replace(
    "  - kind: analytical", "  - {kind: live, target: {kind: local, weights: random}, repeats: 5}"
)


@pytest.fixture
def predicted(engine: Engine, spec: Path) -> Path:
    """Two runs whose second has another prompt length and one batch more, in the folder `runs`."""
    assert engine("--quiet", "run", spec, "--no-report").code == 0
    other = SPEC.replace("name: tiny", "name: later\nworkload: {prompt_tokens: 1024}")
    Path("later.yaml").write_text(other.replace("[1, 8]", "[1, 8, 16]"), encoding="utf-8")
    assert engine("--quiet", "run", "later.yaml", "--no-report").code == 0
    return Path("runs")


def store_live(name: str, tpot_s: float, *, tasks: int = 4) -> None:
    """A run whose tasks have measured `tpot_s` in five repeats, as a night of live runs leaves it."""
    path = Path(f"{name}.yaml")
    path.write_text(LIVE.replace("name: tiny", f"name: {name}"), encoding="utf-8")
    plan = plan_of(load(path))
    with ResultStore.open(Path("runs") / name, write=True) as store:
        write_documents(store, plan, text=None)
        write_session(store, {"id": "1", "engine": "0.1.0", "host": name, "ended": "2026-01-02T03:04:05Z"})
        for task in plan.tasks[:tasks]:
            (point,) = task.points()
            row = {
                "point": 0, "source": "live", "phase": "request", "status": "ok", "basis": "measured",
                "variant": f"concurrency {point.workload.batch_size} (static batch)",
                **interval("tpot_s", tpot_s, 1e-4, repeats=5),
            }  # fmt: skip
            store.record(task, {"summary": table("summary", [row])})


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three nights of live runs: as ever, as ever, a tenth slower."""
    monkeypatch.chdir(tmp_path)
    for name, tpot_s in (("monday", 0.010), ("tuesday", 0.01001), ("wednesday", 0.011)):
        store_live(name, tpot_s)


def test_what_differs_is_printed(engine: Engine, predicted: Path) -> None:
    answer = engine("compare", "tiny", "later", "--ignore", "prompt_tokens", "--metrics", "ttft_s")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith("A tiny: 4 points, predicted, 20")
    assert "    workload.prompt_tokens: 2048 -> 1024" in lines or any("prompt_tokens" in x for x in lines)
    assert "    sweep.axes.workload.batch_size: [1, 8] -> [1, 8, 16]" in lines
    assert "  environment: the same" in lines
    assert sum(line.startswith("improved  Time to first token") for line in lines) == 4
    assert "B later: 4 improved; 4 comparisons at 4 points" in lines
    assert lines[-1].startswith("only in B: 2 points, such as llama-3.1-8b on ")


def test_runs_are_found_by_path_too(engine: Engine, predicted: Path) -> None:
    answer = engine("compare", predicted / "tiny", predicted / "later", "--ignore", "prompt_tokens")
    assert answer.code == 0


def test_json_has_everything(engine: Engine, predicted: Path) -> None:
    answer = engine("compare", "tiny", "later", "--ignore", "prompt_tokens", "--json")
    found = json.loads(answer.out)
    assert found["schema_version"] == 1
    (against,) = found["against"]
    assert against["run"]["name"] == "later"
    assert len(against["points"]) == 4
    assert len(against["unmatched"]) == 2
    change = next(c for c in against["points"][0]["changes"] if c["metric"] == "ttft_s")
    assert change["verdict"] == "improved"
    assert change["difference"] == pytest.approx(change["after"]["value"] - change["before"]["value"])
    assert answer.err == ""


def test_the_same_runs_print_the_same(engine: Engine, predicted: Path) -> None:
    arguments = ("compare", "tiny", "later", "--ignore", "prompt_tokens", "--json")
    assert engine(*arguments).out == engine(*arguments).out


def test_reports_are_written(engine: Engine, predicted: Path) -> None:
    answer = engine(
        "compare", "tiny", "later", "--ignore", "prompt_tokens", "-o", "out", "--formats", "html,xlsx"
    )
    assert answer.code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["compare.html", "compare.xlsx"]
    assert "compare.html" in answer.err


def test_noise_is_no_regression(engine: Engine, nights: None) -> None:
    answer = engine("compare", "monday", "tuesday", "--fail-on", "regressed")
    assert answer.code == 0
    assert "B tuesday: 4 within noise; 4 comparisons at 4 points" in answer.out
    assert "    host: monday -> tuesday" in answer.out


def test_a_regression_ends_with_one(engine: Engine, nights: None) -> None:
    answer = engine("compare", "monday", "tuesday", "wednesday", "--fail-on", "regressed", "--junit", "j.xml")
    assert answer.code == 1
    assert answer.err == "error: 4 comparisons regressed\n  asked for by `--fail-on regressed`\n"
    assert "C wednesday: 4 regressed; 4 comparisons at 4 points" in answer.out
    root = ET.parse("j.xml").getroot()
    assert [(suite.get("name"), suite.get("failures")) for suite in root] == [
        ("B tuesday", "0"), ("C wednesday", "4"),
    ]  # fmt: skip


def test_a_threshold_lets_small_ones_pass(engine: Engine, nights: None) -> None:
    arguments = ("compare", "monday", "wednesday", "--fail-on", "regressed", "--threshold")
    assert engine(*arguments, "5%").code == 1
    assert engine(*arguments, "15 %").code == 0


def test_markdown_goes_to_a_file_or_to_stdout(engine: Engine, nights: None) -> None:
    shown = engine("compare", "monday", "wednesday", "--markdown", "-")
    engine("compare", "monday", "wednesday", "--markdown", "m.md")
    assert shown.out == Path("m.md").read_text(encoding="utf-8")
    assert shown.out.startswith("## Comparison against `monday`\n")


def test_missing_partners_can_fail_too(engine: Engine, predicted: Path) -> None:
    answer = engine("compare", "tiny", "later", "--ignore", "prompt_tokens", "--fail-on", "unmatched")
    assert answer.code == 1
    assert answer.err.startswith("error: 2 points without a partner\n")


def test_predictions_stand_beside_measurements(engine: Engine, nights: None, tmp_path: Path) -> None:
    Path("theory.yaml").write_text(SPEC.replace("name: tiny", "name: theory"), encoding="utf-8")
    assert engine("--quiet", "run", "theory.yaml", "--no-report").code == 0
    answer = engine("compare", "theory", "wednesday", "--json", "--metrics", "tpot_s")
    points = json.loads(answer.out)["against"][0]["points"]
    assert [(p["identity"]["source"], p["other"]["source"]) for p in points] == [("predicted", "live")] * len(
        points
    )
    assert points


# Mistakes


def test_the_same_run_twice(engine: Engine, nights: None) -> None:
    answer = engine("compare", "monday", "runs/monday")
    assert answer.code == 2
    assert answer.err == (
        "error: `runs/monday` is the run `monday` again\n"
        "  a run does not differ from itself: name another one\n"
    )


def test_one_run(engine: Engine, nights: None) -> None:
    answer = engine("compare", "monday")
    assert answer.code == 2
    assert answer.err == (
        "error: `monday` alone cannot be compared\n  engine compare BASELINE RUN [RUN...]\n"
    )


def test_a_path_that_is_no_run(engine: Engine, nights: None) -> None:
    answer = engine("compare", "monday", "sunday")
    assert answer.code == 3
    assert answer.err == ("error: there is no run `sunday`\n  runs in `runs`: monday, tuesday, wednesday\n")
    Path("empty").mkdir()
    assert engine("compare", "monday", "empty").code == 3


def test_runs_without_a_shared_point(engine: Engine, predicted: Path) -> None:
    answer = engine("compare", "tiny", "later")
    assert answer.code == 5
    assert answer.err.startswith(
        "error: `later` shares no point with `tiny`: nearest point differs in prompt_tokens ("
    )
    assert answer.err.endswith("  `--ignore prompt_tokens` compares them all the same\n")


def test_an_unfinished_run(engine: Engine, nights: None) -> None:
    store_live("broken", 0.01, tasks=3)
    answer = engine("compare", "monday", "broken")
    assert answer.code == 2
    assert answer.err == (
        "error: run `broken` is not finished: 1 of 4 tasks are left\n"
        "  `engine run` with its spec continues it; `--partial` compares what is there\n"
    )
    partial = engine("compare", "monday", "broken", "--partial")
    assert partial.code == 0
    assert "B broken: 3 within noise; 3 comparisons at 3 points" in partial.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "ttft"], "no metric `ttft`"),
        (["--metrics", "energy_j"], "run `monday` has no `energy_j`"),
        (["--ignore", "device"], "points have no field `device`"),
        (["--match", "model", "--ignore", "hardware"], "`--match` and `--ignore` say the same in two ways"),
        (["--threshold", "2"], "`2` is no percentage for `--threshold`"),
        (["--noise", "x%"], "`x%` is no percentage for `--noise`"),
        (["--formats", "docx"], "no report format `docx`"),
        (["--same", "a"], "`a` is not NAME=NAME"),
    ],
)
def test_other_mistakes(engine: Engine, nights: None, arguments: list[str], message: str) -> None:
    answer = engine("compare", "monday", "tuesday", *arguments)
    assert answer.code == 2
    assert answer.err.startswith(f"error: {message}\n")


def test_control_characters_of_names_do_not_reach_the_terminal(engine: Engine, nights: None) -> None:
    shutil.copytree("runs/monday", "runs/\x1b[31mred")
    answer = engine("compare", "tuesday", "\x1b[31mred")
    assert answer.code == 0
    assert "\x1b" not in answer.out
