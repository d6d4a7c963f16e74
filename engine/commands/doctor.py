"""`engine doctor`: one line for each thing this machine must have, with the way to mend it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from engine.commands.console import Terminal
from engine.commands.options import output_format

PDF_PACKAGES: Final = "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core"


@dataclass(frozen=True)
class Finding:
    """`state` is ok, warn (something optional is missing) or fail (the main job cannot work)."""

    what: str
    state: str
    detail: str
    fix: str = ""


@click.command()
@output_format("human", "json")
@click.pass_obj
def doctor(terminal: Terminal, output: str) -> None:
    """Look at this machine: packages, PDF libraries, fonts, devices, power counters, disk, editor server."""
    findings = [finding for probe in _PROBES for finding in probe()]
    if output == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            click.echo(f"{finding.state:<4}  {finding.what:<{width}}  {finding.detail}")
            if finding.fix:
                click.echo(f"      {'':<{width}}  to fix: {finding.fix}")
        failed = sum(finding.state == "fail" for finding in findings)
        terminal.say(
            "the main job works on this machine" if not failed else f"{failed} things stand in the way"
        )
    if any(finding.state == "fail" for finding in findings):
        raise click.exceptions.Exit(3)


def _python() -> Iterator[Finding]:
    enough = sys.version_info >= (3, 11)
    yield Finding(
        "python",
        "ok" if enough else "fail",
        f"{platform.python_version()} on {sys.platform} {platform.machine()}",
        "" if enough else "install Python 3.11 or newer",
    )


def _packages() -> Iterator[Finding]:
    needed = (
        "pydantic",
        "ruamel.yaml",
        "numpy",
        "pyarrow",
        "jinja2",
        "vl-convert-python",
        "openpyxl",
        "weasyprint",
    )
    optional = {
        "torch": "live",
        "transformers": "live",
        "httptools": "live",
        "ray": "ray",
        "duckdb": "query",
        "uvicorn": "view",
    }
    missing = [name for name in needed if not _version(name)]
    if missing:
        yield Finding(
            "packages", "fail", "missing: " + ", ".join(missing), "pip install llm-experiment-engine"
        )
    else:
        yield Finding("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in needed))
    for name, extra in optional.items():
        version = _version(name)
        fix = "" if version else f"pip install 'llm-experiment-engine[{extra}]'"
        yield Finding(
            name, "ok" if version else "warn", version or f"not installed; needed for `{extra}`", fix
        )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _pdf() -> Iterator[Finding]:
    # A process of its own: without pango the import itself fails, and it takes most of a second.
    probe = subprocess.run(
        [sys.executable, "-c", "import weasyprint"], capture_output=True, text=True, timeout=60, check=False
    )
    if probe.returncode == 0:
        yield Finding("pdf libraries", "ok", "pango and harfbuzz load")
    else:
        reason = (probe.stderr.strip().splitlines() or ["weasyprint does not load"])[-1]
        fix = f"apt-get install --no-install-recommends {PDF_PACKAGES}"
        yield Finding("pdf libraries", "fail", reason[:160], fix)


def _devices() -> Iterator[Finding]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as err:  # noqa: BLE001 - NVML raises its own classes, one per driver condition
        detail = f"no NVIDIA driver ({type(err).__name__})"
        fix = "predictions, CPU runs and replayed traces work without one"
        yield Finding("nvidia devices", "warn", detail, fix)
        return
    count = pynvml.nvmlDeviceGetCount()
    for i in range(count):
        handle = pynvml.nvmlDeviceGetHandleByIndex(i)
        name = pynvml.nvmlDeviceGetName(handle)
        yield Finding(f"device {i}", "ok", str(name))
        try:
            watts = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
        except pynvml.NVMLError as err:
            yield Finding(
                f"power of device {i}", "warn", f"not readable: {err}", "energy cannot be metered here"
            )
        else:
            yield Finding(f"power of device {i}", "ok", f"{watts:.0f} W now")
    pynvml.nvmlShutdown()


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    enough = free > 2e9
    yield Finding(
        "disk",
        "ok" if enough else "warn",
        f"{free / 1e9:.1f} GB free here",
        "" if enough else "free some space",
    )


def _editor() -> Iterator[Finding]:
    server = shutil.which("yaml-language-server")
    detail = server or "yaml-language-server is not on the path"
    fix = "" if server else "editors bring their own (VS Code: the YAML extension of Red Hat)"
    yield Finding("editor server", "ok" if server else "warn", detail, fix)


_PROBES: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (
    _python,
    _packages,
    _pdf,
    _devices,
    _disk,
    _editor,
)
