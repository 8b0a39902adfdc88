"""The payments API: shapes, permissions, other organisations, idempotency."""

import uuid

import pytest
from rest_framework.test import APIClient

from billing.models import Organisation
from payments.models import GatewayAccount, Payment, PaymentMethod, Refund
from payments.services import collection, methods
from tests.payments.conftest import SYSTEM

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(client_of, organisation):
    return client_of(organisation)


@pytest.fixture
def paid(razorpay, customer, save_method, ask, organisation):
    save_method(customer, razorpay)
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    return payment


def test_a_payment_from_asking_to_refund(api, razorpay, customer, save_method, organisation):
    save_method(customer, razorpay)
    body = {
        "customer": str(customer.pk),
        "amount": {"amount": "1200.00", "currency": "INR"},
        "reference": "excursion-1",
    }
    made = api.post("/api/v1/payments", body, headers={"Idempotency-Key": "k1"})
    assert made.status_code == 201, made.content
    assert made.json()["status"] == "pending"
    assert api.post("/api/v1/payments", body, headers={"Idempotency-Key": "k1"}).json() == made.json()

    collection.collect_due(organisation=organisation)
    url = f"/api/v1/payments/{made.json()['id']}"
    got = api.get(url).json()
    assert (got["status"], got["amount"], got["attempts"][0]["status"]) == (
        "succeeded", {"amount": "1200.00", "currency": "INR"}, "captured",
    )  # fmt: skip

    refund = {"amount": {"amount": "200.00", "currency": "INR"}, "reason": "Meals not taken"}
    first = api.post(f"{url}/refunds", refund, headers={"Idempotency-Key": "r1"})
    assert (first.status_code, first.json()["status"]) == (201, "succeeded")
    assert api.post(f"{url}/refunds", refund, headers={"Idempotency-Key": "r1"}).content == first.content
    assert Refund.objects.count() == 1
    too_much = api.post(f"{url}/refunds", {"amount": {"amount": "1000.01", "currency": "INR"}, "reason": "More"})
    assert (too_much.status_code, too_much.json()["code"]) == (422, "refund_exceeds_captured")
    assert len(api.get("/api/v1/refunds").json()["results"]) == 1


def test_a_page_for_the_customer(api, razorpay, ask):
    payment = ask("499.00", automatic=False)
    first = api.post(f"/api/v1/payments/{payment.pk}/checkout")
    assert first.status_code == 200
    assert first.json()["url"].startswith("http")
    assert api.post(f"/api/v1/payments/{payment.pk}/checkout").json() == first.json()
    assert api.post(f"/api/v1/payments/{payment.pk}/cancel").status_code == 200


def test_saving_a_method_over_the_api(api, account, customer, simulator):
    setup = api.post("/api/v1/payment-methods/setup", {
        "customer": str(customer.pk), "kind": "card", "return_url": "https://shop.example/back",
        "max_amount": {"amount": "15000.00", "currency": "INR"},
    })  # fmt: skip
    assert setup.status_code == 200, setup.content
    given = setup.json()
    if account.provider == "razorpay":
        paid = simulator.post("checkout", account=account.key_id, order_id=given["order_id"], method="card", save=True)
        result = {"razorpay": {name: paid[f"razorpay_{name}"] for name in ("payment_id", "order_id", "signature")}}
    else:
        simulator.post("checkout", account=account.key_secret, setup_intent=given["setup_intent"])
        result = {"stripe": {"setup_intent": given["setup_intent"]}}
    kept = api.post(
        "/api/v1/payment-methods", {"customer": str(customer.pk), "gateway_account": str(account.pk), **result}
    )
    assert kept.status_code == 201, kept.content
    method = PaymentMethod.objects.get()
    assert method.token not in kept.content.decode()
    assert kept.json()["is_default"] is True
    assert api.post(f"/api/v1/payment-methods/{method.pk}/detach").json()["status"] == "detached"


def test_secrets_of_an_account_go_in_and_never_come_out(api, organisation):
    body = {
        "provider": "razorpay",
        "code": "rzp",
        "key_id": "rzp_1",
        "key_secret": "top-secret",
        "webhook_secret": "hook-secret",
    }
    made = api.post("/api/v1/gateway-accounts", body)
    assert made.status_code == 201
    for text in (made.content, api.get("/api/v1/gateway-accounts").content):
        assert b"top-secret" not in text
        assert b"hook-secret" not in text
    stored = GatewayAccount.objects.get()
    assert (stored.key_secret, stored.webhook_secret, stored.is_default) == ("top-secret", "hook-secret", True)
    assert api.post("/api/v1/gateway-accounts", body).status_code == 409


def test_cash_at_the_counter(api, customer):
    body = {"customer": str(customer.pk), "amount": {"amount": "500.00", "currency": "INR"}, "reference": "receipt-1",
            "received_on": "2025-04-07", "note": "Cash, counter 2"}  # fmt: skip
    assert api.post("/api/v1/payments/offline", body).json()["status"] == "succeeded"
    assert api.post("/api/v1/payments/offline", body).json()["status"] == "succeeded"
    assert Payment.objects.count() == 1
    later = {**body, "reference": "receipt-2", "received_on": "2025-04-08"}
    assert api.post("/api/v1/payments/offline", later).status_code == 422
    for odd in ("0001-01-01", "9999-12-31"):
        assert api.post(
            "/api/v1/payments/offline", {**body, "reference": f"r-{odd}", "received_on": odd}
        ).status_code in (201, 422)


