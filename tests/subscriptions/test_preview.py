"""The preview writes nothing, and what then happens equals it to the cent."""

import random
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.errors import NotFound
from subscriptions import errors
from subscriptions.services import changing, lifecycle, preview, quoting
from subscriptions.services.catalog import PriceInput
from subscriptions.services.lifecycle import Agreement
from tests.subscriptions.house import (
    CLERK,
    credit_notes_of,
    flat,
    fresh,
    invoices_of,
    live,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
    use,
)

pytestmark = pytest.mark.django_db
TIERS = [{"up_to": "10", "unit_price": "0", "flat_fee": "5"}, {"up_to": None, "unit_price": "0.333"}]


@pytest.fixture
def tenant():
    return make_organisation(local("2026-01-31 09:00"))


def calls(price, **extra):
    return PriceInput(
        code="calls", name="Calls", currency="INR", model="per_unit", unit_price=Decimal(price), meter="calls", **extra
    )


def said(previewed):
    """A preview as plain values."""
    return (
        [
            (
                invoice.period_start,
                invoice.period_end,
                [(line.given.description, line.amount, line.tax) for line in invoice.priced.lines],
                invoice.priced.net,
                invoice.priced.tax,
                invoice.priced.total,
            )
            for invoice in previewed.invoices
        ],
        [
            (credit.invoice.pk, credit.priced.net, credit.priced.tax, credit.priced.total)
            for credit in previewed.credits
        ],
    )


def happened(invoices, notes):
    """Documents as the same plain values."""
    return (
        [
            (
                invoice.period_start,
                invoice.period_end,
                [(line.description, line.amount.amount, line.tax.amount) for line in invoice.lines.all()],
                invoice.net.amount,
                invoice.tax.amount,
                invoice.total.amount,
            )
            for invoice in invoices
        ],
        [(note.invoice_id, note.net.amount, note.tax.amount, note.total.amount) for note in notes],
    )


def random_plan(tenant, dice, interval="month"):
    prices = [flat(f"{dice.randint(0, 99999) / 100:.2f}", tax_category="saas")]
    if dice.random() < 0.7:
        prices.append(seats(f"{dice.randint(1, 99999) / 100:.2f}", tax_category=dice.choice(["saas", ""])))
    if dice.random() < 0.3:
        prices.append(
            PriceInput(code="desks", name="Desks", currency="INR", model="graduated", tiers=TIERS, tax_category="saas")
        )
    if dice.random() < 0.5:
        prices.append(calls(f"{dice.randint(1, 500) / 1000:.3f}", tax_category="saas"))
    return make_plan(tenant, *prices, interval=interval)


@pytest.mark.parametrize("seed", range(24))
def test_a_change_costs_what_its_preview_said(tenant, seed):
    dice = random.Random(seed)
    meter, customer = make_meter(tenant), make_customer(tenant)
    old, new = random_plan(tenant, dice), random_plan(tenant, dice, dice.choice(["month", "month", "year", "week"]))
    subscription = subscribe(customer, old, quantity=dice.randint(1, 40))
    run(tenant)
    live(tenant, local(f"2026-0{dice.randint(2, 4)}-{dice.randint(1, 28):02} {dice.randint(0, 23):02}:30"))
    for _ in range(3):
        use(customer, meter, str(dice.randint(1, 50)), fresh(subscription).period_start)
    terms = {"quantity": dice.randint(1, 40), "when": dice.choice(["now", "now", "period_end"])}
    if dice.random() < 0.6:
        terms["version"] = changing.version_for(organisation=tenant, plan_id=new.pk)
    before = {invoice.pk for invoice in invoices_of(subscription)}

    with CaptureQueriesContext(
        connection,
    ) as queries:
        previewed = preview.preview_change(organisation=tenant, subscription_id=subscription.pk, count=2, **terms)
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, **terms)
    for invoice in previewed.invoices:
        turn(tenant, invoice.at)
        run(tenant)

    issued = [invoice for invoice in invoices_of(subscription) if invoice.pk not in before]
    assert said(previewed) == happened(issued, credit_notes_of(subscription))
    assert not [
        query for query in queries if not query["sql"].lstrip().startswith("SELECT") and "unnest" not in query["sql"]
    ]


