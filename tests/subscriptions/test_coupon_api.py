"""Coupons and dunning as an application drives them: over the API, from the first call to the figures."""

from datetime import UTC, datetime

import pytest
from moneyed import Money

from billing import permissions
from billing.admin.base import path_to
from billing.admin.panels import money
from billing.models import Role, TestClock
from billing.services import organisations, outbox
from invoices.rendering.view import invoice_document
from subscriptions.models import AppliedCoupon
from subscriptions.services.billing_run import run_billing
from subscriptions.services.coupon_uses import give_back
from subscriptions.services.dunning import run_dunning
from tests.subscriptions.house import (
    flat,
    invoices_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    subscribe,
)
from tests.subscriptions.test_console import browser
from tests.subscriptions.test_dunning import case_of, invoice_of, live, nth, pay, works  # noqa: F401

from rest_framework.test import APIClient  # isort: skip

pytestmark = pytest.mark.django_db


def client_of(organisation):
    _, secret = organisations.create_api_key(organisation=organisation, name="all", scopes=sorted(permissions.ALL))
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")


def test_a_word_is_made_said_used_and_taken_back():
    tenant = make_organisation(local("2026-04-01 09:00"))
    customer, api = make_customer(tenant), client_of(tenant)
    made = api.post("/api/v1/coupons", {
        "code": "spring", "name": "Spring offer", "kind": "percent", "percent": "12.5", "duration": "forever", "max_redemptions": 1,
    })  # fmt: skip
    assert (made.status_code, made.json()["percent"], made.json()["amount"]) == (201, "12.5000", None)
    assert api.post("/api/v1/promotion-codes", {"code": "hello", "coupon": "spring"}).json()["code"] == "HELLO"

    taken = api.post("/api/v1/applied-coupons", {"customer": str(customer.pk), "promotion_code": "Hello"})
    again = api.post("/api/v1/applied-coupons", {"customer": str(make_customer(tenant).pk), "coupon": "spring"})
    assert (taken.status_code, again.status_code, again.json()["code"]) == (201, 409, "coupon_used_up")
    subscription = subscribe(customer, make_plan(tenant, flat("1000", tax_category="saas")))
    run(tenant)

    [invoice] = invoices_of(subscription)
    shown = api.get(f"/api/v1/applied-coupons/{taken.json()['id']}").json()
    assert (shown["uses"], shown["discounted"], shown["periods_left"]) == (
        1,
        {"amount": "125.00", "currency": "INR"},
        None,
    )
    assert shown["used"] == [
        {"invoice": str(invoice.pk), "invoice_number": invoice.number, "amount": {"amount": "125.00", "currency": "INR"},
         "used_at": shown["used"][0]["used_at"]},
    ]  # fmt: skip
    assert [line.notes[-1] for line in invoice_document(invoice).lines] == ["Spring offer: −125.00"]
    removed = api.post(f"/api/v1/applied-coupons/{taken.json()['id']}/remove", {"reason": "Not meant for them"})
    assert removed.json()["status"] == "removed"
    found = api.get("/api/v1/applied-coupons", {"customer": str(customer.pk), "status": "removed"}).json()["results"]
    assert [row["id"] for row in found] == [taken.json()["id"]]


def test_a_preview_over_the_api_shows_the_discount():
    tenant = make_organisation(local("2026-04-01 09:00"))
    customer, api = make_customer(tenant), client_of(tenant)
    offered = {"code": "gift", "name": "Gift", "kind": "fixed", "amount": {"amount": "300.00", "currency": "INR"}}
    assert api.post("/api/v1/coupons", offered).status_code == 201
    api.post("/api/v1/applied-coupons", {"customer": str(customer.pk), "coupon": "gift"})
    plan = make_plan(tenant, flat("1000"))
    new = {"customer": customer.external_id, "plan": plan.code}

    seen = api.post("/api/v1/subscriptions/preview", {"new": new}).json()
    subscription = subscribe(customer, plan)
    run(tenant)

    assert [one["total"]["amount"] for one in seen["invoices"]] == ["700.00", "1000.00"]
    assert [f"{one.total.amount:.2f}" for one in invoices_of(subscription)] == ["700.00"]


