"""An organisation with many customers whose subscriptions are due: for measurements and for tests of the billing run."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from billing.ids import uuid7
from billing.models import BillingParty, Customer, Meter, Organisation, TestClock, UsageEvent
from invoices.models import TaxRate
from subscriptions.models import Plan, PlanVersion, Price, Subscription

ZONE = ZoneInfo("Asia/Kolkata")
ANCHOR = date(2026, 5, 1)
PERIOD_START = datetime(2026, 5, 1, tzinfo=ZONE)
DUE_AT = datetime(2026, 6, 1, tzinfo=ZONE)
NOW = datetime(2026, 6, 1, 6, 0, tzinfo=UTC)
BATCH = 2000


def build(*, customers: int, events_each: int = 5, code: str = "bench", now: datetime = NOW) -> Organisation:
    """Customers of another state (one tax component), each with a subscription whose first renewal is due.

    Base fee and seats in advance, calls in arrears with graduated tiers: three lines, three postings.
    """
    organisation = _organisation(code, now)
    meter = Meter.objects.create(
        organisation=organisation, code="calls", name="API calls", aggregation=Meter.Aggregation.SUM, unit="call"
    )
    version = _plan(organisation, meter, now)
    for start in range(0, customers, BATCH):
        numbers = range(start, min(start + BATCH, customers))
        buyers = _customers(organisation, numbers, now)
        _subscriptions(organisation, version, buyers, now)
        _usage(organisation, meter, buyers, events_each)
    return organisation


def _organisation(code: str, now: datetime) -> Organisation:
    organisation = Organisation.objects.create(
        code=code,
        name="Bench Works",
        currency="INR",
        country="IN",
        region="29",
        time_zone="Asia/Kolkata",
        financial_year_start=4,
        test_clock=TestClock.objects.create(name=code, now=now),
    )
    organisation.party = BillingParty.objects.create(
        organisation=organisation, details={"name": "Bench Works"}, country="IN", region="29", registered=True
    )
    organisation.save()
    TaxRate.objects.create(
        organisation=organisation, category="saas", country="IN", rate=18, code="998315", valid_from=date(2020, 1, 1)
    )
    return organisation


def _plan(organisation: Organisation, meter: Meter, now: datetime) -> PlanVersion:
    plan = Plan.objects.create(organisation=organisation, code="team", name="Team", interval="month", created_at=now)
    version = PlanVersion.objects.create(
        organisation=organisation, plan=plan, number=1, effective_from=PERIOD_START, created_at=now
    )
    shared = {"organisation": organisation, "version": version, "currency": "INR", "tax_category": "saas"}
    Price.objects.create(code="base", name="Base fee", model="flat", unit_price=Decimal(499), position=1, **shared)
    Price.objects.create(
        code="seat", name="Seats", model="per_unit", unit_price=Decimal("149.50"), unit="seat", position=2, **shared
    )
    tiers = [
        {"up_to": "1000", "unit_price": "0.10", "flat_fee": "0"},
        {"up_to": "10000", "unit_price": "0.05", "flat_fee": "0"},
        {"up_to": None, "unit_price": "0.025", "flat_fee": "20"},
    ]
    Price.objects.create(
        code="calls", name="API calls", model="graduated", tiers=tiers, meter=meter, unit="call", position=3, **shared
    )
    return version


def _customers(organisation: Organisation, numbers: range, now: datetime) -> list[Customer]:
    parties = [
        BillingParty(organisation=organisation, details={"name": f"Customer {n}"}, country="IN", region="27")
        for n in numbers
    ]
    customers = [
        Customer(
            organisation=organisation,
            external_id=f"customer-{n:07d}",
            name=f"Customer {n}",
            email=f"customer{n}@example.org",
            currency="INR",
            created_at=now,
            party=party,
        )
        for n, party in zip(numbers, parties, strict=True)
    ]
    BillingParty.objects.bulk_create(parties, batch_size=BATCH)
    return Customer.objects.bulk_create(customers, batch_size=BATCH)


def _subscriptions(organisation: Organisation, version: PlanVersion, customers: list[Customer], now: datetime) -> None:
    Subscription.objects.bulk_create(
        [
            Subscription(
                id=uuid7(),
                organisation=organisation,
                customer=customer,
                external_id=customer.external_id.replace("customer", "subscription"),
                plan_version=version,
                currency="INR",
                quantity=1 + int(customer.external_id[-7:]) % 20,
                status=Subscription.Status.ACTIVE,
                started_at=PERIOD_START,
                anchor_on=ANCHOR,
                period_number=0,
                period_start=PERIOD_START,
                period_end=DUE_AT,
                next_billing_at=DUE_AT,
                usage_from=PERIOD_START,
                created_at=now,
            )
            for customer in customers
        ],
        batch_size=BATCH,
    )


def _usage(organisation: Organisation, meter: Meter, customers: list[Customer], each: int) -> None:
    UsageEvent.objects.bulk_create(
        [
            UsageEvent(
                organisation=organisation,
                event_id=f"{customer.external_id}-{k}",
                meter=meter,
                customer=customer,
                quantity=Decimal(7 + int(customer.external_id[-7:]) * 13 % 3000) + Decimal("0.5") * k,
                occurred_at=PERIOD_START + timedelta(days=k % 28, hours=k),
            )
            for customer in customers
            for k in range(each)
        ],
        batch_size=BATCH,
    )
