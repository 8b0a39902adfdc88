"""Builders for tests of subscriptions: an organisation whose time we turn, plans, customers, and what was issued."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

from billing import clock
from billing.context import Actor
from billing.models import BillingParty, Customer, Event, Meter, Organisation, TestClock, UsageEvent
from invoices.models import CreditNote, Invoice, TaxRate
from subscriptions.models import BilledPeriod, Plan, Subscription
from subscriptions.services import changes
from subscriptions.services.billing_run import run_billing
from subscriptions.services.catalog import PriceInput, create_plan
from subscriptions.services.lifecycle import create_subscription

SEQUENCE = count(1)
CLERK = Actor(type="user", id="7", label="asha@example.org", permissions=frozenset({"*"}))
KOLKATA = ZoneInfo("Asia/Kolkata")


def local(text: str, zone: ZoneInfo = KOLKATA) -> datetime:
    """A local time such as ``2026-04-01 09:00`` as an instant."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def make_organisation(now: datetime, *, country: str = "IN", **extra: Any) -> Organisation:
    """A seller on a test clock with one tax rate of 18 % (Germany: 19 %) for the category ``saas``."""
    code = extra.pop("code", f"tenant-{next(SEQUENCE)}")
    values = {
        "name": code,
        "currency": "INR" if country == "IN" else "EUR",
        "country": country,
        "region": "29" if country == "IN" else "",
        "time_zone": "Asia/Kolkata" if country == "IN" else "Europe/Berlin",
        "financial_year_start": 4 if country == "IN" else 1,
        "test_clock": TestClock.objects.create(name=code, now=now),
    } | extra
    organisation = Organisation.objects.create(code=code, **values)
    organisation.party = BillingParty.objects.create(
        organisation=organisation, details={"name": code}, country=country, region=values["region"], registered=True
    )
    organisation.save()
    TaxRate.objects.create(
        organisation=organisation, category="saas", country=country, rate="18" if country == "IN" else "19",
        code="9983", valid_from=date(2017, 7, 1),
    )  # fmt: skip
    return organisation


def make_customer(organisation: Organisation, *, currency: str = "") -> Customer:
    """A private customer at the seller's place."""
    number = next(SEQUENCE)
    customer = Customer.objects.create(
        organisation=organisation, external_id=f"c-{number}", name=f"Customer {number}",
        email=f"c{number}@example.org", currency=currency or organisation.currency, created_at=clock.now(organisation),
    )  # fmt: skip
    customer.party = BillingParty.objects.create(
        organisation=organisation, customer=customer, details={"name": f"Customer {number}"},
        country=organisation.country, region=organisation.region,
    )  # fmt: skip
    customer.save()
    return customer


def flat(amount: str, *, code: str = "base", currency: str = "INR", **extra: Any) -> PriceInput:
    return PriceInput(
        code=code,
        name=extra.pop("name", "Base fee"),
        currency=currency,
        model="flat",
        unit_price=Decimal(amount),
        **extra,
    )


def seats(amount: str, *, code: str = "seats", currency: str = "INR", **extra: Any) -> PriceInput:
    return PriceInput(
        code=code, name=extra.pop("name", "Seats"), currency=currency, model="per_unit", unit_price=Decimal(amount),
        unit="seat", **extra,
    )  # fmt: skip


def make_plan(organisation: Organisation, *prices: PriceInput, interval: str = "month", **extra: Any) -> Plan:
    number = next(SEQUENCE)
    return create_plan(
        organisation=organisation, code=extra.pop("code", f"plan-{number}"), name=f"Plan {number}", interval=interval,
        prices=prices, actor=CLERK, **extra,
    )  # fmt: skip


def make_meter(organisation: Organisation, code: str = "calls", aggregation: str = "sum") -> Meter:
    return Meter.objects.create(organisation=organisation, code=code, name=code, aggregation=aggregation, unit="call")


def use(customer: Customer, meter: Meter, quantity: str, at: datetime) -> None:
    """Measured usage."""
    UsageEvent.objects.create(
        organisation=customer.organisation, event_id=f"u-{next(SEQUENCE)}", meter=meter, customer=customer,
        quantity=Decimal(quantity), occurred_at=at,
    )  # fmt: skip


def subscribe(customer: Customer, plan: Plan, **agreed: Any) -> Subscription:
    return create_subscription(
        organisation=customer.organisation, actor=CLERK, customer_id=customer.pk, plan_id=plan.pk, **agreed
    )


def turn(organisation: Organisation, to: datetime) -> None:
    """Turn the clock without running anything."""
    TestClock.objects.filter(pk=organisation.test_clock_id).update(now=to)


def run(organisation: Organisation, *only: Subscription) -> None:
    """What the clock's jobs do for subscriptions (all, or those named): planned changes and billing take turns until nothing is due."""
    about: dict[str, Any] = {"organisation": organisation, "subscription_ids": [one.pk for one in only] or None}
    with clock.standing([organisation.pk], clock.now(organisation)):  # as the clock does for its jobs
        while changes.apply_due(**about) + run_billing(**about).billed:
            pass


def live(organisation: Organisation, to: datetime, *, step: timedelta = timedelta(days=1)) -> None:
    """Let time pass in steps, running what is due at each."""
    at = clock.now(organisation)
    while at < to:
        at = min(at + step, to)
        turn(organisation, at)
        run(organisation)


def fresh(subscription: Subscription) -> Subscription:
    return Subscription.objects.select_related("plan_version__plan", "organisation").get(pk=subscription.pk)


def invoices_of(subscription: Subscription) -> list[Invoice]:
    return list(Invoice.objects.filter(subscription_ref=subscription.pk).order_by("id"))


def amounts(rows: Sequence[Invoice | CreditNote]) -> list[str]:
    """Net amounts of documents."""
    return [f"{row.net.amount:.2f}" for row in rows]


def credit_notes_of(subscription: Subscription) -> list[CreditNote]:
    return list(CreditNote.objects.filter(invoice__subscription_ref=subscription.pk).order_by("id"))


def lines_of(invoice: Invoice) -> list[tuple[str, str]]:
    return [(line.description, f"{line.amount.amount:.2f}") for line in invoice.lines.all()]


def periods_of(subscription: Subscription, zone: ZoneInfo = KOLKATA) -> list[tuple[str, str, str]]:
    """Billed periods as local days: first, first after, kind."""
    rows = BilledPeriod.objects.filter(subscription=subscription).order_by("billed_at", "starts_at")
    return [
        (row.starts_at.astimezone(zone).date().isoformat(), row.ends_at.astimezone(zone).date().isoformat(), row.kind)
        for row in rows
    ]


def events_of(subscription: Subscription) -> list[tuple[str, str]]:
    """Events of the subscription with the MRR they carry."""
    rows = Event.objects.filter(aggregate_id=subscription.pk).order_by("id")
    return [(row.type.removeprefix("subscription."), row.payload["mrr"]["amount"]) for row in rows]
