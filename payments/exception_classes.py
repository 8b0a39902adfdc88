"""Classes of reconciliation exceptions: what each means, what to do next, and by when. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ExceptionClass:
    """One class: its name in words, the next step in words, and the banking days until it is due."""

    name: str
    next_step: str
    due_days: int


CLASSES: dict[str, ExceptionClass] = {
    "missing_in_books": ExceptionClass(
        name="Missing in books", due_days=1,
        next_step="Look the charge up at the gateway; record the payment, or refund it if nobody expects it."),
    "missing_in_gateway": ExceptionClass(
        name="Missing in gateway", due_days=3,
        next_step="Ask the gateway why this captured payment is in no settlement (on hold, disputed, reversed)."),
    "missing_in_bank": ExceptionClass(
        name="Missing in bank", due_days=2,
        next_step="Import the latest statement; if the credit is not there, send the UTR to the gateway and the bank."),
    "amount_differs": ExceptionClass(
        name="Amount differs", due_days=2,
        next_step="Find what was taken on the way (a bank charge?) and resolve with it, or claim the difference."),
    "currency_differs": ExceptionClass(
        name="Currency differs", due_days=2,
        next_step="Nothing is converted silently: find the rate on the gateway's advice and resolve by adjustment."),
    "date_outside_window": ExceptionClass(
        name="Date outside window", due_days=3, next_step="Check the day of booking with the bank, then match by hand."),
    "ambiguous": ExceptionClass(
        name="Ambiguous", due_days=1, next_step="More than one payout fits: compare the references and match by hand."),
    "duplicate": ExceptionClass(
        name="Duplicate", due_days=1,
        next_step="The same row came twice: ask the bank or the gateway which is real; money received twice goes back."),
    "duplicate_payment": ExceptionClass(
        name="Duplicate payment", due_days=1, next_step="The customer paid twice: refund one, or keep it as credit with consent."),
    "unknown_reference": ExceptionClass(
        name="Unknown reference", due_days=3,
        next_step="Find out what this line pays for; book a bank charge, match it, or resolve by adjustment."),
    "refund_without_payment": ExceptionClass(
        name="Refund unknown here", due_days=1,
        next_step="Somebody refunded at the gateway's dashboard: record it here, or ask who did it."),
    "refunded_and_disputed": ExceptionClass(
        name="Refunded and disputed", due_days=1,
        next_step="The customer has the money twice: contest the dispute with the refund as evidence, or accept the loss."),
    "refund_failed": ExceptionClass(
        name="Refund failed", due_days=1,
        next_step="Nobody has the money back yet: send it again (on its credit note, else on the payment) or pay it out by hand."),
    "fee_differs": ExceptionClass(
        name="Fee differs from contract", due_days=5, next_step="Compare with the price list of the gateway; claim the difference."),
    "settlement_set_aside": ExceptionClass(
        name="Payout set aside", due_days=1,
        next_step="Look the payout up at the gateway. It is asked for again with every fetch; if the reason stays, have it mended."),
    "gateway_misconfigured": ExceptionClass(
        name="Gateway account not set up", due_days=1,
        next_step="Mend the account (Gateway accounts: keys, switch). What waits for it is tried at once then; nobody is chased for it."),
    "request_refused": ExceptionClass(
        name="Request refused", due_days=1,
        next_step="Read what the gateway says, mend it (amount, currency, its own settings), and try the payment again."),
    "dispute_unanswered": ExceptionClass(
        name="Dispute unanswered", due_days=1, next_step="Send evidence or accept the dispute before the gateway's last day."),
}  # fmt: skip

RESOLUTIONS: dict[str, str] = {
    "bank_charge": "The bank took or gave it: book it as bank charge.",
    "adjustment": "Book the difference against suspense or gateway fees; the reason says why.",
    "write_off": "Nobody will pay it: book it as bad debt.",
    "investigate": "Take it on: it stays open, on your name, with a later due day.",
    "handled": "Settled elsewhere (refunded, recorded, matched): nothing to book here.",
}
