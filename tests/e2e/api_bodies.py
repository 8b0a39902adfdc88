"""A good body for every operation that takes one."""

import base64
import uuid
from collections.abc import Callable
from typing import Any

from tests.e2e.api_world import House


def body_for(house: House, operation_id: str) -> dict[str, Any] | None:
    """A body that ``house`` accepts for the operation; None when it takes none."""
    make = BODIES.get(operation_id)
    return make(house) if make else None


def _inr(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "INR"}


def _of(house: House, name: str) -> str:
    return str(house.named[name].pk)


def _invoice_body(house: House) -> dict[str, Any]:
    line = {"description": "Workshop", "quantity": "2", "unit_price": "4500.00", "tax_category": "saas"}
    return {"customer": _of(house, "customer"), "currency": "INR", "lines": [line]}


def _plan_body(house: House) -> dict[str, Any]:
    price = {"code": "seats", "name": "Seats", "currency": "INR", "model": "per_unit", "unit_price": "10.00"}
    return {"code": f"p-{uuid.uuid4().hex[:8]}", "name": "P", "interval": "month", "versions": [{"prices": [price]}]}


def _usage_body(house: House) -> dict[str, Any]:
    return {"event_id": uuid.uuid4().hex, "meter": "calls", "customer": "family-1", "quantity": "1",
            "occurred_at": "2026-06-01T00:00:00Z"}  # fmt: skip


def _payment_body(house: House) -> dict[str, Any]:
    return {"customer": _of(house, "customer"), "amount": _inr("120.00"), "reference": f"trip-{uuid.uuid4().hex[:8]}",
            "automatic": False}  # fmt: skip


def _offline_body(house: House) -> dict[str, Any]:
    return {"customer": _of(house, "customer"), "amount": _inr("80.00"), "reference": f"cash-{uuid.uuid4().hex[:8]}",
            "received_on": "2026-06-10", "note": "Counter 2"}  # fmt: skip


def _statement_body(house: House) -> dict[str, Any]:
    text = f"Date,Description,Amount\n2026-06-02,Transfer {uuid.uuid4().hex[:6]},77.00\n"
    return {"file_name": "june.csv", "format": "csv", "content": base64.b64encode(text.encode()).decode()}


USAGE_FILE = base64.b64encode(
    b"event_id,meter,customer,occurred_at\nf-1,calls,family-1,2026-06-01T00:00:00Z\n"
).decode()

