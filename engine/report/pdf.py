"""The page on paper: WeasyPrint on the static layer, in a process of its own that may fetch nothing."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from engine.errors import EnvironmentMissing, ReportError

_SECONDS: Final = 300
_MEMORY_BYTES: Final = 3 * 2**30
_PACKAGES: Final = "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core (macOS: brew install pango)"


def start(document: Path, target: Path) -> subprocess.Popen[bytes]:
    """Begin to render `document` (HTML) as `target` (PDF) in a child process with a memory limit."""
    # A document is data from a spec, a log or a server: it is laid out where it can neither take all memory nor
    # run forever. The child gets no secrets.
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "FONTCONFIG_FILE", "FONTCONFIG_PATH", "XDG_CACHE_HOME",
            "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")  # fmt: skip
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-m", "engine.report.pdf", str(document), str(target)]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(child: subprocess.Popen[bytes], *, seconds: float = _SECONDS) -> None:
    """Wait for the PDF; raises `EnvironmentMissing` without Pango, `ReportError` when it fails or takes too long."""
    try:
        _, complaint = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise ReportError(
            f"the PDF took longer than {seconds:.0f} s and was given up",
            hint="the HTML report has everything",
        ) from None
    if child.returncode == EnvironmentMissing.exit_code:
        raise EnvironmentMissing(
            "WeasyPrint finds no Pango, so there is no PDF", hint=f"install it: {_PACKAGES}"
        )
    if child.returncode:
        lines = complaint.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {child.returncode}"
        raise ReportError(f"the PDF could not be made: {reason[:300]}", hint="the HTML report has everything")


def refuse(url: str, *_: Any, **__: Any) -> Any:
    """A loader that loads nothing: no file, no network, no data address."""
    raise ValueError(f"a report fetches nothing, not {url[:80]}")


def render(document: Path, target: Path) -> None:
    """Lay out an HTML file as PDF; the same text gives the same bytes."""
    import weasyprint

    text = document.read_text(encoding="utf-8")
    html = weasyprint.HTML(string=text, base_url=None, url_fetcher=refuse)
    html.write_pdf(
        target, pdf_identifier=hashlib.sha256(text.encode("utf-8")).digest()[:16], custom_metadata=False,
        presentational_hints=False, optimize_images=False,
    )  # fmt: skip


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # no such limit on this system
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _main(document: str, target: str) -> int:
    os.environ["SOURCE_DATE_EPOCH"] = _epoch(Path(document))
    time.tzset()
    _limit_memory()
    try:
        import weasyprint  # noqa: F401 - the import itself fails without the system's Pango
    except OSError as err:
        sys.stderr.write(f"{err}\n")
        return EnvironmentMissing.exit_code
    render(Path(document), Path(target))
    return 0


def _epoch(document: Path) -> str:
    """The document's own date, so that font files inside the PDF carry no other."""
    import datetime as dt

    with document.open(encoding="utf-8") as file:
        found = re.search(r'name="dcterms.created" content="([^"]+)"', file.read(4000))
    return str(int(dt.datetime.fromisoformat(found.group(1)).timestamp())) if found else "315532800"


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:3]))
