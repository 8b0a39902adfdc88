"""The API of plans and subscriptions: exact answers, refusals, tenants, permissions."""

import json
import uuid
from datetime import timedelta

import pytest
from moneyed import Money
from rest_framework.test import APIClient

from billing import clock, permissions
from billing.models import AuditRecord, Customer, IdempotencyRecord
from billing.models.fields import lookup_hash
from billing.services import organisations
from payments.models import GatewayAccount, PaymentMethod
from payments.services import accounts
from subscriptions.models import Plan, Subscription
from tests.subscriptions.house import (
    CLERK,
    amounts,
    flat,
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

pytestmark = pytest.mark.django_db
API = "/api/v1"


def client_of(organisation, *scopes):
    _, secret = organisations.create_api_key(
        organisation=organisation, name="test", scopes=scopes or sorted(permissions.ALL)
    )
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


@pytest.fixture
def client(tenant):
    return client_of(tenant)


PLAN = {
    "code": "team",
    "name": "Team",
    "interval": "month",
    "versions": [
        {
            "prices": [
                {"code": "seats", "name": "Seats", "currency": "INR", "model": "per_unit", "unit_price": "499.00"},
                {
                    "code": "calls", "name": "Calls", "currency": "INR", "model": "graduated", "meter": "calls",
                    "tiers": [{"up_to": "1000", "unit_price": "0"}, {"up_to": None, "unit_price": "0.02"}],
                },
            ]
        }
    ],
}  # fmt: skip


def test_a_plan_is_offered_and_read_back(tenant, client):
    make_meter(tenant)

    made = client.post(f"{API}/plans", PLAN, format="json")
    listed = client.get(f"{API}/plans", {"code": "team"})

    assert made.status_code == 201, made.content
    body = made.json()
    assert body["versions"][0]["number"] == 1
    plain = {
        "kind": "recurring",
        "properties": {},
        "prorated": True,
        "min_commitment": None,
        "filters": [],
        "group_by": [],
    }
    assert body["versions"][0]["prices"] == [
        plain | {"code": "seats", "name": "Seats", "currency": "INR", "model": "per_unit", "unit_price": "499", "tiers": [],
                 "meter": None, "pay_in_advance": True, "unit": "", "tax_category": "", "position": 1},
        plain | {"code": "calls", "name": "Calls", "currency": "INR", "model": "graduated", "unit_price": None,
                 "tiers": [{"up_to": "1000", "unit_price": "0", "flat_fee": "0"},
                           {"up_to": None, "unit_price": "0.02", "flat_fee": "0"}],
                 "meter": "calls", "pay_in_advance": False, "unit": "call", "tax_category": "", "position": 2},
    ]  # fmt: skip
    assert listed.json()["results"] == [body]
    assert client.get(f"{API}/plans/{body['id']}").json() == body


def test_a_version_is_added_and_a_plan_archived(tenant, client):
    plan = make_plan(tenant, flat("100.00"))
    price = {"code": "base", "name": "Base", "currency": "INR", "model": "flat", "unit_price": "150"}

    added = client.post(f"{API}/plans/{plan.pk}/versions", {"prices": [price]}, format="json")
    archived = client.post(f"{API}/plans/{plan.pk}/archive", format="json")

    assert [version["number"] for version in added.json()["versions"]] == [2, 1]
    assert archived.json()["archived_at"] == "2026-04-01T03:30:00Z"
    assert client.get(f"{API}/plans", {"archived": "true"}).json()["results"][0]["id"] == str(plan.pk)
    assert client.get(f"{API}/plans", {"archived": "false"}).json()["results"] == []


def test_a_subscription_lives_through_the_api(tenant, client, customer):
    plan = make_plan(tenant, seats("300.00", tax_category="saas"))
    made = client.post(
        f"{API}/subscriptions",
        {
            "customer": customer.external_id,
            "plan": plan.code,
            "quantity": 2,
            "external_id": "s-1",
            "metadata": {"crm": "7"},
        },
        format="json",
    )
    assert made.status_code == 201, made.content
    body = made.json()
    one = f"{API}/subscriptions/{body['id']}"
    assert (body["status"], body["period_end"], body["failure"]) == ("active", "2026-04-30T18:30:00Z", "")

    turn(tenant, local("2026-04-11 10:00"))
    changed = client.post(f"{one}/change", {"quantity": 5}, format="json").json()
    assert changed["documents"]["invoice"]["total"] == {"amount": "708.00", "currency": "INR"}
    planned = client.post(f"{one}/change", {"quantity": 1, "when": "period_end"}, format="json").json()
    assert planned["planned_changes"][0]["quantity"] == 1
    assert client.post(f"{one}/cancel-change", format="json").json()["planned_changes"] == []
    paused = client.post(f"{one}/pause", {"resume_at": "2026-04-20T00:00:00Z"}, format="json").json()
    assert (paused["status"], paused["next_billing_at"]) == ("paused", None)
    assert client.post(f"{one}/pause", {}, format="json").json()["code"] == "transition_refused"
    assert client.post(f"{one}/resume", format="json").json()["status"] == "active"
    assert client.post(f"{one}/cancel", {"when": "period_end"}, format="json").json()["cancel_at"] == body["period_end"]
    assert client.post(f"{one}/uncancel", format="json").json()["cancel_at"] is None
    turn(tenant, local("2026-04-20 10:00"))
    ended = client.post(f"{one}/cancel", {"credit": "prorated", "reason": "moved"}, format="json").json()

    assert (ended["status"], ended["cancel_reason"]) == ("cancelled", "moved")
    credited = {note["invoice"]: note["total"]["amount"] for note in ended["documents"]["credit_notes"]}
    first, second = invoices_of(Subscription.objects.get(pk=body["id"]))
    assert credited == {str(second.pk): "590.00"}
    periods = client.get(f"{one}/periods").json()["results"]
    assert [(row["kind"], row["invoice"]["number"]) for row in periods] == [("cycle", first.number)]


def test_a_new_subscription_is_billed_at_once_or_after_its_trial(tenant, client, customer):
    plan = make_plan(tenant, flat("100.00"), trial_days=7)
    given = {"customer": str(customer.pk), "plan": str(plan.pk)}

    trial = client.post(f"{API}/subscriptions", given, format="json").json()
    paid = client.post(f"{API}/subscriptions", given | {"trial_days": 0}, format="json").json()

    assert (trial["status"], trial["trial_ends_at"]) == ("trialing", "2026-04-07T18:30:00Z")
    assert invoices_of(Subscription.objects.get(pk=trial["id"])) == []
    assert len(invoices_of(Subscription.objects.get(pk=paid["id"]))) == 1


def test_the_same_key_subscribes_once(tenant, client, customer):
    plan = make_plan(tenant, flat("100.00"))
    given = {"customer": customer.external_id, "plan": plan.code}

    answers = [client.post(f"{API}/subscriptions", given, format="json", HTTP_IDEMPOTENCY_KEY="k-1") for _ in range(3)]

    assert len({answer.content for answer in answers}) == 1
    assert answers[2]["Idempotent-Replayed"] == "true"
    assert (Subscription.objects.count(), IdempotencyRecord.objects.count()) == (1, 1)


def test_previews_and_quotes(tenant, client, customer):
    plan = make_plan(tenant, seats("300.00", tax_category="saas"))
    subscription = subscribe(customer, plan, quantity=2)
    run(tenant)
    turn(tenant, local("2026-04-11 10:00"))

    new = client.post(
        f"{API}/subscriptions/preview",
        {"new": {"customer": customer.external_id, "plan": plan.code}, "count": 1},
        format="json",
    ).json()
    change = {"subscription": str(subscription.pk), "quantity": 1}
    changed = client.post(f"{API}/subscriptions/preview", {"change": change, "count": 1}, format="json").json()
    quoted = client.post(f"{API}/prices/quote", {"plan": plan.code, "quantity": "3"}, format="json").json()
    tiers = [{"up_to": "10", "unit_price": "1", "flat_fee": "5"}, {"up_to": None, "unit_price": "0.125"}]
    graduated = client.post(
        f"{API}/prices/quote",
        {"price": {"currency": "INR", "model": "graduated", "tiers": tiers}, "quantity": "13"},
        format="json",
    ).json()

    assert new["invoices"] == [
        {
            "at": "2026-04-11T04:30:00Z", "issued_at": "2026-04-11T04:30:00Z", "period_start": "2026-04-11", "period_end": "2026-05-10",
            "lines": [
                {"description": "Seats", "code": "seats", "quantity": "1", "unit_price": "300",
                 "amount": {"amount": "300.00", "currency": "INR"}, "tax_rate": "18.0000", "tax": {"amount": "54.00", "currency": "INR"}}
            ],
            "net": {"amount": "300.00", "currency": "INR"}, "tax": {"amount": "54.00", "currency": "INR"},
            "total": {"amount": "354.00", "currency": "INR"},
        }
    ]  # fmt: skip
    assert [credit["total"]["amount"] for credit in changed["credits"]] == ["236.00"]
    assert [invoice["total"]["amount"] for invoice in changed["invoices"]] == ["354.00"]
    assert quoted["total"] == {"amount": "900.00", "currency": "INR"}
    assert (graduated["total"]["amount"], [tier["amount"] for tier in graduated["components"][0]["tiers"]]) == (
        "15.38",
        ["15", "0.375"],
    )


def test_a_suspension_and_what_takes_it_up_again_are_foretold_and_keep_their_reason(tenant, client, customer):
    """Suspended on 5 May, reactivated on 15 June: the preview names the bill for the rest of June, and that is what comes."""
    plan = make_plan(tenant, seats("300.00"))
    made = client.post(
        f"{API}/subscriptions", {"customer": customer.external_id, "plan": plan.code}, format="json"
    ).json()
    one, subscription = f"{API}/subscriptions/{made['id']}", Subscription.objects.get(pk=made["id"])

    def foretold(action, **asked):
        body = {action: {"subscription": made["id"], **asked}, "count": 1}
        answer = client.post(f"{API}/subscriptions/preview", body, format="json")
        assert answer.status_code == 200, answer.content
        found = answer.json()
        return [one["net"]["amount"] for one in found["invoices"]], [one["what"] for one in found["events"]]

    turn(tenant, local("2026-05-05 09:00"))
    due_first = foretold("suspend")
    assert client.post(f"{one}/suspend", {"reason": "Does not pay"}, format="json").status_code == 200
    assert (due_first, amounts(invoices_of(subscription))) == ((["300.00"], ["renewed", "suspended"]), ["300.00"] * 2)
    turn(tenant, local("2026-06-15 09:00"))
    again = foretold("reactivate")
    assert client.post(f"{one}/reactivate", {"reason": "Has paid"}, format="json").status_code == 200
    assert (again[0][0], amounts(invoices_of(subscription))) == ("160.00", ["300.00", "300.00", "160.00"])
    assert again[1][0] == "recovered"
    client.post(f"{one}/change", {"quantity": 5, "when": "period_end"}, format="json")
    client.post(f"{one}/cancel", {"when": "period_end"}, format="json")
    assert foretold("cancel_change", reason="Stays") == ([], ["cancelled"])
    assert client.post(f"{one}/cancel-change", {"reason": "Stays"}, format="json").status_code == 200
    assert foretold("uncancel", reason="Stays") == (["300.00"], ["renewed"])
    assert client.post(f"{one}/uncancel", {"reason": "Stays"}, format="json").status_code == 200

    kept = AuditRecord.objects.filter(target_id=made["id"]).exclude(reason="").order_by("id")
    assert list(kept.values_list("action", "reason")) == [
        ("subscription.suspended", "Does not pay"), ("subscription.recovered", "Has paid"),
        ("subscription.planned_change_cancelled", "Stays"), ("subscription.uncancelled", "Stays"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("plans", "ours", "lives_in", "start", "ends", "days"),
    [
        ("customer", None, "America/New_York", "2026-02-28T05:00:00Z", "2026-03-28T04:00:00Z", ("02-28", "03-27")),
        (None, "customer", "America/New_York", "2026-02-28T05:00:00Z", "2026-03-28T04:00:00Z", ("02-28", "03-27")),
        ("organisation", "customer", "America/New_York", "2026-02-28T18:30:00Z", "2026-03-31T18:30:00Z", ("03-01", "03-31")),
        (None, None, "America/New_York", "2026-02-28T18:30:00Z", "2026-03-31T18:30:00Z", ("03-01", "03-31")),
        ("customer", None, "", "2026-02-28T18:30:00Z", "2026-03-31T18:30:00Z", ("03-01", "03-31")),
    ],
)  # fmt: skip
def test_days_are_those_of_the_customer_or_the_organisation_as_was_chosen(plans, ours, lives_in, start, ends, days):
    """Half past eleven in the evening in New York is ten in the morning of the next day in Kolkata; clocks change on 8 March."""
    tenant = make_organisation(local("2026-03-01 10:00"))
    customer, client = make_customer(tenant), client_of(tenant)
    assert client.patch(f"{API}/customers/{customer.pk}", {"time_zone": lives_in}, format="json").status_code == 200
    if ours:
        chosen = {"settings": {"subscriptions": {"time_zone": ours}}}
        assert client.patch(f"{API}/organisation", chosen, format="json").status_code == 200
    plan = make_plan(tenant, flat("310.00"), rules={"time_zone": plans} if plans else {})

    made = client.post(f"{API}/subscriptions", {"customer": customer.external_id, "plan": plan.code}, format="json")
    client.patch(f"{API}/customers/{customer.pk}", {"time_zone": "Asia/Tokyo"}, format="json")
    live(tenant, local("2026-05-03 10:00"))

    assert (made.json()["period_start"], made.json()["period_end"]) == (start, ends)
    bills = invoices_of(Subscription.objects.get(pk=made.json()["id"]))
    (line,) = bills[0].lines.all()
    assert (f"{line.period_start:%m-%d}", f"{line.period_end:%m-%d}") == days
    assert amounts(bills) == ["310.00"] * 3  # the zone that was taken stays: neither a day twice nor a day left out
    (second,) = bills[1].lines.all()
    assert second.period_start == line.period_end + timedelta(days=1)


@pytest.mark.parametrize("what", ["quantity", "plan"])
def test_without_proration_a_change_costs_nothing_until_the_next_period(tenant, client, customer, what):
    plan, dearer = (make_plan(tenant, seats(price)) for price in ("100.00", "180.00"))
    subscription = subscribe(customer, plan, quantity=2)
    run(tenant)
    turn(tenant, local("2026-04-16 10:00"))
    asked = {"when": "now", "prorate": False} | ({"quantity": 5} if what == "quantity" else {"plan": dearer.code})

    foretold = client.post(
        f"{API}/subscriptions/preview", {"change": {"subscription": str(subscription.pk), **asked}}, format="json"
    ).json()
    changed = client.post(f"{API}/subscriptions/{subscription.pk}/change", asked, format="json").json()
    documents = amounts(invoices_of(subscription))
    live(tenant, local("2026-05-02 10:00"))

    assert changed["documents"] == {"invoice": None, "credit_notes": []}
    assert (changed["quantity"], changed["plan"]) == ((5, plan.code) if what == "quantity" else (2, dearer.code))
    assert documents == ["200.00"]
    due = "500.00" if what == "quantity" else "360.00"
    assert amounts(invoices_of(subscription)) == ["200.00", due]
    assert [(one["net"]["amount"], one["period_start"]) for one in foretold["invoices"]][:1] == [(due, "2026-05-01")]
    assert foretold["credits"] == []


def test_a_choice_that_is_refused_says_what_may_be_chosen(tenant, client, customer):
    plan = make_plan(tenant, seats("300.00"))
    about = {"customer": customer.external_id, "plan": plan.code, "term": {"interval": "fortnight"}}

    answer = client.post(f"{API}/subscriptions", about, format="json")

    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {
            "field": "term.interval",
            "message": '"fortnight" is not one of: day, week, month, year.',
            "code": "invalid_choice",
        }
    ]


@pytest.mark.parametrize(
    ("asked", "take_back", "refusal", "quantity"),
    [
        (("cancel", {"when": "period_end"}), "uncancel", "transition_refused", 1),
        (("change", {"quantity": 4, "when": "period_end"}), "cancel-change", "not_planned", 4),
    ],
)
def test_what_was_due_before_a_job_came_by_has_happened_and_is_not_taken_back(
    tenant, client, customer, asked, take_back, refusal, quantity
):
    """Ten minutes after the period's end: preview and decision refuse alike, and the time line goes on from that end."""
    plan = make_plan(tenant, seats("300.00"))
    made = client.post(
        f"{API}/subscriptions", {"customer": customer.external_id, "plan": plan.code}, format="json"
    ).json()
    one, subscription = f"{API}/subscriptions/{made['id']}", Subscription.objects.get(pk=made["id"])
    client.post(f"{one}/{asked[0]}", asked[1], format="json")
    turn(tenant, local("2026-05-01 00:10"))

    about = {take_back.replace("-", "_"): {"subscription": made["id"]}}
    foretold = client.post(f"{API}/subscriptions/preview", about, format="json")
    answer = client.post(f"{one}/{take_back}", {}, format="json")
    run(tenant)

    assert (foretold.status_code, foretold.json()["code"]) == (409, refusal)
    assert (answer.status_code, answer.json()["code"]) == (409, refusal)
    ended = asked[0] == "cancel"
    subscription = Subscription.objects.get(pk=made["id"])
    assert (subscription.status, subscription.quantity) == ("cancelled" if ended else "active", quantity)
    assert amounts(invoices_of(subscription)) == (["300.00"] if ended else ["300.00", "1200.00"])


def test_a_plan_is_changed_for_who_comes_next_and_leaves_what_was_agreed(tenant, client, customer):
    """Words, trial, window and rules; prices, code and interval stay, and so does a running subscription."""
    plan = make_plan(tenant, seats("300.00"), trial_days=0, rules={"proration": "second", "last_day": "free"})
    before = subscribe(customer, plan)
    one = f"{API}/plans/{plan.pk}"
    changes = {
        "name": "Team, once more", "trial_days": 14, "available_from": "2026-04-01", "available_until": "2026-04-30",
        "rules": {"proration": "none", "term": {"interval": "year"}}, "reason": "Spring offer",
    }  # fmt: skip

    answer = client.patch(one, changes, format="json")

    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert {name: told[name] for name in ("name", "trial_days", "available_until", "rules")} == {
        "name": "Team, once more", "trial_days": 14, "available_until": "2026-04-30",
        "rules": {"proration": "none", "term": {"interval": "year", "count": 1, "notice_days": 0}},
    }  # fmt: skip
    after = subscribe(make_customer(tenant), Plan.objects.get(pk=plan.pk))
    kept = Subscription.objects.get(pk=before.pk)
    assert (kept.proration, kept.status, kept.term_interval) == ("second", "active", "")
    assert (after.proration, after.status, after.term_interval) == ("none", "trialing", "year")
    [record] = AuditRecord.objects.filter(target_id=str(plan.pk), action="plan.changed")
    assert (record.reason, record.before["trial_days"], record.after["available_until"]) == (
        "Spring offer",
        0,
        "2026-04-30",
    )
    assert "description" not in record.after
    assert client.patch(one, {"trial_days": 14}, format="json").status_code == 200
    assert AuditRecord.objects.filter(action="plan.changed").count() == 1, "nothing changed"
    turn(tenant, local("2026-05-01 09:00"))
    new = {"customer": customer.external_id, "plan": plan.code}
    assert client.post(f"{API}/subscriptions", new, format="json").json()["code"] == "plan_unavailable"
    assert client.patch(one, {"available_until": None}, format="json").json()["available_until"] is None
    assert client.post(f"{API}/subscriptions", new, format="json").status_code == 201


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"available_from": "2026-05-02", "available_until": "2026-05-01"}, "available_until"), ({"trial_days": 731}, "trial_days"),
     ({"name": "  "}, "name"), ({"interval": "year"}, "interval"), ({"code": "other"}, "code"),
     ({"rules": {"proration": "hour"}}, "rules.proration"), ({"rules": {"trial_prices": {"INR": "1.005"}}}, "rules.trial_prices")],
)  # fmt: skip
def test_what_a_plan_does_not_become_is_named_and_nothing_is_written(tenant, client, changes, field):
    plan = make_plan(tenant, flat("10.00"))
    before = Plan.objects.values().get(pk=plan.pk)

    answer = client.patch(f"{API}/plans/{plan.pk}", changes, format="json")

    assert (answer.status_code, [one["field"] for one in answer.json()["errors"]]) == (422, [field])
    assert Plan.objects.values().get(pk=plan.pk) == before
    assert not AuditRecord.objects.filter(action="plan.changed").exists()


