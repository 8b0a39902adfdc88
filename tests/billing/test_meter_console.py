"""Console pages of meters and of the usage policy: written by forms that say what is wrong where, tried before they are saved."""

import pytest
from django.urls import reverse

from billing.admin.base import path_to
from billing.models import AuditRecord, Meter, Organisation, Role, UsageEvent
from billing.services import usage_policy
from billing.services.meter_costs import told
from billing.services.meters import create_meter
from tests.subscriptions.house import CLERK, local, make_organisation
from tests.subscriptions.test_console import browser

ADD = "admin:billing_meter_add_meter"
EXPRESSION = 'ceil(bytes / 1024) * if(region = "eu", 2, 1)'


@pytest.fixture
def tenant(db):
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def manager(tenant):
    return browser(tenant, Role.MANAGER)


def meter(tenant, **choices):
    about = {"code": "calls", "name": "Calls", "aggregation": "sum", "unit": "call"} | choices
    return create_meter(organisation=tenant, actor=CLERK, **about)


def given(tenant, **other):
    return {
        "organisation": tenant.pk, "code": "storage", "name": "Storage", "unit": "KB", "aggregation": "sum",
        "expression": EXPRESSION, "properties": "bytes number required\nregion", "rounding": "ceil", "rounding_decimals": "-2",
        "service": "storage", "unit_cost": "0.42", "recurring": "on",
    } | other  # fmt: skip


