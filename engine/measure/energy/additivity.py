"""Do the parts add up to the whole? The remainder is a part of its own and never spread over others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engine.measure.energy.trials import Part
from engine.results.estimate import Estimate, difference, total

REMAINDER: Final = "unattributed"
WHOLE: Final = "step"
EAGER: Final = "step_eager"
"""The whole step without a graph: what it takes beyond the graph is launch overhead, `host_gap`."""
WITHOUT: Final = "without "
"""Start of the name of a step that leaves a component out."""
_WARN_FROM: Final = 0.10
"""What published component studies claim at best (arXiv 2510.02810)."""
Verdict = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Closure:
    """Parts against their whole."""

    phase: str
    whole: str
    ratio: float
    """Sum of parts over the whole."""
    half_width: float | None
    """Half the 95 % interval of the ratio; None when a part has no interval."""
    verdict: Verdict
    parts: int
    of: Literal["energy", "net energy", "time"]

    @property
    def text(self) -> str:
        """The check in one line."""
        width = "" if self.half_width is None else f" ± {self.half_width:.2%}"
        return f"{self.parts} parts of `{self.whole}` hold {self.ratio:.2%}{width} of its {self.of}"


def close(parts: Sequence[Part], *, tolerance: float) -> tuple[list[Part], list[Closure]]:
    """The parts with a remainder for each whole, and the checks: on energy gross and net, else on time."""
    found = list(parts)
    checks: list[Closure] = []
    for whole in parts:
        children = [p for p in parts if _belongs(p, whole)]
        if not children:
            continue
        found.append(_remainder(whole, children))
        checks += _checks(whole, children, tolerance)
    return found, checks


def by_difference(parts: Sequence[Part]) -> list[Part]:
    """What only a difference of two whole steps shows: parts left out, and the launches a graph saves.

    A check, not a measurement of its own: the error of a difference is that of both steps, over the part.
    """
    found = []
    for whole in parts:
        for part in parts:
            if whole.phase != part.phase or whole.component != WHOLE:
                continue
            if part.component.startswith(WITHOUT):
                name = part.component.removeprefix(WITHOUT)
                looped = next((p for p in parts if p.component == name and p.phase == part.phase), None)
                runs = looped.count if looped is not None else 1
                found.append(_difference(name, whole, part, count=runs, parent=WHOLE))
            elif part.component == EAGER:
                found.append(_difference("host_gap", part, whole, count=1, parent=EAGER))
    return found


def _difference(name: str, more: Part, less: Part, *, count: int, parent: str) -> Part:
    def apart(left: Estimate | None, right: Estimate | None) -> Estimate | None:
        return None if left is None or right is None else difference(left, right).scaled(1 / count)

    time = difference(more.time, less.time).scaled(1 / count)
    return Part(
        component=name, phase=more.phase, parent=parent, layer=None, count=count, time=time,
        energy=apart(more.energy, less.energy), net=apart(more.net, less.net),
        trials=min(more.trials, less.trials), method="ablation", valid=more.valid and less.valid,
        reason=f"`{more.component}` minus `{less.component}`",
    )  # fmt: skip


def _belongs(part: Part, whole: Part) -> bool:
    return (
        part.parent == whole.component
        and part.phase == whole.phase
        # Layers one by one are parts of a step that belongs to no layer.
        and (part.layer == whole.layer or whole.layer is None)
        and part is not whole
    )


def _remainder(whole: Part, children: Sequence[Part]) -> Part:
    """What no part holds, per run of the whole; it may be negative and stays so."""
    time = difference(whole.time, _sum([(p, p.time) for p in children], whole))
    energy = net = None
    if whole.energy is not None and all(p.energy is not None for p in children):
        energy = difference(whole.energy, _sum([(p, p.energy) for p in children], whole))
    if whole.net is not None and all(p.net is not None for p in children):
        net = difference(whole.net, _sum([(p, p.net) for p in children], whole))
    invalid = [p.component for p in (whole, *children) if not p.valid]
    return Part(
        component=REMAINDER if whole.parent is None else f"{REMAINDER} {whole.component}",
        phase=whole.phase, parent=whole.component, layer=whole.layer, count=whole.count,
        time=time, energy=energy, net=net, trials=whole.trials, method="remainder", valid=not invalid,
        reason=f"rests on invalid {', '.join(invalid)}" if invalid else None,
    )  # fmt: skip


def _sum(parts: Sequence[tuple[Part, Estimate | None]], whole: Part) -> Estimate:
    """Parts as often as they occur in one run of the whole; intervals only, as spreads have other n."""
    scaled = [found.scaled(part.count / whole.count) for part, found in parts if found is not None]
    added = total(scaled)
    return added if added is not None else Estimate(0.0, 0.0, 0.0, 1)


def _checks(whole: Part, children: Sequence[Part], tolerance: float) -> list[Closure]:
    found = []
    if whole.energy is None:
        checks: list[tuple[Literal["energy", "net energy", "time"], Estimate | None]] = [("time", whole.time)]
    else:
        checks = [("energy", whole.energy), ("net energy", whole.net)]
    for name, of in checks:
        values = [(p, {"energy": p.energy, "net energy": p.net, "time": p.time}[name]) for p in children]
        if of is None or of.mean <= 0 or any(value is None for _, value in values):
            continue
        if name != "time" and of.low is not None and of.low <= 0:
            continue  # energy above idle that may be nothing has no parts to compare with
        parts = _sum(values, whole)
        ratio = parts.mean / of.mean
        width = _ratio_width(parts, of)
        found.append(
            Closure(whole.phase, whole.component, ratio, width, _verdict(ratio, width, tolerance),
                    len(children), name)
        )  # fmt: skip
    return found


def _ratio_width(parts: Estimate, whole: Estimate) -> float | None:
    if parts.half_width is None or whole.half_width is None:
        return None
    relative = (parts.half_width / parts.mean) ** 2 if parts.mean else 0.0
    relative += (whole.half_width / whole.mean) ** 2
    return float(abs(parts.mean / whole.mean) * relative**0.5)


def _verdict(ratio: float, width: float | None, tolerance: float) -> Verdict:
    # The half-width is that of a 95 % interval, two standard uncertainties.
    off = abs(ratio - 1)
    if off <= max(tolerance, width or 0.0):
        return "pass"
    return "warn" if off <= _WARN_FROM else "fail"