def test_an_archived_plan_is_offered_again_and_others_plans_are_not_there(tenant, client, customer):
    plan = make_plan(tenant, flat("10.00"))
    theirs = make_plan(make_organisation(local("2026-04-01 09:00")), flat("10.00"))
    new = {"customer": customer.external_id, "plan": plan.code}

    assert client.post(f"{API}/plans/{plan.pk}/archive", {"reason": "Too cheap"}, format="json").status_code == 200
    assert client.post(f"{API}/subscriptions", new, format="json").status_code == 409
    for _ in range(2):
        again = client.post(f"{API}/plans/{plan.pk}/offer-again", {"reason": "Cheap enough"}, format="json")
        assert (again.status_code, again.json()["archived_at"]) == (200, None)
    assert client.post(f"{API}/subscriptions", new, format="json").status_code == 201

    records = AuditRecord.objects.filter(target_id=str(plan.pk)).exclude(action="plan.created").order_by("id")
    assert list(records.values_list("action", "reason")) == [
        ("plan.archived", "Too cheap"), ("plan.offered_again", "Cheap enough"),
    ]  # fmt: skip
    assert client.patch(f"{API}/plans/{theirs.pk}", {"name": "Mine"}, format="json").status_code == 404
    assert client.post(f"{API}/plans/{theirs.pk}/offer-again", {}, format="json").status_code == 404
    reader = client_of(tenant, "plan.view")
    assert reader.patch(f"{API}/plans/{plan.pk}", {"name": "Mine"}, format="json").status_code == 403
    assert reader.post(f"{API}/plans/{plan.pk}/offer-again", {}, format="json").status_code == 403


