"""The rules of entitlements as pure functions: what is combined, what is allowed, in which window it is counted."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subscriptions.entitlements import rules, windows
from subscriptions.entitlements.rules import ADD_UP, MOST_GENEROUS, OFF, Contribution, Rule, Terms, combined, decide
from subscriptions.entitlements.windows import Cycle, Span, window

KOLKATA = ZoneInfo("Asia/Kolkata")
QUOTA, FLAG = Rule("quota"), Rule("boolean")
LEVEL = Rule("static", ("bronze", "silver", "gold"))
MANY = settings(max_examples=500, deadline=None)
amounts = st.decimals(min_value=0, max_value=10**6, places=2)
limits = st.none() | amounts
quotas = st.builds(Terms, enabled=st.booleans(), limit=limits, soft=st.booleans(), per_unit=st.booleans())
levels = st.builds(
    Terms, enabled=st.booleans(), value=st.sampled_from([*LEVEL.choices, "7", "20", "odd"]), soft=st.booleans()
)
flags = st.builds(Terms, enabled=st.booleans())
OF_KIND = {"quota": quotas, "static": levels, "boolean": flags}


def parts_of(terms):
    return st.builds(
        Contribution,
        plan=st.none() | terms,
        quantity=st.integers(1, 50),
        override=st.none() | terms,
        grants=st.lists(terms, max_size=2).map(tuple),
    )


def quota(limit, **more):
    return Terms(limit=None if limit is None else Decimal(limit), **more)


def plans(*terms):
    return [Contribution(plan=one) for one in terms]


@pytest.mark.parametrize(("several", "expected"), [(ADD_UP, 150), (MOST_GENEROUS, 100)])
def test_quotas_of_several_subscriptions_add_up_or_the_best_holds(several, expected):
    assert combined(QUOTA, plans(quota(100), quota(50), None), several=several).limit == expected


def test_of_everything_else_the_most_generous_holds():
    values = [Terms(value=value) for value in ("silver", "gold", "bronze")]
    assert combined(LEVEL, plans(*values)).value == "gold"
    assert combined(Rule("static"), plans(Terms(value="9"), Terms(value="10"))).value == "10"
    assert combined(FLAG, plans(Terms(enabled=False), Terms())).enabled
    assert combined(QUOTA, plans(quota(5), quota(None))).limit is None
    assert combined(QUOTA, plans(quota(5), quota(7, soft=True))).soft
    assert combined(QUOTA, plans(None, None)) is None


def test_limits_per_unit_grow_with_the_quantity():
    seats = Contribution(plan=quota(100, per_unit=True), quantity=7, grants=(quota(3, per_unit=True), quota(1)))
    assert combined(QUOTA, [seats]).limit == 722


def test_an_override_stands_instead_and_grants_are_added():
    one = Contribution(plan=quota(100), override=quota(10), grants=(quota(5),))
    assert combined(QUOTA, [one, Contribution(plan=quota(20))]).limit == 35
    assert combined(QUOTA, [one], override=quota(1), grants=[quota(2), quota(3)]).limit == 6
    assert not combined(QUOTA, [one], override=OFF).enabled
    assert combined(QUOTA, [one], override=OFF, grants=[quota(2)]).limit == 2


def test_without_a_subscription_that_entitles_an_override_gives_nothing_but_a_grant_does():
    assert combined(QUOTA, [], override=quota(100)) is None
    assert combined(QUOTA, [], override=quota(100), grants=[quota(5)]).limit == 5


@pytest.mark.parametrize(
    ("terms", "used", "quantity", "expected"),
    [
        (quota(10), 9, 1, (True, "within_limit", 1, 0)),
        (quota(10), 9, 2, (False, "limit_reached", 1, 0)),
        (quota(10), 12, 0, (False, "limit_reached", 0, 0)),
        (quota(10, soft=True), 9, 3, (True, "overage", 1, 2)),
        (quota(10, soft=True), 15, 3, (True, "overage", 0, 3)),
        (quota(None), 10**9, 1, (True, "unlimited", None, 0)),
        (quota(0), 0, 0, (True, "within_limit", 0, 0)),
        (quota(0), 0, 1, (False, "limit_reached", 0, 0)),
        (None, 3, 1, (False, "not_included", None, 0)),
        (replace(quota(10), enabled=False), 3, 1, (False, "not_included", None, 0)),
    ],
)
def test_verdicts_on_quotas(terms, used, quantity, expected):
    found = decide(QUOTA, terms, used=Decimal(used), quantity=Decimal(quantity))
    assert (found.allowed, found.why, found.remaining, found.overage) == expected


def test_a_static_number_limits_what_the_application_counts():
    assert decide(Rule("static"), Terms(value="5"), quantity=Decimal(5)).allowed
    refused = decide(Rule("static"), Terms(value="5"), quantity=Decimal(6))
    assert (refused.allowed, refused.why, refused.limit) == (False, "limit_reached", 5)
    assert decide(LEVEL, Terms(value="gold"), quantity=Decimal(6)).value == "gold"


@MANY
@given(st.data(), st.sampled_from([QUOTA, LEVEL, FLAG]), amounts, amounts, st.sampled_from([ADD_UP, MOST_GENEROUS]))
def test_the_order_of_subscriptions_does_not_matter(data, rule, used, quantity, several):
    terms = OF_KIND[rule.kind]
    parts = data.draw(st.lists(parts_of(terms), max_size=4))
    grants = data.draw(st.lists(terms.map(lambda one: replace(one, per_unit=False)), max_size=2))
    shuffled, turned = data.draw(st.permutations(parts)), data.draw(st.permutations(grants))

    first = combined(rule, parts, grants=grants, several=several)
    second = combined(rule, shuffled, grants=turned, several=several)

    assert decide(rule, first, used=used, quantity=quantity) == decide(rule, second, used=used, quantity=quantity)


@MANY
@given(
    st.lists(parts_of(quotas), max_size=4), parts_of(quotas), amounts, amounts, st.sampled_from([ADD_UP, MOST_GENEROUS])
)
def test_one_more_subscription_never_takes_anything_away(parts, more, used, quantity, several):
    before = decide(QUOTA, combined(QUOTA, parts, several=several), used=used, quantity=quantity)
    after = decide(QUOTA, combined(QUOTA, [*parts, more], several=several), used=used, quantity=quantity)
    assert after.allowed >= before.allowed


@MANY
@given(st.lists(parts_of(quotas), max_size=3), quotas, amounts, amounts)
def test_a_grant_never_takes_anything_away(parts, grant, used, quantity):
    grant = replace(grant, per_unit=False)
    before = decide(QUOTA, combined(QUOTA, parts), used=used, quantity=quantity)
    after = decide(QUOTA, combined(QUOTA, parts, grants=[grant]), used=used, quantity=quantity)
    assert after.allowed >= before.allowed


@MANY
@given(st.lists(parts_of(quotas), max_size=4))
def test_adding_up_is_at_least_the_most_generous(parts):
    summed, largest = (combined(QUOTA, parts, several=several) for several in (ADD_UP, MOST_GENEROUS))
    assert (summed is None) == (largest is None)
    assert rules.at_least(QUOTA, summed, largest)


@MANY
@given(quotas, amounts, amounts, amounts)
def test_what_is_allowed_in_parts_is_allowed_at_once(terms, used, first, second):
    """And a hard limit is never passed, however it is asked for."""
    terms = replace(terms, per_unit=False)
    one = decide(QUOTA, terms, used=used, quantity=first)
    two = decide(QUOTA, terms, used=used + first, quantity=second)
    whole = decide(QUOTA, terms, used=used, quantity=first + second)
    assert (one.allowed and two.allowed) == whole.allowed
    if whole.allowed and terms.limit is not None and not terms.soft:
        assert used + first + second <= terms.limit
    assert one.overage + two.overage == whole.overage or not whole.allowed


@MANY
@given(st.data(), st.sampled_from([QUOTA, LEVEL, FLAG]), st.integers(1, 40), amounts, amounts)
def test_terms_that_are_at_least_the_old_ones_keep_the_promise(data, rule, units, used, quantity):
    old, new = data.draw(OF_KIND[rule.kind]), data.draw(OF_KIND[rule.kind])
    before, after = (
        decide(rule, combined(rule, [Contribution(plan=one, quantity=units)]), used=used, quantity=quantity)
        for one in (old, new)
    )
    if rules.at_least(rule, new, old) and rule.kind != "static":
        assert after.allowed >= before.allowed


@pytest.mark.parametrize(
    ("used", "limit", "expected"),
    [(74, 100, []), (75, 100, [75]), (99, 100, [75, 90]), (100, 100, [75, 90, 100]), (500, 100, [75, 90, 100]), (5, 0, []), (5, None, [])],
)  # fmt: skip
def test_thresholds(used, limit, expected):
    found = rules.crossed(used=Decimal(used), limit=None if limit is None else Decimal(limit), thresholds=[90, 75, 100])
    assert found == expected


@pytest.mark.parametrize(
    ("access", "cancel_in", "paid_in", "expected"),
    [("full", None, -1, True), ("full", 1, 1, True), ("full", 0, 1, False), ("paid_period", None, 1, True),
     ("paid_period", None, 0, False), ("paid_period", None, None, False), ("none", None, 1, False)],
)  # fmt: skip
def test_what_entitles(access, cancel_in, paid_in, expected):
    at = datetime(2026, 4, 1, tzinfo=UTC)
    moments = [None if days is None else at + timedelta(days=days) for days in (cancel_in, paid_in)]
    assert rules.entitles(access=access, ends_at=moments[0], paid_until=moments[1], at=at) is expected


def local(text):
    return datetime.fromisoformat(text).replace(tzinfo=KOLKATA).astimezone(UTC)


def cycle(**more):
    known = {"anchor_on": date(2026, 1, 31), "interval": "month", "count": 1, "zone": KOLKATA,
             "started_at": local("2026-01-31 09:00")}  # fmt: skip
    return Cycle(**known | more)


@pytest.mark.parametrize(
    ("reset", "start", "end"),
    [("billing_period", "2026-02-28 00:00", "2026-03-31 00:00"), ("month", "2026-03-01 00:00", "2026-04-01 00:00"),
     ("week", "2026-03-02 00:00", "2026-03-09 00:00"), ("day", "2026-03-05 00:00", "2026-03-06 00:00"),
     ("year", "2026-01-01 00:00", "2027-01-01 00:00")],
)  # fmt: skip
def test_windows(reset, start, end):
    found = window(reset=reset, at=local("2026-03-05 12:00"), zone=KOLKATA, cycle=cycle())
    assert found == Span(local(start), local(end))


def test_windows_of_trials_grants_and_what_never_resets():
    at = local("2026-02-03 12:00")
    trial = cycle(trial_ends_at=local("2026-02-10 09:00"), anchor_on=date(2026, 2, 10))
    assert window(reset="billing_period", at=at, zone=KOLKATA, cycle=trial) == Span(
        trial.started_at, trial.trial_ends_at
    )
    paid = window(reset="billing_period", at=local("2026-02-10 10:00"), zone=KOLKATA, cycle=trial)
    assert paid == Span(trial.trial_ends_at, local("2026-03-10 00:00"))
    granted = Span(at, at + timedelta(days=3))
    assert window(reset="billing_period", at=at, zone=KOLKATA, otherwise=granted) == granted
    assert window(reset="never", at=at, zone=KOLKATA, cycle=trial) == Span(windows.EPOCH, None)


@MANY
@given(
    st.sampled_from(windows.RESETS),
    st.datetimes(min_value=datetime(2024, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(["day", "week", "month", "year"]),
    st.sampled_from(["Asia/Kolkata", "Europe/Berlin", "America/New_York"]),
)
def test_windows_follow_each_other_without_gap(reset, at, interval, zone):
    zone = ZoneInfo(zone)
    known = cycle(
        interval=interval, zone=zone, started_at=datetime(2023, 1, 31, tzinfo=UTC), anchor_on=date(2023, 1, 31)
    )
    found = window(reset=reset, at=at, zone=zone, cycle=known)
    assert windows.within(found, at)
    if found.end is not None:
        assert window(reset=reset, at=found.end, zone=zone, cycle=known).start == found.end
        assert window(reset=reset, at=found.end - timedelta(microseconds=1), zone=zone, cycle=known) == found
