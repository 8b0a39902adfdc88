"""Exceptions end: by a decision of a person with a reason, a posting where money is concerned, and an audit record."""

import uuid
from collections.abc import Callable
from typing import Any

from django.db import transaction
from moneyed import Money

from billing import clock
from billing.context import Actor
from billing.errors import Conflict, InvalidInput, NotFound, PermissionRefused
from billing.models import Organisation, User
from billing.services import audit, ledger
from payments.exception_classes import RESOLUTIONS
from payments.models import (
    BankLine,
    Dispute,
    Payment,
    PaymentAttempt,
    ReconciliationException,
    Refund,
    Settlement,
    SettlementLine,
)
from payments.services import exceptions
from payments.services.matching import booked_at, match_pairs

BY_HAND = "by_hand"
EXTENSION_DAYS = 5
Lines = list[ledger.Line]


@transaction.atomic
def resolve_exception(
    *, organisation: Organisation, exception_id: uuid.UUID, resolution: str, reason: str, actor: Actor,
    settlement_id: uuid.UUID | None = None,
) -> ReconciliationException:  # fmt: skip
    """Decide about an open exception.

    ``resolution``: bank_charge, adjustment, write_off (these post to the ledger), handled (nothing to post), match (a
    bank line with ``settlement_id``; equal amounts, or the difference is a bank charge) or investigate (stays open on
    the actor's name, with a later due day). Raises ``PermissionRefused``, ``Conflict``, ``InvalidInput``.
    """
    needed = "reconciliation.work" if resolution == "investigate" else "reconciliation.resolve"
    if not actor.may(needed):
        raise PermissionRefused(permission=needed)
    if resolution != "match" and resolution not in RESOLUTIONS:
        raise InvalidInput(f"Choose one of {', '.join([*RESOLUTIONS, 'match'])}.", field="resolution")
    if len(reason.strip()) < 3:
        raise InvalidInput("Give a reason of at least three characters; it is kept.", field="reason")
    exception = exceptions.locked(organisation=organisation, exception_id=exception_id)
    if exception.status != ReconciliationException.Status.OPEN:
        raise Conflict(f"This exception was resolved on {exception.resolved_at:%Y-%m-%d} by '{exception.resolution}'.")
    if resolution == "investigate":
        return _investigate(organisation, exception, reason=reason, actor=actor)
    if resolution == "match":
        _match(organisation, exception, settlement_id)
    else:
        _SOURCES[exception.source_type](organisation, exception, resolution)
    exception.resolve(at=clock.now(organisation), resolution=resolution, reason=reason.strip()[:500])
    exception.save(update_fields=["status", "resolved_at", "resolution", "reason"])
    audit.record(actor=actor, action="reconciliation.exception_resolved", target=exception, before={"status": "open"},
                 after={"resolution": resolution, "amount": str(exception.amount.amount)}, reason=reason[:500])  # fmt: skip
    return exception


def _investigate(
    organisation: Organisation, exception: ReconciliationException, *, reason: str, actor: Actor
) -> ReconciliationException:
    owner = User.objects.filter(pk=actor.id).first() if actor.type == "user" else None
    before = {"due_on": exception.due_on.isoformat(), "owner": str(exception.owner_id or "")}
    exception.owner = owner or exception.owner
    exception.due_on = exceptions.banking_day(organisation, clock.today(organisation), EXTENSION_DAYS)
    exception.reason = reason.strip()[:500]
    exception.save(update_fields=["owner", "due_on", "reason"])
    audit.record(actor=actor, action="reconciliation.exception_investigated", target=exception, before=before,
                 after={"due_on": exception.due_on.isoformat()}, reason=reason[:500])  # fmt: skip
    return exception


def _match(organisation: Organisation, exception: ReconciliationException, settlement_id: uuid.UUID | None) -> None:
    """Match a bank line by hand. A smaller or larger credit than the payout is a bank charge, and posted as one."""
    if exception.source_type != "bank_line":
        raise InvalidInput("Only a line of a bank statement can be matched with a payout.", field="resolution")
    chosen = settlement_id or exception.details.get("settlement")
    if not chosen:
        raise InvalidInput("Name the payout this line belongs to.", field="settlement")
    if settlement_id and not Settlement.objects.of(organisation).filter(pk=settlement_id).exists():
        raise NotFound("No such payout in this organisation.", field="settlement")
    if not match_pairs(organisation=organisation, pairs={exception.source_id: (uuid.UUID(str(chosen)), BY_HAND)}):
        raise Conflict("The line or the payout is matched already, or the payout is not paid; read them again.")


def _of_bank_line(organisation: Organisation, exception: ReconciliationException, resolution: str) -> None:
    if resolution == "bank_charge" and exception.kind == "amount_differs":
        _match(organisation, exception, None)
        return
    line = BankLine.objects.of(organisation).select_for_update(of=("self",)).select_related("bank_account").filter(
        pk=exception.source_id).first()  # fmt: skip
    if line is None:
        raise NotFound
    if resolution != "handled":
        against = {"bank_charge": "bank_charges", "adjustment": "suspense", "write_off": "bad_debt"}[resolution]
        _post(organisation, exception, kind=f"bank_line_{resolution}", at=booked_at(organisation, line), lines=[
            ledger.debit(f"bank:{line.bank_account.code}", line.amount), ledger.credit(against, line.amount),
        ])  # fmt: skip
    line.resolve(rule=resolution)
    line.save(update_fields=["state", "rule"])


