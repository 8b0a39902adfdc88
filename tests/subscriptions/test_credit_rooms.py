"""What may be given back finds its place: across components and invoices, at the tax it was charged at, never more than was paid."""

from datetime import date
from decimal import Decimal

import pytest
from django.db import transaction
from moneyed import Money

from analytics.services import attribution
from billing import clock
from billing.models import BillingParty
from invoices.models import TaxRate
from invoices.services import credit_notes, settling
from subscriptions.services import acting, changing, preview
from tests.subscriptions.house import (
    CLERK,
    credit_notes_of,
    flat,
    fresh,
    invoices_of,
    lines_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
)
from tests.subscriptions.test_histories import happened, said

pytestmark = pytest.mark.django_db
TAXED = {"tax_category": "saas"}


def begin(*, before, after, quantity=6, then=1, **agreed):
    """A subscription of five days by ``before`` that changes at once to ten days by ``after``; 3 May 2027."""
    tenant = make_organisation(local("2027-05-03 08:34"))
    short = make_plan(tenant, *before, interval="day", interval_count=5)
    long = make_plan(tenant, *after, interval="day", interval_count=10)
    subscription = subscribe(make_customer(tenant), short, quantity=quantity, **agreed)
    run(tenant)
    change(subscription, long, then)
    return subscription


def change(subscription, plan, quantity):
    tenant = subscription.organisation
    about = {"organisation": tenant, "subscription_id": subscription.pk, "actor": CLERK}
    acting.change(**about, version=changing.version_for(organisation=tenant, plan_id=plan.pk), quantity=quantity)


def on(subscription, day):
    turn(subscription.organisation, local(f"2027-05-{day:02} 10:00"))
    run(subscription.organisation)


def cancel(subscription):
    """Cancel with what is unused given back; what happens was foretold."""
    tenant = subscription.organisation
    before = {one.pk for one in invoices_of(subscription)}, {one.pk for one in credit_notes_of(subscription)}
    with transaction.atomic():
        foretold = preview.preview_action(
            organisation=tenant, subscription_id=subscription.pk, action="cancel", credit="prorated", count=0
        )
    acting.cancel(organisation=tenant, subscription_id=subscription.pk, actor=CLERK, credit="prorated")
    assert happened(subscription, *before) == said(foretold)


def charged(subscription):
    """Net and tax of its invoices that count, less those of their credit notes."""
    invoices = [one for one in invoices_of(subscription) if one.status in credit_notes.CREDITABLE]
    notes = [note for one in invoices for note in one.credit_notes.all()]
    return tuple(
        f"{sum(getattr(one, what).amount for one in invoices) - sum(getattr(one, what).amount for one in notes):.2f}"
        for what in ("net", "tax")
    )


def test_what_finds_no_room_in_its_component_goes_on_the_invoice_that_was_netted():
    """600 for five days; 700 + 20 for ten, less the 600. One day of ten is used: 72 stay charged."""
    subscription = begin(before=[seats("100", **TAXED)], after=[flat("700", **TAXED), seats("20", **TAXED)])
    assert [lines_of(one) for one in invoices_of(subscription)][1] == [
        ("Unused: Seats (5 of 5 days)", "-600.00"), ("Base fee", "700.00"), ("Seats", "20.00"),
    ]  # fmt: skip

    cancel(subscription)

    assert charged(subscription) == ("72.00", "12.96")
    told = {
        (line["description"], line["amount"], tuple(line.get("instead_of", {}).items()), line["unused_from"], line["unused_to"])
        for note in credit_notes_of(subscription)
        for line in note.lines
    }  # fmt: skip
    assert told == {
        ("Base fee", "120.00", (), "2027-05-04", "2027-05-12"),
        ("Seats", "528.00", (("base", "510.00"),), "2027-05-04", "2027-05-12"),
    }