def test_a_meter_is_begun_in_the_console(tenant, manager):
    assert reverse(ADD) in manager.get("/console/billing/meter/").content.decode()

    answer = manager.post(reverse(ADD), given(tenant, save="yes"))

    made = Meter.objects.get(code="storage")
    assert (answer.status_code, answer.url) == (302, path_to(made))
    assert (made.organisation_id, made.aggregation, made.expression) == (tenant.pk, "sum", EXPRESSION)
    assert (made.recurring, made.rounding, made.rounding_decimals) == (True, "ceil", -2)
    assert (made.service, told(made)) == ("storage", [{"from": "1970-01-01", "unit_cost": "0.42"}])
    assert made.properties == [
        {"name": "bytes", "kind": "number", "required": True}, {"name": "region", "kind": "text", "required": False},
    ]  # fmt: skip
    assert AuditRecord.objects.get(action="meter.created").target_id == str(made.pk)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"code": "a b"}, "code"), ({"name": ""}, "name"), ({"expression": "ceil(bytes"}, "expression"),
        ({"expression": "bytes / bites"}, "properties"), ({"aggregation": "median"}, "aggregation"),
        ({"aggregation": "max"}, "recurring"), ({"aggregation": "unique", "expression": ""}, "unique_property"),
        ({"aggregation": "count", "recurring": ""}, "expression"), ({"properties": "bytes big"}, "properties"),
        ({"properties": "9bytes"}, "properties"), ({"rounding_decimals": "13"}, "rounding_decimals"),
        ({"unit_cost": "-1"}, "unit_cost"), ({"unit_cost": "much"}, "unit_cost"), ({"organisation": ""}, "organisation"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_field(tenant, manager, wrong, field):
    refused = manager.post(reverse(ADD), given(tenant, save="yes") | wrong)

    assert refused.status_code == 200
    assert field in {one.name for _, fields in refused.context["sections"] for one in fields if one.errors}
    assert not Meter.objects.exists()


def test_a_code_is_taken_once(tenant, manager):
    meter(tenant, code="storage")
    refused = manager.post(reverse(ADD), given(tenant, save="yes")).content.decode()
    assert "There is a meter &#x27;storage&#x27; already." in refused
    assert Meter.objects.count() == 1


@pytest.mark.parametrize(
    ("said", "shown"),
    [("bytes: 3000\nregion: eu", ("6 KB", "100 KB")), ('{"bytes": 250000, "region": "us"}', ("245 KB", "300 KB"))],
)
def test_an_event_is_tried_before_anything_is_saved(tenant, manager, said, shown):
    unnamed = given(tenant, code="", name="", organisation="")

    tried = manager.post(reverse(ADD), unnamed | {"try": "yes", "event_properties": said})

    assert (tried.context["trial"]["quantity"], tried.context["trial"]["rounded"]) == shown
    assert tried.context["trial"]["reads"] == "bytes, region"
    assert "This field is required" not in tried.content.decode()
    assert (
        Meter.objects.count()
        == UsageEvent.objects.count()
        == AuditRecord.objects.filter(action="meter.created").count()
        == 0
    )


@pytest.mark.parametrize(
    ("said", "reason"),
    [("region: eu", "bytes: The meter requires this property."), ("bytes: many", "bytes: This is not a decimal number."),
     ("bytes: 1\ncolour: red", "colour: The meter declares no such property."), ("bytes", "Expected a name, a colon"),
     ("{bytes", "This is no JSON"), ('bytes: 1\nregion: 5', "region: Expected a text.")],
)  # fmt: skip
def test_an_event_that_would_be_refused_says_why(tenant, manager, said, reason):
    tried = manager.post(reverse(ADD), given(tenant) | {"try": "yes", "event_properties": said})
    assert tried.context["trial"] is None
    [error] = tried.context["event"][1].errors
    assert reason in error


def test_a_meter_that_counts_is_tried_by_whoever_may_look(tenant):
    users = meter(tenant, code="users", aggregation="unique", unique_property="user", unit="user")
    calls = meter(tenant)
    support = browser(tenant, Role.SUPPORT)

    def tried(row, **event):
        return support.post(reverse("admin:billing_meter_try_event", args=[row.pk]), {"try": "yes"} | event).context[
            "trial"
        ]

    assert (tried(users, event_properties="user: ann")["subject"], tried(calls)["quantity"]) == ("ann", "1 call")
    assert tried(users, event_properties="user: ann\noperation: remove")["sign"] == "taken away"
    assert tried(calls, event_quantity="2.50")["quantity"] == "2.5 call"
    assert tried(calls, event_quantity="-1") is None
    assert "Edit" not in support.get(path_to(calls)).content.decode()


def test_a_meter_is_edited_with_a_reason_and_counts_as_before(tenant, manager):
    row = meter(tenant, expression="bytes / 1024")
    address = reverse("admin:billing_meter_edit", args=[row.pk])
    said = {"save": "yes", "name": "Calls made", "unit": "call", "properties": "bytes number", "service": "api",
            "unit_cost": "0.0000012", "reason": "Costs of May", "expression": "bytes"}  # fmt: skip

    assert 'name="expression"' not in manager.get(address).content.decode()
    for wrong, field in (
        ({"reason": ""}, "reason"), ({"properties": "region"}, "properties"), ({"name": ""}, "name"), ({"unit_cost": "-1"}, "unit_cost"),
    ):  # fmt: skip
        fields = {
            one.name: one.errors
            for _, fields in manager.post(address, said | wrong).context["sections"]
            for one in fields
        }
        assert [name for name, errors in fields.items() if errors] == [field]
    row.refresh_from_db()
    assert (row.name, told(row)) == ("Calls", [])
    assert manager.post(address, said).status_code == 302

    row.refresh_from_db()
    assert (row.name, row.service, told(row)) == (
        "Calls made",
        "api",
        [{"from": "2026-04-01", "unit_cost": "0.0000012"}],
    )
    assert row.expression == "bytes / 1024"
    record = AuditRecord.objects.get(action="meter.updated")
    assert (record.reason, record.before["name"], record.before["unit_costs"]) == ("Costs of May", "Calls", [])
    assert record.after["unit_costs"] == told(row)
    assert 'value="0.0000012"' in manager.get(address).content.decode()

    assert manager.post(address, said | {"unit_cost": "0.5", "unit_cost_from": "2026-06-01"}).status_code == 302
    assert told(row) == [{"from": "2026-04-01", "unit_cost": "0.0000012"}, {"from": "2026-06-01", "unit_cost": "0.5"}]
    assert 'value="0.0000012"' in manager.get(address).content.decode()  # of today
    panel = next(one for one in manager.get(path_to(row)).context["record"].panels if one.title == "What a unit costs")
    assert panel.rows == [("2026-06-01", "0.5 INR"), ("2026-04-01", "0.0000012 INR")]


def test_meters_of_others_are_not_there_and_looking_is_not_writing(tenant):
    row = meter(tenant)
    stranger = browser(make_organisation(local("2026-04-01 09:00")), Role.MANAGER)
    auditor = browser(tenant, Role.AUDITOR)
    for action, code in (("edit", 403), ("try_event", 200)):
        address = reverse(f"admin:billing_meter_{action}", args=[row.pk])
        assert (stranger.get(address).status_code, auditor.get(address).status_code) == (404, code)
    assert auditor.get(reverse(ADD)).status_code == 403
    refused = stranger.post(reverse(ADD), given(tenant, save="yes"))
    assert refused.status_code == 200
    assert Meter.objects.count() == 1


# --- the policy ------------------------------------------------------------------------------------
def policy_page(tenant):
    return reverse("admin:billing_usage_policy_change", args=[tenant.pk])


SAID = {
    "unknown": "park",
    "too_late": "refuse",
    "late_days": "45",
    "retention_months": "6",
    "reason": "The audit of 2026",
}


def test_the_policy_is_foretold_and_changed_with_a_reason(tenant, manager):
    shown = manager.get(reverse("admin:billing_usage_policy")).content.decode()
    assert "30 days" in shown
    assert "usage since 1 Apr 2024 is kept" in shown

    look = manager.post(policy_page(tenant), SAID | {"confirm": "1", "look": "1"})
    assert "Usage from before 1 Oct 2025 is deleted for good" in look.content.decode()
    assert [row[:3] for row in look.context["record"]["panels"][0].rows] == [
        ("Events that name something unknown", "refused", "parked"),
        ("Days for late usage", "30 days", "45 days"),
        ("Months that are kept", "24 months", "6 months"),
    ]
    assert Organisation.objects.get(pk=tenant.pk).settings.get("usage") is None
    assert manager.post(policy_page(tenant), SAID | {"confirm": "1"}).status_code == 302

    now = usage_policy.policy_of(Organisation.objects.get(pk=tenant.pk))
    assert (now.unknown, now.too_late, now.late_days, now.retention_months) == ("park", "refuse", 45, 6)
    record = AuditRecord.objects.get(action="usage_policy.changed")
    assert (record.reason, record.before["late_days"], record.after["late_days"]) == ("The audit of 2026", 30, 45)
    after = manager.get(reverse("admin:billing_usage_policy")).content.decode()
    assert "The audit of 2026" in after
    assert "Days for late usage: 30 → 45" in after


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"late_days": "367"}, "late_days"), ({"late_days": "-1"}, "late_days"), ({"unknown": "drop"}, "unknown"),
     ({"retention_months": "241"}, "retention_months"), ({"retention_months": "1"}, "retention_months"),
     ({"reason": ""}, "reason"), ({"too_late": ""}, "too_late")],
)  # fmt: skip
@pytest.mark.parametrize("look", [{}, {"look": "1"}])
def test_a_wrong_policy_is_refused_at_its_field(tenant, manager, wrong, field, look):
    refused = manager.post(policy_page(tenant), SAID | wrong | look | {"confirm": "1"})
    assert list(refused.context["form"].errors) == [field]
    assert Organisation.objects.get(pk=tenant.pk).settings.get("usage") is None


def test_the_policy_of_others_is_not_there_and_looking_is_not_writing(tenant):
    stranger = browser(make_organisation(local("2026-04-01 09:00")), Role.MANAGER)
    assert stranger.post(policy_page(tenant), SAID | {"confirm": "1"}).status_code == 404
    assert tenant.name in browser(tenant, Role.AUDITOR).get(reverse("admin:billing_usage_policy")).content.decode()
    support, admin = browser(tenant, Role.SUPPORT), browser(tenant, Role.ADMIN)
    assert "Change it" not in support.get(reverse("admin:billing_usage_policy")).content.decode()
    assert support.post(policy_page(tenant), SAID | {"confirm": "1"}).status_code == 403
    assert admin.get(reverse("admin:billing_usage_policy")).status_code == 403
    assert Organisation.objects.get(pk=tenant.pk).settings.get("usage") is None
