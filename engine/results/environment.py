"""What a run was made with: versions, machine, source state. An allow-list, never the environment."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from engine import __version__

HIDDEN: Final = "***"
_PACKAGES: Final = (
    "numpy", "pyarrow", "pandas", "pydantic", "ruamel.yaml", "torch", "transformers", "tokenizers",
    "matplotlib", "weasyprint", "openpyxl", "vl-convert-python", "nvidia-ml-py", "ray",
)  # fmt: skip
# An option or setting whose value is a secret, as `--token X`, `--token=X` or `api_key=X`.
_SECRET_NAME: Final = re.compile(r"(?i)(token|secret|passw|credential|api[-_.]?key|authorization|bearer)")
_ASSIGNED: Final = re.compile(r"^(?P<name>[^=\s]*)=(?P<value>.*)$", re.DOTALL)
_USER_INFO: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)
_QUERY: Final = re.compile(r"(?P<mark>[?&])(?P<name>[^=&\s]+)=[^&\s]*")
# Keys by their published prefixes: Hugging Face, OpenAI-like, GitHub, AWS, Slack.
_KEY: Final = re.compile(r"\b(hf_|sk-|gh[pousr]_|github_pat_|AKIA|xox[abpr]-)[A-Za-z0-9_-]{8,}")


def environment(*, spec: Path | None = None, seed: int | None = None) -> dict[str, Any]:
    """What is recorded beside the results, ready for JSON; unknown values are None."""
    return {
        "engine": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "host": platform.node(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "gpus": gpus(),
        "spec_repository": _git_state(spec.resolve().parent) if spec else None,
        "command": command_line(),
        "seed": seed,
        "started": utc_now(),
        "ended": None,
        "exit_code": None,
    }


def utc_now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command of this process with every secret replaced."""
    arguments = list(sys.argv if arguments is None else arguments)
    if arguments:
        arguments[0] = Path(arguments[0]).name
    shown, hide_next = [], False
    for argument in arguments:
        if hide_next and not argument.startswith("-"):
            shown.append(HIDDEN)
            hide_next = False
            continue
        hide_next = argument.startswith("-") and "=" not in argument and bool(_SECRET_NAME.search(argument))
        shown.append(without_secrets(argument))
    return " ".join(shown)


def without_secrets(text: str) -> str:
    """A text with credentials in URLs, secret settings and well-known keys replaced by `***`."""
    text = _USER_INFO.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _KEY.sub(HIDDEN, text)
    text = _QUERY.sub(
        lambda m: f"{m['mark']}{m['name']}={HIDDEN}" if _SECRET_NAME.search(m["name"]) else m[0], text
    )
    assigned = _ASSIGNED.match(text)
    if assigned and _SECRET_NAME.search(assigned["name"]) and not assigned["name"].endswith("_env"):
        return f"{assigned['name']}={HIDDEN}"
    return text


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware", "cpu model")):
                return line.split(":", 1)[-1].strip()
    return platform.processor() or None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def gpus() -> list[dict[str, Any]]:
    """Name, memory, driver and power limit of each NVIDIA device; empty where there is none."""
    # Loading the binding costs 60 ms; without a driver there is nothing to ask.
    if not Path("/dev/nvidiactl").exists() and not Path("/proc/driver/nvidia").exists():
        return []
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(question: str, *arguments: Any) -> Any:
        try:
            answer = getattr(nvml, question)(*arguments)
        except nvml.NVMLError:
            return None
        return answer.decode() if isinstance(answer, bytes) else answer

    memory = ask("nvmlDeviceGetMemoryInfo", handle)
    limit = ask("nvmlDeviceGetPowerManagementLimit", handle)
    return {
        "index": index,
        "name": ask("nvmlDeviceGetName", handle),
        "uuid": ask("nvmlDeviceGetUUID", handle),
        "driver": ask("nvmlSystemGetDriverVersion"),
        "cuda": ask("nvmlSystemGetCudaDriverVersion_v2"),
        "memory_bytes": getattr(memory, "total", None),
        "power_limit_w": None if limit is None else limit / 1000,
    }


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and cleanliness of the repository a spec lies in; None outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    # A repository may name programs to run in its own configuration; none of them is wanted here.
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
