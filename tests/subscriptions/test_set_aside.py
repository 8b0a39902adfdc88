"""A subscription that was set aside loses nothing: no period is skipped, no change comes before the bill, none sticks."""

from datetime import date

import pytest

from billing.errors import DomainError
from billing.models import AuditRecord
from invoices.models import Invoice, TaxRate
from subscriptions.api.billing_cycles import BillingCycleViewSet
from subscriptions.errors import BillingBehind, DraftNotPriced
from subscriptions.models import DraftCycle, FailedCycle
from subscriptions.services import acting, dunning_measures, lifecycle, preview, standing
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.draft_finalizing import finalize_due
from subscriptions.services.retrying import retry_run
from subscriptions.services.rows import Status
from tests.subscriptions.house import (
    CLERK,
    amounts,
    credit_notes_of,
    events_of,
    flat,
    fresh,
    invoices_of,
    live,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    subscribe,
    turn,
)
from tests.subscriptions.test_console import browser, page
from tests.subscriptions.test_terms import pay

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


def rate_until(tenant, last):
    """A category of tax whose rate ends; give it a new one and what it holds up can be billed."""
    return TaxRate.objects.create(
        organisation=tenant, category="short", country="IN", rate="18", code="9983", valid_from=date(2017, 7, 1),
        valid_until=last,
    )  # fmt: skip


def mend(rate):
    TaxRate.objects.filter(pk=rate.pk).update(valid_until=None)


@pytest.fixture
def poisoned(tenant, customer):
    """Set aside on 1 May with its reason; ``rate`` mends it."""
    rate = rate_until(tenant, date(2026, 4, 20))
    subscription = subscribe(customer, make_plan(tenant, flat("31.00", tax_category="short")))
    run(tenant)
    turn(tenant, local("2026-05-01 09:00"))
    run(tenant)
    assert fresh(subscription).failure.startswith("missing_tax_rate")
    subscription.rate = rate
    return subscription


def about(subscription):
    return {"organisation": subscription.organisation, "subscription_id": subscription.pk, "actor": CLERK}


@pytest.mark.parametrize("action", ["cancel", "pause", "suspend"])
def test_an_unbilled_period_is_not_lost_to_an_end_or_a_pause(tenant, poisoned, action):
    turn(tenant, local("2026-05-20 09:00"))

    with pytest.raises(BillingBehind, match=r"2026-05-01 could not be billed .missing_tax_rate"):
        getattr(acting, action)(**about(poisoned))
    assert fresh(poisoned).status == Status.ACTIVE

    mend(poisoned.rate)
    acting.take_up_again(**about(poisoned))
    getattr(acting, action)(**about(poisoned))
    assert amounts(invoices_of(poisoned)) == ["31.00", "31.00"]


@pytest.mark.parametrize("action", ["cancel", "pause"])
def test_the_preview_says_so_too(tenant, poisoned, action):
    turn(tenant, local("2026-05-20 09:00"))

    with pytest.raises(BillingBehind):
        preview.preview_action(organisation=tenant, subscription_id=poisoned.pk, action=action)


def test_what_cannot_be_billed_may_be_given_up_by_name(tenant, poisoned):
    turn(tenant, local("2026-05-20 09:00"))

    acting.cancel(**about(poisoned), waive_unbilled=True, reason="Our fault")

    found = fresh(poisoned)
    assert (found.status, found.failure, amounts(invoices_of(poisoned))) == (Status.CANCELLED, "", ["31.00"])
    assert not FailedCycle.objects.filter(subscription=poisoned, retried_at=None).exists()
    record = AuditRecord.objects.get(action="subscription.unbilled_waived")
    assert record.before["due_at"] == local("2026-05-01 00:00").isoformat()


def test_nothing_is_given_up_of_one_that_is_in_order(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("31.00")))
    run(tenant)
    turn(tenant, local("2026-05-20 09:00"))

    acting.cancel(**about(subscription), waive_unbilled=True)

    assert amounts(invoices_of(subscription)) == ["31.00", "31.00"]


@pytest.mark.parametrize("planned", ["cancel", "pause", "change"])
def test_what_was_planned_waits_until_the_period_before_it_is_billed(tenant, customer, planned):
    rate = rate_until(tenant, date(2026, 4, 20))
    subscription = subscribe(customer, make_plan(tenant, flat("31.00", tax_category="short")))
    run(tenant)
    on = local("2026-05-11 00:00")
    if planned == "change":
        other = make_plan(tenant, flat("62.00", tax_category="short"))
        acting.change(**about(subscription), version=other.versions.get(), on=on)
    else:
        getattr(acting, planned)(**about(subscription), on=on, credit="prorated")
    live(tenant, local("2026-05-20 09:00"))
    assert (fresh(subscription).status, amounts(invoices_of(subscription))) == (Status.ACTIVE, ["31.00"])

    mend(rate)
    acting.take_up_again(**about(subscription))

    assert fresh(subscription).failure == ""
    assert amounts(invoices_of(subscription))[:2] == ["31.00", "31.00"]
    if planned == "change":
        assert amounts(invoices_of(subscription))[2:] == ["21.00"]
    else:
        assert amounts(credit_notes_of(subscription)) == ["21.00"]


