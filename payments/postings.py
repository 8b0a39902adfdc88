"""What payments post to the ledger. Pure: values in, an entry out; the key makes it post once."""

import uuid
from datetime import datetime

from moneyed import Money

from billing.services.ledger import Entry, credit, debit


def clearing(account_code: str) -> str:
    """Money a gateway holds for us, captured and not yet settled."""
    return f"gateway_clearing:{account_code}"


def payment_captured(
    *,
    attempt_id: uuid.UUID,
    payment_id: uuid.UUID,
    customer_id: uuid.UUID,
    account_code: str,
    amount: Money,
    at: datetime,
) -> Entry:
    """Debit the gateway's clearing, credit the customer; applied to an invoice by whoever asked for the payment."""
    return Entry(
        kind="payment_captured",
        source_type="payments.payment",
        source_id=payment_id,
        occurred_at=at,
        key=f"payment_captured:{attempt_id}",
        lines=[debit(clearing(account_code), amount), credit("customer_credit", amount, customer_id=customer_id)],
    )


def refund_succeeded(
    *, refund_id: uuid.UUID, customer_id: uuid.UUID, account_code: str, amount: Money, at: datetime
) -> Entry:
    """The customer's credit goes back through the gateway."""
    return Entry(
        kind="refund_succeeded",
        source_type="payments.refund",
        source_id=refund_id,
        occurred_at=at,
        key=f"refund_succeeded:{refund_id}",
        lines=[debit("customer_credit", amount, customer_id=customer_id), credit(clearing(account_code), amount)],
    )


def refund_returned(
    *, refund_id: uuid.UUID, customer_id: uuid.UUID, account_code: str, amount: Money, at: datetime
) -> Entry:
    """A bank sent a refund back after it had succeeded: the customer has the credit again."""
    return Entry(
        kind="refund_returned",
        source_type="payments.refund",
        source_id=refund_id,
        occurred_at=at,
        key=f"refund_returned:{refund_id}",
        lines=[debit(clearing(account_code), amount), credit("customer_credit", amount, customer_id=customer_id)],
    )


def dispute_opened_key(dispute_id: uuid.UUID) -> str:
    """Under which the amount that a bank took is booked once."""
    return f"dispute_opened:{dispute_id}"


def dispute_opened(*, dispute_id: uuid.UUID, account_code: str, amount: Money, fee: Money, at: datetime) -> Entry:
    """The bank takes the contested amount and the gateway its fee at once."""
    return Entry(
        kind="dispute_opened",
        source_type="payments.dispute",
        source_id=dispute_id,
        occurred_at=at,
        key=dispute_opened_key(dispute_id),
        lines=[
            debit("dispute_pending", amount),
            debit("dispute_fees", fee),
            credit(clearing(account_code), amount + fee),
        ],
    )


def dispute_changed(*, dispute_id: uuid.UUID, account_code: str, total: Money, change: Money, at: datetime) -> Entry:
    """The bank took ``change`` more than it had (less, where negative): now ``total``. The fee was booked before."""
    lines = [debit("dispute_pending", change), credit(clearing(account_code), change)]
    if change.amount < 0:
        lines = [debit(clearing(account_code), -change), credit("dispute_pending", -change)]
    return Entry(
        kind="dispute_changed",
        source_type="payments.dispute",
        source_id=dispute_id,
        occurred_at=at,
        key=f"{dispute_opened_key(dispute_id)}:{total.amount.normalize():f}",
        lines=lines,
    )


def dispute_won(*, dispute_id: uuid.UUID, account_code: str, amount: Money, at: datetime) -> Entry:
    """The amount comes back; the fee does not."""
    return Entry(
        kind="dispute_won",
        source_type="payments.dispute",
        source_id=dispute_id,
        occurred_at=at,
        key=f"dispute_closed:{dispute_id}",
        lines=[debit(clearing(account_code), amount), credit("dispute_pending", amount)],
    )


def dispute_lost(*, dispute_id: uuid.UUID, amount: Money, at: datetime) -> Entry:
    """The amount is gone."""
    return Entry(
        kind="dispute_lost",
        source_type="payments.dispute",
        source_id=dispute_id,
        occurred_at=at,
        key=f"dispute_closed:{dispute_id}",
        lines=[debit("chargeback_loss", amount), credit("dispute_pending", amount)],
    )
