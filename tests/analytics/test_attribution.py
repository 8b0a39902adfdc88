"""Revenue, cost and margin by service, and what a customer uses and pays for it."""

from datetime import date
from decimal import Decimal

import pytest
from moneyed import Money

from analytics.attribution import ServiceLine, Tag, by_service
from analytics.services import attribution
from billing.errors import InvalidInput
from billing.services import meters
from invoices.services.credit_notes import issue_credit_note
from subscriptions.services import usage_figures
from subscriptions.services.catalog import PriceInput
from tests.subscriptions.house import (
    CLERK,
    flat,
    invoices_of,
    live,
    local,
    make_customer,
    make_organisation,
    make_plan,
    seats,
    subscribe,
    use,
)  # fmt: skip

pytestmark = pytest.mark.django_db
D = Decimal
TIERS = [{"up_to": "100", "unit_price": "1.00"}, {"up_to": None, "unit_price": "0.50"}]


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def meter(tenant):
    return meters.create_meter(
        organisation=tenant,
        code="calls",
        name="Calls",
        aggregation="sum",
        service="api",
        unit_cost=D("0.10"),
        actor=CLERK,
    )


@pytest.fixture
def subscription(tenant, meter):
    calls = PriceInput(code="calls", name="Calls", currency="INR", model="graduated", tiers=TIERS, meter="calls")
    return subscribe(make_customer(tenant), make_plan(tenant, flat("50.00"), seats("20.00"), calls), quantity=2)


def figures(tenant, month):
    found = attribution.services_by_month(organisation=tenant, since=month, until=month.replace(day=28))
    return {one.service: (one.revenue, one.cost, one.margin("INR")) for one in found}


def test_services_earn_and_cost(tenant, meter, subscription):
    attribution.tag_charges(
        organisation=tenant, actor=CLERK,
        tags={"seats": {"service": "workspace", "unit_cost": "7.50"}, "base": {"service": "workspace"}},
    )  # fmt: skip
    live(tenant, local("2026-04-20 09:00"))
    use(subscription.customer, meter, "120", local("2026-04-10 09:00"))
    live(tenant, local("2026-05-02 09:00"))
    may = date(2026, 5, 1)
    assert figures(tenant, may) == {
        "api": (D(110), D(12), D(98)), "workspace": (D(90), D(15), D(75)),
    }  # fmt: skip

    use(subscription.customer, meter, "30", local("2026-04-11 09:00"))  # late: 15.00 on the next invoice
    live(tenant, local("2026-06-02 09:00"))
    june = date(2026, 6, 1)
    assert figures(tenant, june)["api"] == (D(15), D(3), D(12))
    invoice = invoices_of(subscription)[-1]
    line = next(one for one in invoice.lines.all() if one.code == "seats")
    issue_credit_note(invoice_id=invoice.pk, amounts={line.position: Money("10.00", "INR")}, reason="Away", actor=CLERK)
    assert figures(tenant, june)["workspace"] == (D(80), D(15), D(65))


def test_what_is_said_of_charges_is_checked(tenant):
    for wrong in (
        {"a": "x"},
        {"a": {"service": ""}},
        {"a": {"service": "s", "unit_cost": 1}},
        {"a": {"service": "s", "unit_cost": "-1"}},
    ):
        with pytest.raises(InvalidInput):
            attribution.tag_charges(organisation=tenant, tags=wrong, actor=CLERK)
    assert attribution.tags_of(tenant) == {}


def test_other_currencies_have_no_margin():
    day = date(2026, 5, 1)
    lines = [
        ServiceLine(day, "EUR", "a", "", D("0.5"), D(4), D(10)), ServiceLine(day, "INR", "b", "api", None, D(4), D(10)),
        ServiceLine(day, "INR", "c", "", None, D(4), D(1)),
    ]  # fmt: skip
    found = {
        (one.currency, one.service): (one.revenue, one.cost, one.margin("INR"))
        for one in by_service(lines, {"a": Tag("x", D(9))})
    }
    assert found == {
        ("EUR", "x"): (D(10), D(2), None), ("INR", "api"): (D(10), None, None), ("INR", ""): (D(1), None, None),
    }  # fmt: skip


def test_current_projected_and_past_usage_with_cost(tenant, meter, subscription):
    use(subscription.customer, meter, "60", local("2026-04-02 09:00"))
    live(tenant, local("2026-04-10 09:00"))
    asked = {"organisation": tenant, "customer": subscription.customer}

    [now] = usage_figures.usage_of(**asked)
    assert [(one.component, one.quantity, one.amount.amount) for one in now.parts] == [("calls", D(60), D(60))]
    [later] = usage_figures.usage_of(**asked, when="projected")
    share = (later.ends_at - later.starts_at) / (now.ends_at - now.starts_at)
    assert later.ends_at == local("2026-05-01 00:00")
    assert abs(float(later.parts[0].quantity) - 60 * share) < 0.001
    assert later.amount.amount == (100 + (later.parts[0].quantity - 100) / 2).quantize(D("0.01"))

    live(tenant, local("2026-05-02 09:00"))
    [past] = usage_figures.usage_of(**asked, when="past")
    assert (past.starts_at, past.amount.amount) == (now.starts_at, D(60))
    assert usage_figures.usage_of(**asked)[0].parts == ()
