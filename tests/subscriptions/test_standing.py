"""What invoices and the clock do to subscriptions, through events and jobs."""

import pytest

from billing.models import Event
from billing.services import clock_jobs, outbox
from invoices.models import Invoice, Mail
from invoices.services import credit_notes, settling
from subscriptions.models import DunningCase
from subscriptions.services import catalog, changes, dunning, lifecycle
from subscriptions.services.rows import Status
from tests.subscriptions.house import (
    CLERK,
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
    subscribe,
    turn,
    use,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def subscription(tenant):
    row = subscribe(make_customer(tenant), make_plan(tenant, flat("100.00")))
    run(tenant)
    return row


def make_overdue(invoice):
    Invoice.objects.filter(pk=invoice.pk).update(overdue_at=local("2026-04-05 00:00"))
    outbox.publish("invoice.overdue", invoice, invoice_id=str(invoice.pk))


def settle(invoice):
    Invoice.objects.filter(pk=invoice.pk).update(status="paid", paid=invoice.total, due=0)
    outbox.publish("invoice.paid", invoice, invoice_id=str(invoice.pk))


def hand_over(tenant):
    while outbox.dispatch(tenant.pk):
        pass


def test_an_overdue_invoice_makes_past_due_and_billing_goes_on(tenant, subscription):
    make_overdue(invoices_of(subscription)[0])
    hand_over(tenant)

    assert fresh(subscription).status == Status.PAST_DUE
    live(tenant, local("2026-05-01 09:00"))
    assert len(invoices_of(subscription)) == 2


def test_it_recovers_when_the_last_overdue_invoice_is_paid(tenant, subscription):
    live(tenant, local("2026-05-01 09:00"))
    first, second = invoices_of(subscription)
    for invoice in (first, second):
        make_overdue(invoice)
    hand_over(tenant)

    settle(first)
    hand_over(tenant)
    assert fresh(subscription).status == Status.PAST_DUE
    settle(second)
    hand_over(tenant)

    assert fresh(subscription).status == Status.ACTIVE
    types = list(Event.objects.filter(aggregate_id=subscription.pk).order_by("id").values_list("type", flat=True))
    assert types[-2:] == ["subscription.past_due", "subscription.recovered"]


def credit_in_full(invoice):
    credit_notes.issue_credit_note(invoice_id=invoice.pk, amounts=None, reason="Goodwill", actor=CLERK)


def void(invoice):
    settling.void_invoice(invoice_id=invoice.pk, reason="Wrong", actor=CLERK)


def write_off(invoice):
    settling.write_off_invoice(invoice_id=invoice.pk, reason="Goodwill", actor=CLERK)


@pytest.mark.parametrize("forgive", [write_off, void, credit_in_full])
@pytest.mark.parametrize("suspend", [False, True])
def test_a_debt_that_is_forgiven_by_hand_is_settled(tenant, subscription, forgive, suspend):
    invoice = invoices_of(subscription)[0]
    make_overdue(invoice)
    hand_over(tenant)
    if suspend:
        lifecycle.suspend(subscription_id=subscription.pk, actor=CLERK)

    forgive(invoice)
    hand_over(tenant)

    assert fresh(subscription).status == Status.ACTIVE
    assert DunningCase.objects.get(invoice=invoice).status == ("exhausted" if forgive is write_off else "closed")
    types = list(Event.objects.filter(aggregate_id=subscription.pk).order_by("id").values_list("type", flat=True))
    assert types.count("subscription.recovered") == 1


def test_forgiving_one_of_two_debts_is_not_enough(tenant, subscription):
    live(tenant, local("2026-05-01 09:00"))
    for invoice in invoices_of(subscription):
        make_overdue(invoice)
    hand_over(tenant)

    write_off(invoices_of(subscription)[0])
    hand_over(tenant)

    assert fresh(subscription).status == Status.PAST_DUE


def test_a_write_off_by_dunning_itself_does_not_serve_again(tenant, subscription):
    dunning.create_policy(
        organisation=tenant, code="strict", is_default=True, actor=CLERK,
        stages=[{"after_days": 5, "actions": ["suspend"]}, {"after_days": 9, "actions": ["write_off"]}],
    )  # fmt: skip
    make_overdue(invoices_of(subscription)[0])
    hand_over(tenant)
    for day in ("2026-04-07 09:00", "2026-04-11 09:00"):
        turn(tenant, local(day))
        dunning.run_dunning(organisation=tenant)
        hand_over(tenant)

    assert Invoice.objects.get(pk=invoices_of(subscription)[0].pk).status == "uncollectible"
    assert fresh(subscription).status == Status.SUSPENDED


def test_late_news_of_a_paid_invoice_change_nothing(tenant, subscription):
    invoice = invoices_of(subscription)[0]
    settle(invoice)
    make_overdue(Invoice.objects.get(pk=invoice.pk))
    hand_over(tenant)

    assert fresh(subscription).status == Status.ACTIVE


def test_the_clock_tells_of_a_trials_end_once_and_starts_the_paid_time(tenant):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, flat("100.00"), trial_days=10))
    names = [job.name for job in clock_jobs.jobs()]
    assert names.index("subscriptions.apply_changes") < names.index("subscriptions.billing_run")

    told = []
    for day in range(2, 13):
        turn(tenant, local(f"2026-04-{day:02} 09:00"))
        told.append(clock_jobs.run("subscriptions.trial_notices", tenant))
        clock_jobs.run("subscriptions.apply_changes", tenant)
        clock_jobs.run("subscriptions.billing_run", tenant)

    assert [day for day, count in enumerate(told, start=2) if count] == [8]
    mail = Mail.objects.get(key=f"trial_ending:{subscription.pk}")
    assert (mail.kind, mail.context["trial_ends_on"]) == ("trial_ending", "2026-04-11")
    assert fresh(subscription).status == Status.ACTIVE
    assert len(invoices_of(subscription)) == 1


def test_what_cannot_be_applied_is_set_aside_with_the_reason(tenant):
    customer = make_customer(tenant)
    meter = make_meter(tenant)
    calls = catalog.PriceInput(
        code="calls",
        name="Calls",
        currency="INR",
        model="per_unit",
        unit_price="1",
        meter="calls",
        tax_category="unknown",
    )
    broken, sound = subscribe(customer, make_plan(tenant, calls)), subscribe(customer, make_plan(tenant, flat("9.00")))
    run(tenant)
    use(customer, meter, "5", local("2026-04-05 12:00"))
    for row in (broken, sound):
        lifecycle.cancel(subscription_id=row.pk, actor=CLERK, when="period_end")

    turn(tenant, local("2026-05-01 12:00"))
    assert changes.apply_due(organisation=tenant) == 1

    assert fresh(sound).status == Status.CANCELLED
    assert fresh(broken).status == Status.ACTIVE
    assert fresh(broken).failure.startswith("missing_tax_rate")


def test_a_refused_change_leaves_no_mark_on_a_row_that_was_changed_since(tenant, subscription, monkeypatch):
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, when="period_end")
    turn(tenant, local("2026-05-01 09:00"))

    def refuse(*, subscription_id, due_at):
        lifecycle.uncancel(subscription_id=subscription_id, actor=CLERK)  # another worker, the moment before
        raise RuntimeError("refused")

    monkeypatch.setattr(changes, "apply_to", refuse)

    assert changes.apply_due(organisation=tenant) == 0
    assert fresh(subscription).failure == ""
