"""An organisation with many customers whose subscriptions are due: for measurements and for tests of the billing run."""

from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db import connection, transaction

from billing.models import BillingParty, Customer, Meter, Organisation, TestClock
from invoices.models import TaxRate
from subscriptions.models import AppliedCoupon, Coupon, Plan, PlanVersion, Price, Subscription

ZONE = ZoneInfo("Asia/Kolkata")
ANCHOR = date(2026, 5, 1)
PERIOD_START = datetime(2026, 5, 1, tzinfo=ZONE)
DUE_AT = datetime(2026, 6, 1, tzinfo=ZONE)
NOW = datetime(2026, 6, 1, 6, 0, tzinfo=UTC)


@transaction.atomic
def build(
    *, customers: int, events_each: int = 5, code: str = "bench", now: datetime = NOW, metered: bool = True,
    mixed: bool = False,
) -> Organisation:  # fmt: skip
    """Customers of another state (one tax component), each with a subscription whose first renewal is due.

    Base fee and seats in advance, and where ``metered``, calls in arrears with graduated tiers: three lines, three postings.
    Customer ``n`` has ``1 + n % 20`` seats. The first one is written by the models; the others are copies of its rows, so
    that many are made fast.

    ``mixed``: seats are charged afterwards, each subscription began on a day of its own within the period that is over, so
    that its seats are charged for a part of it, and each customer holds a coupon: 15 percent for ever, 20 for three invoices,
    or 10 for this one.
    """
    organisation = _organisation(code, now)
    meter = Meter.objects.create(
        organisation=organisation, code="calls", name="API calls", aggregation=Meter.Aggregation.SUM, unit="call"
    )
    version = _plan(organisation, meter if metered else None, now, seats_in_advance=not mixed)
    first = _subscription(organisation, version, now)
    with connection.cursor() as cursor:
        for statement in COPIES:
            cursor.execute(statement, {"code": code, "last": customers - 1, "subscription": first.pk})
        if mixed:
            cursor.execute(BEGUN_LATE, {"organisation": organisation.pk, "from": PERIOD_START})
            _coupons(organisation, now)
            cursor.execute(COUPONS, {"organisation": organisation.pk, "code": code, "now": now})
        cursor.execute(
            USAGE,
            {"organisation": organisation.pk, "meter": meter.pk, "last": events_each - 1},
        )
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
        organisation=organisation,
        details={"name": "Bench Works", "upi_id": "bench@upi"},
        country="IN",
        region="29",
        registered=True,
    )
    organisation.save()
    TaxRate.objects.create(
        organisation=organisation, category="saas", country="IN", rate=18, code="998315", valid_from=date(2020, 1, 1)
    )
    return organisation


def _plan(organisation: Organisation, meter: Meter | None, now: datetime, *, seats_in_advance: bool) -> PlanVersion:
    plan = Plan.objects.create(organisation=organisation, code="team", name="Team", interval="month", created_at=now)
    version = PlanVersion.objects.create(
        organisation=organisation, plan=plan, number=1, effective_from=PERIOD_START, created_at=now
    )
    shared = {"organisation": organisation, "version": version, "currency": "INR", "tax_category": "saas"}
    Price.objects.create(code="base", name="Base fee", model="flat", unit_price=Decimal(499), position=1, **shared)
    Price.objects.create(
        code="seat", name="Seats", model="per_unit", unit_price=Decimal("149.50"), unit="seat", position=2,
        pay_in_advance=seats_in_advance, **shared,
    )  # fmt: skip
    tiers = [
        {"up_to": "1000", "unit_price": "0.10", "flat_fee": "0"},
        {"up_to": "10000", "unit_price": "0.05", "flat_fee": "0"},
        {"up_to": None, "unit_price": "0.025", "flat_fee": "20"},
    ]
    if meter is None:
        return version
    Price.objects.create(
        code="calls", name="API calls", model="graduated", tiers=tiers, meter=meter, pay_in_advance=False, unit="call",
        position=3, **shared,
    )  # fmt: skip
    return version


def _coupons(organisation: Organisation, now: datetime) -> None:
    """What every third customer holds; ``COUPONS`` gives them out."""
    for code, percent, terms in (
        ("for-ever", 15, {"duration": Coupon.Duration.FOREVER}),
        ("three", 20, {"duration": Coupon.Duration.PERIODS, "periods": 3}),
        ("once", 10, {"duration": Coupon.Duration.ONCE}),
    ):
        Coupon.objects.create(
            organisation=organisation, code=code, name=f"{percent} percent less", kind=Coupon.Kind.PERCENT,
            percent=Decimal(percent), created_at=now, **terms,
        )  # fmt: skip


