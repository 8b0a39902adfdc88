"""Invoices in mid-period: the rules alone, over generated cases, and with real rows over a whole month."""

import uuid
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moneyed import Money

from billing.models import Event
from invoices.drafts import LineInput
from invoices.models import CreditNote, Invoice
from invoices.services import settling
from subscriptions.models import InterimInvoice
from subscriptions.progressive import Earlier, Threshold, passed, take_off
from subscriptions.services import acting, interim
from subscriptions.services.billing_run import run_billing
from subscriptions.services.thresholds import add_threshold
from tests.subscriptions.house import (
    CLERK,
    amounts,
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
    use,
)

CENTS = st.integers(min_value=0, max_value=10**7).map(lambda n: Decimal(n).scaleb(-2))


def line(code, amount):
    return LineInput(description=code, code=code, amount=Money(amount, "INR"), tax_category="saas")


class TestRules:
    @pytest.mark.parametrize(
        ("used", "billed", "expected"),
        [("99.99", 0, None), (100, 0, 100), (499, 0, 100), (499, 100, None), (500, 100, 500), (1200, 500, None)],
    )
    def test_a_threshold_counts_once(self, used, billed, expected):
        found = passed([Threshold(Decimal(100)), Threshold(Decimal(500))], used=Decimal(used), billed=Decimal(billed))

        assert found == expected

    @pytest.mark.parametrize(
        ("used", "billed", "expected"), [(99, 0, None), (250, 0, 200), (250, 210, None), (310, 210, 300)]
    )
    def test_a_recurring_one_counts_again(self, used, billed, expected):
        assert passed([Threshold(Decimal(100), True)], used=Decimal(used), billed=Decimal(billed)) == expected

    @given(
        steps=st.lists(st.fixed_dictionaries({"calls": CENTS, "storage": CENTS}), min_size=1, max_size=6),
    )
    @settings(max_examples=3000, deadline=None)
    def test_however_often_it_is_invoiced_the_whole_costs_the_same(self, steps):
        """Usage may also shrink (corrections): then what was billed too much is excess, never a negative component."""
        earlier, billed, credited = [], Decimal(0), Decimal(0)
        for number, step in enumerate(steps, start=1):
            lines = [line(code, amount) for code, amount in step.items() if amount]
            taken = take_off(lines, earlier)
            is_last = number == len(steps)
            by_code = {
                code: sum((one.amount.amount for one in taken.lines if one.code == code), Decimal(0)) for code in step
            }
            assert all(amount >= 0 for amount in by_code.values())
            if is_last:
                billed += sum(by_code.values(), Decimal(0))
                credited += sum(taken.excess.values(), Decimal(0))
            elif (
                not taken.excess and sum(by_code.values(), Decimal(0)) > 0
            ):  # only growing usage is invoiced in mid-period
                billed += sum(by_code.values(), Decimal(0))
                invoice = uuid.UUID(int=number)
                earlier += [
                    Earlier(one.code, one.description, one.tax_category, one.amount.amount, invoice)
                    for one in taken.lines
                ]

        assert billed - credited == sum(steps[-1].values(), Decimal(0))


@pytest.fixture
def tenant(db):
    return make_organisation(local("2026-04-01 09:00"))


def graduated(**extra):
    tiers = [
        {"up_to": "100", "unit_price": "1.00"},
        {"up_to": None, "unit_price": "0.333"},
    ]
    prices = seats("1", code="calls", name="Calls", meter="calls", tax_category="saas", **extra)
    return prices.__class__(
        **{name: getattr(prices, name) for name in prices.__dataclass_fields__}
        | {"model": "graduated", "unit_price": None, "tiers": tiers}
    )


def agreed(tenant, *, thresholds, recurring=False):
    """A subscription on a metered plan whose first month is billed, and its meter."""
    meter, customer = make_meter(tenant), make_customer(tenant)
    plan = make_plan(tenant, flat("500.00", tax_category="saas"), graduated())
    for amount in thresholds:
        add_threshold(
            organisation=tenant, actor=CLERK, plan_id=plan.pk, amount=Money(amount, "INR"), recurring=recurring
        )
    subscription = subscribe(customer, plan)
    run_billing(organisation=tenant)
    return subscription, meter


def day(tenant, subscription, meter, text, quantity):
    """Some usage on a day, and the clock's job in the evening."""
    use(subscription.customer, meter, quantity, local(f"{text} 12:00"))
    turn(tenant, local(f"{text} 20:00"))
    return interim.invoice_passed(organisation=tenant)


pytestmark = []


