"""Edits by hand of the billing run's drafts, while their grace lasts."""

import uuid
from collections.abc import Sequence
from decimal import Decimal

from django.db import transaction
from moneyed import Money

from billing import clock, money
from billing.context import Actor
from billing.errors import InvalidInput
from billing.services import audit
from invoices.drafts import LineInput
from invoices.errors import MissingTaxRate, NegativeInvoice
from invoices.models import Invoice
from invoices.services.drafting import rewrite_draft
from invoices.services.settling import lock_invoice
from subscriptions.draft_edits import ADD, DROP, SET, Edit, is_meant
from subscriptions.errors import NotADraftOfTheRun
from subscriptions.models import DraftCycle, DraftEdit
from subscriptions.services.billing_run_cycles import Cycles
from subscriptions.services.draft_finalizing import fresh_lines
from subscriptions.services.draft_pricing import edits_of

MAX_EDITS = 100


@transaction.atomic
def edit_draft(
    *,
    invoice_id: uuid.UUID,
    actor: Actor,
    kind: str,
    reason: str,
    code: str = "",
    subscription_id: uuid.UUID | None = None,
    description: str = "",
    amount: Decimal | None = None,
    tax_category: str = "",
) -> DraftEdit:
    """Add a line to a draft, drop the lines of a component or set their net amount; the draft is priced anew.

    Raises ``NotADraftOfTheRun`` and ``InvalidInput`` that names the field: a component without a line, an amount with more
    decimals than the currency has, a draft that would come to less than nothing.
    """
    invoice = _lock(invoice_id)
    edit = Edit(
        kind=kind, code=code, subscription_id=subscription_id, description=description.strip(),
        amount=_amount(kind, amount, invoice.currency), tax_category=tax_category,
    )  # fmt: skip
    _check(edit, invoice, reason)
    row = DraftEdit.objects.create(
        organisation_id=invoice.organisation_id, invoice=invoice, kind=kind, code=code, subscription_id=subscription_id,
        description=edit.description, amount=edit.amount, currency=invoice.currency, tax_category=tax_category,
        made_by=actor.label or actor.type, reason=reason.strip(), created_at=clock.now(invoice.organisation_id),
    )  # fmt: skip
    rewrite(invoice)
    audit.record(
        actor=actor, action="invoice.draft_edited", target=invoice, reason=reason,
        after={"kind": kind, "code": code, "description": edit.description, "amount": str(edit.amount or "")},
    )  # fmt: skip
    return row


@transaction.atomic
def undo_edit(*, edit_id: uuid.UUID, actor: Actor) -> Invoice:
    """Take an edit back; the draft is priced anew. Raises ``NotADraftOfTheRun``."""
    edit = DraftEdit.objects.get(pk=edit_id)
    invoice = _lock(edit.invoice_id)
    before = {"kind": edit.kind, "code": edit.code, "amount": str(edit.amount or "")}
    edit.delete()
    rewrite(invoice)
    audit.record(actor=actor, action="invoice.draft_edit_undone", target=invoice, before=before)
    return invoice


@transaction.atomic
def refresh_draft(*, invoice_id: uuid.UUID) -> Invoice:
    """Price a draft of the run anew, with what was measured since. Raises ``NotADraftOfTheRun``, ``DraftNotPriced``."""
    invoice = _lock(invoice_id)
    rewrite(invoice)
    return invoice


def rewrite(invoice: Invoice) -> None:
    """Write the lines, taxes and totals of a locked draft as they are now."""
    cycles = Cycles(organisation=invoice.organisation, at=clock.now(invoice.organisation_id))
    lines = _lines(cycles, invoice)
    if not lines:
        raise InvalidInput("Without this line nothing is left of the draft; keep one line.", field="code")
    try:
        rewrite_draft(invoice=invoice, lines=lines, at=cycles.at)
    except NegativeInvoice as exc:
        raise InvalidInput(f"The draft would come to less than nothing: {exc}", field="amount") from exc
    except MissingTaxRate as exc:
        raise InvalidInput(str(exc), field="tax_category") from exc


def _lines(cycles: Cycles, invoice: Invoice) -> Sequence[LineInput]:
    waiting = list(
        DraftCycle.objects.filter(invoice=invoice, finalized_at=None).select_related("period").order_by("id")
    )
    return fresh_lines(cycles, waiting, edits_of([invoice.pk]).get(invoice.pk, []))[0]


def _lock(invoice_id: uuid.UUID) -> Invoice:
    invoice = lock_invoice(invoice_id)
    waits = DraftCycle.objects.filter(invoice=invoice, finalized_at=None).exists()
    if invoice.status != Invoice.Status.DRAFT or not waits:
        raise NotADraftOfTheRun(status=invoice.status)
    return invoice


def _amount(kind: str, amount: Decimal | None, currency: str) -> Money | None:
    if kind == DROP:
        return None
    if amount is None:
        raise InvalidInput("Say what the line costs, without tax.", field="amount")
    if not amount.is_finite() or abs(amount) >= 10**15 or money.quantize(amount, currency) != amount:
        raise InvalidInput(f"Give an amount with at most the decimals of {currency}.", field="amount")
    return Money(amount, currency)


def _check(edit: Edit, invoice: Invoice, reason: str) -> None:
    if edit.kind not in (ADD, DROP, SET):
        raise InvalidInput(f"kind is {ADD}, {DROP} or {SET}.", field="kind")
    if not reason.strip():
        raise InvalidInput("Say why; the reason is kept with the draft.", field="reason")
    if DraftEdit.objects.filter(invoice=invoice).count() >= MAX_EDITS:
        raise InvalidInput(f"A draft takes at most {MAX_EDITS} edits; undo some.", field="kind")
    if edit.kind == ADD:
        if not edit.description:
            raise InvalidInput("Describe the line as the invoice will say it.", field="description")
        return
    shown = [_as_input(line.code, line.subscription_ref) for line in invoice.lines.all()]
    if not any(is_meant(line, edit) for line in shown):
        codes = ", ".join(sorted({line.code for line in shown if line.code}))
        raise InvalidInput(f"The draft has no line '{edit.code}' to edit; it has {codes}.", field="code")


def _as_input(code: str, subscription_ref: uuid.UUID | None) -> LineInput:
    return LineInput(description="", amount=Money(0, "XXX"), code=code, subscription_ref=subscription_ref)