def test_a_first_payment_that_was_never_asked_for_does_not_activate(tenant, customer):
    rate_until(tenant, date(2026, 3, 20))
    plan = make_plan(tenant, flat("31.00", tax_category="short"), rules={"payment_gate_days": 3})
    with pytest.raises(DomainError):
        subscribe(customer, plan)
    TaxRate.objects.filter(category="short").update(valid_until=None)
    subscription = subscribe(customer, plan)
    TaxRate.objects.filter(category="short").update(valid_until=date(2026, 3, 20))

    live(tenant, local("2026-04-20 09:00"))

    found = fresh(subscription)
    assert (found.status, found.failure.partition(":")[0]) == (Status.INCOMPLETE, "missing_tax_rate")


@pytest.mark.parametrize("way", ["one", "run"])
@pytest.mark.parametrize("pays", [True, False])
def test_a_first_invoice_that_comes_late_may_be_paid_for_all_the_days(tenant, customer, way, pays):
    rate = rate_until(tenant, None)
    plan = make_plan(tenant, flat("31.00", tax_category="short"), rules={"payment_gate_days": 3})
    subscription = subscribe(customer, plan)
    TaxRate.objects.filter(pk=rate.pk).update(valid_until=date(2026, 3, 20))
    live(tenant, local("2026-04-20 09:00"))
    mend(rate)

    if way == "one":
        acting.take_up_again(**about(subscription))
    else:
        failed = FailedCycle.objects.get(subscription=subscription, retried_at=None)
        retry_run(organisation=tenant, run_id=failed.run_id, actor=CLERK)
        run(tenant)

    found = fresh(subscription)
    assert (found.status, found.activate_by) == (Status.INCOMPLETE, local("2026-04-23 09:00"))
    [invoice] = invoices_of(subscription)
    assert [news for news, _ in events_of(subscription)] == ["created", "incomplete", "incomplete"]
    live(tenant, local("2026-04-23 08:00"))
    assert fresh(subscription).status == Status.INCOMPLETE
    if pays:
        pay(subscription, invoice)
    live(tenant, local("2026-04-24 09:00"))

    invoice.refresh_from_db()
    expected = (Status.ACTIVE, Invoice.Status.PAID) if pays else (Status.EXPIRED, Invoice.Status.VOID)
    assert (fresh(subscription).status, invoice.status) == expected


def test_a_change_that_was_refused_and_then_worked_leaves_nothing_behind(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("30.00")))
    run(tenant)
    other = make_plan(tenant, flat("60.00", tax_category="later"))
    acting.change(**about(subscription), version=other.versions.get(), on=local("2026-04-11 00:00"))
    live(tenant, local("2026-04-13 09:00"))
    assert fresh(subscription).failure.startswith("missing_tax_rate")
    failed = FailedCycle.objects.get(subscription=subscription)
    assert (failed.code, failed.starts_at, failed.retried_at) == ("missing_tax_rate", local("2026-04-11 00:00"), None)

    TaxRate.objects.create(
        organisation=tenant, category="later", country="IN", rate="18", code="9983", valid_from=date(2017, 7, 1)
    )
    live(tenant, local("2026-06-02 09:00"))

    assert fresh(subscription).failure == ""
    assert FailedCycle.objects.get(subscription=subscription).retried_at is not None
    assert amounts(invoices_of(subscription)) == ["30.00", "40.00", "60.00", "60.00"]
    assert amounts(credit_notes_of(subscription)) == ["20.00"]  # untaxed as it was billed


# --- suspended by hand before the run came ------------------------------------------------------------
def test_a_suspension_bills_first_what_is_due(tenant, customer):
    subscription = subscribe(customer, make_plan(tenant, flat("31.00")))
    run(tenant)
    turn(tenant, local("2026-05-10 09:00"))

    with pytest.raises(BillingBehind):
        lifecycle.suspend(subscription_id=subscription.pk, actor=CLERK)
    acting.suspend(**about(subscription))

    assert fresh(subscription).status == Status.SUSPENDED
    assert amounts(invoices_of(subscription)) == ["31.00", "31.00"]


# --- standing ------------------------------------------------------------------------------------------
def overdue(subscription):
    invoice = invoices_of(subscription)[0]
    Invoice.objects.filter(pk=invoice.pk).update(overdue_at=local("2026-04-11 00:00"))
    standing.note_overdue(organisation_id=invoice.organisation_id, invoice_id=invoice.pk)


