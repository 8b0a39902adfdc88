"""Input that must not get in: refused with the right status, code and field, and nothing in the database moves."""

import json
from typing import Any

import pytest

from tests.e2e.api_bodies import body_for
from tests.e2e.api_world import House, changed, fingerprint

NOBODY = "01a1f9fa-3745-75cd-95a3-0972f95b5e1c"


def inr(amount: Any) -> dict[str, Any]:
    return {"amount": amount, "currency": "INR"}


AMOUNT_FIELDS = [
    ("payments", "payments_create", "amount"),
    ("payments/offline", "payments_offline_create", "amount"),
    ("payments/{paid}/refunds", "payments_refunds_create", "amount"),
    ("installment-plans", "installment_plans_create", "total"),
    ("installment-plans", "installment_plans_create", "down_payment"),
    ("payment-methods/setup", "payment_methods_setup_create", "max_amount"),
    ("coupons", "coupons_create", "amount"),
    ("invoices/{open}/apply-credit", "invoices_apply_credit_create", "amount"),
]
AMOUNTS = {
    "negative": inr("-1.00"),
    "zero": inr("0.00"),
    "minus zero": inr("-0.00"),
    "not a number": inr("NaN"),
    "infinite": inr("Infinity"),
    "in powers of ten": inr("1e400"),
    "three decimals": inr("1.005"),
    "five decimals": inr("1.00000"),
    "sixteen digits": inr("1234567890123456"),
    "a JSON number": inr(1.5),
    "a JSON integer": inr(1),
    "yes": inr(True),
    "nothing": inr(""),
    "with a blank": inr(" 1.00"),
    "with a newline": inr("1.00\n"),
    "with a comma": inr("1,00"),
    "with thousands": inr("1,000.00"),
    "with an underscore": inr("1_0.00"),
    "with a plus": inr("+1.00"),
    "in Arabic digits": inr("١٢.00"),
    "hexadecimal": inr("0x10"),
    "with a null character": inr("1.00\x00"),
    "unknown currency": {"amount": "1.00", "currency": "XXQ"},
    "lower-case currency": {"amount": "1.00", "currency": "inr"},
    "currency with a tail": {"amount": "1.00", "currency": "INR\n"},
    "no currency": {"amount": "1.00"},
    "no amount": {"currency": "INR"},
    "one field too many": {"amount": "1.00", "currency": "INR", "minor": 100},
    "a plain text": "1.00",
    "a plain number": 1.0,
    "a list": [inr("1.00")],
}
CODES = {"invalid_input", "invalid_amount", "unknown_currency", "refund_exceeds_captured"}


@pytest.mark.parametrize(("path", "name", "field"), AMOUNT_FIELDS, ids=[f"{one[0]}-{one[2]}" for one in AMOUNT_FIELDS])
def test_amounts_that_are_none(house: House, path: str, name: str, field: str) -> None:
    address = "/api/v1/" + path.format(paid=house.named["paid"].pk, open=house.named["open"].pk)
    client = house.client()
    client.get("/api/v1/organisation")
    before = fingerprint()
    wrong = {}
    for what, amount in AMOUNTS.items():
        answer = client.post(address, (body_for(house, name) or {}) | {field: amount})
        problem = answer.json()
        named = [error["field"] for error in problem.get("errors", [])]
        if answer.status_code != 422 or problem["code"] not in CODES or named != [field]:
            wrong[what] = answer.content
    assert wrong == {}
    assert not changed(before)


TEXTS = ["a\x00b", "a\ud800b"]  # a null character, and half of one


@pytest.mark.parametrize(("path", "name", "field"), [
    ("customers", "customers_create", "name"), ("customers", "customers_create", "external_id"),
    ("customers/{customer}/beneficiaries", "customers_beneficiaries_create", "name"),
    ("payments", "payments_create", "description"), ("payments", "payments_create", "reference"),
    ("payments/offline", "payments_offline_create", "note"), ("invoices", "invoices_create", "memo"),
    ("invoices/{open}/void", "invoices_void_create", "reason"), ("plans", "plans_create", "name"),
    ("subscriptions", "subscriptions_create", "customer"), ("subscriptions", "subscriptions_create", "external_id"),
    ("bank-accounts", "bank_accounts_create", "name"), ("meters", "meters_create", "name"),
    ("meters", "meters_create", "service"), ("meters/evaluate", "meters_evaluate_create", "expression"),
    ("usage-revisions", "usage_revisions_create", "event_id"), ("usage-imports", "usage_imports_create", "file_name"),
    ("gateway-accounts", "gateway_accounts_create", "key_id"), ("api-keys", "api_keys_create", "name"),
    ("usage-events", "usage_events_create", "event_id"), ("webhook-endpoints", "webhook_endpoints_create", "url"),
    ("coupons", "coupons_create", "name"), ("promotion-codes", "promotion_codes_create", "code"),
    ("applied-coupons", "applied_coupons_create", "promotion_code"), ("dunning-pauses", "dunning_pauses_create", "reason"),
    ("prices/quote", "prices_quote", "plan"), ("experiments", "experiments_create", "hypothesis"),
    ("experiments/running/assign", "experiments_assign", "customer"), ("auth/login", "auth_login", "password"),
    ("auth/refresh", "auth_refresh", "refresh"), ("tax-rates", "tax_rates_create", "code"),
])  # fmt: skip
def test_text_that_cannot_be_stored(house: House, path: str, name: str, field: str) -> None:
    address = path.format(customer=house.named["customer"].pk, open=house.named["open"].pk)
    client = house.client()
    client.get("/api/v1/organisation")
    before = fingerprint()
    for text in TEXTS:
        body = json.dumps(body_for(house, name) | {field: text})
        answer = client.generic("POST", f"/api/v1/{address}", body, content_type="application/json")
        assert answer.status_code in (401, 404, 422), answer.content
    assert not changed(before)


