"""What is well written and still must not get in: rows of others, closed states, values out of range, duplicates."""

from typing import Any

import pytest

from tests.e2e.api_bodies import body_for
from tests.e2e.api_world import House, changed, fingerprint

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
    refused(house, "plans", body, 422, "unknown_meter", "prices[0].meter")


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
    ("subscriptions/{subscription}/change-end", {}, 422, "invalid_input", "ends_at"),
    ("subscriptions/{subscription}/change-end", {"ends_at": None}, 409, "nothing_to_change", ""),
    (
        "subscriptions/{subscription}/change-end",
        {"ends_at": "2020-01-01T00:00:00Z"},
        422,
        "invalid_subscription",
        "ends_at",
    ),
    ("subscriptions/{subscription}/change-term", {}, 422, "invalid_input", "term"),
    ("subscriptions/{subscription}/change-term", {"renews": False}, 422, "invalid_subscription", "renews"),
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
    ("prices/quote", {"plan": "team", "currency": "EUR"}, 409, "missing_price", "currency"),
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
    ("api-keys", "api_keys_create", {"scopes": ["everything"]}, "invalid_input", "scopes[0]"),
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
        "amount",
    ),
    (
        "payments/offline",
        "payments_offline_create",
        {"reference": "receipt-1", "amount": inr("1001.00")},
        "payment_amount_differs",
        "amount",
    ),
]


@pytest.mark.parametrize(("path", "name", "change", "code", "field"), DUPLICATES, ids=[one[0] for one in DUPLICATES])
def test_what_is_there_already(
    house: House, path: str, name: str, change: dict[str, Any], code: str, field: str
) -> None:
    refused(house, path.format(customer=house.named["customer"].pk), body_for(house, name) | change, 409, code, field)


def test_a_plan_without_the_currency_is_not_sold(house: House) -> None:
    body = body_for(house, "subscriptions_create") | {"currency": "EUR"}
    refused(house, "subscriptions", body, 409, "missing_price", "currency")


def test_a_refused_statement_is_kept_as_a_refusal_and_nothing_else(house: House) -> None:
    client = house.client()
    client.get("/api/v1/organisation")
    before = fingerprint()
    body = body_for(house, "bank_accounts_statements_create") | {"content": "AAAA"}
    answer = client.post(f"/api/v1/bank-accounts/{house.named['bank'].pk}/statements", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "statement_refused")
    assert changed(before) == {"payments_statementimport", "billing_auditrecord"}
