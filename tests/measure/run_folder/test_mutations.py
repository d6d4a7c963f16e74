"""Damaged logs: whatever bytes a file holds, it becomes rows or a reason, and nothing is raised."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine.measure.run_folder.collect import collect, tables_of
from engine.measure.run_folder.discovery import Candidate, RunFolder
from engine.measure.run_folder.example import write_example_runs
from engine.measure.run_folder.files import Context
from engine.measure.run_folder.names import Place
from engine.measure.run_folder.run import read_run
from tests.measure.run_folder.test_formats import DCGMI, MLPERF, POWERMETRICS, SERVER, TRTLLM_NEW
from tests.measure.run_folder.trees import settings, vllm

TOKENS = (
    b"N/A", b"nan", b"inf", b"-1", b"0", b"1e400", b"\x00", b"\xff", b'"', b",", b";", b"\n", b"\r", b"{",
    b"]", b"null", b"true", b"99999999999999999999", b"\xef\xbb\xbf", b":", b"=", b" ", b"-0.00",
)  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with up to eight places changed, cut or doubled."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(found) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            found[at : at + chance.randint(0, 6)] = chance.choice(TOKENS)
        elif kind == 1:
            del found[at : at + chance.randint(1, 60)]
        elif kind == 2:
            del found[at:]
        else:
            start = chance.randrange(len(found) + 1)
            found[at:at] = found[start : start + chance.randint(1, 200)]
    return bytes(found)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    files = write_example_runs(tmp_path_factory.mktemp("seeds"))
    texts = [
        DCGMI,
        MLPERF,
        POWERMETRICS,
        SERVER,
        TRTLLM_NEW,
        vllm(end="20260304-100010", duration=9.0, tokens=5),
    ]
    return [*(path.read_bytes()[:3000] for path in files), *(text.encode() for text in texts)]


@pytest.mark.parametrize("seed", range(120))
def test_damage_never_raises(seeds: list[bytes], seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    names = ("a.txt", "power.csv")
    for name in names:
        (tmp_path / name).write_bytes(damaged(chance.choice(seeds), chance))
    run = RunFolder("llama_7b", Place(), tuple(Candidate(tmp_path / name, name) for name in names))
    result = read_run(run, Context(tmp_path, settings()))
    tables = tables_of([result], [], collect([result]))
    assert [row["file"] for row in tables["files"].to_pylist()] == list(names)
    for row in tables["files"].to_pylist():
        assert row["status"] != "unreadable" or row["reason"]
