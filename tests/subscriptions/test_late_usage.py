"""Usage that changes after it was billed: on the next invoice, once, to the cent; and closed in the end."""

import random
from datetime import timedelta
from decimal import Decimal

import pytest
from moneyed import Money

from billing.models import Organisation, UsageAdjustment, UsageEvent, UsageWindow
from billing.selectors.usage import Window, aggregate
from billing.services import usage, usage_policy, usage_revisions
from billing.services.usage_retention import _guards
from invoices.drafts import LineInput
from invoices.models import Invoice
from subscriptions.late_usage import Correction, charges, credits_within
from subscriptions.selectors import unbilled_since
from subscriptions.services import changing, ended_usage, lifecycle, preview
from subscriptions.services.billing_run import run_billing
from subscriptions.services.catalog import PriceInput
from tests.subscriptions.house import (
    CLERK,
    amounts,
    credit_notes_of,
    flat,
    invoices_of,
    lines_of,
    live,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    seats,
    subscribe,
    turn,
    use,
)  # fmt: skip

pytestmark = pytest.mark.django_db
TIERS = [{"up_to": "100", "unit_price": "1.00"}, {"up_to": None, "unit_price": "0.50"}]
LATER = "usage recorded later, 1 Apr 2026 to 30 Apr 2026"


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def meter(tenant):
    return make_meter(tenant)


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


@pytest.fixture
def subscription(tenant, customer, meter):
    calls = PriceInput(code="calls", name="Calls", currency="INR", model="graduated", tiers=TIERS, meter="calls")
    return subscribe(customer, make_plan(tenant, flat("50.00"), calls))


def send(tenant, customer, event_id, quantity, day, **more):
    event = {"event_id": event_id, "meter": "calls", "customer": customer.external_id, "quantity": quantity,
             "occurred_at": local(f"{day} 12:00").isoformat()} | more  # fmt: skip
    (verdict,) = usage.ingest(organisation=tenant, events=[event])
    return verdict


def void(tenant, event_id):
    usage_revisions.void_event(organisation=tenant, event_id=event_id, reason="Never happened", actor=CLERK)


def test_a_late_event_is_on_the_next_invoice_by_the_prices_of_its_time(tenant, customer, subscription):
    live(tenant, local("2026-04-20 09:00"))
    send(tenant, customer, "a", "90", "2026-04-10")
    live(tenant, local("2026-05-02 09:00"))
    assert amounts(invoices_of(subscription)) == ["50.00", "140.00"]

    send(tenant, customer, "late", "30", "2026-04-12")
    live(tenant, local("2026-06-02 09:00"))

    assert lines_of(invoices_of(subscription)[-1]) == [("Base fee", "50.00"), (f"Calls: {LATER}", "20.00")]
    adjustment = UsageAdjustment.objects.get()
    assert (adjustment.number, adjustment.amount, adjustment.invoice_ref) == (1, 20, invoices_of(subscription)[-1].pk)
    live(tenant, local("2026-08-02 09:00"))
    assert amounts(invoices_of(subscription)) == ["50.00", "140.00", "70.00", "50.00", "50.00"]


def test_a_void_is_given_back_and_what_finds_no_room_waits(tenant, customer, subscription):
    live(tenant, local("2026-04-20 09:00"))
    for n in range(3):
        send(tenant, customer, f"e-{n}", "30", "2026-04-10")
    live(tenant, local("2026-05-02 09:00"))
    for n in range(3):
        void(tenant, f"e-{n}")

    live(tenant, local("2026-06-02 09:00"))
    assert amounts(invoices_of(subscription)) == ["50.00", "140.00", "0.00"]  # 50 in advance, less 50 of the 90
    assert UsageWindow.objects.exclude(owed=0).get().owed == 40
    live(tenant, local("2026-07-02 09:00"))
    assert lines_of(invoices_of(subscription)[-1])[-1] == (
        "Calls: credit for usage of 1 Apr 2026 to 30 Apr 2026",
        "-40.00",
    )
    live(tenant, local("2026-09-02 09:00"))
    assert amounts(invoices_of(subscription)) == ["50.00", "140.00", "0.00", "10.00", "50.00", "50.00"]
    assert not UsageWindow.objects.filter(closed_at=None, ends_at__lt=local("2026-07-30 00:00")).exists()


def test_the_preview_and_the_dry_run_say_what_then_happens(tenant, customer, subscription):
    live(tenant, local("2026-05-02 09:00"))
    send(tenant, customer, "late", "30", "2026-04-12")
    seen = preview.preview_change(organisation=tenant, subscription_id=subscription.pk, count=2)
    assert [one.priced.net for one in seen.invoices] == [Decimal(80), Decimal(50)]
    assert not UsageAdjustment.objects.exists()

    live(tenant, local("2026-07-02 09:00"))
    assert amounts(invoices_of(subscription))[-2:] == ["80.00", "50.00"]


def test_a_change_and_an_end_settle_what_changed(tenant, customer, subscription):
    live(tenant, local("2026-05-10 09:00"))
    send(tenant, customer, "late", "30", "2026-04-12")
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)
    assert lines_of(invoices_of(subscription)[-1]) == [(f"Calls: {LATER}", "30.00")]

    send(tenant, customer, "later", "5", "2026-04-12")
    assert ended_usage.settle_ended(organisation=tenant) == 1
    assert amounts(invoices_of(subscription))[-1] == "5.00"
    void(tenant, "late")
    assert [ended_usage.settle_ended(organisation=tenant) for _ in range(2)] == [1, 0]
    assert amounts(credit_notes_of(subscription)) == ["5.00", "25.00"]  # of the newest invoice first
    turn(tenant, local("2026-06-20 09:00"))
    assert ended_usage.settle_ended(organisation=tenant) == 0
    assert not UsageWindow.objects.filter(closed_at=None).exists()


