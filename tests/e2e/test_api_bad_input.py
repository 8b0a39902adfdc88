"""Input that must not get in: refused with the right status, code and field, and nothing in the database moves."""

import json
from typing import Any

import pytest

from tests.e2e.api_world import House, body_for, changed, fingerprint

NOBODY = "01a1f9fa-3745-75cd-95a3-0972f95b5e1c"


def inr(amount: Any) -> dict[str, Any]:
    return {"amount": amount, "currency": "INR"}


def refused(house: House, path: str, body: Any, status: int, code: str, field: str = "") -> dict[str, Any]:
    """POST ``body``; it is refused as said, and nothing changed."""
    client = house.client()
    client.get("/api/v1/organisation")
    before = fingerprint()
    answer = client.post(f"/api/v1/{path}", body)
    assert answer["Content-Type"] == "application/problem+json", answer.content
    problem = answer.json()
    found = [error["field"] for error in problem.get("errors", [])]
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert not field or field in found, problem
    assert problem["detail"]
    assert not changed(before)
    return problem


AMOUNT_FIELDS = [
    ("payments", "payments_create", "amount"),
    ("payments/offline", "payments_offline_create", "amount"),
    ("payments/{paid}/refunds", "payments_refunds_create", "amount"),
    ("installment-plans", "installment_plans_create", "total"),
    ("installment-plans", "installment_plans_create", "down_payment"),
    ("payment-methods/setup", "payment_methods_setup_create", "max_amount"),
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
    ("gateway-accounts", "gateway_accounts_create", "key_id"), ("api-keys", "api_keys_create", "name"),
    ("usage-events", "usage_events_create", "event_id"), ("webhook-endpoints", "webhook_endpoints_create", "url"),
    ("prices/quote", "prices_quote", "plan"), ("auth/login", "auth_login", "password"),
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


# --- references to what is not there, or not ours --------------------------------------------------
FOREIGN = [
    ("payments", "payments_create", "customer", "customer", 404, "not_found"),
    ("payments", "payments_create", "method", "method", 404, "not_found"),
    ("payments/offline", "payments_offline_create", "customer", "customer", 404, "not_found"),
    ("payments/{waiting}/retry", "payments_retry_create", "method", "method", 404, "not_found"),
    ("payment-methods/setup", "payment_methods_setup_create", "customer", "customer", 404, "not_found"),
    ("payment-methods/setup", "payment_methods_setup_create", "gateway_account", "account", 409, "no_gateway"),
    ("payment-methods", "payment_methods_create", "gateway_account", "account", 409, "no_gateway"),
    ("invoices", "invoices_create", "customer", "customer", 404, "not_found"),
    ("invoices", "invoices_create", "method", "method", 404, "not_found"),
    ("invoices/preview", "invoices_preview_create", "customer", "customer", 404, "not_found"),
    ("installment-plans", "installment_plans_create", "customer", "customer", 404, "not_found"),
    ("installment-plans", "installment_plans_create", "beneficiary", "beneficiary", 404, "not_found"),
    ("subscriptions", "subscriptions_create", "customer", "customer", 404, "not_found"),
    ("subscriptions", "subscriptions_create", "plan", "plan", 404, "not_found"),
    ("subscriptions", "subscriptions_create", "beneficiary", "beneficiary", 404, "not_found"),
    ("subscriptions", "subscriptions_create", "payment_method", "method", 404, "not_found"),
    ("subscriptions/{subscription}/change", "subscriptions_change_create", "plan", "plan", 404, "not_found"),
    ("prices/quote", "prices_quote", "plan", "plan", 404, "not_found"),
]


@pytest.mark.parametrize("whose", ["nobody's", "somebody else's"])
@pytest.mark.parametrize(("path", "name", "field", "row", "status", "code"), FOREIGN,
                         ids=[f"{one[0]}-{one[2]}" for one in FOREIGN])  # fmt: skip
def test_what_is_not_ours_cannot_be_named(
    house: House, other: House, path: str, name: str, field: str, row: str, status: int, code: str, whose: str
) -> None:
    theirs = NOBODY if whose == "nobody's" else str(other.named[row].pk)
    address = path.format(**{key: value.pk for key, value in house.named.items()})
    refused(house, address, (body_for(house, name) or {}) | {field: theirs}, status, code, field)


def test_an_exception_is_not_matched_with_somebody_elses_payout(house: House, other: House) -> None:
    line = next(row for name, row in house.named.items() if name.startswith("exception") and "bank" in name)
    body = {"resolution": "match", "reason": "Found it", "settlement": str(other.named["settlement"].pk)}
    refused(house, f"reconciliation-exceptions/{line.pk}/resolve", body, 404, "not_found", "settlement")


def test_a_preview_of_somebody_elses_subscription(house: House, other: House) -> None:
    body = {"change": {"subscription": str(other.named["subscription"].pk), "quantity": 2}}
    refused(house, "subscriptions/preview", body, 404, "not_found")


def test_a_price_with_somebody_elses_meter(house: House, other: House) -> None:
    body = body_for(house, "plans_create")
    body["versions"][0]["prices"][0] |= {"model": "per_unit", "meter": str(other.named["meter"].pk)}
    refused(house, "plans", body, 422, "unknown_meter", "prices.meter")


# --- what the state of things does not allow -------------------------------------------------------
REASON = {"reason": "Because of this test"}
STATES = [
    ("invoices/{draft}/void", REASON, 409, "invoice_not_open", ""),
    ("invoices/{draft}/write-off", REASON, 409, "invoice_not_open", ""),
    ("invoices/{draft}/credit-notes", REASON, 409, "invoice_not_open", ""),
    ("invoices/{draft}/send", {}, 409, "invoice_not_open", ""),
    ("invoices/{draft}/apply-credit", {}, 409, "invoice_not_open", ""),
    ("invoices/{open}/finalize", {}, 409, "invoice_not_draft", ""),
    ("invoices/{paid_invoice}/finalize", {}, 409, "invoice_not_draft", ""),
    ("invoices/{paid_invoice}/void", REASON, 409, "invoice_has_payments", ""),
    ("invoices/{paid_invoice}/write-off", REASON, 409, "invoice_not_open", ""),
    ("invoices/{paid_invoice}/apply-credit", {}, 409, "invoice_not_open", ""),
    ("invoices/{credited}/void", REASON, 409, "invoice_has_payments", ""),
    (
        "invoices/{open}/credit-notes",
        REASON | {"amounts": [{"position": 9, "amount": inr("1.00")}]},
        422,
        "invalid_input",
        "amounts",
    ),
    (
        "invoices/{open}/credit-notes",
        REASON | {"amounts": [{"position": 1, "amount": inr("1000.01")}]},
        409,
        "credit_exceeds_invoice",
        "",
    ),
    (
        "invoices/{open}/credit-notes",
        REASON | {"amounts": [{"position": 1, "amount": inr("1.00")}] * 2},
        422,
        "invalid_input",
        "amounts",
    ),
    (
        "invoices/{open}/credit-notes",
        REASON | {"amounts": [{"position": 1, "amount": {"amount": "1.00", "currency": "EUR"}}]},
        422,
        "currency_mismatch",
        "amounts",
    ),
    ("payments/{waiting}/refunds", REASON, 409, "not_refundable", ""),
    ("payments/{paid}/refunds", REASON | {"amount": inr("1000.01")}, 422, "refund_exceeds_captured", "amount"),
    (
        "payments/{paid}/refunds",
        REASON | {"amount": {"amount": "1.00", "currency": "EUR"}},
        422,
        "currency_mismatch",
        "amount",
    ),
    ("payments/{paid}/retry", {}, 409, "payment_not_collectable", ""),
    ("payments/{paid}/cancel", {}, 409, "payment_not_cancellable", ""),
    ("payments/{paid}/checkout", {}, 409, "payment_not_collectable", ""),
    ("subscriptions/{subscription}/resume", {}, 409, "transition_refused", ""),
    ("subscriptions/{subscription}/uncancel", {}, 409, "not_planned", ""),
    ("subscriptions/{subscription}/cancel-change", {}, 409, "not_planned", ""),
    ("subscriptions/{subscription}/change", {}, 409, "nothing_to_change", ""),
    ("subscriptions/{subscription}/change", {"quantity": 0}, 422, "invalid_input", "quantity"),
    ("subscriptions/{subscription}/change", {"quantity": 10**30}, 422, "invalid_input", "quantity"),
    ("subscriptions/{subscription}/change", {"quantity": "3"}, 422, "invalid_input", "quantity"),
    ("subscriptions/{subscription}/change", {"quantity": 2.5}, 422, "invalid_input", "quantity"),
    ("subscriptions/{subscription}/change", {"when": "yesterday"}, 422, "invalid_input", "when"),
    ("subscriptions/{paused}/pause", {}, 409, "transition_refused", ""),
    (
        "subscriptions/{subscription}/pause",
        {"resume_at": "2020-01-01T00:00:00Z"},
        422,
        "invalid_subscription",
        "resume_at",
    ),
    (
        "subscriptions/{subscription}/pause",
        {"resume_at": "9999-12-31T23:59:59Z"},
        422,
        "invalid_subscription",
        "resume_at",
    ),
    ("test-clocks/{clock}/advance", {"to": "2026-01-01T00:00:00Z"}, 422, "test_clock_not_forward", "to"),
    ("test-clocks/{clock}/advance", {"to": "9999-12-31T23:59:59Z"}, 422, "test_clock_too_far", "to"),
    (
        "test-clocks/{clock}/advance",
        {"to": "2026-06-16T00:00:00Z", "step_hours": 0},
        422,
        "invalid_input",
        "step_hours",
    ),
    ("billing-runs", {"due_at": "2027-01-01T00:00:00Z"}, 422, "due_in_future", "due_at"),
    ("billing-runs", {"due_at": "0001-01-01T00:00:00+14:00", "dry_run": True}, 422, "invalid_input", "due_at"),
    ("prices/quote", {}, 422, "invalid_input", "body"),
    ("prices/quote", {"plan": "team", "quantity": "1.5"}, 422, "invalid_input", "quantity"),
    ("prices/quote", {"plan": "team", "quantity": "-1"}, 422, "invalid_input", "quantity"),
    ("prices/quote", {"plan": "team", "currency": "EUR"}, 409, "missing_price", ""),
    ("subscriptions/preview", {}, 422, "invalid_input", "body"),
]


@pytest.mark.parametrize(("path", "body", "status", "code", "field"), STATES,
                         ids=[f"{one[0]}-{n}" for n, one in enumerate(STATES)])  # fmt: skip
def test_what_the_state_does_not_allow(
    house: House, path: str, body: dict[str, Any], status: int, code: str, field: str
) -> None:
    refused(house, path.format(**{key: value.pk for key, value in house.named.items() if key.isidentifier()}), body,
            status, code, field)  # fmt: skip


# --- values outside of what is allowed --------------------------------------------------------------
VALUES = [
    ("customers", "customers_create", {"currency": "XXQ"}, "unknown_currency", "currency"),
    ("customers", "customers_create", {"email": "nobody"}, "invalid_input", "email"),
    ("customers", "customers_create", {"address": {"country": "ZZ"}}, "invalid_party", "address.country"),
    ("customers", "customers_create", {"external_id": ""}, "invalid_input", "external_id"),
    ("customers", "customers_create", {"external_id": "e" * 101}, "invalid_input", "external_id"),
    ("customers", "customers_create", {"version": 1}, "invalid_input", "version"),
    ("plans", "plans_create", {"interval": "century"}, "invalid_input", "interval"),
    ("plans", "plans_create", {"interval_count": 0}, "invalid_input", "interval_count"),
    ("plans", "plans_create", {"trial_days": -1}, "invalid_input", "trial_days"),
    ("plans", "plans_create", {"versions": []}, "invalid_input", "versions"),
    (
        "plans",
        "plans_create",
        {"available_from": "2026-06-01", "available_until": "2026-05-01"},
        "invalid_plan",
        "available_until",
    ),
    ("subscriptions", "subscriptions_create", {"start_at": "1900-01-01T00:00:00Z"}, "invalid_subscription", "start_at"),
    ("subscriptions", "subscriptions_create", {"start_at": "9999-12-31T23:59:59Z"}, "invalid_subscription", "start_at"),
    ("subscriptions", "subscriptions_create", {"ends_at": "2020-01-01T00:00:00Z"}, "invalid_subscription", "ends_at"),
    ("subscriptions", "subscriptions_create", {"anchor_on": "2000-02-30"}, "invalid_input", "anchor_on"),
    ("subscriptions", "subscriptions_create", {"quantity": 0}, "invalid_input", "quantity"),
    ("subscriptions", "subscriptions_create", {"net_days": 366}, "invalid_input", "net_days"),
    ("invoices", "invoices_create", {"lines": []}, "invalid_input", "lines"),
    ("invoices", "invoices_create", {"currency": "XXQ"}, "unknown_currency", "currency"),
    ("invoices", "invoices_create", {"issued_on": "2026-02-30"}, "invalid_input", "issued_on"),
    ("invoices", "invoices_create", {"issued_on": "0001-01-01"}, "invalid_input", "issued_on"),
    ("payments", "payments_create", {"reference": "invoice:1"}, "invalid_input", "reference"),
    ("payments", "payments_create", {"reference": "with blank"}, "invalid_input", "reference"),
    ("payments/offline", "payments_offline_create", {"received_on": "2026-06-16"}, "invalid_input", "received_on"),
    ("payments/offline", "payments_offline_create", {"received_on": "0001-01-01"}, "invalid_input", "received_on"),
    ("payments/offline", "payments_offline_create", {"note": ""}, "invalid_input", "note"),
    ("installment-plans", "installment_plans_create", {"count": 0}, "invalid_input", "count"),
    ("installment-plans", "installment_plans_create", {"count": 61}, "invalid_input", "count"),
    ("installment-plans", "installment_plans_create", {"total": inr("0.02")}, "invalid_installments", "count"),
    (
        "installment-plans",
        "installment_plans_create",
        {"down_payment": inr("901.00")},
        "invalid_installments",
        "down_payment",
    ),
    (
        "installment-plans",
        "installment_plans_create",
        {"down_payment": {"amount": "1.00", "currency": "EUR"}},
        "currency_mismatch",
        "down_payment",
    ),
    ("tax-rates", "tax_rates_create", {"rate": "100.01"}, "invalid_input", "rate"),
    ("tax-rates", "tax_rates_create", {"rate": "1e1"}, "invalid_input", "rate"),
    ("tax-rates", "tax_rates_create", {"valid_until": "2025-12-31"}, "invalid_input", "valid_until"),
    ("dunning-policies", "dunning_policies_create", {"stages": []}, "invalid_input", "stages"),
    ("dunning-policies", "dunning_policies_create", {"plans": ["nowhere"]}, "unknown_plan", "plans"),
    (
        "webhook-endpoints",
        "webhook_endpoints_create",
        {"url": "ftp://app.example.com"},
        "webhook_address_refused",
        "url",
    ),
    (
        "webhook-endpoints",
        "webhook_endpoints_create",
        {"url": "http://127.0.0.1/hook"},
        "webhook_address_refused",
        "url",
    ),
    (
        "webhook-endpoints",
        "webhook_endpoints_create",
        {"url": "http://169.254.169.254/latest"},
        "webhook_address_refused",
        "url",
    ),
    ("api-keys", "api_keys_create", {"scopes": ["everything"]}, "invalid_input", "scopes.0"),
    ("api-keys", "api_keys_create", {"scopes": []}, "invalid_input", "scopes"),
    ("api-keys", "api_keys_create", {"expires_at": "2020-01-01T00:00:00Z"}, "invalid_input", "expires_at"),
    ("bank-accounts", "bank_accounts_create", {"currency": "XXQ"}, "unknown_currency", "currency"),
    ("bank-accounts", "bank_accounts_create", {"last4": "12"}, "invalid_input", "last4"),
    (
        "bank-accounts/{bank}/statements",
        "bank_accounts_statements_create",
        {"content": "no base64!"},
        "invalid_input",
        "content",
    ),
    (
        "bank-accounts/{bank}/statements",
        "bank_accounts_statements_create",
        {"format": "pdf"},
        "invalid_input",
        "format",
    ),
    ("usage-events", "usage_events_create", {"quantity": "NaN"}, "usage_event_rejected", "quantity"),
    ("usage-events", "usage_events_create", {"quantity": "-1"}, "usage_event_rejected", "quantity"),
    ("usage-events", "usage_events_create", {"quantity": "1e400"}, "usage_event_rejected", "quantity"),
    ("usage-events", "usage_events_create", {"meter": "nowhere"}, "usage_event_rejected", "meter"),
    ("usage-events", "usage_events_create", {"customer": "nobody"}, "usage_event_rejected", "customer"),
    (
        "usage-events",
        "usage_events_create",
        {"occurred_at": "9999-12-31T23:59:59Z"},
        "usage_event_rejected",
        "occurred_at",
    ),
    ("usage-events", "usage_events_create", {"occurred_at": "yesterday"}, "usage_event_rejected", "occurred_at"),
]


@pytest.mark.parametrize(("path", "name", "change", "code", "field"), VALUES,
                         ids=[f"{one[0]}-{'+'.join(one[2])}-{n}" for n, one in enumerate(VALUES)])  # fmt: skip
def test_values_that_are_not_allowed(
    house: House, path: str, name: str, change: dict[str, Any], code: str, field: str
) -> None:
    refused(house, path.format(bank=house.named["bank"].pk), body_for(house, name) | change, 422, code, field)


# --- what is there already ---------------------------------------------------------------------------
DUPLICATES = [
    ("customers", "customers_create", {"external_id": "family-1"}, "customer_exists", "external_id"),
    (
        "customers/{customer}/beneficiaries",
        "customers_beneficiaries_create",
        {"external_id": "student-1"},
        "beneficiary_exists",
        "external_id",
    ),
    ("meters", "meters_create", {"code": "calls"}, "meter_exists", "code"),
    ("plans", "plans_create", {"code": "team"}, "plan_code_taken", "code"),
    ("gateway-accounts", "gateway_accounts_create", {"code": "razorpay"}, "gateway_account_exists", "code"),
    ("bank-accounts", "bank_accounts_create", {"code": "hdfc"}, "conflict", "code"),
    ("dunning-policies", "dunning_policies_create", {"code": "gentle"}, "conflict", "code"),
    (
        "tax-rates",
        "tax_rates_create",
        {"category": "saas", "rate": "12", "valid_from": "2017-07-01"},
        "tax_rate_exists",
        "",
    ),
    (
        "payments",
        "payments_create",
        {"reference": "excursion-1", "amount": inr("751.00")},
        "payment_amount_differs",
        "",
    ),
    (
        "payments/offline",
        "payments_offline_create",
        {"reference": "receipt-1", "amount": inr("1001.00")},
        "payment_amount_differs",
        "",
    ),
]


@pytest.mark.parametrize(("path", "name", "change", "code", "field"), DUPLICATES, ids=[one[0] for one in DUPLICATES])
def test_what_is_there_already(
    house: House, path: str, name: str, change: dict[str, Any], code: str, field: str
) -> None:
    refused(house, path.format(customer=house.named["customer"].pk), body_for(house, name) | change, 409, code, field)


def test_a_plan_without_the_currency_is_not_sold(house: House) -> None:
    body = body_for(house, "subscriptions_create") | {"currency": "EUR"}
    refused(house, "subscriptions", body, 409, "missing_price")


def test_a_refused_statement_is_kept_as_a_refusal_and_nothing_else(house: House) -> None:
    client = house.client()
    client.get("/api/v1/organisation")
    before = fingerprint()
    body = body_for(house, "bank_accounts_statements_create") | {"content": "AAAA"}
    answer = client.post(f"/api/v1/bank-accounts/{house.named['bank'].pk}/statements", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "statement_refused")
    assert changed(before) == {"payments_statementimport", "billing_auditrecord"}


FILTERS = [
    ("customers?colour=red", "colour"), ("invoices?status=paidd", "status"), ("invoices?customer=", "customer"),
    ("invoices?customer=1", "customer"), ("invoices?overdue=maybe", "overdue"), ("invoices?issued_from=2026-02-30", "issued_from"),
    ("payments?created_from=yesterday", "created_from"), ("customers?limit=0", "limit"), ("customers?limit=-1", "limit"),
    ("customers?limit=1e3", "limit"), ("customers?limit=" + "9" * 30, "limit"), ("events?aggregate_id=x%00", "aggregate_id"),
    ("customers?external_id=%00", "external_id"), ("ledger/trial-balance?at=", "at"),
    ("ledger/trial-balance?at=9999-12-31T23:59:59-23:59", "at"), ("analytics/mrr?months=0", "months"),
    ("analytics/mrr?months=61", "months"), ("analytics/collection?from=2026-13-01", "from"),
    ("reconciliation/summary?from=2026-01-01", "to"),
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