def test_how_a_subscription_is_paid_is_changed_for_the_invoices_that_come(tenant, client, customer):
    methods = [pay_method(one) for one in (customer, customer, make_customer(tenant))]
    plan = make_plan(tenant, flat("100.00"))
    new = {"customer": customer.external_id, "plan": plan.code, "payment_method": str(methods[0].pk), "net_days": 7}
    made = client.post(f"{API}/subscriptions", new, format="json").json()
    one, subscription = f"{API}/subscriptions/{made['id']}", Subscription.objects.get(pk=made["id"])
    changes = {
        "payment_method": str(methods[1].pk), "collect_automatically": False, "net_days": 30, "metadata": {"order": "4711"},
        "reason": "Asked for it",
    }  # fmt: skip

    told = client.patch(one, changes, format="json")
    assert told.status_code == 200, told.content
    live(tenant, local("2026-05-02 09:00"))
    first, second = invoices_of(subscription)
    assert (first.method_ref, first.net_days, first.collect_automatically) == (methods[0].pk, 7, True)
    assert (second.method_ref, second.net_days, second.collect_automatically) == (methods[1].pk, 30, False)
    assert {name: told.json()[name] for name in changes if name != "reason"} == {
        name: value for name, value in changes.items() if name != "reason"
    }
    [record] = AuditRecord.objects.filter(target_id=made["id"], action="subscription.payment_changed")
    assert (record.reason, record.before["net_days"], record.after["method_id"]) == (
        "Asked for it", 7, str(methods[1].pk),
    )  # fmt: skip
    assert client.patch(one, {"net_days": 30}, format="json").status_code == 200
    assert client.patch(one, {"payment_method": None}, format="json").json()["payment_method"] is None

    before = Subscription.objects.values().get(pk=made["id"])
    for wrong, status, field in (
        ({"payment_method": str(methods[2].pk)}, 404, "payment_method"), ({"net_days": 366}, 422, "net_days"),
        ({"quantity": 4}, 422, "quantity"), ({"payment_method": str(uuid.uuid4()), "net_days": 3}, 404, "payment_method"),
    ):  # fmt: skip
        refused = client.patch(one, wrong, format="json")
        assert (refused.status_code, [each["field"] for each in refused.json()["errors"]]) == (status, [field]), wrong
    assert client_of(tenant, "subscription.view").patch(one, {"net_days": 3}, format="json").status_code == 403
    stranger = client_of(make_organisation(local("2026-04-01 09:00")))
    assert stranger.patch(one, {"net_days": 3}, format="json").status_code == 404
    assert Subscription.objects.values().get(pk=made["id"]) == before
    assert AuditRecord.objects.filter(action="subscription.payment_changed").count() == 2
    client.post(f"{one}/cancel", {}, format="json")
    assert client.patch(one, {"net_days": 3}, format="json").status_code == 409


