"""An invoice stays a draft while the grace lasts; then it is priced anew, with late usage and edits by hand, and issued."""

from datetime import date
from decimal import Decimal

import pytest

from billing.models import Event, JournalEntry
from invoices.models import Invoice
from invoices.services.finalizing import finalize_invoice
from subscriptions.errors import NotADraftOfTheRun
from subscriptions.models import BilledPeriod, BillingRun, DraftCycle, DraftEdit, PlanVersion, Price, Subscription
from subscriptions.services import acting
from subscriptions.services.billing_run import run_billing
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.draft_editing import edit_draft, undo_edit
from subscriptions.services.draft_finalizing import finalize_due
from tests.subscriptions.house import (
    CLERK,
    amounts,
    flat,
    fresh,
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


@pytest.fixture
def tenant(db):
    tenant = make_organisation(local("2026-04-01 09:00"))
    set_terms(organisation=tenant, actor=CLERK, grace_days=3)
    return tenant


@pytest.fixture
def metered(tenant):
    """A subscription whose April was billed ahead, with 10 calls in April, at the first of May: a draft of 500 + 20."""
    meter, customer = make_meter(tenant), make_customer(tenant)
    plan = make_plan(tenant, flat("500.00"), seats("2.00", code="calls", name="Calls", meter="calls"))
    subscription = subscribe(customer, plan)
    run_billing(organisation=tenant)
    turn(tenant, local("2026-04-04 09:00"))
    finalize_due(organisation=tenant)
    use(customer, meter, "10", local("2026-04-20 12:00"))
    turn(tenant, local("2026-05-01 09:00"))
    run_billing(organisation=tenant)
    return subscription


def draft_of(subscription):
    [draft] = [invoice for invoice in invoices_of(subscription) if invoice.status == "draft"]
    return draft


def use_late(subscription, quantity="5"):
    meter = subscription.plan_version.prices.get(code="calls").meter
    use(subscription.customer, meter, quantity, local("2026-04-30 23:00"))


def test_a_draft_has_no_number_no_posting_and_no_event(tenant):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, flat("500.00")))

    report = run_billing(organisation=tenant)

    [draft] = invoices_of(subscription)
    assert (report.billed, report.invoices, report.drafts, report.totals) == (1, 1, 1, {"INR": Decimal(500)})
    assert (draft.status, draft.number, draft.issued_on, draft.due_on, draft.net.amount) == (
        "draft",
        "",
        None,
        None,
        500,
    )
    assert (draft.period_start, draft.period_end) == (date(2026, 4, 1), date(2026, 4, 30))
    assert not JournalEntry.objects.of(tenant).exists()
    assert not Event.objects.filter(aggregate_id=draft.pk).exists()
    assert BilledPeriod.objects.get().invoice_id == draft.pk
    assert BillingRun.objects.get().draft_count == 1
    assert DraftCycle.objects.get().finalize_at == local("2026-04-04 00:00")


def test_it_is_issued_when_the_grace_is_over_and_not_before(tenant):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, flat("500.00")), net_days=7)
    run_billing(organisation=tenant)
    [draft] = invoices_of(subscription)

    turn(tenant, local("2026-04-03 23:59"))
    assert finalize_due(organisation=tenant) == 0
    turn(tenant, local("2026-04-04 00:00"))
    assert finalize_due(organisation=tenant) == 1
    assert finalize_due(organisation=tenant) == 0

    [invoice] = invoices_of(subscription)
    assert (invoice.pk, invoice.status, invoice.number[-5:]) == (draft.pk, "open", "00001")
    assert (invoice.issued_on, invoice.due_on) == (date(2026, 4, 4), date(2026, 4, 11))
    assert JournalEntry.objects.of(tenant).count() == 1
    assert Event.objects.filter(type="invoice.finalized", aggregate_id=draft.pk).count() == 1
    assert BilledPeriod.objects.get().invoice_id == draft.pk


def test_usage_that_comes_late_is_on_the_invoice(tenant, metered):
    assert lines_of(draft_of(metered)) == [("Base fee", "500.00"), ("Calls", "20.00")]

    use_late(metered)
    turn(tenant, local("2026-05-04 00:00"))
    finalize_due(organisation=tenant)

    invoice = invoices_of(metered)[-1]
    assert (invoice.status, lines_of(invoice)) == ("open", [("Base fee", "500.00"), ("Calls", "30.00")])
    assert sum(line.amount.amount for line in invoice.lines.all()) == invoice.net.amount == 530


def test_what_had_nothing_to_invoice_is_looked_at_again(tenant):
    meter, customer = make_meter(tenant), make_customer(tenant)
    subscription = subscribe(customer, make_plan(tenant, seats("2.00", code="calls", meter="calls")))
    run_billing(organisation=tenant)
    turn(tenant, local("2026-05-01 09:00"))
    report = run_billing(organisation=tenant)
    assert (report.billed, report.invoices, Invoice.objects.count()) == (1, 0, 0)

    use(customer, meter, "7", local("2026-04-30 23:00"))
    turn(tenant, local("2026-05-04 09:00"))
    finalize_due(organisation=tenant)

    [invoice] = invoices_of(subscription)
    assert (invoice.status, invoice.net.amount) == ("open", 14)
    assert list(BilledPeriod.objects.order_by("starts_at").values_list("invoice", flat=True)) == [None, invoice.pk]


def test_finalising_by_hand_prices_anew_and_happens_once(tenant, metered):
    use_late(metered)

    finalize_invoice(invoice_id=draft_of(metered).pk, actor=CLERK)
    turn(tenant, local("2026-05-05 00:00"))
    finalize_due(organisation=tenant)

    assert amounts(invoices_of(metered)) == ["500.00", "530.00"]
    assert Event.objects.filter(type="invoice.finalized").count() == 2
    assert not DraftCycle.objects.filter(finalized_at=None).exists()


