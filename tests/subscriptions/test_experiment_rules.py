"""Assignment and statistics of price experiments: known values, scipy's values, and what holds for all of them."""

import math
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from subscriptions.experiments import assignment, statistics, verdicts
from subscriptions.experiments.verdicts import Counted, Plan

CUSTOMERS = [f"customer-{n}" for n in range(6000)]
PLAN = Plan(sample=1000, baseline=0.1, effect=0.04, risk=0.05, power=0.8, days=30)


def shares(weights, salt="s"):
    return [assignment.variant_for(salt=salt, customer=one, weights=weights) for one in CUSTOMERS]


# --- assignment -----------------------------------------------------------------------------------
def test_customers_fall_as_the_weights_say():
    found = Counter(shares({"a": 50, "b": 30, "c": 20}))

    assert stats.chisquare([found[code] for code in "abc"], [3000, 1800, 1200]).pvalue > 0.001
    assert shares({"a": 50, "b": 30, "c": 20}) == shares({"c": 2, "b": 3, "a": 5})


def test_assignment_is_the_same_on_every_machine_and_in_every_year():
    found = "".join(assignment.variant_for(salt="0f", customer=str(n), weights={"a": 50, "b": 50}) for n in range(24))

    assert found == "baaababbabbbbabbbaaaaaab"


@given(st.lists(st.integers(0, 100), min_size=2, max_size=6), st.integers(0, 5), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_more_weight_moves_customers_to_that_variant_only(weights, index, more):
    before = {str(n): weight for n, weight in enumerate(weights)}
    assume(any(before.values()) and index < len(weights))
    grown = str(index)
    after = before | {grown: before[grown] + more}

    for customer in CUSTOMERS[:300]:
        was = assignment.variant_for(salt="s", customer=customer, weights=before)
        now = assignment.variant_for(salt="s", customer=customer, weights=after)
        assert now in (was, grown)


def test_as_few_move_as_the_new_shares_ask_for():
    before, after = shares({"a": 50, "b": 50}), shares({"a": 40, "b": 60})

    moved = [(was, now) for was, now in zip(before, after, strict=True) if was != now]
    assert set(moved) == {("a", "b")}
    assert len(moved) / len(CUSTOMERS) == pytest.approx(0.10, abs=0.015)


def test_a_larger_share_keeps_everybody_of_a_smaller_one():
    taken = [
        {one for one in CUSTOMERS if assignment.is_allocated(salt="s", customer=one, percent=percent)}
        for percent in (1, 20, 50, 100)
    ]

    assert all(smaller < larger for smaller, larger in pairwise(taken))
    assert len(taken[1]) / len(CUSTOMERS) == pytest.approx(0.2, abs=0.02)
    assert len(taken[3]) == len(CUSTOMERS)


def test_experiments_and_allocation_are_independent():
    first, second = shares({"a": 50, "b": 50}, "one"), shares({"a": 50, "b": 50}, "two")
    half = [assignment.is_allocated(salt="one", customer=one, percent=50) for one in CUSTOMERS]

    for other in (second, half):
        table = Counter(zip(first, other, strict=True))
        assert stats.chi2_contingency([list(table.values())[:2], list(table.values())[2:]]).pvalue > 0.0005


def test_nobody_falls_to_a_variant_of_no_weight():
    assert set(shares({"a": 0, "b": 100})) == {"b"}
    with pytest.raises(ValueError, match="weight"):
        assignment.variant_for(salt="s", customer="c", weights={"a": 0})


# --- known values ---------------------------------------------------------------------------------
def test_wilson_as_newcombe_1998_has_it():
    assert [round(end, 4) for end in statistics.wilson(81, 263)] == [0.2553, 0.3662]
    assert [round(end, 4) for end in statistics.wilson(15, 148)] == [0.0624, 0.1605]
    assert [round(end, 4) for end in statistics.wilson(0, 20)] == [0.0, 0.1611]
    assert [round(end, 4) for end in statistics.wilson(29, 29)] == [0.8830, 1.0]
    assert statistics.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [((48, 80), (56, 70), 0.0524, 0.3339), ((3, 10), (9, 10), 0.1705, 0.8090), ((2, 7), (6, 7), 0.0582, 0.8062),
     ((0, 29), (5, 56), -0.0381, 0.1926), ((0, 10), (0, 20), -0.2775, 0.1611), ((0, 10), (10, 10), 0.6075, 1.0)],
)  # fmt: skip
def test_newcombe_as_newcombe_1998_has_it(first, second, low, high):
    assert [round(end, 4) for end in statistics.newcombe(first, second)] == [low, high]