def test_only_a_customers_own_active_method_pays(api, razorpay, customer, make_customer, save_method):
    """Another method than the one asked for must not be debited in silence."""
    neighbour = save_method(make_customer(), razorpay)
    detached = save_method(customer, razorpay)
    save_method(customer, razorpay, vpa="second@upi")
    methods.detach(method_id=detached.pk, actor=SYSTEM)
    body = {"customer": str(customer.pk), "amount": {"amount": "5.00", "currency": "INR"}, "reference": "trip-1"}

    theirs = api.post("/api/v1/payments", body | {"method": str(neighbour.pk)})
    gone = api.post("/api/v1/payments", body | {"method": str(detached.pk)})

    assert (theirs.status_code, theirs.json()["errors"][0]["field"]) == (404, "method")
    assert (gone.status_code, gone.json()["code"]) == (409, "payment_method_unusable")
    assert not Payment.objects.exists()


ROUTES = [
    ("get", "payments/{payment}"),
    ("post", "payments/{payment}/retry"),
    ("post", "payments/{payment}/cancel"),
    ("post", "payments/{payment}/checkout"),
    ("post", "payments/{payment}/refunds"),
    ("get", "payment-methods/{method}"),
    ("post", "payment-methods/{method}/default"),
    ("post", "payment-methods/{method}/detach"),
    ("get", "gateway-accounts/{account}"),
]


@pytest.mark.parametrize(("verb", "path"), ROUTES)
def test_another_organisation_finds_nothing(client_of, paid, razorpay, verb, path):
    other = Organisation.objects.create(
        code="other", name="Other", currency="EUR", country="DE", time_zone="Europe/Berlin"
    )
    url = "/api/v1/" + path.format(payment=paid.pk, method=PaymentMethod.objects.get().pk, account=razorpay.pk)
    body = {"reason": "mine now"} if path.endswith("refunds") else {}

    answer = getattr(client_of(other), verb)(url, body)

    assert answer.status_code == 404
    assert not Refund.objects.exists()
    assert Payment.objects.get().status == "succeeded"


@pytest.mark.parametrize(("verb", "path"), ROUTES)
def test_without_the_permission_nothing_is_done(client_of, organisation, paid, razorpay, verb, path):
    url = "/api/v1/" + path.format(payment=paid.pk, method=PaymentMethod.objects.get().pk, account=razorpay.pk)
    assert getattr(client_of(organisation, "ledger.view"), verb)(url, {}).status_code == 403
    assert getattr(APIClient(), verb)(url, {}).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        {"customer": "x", "amount": 499, "reference": "r"},
        {"customer": None, "amount": {"amount": 499.0, "currency": "INR"}, "reference": "r"},
        {"amount": {"amount": "NaN", "currency": "INR"}},
        {"amount": {"amount": "1e400", "currency": "INR"}},
        {"amount": {"amount": "-1", "currency": "INR"}},
        {"amount": {"amount": "0", "currency": "INR"}},
        {"amount": {"amount": "1.001", "currency": "INR"}},
        {"amount": {"amount": "1", "currency": "XXX"}},
        {"amount": {"amount": "999999999999999999999", "currency": "INR"}},
        {"reference": "a\x00b"},
        {"reference": "x" * 101},
        {"reference": "invoice:1"},
        {"description": "\x00"},
        {"status": "succeeded"},
        {"refunded": {"amount": "0", "currency": "INR"}},
        {"organisation": str(uuid.uuid4())},
        {"method": "not-a-uuid"},
        {"automatic": "perhaps"},
    ],
)
def test_malformed_requests_are_refused_by_name(api, customer, body):
    if isinstance(body, dict) and body:
        good = {"customer": str(customer.pk), "amount": {"amount": "1.00", "currency": "INR"}, "reference": "r"}
        body = {**good, **body}

    answer = api.post("/api/v1/payments", body)

    assert answer.status_code in (400, 422), answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert not Payment.objects.exists()


def test_lists_are_filtered_and_paged(api, ask, customer):
    for n in range(3):
        ask("1.00", reference=f"r{n}")
    assert [row["reference"] for row in api.get("/api/v1/payments?reference=r1").json()["results"]] == ["r1"]
    first = api.get("/api/v1/payments?limit=2").json()
    assert [row["reference"] for row in first["results"]] == ["r2", "r1"]
    assert [row["reference"] for row in api.get(first["next"]).json()["results"]] == ["r0"]
    for odd in ("status=nonsense", "customer=nonsense", "created_from=0001-01-01T00:00:00Z", "cursor=%00", "limit=%00"):
        assert api.get(f"/api/v1/payments?{odd}").status_code < 500