def _subscription(organisation: Organisation, version: PlanVersion, now: datetime) -> Subscription:
    """The first customer with its party and its subscription."""
    customer = Customer.objects.create(
        organisation=organisation,
        external_id="customer-0000000",
        name="Customer",
        email="customer@example.org",
        currency="INR",
        created_at=now,
    )
    customer.party = BillingParty.objects.create(
        organisation=organisation, customer=customer, details={"name": "Customer"}, country="IN", region="27"
    )
    customer.save()
    return Subscription.objects.create(
        organisation=organisation,
        customer=customer,
        external_id="subscription-0000000",
        plan_version=version,
        currency="INR",
        quantity=1,
        status=Subscription.Status.ACTIVE,
        started_at=PERIOD_START,
        anchor_on=ANCHOR,
        period_start=PERIOD_START,
        period_end=DUE_AT,
        next_billing_at=DUE_AT,
        usage_from=PERIOD_START,
        created_at=now,
    )


# Ids are made of the organisation's code and the customer's number.
ID = "md5(%(code)s || '{} ' || n)::uuid"
NUMBERED = "lpad(n::text, 7, '0')"


def _copy(table: str, join: str, **changes: str) -> str:
    """Copies of one row of ``table``, one for each n from 1 on, with some columns changed."""
    changed = ", ".join(f"'{column}', {value}" for column, value in changes.items())
    return (
        f"INSERT INTO {table} SELECT copy.* FROM subscriptions_subscription s "  # noqa: S608 - words of this module
        f"JOIN billing_customer c ON c.id = s.customer_id {join} "
        f"CROSS JOIN generate_series(1, %(last)s) AS n "
        f"CROSS JOIN LATERAL jsonb_populate_record(NULL::{table}, to_jsonb(row.*) || jsonb_build_object({changed})) AS copy "
        f"WHERE s.id = %(subscription)s"
    )


COPIES = [
    _copy(
        "billing_customer",
        "JOIN billing_customer row ON row.id = c.id",
        id=ID.format("customer"),
        external_id=f"'customer-' || {NUMBERED}",
        party_id=ID.format("party"),
    ),
    _copy(
        "billing_billingparty",
        "JOIN billing_billingparty row ON row.id = c.party_id",
        id=ID.format("party"),
        customer_id=ID.format("customer"),
    ),
    _copy(
        "subscriptions_subscription",
        "JOIN subscriptions_subscription row ON row.id = s.id",
        id=ID.format("subscription"),
        customer_id=ID.format("customer"),
        external_id=f"'subscription-' || {NUMBERED}",
        quantity="1 + n %% 20",
    ),
]
# From the second to the twenty-eighth of the month, at a quarter past ten: the first hour of usage is not whole.
BEGUN_LATE = """
UPDATE subscriptions_subscription s
SET started_at = at, usage_from = at, period_start = at - interval '10 hours 15 minutes'
FROM (SELECT id, %(from)s + interval '34 hours 15 minutes' + right(external_id, 7)::int %% 27 * interval '1 day' AS at
      FROM subscriptions_subscription WHERE organisation_id = %(organisation)s) AS begun
WHERE s.id = begun.id
"""
COUPONS = f"""
INSERT INTO {AppliedCoupon._meta.db_table} (id, recorded_at, organisation_id, coupon_id, customer_id, status, periods_left,
    left_over, uses, discounted, currency, applied_at)
SELECT md5(%(code)s || 'coupon ' || c.external_id)::uuid, now(), c.organisation_id, k.id, c.id, 'active',
       CASE k.code WHEN 'once' THEN 1 WHEN 'three' THEN 3 END, 0, 0, 0, c.currency, %(now)s
FROM billing_customer c JOIN subscriptions_coupon k ON k.organisation_id = c.organisation_id
 AND k.code = (ARRAY['for-ever', 'three', 'once'])[1 + right(c.external_id, 7)::int %% 3]
WHERE c.organisation_id = %(organisation)s
"""  # noqa: S608 - words of this module
USAGE = """
INSERT INTO billing_usageevent (organisation_id, event_id, meter_id, customer_id, quantity, properties, occurred_at, recorded_at)
SELECT c.organisation_id, c.external_id || '-' || k, %(meter)s, c.id,
       7 + right(c.external_id, 7)::int * 13 %% 3000 + 0.5 * k, '{}',
       s.usage_from + k * least(interval '14 hours', (s.next_billing_at - s.usage_from) / greatest(%(last)s + 1, 1)), now()
FROM billing_customer c JOIN subscriptions_subscription s ON s.customer_id = c.id CROSS JOIN generate_series(0, %(last)s) AS k
WHERE c.organisation_id = %(organisation)s
"""
