from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cli import COMMANDS
from engine.metrics import METRICS

Engine = Callable[..., Any]


def test_help_lists_every_command_without_importing_one(engine: Engine) -> None:
    answer = engine("--help")
    assert answer.code == 0
    for name, (_, text) in COMMANDS.items():
        assert name in answer.out
        assert text[:20] in answer.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(engine: Engine, name: str) -> None:
    answer = engine(name, "--help")
    assert answer.code == 0
    assert answer.out.startswith("Usage: ")


def test_misspelt_command(engine: Engine) -> None:
    answer = engine("chek")
    assert answer.code == 2
    assert "Did you mean `check`?" in answer.err


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_explained(engine: Engine, metric: str) -> None:
    facts = json.loads(engine("explain", metric, "--format", "json").out)
    assert facts["definition"] == METRICS[metric].definition


def test_the_glossary_is_the_one_in_the_docs(engine: Engine) -> None:
    written = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert engine("explain", "--format", "md").out == written


def test_explaining_something_near(engine: Engine) -> None:
    answer = engine("explain", "tttft_s")
    assert (answer.code, "`ttft_s`" in answer.err) == (2, True)
    assert engine("explain", "4").out == "4  partial: some points failed; the rest is saved and reported\n"


def test_catalog_lists_and_shows(engine: Engine) -> None:
    listed = json.loads(engine("catalog", "list", "hardware", "--format", "json").out)["hardware"]
    assert len(listed) >= 70
    assert "3.35 TB/s" in engine("catalog", "show", "h100-sxm-80gb").out
    answer = engine("catalog", "show", "h100-sxm-81gb")
    assert answer.code == 2
    assert "h100-sxm-80gb" in answer.err


def test_shipped_catalogue_is_clean(engine: Engine) -> None:
    answer = engine("catalog", "lint")
    assert (answer.code, answer.out) == (0, "")


def test_committed_schemas_match_the_code(engine: Engine) -> None:
    assert engine("schema", "--check").code == 0


def test_new_repository_checks_and_plans(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert engine("init", "lab").code == 0
    assert engine("check", "lab/specs/first_sweep.yaml").code == 0
    assert json.loads(Path("lab/.vscode/settings.json").read_text())["yaml.schemas"]
    assert Path("lab/.engine/experiment.v1.json").exists()
    assert engine("init", "lab").code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(engine: Engine, shell: str) -> None:
    assert "_ENGINE_COMPLETE" in engine("completion", shell).out


@pytest.mark.parametrize(
    ("command", "forbidden"),
    [
        (["--help"], {"pydantic", "ruamel", "numpy"}),
        (["check"], {"numpy", "pandas", "pyarrow", "torch", "matplotlib", "jinja2"}),
        (["plan"], {"pandas", "torch", "matplotlib", "weasyprint", "transformers"}),
    ],
)
def test_heavy_libraries_stay_out_of_start_up(command: list[str], forbidden: set[str]) -> None:
    spec = str(Path(__file__).parents[2] / "specs" / "llama3_8b_sweep.yaml")
    arguments = [*command, spec] if command != ["--help"] else command
    code = (
        "import sys, contextlib, io\n"
        "from engine.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    main({arguments!r})\n"
        "print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not forbidden & set(done.stdout.split())


def test_a_full_disk_is_not_a_defect(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "out.csv")

    monkeypatch.setattr("engine.cli.app.main", full)
    answer = engine("catalog", "list")
    assert (answer.code, answer.err) == (3, "error: `out.csv` cannot be written: No space left on device\n")


def test_a_reader_who_leaves_is_no_failed_threshold() -> None:
    # The pipe is closed before the first line: click leaves with 1, which would mean a missed threshold.
    command = [sys.executable, "-m", "engine", "explain"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")


def test_a_plan_that_only_reads_files_is_not_called_kept(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Path(__file__).parents[2] / "specs" / "neuron_training.yaml"
    monkeypatch.chdir(tmp_path)
    answer = engine("plan", spec)
    assert answer.out.splitlines()[-1] == "To run: 1 task. Nothing has been run."
    assert engine("plan", spec, "--exit-code").code == 10
