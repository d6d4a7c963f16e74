"""The reasons a device gives for its clock, as bits and as words."""

from __future__ import annotations

from typing import Final

REASONS: Final = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
    0x100: "display clock",
}
_SLOW: Final = 0x4 | 0x8 | 0x20 | 0x40 | 0x80


def reason_names(mask: int) -> str | None:
    """The slowdowns in a mask of event reasons, comma-separated; None for none."""
    return ", ".join(name for bit, name in REASONS.items() if mask & bit & _SLOW) or None
