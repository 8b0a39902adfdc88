"""The API of the foundation: what a caller may see and do, and in which words it is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from moneyed import Money
from rest_framework.test import APIClient

from billing import permissions
from billing.models import ApiKey, AuditRecord, Customer, Event, Organisation, RefreshToken, User
from billing.services import ledger, organisations
from billing.services.ledger import Entry, credit, debit

Clients = Callable[..., APIClient]


@pytest.fixture(autouse=True)
def _fresh_limits() -> None:
    cache.clear()


def problem(response: Any, status: int, code: str, field: str = "") -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body["code"] == code
    if field:
        assert field in [error["field"] for error in body["errors"]]
    return body


# --- who calls ------------------------------------------------------------------------------------


def test_without_credentials_nothing_is_shown(db: None) -> None:
    response = APIClient().get("/api/v1/customers")

    problem(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"] == 'Bearer realm="munim"'


@pytest.mark.parametrize("key", ["mk_unknown", "nonsense", "a.b.c"])
def test_wrong_credentials_are_refused(db: None, key: str) -> None:
    problem(APIClient(HTTP_AUTHORIZATION=f"Bearer {key}").get("/api/v1/customers"), 401, "authentication_failed")


def test_a_revoked_key_is_refused_at_once(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation, "customer.view")
    assert client.get("/api/v1/customers").status_code == 200

    organisations.revoke_api_key(
        organisation_id=organisation.pk, key_id=ApiKey.objects.get().pk, actor=organisations.SYSTEM
    )

    problem(client.get("/api/v1/customers"), 401, "authentication_failed")


def test_a_key_does_only_what_it_is_for(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation, "customer.view")

    refusal = problem(client.post("/api/v1/customers", {"external_id": "c", "name": "C"}), 403, "permission_denied")

    assert "customer.edit" in refusal["detail"]
    assert not Customer.objects.exists()


def test_nobody_gives_a_key_more_than_they_hold(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation, "api_key.edit", "customer.view")

    problem(
        client.post("/api/v1/api-keys", {"name": "k", "scopes": ["refund.issue"]}), 403, "permission_denied", "scopes"
    )
    made = client.post("/api/v1/api-keys", {"name": "k", "scopes": ["customer.view"]})

    assert made.status_code == 201
    assert made.json()["secret"].startswith("mk_")
    assert ApiKey.objects.filter(scopes=["customer.view"]).count() == 1


def test_a_member_of_two_organisations_names_one(organisation: Organisation, other: Organisation) -> None:
    for one in (organisation, other):
        organisations.add_member(organisation=one, email="asha@munim.example", role="clerk", password="correct horse 7")
    login = (
        APIClient().post("/api/v1/auth/login", {"email": "Asha@munim.example", "password": "correct horse 7"}).json()
    )
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {login['access']}")

    assert sorted(one["code"] for one in login["organisations"]) == ["acme", "other"]
    problem(client.get("/api/v1/organisation"), 403, "permission_denied")
    assert client.get("/api/v1/organisation", headers={"Munim-Organisation": "other"}).json()["code"] == "other"
    assert (
        client.get("/api/v1/organisation", headers={"Munim-Organisation": str(organisation.pk)}).json()["code"]
        == "acme"
    )
    problem(client.get("/api/v1/organisation", headers={"Munim-Organisation": "third"}), 403, "permission_denied")


def sign_in(organisation: Organisation) -> dict[str, Any]:
    organisations.add_member(
        organisation=organisation, email="asha@munim.example", role="clerk", password="correct horse 7"
    )
    return APIClient().post("/api/v1/auth/login", {"email": "asha@munim.example", "password": "correct horse 7"}).json()


def test_a_wrong_password_signs_nobody_in(organisation: Organisation) -> None:
    sign_in(organisation)

    response = APIClient().post("/api/v1/auth/login", {"email": "asha@munim.example", "password": "wrong horse"})

    problem(response, 401, "authentication_failed")


def test_a_refresh_token_works_once_and_its_copy_ends_the_chain(organisation: Organisation) -> None:
    first = sign_in(organisation)["refresh"]
    client = APIClient()

    second = client.post("/api/v1/auth/refresh", {"refresh": first}).json()["refresh"]
    problem(client.post("/api/v1/auth/refresh", {"refresh": first}), 401, "authentication_failed")

    problem(client.post("/api/v1/auth/refresh", {"refresh": second}), 401, "authentication_failed")
    assert not RefreshToken.objects.filter(revoked_at=None).exists()


def test_signing_out_ends_the_chain(organisation: Organisation) -> None:
    refresh = sign_in(organisation)["refresh"]

    assert APIClient().post("/api/v1/auth/logout", {"refresh": refresh}).status_code == 204

    problem(APIClient().post("/api/v1/auth/refresh", {"refresh": refresh}), 401, "authentication_failed")


def test_an_access_token_does_not_refresh_and_a_refresh_token_does_not_open(organisation: Organisation) -> None:
    session = sign_in(organisation)

    problem(APIClient().post("/api/v1/auth/refresh", {"refresh": session["access"]}), 401, "authentication_failed")
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {session['refresh']}")
    problem(client.get("/api/v1/organisation"), 401, "authentication_failed")


def test_an_inactive_person_is_out(organisation: Organisation) -> None:
    session = sign_in(organisation)
    User.objects.update(is_active=False)

    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {session['access']}")
    problem(client.get("/api/v1/organisation"), 401, "authentication_failed")
    problem(APIClient().post("/api/v1/auth/refresh", {"refresh": session["refresh"]}), 401, "authentication_failed")


def test_a_new_password_ends_every_token_of_the_former_one(organisation: Organisation) -> None:
    session = sign_in(organisation)
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {session['access']}")
    assert client.get("/api/v1/organisation").status_code == 200

    person = User.objects.get(email="asha@munim.example")
    person.set_password("another horse 9")
    person.save()

    problem(client.get("/api/v1/organisation"), 401, "authentication_failed")
    problem(APIClient().post("/api/v1/auth/refresh", {"refresh": session["refresh"]}), 401, "authentication_failed")


def test_sign_ins_are_limited(db: None) -> None:
    client = APIClient()
    answers = [client.post("/api/v1/auth/login", {"email": "a@b.example", "password": "x"}) for _ in range(21)]

    assert [answer.status_code for answer in answers[:20]] == [401] * 20
    problem(answers[20], 429, "throttled")
    assert 0 < int(answers[20]["Retry-After"]) <= 61


# --- customers ------------------------------------------------------------------------------------

ASHA = {
    "external_id": "family-1",
    "name": "Asha Verma",
    "email": "asha@families.example",
    "phone": "98450 12345",
    "address": {"line1": "12, 3rd Main", "city": "Bengaluru", "region": "29", "postal_code": "560041"},
    "tax_ids": {"gstin": "33aafct2207k1zj"},
}


def test_a_customer_is_made_known(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation)

    made = client.post("/api/v1/customers", ASHA)

    assert made.status_code == 201
    body = made.json()
    assert body["phone"] == "+919845012345"
    assert body["tax_ids"] == {"gstin": "33AAFCT2207K1ZJ"}
    assert (body["currency"], body["version"], body["created_at"]) == ("INR", 1, "2026-04-01T06:30:00Z")
    party = Customer.objects.get().party
    assert party is not None
    assert (party.country, party.region, party.registered) == ("IN", "33", True)
    assert client.get("/api/v1/customers", {"email": "ASHA@families.example"}).json()["results"] == [body]
    assert client.get(f"/api/v1/customers/{body['id']}").json() == body
    assert list(Event.objects.values_list("type", flat=True)) == ["customer.created"]
    problem(client.post("/api/v1/customers", ASHA), 409, "customer_exists", "external_id")


def test_a_change_leaves_the_old_details_to_old_documents(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation)
    made = client.post("/api/v1/customers", ASHA).json()
    old = Customer.objects.get().party

    changed = client.patch(f"/api/v1/customers/{made['id']}", {"version": 1, "name": "Asha Rao", "tax_ids": {}})

    assert changed.status_code == 200
    assert changed.json()["name"] == "Asha Rao"
    new = Customer.objects.get().party
    assert old is not None
    assert new is not None
    assert (old.details["name"], new.details["name"]) == ("Asha Verma", "Asha Rao")
    assert (new.region, new.registered) == ("29", False)
    stale = client.patch(f"/api/v1/customers/{made['id']}", {"version": 1, "name": "Too late"})
    problem(stale, 409, "stale_version", "version")
    assert Customer.objects.get().name == "Asha Rao"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"email": "nobody"}, "email"),
        ({"phone": "12"}, "phone"),
        ({"currency": "XYZ"}, "currency"),
        ({"address": {"country": "QQ"}}, "address.country"),
        ({"address": {"planet": "Mars"}}, "address.planet"),
        ({"address": []}, "address"),
        ({"tax_ids": {"gstin": "33AAFCT2207K1ZK"}}, "tax_ids.gstin"),
        ({"tax_ids": {"vat": "DE123456789"}}, "tax_ids.vat"),
        ({"time_zone": "Mars/Phobos"}, "time_zone"),
        ({"language": "tlh"}, "language"),
        ({"metadata": {"a": ["b"]}}, "metadata.a"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_is_named(
    organisation: Organisation, client_of: Clients, change: dict[str, Any], field: str
) -> None:
    response = client_of(organisation).post("/api/v1/customers", ASHA | change)

    problem(response, 422, response.json()["code"], field)
    assert not Customer.objects.exists()


def test_personal_data_is_masked_without_the_permission(organisation: Organisation, client_of: Clients) -> None:
    client_of(organisation).post("/api/v1/customers", ASHA)

    (row,) = client_of(organisation, "customer.view").get("/api/v1/customers").json()["results"]

    assert (row["name"], row["email"], row["phone"]) == ("A••• V•••", "a***@families.example", "+91•••2345")
    assert row["tax_ids"] == {"gstin": "•••K1ZJ"}
    assert "line1" not in row["address"]


def test_whom_a_customer_buys_for(organisation: Organisation, customer: Customer, client_of: Clients) -> None:
    client = client_of(organisation)
    path = f"/api/v1/customers/{customer.pk}/beneficiaries"

    made = client.post(path, {"external_id": "student-1", "name": "Ravi"})

    assert made.status_code == 201
    assert client.get(path).json()["results"] == [made.json()]
    problem(client.post(path, {"external_id": "student-1", "name": "Ravi"}), 409, "beneficiary_exists")


# --- the rest -------------------------------------------------------------------------------------


def test_the_trial_balance_shows_every_account(organisation: Organisation, client_of: Clients) -> None:
    lines = [
        debit("receivable", Money("118", "INR")),
        credit("revenue", Money("100", "INR")),
        credit("tax_payable:igst", Money("18", "INR")),
    ]
    entry = Entry(
        kind="t",
        source_type="t",
        source_id=organisation.pk,
        occurred_at=organisation.test_clock.now,
        key="k",
        lines=lines,
    )  # type: ignore[union-attr]
    ledger.post(organisation=organisation, entry=entry)
    client = client_of(organisation)

    found = client.get("/api/v1/ledger/trial-balance").json()

    assert found["balanced"] is True
    assert found["totals"] == [
        {
            "currency": "INR",
            "debit": {"amount": "118.00", "currency": "INR"},
            "credit": {"amount": "118.00", "currency": "INR"},
        }
    ]
    assert [(row["code"], row["balance"]["amount"]) for row in found["accounts"]] == [
        ("receivable", "118.00"), ("revenue", "-100.00"), ("tax_payable:igst", "-18.00"),
    ]  # fmt: skip
    before = client.get("/api/v1/ledger/trial-balance", {"at": "2026-03-31T00:00:00Z"}).json()
    assert [row["balance"]["amount"] for row in before["accounts"]] == ["0.00", "0.00", "0.00"]
    (row,) = client.get("/api/v1/ledger/entries", {"account": "revenue"}).json()["results"]
    assert [(p["account"], p["side"]) for p in row["postings"]] == [
        ("receivable", "debit"), ("revenue", "credit"), ("tax_payable:igst", "credit"),
    ]  # fmt: skip
    problem(client.get("/api/v1/ledger/trial-balance", {"at": "soon"}), 422, "invalid_input", "at")


def test_every_decision_about_access_is_in_the_audit_trail(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation)
    key = client.post("/api/v1/api-keys", {"name": "k", "scopes": ["customer.view"]}).json()
    client.post(f"/api/v1/api-keys/{key['id']}/revoke")

    rows = client.get("/api/v1/audit-records", {"target_id": key["id"]}).json()["results"]

    assert [row["action"] for row in rows] == ["api_key.revoked", "api_key.created"]
    assert rows[0]["actor_type"] == "api_key"
    assert AuditRecord.objects.filter(action="organisation.created").count() == 1


def test_a_request_id_goes_in_and_out_and_into_events(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation)

    given = client.post("/api/v1/customers", ASHA, headers={"X-Request-Id": "order-4711-abc"})
    made_up = client.get("/api/v1/customers", headers={"X-Request-Id": "x\n<script>"})

    assert given["X-Request-Id"] == "order-4711-abc"
    assert Event.objects.get().correlation_id == "order-4711-abc"
    assert len(made_up["X-Request-Id"]) == 32


def test_a_method_that_is_not_spoken_is_405(organisation: Organisation, client_of: Clients) -> None:
    response = client_of(organisation).put("/api/v1/customers", {})

    problem(response, 405, "method_not_allowed")
    assert "GET" in response["Allow"]


@pytest.mark.parametrize("cursor", ["x", "cD1ub3BlJTAw", "cj0xJnA9MQ==", "bz05OTk5OTk5OTk5OTk5OTk5"])
def test_a_cursor_somebody_made_up_is_refused(organisation: Organisation, client_of: Clients, cursor: str) -> None:
    assert client_of(organisation).get("/api/v1/customers", {"cursor": cursor}).status_code in (200, 404)


def test_roles_hold_what_the_house_rules_say() -> None:
    money = {
        "refund.issue",
        "credit_note.issue",
        "invoice.void",
        "invoice.write_off",
        "payment.collect",
        "reconciliation.resolve",
    }
    grants = {"member.edit", "gateway.edit"}

    for role, held in permissions.BY_ROLE.items():
        assert not (held & money and held & grants), role
    assert not permissions.SUPERUSER & money
    assert permissions.BY_ROLE["auditor"] & (money | grants | {"customer.edit"}) == set()
    assert not any(name.endswith((".edit", ".issue")) for name in permissions.READ)
