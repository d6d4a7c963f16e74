"""Running commands as a user would, in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.cli import main

SPEC = """\
version: 1
name: tiny
model: llama-3.1-8b
hardware: h100-sxm-80gb
sweep:
  axes:
    hardware: [h100-sxm-80gb, a100-sxm-80gb]
    workload.batch_size: [1, 8]
measurements:
  - kind: analytical
report:
  formats: [html]
"""


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def engine(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run `engine` with arguments and return its exit code and what it printed."""

    def call(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Answer(int(stop.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small spec in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return Path("tiny.yaml")
