"""Installment plans: one amount paid in parts that add up to it; each part becomes an invoice on its day."""

import uuid
from datetime import date, datetime

import structlog
from django.db import transaction
from django.db.models import QuerySet
from moneyed import Money

from billing import clock
from billing.context import Actor
from billing.errors import Conflict, DomainError, NotFound
from billing.models import Beneficiary, Organisation
from billing.money import allocate, round_money, same_currency
from billing.services import audit, outbox
from invoices.drafts import InvoiceDraft, LineInput
from invoices.errors import InvalidInstallments
from invoices.events import text
from invoices.models import Installment, InstallmentPlan, Invoice
from invoices.recognition import add_months
from invoices.services.drafting import context_for, customer_of
from invoices.services.finalizing import issue_invoice
from invoices.totals import rule_for

log = structlog.get_logger(__name__)
MAX_COUNT = 60


@transaction.atomic
def create_plan(
    *,
    organisation: Organisation,
    customer_id: uuid.UUID,
    total: Money,
    count: int,
    interval_months: int,
    first_due_on: date,
    down_payment: Money | None = None,
    description: str = "",
    tax_category: str = "",
    beneficiary_id: uuid.UUID | None = None,
    net_days: int = 0,
    collect_automatically: bool = True,
    actor: Actor | None = None,
) -> InstallmentPlan:
    """Split ``total`` (without tax) into a down payment, if any, and ``count`` equal parts.

    The down payment is invoiced on ``first_due_on`` and the parts from one interval later; without one the first part
    is invoiced on that day. Raises ``InvalidInstallments``.
    """
    customer = customer_of(organisation, customer_id)
    if (
        beneficiary_id
        and not Beneficiary.objects.of(organisation).filter(pk=beneficiary_id, customer=customer).exists()
    ):
        raise NotFound("The customer has no such beneficiary.", field="beneficiary")
    parts = split(total=total, count=count, down_payment=down_payment)
    rule_for(context_for(organisation, customer.party, first_due_on), tax_category)  # refuses a category without a rate
    plan = InstallmentPlan.objects.create(
        organisation=organisation,
        customer=customer,
        beneficiary_id=beneficiary_id,
        description=description or "Installment",
        total=total,
        tax_category=tax_category,
        interval_months=interval_months,
        net_days=net_days,
        collect_automatically=collect_automatically,
        created_at=clock.now(organisation),
    )
    shift = 0 if down_payment else 1
    Installment.objects.bulk_create(
        [
            Installment(
                organisation=organisation,
                plan=plan,
                number=i + shift,
                due_on=add_months(first_due_on, i * interval_months),
                amount=part,
            )
            for i, part in enumerate(parts)
        ]
    )
    if actor is not None:
        audit.record(actor=actor, action="installment_plan.created", target=plan, after={"total": str(total)})
    return plan


def split(*, total: Money, count: int, down_payment: Money | None) -> list[Money]:
    """The down payment and the equal parts of the rest; they add up to ``total``. Pure."""
    if not 1 <= count <= MAX_COUNT:
        raise InvalidInstallments(f"Choose between 1 and {MAX_COUNT} installments.", field="count")
    if total.amount <= 0 or round_money(total) != total:
        raise InvalidInstallments("The total must be positive and have the currency's decimals.", field="total")
    first: list[Money] = []
    if down_payment is not None:
        same_currency(total, down_payment, field="down_payment")
        if not 0 < down_payment.amount < total.amount:
            raise InvalidInstallments("The down payment must be less than the total.", field="down_payment")
        first, total = [down_payment], total - down_payment
    parts = first + allocate(total, [1] * count)
    if not all(part.amount for part in parts):
        raise InvalidInstallments("The total is too small for so many installments.", field="count")
    return parts


def issue_due(*, organisation: Organisation, at: datetime | None = None) -> int:
    """Invoice every installment whose day has come. Returns how many; each has its own transaction.

    One that is refused (its tax category has no rate any more, say) keeps the reason, is told about once
    (``installment.refused``) and is tried again the next time.
    """
    at = at or clock.now(organisation)
    return sum(_issue_or_leave(one.pk, at) for one in _due(organisation, at))


