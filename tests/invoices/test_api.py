"""The API of documents: what it does, what it refuses, and for whom."""

import json
import uuid
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.urls import reverse
from rest_framework.test import APIClient

from billing import permissions
from billing.models import Event, Membership, Role, User
from billing.services import organisations
from invoices.models import CreditNote, InstallmentPlan, Invoice, Mail, TaxRate
from invoices.services.credit_notes import issue_credit_note
from invoices.services.installments import issue_due
from invoices.services.mailing import queue_mail
from invoices.services.settling import allocate_payment

from .conftest import CLERK, capture, issue, line, make_customer, make_organisation

pytestmark = pytest.mark.django_db
API = "/api/v1"


def client_of(organisation, *scopes):
    _, secret = organisations.create_api_key(
        organisation=organisation, name="test", scopes=list(scopes) or sorted(permissions.ALL)
    )
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")


@pytest.fixture(autouse=True)
def no_limits():
    cache.clear()


@pytest.fixture
def api(school):
    return client_of(school)


def draft_for(customer, **extra):
    row = {"description": "Tuition", "unit_price": "499.50", "quantity": "2", "tax_category": "tuition"}
    return {"customer": str(customer.pk), "lines": [row]} | extra


def post(api, path, body=None, **headers):
    return api.post(f"{API}/{path}", body if body is not None else {}, format="json", **headers)


def amount(text):
    return {"amount": text, "currency": "INR"}


def test_from_draft_to_paid(api, school, family):
    draft = post(api, "invoices", draft_for(family, net_days=7, custom_fields={"Student": "Aarav"}))
    assert (draft.status_code, draft.data["status"], draft.data["total"]) == (201, "draft", amount("1178.82"))
    path = f"invoices/{draft.data['id']}"

    issued = post(api, f"{path}/finalize").data
    assert (issued["status"], issued["due"], issued["due_on"].isoformat()) == ("open", amount("1178.82"), "2026-06-08")
    assert issued["lines"][0]["unit_price"] == "499.5"
    assert [row["component"] for row in issued["taxes"]] == ["CGST", "SGST"]

    capture(family, "1178.82")
    paid = post(api, f"{path}/apply-credit", {"amount": amount("1000.00")}).data
    assert (paid["status"], paid["paid"]) == ("partially_paid", amount("1000.00"))
    paid = post(api, f"{path}/apply-credit").data
    assert (paid["status"], len(paid["allocations"])) == ("paid", 2)

    note = post(
        api, f"{path}/credit-notes", {"reason": "Late bus", "amounts": [{"position": 1, "amount": amount("100.00")}]}
    )
    assert (note.status_code, note.data["total"], note.data["to_credit"]) == (201, amount("118.00"), amount("118.00"))
    assert api.get(f"{API}/{path}").data["credit_notes"] == [uuid.UUID(note.data["id"])]
    assert post(api, f"{path}/send").status_code == 202


def test_preview_writes_nothing_and_says_what_the_draft_will_say(api, family):
    body = draft_for(family, prices_include_tax=True)

    seen = post(api, "invoices/preview", body)

    assert (seen.status_code, seen.data["total"], seen.data["lines"][0]["position"]) == (200, amount("999.00"), 1)
    assert not Invoice.objects.exists()
    assert post(api, "invoices", body).data["tax"] == seen.data["tax"]


def test_void_and_write_off_need_a_reason(api, family):
    first, second = issue(family), issue(family)

    assert post(api, f"invoices/{first.pk}/void").status_code == 422
    assert post(api, f"invoices/{first.pk}/void", {"reason": "wrong family"}).data["status"] == "void"
    assert post(api, f"invoices/{second.pk}/write-off", {"reason": "moved away"}).data["status"] == "uncollectible"
    refused = post(api, f"invoices/{first.pk}/void", {"reason": "again"})
    assert (refused.status_code, refused.data["code"]) == (409, "invoice_not_open")


def test_documents_are_drawn_for_those_who_ask(api, family):
    invoice = issue(family)
    note = issue_credit_note(invoice_id=invoice.pk, amounts=None, reason="x", actor=CLERK)

    for path in (f"invoices/{invoice.pk}/pdf", f"credit-notes/{note.pk}/pdf"):
        answer = api.get(f"{API}/{path}", HTTP_ACCEPT="application/pdf")
        assert (answer.status_code, answer["Content-Type"], answer.content[:5]) == (200, "application/pdf", b"%PDF-")
        assert api.get(f"{API}/{path}").status_code == 200
    missing = api.get(f"{API}/invoices/{uuid.uuid4()}/pdf", HTTP_ACCEPT="application/pdf")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


