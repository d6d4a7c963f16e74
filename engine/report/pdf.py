"""The page on paper: WeasyPrint on the static layer, in a process of its own that may fetch nothing."""

from __future__ import annotations

import datetime as dt
import functools
import gc
import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from engine.errors import EnvironmentMissing, ReportError
from engine.report.draw import svg_resized, svg_size

SCHEME: Final = "chart:"
"""Addresses under which the document names its charts."""
_MILLIMETRE: Final = 96 / 25.4
_HEIGHTS: Final = ((430.0, 92 * _MILLIMETRE), (660.0, 128 * _MILLIMETRE), (float("inf"), 215 * _MILLIMETRE))
"""Drawings up to so many pixels high take so many on paper: two figures of usual height fit on a page,
taller ones have one to themselves."""
_SECONDS: Final = 300
_MEMORY_BYTES: Final = 3 * 2**30
_PACKAGES: Final = (
    "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core (macOS: "
    "brew install pango)"
)


def start(target: Path) -> subprocess.Popen[bytes]:
    """A child process with a memory limit that waits for a document to lay out as `target`.

    Started before there is a document, because loading WeasyPrint takes as long as drawing the charts.
    """
    # A document is data from a spec, a log or a server: it is laid out where it can neither take all memory
    # nor run forever, and the child gets no secrets.
    return subprocess.Popen(
        [sys.executable, "-m", "engine.report.pdf", str(target)],
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def child_environment() -> dict[str, str]:
    """What a child of the report needs to find libraries and fonts, and nothing else."""
    kept = (
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TMPDIR",
        "FONTCONFIG_FILE",
        "FONTCONFIG_PATH",
        "XDG_CACHE_HOME",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "DYLD_FALLBACK_LIBRARY_PATH",
        "SYSTEMROOT",
        "VIRTUAL_ENV",
    )
    found = {name: os.environ[name] for name in kept if name in os.environ}
    found["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return found


class Pending:
    """A document on its way to paper; `finish` waits for it.

    The pictures may follow later with `give`: reading the document and its styles takes a second without.
    """

    def __init__(
        self, child: subprocess.Popen[bytes], document: str, svgs: Mapping[str, str] | None = None
    ) -> None:
        self._child = child
        self._complaint = b""
        self._pictures: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        # The pipe holds less than a document, so it is fed while the caller goes on with the other formats.
        self._feeder = threading.Thread(target=self._feed, args=(_line(document),), daemon=True)
        self._feeder.start()
        if svgs is not None:
            self.give(svgs)

    def give(self, svgs: Mapping[str, str]) -> None:
        """Hand over the charts by name, which the document waits for."""
        self._pictures.put(svgs)

    def _feed(self, document: bytes) -> None:
        try:
            if self._child.stdin is not None:
                self._child.stdin.write(document)
                self._child.stdin.flush()
        except (OSError, ValueError) as err:
            self._complaint = str(err).encode()
        pictures = _line(dict(self._pictures.get()))
        try:
            _, self._complaint = self._child.communicate(pictures)
        except (OSError, ValueError) as err:
            self._complaint = str(err).encode()

    def finish(self, *, seconds: float = _SECONDS) -> None:
        """Wait for the file; raises `EnvironmentMissing` without Pango, `ReportError` when there is none."""
        self._feeder.join(seconds)
        if self._feeder.is_alive():
            self._child.kill()
            self._feeder.join()
            raise ReportError(
                f"the PDF took longer than {seconds:.0f} s and was given up",
                hint="the HTML report has everything",
            )
        code = self._child.returncode
        if code == EnvironmentMissing.exit_code:
            raise EnvironmentMissing(
                "WeasyPrint finds no Pango, so there is no PDF", hint=f"install it: {_PACKAGES}"
            )
        if code:
            lines = self._complaint.decode("utf-8", "replace").strip().splitlines()
            reason = lines[-1] if lines else f"exit code {code}"
            raise ReportError(
                f"the PDF could not be made: {reason[:300]}", hint="the HTML report has everything"
            )


def _line(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8") + b"\n"


def render(document: str, pictures: Callable[[], Mapping[str, str]], target: Path) -> None:
    """Lay out an HTML document as PDF; `pictures` gives its charts as SVG and is called when the first is
    needed. Same input, same bytes."""
    import weasyprint

    known = functools.cache(pictures)
    html = weasyprint.HTML(string=document, base_url=None, url_fetcher=_loader(known))
    pages = html.render()
    seal = hashlib.sha256(document.encode("utf-8"))
    for name in sorted(known()):
        seal.update(known()[name].encode("utf-8"))
    pages.write_pdf(target, pdf_identifier=seal.digest()[:16], custom_metadata=False)


def _loader(pictures: Callable[[], Mapping[str, str]]) -> Any:
    """A loader that knows the report's own charts and loads nothing else: no file, no network."""
    from weasyprint.urls import URLFetcher, URLFetcherResponse

    class OwnCharts(URLFetcher):  # type: ignore[misc]
        def fetch(self, url: str, headers: Any = None) -> Any:
            name = url.removeprefix(SCHEME)
            if not url.startswith(SCHEME) or name not in pictures():
                raise ValueError(f"a report fetches nothing, not {url[:80]}")
            svg = _fitted(pictures()[name])
            return URLFetcherResponse(url, svg, {"Content-Type": "image/svg+xml", **(headers or {})})

    return OwnCharts(allowed_protocols=(SCHEME.rstrip(":"),), allow_redirects=False)


def _fitted(svg: str) -> str:
    """The drawing no higher than a page gives it; the style sheet cannot tell, for it is read before."""
    _, height = svg_size(svg)
    limit = next(most for pixels, most in _HEIGHTS if height <= pixels)
    return svg if height <= limit else svg_resized(svg, limit / height)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # no such limit on this system
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _main(target: str) -> int:
    _limit_memory()
    # A layout makes few cycles and ends with the process: collecting them takes a tenth of its time.
    gc.disable()
    try:
        import weasyprint  # noqa: F401 - the import itself fails without the system's Pango
    except OSError as err:
        sys.stderr.write(f"{err}\n")
        return EnvironmentMissing.exit_code
    document = json.loads(sys.stdin.buffer.readline())
    os.environ["SOURCE_DATE_EPOCH"] = _epoch(document)
    render(document, lambda: json.loads(sys.stdin.buffer.readline()), Path(target))
    return 0


def _epoch(document: str) -> str:
    """The document's own date, so that font files inside the PDF carry no other."""
    found = re.search(r'name="dcterms.created" content="([^"]+)"', document)
    return str(int(dt.datetime.fromisoformat(found.group(1)).timestamp())) if found else "315532800"


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