def retry_refused(*, plan_id: uuid.UUID, actor: Actor, reason: str = "") -> InstallmentPlan:
    """Try the refused parts of a plan again now, once their cause is mended. Raises ``Conflict`` when none was refused.

    A part that is refused again stays due, with the new reason on it.
    """
    plan = InstallmentPlan.objects.select_related("organisation").get(pk=plan_id)
    at = clock.now(plan.organisation)
    refused = list(_due(plan.organisation, at).filter(plan=plan).exclude(failure=""))
    if not refused:
        raise Conflict("No due part of the plan was refused; there is nothing to try again.")
    issued = sum(_issue_or_leave(one.pk, at) for one in refused)
    audit.record(
        actor=actor,
        action="installment_plan.retried",
        target=plan,
        before={str(one.number): one.failure for one in refused},
        after={"invoiced": issued},
        reason=reason,
    )
    return plan


def _due(organisation: Organisation, at: datetime) -> QuerySet[Installment]:
    day = at.astimezone(clock.zone(organisation)).date()
    found = Installment.objects.of(organisation).filter(
        invoice=None, due_on__lte=day, plan__status=InstallmentPlan.Status.ACTIVE
    )
    return found.order_by("due_on", "pk")


def _issue_or_leave(installment_id: uuid.UUID, at: datetime) -> int:
    try:
        return _issue(installment_id, at)
    except DomainError as exc:
        log.warning("installment.refused", installment=str(installment_id), code=exc.code, reason=str(exc))
        _note_refusal(installment_id, f"{exc.code}: {exc}"[:300], at)
        return 0


@transaction.atomic
def _note_refusal(installment_id: uuid.UUID, why: str, at: datetime) -> None:
    """Keep why a part was refused, and tell the house when that is news; unless it was invoiced since."""
    installment = (
        Installment.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("plan")
        .filter(pk=installment_id, invoice=None)
        .exclude(failure=why)
        .first()
    )
    if installment is None:
        return
    installment.failure, installment.refused_at = why, at
    installment.save(update_fields=["failure", "refused_at"])
    outbox.publish(
        "installment.refused",
        installment,
        at=at,
        plan_id=str(installment.plan_id),
        customer_id=str(installment.plan.customer_id),
        number=installment.number,
        due_on=installment.due_on.isoformat(),
        amount=text(installment.amount),
        currency=installment.currency,
        reason=why,
    )


@transaction.atomic
def _issue(installment_id: uuid.UUID, at: datetime) -> int:
    installment = (
        Installment.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("plan__beneficiary", "organisation__party")
        .filter(pk=installment_id, invoice=None, plan__status=InstallmentPlan.Status.ACTIVE)
        .first()
    )
    if installment is None:
        return 0
    installment.invoice = issue_invoice(organisation=installment.organisation, draft=_draft(installment), at=at)
    installment.failure, installment.refused_at = "", None
    installment.save(update_fields=["invoice", "failure", "refused_at"])
    return 1


def _draft(installment: Installment) -> InvoiceDraft:
    plan = installment.plan
    last = plan.installments.order_by("-number").values_list("number", flat=True)[0]
    part = f"installment {installment.number} of {last}" if installment.number else "down payment"
    line = LineInput(
        description=f"{plan.description}: {part}"[:300],
        amount=installment.amount,
        code="installment",
        tax_category=plan.tax_category,
    )
    custom = {"Beneficiary": plan.beneficiary.name} if plan.beneficiary else {}
    return InvoiceDraft(
        customer_id=plan.customer_id,
        currency=plan.currency,
        lines=[line],
        origin=Invoice.Origin.INSTALLMENT,
        net_days=plan.net_days,
        collect_automatically=plan.collect_automatically,
        custom_fields=custom,
    )


@transaction.atomic
def cancel_plan(*, plan_id: uuid.UUID, reason: str, actor: Actor) -> InstallmentPlan:
    """Invoice nothing more of the plan; what was invoiced stays."""
    plan = InstallmentPlan.objects.select_for_update().get(pk=plan_id)
    if plan.status != InstallmentPlan.Status.ACTIVE:
        raise Conflict(f"The plan is {plan.status}; only an active one can be cancelled.")
    plan.cancel()
    plan.save(update_fields=["status"])
    audit.record(actor=actor, action="installment_plan.cancelled", target=plan, reason=reason)
    return plan


@transaction.atomic
def complete_if_paid(*, invoice_id: uuid.UUID) -> bool:
    """Complete the plan of a paid installment invoice when it was the last one open."""
    plan = InstallmentPlan.objects.select_for_update(no_key=True).filter(installments__invoice_id=invoice_id).first()
    if plan is None or plan.status != InstallmentPlan.Status.ACTIVE:
        return False
    if plan.installments.exclude(invoice__status=Invoice.Status.PAID).exists():
        return False
    plan.complete()
    plan.save(update_fields=["status"])
    return True