def test_dunning_is_paused_run_and_weighed_over_the_api(works):  # noqa: F811
    api = client_of(works)
    live(works, 1)
    first, second = (case_of(nth(works, n)) for n in (0, 1))
    made = api.post("/api/v1/dunning-pauses", {
        "customer": str(first.customer_id), "until": "2026-06-20", "reason": "Cheque is on its way",
    })  # fmt: skip
    assert made.status_code == 201
    TestClock.objects.filter(pk=works.test_clock_id).update(now=datetime(2026, 6, 7, 6, tzinfo=UTC))

    dry = api.post("/api/v1/dunning/run", {"dry_run": True}).json()
    wet = api.post("/api/v1/dunning/run", {"dry_run": False}).json()

    assert dry["steps"] == wet["steps"]
    assert [(step["case"], step["stage"], step["actions"]) for step in wet["steps"]] == [
        (str(second.pk), 2, ["mail:reminder_2"])
    ]
    assert run_dunning(organisation=works).steps == ()
    lifted = api.post(f"/api/v1/dunning-pauses/{made.json()['id']}/lift", {"reason": "The cheque came"})
    assert lifted.json()["lifted_on"] == "2026-06-07"
    pay(invoice_of(nth(works, 1)))

    refused = api.get("/api/v1/dunning/recovery?from=2026-07-01&to=2026-06-30")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "from")
    [figures] = api.get("/api/v1/dunning/recovery?from=2026-06-01&to=2026-06-30").json()["currencies"]
    assert (figures["opened"], figures["open"], figures["recovered"], figures["rate"]) == (2, 1, 1, "1.0000")
    assert [(row["stage"], row["reached"], row["cases"], row["rate"]) for row in figures["by_stage"]] == [
        (0, 2, 0, "0.0000"), (1, 2, 0, "0.0000"), (2, 1, 1, "1.0000"),
    ]  # fmt: skip


def test_amounts_of_different_currencies_never_meet():
    tenant = make_organisation(local("2026-04-01 09:00"))
    customer, api = make_customer(tenant), client_of(tenant)
    plan = make_plan(tenant, flat("1000"), flat("50", currency="EUR"))
    body = {"code": "ten", "name": "Ten", "kind": "percent", "percent": "10", "duration": "forever"}
    assert api.post("/api/v1/coupons", body).status_code == 201
    applied = api.post("/api/v1/applied-coupons", {"customer": str(customer.pk), "coupon": "ten"}).json()["id"]
    subscribe(customer, plan)
    euros = subscribe(customer, plan, currency="EUR")
    run(tenant)

    def shown():
        found = api.get(f"/api/v1/applied-coupons/{applied}").json()
        return (
            found["uses"],
            found["discounted"]["amount"],
            [tuple(one.values()) for one in found["discounted_by_currency"]],
        )

    assert shown() == (2, "100.00", [("5.00", "EUR"), ("100.00", "INR")])
    row = AppliedCoupon.objects.get(pk=applied)
    text = browser(tenant, Role.MANAGER).get(path_to(row)).content.decode()
    assert f"{money(Money(5, 'EUR'))}, {money(Money(100, 'INR'))}" in text
    give_back(invoice_id=invoices_of(euros)[0].pk)
    assert shown() == (1, "100.00", [("100.00", "INR")])
    assert AppliedCoupon.objects.get(pk=applied).discounted == 100


def test_a_discounted_debt_is_chased_for_what_is_left_of_it(works):  # noqa: F811
    api = client_of(works)
    offered = {"code": "half", "name": "Half", "kind": "percent", "percent": "50", "duration": "forever"}
    assert api.post("/api/v1/coupons", offered).status_code == 201
    api.post("/api/v1/applied-coupons", {"customer": str(nth(works, 0).customer_id), "coupon": "half"})
    TestClock.objects.filter(pk=works.test_clock_id).update(now=datetime(2026, 7, 1, 6, tzinfo=UTC))
    run_billing(organisation=works)
    outbox.dispatch(works.pk, wait=True)
    plain, half = invoice_of(nth(works, 0)), invoice_of(nth(works, 0), 1)
    assert half.net.amount * 2 <= plain.net.amount + 2
    live(works, 40)
    assert case_of(nth(works, 0), 1).claimed == half.total
