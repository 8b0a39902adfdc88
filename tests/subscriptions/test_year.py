"""One customer's year in Berlin, 2028: a leap year, two clock changes, and everything a customer thinks of."""

from zoneinfo import ZoneInfo

import pytest

from billing.models import Meter
from billing.services import ledger
from invoices.models import Invoice
from subscriptions.models import Subscription
from subscriptions.services import acting, changing
from subscriptions.services.catalog import PriceInput
from tests.subscriptions.house import (
    CLERK,
    credit_notes_of,
    events_of,
    flat,
    fresh,
    invoices_of,
    live,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    periods_of,
    seats,
    use,
)

pytestmark = pytest.mark.django_db
BERLIN = ZoneInfo("Europe/Berlin")
TIERS = [{"up_to": "1000", "unit_price": "0"}, {"up_to": None, "unit_price": "0.015", "flat_fee": "5"}]


def at(text):
    return local(text, BERLIN)


def make_plans(tenant):
    def prices(base, seat):
        taxed = {"currency": "EUR", "tax_category": "saas"}
        calls = PriceInput(code="calls", name="Calls", model="graduated", tiers=TIERS, meter="calls", **taxed)
        return flat(base, **taxed), seats(seat, **taxed), calls

    make_meter(tenant)
    small = make_plan(tenant, *prices("49.00", "9.90"), code="small", trial_days=14)
    return small, make_plan(tenant, *prices("99.00", "7.90"), code="large")


def test_a_customers_year():
    tenant = make_organisation(at("2028-01-17 15:30"), country="DE")
    (small, large), customer = make_plans(tenant), make_customer(tenant)
    meter = Meter.objects.of(tenant).get(code="calls")
    asked = {"organisation": tenant, "actor": CLERK}
    subscription = acting.subscribe(**asked, customer_id=customer.pk, plan_id=small.pk, quantity=3)
    asked["subscription_id"] = subscription.pk

    live(tenant, at("2028-02-20 10:00"))
    use(customer, meter, "1500", at("2028-02-20 09:00"))
    live(tenant, at("2028-04-10 10:00"))
    acting.change(**asked, quantity=8)
    live(tenant, at("2028-06-05 10:00"))
    use(customer, meter, "3000", at("2028-06-29 23:59"))
    use(customer, meter, "400", at("2028-06-30 00:00"))
    version = changing.version_for(organisation=tenant, plan_id=large.pk)
    acting.change(**asked, version=version, when="period_end")
    live(tenant, at("2028-07-10 10:00"))
    acting.pause(**asked)
    live(tenant, at("2028-08-20 10:00"))
    acting.resume(**asked)
    live(tenant, at("2028-10-12 10:00"))
    acting.change(**asked, quantity=4)
    live(tenant, at("2028-12-05 10:00"))
    acting.cancel(**asked, when="period_end", reason="Sold the company")
    live(tenant, at("2029-02-01 10:00"))

    told = [
        (str(invoice.period_start), str(invoice.period_end), f"{invoice.net.amount:.2f}", f"{invoice.total.amount:.2f}")
        for invoice in invoices_of(subscription)
    ]
    assert told == [
        ("2028-01-31", "2028-02-28", "78.70", "93.65"),  # 49.00 + 3 × 9.90, anchored on the last day of the trial
        ("2028-02-29", "2028-03-30", "91.20", "108.53"),  # and 500 calls above the free ones: 5.00 + 7.50
        ("2028-03-31", "2028-04-29", "78.70", "93.65"),
        ("2028-04-10", "2028-04-29", "33.00", "39.27"),  # five more seats for 20 of 30 days
        ("2028-04-30", "2028-05-30", "128.20", "152.56"),
        ("2028-05-31", "2028-06-29", "128.20", "152.56"),
        ("2028-06-30", "2028-07-30", "197.20", "234.67"),  # the large plan, and 2,000 calls by the small one: 35.00
        ("2028-08-20", "2028-08-30", "57.56", "68.50"),  # 11 of 31 days after the pause
        ("2028-08-31", "2028-09-29", "162.20", "193.02"),
        ("2028-09-30", "2028-10-30", "162.20", "193.02"),
        ("2028-10-31", "2028-11-29", "130.60", "155.41"),  # 99.00 + 4 × 7.90
        ("2028-11-30", "2028-12-30", "130.60", "155.41"),
    ]
    assert [
        (note.invoice.number, f"{note.net.amount:.2f}", f"{note.total.amount:.2f}")
        for note in credit_notes_of(subscription)
    ] == [
        (invoices_of(subscription)[9].number, "19.37", "23.05"),  # four seats fewer for 19 of 31 days
    ]
    assert [row[2] for row in periods_of(subscription, BERLIN)] == ["cycle"] * 11
    assert events_of(subscription) == [
        ("created", "0.00"), ("trial_started", "0.00"), ("activated", "78.70"), ("renewed", "78.70"), ("renewed", "78.70"),
        ("changed", "128.20"), ("renewed", "128.20"), ("renewed", "128.20"), ("changed", "162.20"), ("renewed", "162.20"),
        ("paused", "0.00"), ("resumed", "162.20"), ("renewed", "162.20"), ("renewed", "162.20"), ("renewed", "162.20"),
        ("changed", "130.60"), ("renewed", "130.60"), ("renewed", "130.60"), ("cancelled", "0.00"),
    ]  # fmt: skip
    found = fresh(subscription)
    assert (found.status, found.cancelled_at, found.failure) == (
        Subscription.Status.CANCELLED,
        at("2028-12-31 00:00"),
        "",
    )
    owed = sum(invoice.due.amount for invoice in Invoice.objects.of(tenant))
    assert ledger.balance(organisation=tenant, account="receivable", currency="EUR").amount == owed
