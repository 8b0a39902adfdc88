"""What counts say: intervals of rates and of their difference, tests, and how many customers it takes. Pure.

Rates and risks are plain floats between 0 and 1; money is never computed here. Sources:
Wilson 1927 (interval of a rate); Newcombe 1998, method 10 (interval of a difference); Fisher's exact test, the two-sided one that
adds all tables no likelier than the one seen; the pooled z test; Fleiss, Levin and Paik 2003, formula 4.14 (sample of each group);
Armitage, McPherson and Rowe 1969, table 2 (risk of error by repeated looks at 5 %).
"""

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

SMALL = 5  # an expected count below it: the exact test
FISHER, Z = "fisher", "z"
_NORMAL = NormalDist()
_TIE = 1e-7  # tables this close to the one seen in likelihood are as likely
_LOOKS = (
    (1, 0.05),
    (2, 0.083),
    (3, 0.107),
    (4, 0.126),
    (5, 0.142),
    (10, 0.193),
    (20, 0.248),
    (50, 0.32),
    (100, 0.374),
    (1000, 0.53),
)


class Interval(NamedTuple):
    low: float
    high: float


class Test(NamedTuple):
    p: float
    method: str


def rate(successes: int, count: int) -> float:
    """Successes of ``count``; 0 of nothing."""
    _check(successes, count)
    return successes / count if count else 0.0


def wilson(successes: int, count: int, *, risk: float = 0.05) -> Interval:
    """The interval that holds a rate but for ``risk``; of nothing, everything is possible."""
    _check(successes, count)
    if count == 0:
        return Interval(0.0, 1.0)
    z = _NORMAL.inv_cdf(1 - risk / 2)
    share = successes / count
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    low = 0.0 if successes == 0 else max(0.0, (middle - spread) / scale)
    high = 1.0 if successes == count else min(1.0, (middle + spread) / scale)
    return Interval(low, high)


def newcombe(first: tuple[int, int], second: tuple[int, int], *, risk: float = 0.05) -> Interval:
    """The interval of the second rate less the first one; each is (successes, count)."""
    p1, p2 = rate(*first), rate(*second)
    (low1, high1), (low2, high2) = wilson(*first, risk=risk), wilson(*second, risk=risk)
    if not first[1] or not second[1]:
        return Interval(-1.0, 1.0)
    difference = p2 - p1
    low = difference - math.hypot(p2 - low2, high1 - p1)
    high = difference + math.hypot(high2 - p2, p1 - low1)
    return Interval(max(-1.0, low), min(1.0, high))


def compare(first: tuple[int, int], second: tuple[int, int]) -> Test:
    """How often chance alone makes two equal rates differ so much: exact where an expected count is below ``SMALL``."""
    total, successes = first[1] + second[1], first[0] + second[0]
    _check(*first), _check(*second)
    if not first[1] or not second[1]:
        return Test(1.0, FISHER)
    smallest = min(first[1], second[1]) * min(successes, total - successes) / total
    return Test(fisher(first, second), FISHER) if smallest < SMALL else Test(pooled_z(first, second), Z)


def fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Two-sided p of Fisher's exact test."""
    (a, n1), (b, n2) = first, second
    drawn = a + b
    if not n1 or not n2 or drawn in (0, n1 + n2):
        return 1.0
    tables = range(max(0, drawn - n2), min(n1, drawn) + 1)
    logs = [_log_choose(n1, k) + _log_choose(n2, drawn - k) for k in tables]
    top = max(logs)
    seen = logs[a - tables.start]
    weights = [math.exp(one - top) for one in logs]
    extreme = [weight for weight, one in zip(weights, logs, strict=True) if one <= seen + _TIE]
    return min(1.0, math.fsum(extreme) / math.fsum(weights))