@pytest.mark.django_db
class TestMonth:
    def test_the_month_costs_the_same_to_the_paisa(self, tenant):
        subscription, meter = agreed(tenant, thresholds=["50", "150"])
        plain = make_customer(tenant)
        control = subscribe(plain, make_plan(tenant, flat("500.00", tax_category="saas"), graduated()))
        run_billing(organisation=tenant, subscription_ids=[control.pk])

        assert day(tenant, subscription, meter, "2026-04-05", "40") == 0
        assert day(tenant, subscription, meter, "2026-04-10", "33") == 1  # 73.00
        assert day(tenant, subscription, meter, "2026-04-11", "3") == 0
        assert day(tenant, subscription, meter, "2026-04-20", "311") == 1  # 100 + 287 × 0.333 = 195.57
        assert day(tenant, subscription, meter, "2026-04-25", "7") == 0
        use(plain, meter, "394", local("2026-04-20 12:00"))
        turn(tenant, local("2026-05-01 09:00"))
        run_billing(organisation=tenant)

        mine, theirs = invoices_of(subscription), invoices_of(control)
        assert amounts(mine) == ["500.00", "73.00", "122.57", "502.33"]
        assert lines_of(mine[2]) == [("Calls", "195.57"), ("Billed already: Calls", "-73.00")]
        assert lines_of(mine[3]) == [
            ("Base fee", "500.00"), ("Calls", "197.90"), ("Billed already: Calls", "-195.57"),
        ]  # fmt: skip
        assert sum(one.net.amount for one in mine) == sum(one.net.amount for one in theirs) == Decimal("1197.90")
        assert sum(one.total.amount for one in mine) == sum(one.total.amount for one in theirs)
        assert not CreditNote.objects.exists()
        passed_events = Event.objects.filter(type="subscription.usage_threshold_passed").order_by("id")
        assert [event.payload["threshold"] for event in passed_events] == ["50.0000", "150.0000"]

    def test_the_next_month_begins_anew(self, tenant):
        subscription, meter = agreed(tenant, thresholds=["50"], recurring=True)
        day(tenant, subscription, meter, "2026-04-10", "60")
        turn(tenant, local("2026-05-01 09:00"))
        run_billing(organisation=tenant)

        assert day(tenant, subscription, meter, "2026-05-10", "49") == 0
        assert day(tenant, subscription, meter, "2026-05-11", "1") == 1

        assert amounts(invoices_of(subscription)) == ["500.00", "60.00", "500.00", "50.00"]
        assert list(InterimInvoice.objects.order_by("id").values_list("number", flat=True)) == [1, 1]

    def test_running_again_finds_nothing(self, tenant):
        subscription, meter = agreed(tenant, thresholds=["50"])
        assert day(tenant, subscription, meter, "2026-04-10", "60") == 1

        assert interim.invoice_passed(organisation=tenant) == 0
        assert len(invoices_of(subscription)) == 2

    def test_an_annulled_one_is_not_taken_off(self, tenant):
        subscription, meter = agreed(tenant, thresholds=["50"])
        day(tenant, subscription, meter, "2026-04-10", "60")
        settling.void_invoice(invoice_id=invoices_of(subscription)[1].pk, actor=CLERK, reason="wrong")

        turn(tenant, local("2026-05-01 09:00"))
        run_billing(organisation=tenant)

        assert lines_of(invoices_of(subscription)[-1]) == [("Base fee", "500.00"), ("Calls", "60.00")]

    def test_a_cancellation_takes_it_off_too(self, tenant):
        subscription, meter = agreed(tenant, thresholds=["50"])
        day(tenant, subscription, meter, "2026-04-10", "60")
        use(subscription.customer, meter, "10", local("2026-04-11 12:00"))
        turn(tenant, local("2026-04-12 09:00"))

        acting.cancel(organisation=tenant, subscription_id=subscription.pk, actor=CLERK)

        assert lines_of(invoices_of(subscription)[-1]) == [("Calls", "70.00"), ("Billed already: Calls", "-60.00")]

    def test_the_dry_run_says_what_the_run_does(self, tenant):
        subscription, meter = agreed(tenant, thresholds=["50"])
        day(tenant, subscription, meter, "2026-04-10", "60")
        turn(tenant, local("2026-05-01 09:00"))

        dry = run_billing(organisation=tenant, dry_run=True)
        real = run_billing(organisation=tenant)

        assert (dry.billed, dry.invoices, dry.totals) == (real.billed, real.invoices, real.totals)
        assert (
            real.totals["INR"]
            == Invoice.objects.filter(subscription_ref=subscription.pk).order_by("-id")[0].total.amount
        )