def pay_method(customer):
    """A saved card of the customer."""
    account = GatewayAccount.objects.of(customer.organisation).first() or accounts.add_account(
        organisation=customer.organisation, provider="razorpay", code="razorpay", key_id="rzp_test_1", key_secret="s",
        webhook_secret="w", actor=CLERK,
    )  # fmt: skip
    token = f"token-{uuid.uuid4().hex}"
    return PaymentMethod.objects.create(
        organisation=customer.organisation, customer=customer, gateway_account=account, kind="upi", status="active", token=token,
        token_hash=lookup_hash(token), handle="as••@upi", created_at=clock.now(customer.organisation), max_amount=Money("15000.00", "INR"),
    )  # fmt: skip


def test_another_tenants_rows_are_not_found(tenant, client, customer):
    other = make_organisation(local("2026-04-01 09:00"))
    theirs = subscribe(make_customer(other), make_plan(other, flat("1.00"), code="theirs"))
    own = make_plan(tenant, flat("1.00"))

    for path in ("", "/periods"):
        assert client.get(f"{API}/subscriptions/{theirs.pk}{path}").status_code == 404
    for path in ("change", "pause", "resume", "cancel", "uncancel", "cancel-change"):
        answer = client.post(
            f"{API}/subscriptions/{theirs.pk}/{path}", {"quantity": 2} if path == "change" else {}, format="json"
        )
        assert answer.status_code == 404, path
    for given in (
        {"customer": str(theirs.customer_id), "plan": own.code},
        {"customer": str(customer.pk), "plan": "theirs"},
        {"customer": str(customer.pk), "plan": own.code, "beneficiary": str(uuid.uuid4())},
        {"customer": str(customer.pk), "plan": own.code, "payment_method": str(uuid.uuid4())},
    ):
        assert client.post(f"{API}/subscriptions", given, format="json").status_code == 404
    change = {"change": {"subscription": str(theirs.pk), "quantity": 2}}
    assert client.post(f"{API}/subscriptions/preview", change, format="json").status_code == 404
    assert client.get(f"{API}/subscriptions").json()["results"] == []
    assert client.get(f"{API}/plans", {"code": "theirs"}).json()["results"] == []