def test_revenue_by_service_counts_a_credit_for_what_it_stands_for():
    """A day of ten: 70 of the base fee and 2 of the seats, though most of the base fee came back on a line of seats."""
    subscription = begin(before=[seats("100", **TAXED)], after=[flat("700", **TAXED), seats("20", **TAXED)])
    tenant = subscription.organisation
    tags = {"base": {"service": "Base"}, "seats": {"service": "Seats"}}
    attribution.tag_charges(organisation=tenant, tags=tags, actor=CLERK)

    cancel(subscription)

    found = attribution.services_by_month(organisation=tenant, since=date(2027, 5, 1), until=date(2027, 5, 31))
    assert {one.service: f"{one.revenue:.2f}" for one in found} == {"Base": "70.00", "Seats": "2.00"}


def test_a_credit_that_stands_for_another_component_leaves_its_own_line_what_it_claims():
    """Two days at 70 + 2, then a base fee of 40: credit that goes on the seats' line takes nothing from the seats."""
    subscription = begin(before=[seats("100", **TAXED)], after=[flat("700", **TAXED), seats("20", **TAXED)])
    cheaper = make_plan(
        subscription.organisation, flat("400", **TAXED), seats("20", **TAXED), interval="day", interval_count=10
    )
    on(subscription, 5)
    change(subscription, cheaper, 1)
    assert charged(subscription) == (f"{144 + 42 * 8}.00", "86.40")
    on(subscription, 8)

    cancel(subscription)

    assert charged(subscription) == (f"{144 + 42 * 4}.00", "56.16")


def test_no_tax_of_an_invoice_falls_below_zero():
    """Untaxed seats are given back where they were billed, not on an invoice for what is taxed."""
    subscription = begin(before=[seats("100")], after=[flat("700", **TAXED), seats("20")])

    assert [lines_of(one) for one in invoices_of(subscription)] == [
        [("Seats", "600.00")], [("Base fee", "700.00"), ("Seats", "20.00")],
    ]  # fmt: skip
    assert [f"{one.net.amount:.2f} {one.tax.amount:.2f}" for one in credit_notes_of(subscription)] == ["600.00 0.00"]
    cancel(subscription)
    assert charged(subscription) == ("72.00", "12.60")


def test_what_a_change_of_interval_charges_less_for_is_given_back_too():
    """600 for five days, then 20 for ten: five of the twenty are used after five days."""
    subscription = begin(before=[seats("100", **TAXED)], after=[seats("20", **TAXED)])
    assert charged(subscription) == ("20.00", "3.60")
    on(subscription, 8)

    cancel(subscription)

    assert charged(subscription) == ("12.00", "2.16")


def test_a_change_of_rate_gives_back_at_the_rate_that_was_charged():
    tenant = make_organisation(local("2027-05-03 08:34"))
    TaxRate.objects.filter(organisation=tenant).update(valid_until=date(2027, 5, 4))
    TaxRate.objects.create(
        organisation=tenant, category="saas", country="IN", rate="20", code="9983", valid_from=date(2027, 5, 5)
    )
    short = make_plan(tenant, seats("100", **TAXED), interval="day", interval_count=5)
    long = make_plan(tenant, flat("700", **TAXED), seats("20", **TAXED), interval="day", interval_count=10)
    subscription = subscribe(make_customer(tenant), short, quantity=6)
    run(tenant)
    on(subscription, 5)

    change(subscription, long, 1)

    notes = [(f"{one.net.amount:.2f}", f"{one.tax.amount:.2f}") for one in credit_notes_of(subscription)]
    assert notes == [("360.00", "64.80")]  # three of five days at 18 %
    assert charged(subscription) == ("960.00", "187.20")  # 240 at 18 %, 720 at 20 %
    cancel(subscription)
    assert charged(subscription) == ("312.00", "57.60")  # 240 at 18 %, 72 at 20 %


