"""Console pages of entitlements: the matrix is edited in words, exceptions carry their reason, a customer's page shows the use."""

from decimal import Decimal

import pytest
from django.urls import reverse

from billing.models import AuditRecord, Organisation, Role
from subscriptions.admin.features import WITH_ADD_ONS
from subscriptions.entitlements import checking, words
from subscriptions.entitlements.checking import Question
from subscriptions.entitlements.errors import InvalidTerms
from subscriptions.models import EntitlementGrant, Feature, PlanEntitlement
from subscriptions.services.entitlements import consuming, features
from tests.subscriptions.house import CLERK, flat, local, make_customer, make_organisation, make_plan, seats, subscribe
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
    less = manager.post(column(plan), {"confirm": "1", "exports": "10", "sso": "included"})

    assert "they may only get more" in less.content.decode()
    assert list(less.context["form"].errors) == ["exports"]
    shown = manager.get(reverse(MATRIX)).content.decode()
    assert "team v1" in shown
    assert "50, soft" in shown
    row = PlanEntitlement.objects.get(feature__code="exports")
    assert (row.limit, row.is_soft) == (50, True)
    assert (
        "50, soft" in manager.get(reverse("admin:subscriptions_feature_change", args=[row.feature_id])).content.decode()
    )


def test_what_add_ons_give_is_written_line_by_line(tenant, manager):
    plan = make_plan(tenant, flat("100.00"), seats("20.00", code="storage", kind="add_on"), code="team")
    plain = make_plan(tenant, flat("100.00"), code="plain")
    form = {"confirm": "1", "exports": "50", "sso": "", "why": "Launch"}

    assert "What add-ons give" in manager.get(column(plan)).content.decode()
    assert "What add-ons give" not in manager.get(column(plain)).content.decode()
    for wrong, said in (
        ("storage exports 50", "write an add-on, a feature"), ("storage: imports = 50", "write an add-on, a feature"),
        ("storage: exports = many", "Write a number"), ("cellar: exports = 5", "has no add-on"),
    ):  # fmt: skip
        assert said in manager.post(column(plan), form | {WITH_ADD_ONS: wrong}).content.decode(), wrong
        assert not PlanEntitlement.objects.exists()
    manager.post(column(plan), form | {WITH_ADD_ONS: "storage: exports = 20 per unit\nstorage: sso = included"})

    rows = PlanEntitlement.objects.order_by("add_on", "feature__code")
    assert list(rows.values_list("add_on", "feature__code", "limit", "per_unit")) == [
        ("", "exports", 50, False), ("storage", "exports", 20, True), ("storage", "sso", None, False),
    ]  # fmt: skip
    asked = manager.get(column(plan)).content.decode()
    assert "storage: exports = 20 per unit\nstorage: sso = included" in asked
    shown = manager.get(reverse("admin:subscriptions_feature_change", args=[rows[1].feature_id])).content.decode()
    assert "20 per unit" in shown
    manager.post(column(plan), form | {WITH_ADD_ONS: "storage: exports = 20 per unit"})
    assert list(rows.values_list("add_on", "feature__code")) == [("", "exports"), ("storage", "exports")]


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


def test_a_feature_is_edited_with_a_reason_and_refused_at_its_field(tenant, manager):
    exports, sso = Feature.objects.get(code="exports"), Feature.objects.get(code="sso")
    address = reverse("admin:subscriptions_feature_edit", args=[exports.pk])
    values = {"confirm": "1", "name": "Exports a month", "unit": "export", "reset": "month", "is_soft": "on",
              "thresholds": "50, 100 %", "reason": "Asked for by sales"}  # fmt: skip

    assert 'name="choices"' not in manager.get(address).content.decode()
    assert (
        'name="reset"' not in manager.get(reverse("admin:subscriptions_feature_edit", args=[sso.pk])).content.decode()
    )
    for wrong in ({"thresholds": "0"}, {"thresholds": "many"}, {"thresholds": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"}):
        refused = manager.post(address, values | wrong)
        assert refused.status_code == 200
        assert refused.context["form"].errors["thresholds"]
    assert manager.post(address, values | {"reason": ""}).context["form"].errors["reason"]
    exports.refresh_from_db()
    assert (exports.name, exports.thresholds, exports.is_soft) == ("Exports", [], False)
    assert manager.post(address, values).status_code == 302

    exports.refresh_from_db()
    assert (exports.name, exports.unit, exports.reset, exports.is_soft) == ("Exports a month", "export", "month", True)
    assert exports.thresholds == [50, 100]
    record = AuditRecord.objects.get(action="feature.changed")
    assert (record.reason, record.after["reset"]) == ("Asked for by sales", "month")
    assert 'value="50, 100"' in manager.get(address).content.decode()
    other = browser(make_organisation(local("2026-04-01 09:00")), Role.MANAGER)
    assert other.post(address, values | {"name": "Mine"}).status_code == 404
    assert browser(tenant, Role.SUPPORT).post(address, values | {"name": "Mine"}).status_code == 403


def test_what_states_entitle_to_is_chosen_in_the_console(tenant, manager):
    plan = make_plan(tenant, flat("100.00"))
    manager.post(column(plan), {"confirm": "1", "exports": "10", "sso": ""})
    customer = make_customer(tenant)
    subscribe(customer, plan)
    address = reverse("admin:subscriptions_feature_choose", args=[tenant.pk])
    page = manager.get(address)
    values = {name: field.initial for name, field in page.context["form"].fields.items() if name != "reason"} | {
        "confirm": "1"
    }
    values |= {"thresholds": "50, 100", "status_active": "none", "mail_alerts": "", "reason": "Closed for the holidays"}

    for wrong, field in (
        ({"thresholds": ""}, "thresholds"),
        ({"status_paused": "some"}, "status_paused"),
        ({"reason": ""}, "reason"),
    ):
        assert manager.post(address, values | wrong).context["form"].errors[field]
    asked = Question(customer.external_id, "exports")
    assert checking.check(organisation=Organisation.objects.get(pk=tenant.pk), question=asked).verdict.allowed
    assert manager.post(address, values).status_code == 302

    now = Organisation.objects.get(pk=tenant.pk)
    assert checking.check(organisation=now, question=asked).verdict.why == "subscription_active"
    assert now.settings["entitlements"]["thresholds"] == [50, 100]
    assert now.settings["entitlements"]["mail_alerts"] is False
    record = AuditRecord.objects.get(action="organisation.choices_changed")
    assert (record.reason, record.after["entitlements"]["thresholds"]) == ("Closed for the holidays", [50, 100])
    assert address in manager.get(reverse(MATRIX)).content.decode()
    other = browser(make_organisation(local("2026-04-01 09:00")), Role.MANAGER)
    assert other.post(address, values).status_code == 404
    auditor = browser(tenant, Role.AUDITOR)
    assert auditor.get(address).status_code == 403
    assert address not in auditor.get(reverse(MATRIX)).content.decode()


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
    assert grant.expires_at == local("2026-05-01 00:00"), "meant where the organisation is"
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
