"""Revenue, cost and margin by service, and what a customer uses and pays for it."""

from datetime import date
from decimal import Decimal

import pytest
from moneyed import Money

from analytics.attribution import DatedCost, ServiceLine, Tag, by_service
from analytics.services import attribution
from billing.errors import InvalidInput
from billing.models import Meter
from billing.services import meters, usage
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
from tests.subscriptions.test_api import client_of

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


def test_another_cost_leaves_what_was_used_before_as_it_was(tenant, meter, subscription):
    """0.10 until 20 May, then 0.40, for 30 calls each month; seats of two at 7.50, from 10 May 9.00."""
    attribution.tag_charges(
        organisation=tenant, actor=CLERK, tags={"seats": {"service": "workspace", "unit_cost": "7.50"}}
    )
    use(subscription.customer, meter, "30", local("2026-04-10 09:00"))
    live(tenant, local("2026-05-10 09:00"))
    april, may, june, july = (date(2026, month, 1) for month in (4, 5, 6, 7))
    before = figures(tenant, april), figures(tenant, may)
    assert (before[1]["api"][1], before[1]["workspace"][1]) == (D(3), D(15))

    change = {"organisation": tenant, "meter_id": meter.pk, "actor": CLERK}
    meters.update_meter(**change, unit_cost=D("0.40"), unit_cost_from=date(2026, 5, 20))
    meters.update_meter(
        **change, name="Calls made", unit_cost=D("0.10")
    )  # as the console sends it: today's cost, unchanged
    attribution.tag_charges(
        organisation=tenant, actor=CLERK, tags={"seats": {"service": "workspace", "unit_cost": "9.00"}}
    )
    assert (figures(tenant, april), figures(tenant, may)) == before

    use(subscription.customer, meter, "30", local("2026-05-15 09:00"))
    use(subscription.customer, meter, "62", local("2026-04-15 09:00"))  # late: of April, at April's cost
    use(subscription.customer, meter, "30", local("2026-06-15 09:00"))
    live(tenant, local("2026-07-02 09:00"))
    assert (figures(tenant, april), figures(tenant, may)) == before
    assert round(figures(tenant, june)["api"][1], 12) == D("12.683870967742")  # 30 * (19 * 0.10 + 12 * 0.40) / 31 + 6.2
    assert figures(tenant, july)["api"][1] == D(12)
    assert (figures(tenant, june)["workspace"][1], figures(tenant, july)["workspace"][1]) == (D(18), D(18))

    meters.update_meter(**change, unit_cost=D("0.20"), unit_cost_from=date(2026, 4, 1))  # said of the past on purpose
    assert figures(tenant, may)["api"][1] == D(6)
    meters.update_meter(**change, unit_cost=None, unit_cost_from=date(2026, 6, 1))
    assert figures(tenant, july)["api"] == (D(30), None, None)


def test_the_last_cost_said_on_a_day_holds_for_the_whole_day(tenant, meter, subscription):
    """Costs are of days: what was invoiced in the morning costs what was said in the evening, yesterday stays as it was."""
    use(subscription.customer, meter, "30", local("2026-04-10 09:00"))
    live(tenant, local("2026-05-01 09:00"))  # April's calls are on an invoice of this morning
    attribution.tag_charges(
        organisation=tenant, actor=CLERK, tags={"seats": {"service": "workspace", "unit_cost": "7.50"}}
    )
    change = {"organisation": tenant, "meter_id": meter.pk, "actor": CLERK}
    for cost in ("0.40", "0.30"):
        meters.update_meter(**change, unit_cost=D(cost), unit_cost_from=date(2026, 4, 30))
    attribution.tag_charges(
        organisation=tenant, actor=CLERK, tags={"seats": {"service": "workspace", "unit_cost": "9.00"}}
    )

    may = figures(tenant, date(2026, 5, 1))
    assert may["api"][1] == D("3.2")  # 29 days at 0.10, the 30th at 0.30
    assert may["workspace"][1] == D(18)


def test_a_cost_kept_before_costs_had_dates_counts_from_the_beginning(tenant, subscription):
    tenant.settings = {"services": {"seats": {"service": "workspace", "unit_cost": "7.50"}}}
    tenant.save()
    live(tenant, local("2026-04-20 09:00"))
    assert figures(tenant, date(2026, 4, 1))["workspace"] == (D(40), D(15), D(25))
    tags = {"seats": {"service": "team", "unit_cost": "8"}}
    [tag] = attribution.tag_charges(organisation=tenant, actor=CLERK, tags=tags).values()
    assert tag == Tag("team", (DatedCost(date(1970, 1, 1), D("7.50")), DatedCost(date(2026, 4, 20), D(8))))