def _of_settlement(organisation: Organisation, exception: ReconciliationException, resolution: str) -> None:
    settlement = _locked(Settlement, organisation, exception)
    _refuse_bank_charge(resolution)
    if resolution == "handled":
        return
    if exception.kind == "missing_in_bank":
        against = "bad_debt" if resolution == "write_off" else "suspense"
        source = f"settlement_in_transit:{settlement.gateway_account.code}"
        if settlement.status != Settlement.Status.PAID:
            raise Conflict("This payout is on the statement meanwhile.")
    else:
        against, source = "bad_debt" if resolution == "write_off" else "gateway_fees", "suspense"
    _post(organisation, exception, kind=f"settlement_{resolution}",
          lines=[ledger.debit(against, exception.amount), ledger.credit(source, exception.amount)])  # fmt: skip


def _of_settlement_line(organisation: Organisation, exception: ReconciliationException, resolution: str) -> None:
    line = _locked(SettlementLine, organisation, exception)
    _refuse_bank_charge(resolution)
    if resolution != "handled":
        clearing = f"gateway_clearing:{line.settlement.gateway_account.code}"
        _post(
            organisation,
            exception,
            kind=f"settlement_line_{resolution}",
            lines=_line_postings(line, exception, resolution, clearing),
        )
    line.resolve(rule=resolution)
    line.save(update_fields=["state", "rule"])


def _line_postings(line: SettlementLine, exception: ReconciliationException, resolution: str, clearing: str) -> Lines:
    """An adjustment waits in suspense; what is not in the books left clearing without having entered it: put it right."""
    written_off = resolution == "write_off"
    if line.kind == SettlementLine.Kind.ADJUSTMENT:
        against = "bad_debt" if written_off else "gateway_fees"
        return [ledger.debit("suspense", line.amount), ledger.credit(against, line.amount)]
    amount = _not_in_books(line, exception)
    return [ledger.debit(clearing, amount), ledger.credit("bad_debt" if written_off else "suspense", amount)]


def _not_in_books(line: SettlementLine, exception: ReconciliationException) -> Money:
    """How much more the gateway settled than the books know of this item; disputes with their fee."""
    gross = (
        line.net if line.kind in (SettlementLine.Kind.DISPUTE, SettlementLine.Kind.DISPUTE_REVERSAL) else line.amount
    )
    if exception.kind != "amount_differs":
        return gross
    expected = exception.details["expected"]
    known = Money(expected["amount"], expected["currency"])
    return gross - (known if line.amount.amount > 0 else -known)


def _of_payment(organisation: Organisation, exception: ReconciliationException, resolution: str) -> None:
    payment = _locked(Payment, organisation, exception)
    _refuse_bank_charge(resolution)
    if resolution == "handled":
        return
    if exception.kind != "missing_in_gateway":
        raise InvalidInput(
            "Nothing is posted for this class; refund the payment or resolve it as handled.", field="resolution"
        )
    attempt = payment.attempts.select_related("gateway_account").get(status=PaymentAttempt.Status.CAPTURED)
    left = payment.amount - payment.refunded
    _post(organisation, exception, kind=f"payment_{resolution}", lines=[
        ledger.debit("bad_debt" if resolution == "write_off" else "suspense", left),
        ledger.credit(f"gateway_clearing:{attempt.gateway_account.code}", left),
    ])  # fmt: skip


def _of_dispute(organisation: Organisation, exception: ReconciliationException, resolution: str) -> None:
    """The gateway tells how a dispute ends, and that is booked then; a person can only say that it is taken care of."""
    _locked(Dispute, organisation, exception)
    if resolution != "handled":
        raise InvalidInput(
            "A dispute is booked when it ends; resolve this as handled once it is answered.", field="resolution"
        )


def _of_refund(organisation: Organisation, exception: ReconciliationException, resolution: str) -> None:
    """A failed refund moved no money; sending it again or paying it out is recorded there."""
    _locked(Refund, organisation, exception)
    if resolution != "handled":
        raise InvalidInput(
            "A failed refund moved no money; resolve it as handled once it was made otherwise.", field="resolution"
        )


def _of_gateway(organisation: Organisation, exception: ReconciliationException, resolution: str) -> None:
    """What a gateway told or refused moved no money here: a person can only say that it is taken care of."""
    if resolution != "handled":
        raise InvalidInput(
            "This moved no money here; resolve it as handled once its cause is mended.", field="resolution"
        )


_SOURCES: dict[str, Callable[[Organisation, ReconciliationException, str], None]] = {
    "bank_line": _of_bank_line,
    "settlement": _of_settlement,
    "settlement_line": _of_settlement_line,
    "payment": _of_payment,
    "dispute": _of_dispute,
    "refund": _of_refund,
    "payout": _of_gateway,
    "gateway_account": _of_gateway,
}


def _locked(model: Any, organisation: Organisation, exception: ReconciliationException) -> Any:
    found = model.objects.of(organisation).select_for_update(of=("self",)).filter(pk=exception.source_id).first()
    if found is None:
        raise NotFound
    return found


def _refuse_bank_charge(resolution: str) -> None:
    if resolution == "bank_charge":
        raise InvalidInput("Only a line of a bank statement can be a bank charge.", field="resolution")


def _post(
    organisation: Organisation, exception: ReconciliationException, *, kind: str, lines: Lines, at: Any = None
) -> None:
    entry = ledger.Entry(
        kind=kind[:40], source_type=exception.source_type, source_id=exception.source_id, occurred_at=at or clock.now(organisation),
        key=f"exception:{exception.pk}", lines=lines, description=exception.explanation[:200],
    )  # fmt: skip
    ledger.post(organisation=organisation, entry=entry)