@pytest.mark.parametrize("ends", ["pause", "cancel"])
@pytest.mark.parametrize("owes", [True, False])
def test_what_goes_on_with_a_debt_is_past_due(tenant, customer, ends, owes):
    subscription = subscribe(customer, make_plan(tenant, flat("30.00")))
    run(tenant)
    turn(tenant, local("2026-04-10 09:00"))
    getattr(acting, ends)(**about(subscription))
    if owes:
        overdue(subscription)
    assert fresh(subscription).status == {"pause": Status.PAUSED, "cancel": Status.CANCELLED}[ends]

    (acting.resume if ends == "pause" else acting.reactivate)(**about(subscription))

    assert fresh(subscription).status == (Status.PAST_DUE if owes else Status.ACTIVE)
    assert ([news for news, _ in events_of(subscription)][-1] == "past_due") == owes


def test_a_trial_whose_fee_is_overdue_becomes_past_due(tenant, customer):
    plan = make_plan(tenant, flat("30.00"), trial_days=14, rules={"trial_prices": {"INR": "9.00"}})
    subscription = subscribe(customer, plan)
    run(tenant)
    overdue(subscription)
    assert fresh(subscription).status == Status.TRIALING

    live(tenant, local("2026-04-16 09:00"))

    assert fresh(subscription).status == Status.PAST_DUE
    assert amounts(invoices_of(subscription)) == ["9.00", "30.00"]


# --- a draft that cannot be finalised -------------------------------------------------------------------
@pytest.fixture
def stuck(tenant, customer):
    """Its April is a draft that could not be finalised on 4 April."""
    set_terms(organisation=tenant, customer_id=customer.pk, actor=CLERK, grace_days=3)
    rate = rate_until(tenant, date(2026, 4, 3))
    subscription = subscribe(customer, make_plan(tenant, flat("30.00", tax_category="short")))
    run(tenant)
    turn(tenant, local("2026-04-06 09:00"))
    finalize_due(organisation=tenant)
    assert DraftCycle.objects.get().failure.startswith("missing_tax_rate")
    subscription.rate = rate
    return subscription


def test_a_credit_waits_for_the_draft_that_it_is_taken_from(tenant, stuck):
    for attempt in (acting.cancel, acting.pause):
        with pytest.raises(DraftNotPriced, match="missing_tax_rate"):
            attempt(**about(stuck), credit="prorated")
    with pytest.raises(DraftNotPriced, match="missing_tax_rate"):
        preview.preview_action(organisation=tenant, subscription_id=stuck.pk, action="cancel", credit="prorated")

    mend(stuck.rate)
    acting.cancel(**about(stuck), credit="prorated")

    assert [(one.status, f"{one.due.amount:.2f}") for one in invoices_of(stuck)] == [("partially_paid", "7.08")]
    assert (amounts(invoices_of(stuck)), amounts(credit_notes_of(stuck))) == (["30.00"], ["24.00"])


def test_it_is_shown_with_its_reason_and_finalised_once_that_is_mended(tenant, stuck):
    client = browser(tenant, "manager")
    period = DraftCycle.objects.get().period
    assert "A draft cannot be finalised: missing_tax_rate" in client.get(page(stuck)).content.decode()
    assert "Drafts that could not be finalised" in client.get(page(period.run, "billingrun")).content.decode()
    assert BillingCycleViewSet.queryset.get(pk=period.pk).draft_failure.startswith("missing_tax_rate")

    mend(stuck.rate)
    assert finalize_due(organisation=tenant) == 0
    assert [one.status for one in invoices_of(stuck)] == ["open"]
    assert (DraftCycle.objects.get().failure, DraftCycle.objects.get().finalized_at) == ("", local("2026-04-06 09:00"))
    assert "cannot be finalised" not in client.get(page(stuck)).content.decode()


def test_without_a_credit_nothing_is_in_its_way(tenant, stuck):
    acting.cancel(**about(stuck))

    assert fresh(stuck).status == Status.CANCELLED


def test_dunning_leaves_alone_what_is_not_billed(tenant, poisoned):
    turn(tenant, local("2026-05-20 09:00"))

    with pytest.raises(BillingBehind):
        dunning_measures.lifecycle.cancel(subscription_id=poisoned.pk, actor=CLERK)
    with pytest.raises(BillingBehind):
        dunning_measures.lifecycle.suspend(subscription_id=poisoned.pk, actor=CLERK)


def test_a_person_may_mend_it_with_other_terms(tenant, poisoned):
    turn(tenant, local("2026-05-20 09:00"))

    acting.change(**about(poisoned), version=make_plan(tenant, flat("62.00")).versions.get())
    run(tenant)

    assert amounts(invoices_of(poisoned)) == ["31.00", "62.00"]