def test_names_are_looked_up_among_ones_own(tenant, client):
    """Two tenants use the same plan code and the same customer id."""
    other = make_organisation(local("2026-04-01 09:00"))
    for organisation, amount in ((other, "1.00"), (tenant, "2.00")):
        make_plan(organisation, flat(amount), code="same")
        Customer.objects.filter(pk=make_customer(organisation).pk).update(external_id="same")

    made = client.post(f"{API}/subscriptions", {"customer": "same", "plan": "same"}, format="json").json()

    assert Customer.objects.get(pk=made["customer"]).organisation_id == tenant.pk
    assert str(invoices_of(Subscription.objects.get(pk=made["id"]))[0].net.amount) == "2.0000"


def test_each_action_needs_its_permission(tenant, customer):
    plan = make_plan(tenant, flat("1.00"))
    subscription = subscribe(customer, plan)
    reader, nobody = client_of(tenant, "subscription.view", "plan.view"), client_of(tenant, "invoice.view")

    assert reader.get(f"{API}/subscriptions/{subscription.pk}").status_code == 200
    assert reader.post(f"{API}/subscriptions/{subscription.pk}/cancel", {}, format="json").status_code == 403
    assert reader.post(f"{API}/plans", PLAN, format="json").status_code == 403
    assert nobody.get(f"{API}/plans").status_code == 403
    assert APIClient().get(f"{API}/plans").status_code == 401