def test_sample_sizes_as_the_textbook_has_them():
    assert statistics.required_sample(baseline=0.10, effect=0.02) == 3841
    assert statistics.required_sample(baseline=0.50, effect=0.10, power=0.9) == 519
    assert statistics.required_sample(baseline=0.05, effect=0.05) == 435
    with pytest.raises(ValueError, match="between 0 and 1"):
        statistics.required_sample(baseline=0.0, effect=0.05)


def test_looks_raise_the_risk_as_armitage_has_it():
    assert [statistics.risk_of_looks(looks) for looks in (0, 1, 2, 5, 10, 1000, 5000)] == [
        0.05, 0.05, 0.083, 0.142, 0.193, 0.53, 0.53,
    ]  # fmt: skip
    assert 0.193 < statistics.risk_of_looks(12) < statistics.risk_of_looks(15) < 0.248


def test_looking_five_times_errs_as_often_as_said():
    """Both variants are equal; whoever stops at the first p below 5 % of five looks is wrong in one of seven."""
    draw = random.Random(7)
    wrong = 0
    for _ in range(600):
        sums = [0, 0]
        for look in range(1, 6):
            for arm in (0, 1):
                sums[arm] += sum(draw.random() < 0.3 for _ in range(60))
            if statistics.pooled_z((sums[0], look * 60), (sums[1], look * 60)) < 0.05:
                wrong += 1
                break
    assert wrong / 600 == pytest.approx(statistics.risk_of_looks(5), abs=0.04)


# --- scipy ----------------------------------------------------------------------------------------
counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.05, 0.01, 0.2]))
@settings(max_examples=150, deadline=None)
def test_wilson_is_scipys(pair, risk):
    known = stats.binomtest(*pair).proportion_ci(confidence_level=1 - risk, method="wilson")

    assert statistics.wilson(*pair, risk=risk) == pytest.approx((known.low, known.high), abs=1e-9)


@given(counts, counts)
@settings(max_examples=150, deadline=None)
def test_fisher_is_scipys(first, second):
    (a, n1), (b, n2) = first, second
    known = stats.fisher_exact([[a, n1 - a], [b, n2 - b]]).pvalue

    assert statistics.fisher(first, second) == pytest.approx(known, rel=1e-6, abs=1e-12)


@given(counts, counts)
@settings(max_examples=150, deadline=None)
def test_z_is_scipys_chi_square_of_the_table(first, second):
    (a, n1), (b, n2) = first, second
    assume(0 < a + b < n1 + n2)
    known = stats.chi2_contingency([[a, n1 - a], [b, n2 - b]], correction=False).pvalue

    assert statistics.pooled_z(first, second) == pytest.approx(known, rel=1e-9, abs=1e-300)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 100)), min_size=2, max_size=8))
@settings(max_examples=150, deadline=None)
def test_fit_is_scipys(rows):
    observed, weights = [row[0] for row in rows], [row[1] for row in rows]
    assume(sum(observed))
    expected = [sum(observed) * weight / sum(weights) for weight in weights]

    assert statistics.fits(observed, weights) == pytest.approx(stats.chisquare(observed, expected).pvalue, rel=1e-8)


# --- what holds for all ---------------------------------------------------------------------------
@given(counts, counts)
@settings(max_examples=200, deadline=None)
def test_comparisons_turn_round(first, second):
    """Who is called first changes the sign, and nothing else."""
    low, high = statistics.newcombe(first, second)
    difference = statistics.rate(*second) - statistics.rate(*first)

    assert low - 1e-12 <= difference <= high + 1e-12
    assert statistics.newcombe(second, first) == pytest.approx((-high, -low))
    assert statistics.compare(first, second).p == pytest.approx(statistics.compare(second, first).p)
    assert 0 <= statistics.compare(first, second).p <= 1


