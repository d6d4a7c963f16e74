"""Installs the pinned torch, unless pip would bring the CUDA build to a machine without an NVIDIA GPU.

That build is several gigabytes of libraries that such a machine cannot use. It comes from the default index
on Linux; where pip's own settings offer a CPU build, pip prefers it and nothing here gets in the way.
ENGINE_TORCH=any takes whatever pip finds.
"""

import json
import os
import shutil
import subprocess
import sys

PIP = [sys.executable, "-m", "pip", "install", "--quiet", "-c", "constraints.txt"]
CUDA_NAMES = ("cuda-", "nvidia-", "triton")


def cuda_build_found() -> bool:
    """Whether the torch that pip would take here asks for CUDA libraries."""
    command = [*PIP, "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", "torch"]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    needs = json.loads(found.stdout)["install"][0]["metadata"].get("requires_dist", [])
    return any(need.startswith(CUDA_NAMES) for need in needs)


def main() -> int:
    """Zero when torch is there, or when it was left out on purpose with a line that says why."""
    wanted = os.environ.get("ENGINE_TORCH") == "any" or shutil.which("nvidia-smi") is not None
    # Only Linux has CUDA builds under the plain name; elsewhere the list of needs is for Linux.
    if not wanted and sys.platform == "linux" and cuda_build_found():
        print(
            "torch left out: pip offers only its CUDA build here, and this machine has no NVIDIA GPU.\n"
            "Tests of live measurement will be skipped. Point pip at a CPU build (PIP_EXTRA_INDEX_URL or\n"
            "PIP_FIND_LINKS; pytorch.org/get-started names an address) or set ENGINE_TORCH=any to take what\n"
            "pip offers; then `rm .venv/tests.stamp` and make again.",
            file=sys.stderr,
        )
        return 0
    return subprocess.run([*PIP, "torch"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
