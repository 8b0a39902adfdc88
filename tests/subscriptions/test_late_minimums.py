"""Minimums of periods whose usage changed after they were billed: worked out anew, to the cent, on the invoice of the change."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.metering import Used
from billing.models import UsageWindow
from billing.services import usage_policy, usage_revisions
from invoices.models import TaxRate
from subscriptions.late_usage import Held, shared_change
from subscriptions.lines import Component
from subscriptions.services import acting, ended_usage, preview
from subscriptions.services.billing_run import run_billing
from tests.subscriptions.house import (
    CLERK,
    amounts,
    credit_notes_of,
    flat,
    invoices_of,
    lines_of,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    seats,
    subscribe,
    turn,
)
from tests.subscriptions.test_late_usage import send

APRIL = "1 Apr 2026 to 30 Apr 2026"
LATE, ANEW = f"usage recorded later, {APRIL}", f"minimum worked out anew, {APRIL}"
CENTS = st.integers(min_value=0, max_value=10**6).map(lambda n: Decimal(n).scaleb(-2))


@pytest.fixture
def tenant(db):
    organisation = make_organisation(local("2026-04-01 09:00"))
    usage_policy.change_policy(organisation=organisation, actor=CLERK, late_days=90)
    return organisation


def billed(tenant, *, own=None, whole=None, used="60"):
    """A subscription whose April is billed with ``used`` calls."""
    make_meter(tenant)
    calls = seats(
        "1.00", code="calls", name="Calls", meter="calls", tax_category="saas", min_commitment=own and Decimal(own)
    )
    plan = make_plan(tenant, flat("500.00", tax_category="saas"), calls, min_commitment=whole and {"INR": whole})
    subscription = subscribe(make_customer(tenant), plan)
    run_billing(organisation=tenant)
    turn(tenant, local("2026-04-20 09:00"))
    send(tenant, subscription.customer, "first", used, "2026-04-10")
    to(tenant, "2026-05-01 09:00")
    return subscription


def taxed_lines(invoice):
    categories = invoice.lines.order_by("position").values_list("tax_category", flat=True)
    return [(*line, category) for line, category in zip(lines_of(invoice), categories, strict=True)]


def to(tenant, text):
    turn(tenant, local(text))
    run_billing(organisation=tenant)


def void(tenant):
    usage_revisions.void_event(organisation=tenant, event_id="first", reason="never happened", actor=CLERK)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("late", "more"),
    [("20", [("Calls", "20.00", "-20.00")]), ("90", [("Calls", "90.00", "-40.00")])],
)
def test_late_usage_first_eats_what_made_up_for_the_components_minimum(tenant, late, more):
    subscription = billed(tenant, own="100.00")
    assert lines_of(invoices_of(subscription)[1])[1:] == [("Calls", "60.00"), ("Calls: up to the minimum", "40.00")]

    send(tenant, subscription.customer, "late", late, "2026-04-12")
    to(tenant, "2026-06-01 09:00")

    said = dict(lines_of(invoices_of(subscription)[2])[1:])
    said.pop("Calls: up to the minimum")  # of May
    assert said == {f"{name}: {LATE}": charged for name, charged, _ in more} | {
        f"{name}: {ANEW}": back for name, _, back in more
    }


@pytest.mark.django_db
def test_what_never_was_used_leaves_more_to_make_up_for(tenant):
    subscription = billed(tenant, own="100.00", used="130")
    void(tenant)
    to(tenant, "2026-06-01 09:00")

    assert lines_of(invoices_of(subscription)[2])[-2:] == [(f"Calls: {ANEW}", "100.00"), (f"Calls: {LATE}", "-130.00")]
    send(tenant, subscription.customer, "again", "30", "2026-04-12")
    to(tenant, "2026-06-30 23:00")  # nothing is due
    to(tenant, "2026-07-01 09:00")
    assert not [line for line in lines_of(invoices_of(subscription)[3]) if "130" in line[1]]


@pytest.mark.django_db
def test_the_versions_minimum_is_held_against_everything_that_was_charged(tenant):
    subscription = billed(tenant, whole="600.00")
    assert lines_of(invoices_of(subscription)[1])[1:] == [("Calls", "60.00"), ("Plan: up to the minimum", "40.00")]
    assert UsageWindow.objects.get().least == {"all": "600.00", "beside": "500.00"}

    send(tenant, subscription.customer, "late", "25", "2026-04-12")
    to(tenant, "2026-06-01 09:00")
    send(tenant, subscription.customer, "later", "25", "2026-04-13")
    to(tenant, "2026-07-01 09:00")

    third, fourth = (dict(lines_of(one)) for one in invoices_of(subscription)[2:])
    assert (third[f"Calls: {LATE}"], third[f"Plan: {ANEW}"]) == ("25.00", "-25.00")
    assert (fourth[f"Calls: {LATE}"], fourth[f"Plan: {ANEW}"]) == ("25.00", "-15.00")


@pytest.mark.django_db
def test_after_an_end_the_minimum_goes_back_too(tenant):
    subscription = billed(tenant, own="100.00")
    turn(tenant, local("2026-05-01 10:00"))
    acting.cancel(organisation=tenant, subscription_id=subscription.pk, actor=CLERK)
    before = sum(one.net.amount for one in invoices_of(subscription))

    send(tenant, subscription.customer, "late", "50", "2026-04-12")
    turn(tenant, local("2026-05-02 10:00"))
    ended_usage.settle_ended(organisation=tenant)

    spent = sum(one.net.amount for one in invoices_of(subscription)) - before
    assert spent - sum(map(Decimal, amounts(credit_notes_of(subscription)))) == 10
    assert ended_usage.settle_ended(organisation=tenant) == 0


@given(
    steps=st.lists(st.tuples(CENTS, CENTS), min_size=1, max_size=5), own=CENTS, whole=CENTS, beside=CENTS,
)  # fmt: skip
@settings(max_examples=3000, deadline=None)
def test_however_often_usage_changes_it_comes_to_what_one_bill_would(steps, own, whole, beside):
    calls, storage = (Component(code, code, "INR", "per_unit", Decimal(1)) for code in ("calls", "storage"))
    least = {"all": str(whole), "beside": str(beside)}

    def parts(quantity):
        return {("", ()): Used("", (), quantity, 1, Decimal(0))}

    def bill(used):
        usage = max(used[0], own) + used[1]
        return usage + max(whole - beside - usage, Decimal(0))

    known, billed_so_far = (Decimal(0), Decimal(0)), bill((Decimal(0), Decimal(0)))
    for step in steps:
        held = [
            Held(calls, least | {"own": str(own)}, parts(known[0]), parts(step[0])),
            Held(storage, least, parts(known[1]), parts(step[1])),
        ]
        usage = sum(step) - sum(known)
        billed_so_far += usage + sum((one.own_change() for one in held), Decimal(0)) + shared_change(held)
        known = step
        assert billed_so_far == bill(step)


@pytest.mark.django_db
@pytest.mark.parametrize("at_once", [False, True], ids=["month by month", "two months at once"])
def test_a_minimum_that_finds_no_room_is_given_back_as_it_was_charged(tenant, at_once):
    """The minimum is taxed with 5 %, the calls with 18 %: 295 of 300 wait for the next minimum, in preview and dry run too."""
    TaxRate.objects.create(
        organisation=tenant, category="goods", country="IN", rate="5", code="4901", valid_from=date(2017, 7, 1)
    )
    make_meter(tenant)
    calls = seats("1.00", code="calls", name="Calls", meter="calls", tax_category="saas")
    plan = make_plan(tenant, flat("5.00", tax_category="goods"), calls, min_commitment={"INR": "600.00"})
    subscription = subscribe(make_customer(tenant), plan)
    run_billing(organisation=tenant)
    turn(tenant, local("2026-04-20 09:00"))
    send(tenant, subscription.customer, "first", "60", "2026-04-10")
    to(tenant, "2026-05-01 09:00")
    turn(tenant, local("2026-05-06 09:00"))
    send(tenant, subscription.customer, "late", "300", "2026-04-12")
    send(tenant, subscription.customer, "may", "600", "2026-05-05")
    seen = preview.preview_change(organisation=tenant, subscription_id=subscription.pk, count=2)

    if at_once:
        turn(tenant, local("2026-07-01 09:00"))
        dry = run_billing(organisation=tenant, dry_run=True)
        assert run_billing(organisation=tenant).totals == dry.totals
    else:
        to(tenant, "2026-06-01 09:00")
        window = UsageWindow.objects.earliest("starts_at")
        assert (window.owed, window.owed_minimum) == (295, 295)
        to(tenant, "2026-07-01 09:00")

    june, july = invoices_of(subscription)[2:]
    assert taxed_lines(june) == [
        ("Base fee", "5.00", "goods"), ("Calls", "600.00", "saas"), (f"Calls: {LATE}", "300.00", "saas"),
        (f"Plan: {ANEW}", "-5.00", "goods"),
    ]  # fmt: skip
    assert taxed_lines(july) == [
        ("Base fee", "5.00", "goods"), ("Plan: up to the minimum", "595.00", "goods"),
        (f"Plan: credit for the minimum of {APRIL}", "-295.00", "goods"),
    ]  # fmt: skip
    assert [one.priced.total for one in seen.invoices] == [june.total.amount, july.total.amount] == [
        Decimal("1062.00"), Decimal("320.26"),
    ]  # fmt: skip
    assert not UsageWindow.objects.exclude(owed=0, owed_minimum=0).exists()
