"""Usage that is charged in advance: invoiced soon after it happens, up to the highest level of the period, and never twice."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing.models import Event, Meter
from billing.services import usage_revisions
from billing.services.usage import ingest
from invoices.models import CreditNote
from invoices.services import settling
from subscriptions.errors import InvalidPlan
from subscriptions.models import InterimInvoice, UsageThreshold
from subscriptions.pricing import InvalidPrice
from subscriptions.services import acting, interim, preview
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
    use,
)

pytestmark = pytest.mark.django_db
GRADUATED = {
    "model": "graduated", "unit_price": None,
    "tiers": [{"up_to": "100", "unit_price": "1.00"}, {"up_to": None, "unit_price": "0.333"}],
}  # fmt: skip


@pytest.fixture
def tenant(db):
    return make_organisation(local("2026-04-01 09:00"))


def metered(code="calls", **extra):
    prices = seats("1.00", code=code, name=code.title(), meter=code, tax_category="saas", pay_in_advance=True)
    return prices.__class__(**{name: getattr(prices, name) for name in prices.__dataclass_fields__} | extra)


def agreed(tenant, *prices, **extra):
    """A subscription whose first month is billed; usage in advance is invoiced whenever somebody looks."""
    extra.setdefault("rules", {"usage_in_advance_hours": 0})
    subscription = subscribe(
        make_customer(tenant), make_plan(tenant, flat("500.00", tax_category="saas"), *prices, **extra)
    )
    run_billing(organisation=tenant)
    return subscription


def look(tenant, text):
    turn(tenant, local(text))
    return interim.invoice_passed(organisation=tenant)


def close_month(tenant, text="2026-05-01 09:00"):
    turn(tenant, local(text))
    run_billing(organisation=tenant)


@pytest.mark.parametrize(
    ("ours", "plans", "hours"),
    [({}, {}, 24), ({"usage_in_advance_hours": 6}, {}, 6), ({}, {"usage_in_advance_hours": 48}, 48)],
)
def test_not_more_often_than_was_chosen(tenant, ours, plans, hours):
    tenant.settings["subscriptions"] = ours
    tenant.save()
    meter = make_meter(tenant)
    subscription = agreed(tenant, metered(), rules=plans)
    first = local("2026-04-05 13:00")
    use(subscription.customer, meter, "10", local("2026-04-05 12:00"))
    assert look(tenant, "2026-04-05 13:00") == 1
    use(subscription.customer, meter, "5", local("2026-04-05 13:05"))

    turn(tenant, first + timedelta(hours=hours, seconds=-1))
    assert interim.invoice_passed(organisation=tenant) == 0
    turn(tenant, first + timedelta(hours=hours))
    assert interim.invoice_passed(organisation=tenant) == 1
    assert amounts(invoices_of(subscription)) == ["500.00", "10.00", "5.00"]


def test_usage_is_invoiced_soon_after_and_the_month_costs_what_one_bill_would(tenant):
    meter = make_meter(tenant)
    subscription = agreed(tenant, metered(**GRADUATED))

    assert look(tenant, "2026-04-05 09:00") == 0
    use(subscription.customer, meter, "73", local("2026-04-05 12:00"))
    assert look(tenant, "2026-04-05 13:00") == 1
    assert look(tenant, "2026-04-05 14:00") == 0
    use(subscription.customer, meter, "314", local("2026-04-20 12:00"))
    assert look(tenant, "2026-04-20 13:00") == 1  # 100 + 287 x 0.333 = 195.57
    use(subscription.customer, meter, "7", local("2026-04-30 23:59"))
    close_month(tenant)

    mine = invoices_of(subscription)
    assert amounts(mine) == ["500.00", "73.00", "122.57", "502.33"]
    assert lines_of(mine[2]) == [("Calls", "195.57"), ("Billed already: Calls", "-73.00")]
    assert lines_of(mine[3]) == [("Base fee", "500.00"), ("Calls", "197.90"), ("Billed already: Calls", "-195.57")]
    assert [f"{row.threshold.amount:.0f} {row.used.amount:.2f}" for row in InterimInvoice.objects.order_by("id")] == [
        "0 73.00", "0 195.57",
    ]  # fmt: skip
    told = Event.objects.filter(type="subscription.usage_invoiced").order_by("id")
    assert [event.payload["used"] for event in told] == ["73.00", "195.57"]
    assert not Event.objects.filter(type="subscription.usage_threshold_passed").exists()
    assert not CreditNote.objects.exists()
    assert look(tenant, "2026-05-01 10:00") == 0


def events(tenant, meter, customer, *given):
    """Events as they are sent: (id, time, quantity or properties)."""
    sent = [
        {
            "event_id": key,
            "meter": meter.code,
            "customer": customer.external_id,
            "occurred_at": local(f"2026-{at}").isoformat(),
        }
        | ({"properties": what} if isinstance(what, dict) else {"quantity": what})
        for key, at, what in given
    ]
    verdicts = ingest(organisation=tenant, events=sent)
    assert all(one.status == "accepted" for one in verdicts), verdicts


def recurring_sum(tenant):
    return Meter.objects.create(
        organisation=tenant, code="users", name="Users", aggregation="sum", recurring=True, unit="user"
    )


def test_a_later_decrease_is_not_paid_back_and_only_what_lies_above_the_peak_is_charged(tenant):
    meter = recurring_sum(tenant)
    subscription = agreed(tenant, metered("users"))
    customer = subscription.customer

    turn(tenant, local("2026-04-20 12:00"))
    events(tenant, meter, customer, ("a", "04-02 10:00", "5"))
    assert look(tenant, "2026-04-21 11:00") == 1
    turn(tenant, local("2026-04-21 14:00"))
    events(tenant, meter, customer, ("b", "04-21 12:00", "-3"), ("c", "04-21 13:00", "2"))
    assert look(tenant, "2026-04-21 14:30") == 0  # four users, five were invoiced
    turn(tenant, local("2026-04-21 16:00"))
    events(tenant, meter, customer, ("d", "04-21 15:00", "4"), ("e", "04-21 15:30", "-6"))
    assert look(tenant, "2026-04-21 16:30") == 1  # eight for half an hour
    close_month(tenant)

    assert amounts(invoices_of(subscription)) == ["500.00", "5.00", "3.00", "500.00"]
    assert lines_of(invoices_of(subscription)[-1]) == [
        ("Base fee", "500.00"), ("Users", "8.00"), ("Billed already: Users", "-8.00"),
    ]  # fmt: skip
    assert not credit_notes_of(subscription)
    assert look(tenant, "2026-05-01 10:00") == 1  # two users are left, and are charged for the new month
    assert amounts(invoices_of(subscription))[-1] == "2.00"


def test_a_unique_count_is_charged_by_the_most_that_were_there_at_once(tenant):
    meter = Meter.objects.create(
        organisation=tenant, code="users", name="Users", aggregation="unique", unique_property="user", unit="user"
    )
    subscription = agreed(tenant, metered("users"))
    customer = subscription.customer
    turn(tenant, local("2026-04-03 12:00"))

    events(
        tenant, meter, customer, ("a", "04-02 10:00", {"user": "asha"}), ("b", "04-02 11:00", {"user": "ravi"}),
        ("c", "04-02 12:00", {"user": "asha", "operation": "remove"}), ("d", "04-02 13:00", {"user": "mira"}),
    )  # fmt: skip
    assert look(tenant, "2026-04-03 13:00") == 1
    events(tenant, meter, customer, ("e", "04-03 12:30", {"user": "john"}))
    assert look(tenant, "2026-04-03 14:00") == 1
    close_month(tenant)

    assert amounts(invoices_of(subscription)) == ["500.00", "2.00", "1.00", "500.00"]


def test_what_never_was_used_goes_back_at_the_periods_end(tenant):
    meter = make_meter(tenant)
    subscription = agreed(tenant, metered())
    turn(tenant, local("2026-04-03 12:00"))
    events(tenant, meter, subscription.customer, ("a", "04-02 10:00", "60"), ("b", "04-02 11:00", "40"))
    assert look(tenant, "2026-04-03 13:00") == 1

    usage_revisions.void_event(organisation=tenant, event_id="a", reason="sent by mistake", actor=CLERK)
    assert look(tenant, "2026-04-03 14:00") == 0
    events(tenant, meter, subscription.customer, ("c", "04-03 13:30", "25"))
    assert look(tenant, "2026-04-03 15:00") == 0  # it is taken from what was invoiced too much
    close_month(tenant)

    assert amounts(invoices_of(subscription)) == ["500.00", "100.00", "500.00"]
    assert amounts(credit_notes_of(subscription)) == ["35.00"]


def test_late_usage_of_a_closed_period_is_on_the_next_invoice_by_the_peak(tenant):
    meter = recurring_sum(tenant)
    subscription = agreed(tenant, metered("users"))
    turn(tenant, local("2026-04-20 12:00"))
    events(tenant, meter, subscription.customer, ("a", "04-02 10:00", "5"), ("b", "04-10 10:00", "-5"))
    look(tenant, "2026-04-20 13:00")
    close_month(tenant)

    events(tenant, meter, subscription.customer, ("late", "04-05 10:00", "2"), ("back", "04-06 10:00", "-2"))
    close_month(tenant, "2026-06-01 09:00")

    assert amounts(invoices_of(subscription)) == ["500.00", "5.00", "500.00", "502.00"]
    assert lines_of(invoices_of(subscription)[-1])[-1] == (
        "Users: usage recorded later, 1 Apr 2026 to 30 Apr 2026", "2.00",
    )  # fmt: skip


def test_fees_and_minimums_of_events_hold(tenant):
    meter = make_meter(tenant, "sales")
    subscription = agreed(
        tenant,
        metered(
            "sales",
            model="percentage",
            unit_price=None,
            properties={"rate": "1", "fixed_fee": "0.25", "min_per_event": "2"},
        ),
    )
    use(subscription.customer, meter, "100", local("2026-04-05 12:00"))  # 1.25: at least 2
    assert look(tenant, "2026-04-05 13:00") == 1
    use(subscription.customer, meter, "1000", local("2026-04-05 14:00"))  # 10.25
    use(subscription.customer, meter, "50", local("2026-04-05 14:30"))  # 2
    assert look(tenant, "2026-04-05 15:00") == 1
    close_month(tenant)

    assert amounts(invoices_of(subscription)) == ["500.00", "2.00", "12.25", "500.00"]


def test_usage_charged_afterwards_waits_beside_it(tenant):
    calls, storage = make_meter(tenant), make_meter(tenant, "storage")
    subscription = agreed(tenant, metered(), metered("storage", pay_in_advance=False))
    use(subscription.customer, calls, "10", local("2026-04-05 12:00"))
    use(subscription.customer, storage, "20", local("2026-04-05 12:00"))

    assert look(tenant, "2026-04-05 13:00") == 1
    close_month(tenant)

    mine = invoices_of(subscription)
    assert lines_of(mine[1]) == [("Calls", "10.00")]
    assert lines_of(mine[2]) == [
        ("Base fee", "500.00"), ("Calls", "10.00"), ("Storage", "20.00"), ("Billed already: Calls", "-10.00"),
    ]  # fmt: skip


def test_a_threshold_counts_what_is_charged_afterwards_and_takes_the_rest_along(tenant):
    calls, storage = make_meter(tenant), make_meter(tenant, "storage")
    subscription = agreed(tenant, metered(), metered("storage", pay_in_advance=False))
    UsageThreshold.objects.create(
        organisation=tenant,
        subscription=subscription,
        amount=Decimal(30),
        currency="INR",
        created_at=local("2026-04-01 09:00"),
    )
    use(subscription.customer, calls, "100", local("2026-04-05 12:00"))
    use(subscription.customer, storage, "20", local("2026-04-05 12:00"))
    assert look(tenant, "2026-04-05 13:00") == 1  # the calls only
    use(subscription.customer, calls, "5", local("2026-04-06 12:00"))
    use(subscription.customer, storage, "11", local("2026-04-06 12:00"))
    assert look(tenant, "2026-04-06 13:00") == 1
    use(subscription.customer, calls, "1", local("2026-04-07 12:00"))
    assert look(tenant, "2026-04-07 13:00") == 1
    close_month(tenant)

    assert amounts(invoices_of(subscription)) == ["500.00", "100.00", "36.00", "1.00", "500.00"]
    thresholds = InterimInvoice.objects.order_by("id").values_list("threshold", flat=True)
    assert [f"{one:.0f}" for one in thresholds] == ["0", "30", "0"]


def test_a_cancellation_charges_the_rest_only(tenant):
    meter = make_meter(tenant)
    subscription = agreed(tenant, metered())
    use(subscription.customer, meter, "60", local("2026-04-10 12:00"))
    look(tenant, "2026-04-10 13:00")
    use(subscription.customer, meter, "10", local("2026-04-11 12:00"))
    turn(tenant, local("2026-04-12 09:00"))

    acting.cancel(organisation=tenant, subscription_id=subscription.pk, actor=CLERK)

    assert lines_of(invoices_of(subscription)[-1]) == [("Calls", "70.00"), ("Billed already: Calls", "-60.00")]
    assert look(tenant, "2026-04-12 10:00") == 0


def test_an_annulled_invoice_is_written_again(tenant):
    meter = make_meter(tenant)
    subscription = agreed(tenant, metered())
    use(subscription.customer, meter, "60", local("2026-04-10 12:00"))
    look(tenant, "2026-04-10 13:00")
    settling.void_invoice(invoice_id=invoices_of(subscription)[1].pk, actor=CLERK, reason="wrong address")

    assert look(tenant, "2026-04-10 14:00") == 1
    close_month(tenant)

    assert amounts(invoices_of(subscription)) == ["500.00", "60.00", "60.00", "500.00"]


def test_minimums_count_what_was_charged_in_advance(tenant):
    meter = make_meter(tenant)
    subscription = agreed(tenant, metered(min_commitment=Decimal("80.00")), min_commitment={"INR": "600.00"})
    use(subscription.customer, meter, "60", local("2026-04-10 12:00"))
    assert look(tenant, "2026-04-10 13:00") == 1
    close_month(tenant)

    assert lines_of(invoices_of(subscription)[-1]) == [
        ("Base fee", "500.00"), ("Calls", "60.00"), ("Calls: up to the minimum", "20.00"),
        ("Plan: up to the minimum", "20.00"), ("Billed already: Calls", "-60.00"),
    ]  # fmt: skip


def test_the_dry_run_equals_the_run(tenant):
    meter = make_meter(tenant)
    subscription = agreed(tenant, metered())
    use(subscription.customer, meter, "60", local("2026-04-10 12:00"))
    look(tenant, "2026-04-10 13:00")
    turn(tenant, local("2026-05-01 09:00"))

    dry, real = run_billing(organisation=tenant, dry_run=True), run_billing(organisation=tenant)

    assert (dry.invoices, dry.totals) == (real.invoices, real.totals) == (1, {"INR": Decimal("590.00")})


@pytest.mark.parametrize(
    ("aggregation", "extra", "field"),
    [
        (
            "sum",
            {"model": "volume", "unit_price": None, "tiers": [{"up_to": None, "unit_price": "1"}]},
            "prices[0].pay_in_advance",
        ),
        ("weighted", {}, "prices[0].pay_in_advance"),
    ],
)
def test_what_is_known_at_the_end_only_is_refused_in_advance(tenant, aggregation, extra, field):
    make_meter(tenant, aggregation=aggregation)

    with pytest.raises((InvalidPrice, InvalidPlan)) as refused:
        make_plan(tenant, metered(**extra))

    assert refused.value.field == field


@pytest.mark.parametrize("then", ["", "cancel"])
def test_the_preview_shows_what_is_about_to_be_invoiced(tenant, then):
    meter = make_meter(tenant)
    subscription = agreed(tenant, metered())
    use(subscription.customer, meter, "60", local("2026-04-10 12:00"))
    turn(tenant, local("2026-04-10 13:00"))

    found = preview.preview_action(
        organisation=tenant, subscription_id=subscription.pk, action=then, count=2 - bool(then)
    )
    if then:
        acting.cancel(organisation=tenant, subscription_id=subscription.pk, actor=CLERK)
    look(tenant, "2026-04-10 13:00")
    close_month(tenant)

    real = [one.total.amount for one in invoices_of(subscription)][1:]
    assert [one.priced.total for one in found.invoices] == real
    assert len(real) == 2 - bool(then)


def test_two_workers_and_a_crash_bill_it_once(tenant, monkeypatch):
    meter = make_meter(tenant)
    subscription = agreed(tenant, metered())
    use(subscription.customer, meter, "60", local("2026-04-10 12:00"))
    turn(tenant, local("2026-04-10 13:00"))
    note, reached = interim._note, interim._reached

    def crash(*about):
        note(*about)
        raise RuntimeError("killed")

    monkeypatch.setattr(interim, "_note", crash)
    with pytest.raises(RuntimeError):
        interim.invoice_passed(organisation=tenant)
    assert amounts(invoices_of(subscription)) == ["500.00"]
    monkeypatch.setattr(interim, "_note", note)

    others = []

    def another_first(cycles, asked, thresholds):
        """After this worker has found what is owed, and before it locks the row, another one bills it."""
        found = reached(cycles, asked, thresholds)
        if not others:
            others.append(True)
            others.append(interim.invoice_passed(organisation=tenant))
        return found

    monkeypatch.setattr(interim, "_reached", another_first)

    assert interim.invoice_passed(organisation=tenant) == 0
    assert others == [True, 1]
    assert amounts(invoices_of(subscription)) == ["500.00", "60.00"]
