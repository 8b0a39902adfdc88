"""Handlers: payments, refunds, settlements, disputes."""

from __future__ import annotations

from typing import Any

from payments.simulator.razorpay_api import disputes, payments, refunds, settlements, shapes, tokens
from payments.simulator.razorpay_api.call import Call, check_amount, check_currency, check_notes
from payments.simulator.razorpay_api.errors import not_found

Json = dict[str, Any]

RECURRING_FIELDS = ("email", "contact", "amount", "currency", "order_id", "customer_id", "token", "recurring",
                    "notes", "description", "notification", "payment_capture")  # fmt: skip
REFUND_FIELDS = ("amount", "speed", "notes", "receipt", "payment_id")


def fetch_payment(call: Call) -> Json:
    """GET /payments/{id}; ``expand[]=card``."""
    payment = call.find("payments")
    expand = call.request.query.get("expand[]")
    return shapes.with_card(call.account, payment) if expand == "card" else payment


def edit_payment(call: Call) -> Json:
    """PATCH /payments/{id}: notes only."""
    call.only(("notes",))
    check_notes(call.body)
    payment = call.find("payments")
    payment["notes"] = shapes.notes_of(call.body)
    return payment


def capture_payment(call: Call) -> Json:
    """POST /payments/{id}/capture."""
    call.only(("amount", "currency"))
    amount = check_amount(call.body, minimum=0)
    return payments.capture_by_hand(world=call.world, account=call.account, payment=call.find("payments"),
                                    amount=amount, currency=call.body.get("currency"))  # fmt: skip


def create_recurring(call: Call) -> Json:
    """POST /payments/create/recurring."""
    call.only(RECURRING_FIELDS)
    check_amount(call.body, minimum=100)
    check_currency(call.body)
    check_notes(call.body)
    return tokens.charge(world=call.world, account=call.account, body=call.body)


def refund_payment(call: Call) -> Json:
    """POST /payments/{id}/refund."""
    call.only(REFUND_FIELDS)
    check_notes(call.body)
    return refunds.create(world=call.world, account=call.account, payment=call.find("payments"), body=call.body)


def create_refund(call: Call) -> Json:
    """POST /refunds with ``payment_id``."""
    call.path["id"] = str(call.body.get("payment_id"))
    return refund_payment(call)


def payment_refunds(call: Call) -> Json:
    """GET /payments/{id}/refunds."""
    ids = call.account.indexed("refunds", call.find("payments")["id"])
    return call.page([call.account.of("refunds")[name] for name in ids])


def payment_refund(call: Call) -> Json:
    """GET /payments/{id}/refunds/{refund_id}."""
    refund = call.find("refunds", "refund_id")
    if refund["payment_id"] != call.path["id"]:
        raise not_found()
    return refund


def recon_combined(call: Call) -> Json:
    """GET /settlements/recon/combined?year&month&day&count&skip."""
    rows = settlements.recon(call.account, call.request.query)
    return call.page(rows, most=1000, newest_first=False)


def accept_dispute(call: Call) -> Json:
    """POST /disputes/{id}/accept."""
    dispute = call.find("disputes")
    disputes.close(world=call.world, account=call.account, dispute=dispute, outcome="lost")
    return dispute


def contest_dispute(call: Call) -> Json:
    """PATCH /disputes/{id}/contest with ``action`` draft or submit."""
    dispute = call.find("disputes")
    for name in shapes.EVIDENCE:
        if name in call.body and name != "submitted_at":
            dispute["evidence"][name] = call.body[name]
    if call.body.get("action") == "submit":
        disputes.submit(call.world, call.account, dispute)
    return dispute