@given(st.floats(0.01, 0.9), st.floats(0.01, 0.3), st.sampled_from([0.01, 0.05]), st.sampled_from([0.8, 0.9]))
@settings(max_examples=100, deadline=None)
def test_the_required_sample_has_the_wanted_power(baseline, effect, risk, power):
    assume(baseline + effect < 1)
    sample = statistics.required_sample(baseline=baseline, effect=effect, risk=risk, power=power)

    assert statistics.power_of(sample=sample, baseline=baseline, effect=effect, risk=risk) >= power - 1e-9
    assert statistics.required_sample(baseline=baseline, effect=effect / 2, risk=risk, power=power) >= sample


def test_counts_that_cannot_be():
    for successes, count in ((3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="between"):
            statistics.wilson(successes, count)
    assert statistics.compare((0, 0), (1, 5)) == (1.0, "fisher")
    assert math.isclose(statistics.fisher((3, 5), (0, 0)), 1.0)


# --- words ----------------------------------------------------------------------------------------
def counted(exposed_a, converted_a, exposed_b, converted_b, **more):
    return [
        Counted(code="A", weight=50, is_control=True, exposed=exposed_a, converted=converted_a, **more),
        Counted(code="B", weight=50, is_control=False, exposed=exposed_b, converted=converted_b),
    ]


def test_nothing_is_claimed_before_the_planned_sample():
    found = verdicts.weigh(counted=counted(999, 50, 1400, 400), plan=PLAN)

    assert found.comparisons[0].test.p < 1e-9
    assert found.comparisons[0].claim == "not_enough"
    assert found.words == "Not enough yet: 999 of 1,000 planned customers have seen “A”."
    assert not found.is_full


@given(counts, counts, st.integers(0, 50))
@settings(max_examples=200, deadline=None)
def test_a_claim_needs_the_sample_the_test_and_the_interval(first, second, looks):
    plan = replace(PLAN, sample=200)
    found = verdicts.weigh(counted=counted(first[1], first[0], second[1], second[0]), plan=plan, looks=looks)
    one = found.comparisons[0]

    if min(first[1], second[1]) < 200:
        assert one.claim == "not_enough"
    elif one.claim in ("better", "worse"):
        assert one.test.p < 0.05
        assert not one.interval.low <= 0 <= one.interval.high
        assert (one.claim == "better") == (one.difference > 0)
        assert ("looked at" in found.words) == (looks > 0)
    else:
        assert one.claim == "no_difference"
        assert "No difference shown" in found.words


def test_words_of_a_difference_and_of_none():
    better = verdicts.weigh(counted=counted(1000, 100, 1000, 150), plan=PLAN)
    none = verdicts.weigh(counted=counted(1000, 100, 1000, 110), plan=PLAN)

    assert better.words == "“B” converts better than “A”: 15.0% against 10.0%, +5.0 points (+2.1 to +7.9 points)."
    assert none.words.startswith("No difference shown between “B” and “A”. That is no proof that there is none")


def test_looks_before_the_sample_are_told():
    found = verdicts.weigh(counted=counted(1000, 100, 1000, 150), plan=PLAN, looks=4)

    assert "This was looked at 4 times before the planned sample, so the real risk of error is higher" in found.words
    assert "up to about 14% instead of 5%" in found.words


def test_several_variants_share_the_risk():
    """p of 3 % is enough for one comparison, not for each of two."""
    two = [Counted(code="A", weight=50, is_control=True, exposed=1000, converted=100),
           Counted(code="B", weight=50, is_control=False, exposed=1000, converted=131)]  # fmt: skip
    three = [*two, Counted(code="C", weight=50, is_control=False, exposed=1000, converted=100)]

    assert verdicts.weigh(counted=two, plan=PLAN).comparisons[0].claim == "better"
    found = verdicts.weigh(counted=three, plan=PLAN)
    assert [one.claim for one in found.comparisons] == ["no_difference", "no_difference"]
    assert found.comparisons[0].risk == 0.025


def test_what_to_beware_of():
    plan = replace(PLAN, sample=400)
    seen = counted(1200, 100, 1000, 100, at_once=7, waiting=3)
    cautions = " ".join(verdicts.weigh(counted=seen, plan=plan).cautions)

    assert "other shares than they should be" in cautions
    assert "7 customers were shown a price only when they subscribed" in cautions
    assert "3 customers still have time" in cautions
    assert "a chance of" in cautions  # 400 is less than four points from ten percent take
    assert "may come from the time" in " ".join(
        verdicts.weigh(counted=counted(1200, 100, 1000, 100), plan=PLAN, was_reweighed=True).cautions
    )
