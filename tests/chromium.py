"""A real browser for tests of pages: what it shows, what it says, and what it asks for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

CHROMIUM: Final = Path("/usr/bin/chromium")
MARKS: Final = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no chromium here"),
]
"""`pytestmark` of a module that drives it."""


@contextmanager
def started() -> Iterator[Any]:
    """A running chromium; skips the test where none starts."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    from playwright._impl._driver import compute_driver_executable

    node, _ = compute_driver_executable()
    tried = subprocess.run([str(node), "--version"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"playwright's driver does not start here: {tried.stderr.strip()}")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


class Visit:
    """A page with what it said and asked for."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "dialog", lambda dialog: (self.complaints.append(f"dialog {dialog.message}"), dialog.dismiss())
        )
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)


# Contrast of every kind of text against its ground (WCAG 2.2, success criterion 1.4.3).
CONTRAST = """() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  const bad = new Set();
  for (const e of document.querySelectorAll('main *, header *, footer *, nav *')) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    if (!e.checkVisibility() || e.closest('.hidden-text, .skip')) continue;
    const svg = e.closest('svg');
    const fore = light(parse(svg ? getComputedStyle(e).fill : getComputedStyle(e).color));
    const back = light(ground(e));
    const ratio = (Math.max(fore, back) + 0.05) / (Math.min(fore, back) + 0.05);
    if (ratio < 4.5) bad.add(`${e.tagName}.${e.getAttribute('class') || ''} ${ratio.toFixed(2)}`);
  }
  return [...bad];
}"""


AXE = Path(sys.prefix) / "node" / "node_modules" / "axe-core" / "axe.min.js"
AXE_MARK = pytest.mark.skipif(not AXE.exists(), reason="no axe-core here: `make test` fetches it with npm")
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Any) -> list[str]:
    """What axe-core finds wrong with a page, one line for each element; the visit needs `bypass_csp=True`."""
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("rules => axe.run({ runOnly: rules })", _RULES)
    assert len(found["passes"]) > 20  # it looked
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found["violations"] for node in rule["nodes"]]
