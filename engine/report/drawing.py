"""All charts of a report as pictures, drawn in two processes, and the scripts of the page."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.report.draw import chart_svg, script_bundle
from engine.report.pdf import child_environment

if TYPE_CHECKING:
    from engine.report.page import Chart


class Drawer:
    """A second process for drawing; started before there are charts, because loading takes a second."""

    def __init__(self, *, scripts: bool) -> None:
        self._scripts = scripts
        self.child = subprocess.Popen(
            [sys.executable, "-m", "engine.report.drawing"], env=child_environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def draw(self, charts: Sequence[Chart]) -> dict[str, str]:
        """Every chart as SVG by its name. What the child fails at is drawn here, for a proper error."""
        mine, theirs = _halves(charts)
        feeder = threading.Thread(target=self._feed, args=(theirs,), daemon=True)
        feeder.start()
        svgs = {chart.name: chart_svg(chart.name, chart.spec) for chart in mine}
        feeder.join()
        svgs.update(self._answer())
        return {
            chart.name: svgs[chart.name] if chart.name in svgs else chart_svg(chart.name, chart.spec)
            for chart in charts
        }

    def scripts(self) -> str:
        """Vega's scripts, from the child where it has made them."""
        found = self._answer().get("scripts")
        return script_bundle() if found is None else found

    def close(self) -> None:
        """End the child, whatever it is at."""
        if self.child.poll() is None:
            self.child.kill()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()
        self.child.wait()

    def _feed(self, charts: Sequence[Chart]) -> None:
        given = {"charts": {chart.name: chart.spec for chart in charts}, "scripts": self._scripts}
        try:
            if self.child.stdin is not None:
                self.child.stdin.write(json.dumps(given).encode() + b"\n")
                self.child.stdin.flush()
        except OSError:  # it died: the answer will be empty
            return

    def _answer(self) -> dict[str, str]:
        """The next line of the child; empty when it is gone."""
        line = self.child.stdout.readline() if self.child.stdout is not None else b""
        try:
            found: dict[str, str] = json.loads(line)
        except ValueError:
            return {}
        return found


def _halves(charts: Sequence[Chart]) -> tuple[list[Chart], list[Chart]]:
    """Two lists that take about as long to draw: the larger ones first, each to the lighter list."""
    weighed = sorted(
        ((_weight(chart.spec), chart.name, chart) for chart in charts), key=lambda w: (-w[0], w[1])
    )
    loads, lists = [0, 0], ([], [])  # type: tuple[list[int], tuple[list[Chart], list[Chart]]]
    for weight, _, chart in weighed:
        lighter = 0 if loads[0] <= loads[1] else 1
        loads[lighter] += weight
        lists[lighter].append(chart)
    return lists


def _weight(spec: Mapping[str, Any]) -> int:
    """Rows, on top of what a chart takes without any."""
    values = spec.get("data", {}).get("values", ())
    return 60 + len(values)


def _main() -> int:
    """The child: a line with charts in, a line with pictures out, then a line with the scripts."""
    import vl_convert

    from engine.errors import ReportError

    # The first drawing of a process takes most of a second, whatever it shows.
    vl_convert.vegalite_to_svg({"data": {"values": [{"a": 1}]}, "mark": "point"})
    given = json.loads(sys.stdin.buffer.readline() or b"{}")
    svgs = {}
    for name, spec in given.get("charts", {}).items():
        try:
            svgs[name] = chart_svg(name, spec)
        except ReportError:
            continue
    _say(svgs)
    if given.get("scripts"):
        _say({"scripts": script_bundle()})
    return 0


def _say(answer: Mapping[str, str]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(_main())