HOSTILE = ["\x00", "a\x00b", "\ud800", "é" * 10_000, 10**400, -1, 1.5, True, None, [], {}, [[]], "0001-01-01T00:00:00+14:00",
           "9999-12-31T23:59:59-14:00", "0001-01-01", "9999-12-31", "NaN", "1e999999"]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_hostile_values_are_refused_not_broken(tenant, client, customer, value):
    plan = make_plan(tenant, seats("1.00"), code="own")
    subscription = subscribe(customer, plan)
    good = {"customer": customer.external_id, "plan": "own"}
    fields = ["customer", "plan", "currency", "quantity", "external_id", "start_at", "trial_days", "ends_at", "anchor_on",
              "beneficiary", "payment_method", "net_days", "metadata"]  # fmt: skip
    bodies = [(f"{API}/subscriptions", good | {field: value}) for field in fields]
    bodies += [(f"{API}/subscriptions/preview", {"new": good | {field: value}}) for field in fields]
    bodies += [(f"{API}/subscriptions/preview", {"change": {"subscription": str(subscription.pk), "plan": value}})]
    bodies += [
        (f"{API}/subscriptions/{subscription.pk}/change", {field: value}) for field in ("plan", "quantity", "when")
    ]
    bodies += [(f"{API}/subscriptions/{subscription.pk}/pause", {field: value}) for field in ("resume_at", "reason")]
    price = PLAN["versions"][0]["prices"][0]
    bodies += [
        (f"{API}/plans/{plan.pk}/versions", {"prices": [price | {field: value}]})
        for field in ("code", "name", "currency", "unit_price", "tiers", "meter", "unit", "tax_category")
    ]
    bodies += [(f"{API}/plans/{plan.pk}/versions", {"prices": [price], "effective_from": value})]
    bodies += [
        (f"{API}/plans", PLAN | {field: value})
        for field in ("code", "name", "interval_count", "available_from", "versions")
    ]
    bodies += [
        (f"{API}/prices/quote", {"plan": value}),
        (f"{API}/prices/quote", {"plan": "own", "quantity": value}),
        (f"{API}/prices/quote", value),
    ]

    for path, body in bodies:
        answer = client.post(path, json.dumps(body), content_type="application/json")
        assert answer.status_code < 500, (path, body, answer.content)
    for query in ("status", "customer", "plan", "external_id", "currency", "cursor", "limit"):
        assert client.get(f"{API}/subscriptions", {query: str(value)[:500].encode(errors="replace")}).status_code < 500


def test_a_wide_walk_stays_legal(tenant, client, customer):
    """Whatever order calls come in, the answer is a state or a refusal that names it."""
    plan = make_plan(tenant, seats("10.00"))
    made = client.post(
        f"{API}/subscriptions", {"customer": customer.external_id, "plan": plan.code}, format="json"
    ).json()
    one = f"{API}/subscriptions/{made['id']}"
    for step, action in enumerate(
        ["resume", "pause", "change", "resume", "change", "cancel", "pause", "uncancel", "cancel", "resume"]
    ):
        body = {"change": {"quantity": step + 2}, "cancel": {"when": "period_end"}}.get(action, {})
        answer = client.post(f"{one}/{action}", body, format="json")
        assert answer.status_code in (200, 409), answer.content
        live(tenant, local(f"2026-04-{step + 2:02} 09:00"))
    live(tenant, local("2026-05-02 09:00"))

    assert client.get(one).json()["status"] == "cancelled"
    assert Plan.objects.count() == 1
