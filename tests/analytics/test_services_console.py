"""The console's page of services: revenue, cost and margin by month and currency, and which charge is of which service."""

from datetime import date
from decimal import Decimal

import pytest
from django.urls import reverse

from analytics.attribution import DatedCost
from analytics.services import attribution
from billing.models import AuditRecord, Organisation, Role
from billing.services import meters
from subscriptions.services.catalog import PriceInput
from tests.subscriptions.house import (
    CLERK,
    flat,
    live,
    local,
    make_customer,
    make_organisation,
    make_plan,
    seats,
    subscribe,
    use,
)
from tests.subscriptions.test_console import browser

pytestmark = pytest.mark.django_db
D = Decimal
PAGE = "admin:analytics_services"
FROM_THE_BEGINNING = DatedCost(date(1970, 1, 1), D("7.50"))
TIERS = [{"up_to": "100", "unit_price": "1.00"}, {"up_to": None, "unit_price": "0.50"}]


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def subscription(tenant):
    meter = meters.create_meter(
        organisation=tenant,
        code="calls",
        name="Calls",
        aggregation="sum",
        service="api",
        unit_cost=D("0.10"),
        actor=CLERK,
    )
    calls = PriceInput(code="calls", name="Calls", currency="INR", model="graduated", tiers=TIERS, meter="calls")
    made = subscribe(make_customer(tenant), make_plan(tenant, flat("50.00"), seats("20.00"), calls), quantity=2)
    live(tenant, local("2026-04-20 09:00"))
    use(made.customer, meter, "120", local("2026-04-10 09:00"))
    live(tenant, local("2026-05-02 09:00"))
    return made


def tags_page(tenant):
    return reverse("admin:analytics_service_tags", args=[tenant.pk])


def shown(client, **asked):
    """The tables of the first currency: its services, its months."""
    return [panel.rows for panel in client.get(reverse(PAGE), asked).context["currencies"][0]["record"].panels]


def test_revenue_cost_and_margin_by_month(tenant, subscription):
    auditor = browser(tenant, Role.AUDITOR)
    services, months = shown(auditor)
    assert services == [
        ("no service", "₹180.00", "–", "–", "–", "base, seats"), ("api", "₹110.00", "₹12.00", "₹98.00", "89.1 %", "calls"),
    ]  # fmt: skip
    assert months == [
        ("May 2026", "api", "₹110.00", "₹12.00", "₹98.00", "89.1 %"), ("May 2026", "no service", "₹90.00", "–", "–", "–"),
        ("Apr 2026", "no service", "₹90.00", "–", "–", "–"),
    ]  # fmt: skip
    figures = auditor.get(reverse(PAGE)).context["currencies"][0]["record"].figures
    assert [one.value for one in figures] == ["₹290.00", "₹12.00", "₹98.00"]
    assert [row[0] for row in shown(auditor, since="2026-04-01", until="2026-04-30")[1]] == ["Apr 2026"]
    assert "<svg" in auditor.get(reverse(PAGE)).content.decode()


@pytest.mark.parametrize(
    ("asked", "field"),
    [({"since": "2026-02-31", "until": "2026-05-01"}, "since"), ({"since": "2026-05-02", "until": "2026-05-01"}, "until"),
     ({"since": "2026-05-02"}, "until")],
)  # fmt: skip
def test_wrong_days_are_said_at_their_field(tenant, subscription, asked, field):
    answer = browser(tenant, Role.AUDITOR).get(reverse(PAGE), asked)
    assert (answer.status_code, list(answer.context["form"].errors), answer.context["currencies"]) == (200, [field], [])


def test_charges_get_services_with_a_reason(tenant, subscription):
    manager = browser(tenant, Role.MANAGER)
    assert [code for code, _ in manager.get(tags_page(tenant)).context["form"].rows] == ["base", "seats", ""]
    said = {"service_0": "workspace", "service_1": "workspace", "cost_1": "7.50", "code_2": "setup", "service_2": "start",
            "reason": "Costs of 2026"}  # fmt: skip

    for wrong, field in (
        ({"reason": ""}, "reason"), ({"cost_1": "-1"}, "cost_1"), ({"service_1": ""}, "service_1"), ({"code_2": ""}, "code_2"),
        ({"code_2": "base"}, "code_2"), ({"service_2": ""}, "service_2"),
    ):  # fmt: skip
        assert list(manager.post(tags_page(tenant), said | wrong).context["form"].errors) == [field]
    assert attribution.tags_of(Organisation.objects.get(pk=tenant.pk)) == {}
    answer = manager.post(tags_page(tenant), said)

    assert (answer.status_code, answer.url) == (302, f"{reverse(PAGE)}?organisation={tenant.pk}")
    assert attribution.tags_of(Organisation.objects.get(pk=tenant.pk)) == {
        "base": attribution.Tag("workspace"), "seats": attribution.Tag("workspace", (FROM_THE_BEGINNING,)),
        "setup": attribution.Tag("start"),
    }  # fmt: skip
    assert AuditRecord.objects.get(action="services.tagged").reason == "Costs of 2026"
    assert ("May 2026", "workspace", "₹90.00", "₹15.00", "₹75.00", "83.3 %") in shown(manager)[1]
    again = manager.get(tags_page(tenant))
    assert [code for code, _ in again.context["form"].rows] == ["base", "seats", "setup", ""]
    assert again.context["services"] == ["api", "start", "workspace"]
    manager.post(tags_page(tenant), {"service_1": "workspace", "reason": "Only seats"})
    today = DatedCost(date(2026, 5, 2), None)
    assert attribution.tags_of(Organisation.objects.get(pk=tenant.pk)) == {
        "seats": attribution.Tag("workspace", (FROM_THE_BEGINNING, today))
    }


def test_services_of_others_are_not_there_and_looking_is_not_writing(tenant, subscription):
    stranger = browser(make_organisation(local("2026-04-01 09:00")), Role.MANAGER)
    auditor, support = browser(tenant, Role.AUDITOR), browser(tenant, Role.SUPPORT)
    said = {"service_0": "mine", "reason": "I want it"}
    assert stranger.post(tags_page(tenant), said).status_code == 404
    assert (auditor.post(tags_page(tenant), said).status_code, support.get(reverse(PAGE)).status_code) == (403, 403)
    assert stranger.get(reverse(PAGE), {"organisation": tenant.pk}).context["currencies"] == []
    assert "said here" not in auditor.get(reverse(PAGE)).content.decode()
    assert attribution.tags_of(Organisation.objects.get(pk=tenant.pk)) == {}


def test_a_month_of_more_credit_than_revenue_hangs_below_the_axis():
    from analytics.admin.services import _currencies
    from analytics.attribution import ServiceFigure

    [one] = _currencies([ServiceFigure(date(2026, 5, 1), "INR", "api", D(-40), D(10), {"calls"})], "INR")
    assert one["record"].panels[1].rows == [("May 2026", "api", "-₹40.00", "₹10.00", "-₹50.00", "–")]
    assert "api, May 26: 40 INR" in one["record"].picture


def test_a_customers_page_has_past_usage(tenant, subscription):
    page = browser(tenant, Role.SUPPORT).get(f"/console/billing/customer/{subscription.customer_id}/change/")
    panels = {panel.title: panel for panel in page.context["record"].panels}
    past = panels["Usage that was billed"].rows
    assert [row[1:] for row in past] == [("1 Apr 2026, 09:00", "1 May 2026, 00:00", "Calls", "120", "₹110.00")]
    assert "Usage not billed yet" in panels
