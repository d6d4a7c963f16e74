"""How many different experts a step touches, and how uneven the ranks of an expert group are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Final

from engine.perfmodel.arithmetic import Arithmetic, Values
from engine.spec.analytical import Routing
from engine.spec.model import MixtureOfExperts

_SERIES_LIMIT: Final = 50.0
"""Expected rows of an expert above which the binomial law is taken as normal."""


@dataclass(frozen=True)
class ExpertLoad:
    """What the routed experts of one layer do in a step."""

    distinct: Values
    """Different experts touched, over the whole group."""
    rows: Values
    """Rows computed over the whole group, tile padding included."""
    device_distinct: Values
    """Different experts on the busiest device."""
    device_rows: Values
    """Rows on the busiest device."""


@dataclass(frozen=True)
class RoutingLaw:
    """Chances that a token uses each expert; they add up to the experts per token."""

    experts: int
    per_token: int
    uniform: bool
    probabilities: tuple[float, ...]
    tile: int | None = None
    ranks: int = 1

    def load(self, a: Arithmetic, tokens: Values) -> ExpertLoad:
        """The load of a step of `tokens` tokens over the whole expert group."""
        distinct = self.distinct(a, tokens)
        rows = self.rows(a, tokens)
        if self.ranks == 1:
            return ExpertLoad(distinct, rows, distinct, rows)
        return ExpertLoad(
            distinct, rows, self._largest_distinct(a, tokens, distinct), self._largest_rows(a, tokens, rows)
        )

    def distinct(self, a: Arithmetic, tokens: Values) -> Values:
        """Expected number of different experts: each is missed by all tokens with (1 - p)^T."""
        if self.uniform:
            return self.experts * (1 - self._missed(a, tokens))
        return a.each(self._distinct_of, tokens)

    def rows(self, a: Arithmetic, tokens: Values) -> Values:
        """Rows of the expert matrix products; grouped kernels work in whole tiles."""
        if self.tile is None:
            return self.per_token * tokens
        return a.each(self._padded_rows, tokens)

    def _missed(self, a: Arithmetic, tokens: Values) -> Values:
        if self.per_token == self.experts:
            return 0.0
        return a.exp(tokens * math.log1p(-self.per_token / self.experts))

    def _distinct_of(self, tokens: float) -> float:
        missed = [float((1 - p) ** tokens) for p in self.probabilities]
        return len(missed) - sum(missed)

    def _padded_rows(self, tokens: float) -> float:
        tile = self.tile or 1
        if self.uniform:
            return self.experts * tile * expected_tiles(tokens, self.per_token / self.experts, tile)
        return tile * sum(expected_tiles(tokens, p, tile) for p in self.probabilities)

    def _largest_distinct(self, a: Arithmetic, tokens: Values, distinct: Values) -> Values:
        """Mean of a rank plus the expected maximum of as many normal draws (Blom, 1958)."""
        n, e, k = self.experts / self.ranks, self.experts, self.per_token
        if self.uniform and k < e:
            missed = self._missed(a, tokens)
            both = a.exp(tokens * math.log((1 - k / e) * (1 - k / (e - 1)))) if k < e - 1 else 0.0
            variance = n * missed * (1 - missed) + n * (n - 1) * (both - missed * missed)
        else:
            # Experts are dealt to ranks so that popular ones spread; covariances are left out.
            share = distinct / e
            variance = n * share * (1 - share)
        spread = a.sqrt(a.maximum(variance, 0.0))
        largest = a.minimum(n, distinct / self.ranks + spread * _largest_of(self.ranks))
        # One token already occupies the rank of its first expert.
        return a.maximum(largest, max(1.0, k / self.ranks))

    def _largest_rows(self, a: Arithmetic, tokens: Values, rows: Values) -> Values:
        r, e, k = self.ranks, self.experts, self.per_token
        routed = tokens * k
        variance = routed * (1 / r) * (1 - 1 / r) * (e - k) / max(e - 1, 1)
        largest = routed / r + a.sqrt(variance) * _largest_of(r)
        most = tokens * min(k, e / r)
        largest = a.minimum(a.maximum(largest, 1.0), a.maximum(most, 1.0))
        # Padding grows the rows of every rank alike.
        return largest * (rows / routed)


def routing_law(moe: MixtureOfExperts, routing: Routing, *, tile: int | None, ranks: int) -> RoutingLaw:
    """The law a spec asks for."""
    e, k = moe.num_experts, moe.num_experts_per_tok
    if routing.law == "uniform" or k == e:
        return RoutingLaw(e, k, uniform=True, probabilities=(), tile=tile, ranks=ranks)
    if routing.law == "given" and routing.probabilities is not None:
        chances = tuple(routing.probabilities)
    else:
        chances = zipf_probabilities(e, k, routing.exponent)
    return RoutingLaw(e, k, uniform=False, probabilities=chances, tile=tile, ranks=ranks)


@lru_cache(maxsize=256)
def zipf_probabilities(experts: int, per_token: int, exponent: float) -> tuple[float, ...]:
    """Chances to be among the k chosen when popularity falls as rank^-exponent.

    Zipf weights are not chances of a draw without replacement: popular experts saturate at 1. With
    1 - exp(-rate * weight) they do; the rate makes them add up to k. Within 2 % of simulated top-k draws.
    """
    weights = [(i + 1) ** -exponent for i in range(experts)]

    def chances(rate: float) -> list[float]:
        return [-math.expm1(-rate * w) for w in weights]

    low, high = 0.0, 1.0
    while sum(chances(high)) < per_token and high < 1e12:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(chances(middle)) < per_token else (low, middle)
    return tuple(chances(high))


@lru_cache(maxsize=256)
def _largest_of(draws: int) -> float:
    """Expected largest of this many standard normal draws (Blom's approximation)."""
    return NormalDist().inv_cdf((draws - 0.375) / (draws + 0.25))


@lru_cache(maxsize=65536)
def expected_tiles(tokens: float, chance: float, tile: int) -> float:
    """Expected number of tiles for the rows of one expert: the sum over j of P(rows > j tiles)."""
    mean = tokens * chance
    if tokens < 1 or chance <= 0:
        return mean / tile
    if chance >= 1:
        return math.ceil(tokens / tile)
    if mean <= _SERIES_LIMIT or tokens <= 2 * _SERIES_LIMIT:
        return _tiles_by_series(round(tokens), chance, tile)
    spread = math.sqrt(mean * (1 - chance))
    law = NormalDist(mean, spread)
    first = max(0, math.floor((mean - 8 * spread) / tile))
    last = math.ceil((mean + 8 * spread) / tile)
    # Half a row of continuity correction: P(X > n) for whole numbers is P(normal > n + 1/2).
    return first + sum(1 - law.cdf(j * tile + 0.5) for j in range(first, last + 1))


def _tiles_by_series(tokens: int, chance: float, tile: int) -> float:
    mean = tokens * chance
    last = min(tokens, math.ceil(mean + 12 * math.sqrt(mean) + 12))
    odds = chance / (1 - chance)
    probability = math.exp(tokens * math.log1p(-chance))
    tiles = 0.0
    for rows in range(last + 1):
        tiles += probability * -(-rows // tile)
        probability *= (tokens - rows) / (rows + 1) * odds
    return tiles


def distinct_band(experts: int, per_token: int, tokens: Sequence[float] | float) -> tuple[float, float]:
    """Fewest and most different experts a step can touch: all tokens agree, or all differ."""
    count = tokens if isinstance(tokens, int | float) else sum(tokens)
    return float(min(per_token, experts)), float(min(experts, count * per_token))