def test_a_meters_cost_through_the_api(tenant, meter):
    api = client_of(tenant)

    def told(**change):
        answer = api.patch(f"/api/v1/meters/{meter.pk}", change, format="json")
        return answer.status_code, answer.json()

    code, said = told(unit_cost="0.25", unit_cost_from="2026-04-02")
    costs = [{"from": "1970-01-01", "unit_cost": "0.1"}, {"from": "2026-04-02", "unit_cost": "0.25"}]
    assert (code, said["unit_cost"], said["unit_costs"]) == (200, "0.100000000000", costs)
    for change, field in (
        ({"unit_cost_from": "2026-05-01"}, "unit_cost"), ({"unit_cost": "1", "unit_cost_from": "1969-12-31"}, "unit_cost_from"),
        ({"unit_cost": "-1"}, "unit_cost"), ({"unit_cost": "1", "unit_cost_from": "May"}, "unit_cost_from"),
    ):  # fmt: skip
        code, problem = told(name="Other", **change)
        assert (code, [one["field"] for one in problem["errors"]]) == (422, [field])
    assert told(unit_cost="0.3")[1]["unit_costs"][1] == {"from": "2026-04-01", "unit_cost": "0.3"}
    [listed] = api.get("/api/v1/meters").json()["results"]
    assert (listed["name"], listed["unit_cost"], len(listed["unit_costs"])) == ("Calls", "0.300000000000", 3)


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
        ServiceLine(day, "EUR", "a", "", D(2), D(10)), ServiceLine(day, "INR", "b", "api", None, D(10)),
        ServiceLine(day, "INR", "c", "", None, D(1)),
    ]  # fmt: skip
    found = {
        (one.currency, one.service): (one.revenue, one.cost, one.margin("INR"))
        for one in by_service(lines, {"a": Tag("x")})
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


@pytest.mark.parametrize(
    ("rule", "properties", "now", "projected"),
    [
        ({"aggregation": "sum"}, {}, "90.00", "300.00"),
        ({"aggregation": "count"}, {}, "2.00", "6.67"),
        ({"aggregation": "sum", "recurring": True}, {}, "90.00", "90.00"),
        ({"aggregation": "max"}, {}, "60.00", "60.00"),
        ({"aggregation": "latest"}, {}, "60.00", "60.00"),
        ({"aggregation": "unique", "unique_property": "who"}, {"who": "asha"}, "1.00", "1.00"),
        (
            {"aggregation": "weighted"},
            {},
            "50.00",
            "78.00",
        ),  # 30 for six days and 90 for three; then 90 for the other 21
        ({"aggregation": "weighted", "recurring": True}, {}, "50.00", "78.00"),
    ],
)
def test_what_grows_is_projected_to_grow_on_and_a_level_to_stay(tenant, rule, properties, now, projected):
    """30 on the first of April and 60 on the seventh, seen when nine of thirty days have passed."""
    meters.create_meter(organisation=tenant, code="calls", name="Calls", actor=CLERK, **rule)
    calls = PriceInput(
        code="calls",
        name="Calls",
        currency="INR",
        model="per_unit",
        unit_price=D(1),
        meter="calls",
        tax_category="saas",
    )
    subscription = subscribe(make_customer(tenant), make_plan(tenant, calls), start_at=local("2026-04-01 00:00"))
    live(tenant, local("2026-04-10 00:00"))
    for event, (day, quantity) in enumerate((("01", "30"), ("07", "60"))):
        (verdict,) = usage.ingest(
            organisation=tenant,
            events=[{"event_id": f"e-{event}", "meter": "calls", "customer": subscription.customer.external_id,
                     "quantity": quantity, "occurred_at": local(f"2026-04-{day} 00:00").isoformat(), "properties": properties}],
        )  # fmt: skip
        assert verdict.status == "accepted"
    asked = f"/api/v1/customers/{subscription.customer_id}/usage"

    def cost(when):
        [figure] = client_of(tenant).get(asked, {"when": when}).json()["usage"]
        return figure["amount"]["amount"]

    assert (cost("current"), cost("projected")) == (now, projected)
    live(tenant, local("2026-05-01 00:00"))
    if rule["aggregation"] not in ("sum", "count") or rule.get("recurring"):  # nothing else happened: so it was billed
        assert f"{invoices_of(subscription)[-1].net.amount:.2f}" == projected


def test_past_usage_shows_whole_periods_only(tenant, meter, monkeypatch):
    """Of four windows three may be shown: April's two do not both fit, so only May is there, with all of its amount."""
    meters.create_meter(organisation=tenant, code="mails", name="Mails", aggregation="sum", actor=CLERK)
    priced = [
        PriceInput(code=code, name=code, currency="INR", model="per_unit", unit_price=D(1), meter=code)
        for code in ("calls", "mails")
    ]
    customer = make_customer(tenant)
    subscribe(customer, make_plan(tenant, flat("50.00"), *priced))
    for month, quantity in (("04", "10"), ("05", "20")):
        for one in Meter.objects.of(tenant):
            use(customer, one, quantity, local(f"2026-{month}-03 09:00"))
    live(tenant, local("2026-06-02 09:00"))

    def past():
        found = usage_figures.usage_of(organisation=tenant, customer=customer, when="past")
        return [(one.ends_at, one.amount.amount) for one in found]

    assert past() == [(local("2026-06-01 00:00"), D(40)), (local("2026-05-01 00:00"), D(20))]
    monkeypatch.setattr(usage_figures, "MAX_WINDOWS", 3)
    assert past() == [(local("2026-06-01 00:00"), D(40))]
