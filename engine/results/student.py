"""Student's t distribution without SciPy: how likely a deviation is, and how wide an interval must be."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

CONFIDENCE: Final = 0.95
_TERMS: Final = 400
_SMALL: Final = 1e-300
_PRECISION: Final = 1e-15


@lru_cache(maxsize=4096)
def t_tail(t: float, degrees: float) -> float:
    """Probability that |T| exceeds `t`: the two-sided p-value; `degrees` may be infinite (normal)."""
    if math.isinf(degrees) or degrees > 1e9:
        return math.erfc(abs(t) / math.sqrt(2))
    if t == 0:
        return 1.0
    return _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


@lru_cache(maxsize=4096)
def t_quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Two-sided Student-t factor: 2.262 for 9 degrees of freedom at 95 %."""
    if degrees <= 0:
        raise ValueError("an interval needs at least two values")
    wanted = 1 - confidence
    # The tail is convex and falls, so that Newton's method climbs to the root from below and never past it;
    # zero lies below every root.
    t = 0.0
    for _ in range(200):
        step = (t_tail(t, degrees) - wanted) / (2 * _density(t, degrees))
        t += step
        if abs(step) <= 1e-13 * t:
            break
    return t


def _density(t: float, degrees: float) -> float:
    if math.isinf(degrees) or degrees > 1e9:
        return math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    front = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    return math.exp(front - (degrees + 1) / 2 * math.log1p(t * t / degrees))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function by its continued fraction (Abramowitz and Stegun 26.5.8),
    worked out from the front by Lentz's method (Thompson and Barnett 1986)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return front * value / a


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _SMALL else _SMALL
