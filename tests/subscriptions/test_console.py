"""Console pages of plans and subscriptions: what they show, and decisions with a reason."""

import pytest
from django.test import Client

from billing.models import AuditRecord, Role, User
from billing.services import organisations
from invoices.models import Invoice
from subscriptions.services import catalog, changing, lifecycle, plan_migrations
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.catalog import PriceInput
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
)
from tests.subscriptions.test_api import pay_method

pytestmark = pytest.mark.django_db
TIERS = [{"up_to": "1000", "unit_price": "0", "flat_fee": "5"}, {"up_to": None, "unit_price": "0.02"}]


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


def browser(organisation, role):
    user = User.objects.create_user(f"{role}-{organisation.code}@example.org", "a long passphrase here", is_staff=True)
    organisations.add_member(organisation=organisation, email=user.email, role=role)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def manager(tenant):
    return browser(tenant, Role.MANAGER)


def page(row, kind="subscription"):
    return f"/console/subscriptions/{kind}/{row.pk}/change/"


def decide(client, row, action, kind="subscription", **form):
    path = f"/console/subscriptions/{kind}/{row.pk}/{action}/"
    return client.post(path, {"confirm": "1", "reason": "as agreed", **form}, follow=True)


def test_a_plans_page_shows_each_version_with_its_prices(tenant, manager):
    make_meter(tenant)
    calls = PriceInput(code="calls", name="API calls", currency="INR", model="graduated", tiers=TIERS, meter="calls")
    plan = make_plan(tenant, seats("499.00"), calls, code="team")
    subscribe(make_customer(tenant), plan)

    shown = manager.get(page(plan, "plan")).content.decode()
    listed = manager.get("/console/subscriptions/plan/").content.decode()

    for text in (
        "Version 1",
        "499.00 INR",
        "up to 1,000: 0.00 INR per call + 5.00 INR",
        "above: 0.02 INR per call",
        "Running subscriptions",
    ):
        assert text in shown
    assert "team" in listed
    assert "is archived" in decide(manager, plan, "archive", "plan").content.decode()


def test_a_subscriptions_page_shows_its_time_line(tenant, manager):
    customer = make_customer(tenant)
    subscription = subscribe(customer, make_plan(tenant, seats("300.00")), quantity=5)
    run(tenant)
    live(tenant, local("2026-05-02 09:00"))
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=2)
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=9, when="period_end")

    shown = manager.get(page(subscription)).content.decode()

    for document in (*invoices_of(subscription), *credit_notes_of(subscription)):
        assert document.number in shown
    for text in (
        "What comes next",
        "quantity 9",
        "1 Jun 2026 to 30 Jun 2026",
        "₹2,700.00",
        "subscription.renewed",
        "₹600.00",
    ):
        assert text in shown, text
    assert manager.get("/console/subscriptions/subscription/").status_code == 200


def test_the_time_line_shows_a_move_to_other_prices_that_is_decided_for_a_date(tenant, manager):
    plan = make_plan(tenant, flat("100.00"), code="team")
    subscription = subscribe(make_customer(tenant), plan)
    run(tenant)
    second = catalog.add_version(plan_id=plan.pk, prices=[flat("120.00")], actor=CLERK)
    about = {"organisation": tenant, "from_plan": plan, "to_version": second, "actor": CLERK, "when": "date"}
    decided = plan_migrations.plan_migration(**about, starts_at=local("2026-06-01 00:00"))
    later = subscribe(make_customer(tenant), plan)

    said = "team, version 2, with its first period from then on"
    shown = manager.get(page(subscription)).content.decode()
    assert shown.count(said) == 1
    assert shown.count("2026-06-01: move to other prices") == 1
    assert said not in manager.get(page(later)).content.decode(), "it has these prices already"
    plan_migrations.cancel_migration(migration_id=decided.pk, actor=CLERK)
    assert "move to other prices" not in manager.get(page(subscription)).content.decode().replace(
        "a move to other prices counts", ""
    )


def test_decisions_act_and_keep_the_reason(tenant, manager):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, seats("300.00")))
    run(tenant)
    turn(tenant, local("2026-04-11 09:00"))

    said = decide(manager, subscription, "change_quantity", quantity="3", when="now").content.decode()
    assert invoices_of(subscription)[-1].number in said
    decide(manager, subscription, "pause", credit="none")
    assert fresh(subscription).status == "paused"
    decide(manager, subscription, "resume")
    decide(manager, subscription, "cancel", when="period_end", credit="none")
    assert fresh(subscription).cancel_at is not None
    decide(manager, subscription, "uncancel")
    assert "Credit note" in decide(manager, subscription, "cancel", when="now", credit="prorated").content.decode()

    reasons = AuditRecord.objects.filter(target_id=str(subscription.pk)).exclude(action="subscription.created")
    assert list(reasons.order_by("id").values_list("action", "reason")) == [
        (f"subscription.{action}", "as agreed")
        for action in ("changed", "paused", "resumed", "cancellation_planned", "uncancelled", "cancelled")
    ]