def pooled_z(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Two-sided p of the pooled z test, for large counts."""
    (a, n1), (b, n2) = first, second
    pooled = (a + b) / (n1 + n2)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))
    return math.erfc(abs(b / n2 - a / n1) / spread / math.sqrt(2)) if spread else 1.0


def required_sample(*, baseline: float, effect: float, risk: float = 0.05, power: float = 0.8) -> int:
    """Customers of each variant to find a difference of ``effect`` from ``baseline``, up or down, with ``power``.

    Raises ``ValueError`` for what no sample can find.
    """
    if not (0 < baseline < 1 and 0 < effect < 1 and 0 < risk < 1 and risk / 2 < power < 1):
        raise ValueError("baseline, effect, risk and power lie between 0 and 1.")
    others = [other for other in (baseline + effect, baseline - effect) if 0 <= other <= 1]
    if not others:
        raise ValueError("baseline and effect must leave a rate between 0 and 1.")
    return max(_sample(baseline, other, risk, power) for other in others)


def _sample(p1: float, p2: float, risk: float, power: float) -> int:
    middle = (p1 + p2) / 2
    z_risk, z_power = _NORMAL.inv_cdf(1 - risk / 2), _NORMAL.inv_cdf(power)
    root = z_risk * math.sqrt(2 * middle * (1 - middle)) + z_power * math.sqrt(p1 * (1 - p1) + p2 * (1 - p2))
    return max(2, math.ceil((root / (p2 - p1)) ** 2))


def power_of(*, sample: int, baseline: float, effect: float, risk: float = 0.05) -> float:
    """The chance that ``sample`` customers of each variant show such a difference, the less of up and down."""
    others = [other for other in (baseline + effect, baseline - effect) if 0 <= other <= 1]
    return min((_power(sample, baseline, other, risk) for other in others), default=0.0)


def _power(sample: int, p1: float, p2: float, risk: float) -> float:
    middle = (p1 + p2) / 2
    spread = math.sqrt(p1 * (1 - p1) + p2 * (1 - p2))
    reach = math.sqrt(sample) * abs(p2 - p1) - _NORMAL.inv_cdf(1 - risk / 2) * math.sqrt(2 * middle * (1 - middle))
    return _NORMAL.cdf(reach / spread) if spread else float(reach > 0)


def fits(observed: Sequence[int], shares: Sequence[float]) -> float:
    """p of the chi-square test that counts came about by ``shares``; a share of nothing must have a count of nothing."""
    total, whole = sum(observed), sum(shares)
    pairs = [(count, total * share / whole) for count, share in zip(observed, shares, strict=True)]
    if any(count and not expected for count, expected in pairs):
        return 0.0
    pairs = [pair for pair in pairs if pair[1]]
    if len(pairs) < 2:
        return 1.0
    return _chi_square_tail(sum((count - expected) ** 2 / expected for count, expected in pairs), len(pairs) - 1)


def _chi_square_tail(x: float, freedom: int) -> float:
    """P(X > x): built up from one or two degrees of freedom by twos."""
    half = x / 2
    tail, at = (math.erfc(math.sqrt(half)), 1) if freedom % 2 else (math.exp(-half), 2)
    while at < freedom:
        tail += math.exp(at / 2 * math.log(half) - half - math.lgamma(at / 2 + 1)) if half else 0.0
        at += 2
    return min(1.0, tail)


def risk_of_looks(looks: int) -> float:
    """The risk to see a difference where none is, at least once in so many evenly spaced looks at 5 %, the last included."""
    known = [risk for count, risk in _LOOKS if count <= max(1, looks)]
    for (fewer, low), (more, high) in itertools.pairwise(_LOOKS):
        if fewer < looks < more:
            share = (math.log(looks) - math.log(fewer)) / (math.log(more) - math.log(fewer))
            return low + (high - low) * share
    return known[-1]


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _check(successes: int, count: int) -> None:
    if not 0 <= successes <= count:
        raise ValueError("Successes lie between 0 and the count.")