def test_a_change_ends_the_grace_first(tenant):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, seats("300.00")))
    run_billing(organisation=tenant)
    turn(tenant, local("2026-04-02 09:00"))

    acting.change(organisation=tenant, subscription_id=subscription.pk, actor=CLERK, quantity=2)

    assert [(one.status, f"{one.net.amount:.2f}") for one in invoices_of(subscription)] == [
        ("open", "300.00"),
        ("open", "290.00"),
    ]


class TestEditing:
    def edit(self, draft, **what):
        return edit_draft(invoice_id=draft.pk, actor=CLERK, reason="as agreed", **what)

    def test_edits_survive_the_refresh(self, tenant, metered):
        draft = draft_of(metered)
        self.edit(draft, kind="add", description="Training", amount=Decimal("75.50"))
        self.edit(draft, kind="set", code="base", amount=Decimal(450), description="Base fee, reduced")
        assert lines_of(draft_of(metered)) == [
            ("Base fee, reduced", "450.00"), ("Calls", "20.00"), ("Training", "75.50"),
        ]  # fmt: skip
        use_late(metered)

        turn(tenant, local("2026-05-04 00:00"))
        finalize_due(organisation=tenant)

        invoice = invoices_of(metered)[-1]
        assert lines_of(invoice) == [("Base fee, reduced", "450.00"), ("Calls", "30.00"), ("Training", "75.50")]
        assert (invoice.status, invoice.net.amount) == ("open", Decimal("555.50"))

    def test_an_edit_can_be_undone(self, metered):
        edit = self.edit(draft_of(metered), kind="drop", code="calls")
        assert lines_of(draft_of(metered)) == [("Base fee", "500.00")]

        undo_edit(edit_id=edit.pk, actor=CLERK)

        assert lines_of(draft_of(metered)) == [("Base fee", "500.00"), ("Calls", "20.00")]
        assert not DraftEdit.objects.exists()

    def test_a_finalised_invoice_is_not_edited(self, tenant, metered):
        draft = draft_of(metered)
        finalize_invoice(invoice_id=draft.pk)

        with pytest.raises(NotADraftOfTheRun):
            self.edit(draft, kind="drop", code="calls")

    @pytest.mark.parametrize(
        ("what", "field"),
        [
            ({"kind": "add", "amount": Decimal(5)}, "description"),
            ({"kind": "add", "description": "Nothing"}, "amount"),
            ({"kind": "set", "code": "base"}, "amount"),
            ({"kind": "drop", "code": "no-such"}, "code"),
            ({"kind": "set", "code": "no-such", "amount": Decimal(5)}, "code"),
            ({"kind": "set", "code": "base", "amount": Decimal("0.001")}, "amount"),
            ({"kind": "set", "code": "base", "amount": Decimal(-5000)}, "amount"),
            (
                {"kind": "add", "description": "Taxed", "amount": Decimal(5), "tax_category": "unheard-of"},
                "tax_category",
            ),
        ],
    )
    def test_what_makes_no_invoice_is_refused(self, metered, what, field):
        before = lines_of(draft_of(metered))

        with pytest.raises(Exception) as refused:  # noqa: PT011 - the field tells which
            self.edit(draft_of(metered), **what)

        assert refused.value.field == field
        assert lines_of(draft_of(metered)) == before
        assert not DraftEdit.objects.exists()


def test_what_cannot_be_priced_any_more_waits_with_its_reason(tenant, metered):
    """The draft stays; the others go on."""
    other = subscribe(make_customer(tenant), make_plan(tenant, flat("10.00")))
    run_billing(organisation=tenant)
    waiting = DraftCycle.objects.get(period__subscription=metered, finalized_at=None)
    waiting.terms["currency"] = "EUR"
    waiting.save()
    turn(tenant, local("2026-05-04 00:00"))

    finalize_due(organisation=tenant)

    waiting.refresh_from_db()
    assert (waiting.finalized_at, waiting.failure.partition(":")[0]) == (None, "missing_price")
    assert draft_of(metered).net.amount == 520
    assert [one.status for one in invoices_of(other)] == ["open"]


def test_consolidated_drafts_are_issued_together(tenant):
    set_terms(organisation=tenant, actor=CLERK, grace_days=3, consolidate=True)
    customer, plan = make_customer(tenant), make_plan(tenant, flat("500.00"))
    pair = [subscribe(customer, plan, external_id=name) for name in ("one", "two")]
    run_billing(organisation=tenant)
    [draft] = Invoice.objects.of(tenant)

    turn(tenant, local("2026-04-04 09:00"))
    assert finalize_due(organisation=tenant) == 2

    [invoice] = Invoice.objects.of(tenant)
    assert (invoice.pk, invoice.status, invoice.net.amount) == (draft.pk, "open", 1000)
    assert [line.subscription_ref for line in invoice.lines.all()] == [one.pk for one in pair]
    assert [fresh(one).failure for one in pair] == ["", ""]


def test_terms_of_the_day_hold_though_the_subscription_has_changed_since(tenant, metered):
    """A draft is priced by what the subscription was when the run read it."""
    Subscription.objects.filter(pk=metered.pk).update(quantity=9)
    version = PlanVersion.objects.get(pk=metered.plan_version_id)
    assert Price.objects.filter(version=version).count() == 2

    turn(tenant, local("2026-05-04 00:00"))
    finalize_due(organisation=tenant)

    assert amounts(invoices_of(metered)) == ["500.00", "520.00"]
