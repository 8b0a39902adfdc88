"""Console pages of entitlements: the matrix is edited in words, exceptions carry their reason, a customer's page shows the use."""

from decimal import Decimal

import pytest
from django.urls import reverse

from billing.models import Role
from subscriptions.entitlements import checking, words
from subscriptions.entitlements.checking import Question
from subscriptions.entitlements.errors import InvalidTerms
from subscriptions.models import EntitlementGrant, Feature, PlanEntitlement
from subscriptions.services.entitlements import consuming, features
from tests.subscriptions.house import CLERK, flat, local, make_customer, make_organisation, make_plan, subscribe
from tests.subscriptions.test_console import browser

MATRIX = "admin:subscriptions_feature_matrix"
GRANT = "admin:subscriptions_entitlementgrant_add_grant"


@pytest.mark.parametrize(
    ("kind", "said"),
    [("quota", "1,000"), ("quota", "0.5 per unit"), ("metered", "1,000 per unit, soft"), ("quota", "unlimited"),
     ("boolean", "included"), ("static", "gold"), ("quota", "not included")],
)  # fmt: skip
def test_words_are_read_as_they_are_said(kind, said):
    assert words.say(kind, words.read(kind, said).terms) == said


@pytest.mark.parametrize(
    ("kind", "said"), [("quota", "many"), ("quota", "-5"), ("quota", "5 a day"), ("boolean", "gold"), ("quota", "1e3")]
)
def test_words_that_say_nothing(kind, said):
    with pytest.raises(InvalidTerms):
        words.read(kind, said)


@pytest.fixture
def tenant(db):
    tenant = make_organisation(local("2026-04-01 09:00"))
    for code, kind in (("exports", "quota"), ("sso", "boolean")):
        features.create_feature(organisation=tenant, code=code, name=code.title(), kind=kind, actor=CLERK)
    return tenant


@pytest.fixture
def manager(tenant):
    return browser(tenant, Role.MANAGER)


def column(plan):
    return reverse("admin:subscriptions_feature_edit_version", args=[plan.versions.get().pk])


def test_the_matrix_is_edited_column_by_column(tenant, manager):
    plan = make_plan(tenant, flat("100.00"), code="team")
    customer = make_customer(tenant)
    subscribe(customer, plan)

    asked = manager.get(column(plan)).content.decode()
    assert 'name="exports"' in asked
    wrong = manager.post(column(plan), {"confirm": "1", "exports": "many", "sso": ""}).content.decode()
    assert "Write a number" in wrong
    manager.post(column(plan), {"confirm": "1", "exports": "50, soft", "sso": "included", "why": "Launch"})
    less = manager.post(column(plan), {"confirm": "1", "exports": "10", "sso": "included"}).content.decode()

    assert "they may only get more" in less
    shown = manager.get(reverse(MATRIX)).content.decode()
    assert "team v1" in shown
    assert "50, soft" in shown
    row = PlanEntitlement.objects.get(feature__code="exports")
    assert (row.limit, row.is_soft) == (50, True)
    assert (
        "50, soft" in manager.get(reverse("admin:subscriptions_feature_change", args=[row.feature_id])).content.decode()
    )


def test_a_feature_is_added_and_archived(tenant, manager):
    address = reverse("admin:subscriptions_feature_add_feature")
    values = {"organisation": tenant.pk, "code": "level", "name": "Level", "kind": "static", "reset": "never",
              "choices": "bronze, gold"}  # fmt: skip
    assert manager.post(address, values).status_code == 302
    level = Feature.objects.get(code="level")
    assert level.choices == ["bronze", "gold"]
    assert "already" in manager.post(address, values).content.decode()
    manager.post(
        reverse("admin:subscriptions_feature_archive", args=[level.pk]), {"confirm": "1", "reason": "Never used"}
    )
    level.refresh_from_db()
    assert level.archived_at is not None


def test_an_exception_is_made_from_the_customers_page(tenant, manager):
    customer = make_customer(tenant)
    plan = make_plan(tenant, flat("100.00"))
    manager.post(column(plan), {"confirm": "1", "exports": "10", "sso": ""})
    subscribe(customer, plan)
    consuming.consume(
        organisation=tenant, customer=customer.external_id, feature="exports", quantity=Decimal(8), key="one"
    )

    page = manager.get(reverse("admin:billing_customer_change", args=[customer.pk])).content.decode()
    assert "8 of 10" in page
    assert "m-nearly" in page
    assert f"customer={customer.external_id}" in page
    values = {"organisation": tenant.pk, "customer": customer.external_id, "feature": "exports", "kind": "grant", "what": "5",
              "reason": "Year-end"}  # fmt: skip
    assert "say when it expires" in manager.post(reverse(GRANT), values).content.decode()
    assert not EntitlementGrant.objects.exists()
    values |= {"expires_at_0": "2026-05-01", "expires_at_1": "00:00"}
    made = manager.post(reverse(GRANT), values, follow=True).content.decode()

    assert "Year-end" in made
    asked = Question(customer.external_id, "exports")
    assert checking.check(organisation=tenant, question=asked).verdict.limit == 15
    grant = EntitlementGrant.objects.get()
    decided = reverse("admin:subscriptions_entitlementgrant_revoke", args=[grant.pk])
    manager.post(decided, {"confirm": "1", "reason": "Done"})
    assert checking.check(organisation=tenant, question=asked).verdict.limit == 10
    assert "no such subscription" in manager.post(reverse(GRANT), values | {"subscription": "x"}).content.decode()


def test_pages_keep_to_roles_and_tenants(tenant, manager):
    plan = make_plan(tenant, flat("100.00"), code="secret-plan")
    other = browser(make_organisation(local("2026-04-01 09:00")), Role.MANAGER)
    auditor, support = browser(tenant, Role.AUDITOR), browser(tenant, Role.SUPPORT)

    assert other.get(column(plan)).status_code == 404
    assert other.post(column(plan), {"confirm": "1", "exports": "10"}).status_code == 404
    assert "secret-plan" not in other.get(reverse(MATRIX)).content.decode()
    for client in (auditor, support):
        assert client.get(reverse(MATRIX)).status_code == 200
        assert client.get(column(plan)).status_code == 403
        assert client.get(reverse(GRANT)).status_code == 403
    assert not PlanEntitlement.objects.exists()
