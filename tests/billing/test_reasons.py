"""Why something was changed is kept over the API as in the console; who may choose is decided in one place."""

from collections.abc import Callable

import pytest
from rest_framework.test import APIClient

from billing.context import Actor
from billing.errors import PermissionRefused
from billing.models import AuditRecord, Meter, Organisation
from billing.services import choices

Clients = Callable[..., APIClient]
WHY = "New contract"
CHANGES = [
    ("patch", "organisation", {"phone": "080 2555 1234"}, "organisation.details_changed"),
    ("patch", "organisation", {"settings": {"net_days": 10}}, "organisation.choices_changed"),
    ("patch", "usage-policy", {"late_days": 45}, "usage_policy.changed"),
    ("patch", "entitlement-policy", {"thresholds": [50]}, "organisation.choices_changed"),
    ("put", "analytics/service-tags", {"services": {"seats": {"service": "workspace"}}}, "services.tagged"),
    ("patch", "meters/{meter}", {"name": "Calls"}, "meter.updated"),
]


@pytest.fixture
def meter(organisation: Organisation) -> Meter:
    return Meter.objects.create(organisation=organisation, code="calls", name="API calls", aggregation="sum")


@pytest.mark.parametrize(("method", "path", "body", "action"), CHANGES)
@pytest.mark.parametrize(("given", "kept"), [({"reason": WHY}, WHY), ({"reason": ""}, ""), ({}, "")])
def test_why_is_kept_and_may_be_left_out(
    organisation: Organisation, meter: Meter, client_of: Clients, method, path, body, action, given, kept
) -> None:
    answer = getattr(client_of(organisation), method)(f"/api/v1/{path.format(meter=meter.pk)}", body | given)

    assert answer.status_code == 200, answer.content
    assert "reason" not in answer.json()
    assert AuditRecord.objects.get(action=action).reason == kept


@pytest.mark.parametrize(("method", "path", "body", "action"), CHANGES)
@pytest.mark.parametrize("reason", ["x" * 501, 7, None, "a\x00b"])
def test_a_broken_reason_is_refused_and_changes_nothing(
    organisation: Organisation, meter: Meter, client_of: Clients, method, path, body, action, reason
) -> None:
    answer = getattr(client_of(organisation), method)(
        f"/api/v1/{path.format(meter=meter.pk)}", body | {"reason": reason}
    )

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "reason")
    assert not AuditRecord.objects.filter(action=action).exists()
    assert Organisation.objects.get(pk=organisation.pk).settings == organisation.settings


def test_a_new_meter_takes_no_reason(organisation: Organisation, client_of: Clients) -> None:
    body = {"code": "gb", "name": "GB", "aggregation": "sum", "reason": WHY}
    assert client_of(organisation).post("/api/v1/meters", body).status_code == 422


# --- entitlements: one permission, whichever way ----------------------------------------------------
ENTITLEMENTS = {"thresholds": [50]}


@pytest.mark.parametrize(
    ("held", "path", "body", "status"),
    [
        (["organisation.edit"], "organisation", {"settings": {"entitlements": ENTITLEMENTS}}, 403),
        (["organisation.edit"], "organisation", {"settings": {"net_days": 9, "entitlements": None}}, 403),
        (["organisation.edit", "plan.edit"], "organisation", {"settings": {"entitlements": ENTITLEMENTS}}, 200),
        (["plan.edit"], "organisation", {"settings": {"entitlements": ENTITLEMENTS}}, 403),
        (["plan.edit"], "entitlement-policy", ENTITLEMENTS, 200),
        (["organisation.edit"], "entitlement-policy", ENTITLEMENTS, 403),
    ],
)
def test_choices_of_entitlements_need_the_permission_to_edit_plans(
    organisation: Organisation, client_of: Clients, held, path, body, status
) -> None:
    answer = client_of(organisation, *held).patch(f"/api/v1/{path}", body)

    assert answer.status_code == status
    changed = AuditRecord.objects.filter(action="organisation.choices_changed").count()
    assert changed == (status == 200)
    assert Organisation.objects.get(pk=organisation.pk).settings.get("net_days") is None
    if status == 403 and held == ["organisation.edit"]:
        assert "plan.edit" in answer.json()["detail"]


def test_the_service_itself_decides(organisation: Organisation) -> None:
    admin = Actor(type="user", id="1", permissions=frozenset({"organisation.edit"}))
    with pytest.raises(PermissionRefused, match=r"plan\.edit") as refusal:
        choices.change(organisation_id=organisation.pk, changes={"entitlements": ENTITLEMENTS}, actor=admin)
    assert refusal.value.field == "settings.entitlements"
    manager = Actor(type="user", id="2", permissions=frozenset({"plan.edit"}))
    with pytest.raises(PermissionRefused, match=r"organisation\.edit"):
        choices.change(organisation_id=organisation.pk, changes={"net_days": 3}, actor=manager)
    assert Organisation.objects.get(pk=organisation.pk).settings == organisation.settings