def test_a_shared_invoice_is_on_the_page_of_each_subscription(tenant, manager):
    customer = make_customer(tenant)
    set_terms(organisation=tenant, customer_id=customer.pk, actor=CLERK, consolidate=True)
    pair = [subscribe(customer, make_plan(tenant, flat(price))) for price in ("10.00", "20.00")]
    run(tenant)
    [invoice] = Invoice.objects.of(tenant)

    for one in pair:
        shown = manager.get(page(one)).content.decode()
        assert shown.count(invoice.number) >= 3, one  # in the picture, among the documents, with its period
        assert "with others of the customer" in shown


def test_how_it_is_paid_is_changed_on_its_page(tenant, manager):
    customer = make_customer(tenant)
    subscription = subscribe(customer, make_plan(tenant, flat("10.00")), net_days=7)
    method, foreign = pay_method(customer), pay_method(make_customer(tenant))
    asked = manager.get(f"/console/subscriptions/subscription/{subscription.pk}/change_payment/").content.decode()
    assert str(method.pk) in asked
    assert str(foreign.pk) not in asked
    assert 'value="7"' in asked

    decide(manager, subscription, "change_payment", method=str(foreign.pk), net_days="3")
    assert (fresh(subscription).method_id, fresh(subscription).net_days) == (None, 7)
    decide(manager, subscription, "change_payment", method=str(method.pk), net_days="14")
    changed = fresh(subscription)
    assert (changed.method_id, changed.net_days, changed.collect_automatically) == (method.pk, 14, False)
    decide(manager, subscription, "change_payment", method="", net_days="14", collect_automatically="on")
    assert (fresh(subscription).method_id, fresh(subscription).collect_automatically) == (None, True)
    records = AuditRecord.objects.filter(action="subscription.payment_changed")
    assert list(records.values_list("reason", flat=True)) == ["as agreed"] * 2


def test_a_manager_suspends_and_takes_up_again(tenant, manager):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, flat("10.00")))
    run(tenant)

    asked = manager.get(f"/console/subscriptions/subscription/{subscription.pk}/cancel/").content.decode()
    assert asked.count(">Cancel<") + asked.count("> Cancel <") <= 1, "one button cancels, the other goes back"
    assert "Back" in asked
    assert "This would happen" in decide(manager, subscription, "suspend", look="1").content.decode()
    assert fresh(subscription).status == "active"
    assert "is suspended" in decide(manager, subscription, "suspend").content.decode()
    assert fresh(subscription).status == "suspended"
    decide(manager, subscription, "reactivate")
    assert fresh(subscription).status == "active"


def test_what_was_set_aside_is_shown_and_taken_up_again(tenant, manager):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, flat("10.00")))
    type(subscription).objects.filter(pk=subscription.pk).update(failure="missing_tax_rate: add one")

    assert "missing_tax_rate: add one" in manager.get(page(subscription)).content.decode()
    decide(manager, subscription, "take_up_again")

    assert (fresh(subscription).failure, len(invoices_of(subscription))) == ("", 1)


def test_pages_keep_to_roles_and_tenants(tenant):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, flat("10.00")))
    other = make_organisation(local("2026-04-01 09:00"))
    stranger, auditor = browser(other, Role.MANAGER), browser(tenant, Role.AUDITOR)

    assert stranger.get(page(subscription)).status_code in (302, 404)
    assert subscription.external_id not in stranger.get("/console/subscriptions/subscription/").content.decode()
    assert auditor.get(page(subscription)).status_code == 200
    assert decide(auditor, subscription, "cancel", when="now", credit="none").status_code == 403
    assert decide(stranger, subscription, "cancel", when="now", credit="none").status_code in (403, 404)
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)
    assert fresh(subscription).status == "cancelled"


def test_a_decision_is_foretold_before_anything_is_done(tenant, manager):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, seats("300.00")))
    run(tenant)
    turn(tenant, local("2026-04-16 10:00"))

    shown = decide(manager, subscription, "change_quantity", quantity="3", when="now", look="yes").content.decode()

    assert "This would be issued" in shown
    assert "300.00" in shown  # two seats more for half of the month
    assert fresh(subscription).quantity == 1
    refused = decide(manager, subscription, "change_quantity", quantity="1", when="now", look="yes").content.decode()
    assert "what they are already" in refused
    decide(manager, subscription, "pause", on_0="2026-04-20", on_1="00:00", credit="prorated", reason="Holidays")
    assert fresh(subscription).next_change_at == local("2026-04-20 00:00")
    shown = manager.get(page(subscription)).content.decode()
    assert 'role="img" aria-label="Time line from' in shown
    decide(manager, subscription, "drop_plans", reason="They stay")
    assert fresh(subscription).next_change_at is None