def test_lists_page_and_filter(api, school, family):
    other = make_customer(school)
    invoices = [issue(family), issue(other), issue(family)]

    first = api.get(f"{API}/invoices?limit=2").data
    assert [row["id"] for row in first["results"]] == [invoices[2].pk, invoices[1].pk]
    assert [row["id"] for row in api.get(first["next"]).data["results"]] == [invoices[0].pk]
    assert len(api.get(f"{API}/invoices?customer={family.pk}&status=open&status=paid").data["results"]) == 2
    assert api.get(f"{API}/invoices?number={invoices[1].number}").data["results"][0]["customer"] == other.pk
    assert api.get(f"{API}/invoices?overdue=true").data["results"] == []
    assert api.get(f"{API}/invoices?status=nonsense").status_code == 422
    assert api.get(f"{API}/invoices?issued_from=yesterday").status_code == 422
    assert len(api.get(f"{API}/invoices?issued_from=2026-06-01&issued_to=2026-06-01").data["results"]) == 3


def test_a_list_row_says_what_the_detail_says(api, family):
    invoice = issue(family, line("10.00"), memo="x")

    (row,) = api.get(f"{API}/invoices").json()["results"]
    detail = api.get(f"{API}/invoices/{invoice.pk}").json()

    assert row == {key: detail[key] for key in row}
    assert {"lines", "taxes", "allocations", "credit_notes", "rounding", "memo"} <= set(detail) - set(row)


def test_installment_plans(api, family):
    body = {
        "customer": str(family.pk),
        "description": "Annual fee",
        "total": amount("1000.00"),
        "count": 3,
        "first_due_on": "2026-06-01",
        "down_payment": amount("100.00"),
        "tax_category": "tuition",
    }

    plan = post(api, "installment-plans", body)

    assert plan.status_code == 201
    assert [(part["number"], part["amount"]["amount"]) for part in plan.data["installments"]] == [
        (0, "100.00"),
        (1, "300.00"),
        (2, "300.00"),
        (3, "300.00"),
    ]
    cancelled = post(api, f"installment-plans/{plan.data['id']}/cancel", {"reason": "moved"})
    assert cancelled.data["status"] == "cancelled"
    refused = post(api, "installment-plans", body | {"down_payment": amount("1000.00")})
    assert (refused.status_code, refused.data["code"], refused.data["errors"][0]["field"]) == (
        422,
        "invalid_installments",
        "down_payment",
    )


def test_a_refused_installment_says_why_and_is_tried_again(api, school, family, client):
    body = {
        "customer": str(family.pk), "total": amount("900.00"), "count": 3, "first_due_on": "2026-06-01",
        "tax_category": "tuition", "description": "Annual fee",
    }  # fmt: skip
    plan = post(api, "installment-plans", body).data
    assert post(api, f"installment-plans/{plan['id']}/retry", {"reason": "again"}).status_code == 409
    TaxRate.objects.of(school).filter(category="tuition").update(valid_until="2026-05-01")
    issue_due(organisation=school)
    shown = api.get(f"{API}/installment-plans/{plan['id']}").data["installments"]
    assert [bool(part["failure"]) for part in shown] == [True, False, False]
    manager = User.objects.create_user("m@example.org", "a long password", is_staff=True)
    Membership.objects.create(user=manager, organisation=school, role=Role.MANAGER)
    client.force_login(manager, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("admin:invoices_installmentplan_change", args=[plan["id"]])).content.decode()
    assert "missing_tax_rate" in page
    assert "Try refused parts again" in page

    TaxRate.objects.of(school).filter(category="tuition").update(valid_until=None)
    answer = post(api, f"installment-plans/{plan['id']}/retry", {"reason": "the rate is back"})

    assert answer.status_code == 200
    assert [(bool(part["invoice"]), part["failure"]) for part in answer.data["installments"]] == [
        (True, ""),
        (False, ""),
        (False, ""),
    ]


def test_tax_rates_and_mails(api, school, family):
    body = {"category": "saas", "country": "IN", "rate": "18", "valid_from": "2026-01-01"}
    assert post(api, "tax-rates", body).status_code == 201
    assert post(api, "tax-rates", body).status_code == 409
    assert len(api.get(f"{API}/tax-rates?category=saas").data["results"]) == 1

    queue_mail(organisation=school, customer_id=family.pk, kind="receipt", key="x")
    (mail,) = api.get(f"{API}/mails").data["results"]
    assert mail["recipient"] == f"{family.email[0]}***@example.org"
    assert api.get(f"{API}/mails/{mail['id']}").status_code == 200


