"""The chart of accounts: code prefix to kind. A code is ``name`` or ``name:detail`` (``tax_payable:cgst``)."""

from billing.errors import InvalidInput

KINDS: dict[str, str] = {
    "bank": "asset",  # bank:<bank account code>
    "gateway_clearing": "asset",  # gateway_clearing:<gateway account code>: captured, not yet settled
    "settlement_in_transit": "asset",  # settlement_in_transit:<gateway account code>: paid out, not yet on the statement
    "receivable": "asset",  # per customer
    "input_tax": "asset",  # tax on fees, to be claimed
    "dispute_pending": "asset",  # taken by the bank until the dispute ends
    "tds_receivable": "asset",
    "suspense": "asset",  # on the statement, not yet explained
    "customer_credit": "liability",  # per customer: captured or credited, not yet applied
    "tax_payable": "liability",  # tax_payable:cgst, :sgst, :igst, :vat
    "deferred_revenue": "liability",
    "refund_payable": "liability",
    "opening_balances": "equity",
    "revenue": "income",
    "rounding": "expense",
    "gateway_fees": "expense",
    "dispute_fees": "expense",
    "chargeback_loss": "expense",
    "bad_debt": "expense",
    "bank_charges": "expense",
    "fx_difference": "expense",
}


def kind_of(code: str) -> str:
    """Kind of the account ``code``; raise ``InvalidInput`` for a code outside the chart."""
    try:
        return KINDS[code.split(":", 1)[0]]
    except KeyError as exc:
        raise InvalidInput(f"'{code}' is not in the chart of accounts (billing/chart.py).", field="account") from exc