def test_however_many_have_ended_only_those_with_changes_are_looked_at(
    tenant, meter, customer, subscription, django_assert_num_queries
):
    others = [make_customer(tenant) for _ in range(3)]
    ended = [subscription, *(subscribe(one, subscription.plan_version.plan) for one in others)]
    live(tenant, local("2026-05-10 09:00"))
    for one in ended:
        lifecycle.cancel(subscription_id=one.pk, actor=CLERK)
    tenant = Organisation.objects.get(pk=tenant.pk)

    with django_assert_num_queries(4):  # the time, the open windows, their meters' rules, their changes
        assert ended_usage.settle_ended(organisation=tenant) == 0

    send(tenant, others[1], "late", "5", "2026-04-12")
    assert ended_usage.settle_ended(organisation=tenant) == 1
    assert [len(invoices_of(one)) for one in ended] == [len(invoices_of(subscription))] * 2 + [
        len(invoices_of(subscription)) + 1
    ] + [len(invoices_of(subscription))]


def test_a_new_plan_now_remembers_what_it_billed(tenant, customer, subscription):
    other = make_plan(tenant, flat("50.00"), seats("2.00", code="calls", name="Calls", meter="calls"))
    live(tenant, local("2026-04-10 09:00"))
    send(tenant, customer, "a", "10", "2026-04-05")
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, version=other.versions.get())
    assert lines_of(invoices_of(subscription)[-1])[-1] == ("Calls", "10.00")
    send(tenant, customer, "b", "7", "2026-04-06")

    live(tenant, local("2026-05-02 09:00"))

    assert lines_of(invoices_of(subscription)[-1])[-1] == (
        "Calls: usage recorded later, 1 Apr 2026 to 10 Apr 2026",
        "7.00",
    )


def test_a_closed_window_takes_in_nothing(tenant, customer, subscription):
    usage_policy.change_policy(organisation=tenant, actor=CLERK, late_days=10)
    live(tenant, local("2026-04-20 09:00"))
    send(tenant, customer, "a", "10", "2026-04-05")
    live(tenant, local("2026-05-10 09:00"))
    assert send(tenant, customer, "b", "10", "2026-04-05").status == "accepted"
    live(tenant, local("2026-05-12 09:00"))

    refused = send(tenant, customer, "c", "10", "2026-04-05")
    assert (refused.status, refused.field) == ("rejected", "occurred_at")
    with pytest.raises(usage_revisions.WindowClosed):
        void(tenant, "a")
    usage_policy.change_policy(organisation=tenant, actor=CLERK, too_late="park")
    tenant.refresh_from_db()
    assert send(tenant, customer, "c", "10", "2026-04-05").status == "parked"
    live(tenant, local("2026-07-02 09:00"))
    assert amounts(invoices_of(subscription)) == ["50.00", "60.00", "60.00", "50.00"]


def test_usage_is_kept_until_it_is_billed(tenant, subscription):
    assert unbilled_since in _guards
    assert unbilled_since(tenant.pk) == subscription.usage_from


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_late_all_of_it_is_billed_once(tenant, customer, meter, seed):
    """Invoices less credits are the price of what counts in the end, by a flat price a unit."""
    chance = random.Random(seed)
    plan = make_plan(tenant, flat("20.00"), seats("0.25", code="calls", name="Calls", meter="calls"))
    subscription = subscribe(customer, plan)
    sent = []
    for step in range(1, 9):
        now = local(f"2026-{4 + step // 3:02}-{2 + step % 3 * 10:02} 10:00")
        live(tenant, now)
        for n in range(chance.randint(0, 3)):
            day = max(now - timedelta(days=chance.randint(1, 25)), local("2026-04-02 10:00")).date()
            name, quantity = f"e-{step}-{n}", str(chance.randint(1, 400))
            assert send(tenant, customer, name, quantity, day).status == "accepted"
            sent.append(name)
        if sent and chance.random() < 0.4:
            void(tenant, sent.pop(chance.randrange(len(sent))))
    live(tenant, local("2026-09-02 10:00"))

    year = Window(customer.pk, meter.pk, local("2026-01-01 00:00"), local("2026-09-01 00:00"))
    counted = aggregate([year]).get(year, Decimal(0))
    billed = sum(one.net.amount for one in Invoice.objects.filter(customer=customer))
    assert billed == counted * Decimal("0.25") + 6 * 20
    assert UsageEvent.objects.count() >= len(sent)
    assert invoices_of(subscription)


def test_credits_never_take_a_category_below_zero():
    def line(amount, category="saas"):
        return LineInput(description="x", code="c", amount=Money(amount, "INR"), tax_category=category)

    first = Correction(None, 1, "INR", [], [], lines=[line(-30), line(-5, "goods")])
    second = Correction(None, 1, "INR", [], [], lines=[line(-30), line(8)])
    charged = [line(40), *charges([first, second])]
    for _ in range(2):  # asked again, it says the same
        lines = [*charged, *credits_within(charged, [first, second])]

    assert [(one.tax_category, one.amount.amount) for one in lines] == [
        ("saas", 40), ("saas", 8), ("saas", -30), ("saas", -18),
    ]  # fmt: skip
    assert (first.owed, second.owed) == (5, 12)


def test_a_dry_run_writes_no_window(tenant, customer, subscription):
    turn(tenant, local("2026-05-02 09:00"))
    use(customer, subscription.plan_version.prices.get(code="calls").meter, "5", local("2026-04-12 09:00"))
    run_billing(organisation=tenant, dry_run=True)
    assert not UsageWindow.objects.exists()
