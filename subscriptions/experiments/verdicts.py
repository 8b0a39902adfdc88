"""What may be said about the figures of an experiment, and in which words. Pure.

Nothing is claimed before every variant has its planned sample. Several variants are each compared with the control, and share the
accepted risk evenly (Bonferroni). A variant is called better or worse only if the test and the interval of the difference agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from subscriptions.experiments import statistics
from subscriptions.experiments.statistics import Interval, Test

NOT_ENOUGH, NO_DIFFERENCE, BETTER, WORSE = "not_enough", "no_difference", "better", "worse"
SKEWED = 0.001  # p below it: so uneven a split is no chance
WEAK = 0.02  # power missing to the wanted one that is worth a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What was counted of one variant. ``paid``: subscribers whose first invoice is paid; ``at_once``: first shown on subscribing."""

    code: str
    weight: int
    is_control: bool
    exposed: int
    converted: int
    paid: int = 0
    at_once: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was said before the start. Rates between 0 and 1."""

    sample: int
    baseline: float
    effect: float
    risk: float
    power: float
    days: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Successes of a count with the interval of the rate."""

    successes: int
    count: int
    interval: Interval

    @property
    def value(self) -> float:
        return statistics.rate(self.successes, self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A variant against the control: difference of rates with its interval, the test, and the claim that is allowed."""

    code: str
    control: str
    difference: float
    interval: Interval
    test: Test
    risk: float
    claim: str
    words: str
    paid_difference: float
    paid_interval: Interval
    paid_test: Test


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What may be said: of each variant against the control, in all, and what to beware of."""

    is_full: bool
    comparisons: tuple[Comparison, ...]
    words: str
    cautions: tuple[str, ...]


def rate_of(successes: int, count: int, risk: float) -> Rate:
    """A rate with its interval."""
    return Rate(successes, count, statistics.wilson(successes, count, risk=risk))


def weigh(*, counted: Sequence[Counted], plan: Plan, looks: int = 0, was_reweighed: bool = False) -> Verdict:
    """Weigh the counts. ``looks``: times the figures were read before the sample was full. One of ``counted`` is the control."""
    control = next(one for one in counted if one.is_control)
    others = [one for one in counted if not one.is_control]
    is_full = all(one.exposed >= plan.sample for one in counted)
    risk = plan.risk / max(1, len(others))
    compared = tuple(_compare(control, other, plan=plan, risk=risk, is_full=is_full, looks=looks) for other in others)
    cautions = _cautions(counted, plan=plan, risk=risk, was_reweighed=was_reweighed)
    return Verdict(is_full=is_full, comparisons=compared, words=_summary(compared, counted, plan), cautions=cautions)


def _compare(control: Counted, other: Counted, *, plan: Plan, risk: float, is_full: bool, looks: int) -> Comparison:
    first, second = (control.converted, control.exposed), (other.converted, other.exposed)
    paid = (control.paid, control.exposed), (other.paid, other.exposed)
    test = statistics.compare(first, second)
    interval = statistics.newcombe(first, second, risk=risk)
    difference = statistics.rate(*second) - statistics.rate(*first)
    claim = _claim(test, interval, risk) if is_full else NOT_ENOUGH
    return Comparison(
        code=other.code, control=control.code, difference=difference, interval=interval, test=test, risk=risk, claim=claim,
        words=_words(claim, control, other, difference, interval, plan, looks),
        paid_difference=statistics.rate(*paid[1]) - statistics.rate(*paid[0]),
        paid_interval=statistics.newcombe(*paid, risk=risk), paid_test=statistics.compare(*paid),
    )  # fmt: skip


def _claim(test: Test, interval: Interval, risk: float) -> str:
    if test.p < risk and interval.low > 0:
        return BETTER
    if test.p < risk and interval.high < 0:
        return WORSE
    return NO_DIFFERENCE


def _words(
    claim: str, control: Counted, other: Counted, difference: float, interval: Interval, plan: Plan, looks: int
) -> str:
    if claim == NOT_ENOUGH:
        return f"Not enough yet: {_progress((control, other), plan)}. Nothing can be said about a difference."
    between = f"{_points(interval.low)} to {_points(interval.high)} points"
    if claim == NO_DIFFERENCE:
        return (
            f"No difference shown between “{other.code}” and “{control.code}”. That is no proof that there is none: "
            f"the figures fit anything from {between}."
        )
    said = (
        f"“{other.code}” converts {claim} than “{control.code}”: {_percent(other.converted, other.exposed)} against "
        f"{_percent(control.converted, control.exposed)}, {_points(difference)} points ({between})."
    )
    return said + _looked(looks, plan.risk)


def _looked(looks: int, risk: float) -> str:
    if not looks:
        return ""
    times = "once" if looks == 1 else f"{looks} times"
    said = f" This was looked at {times} before the planned sample, so the real risk of error is higher"
    if risk != 0.05:
        return f"{said} than {risk:.0%}."
    return f"{said}: up to about {statistics.risk_of_looks(looks + 1):.0%} instead of 5%, had it been stopped at any of them."


def _summary(compared: Sequence[Comparison], counted: Sequence[Counted], plan: Plan) -> str:
    if any(one.claim == NOT_ENOUGH for one in compared):
        return f"Not enough yet: {_progress(counted, plan)}."
    return " ".join(one.words for one in compared)


def _progress(counted: Sequence[Counted], plan: Plan) -> str:
    least = min(counted, key=lambda one: one.exposed)
    return f"{least.exposed:,} of {plan.sample:,} planned customers have seen “{least.code}”"


def _cautions(counted: Sequence[Counted], *, plan: Plan, risk: float, was_reweighed: bool) -> tuple[str, ...]:
    found = []
    if was_reweighed:
        found.append(
            "Weights or the share of customers were changed during the run: a difference may come from the time, not the price."
        )
    elif sum(one.exposed for one in counted) and _is_skewed(counted):
        found.append(
            "The variants have been seen in other shares than they should be: something is wrong with the assignment."
        )
    at_once = sum(one.at_once for one in counted)
    if at_once:
        found.append(
            f"{at_once:,} customers were shown a price only when they subscribed: they count as exposed and as converted, and say "
            "nothing about the price. Ask for the assignment where the price is shown."
        )
    waiting = sum(one.waiting for one in counted)
    if waiting:
        found.append(
            f"{waiting:,} customers still have time to subscribe ({plan.days} days from when they saw the price)."
        )
    power = statistics.power_of(sample=plan.sample, baseline=plan.baseline, effect=plan.effect, risk=risk)
    if power < plan.power - WEAK:
        found.append(
            f"The planned sample shows a difference of {plan.effect * 100:.4g} points with a chance of {power:.0%} only, "
            f"not the wanted {plan.power:.0%}."
        )
    return tuple(found)


def _is_skewed(counted: Sequence[Counted]) -> bool:
    return statistics.fits([one.exposed for one in counted], [one.weight for one in counted]) < SKEWED


def _points(share: float) -> str:
    return f"{share * 100:+.1f}"


def _percent(successes: int, count: int) -> str:
    return f"{statistics.rate(successes, count):.1%}"