BODIES: dict[str, Callable[[House], dict[str, Any]]] = {
    "analytics_service_tags_update": lambda house: {"services": {"seats": {"service": "team", "unit_cost": "1.5"}}},
    "api_keys_create": lambda house: {"name": "another", "scopes": ["api_key.edit"]},
    "auth_login": lambda house: {"email": "nobody@example.com", "password": "wrong"},
    "auth_refresh": lambda house: {"refresh": "a.b.c"},
    "auth_logout": lambda house: {"refresh": "a.b.c"},
    "bank_accounts_create": lambda house: {"code": f"b-{uuid.uuid4().hex[:8]}", "name": "Bank", "currency": "INR"},
    "bank_accounts_statements_create": _statement_body,
    "billing_cycles_retry_create": lambda house: {"reason": "The price is there now"},
    "billing_runs_create": lambda house: {"dry_run": True},
    "billing_runs_retry_create": lambda house: {"reason": "The price is there now"},
    "billing_terms_create": lambda house: {"customer": "clinic-1", "grace_days": 5},
    "usage_thresholds_create": lambda house: {"plan": "team", "amount": _inr("7000.00"), "recurring": True},
    "draft_edits_create": lambda house: {
        "invoice": _of(house, "run_draft"), "kind": "add", "description": "Setup", "amount": _inr("10.00"), "reason": "agreed",
    },
    "customers_create": lambda house: {"external_id": uuid.uuid4().hex, "name": "New"},
    "customers_partial_update": lambda house: {"phone": "+919845099999"},
    "customers_beneficiaries_create": lambda house: {"external_id": uuid.uuid4().hex, "name": "Child"},
    "dunning_policies_create": lambda house: {
        "code": f"d-{uuid.uuid4().hex[:8]}", "stages": [{"after_days": 3, "actions": ["mail:reminder_1"]}],
    },
    "entitlement_grants_create": lambda house: {
        "kind": "override", "customer": "family-1", "feature": "exports", "limit": "7", "reason": "Agreed with sales",
    },
    "entitlement_grants_revoke_create": lambda house: {"reason": "No longer needed"},
    "entitlements_check_many": lambda house: {"questions": [{"customer": "family-1", "feature": "exports"}]},
    "entitlements_consume": lambda house: {"customer": "family-1", "feature": "exports", "key": uuid.uuid4().hex},
    "entitlements_release": lambda house: {"customer": "family-1", "feature": "exports", "key": uuid.uuid4().hex},
    "experiments_assign": lambda house: {"customer": "family-1"},
    "experiments_create": lambda house: {
        "code": f"e-{uuid.uuid4().hex[:8]}", "name": "Which price", "plan": "lab-draft",
        "variants": [{"code": "today", "version": 1, "weight": 60}, {"code": "dearer", "version": 2, "weight": 40}],
    },
    "experiments_partial_update": lambda house: {"allocation_percent": 20},
    "experiments_start_create": lambda house: {"baseline_rate": "0.08", "minimum_effect": "0.02"},
    "experiments_sample_create": lambda house: {"baseline_rate": "0.08", "minimum_effect": "0.02"},
    "experiments_reweigh_create": lambda house: {"weights": {"today": 90, "dearer": 10}, "reason": "Complaints"},
    "experiments_stop_create": lambda house: {"reason": "Enough"},
    "experiments_conclude_create": lambda house: {"variant": "today", "reason": "No difference shown"},
    "features_create": lambda house: {"code": f"f-{uuid.uuid4().hex[:8]}", "name": "F", "kind": "quota"},
    "features_archive_create": lambda house: {"reason": "Replaced by another"},
    "features_partial_update": lambda house: {"unit": "report"},
    "coupons_create": lambda house: {
        "code": f"c-{uuid.uuid4().hex[:8]}", "name": "Spring", "kind": "percent", "percent": "10",
    },
    "coupons_archive_create": lambda house: {"reason": "The offer is over"},
    "promotion_codes_create": lambda house: {"code": f"W{uuid.uuid4().hex[:8]}", "coupon": "spring"},
    "promotion_codes_archive_create": lambda house: {"reason": "The offer is over"},
    "applied_coupons_create": lambda house: {"customer": _of(house, "customer"), "promotion_code": "WELCOME"},
    "applied_coupons_remove_create": lambda house: {"reason": "Given by mistake"},
    "dunning_policies_archive_create": lambda house: {"reason": "Too strict"},
    "dunning_pauses_create": lambda house: {
        "customer": _of(house, "customer"), "until": "2026-06-30", "reason": "Cheque is on its way",
    },
    "dunning_pauses_lift_create": lambda house: {"reason": "The cheque came"},
    "dunning_run": lambda house: {"dry_run": True},
    "text_opt_outs_create": lambda house: {"customer": _of(house, "customer")},
    "text_opt_outs_opt_in_create": lambda house: {"reason": "Asked for them again"},
    "gateway_accounts_create": lambda house: {
        "provider": "stripe", "code": f"g-{uuid.uuid4().hex[:8]}", "key_id": "pk", "key_secret": "sk", "webhook_secret": "wh",
    },
    "installment_plans_create": lambda house: {
        "customer": _of(house, "customer"), "description": "Fee", "total": _inr("900.00"), "count": 3,
        "first_due_on": "2026-09-01",
    },
    "invoices_create": _invoice_body,
    "invoices_preview_create": _invoice_body,
    "invoices_apply_credit_create": lambda house: {"amount": _inr("10.00")},
    "installment_plans_cancel_create": lambda house: {"reason": "Moved away"},
    "installment_plans_retry_create": lambda house: {"reason": "The rate is there now"},
    "invoices_void_create": lambda house: {"reason": "Written in error"},
    "invoices_write_off_create": lambda house: {"reason": "Gone away"},
    "invoices_credit_notes_create": lambda house: {"reason": "One day less"},
    "meters_evaluate_create": lambda house: {"expression": "bytes / 4", "properties": {"bytes": 10}},
    "meters_partial_update": lambda house: {"service": "voice", "unit_cost": "0.01"},
    "parked_usage_dismiss_create": lambda house: {"reason": "Sent by a test system"},
    "usage_imports_create": lambda house: {"file_name": "june.csv", "content": USAGE_FILE, "dry_run": True},
    "organisation_update": lambda house: {"upi_id": "sunrise@hdfcbank", "settings": {"net_days": 10}},
    "usage_policy_update": lambda house: {"late_days": 45},
    "entitlement_policy_update": lambda house: {"thresholds": [50, 100]},
    "usage_revisions_create": lambda house: {"event_id": "u-1", "kind": "void", "reason": "A test of ours"},
    "meters_create": lambda house: {"code": f"m-{uuid.uuid4().hex[:8]}", "name": "M", "aggregation": "sum"},
    "payment_methods_create": lambda house: {
        "customer": _of(house, "customer"), "gateway_account": _of(house, "account"),
        "razorpay": {"payment_id": "pay_1", "order_id": "order_1", "signature": "00"},
    },
    "payment_methods_setup_create": lambda house: {
        "customer": _of(house, "customer"), "kind": "upi", "return_url": "https://shop.example/back",
    },
    "payments_create": _payment_body,
    "payments_offline_create": _offline_body,
    "payments_refunds_create": lambda house: {"amount": _inr("10.00"), "reason": "Meals not taken"},
    "payments_retry_create": lambda house: {},
    "plans_create": _plan_body,
    "subscriptions_partial_update": lambda house: {"net_days": 21, "reason": "Agreed on the telephone"},
    "plans_partial_update": lambda house: {"trial_days": 7, "reason": "Longer to look"},
    "plans_versions_create": lambda house: _plan_body(house)["versions"][0],
    "subscriptions_add_ons_create": lambda house: {"add_ons": {"storage": 2}},
    "plan_entitlements_create": lambda house: {"plan": "club", "entitlements": [{"feature": "exports", "limit": "50"}]},
    "plan_migrations_create": lambda house: {"from_plan": "club", "to_plan": "team"},
    "plan_migrations_preview_create": lambda house: {"from_plan": "club", "to_plan": "team"},
    "prices_quote": lambda house: {"plan": "team", "quantity": "2"},
    "reconciliation_exceptions_resolve_create": lambda house: {"resolution": "handled", "reason": "Looked into it"},
    "reconciliation_run": lambda house: {"dry_run": True},
    "subscriptions_create": lambda house: {"customer": "family-1", "plan": "club"},
    "subscriptions_cancel_create": lambda house: {"when": "period_end"},
    "subscriptions_change_create": lambda house: {"quantity": 5},
    "subscriptions_pause_create": lambda house: {},
    "subscriptions_suspend_create": lambda house: {"reason": "Fraud suspected"},
    "subscriptions_reactivate_create": lambda house: {"reason": "Came back"},
    "subscriptions_resume_create": lambda house: {},
    "subscriptions_cancel_change_create": lambda house: {},
    "subscriptions_change_end_create": lambda house: {"ends_at": "2027-03-31T00:00:00Z"},
    "subscriptions_change_term_create": lambda house: {"renews": False},
    "subscriptions_preview_create": lambda house: {"new": {"customer": "family-1", "plan": "club"}},
    "tax_rates_create": lambda house: {
        "category": f"c-{uuid.uuid4().hex[:8]}", "country": "IN", "rate": "5", "valid_from": "2026-01-01",
    },
    "test_clocks_advance_create": lambda house: {"to": "2026-06-16T00:00:00Z"},
    "usage_events_create": _usage_body,
    "usage_events_batch_create": lambda house: {"events": [_usage_body(house)]},
    "webhook_endpoints_create": lambda house: {"url": "https://app.example.com/other"},
    "webhook_endpoints_partial_update": lambda house: {"active": False},
}  # fmt: skip