@pytest.mark.parametrize(
    ("agreed", "invoices"),
    [
        ({}, 2),
        ({"quantity": 7, "trial_days": 14}, 2),
        ({"start_at": "2025-10-31 12:00"}, 4),  # four periods are due at once
        ({"start_at": "2026-02-10 12:00"}, 2),
        ({"ends_at": "2026-03-10 12:00"}, 2),
        ({"ends_at": "2026-02-10 12:00"}, 1),
    ],
)
def test_a_new_subscription_costs_what_its_preview_said(tenant, agreed, invoices):
    customer, plan = make_customer(tenant), make_plan(tenant, flat("99.90", tax_category="saas"), seats("33.33"))
    agreed = {key: local(value) if isinstance(value, str) else value for key, value in agreed.items()}
    agreement = Agreement(customer_id=customer.pk, plan_id=plan.pk, **agreed)

    previewed = preview.preview_new(organisation=tenant, agreement=agreement, count=2)
    subscription = lifecycle.begin(organisation=tenant, actor=CLERK, agreement=agreement)
    for invoice in previewed.invoices:
        turn(tenant, invoice.at)
        run(tenant)

    assert len(previewed.invoices) == invoices
    assert said(previewed) == happened(invoices_of(subscription), [])


def test_without_a_change_the_coming_invoices_are_shown(tenant):
    meter, customer = make_meter(tenant), make_customer(tenant)
    subscription = subscribe(customer, make_plan(tenant, seats("100.00"), calls("2")), quantity=2)
    run(tenant)
    use(customer, meter, "4", local("2026-02-01 12:00"))
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=5, when="period_end")

    coming = preview.preview_change(organisation=tenant, subscription_id=subscription.pk, count=2)

    assert [(invoice.at, invoice.priced.total) for invoice in coming.invoices] == [
        (local("2026-02-28 00:00"), Decimal("508.00")),
        (local("2026-03-31 00:00"), Decimal("500.00")),
    ]


def test_nothing_comes_after_a_planned_end(tenant):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, seats("100.00")))
    run(tenant)
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, when="period_end")

    assert preview.preview_change(organisation=tenant, subscription_id=subscription.pk).invoices == ()


def test_a_preview_refuses_what_the_change_refuses(tenant):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, seats("100.00")))
    run(tenant)
    other = make_organisation(local("2026-01-31 09:00"))

    with pytest.raises(NotFound):
        preview.preview_change(organisation=other, subscription_id=subscription.pk)
    with pytest.raises(errors.NothingToChange):
        preview.preview_change(organisation=tenant, subscription_id=subscription.pk, quantity=1)
    with pytest.raises(errors.InvalidSubscription):
        preview.preview_change(organisation=tenant, subscription_id=subscription.pk, quantity=0)


def test_a_quote_prices_every_component(tenant):
    make_meter(tenant)
    plan = make_plan(tenant, flat("100.00"), seats("33.335"), calls("0.5"))

    found = quoting.quote(
        organisation=tenant,
        plan_id=plan.pk,
        quantity=3,
        usage=[quoting.Measured(component="calls", quantity=Decimal(7))],
    )

    assert [(line.code, str(line.priced.amount.amount)) for line in found.lines] == [
        ("base", "100.00"),
        ("seats", "100.01"),
        ("calls", "3.50"),
    ]
    assert str(found.total.amount) == "203.51"
    with pytest.raises(errors.InvalidSubscription):
        quoting.quote(
            organisation=tenant, plan_id=plan.pk, usage=[quoting.Measured(component="seats", quantity=Decimal(1))]
        )