def test_a_repeated_post_with_a_key_makes_one_document(api, family):
    body = draft_for(family)
    answers = [post(api, "invoices", body, HTTP_IDEMPOTENCY_KEY="one") for _ in range(2)]

    assert answers[0].content == answers[1].content
    assert answers[1]["Idempotent-Replayed"] == "true"
    assert post(api, "invoices", body | {"memo": "other"}, HTTP_IDEMPOTENCY_KEY="one").status_code == 422
    assert Invoice.objects.count() == 1

    path = f"invoices/{answers[0].json()['id']}"
    post(api, f"{path}/finalize")
    for _ in range(2):
        post(api, f"{path}/credit-notes", {"reason": "x y z"}, HTTP_IDEMPOTENCY_KEY="two")
    assert CreditNote.objects.count() == 1


HOSTILE = [
    {},
    [],
    "text",
    {"lines": None},
    {"customer": "x"},
    {"customer": 10**400},
    {"currency": "XAU"},
    {"currency": "\x00"},
    {"currency": 5},
    {"lines": []},
    {"lines": [{"description": "x"}]},
    {"lines": [{"description": "x\x00", "amount": {"amount": "1.00", "currency": "INR"}}]},
    {"lines": [{"description": "x", "amount": {"amount": "1.001", "currency": "INR"}}]},
    {"lines": [{"description": "x", "amount": {"amount": "1.00", "currency": "EUR"}}]},
    {"lines": [{"description": "x", "amount": {"amount": "999999999999999.99", "currency": "INR"}}]},
    {"lines": [{"description": "x", "amount": {"amount": "-1.00", "currency": "INR"}}]},
    {"lines": [{"description": "x", "unit_price": "NaN"}]},
    {"lines": [{"description": "x", "unit_price": "1e400"}]},
    {"lines": [{"description": "x", "unit_price": "999999999999", "quantity": "999999999999"}]},
    {"lines": [{"description": "x", "unit_price": 1.5, "quantity": True}]},
    {"lines": [{"description": "x", "unit_price": "1", "period_start": "0001-01-01", "period_end": "9999-12-31"}]},
    {"lines": [{"description": "x", "unit_price": "1", "period_start": "2026-01-02", "period_end": "2026-01-01"}]},
    {"lines": [{"description": "x", "unit_price": "1", "tax_category": "gold"}]},
    {"issued_on": "9999-12-31"},
    {"net_days": 10**30},
    {"method": "00000000-0000-0000-0000-000000000000"},
    {"custom_fields": {"a": {"b": "c"}}},
    {"custom_fields": {"a\x00": "b"}},
    {"custom_fields": {"a": "\ud800"}},
    {"memo": ["x"]},
    {"unknown": 1},
]


@pytest.mark.parametrize("change", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_drafts_are_refused_by_name(api, family, change):
    body = draft_for(family) | change if isinstance(change, dict) and change else change

    answer = api.post(f"{API}/invoices", json.dumps(body), content_type="application/json")

    assert answer.status_code in (400, 404, 422), answer.content
    assert answer["Content-Type"].startswith("application/problem+json")
    assert not Invoice.objects.exists()


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"position": 0, "amount": amount("1.00")}],
        [{"position": 9, "amount": amount("1.00")}],
        [{"position": 10**20, "amount": amount("1.00")}],
        [{"position": 1, "amount": amount("1.00")}, {"position": 1, "amount": amount("1.00")}],
        [{"position": 1, "amount": {"amount": "1.00", "currency": "EUR"}}],
        [{"position": 1, "amount": amount("1000.01")}],
        [{"position": 1, "amount": amount("-1.00")}],
        [{"position": 1, "amount": amount("0.00")}],
    ],
)
def test_hostile_credit_notes_are_refused(api, family, lines):
    invoice = issue(family)

    answer = post(api, f"invoices/{invoice.pk}/credit-notes", {"reason": "because", "amounts": lines})

    assert answer.status_code in (409, 422), answer.content
    assert not CreditNote.objects.exists()