@pytest.mark.parametrize("names", [{"a\x00": "b"}, {"\ud800": "b"}, {"": "b"}, {"n" * 61: "b"},
                                   {str(n): "b" for n in range(51)}, {"a": "\x00"}, {"a": "x" * 501}])  # fmt: skip
def test_names_of_metadata_that_cannot_be_kept(house: House, names: dict[str, str]) -> None:
    for path, name in (("customers", "customers_create"), ("subscriptions", "subscriptions_create")):
        body = json.dumps(body_for(house, name) | {"metadata": names})
        answer = house.client().generic("POST", f"/api/v1/{path}", body, content_type="application/json")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"].startswith("metadata")


BODIES = {
    "no JSON": (b"{", 400, "parse_error"),
    "a bare word": (b"hello", 400, "parse_error"),
    "NaN": (b'{"name": NaN}', 400, "parse_error"),
    "wrong encoding": (b'{"name": "\xff\xfe"}', 400, "parse_error"),
    "a list": (b"[]", 422, "invalid_input"),
    "a text": (b'"x"', 422, "invalid_input"),
    "null": (b"null", 422, "invalid_input"),
    "nothing": (b"", 422, "invalid_input"),
    "nested a thousand times": (b'{"a":' * 1000 + b"1" + b"}" * 1000, 400, "parse_error"),
    "nested forty times": (b'{"name":' + b"[" * 40 + b"]" * 40 + b"}", 400, "parse_error"),
    "nested a hundred thousand times": (b"[" * 100_000, 400, "parse_error"),
    "a number of ten thousand digits": (b'{"name": ' + b"9" * 10_000 + b"}", 400, "parse_error"),
}


@pytest.mark.parametrize("path", ["customers", "payments", "invoices", "subscriptions", "plans", "tax-rates",
                                  "usage-events", "usage-events/batch", "auth/login", "prices/quote"])  # fmt: skip
def test_bodies_that_cannot_be_read(house: House, path: str) -> None:
    client = house.client()
    client.get("/api/v1/organisation")
    before = fingerprint()
    for what, (body, status, code) in BODIES.items():
        answer = client.generic("POST", f"/api/v1/{path}", body, content_type="application/json")
        known = {code, "usage_event_rejected"} if path == "usage-events" else {code}
        assert answer.status_code == status, (what, answer.content)
        assert answer.json()["code"] in known, what
    assert not changed(before)


def test_other_content_types_are_refused(house: House) -> None:
    for content_type in (
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
    ):
        answer = house.client().generic("POST", "/api/v1/customers", b"name=x", content_type=content_type)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


FILTERS = [
    ("customers?colour=red", "colour"), ("invoices?status=paidd", "status"), ("invoices?customer=", "customer"),
    ("invoices?customer=1", "customer"), ("invoices?overdue=maybe", "overdue"), ("invoices?issued_from=2026-02-30", "issued_from"),
    ("payments?created_from=yesterday", "created_from"), ("customers?limit=0", "limit"), ("customers?limit=-1", "limit"),
    ("customers?limit=1e3", "limit"), ("customers?limit=" + "9" * 30, "limit"), ("events?aggregate_id=x%00", "aggregate_id"),
    ("customers?external_id=%00", "external_id"), ("ledger/trial-balance?at=", "at"),
    ("ledger/trial-balance?at=9999-12-31T23:59:59-23:59", "at"), ("analytics/mrr?months=0", "months"),
    ("analytics/mrr?months=61", "months"), ("analytics/collection?from=2026-13-01", "from"),
    ("reconciliation/summary?from=2026-01-01", "to"), ("dunning/recovery?from=2026-02-30", "from"),
    ("dunning/recovery?to=0001-01-01", "to"), ("dunning-cases?stage=x", "stage"), ("applied-coupons?status=lost", "status"),
    ("text-messages?status=lost", "status"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "field"), FILTERS, ids=[one[0][:40] for one in FILTERS])
def test_filters_that_are_none(house: House, address: str, field: str) -> None:
    answer = house.client().get(f"/api/v1/{address}")
    assert answer.status_code == 422, answer.content
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("cursor", ["x", "%00", "cD0yMDI2", "cD0lMDA%3D", "bz05OTk5OTk5OTk5OTk5OTk5", "r" * 5000])
@pytest.mark.parametrize("path", ["customers", "invoices", "events", "payments", "audit-records"])
def test_cursors_somebody_made_up(house: House, path: str, cursor: str) -> None:
    answer = house.client().get(f"/api/v1/{path}?cursor={cursor}")
    assert answer.status_code in (200, 404)
    assert answer["Content-Type"].startswith("application/")


def test_addresses_that_do_not_exist(house: House) -> None:
    for path in (
        "nowhere",
        "customers/",
        "customers/1",
        f"customers/{NOBODY}",
        f"invoices/{NOBODY}/pdf",
        "customers/%00",
    ):
        answer = house.client().get(f"/api/v1/{path}")
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json"), path
        assert answer.json()["code"] == "not_found"
