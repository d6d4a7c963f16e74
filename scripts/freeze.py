"""Prints constraints.txt: the versions that pip resolves today for every extra, names and versions only.

    .venv/bin/python scripts/freeze.py > new.txt && mv new.txt constraints.txt

torch is pinned by hand in TORCH, because its newest release and its CUDA build are never wanted by accident.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# `==2.13.0` also matches a local build such as the CPU one; writing its suffix here would bar all others.
TORCH = "torch==2.13.0"
HEADER = """\
# Versions known to work together, for the two make targets and for CI. Names and versions only: where
# packages come from is the business of your own pip settings. Written by scripts/freeze.py; torch by hand.
"""


def resolve() -> list[tuple[str, str]]:
    """Name and version of everything the project and its extras bring, torch left out."""
    with tempfile.TemporaryDirectory() as folder:
        pin = Path(folder) / "torch.txt"
        pin.write_text(TORCH + "\n")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", "-", "-c", str(pin), f"{ROOT}[all,dev]"]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    names = (item["metadata"] for item in json.loads(found.stdout)["install"])
    pairs = ((item["name"].lower().replace("_", "-"), item["version"]) for item in names)
    return sorted(pair for pair in pairs if pair[0] not in {"torch", "llm-experiment-engine"})


if __name__ == "__main__":
    # A local build's suffix (`+cpu`) names a file that others cannot get.
    pins = [f"{name}=={version.partition('+')[0]}" for name, version in resolve()]
    print(HEADER + "\n".join([TORCH, *pins]))