def test_another_tenants_documents_do_not_exist(school, family, api):
    stranger = client_of(make_organisation())
    invoice = issue(family)
    note = issue_credit_note(invoice_id=invoice.pk, amounts=None, reason="x", actor=CLERK)
    queue_mail(organisation=school, customer_id=family.pk, kind="receipt", key="x")
    plan = {
        "customer": str(family.pk),
        "description": "x",
        "total": amount("10.00"),
        "count": 2,
        "first_due_on": "2026-06-01",
    }
    post(api, "installment-plans", plan)
    rows = {
        "invoices": invoice.pk,
        "credit-notes": note.pk,
        "mails": Mail.objects.get().pk,
        "installment-plans": InstallmentPlan.objects.get().pk,
        "tax-rates": TaxRate.objects.of(school).first().pk,
    }

    for name, pk in rows.items():
        assert api.get(f"{API}/{name}/{pk}").status_code == 200
        assert stranger.get(f"{API}/{name}/{pk}").status_code == 404
        mine = {row["id"] for row in stranger.get(f"{API}/{name}").json()["results"]}
        assert str(pk) not in mine
    for name in ("finalize", "void", "write-off", "send", "credit-notes", "apply-credit"):
        assert post(stranger, f"invoices/{invoice.pk}/{name}", {"reason": "steal"}).status_code in (404, 422)
    assert stranger.get(f"{API}/invoices/{invoice.pk}/pdf").status_code == 404
    assert post(stranger, "invoices", draft_for(family)).status_code == 404
    assert post(stranger, "installment-plans", plan).status_code == 404


def test_a_credit_note_with_the_money_back(api, school, family):
    invoice = issue(family)
    allocate_payment(payment_id=capture(family, "1180.00", invoice=invoice).pk)

    note = post(api, f"invoices/{invoice.pk}/credit-notes", {"reason": "Left the school", "refund": True})

    assert (note.status_code, note.data["to_credit"]) == (201, amount("1180.00"))
    told = Event.objects.get(type="credit_note.refund_due")
    assert (told.aggregate_id, told.payload["to_credit"]) == (uuid.UUID(note.data["id"]), "1180.00")


@pytest.mark.parametrize(
    ("held", "body", "code", "named"),
    [
        (["credit_note.issue"], {"reason": "because", "refund": True}, 403, "refund.issue"),
        (["credit_note.issue", "refund.issue"], {"reason": "because", "refund": True}, 409, "only lowers what is due"),
        (["credit_note.issue", "refund.issue"], {"reason": "because", "refund": "maybe"}, 422, "refund"),
        (["credit_note.issue"], {"reason": "because", "refund": False}, 201, ""),
    ],
)
def test_a_refund_with_it_is_asked_for_by_who_may_and_where_there_is_one(school, family, held, body, code, named):
    invoice = issue(family)

    answer = post(client_of(school, *held), f"invoices/{invoice.pk}/credit-notes", body)

    assert (answer.status_code, named in str(answer.data)) == (code, True)
    assert CreditNote.objects.count() == (code == 201)
    assert not Event.objects.filter(type="credit_note.refund_due").exists()


@pytest.mark.parametrize(
    ("path", "body", "needs"),
    [
        ("invoices", "draft", "invoice.edit"),
        ("invoices/{id}/finalize", {}, "invoice.edit"),
        ("invoices/{id}/void", {"reason": "because"}, "invoice.void"),
        ("invoices/{id}/write-off", {"reason": "because"}, "invoice.write_off"),
        ("invoices/{id}/send", {}, "invoice.send"),
        ("invoices/{id}/credit-notes", {"reason": "because"}, "credit_note.issue"),
        ("tax-rates", {"category": "x", "country": "IN", "rate": "5", "valid_from": "2026-01-01"}, "tax.edit"),
    ],
)
def test_every_decision_needs_its_own_permission(school, family, path, body, needs):
    path = path.format(id=issue(family).pk)
    body = draft_for(family) if body == "draft" else body

    refused = post(client_of(school, *sorted(permissions.ALL - {needs})), path, body)

    assert (refused.status_code, needs in refused.data["detail"]) == (403, True)
    assert post(APIClient(), path, body).status_code == 401
    assert post(client_of(school, "invoice.view", needs), path, body).status_code != 403


def test_an_invoice_falls_due_on_the_sellers_day(api, school, family):
    body = draft_for(family, issued_on="2026-06-30", net_days=0)
    draft = post(api, "invoices", body).data

    issued = post(api, f"invoices/{draft['id']}/finalize").data

    assert issued["issued_on"] == issued["due_on"]
    assert (issued["due_on"] - timedelta(days=29)).isoformat() == "2026-06-01"
