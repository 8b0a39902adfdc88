"""Previews show a draft in its grace as it will be issued: with late usage, edits and coupons, after a change too."""

from decimal import Decimal

import pytest
from django.apps import apps

from billing.errors import NotFound
from billing.models import Role
from invoices.models import Invoice
from subscriptions.services import acting, preview
from subscriptions.services.draft_editing import edit_draft
from subscriptions.services.draft_finalizing import finalize_due
from subscriptions.services.draft_foreseeing import foresee_drafts
from tests.subscriptions.house import CLERK, local, make_organisation, turn
from tests.subscriptions.test_api import API, client_of
from tests.subscriptions.test_console import browser, page
from tests.subscriptions.test_grace import draft_of, metered, tenant, use_late

__all__ = ["metered", "tenant"]
pytestmark = pytest.mark.django_db


def foretold(tenant, subscription, action="", **options):
    found = preview.preview_action(
        organisation=tenant, subscription_id=subscription.pk, action=action, count=0, **options
    )
    return [(one.at, one.invoice.pk, said(one.priced), one.priced.total, one.failure) for one in found.drafts]


def said(priced):
    return [(line.given.description, f"{line.amount:.2f}") for line in priced.lines]


def lines(invoice):
    return [(line.description, f"{line.amount.amount:.2f}") for line in invoice.lines.all()]


def rows():
    return {model._meta.label: model._base_manager.count() for model in apps.get_models()}


def test_late_usage_and_edits_are_on_the_previewed_draft_and_then_on_the_invoice(tenant, metered):
    draft = draft_of(metered)
    edit_draft(invoice_id=draft.pk, actor=CLERK, kind="set", code="base", amount=Decimal(450), reason="agreed")
    use_late(metered)
    written = rows()

    [(at, pk, shown, total, failure)] = foretold(tenant, metered)

    assert rows() == written
    assert (at, pk, failure) == (local("2026-05-04 00:00"), draft.pk, "")
    assert (shown, total) == ([("Base fee", "450.00"), ("Calls", "30.00")], Decimal(480))
    assert lines(draft_of(metered)) == [("Base fee", "450.00"), ("Calls", "20.00")]
    turn(tenant, at)
    finalize_due(organisation=tenant)
    invoice = Invoice.objects.get(pk=pk)
    assert (invoice.status, lines(invoice), invoice.total.amount, invoice.finalized_at) == ("open", shown, total, at)
    assert foretold(tenant, metered) == []


@pytest.mark.parametrize(
    ("action", "options"),
    [("cancel", {"credit": "prorated"}), ("pause", {"credit": "prorated"}), ("change", {"quantity": 4})],
)
def test_a_change_in_the_grace_shows_the_draft_as_it_is_issued_by_it(tenant, metered, action, options):
    use_late(metered)
    turn(tenant, local("2026-05-02 09:00"))

    [(at, pk, shown, total, _)] = foretold(tenant, metered, action, **options)

    assert (at, shown, total) == (local("2026-05-02 09:00"), [("Base fee", "500.00"), ("Calls", "30.00")], Decimal(530))
    getattr(acting, action)(organisation=tenant, subscription_id=metered.pk, actor=CLERK, **options)
    invoice = Invoice.objects.get(pk=pk)
    assert (invoice.number != "", lines(invoice), invoice.total.amount, invoice.finalized_at) == (
        True,
        shown,
        total,
        at,
    )


def test_a_draft_of_which_nothing_is_left_is_foretold_to_go(tenant, metered):
    draft = draft_of(metered)
    edit_draft(invoice_id=draft.pk, actor=CLERK, kind="drop", code="base", reason="agreed")
    use_late(metered, "-10")

    [one] = foresee_drafts(organisation=tenant, subscription_ids=[metered.pk])

    assert (one.invoice.pk, one.priced, one.failure, one.differs) == (draft.pk, None, "", True)
    turn(tenant, one.at)
    finalize_due(organisation=tenant)
    assert not Invoice.objects.filter(pk=draft.pk).exists()


def test_drafts_of_another_organisation_are_not_found(tenant, metered):
    other = make_organisation(local("2026-05-01 09:00"))

    with pytest.raises(NotFound):
        preview.preview_action(organisation=other, subscription_id=metered.pk)
    assert foresee_drafts(organisation=other, subscription_ids=[metered.pk]) == []


def test_the_api_shows_the_draft_and_what_it_says_now(tenant, metered):
    use_late(metered)
    asked = {"change": {"subscription": str(metered.pk)}, "count": 1}

    [shown] = client_of(tenant).post(f"{API}/subscriptions/preview", asked, format="json").json()["drafts"]

    assert shown["invoice"] == str(draft_of(metered).pk)
    assert (shown["total"]["amount"], shown["total_now"]["amount"], shown["failure"]) == ("530.00", "520.00", "")
    assert [line["amount"]["amount"] for line in shown["lines"]] == ["500.00", "30.00"]
    other = make_organisation(local("2026-05-01 09:00"))
    assert client_of(other).post(f"{API}/subscriptions/preview", asked, format="json").status_code == 404


def test_the_console_says_what_the_draft_will_be_and_when(tenant, metered):
    use_late(metered)
    manager, draft = browser(tenant, Role.MANAGER), draft_of(metered)

    of_draft = manager.get(f"/console/invoices/invoice/{draft.pk}/change/").content.decode()
    of_subscription = manager.get(page(metered)).content.decode()

    assert "As it will be issued" in of_draft
    assert "530.00" in of_draft
    assert "520.00" in of_draft
    assert "draft is issued" in of_subscription
    assert "530.00" in of_subscription