def test_a_customer_who_moved_gets_the_tax_of_the_old_place_back():
    subscription = begin(before=[seats("100", **TAXED)], after=[seats("100", **TAXED)], then=6)
    customer = subscription.customer
    customer.party = BillingParty.objects.create(
        organisation=customer.organisation, customer=customer, details={"name": "Moved"}, country="IN", region="27"
    )
    customer.save()
    on(subscription, 5)
    longer = make_plan(subscription.organisation, seats("200", **TAXED), interval="day", interval_count=20)

    change(subscription, longer, 6)

    taxes = [{row["component"] for row in note.taxes} for note in credit_notes_of(subscription)]
    assert taxes == [{"CGST", "SGST"}] * len(taxes)
    assert {row.component for row in invoices_of(subscription)[-1].taxes.all()} == {"IGST"}
    assert all(line.amount.amount > 0 for line in invoices_of(subscription)[-1].lines.all())
    cancel(subscription)
    assert charged(subscription) == ("180.00", "32.40")  # two days at 60, one at 60


def test_two_changes_of_interval_in_a_row():
    """600 netted in 720, and that in 1400 for twenty days: each day costs what its terms say."""
    subscription = begin(before=[seats("100", **TAXED)], after=[flat("700", **TAXED), seats("20", **TAXED)])
    longest = make_plan(
        subscription.organisation, flat("1000", **TAXED), flat("400", code="desk", name="Desk", **TAXED),
        interval="day", interval_count=20,
    )  # fmt: skip
    on(subscription, 5)
    change(subscription, longest, 1)
    assert charged(subscription) == (f"{144 + 1400}.00", "277.92")
    on(subscription, 14)

    cancel(subscription)

    assert charged(subscription) == (f"{144 + 70 * 10}.00", "151.92")


@pytest.mark.parametrize(("proration", "expected"), [("day", "95.04"), ("second", "185.04")])
def test_back_and_forth_within_minutes_costs_what_is_used(proration, expected):
    """By the day one day of ten at 950.40; by the second the first day's time since midnight, at 2592.00 for five days."""
    subscription = begin(
        before=[seats("432", **TAXED)], after=[flat("864", **TAXED), seats("86.4", **TAXED)], proration=proration
    )
    long = fresh(subscription).plan_version.plan
    week = make_plan(subscription.organisation, flat("60.48", code="week", **TAXED), interval="week")
    for plan, quantity in [(week, 1), (long, 2), (week, 3), (long, 1)]:
        change(subscription, plan, quantity)

    cancel(subscription)

    assert charged(subscription)[0] == expected


def test_never_more_is_given_back_than_was_paid():
    """What was netted was credited by hand as well: only what the last invoice bears can still come back."""
    subscription = begin(before=[seats("100", **TAXED)], after=[flat("700", **TAXED), seats("20", **TAXED)])
    credit_notes.issue_credit_note(
        invoice_id=invoices_of(subscription)[0].pk, amounts=None, reason="By hand", actor=CLERK,
        at=clock.now(subscription.organisation),
    )  # fmt: skip

    cancel(subscription)

    assert charged(subscription) == ("0.00", "0.00")


def test_what_was_credited_by_hand_of_one_component_is_not_taken_from_another():
    """50 of the base fee by hand: of the nine days' 630 + 18, that share of the 50 is not paid twice."""
    subscription = begin(before=[seats("100", **TAXED)], after=[flat("700", **TAXED), seats("20", **TAXED)])
    credit_notes.issue_credit_note(
        invoice_id=invoices_of(subscription)[1].pk, amounts={2: Money(Decimal(50), "INR")}, reason="By hand",
        actor=CLERK, at=clock.now(subscription.organisation),
    )  # fmt: skip

    cancel(subscription)

    assert charged(subscription) == ("67.00", "12.06")  # (700 - 50) / 10 + 20 / 10


@pytest.mark.parametrize("annul", [settling.void_invoice, settling.write_off_invoice])
def test_what_was_annulled_gives_nothing_back(annul):
    subscription = begin(before=[seats("100", **TAXED)], after=[flat("700", **TAXED), seats("20", **TAXED)])
    annul(invoice_id=invoices_of(subscription)[0].pk, reason="Never paid", actor=CLERK)

    cancel(subscription)

    assert charged(subscription) == ("0.00", "0.00")
    assert [f"{one.net.amount:.2f}" for one in credit_notes_of(subscription)] == ["120.00"]
