"""Collecting payments: ask for one, cancel it, try it, and do what is due."""

import logging
import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import connection, transaction
from moneyed import Money

from billing import clock
from billing.context import Actor, correlated, correlation_id
from billing.errors import Conflict, InvalidInput
from billing.models import Customer, Organisation
from billing.money import to_minor_units, zero
from billing.services import audit, outbox
from payments.errors import AttemptUnderWay, NoGateway, PaymentNotCollectable
from payments.gateways.faults import GatewayUnavailable
from payments.models import Payment, PaymentAttempt
from payments.services import attempts, charging, methods, waking
from payments.services.facts import payment_facts

logger = logging.getLogger(__name__)

DUE_TASK = "payments.tasks.collect_organisation"
EACH_THREAD = 4  # so many payments are worth a thread, and the connection it opens
MAX_STEPS = 3  # a debit, its page, and one more for what changed meanwhile
CLOSED = (Payment.Status.SUCCEEDED, Payment.Status.CANCELLED)


class AmountChanged(Conflict):
    code = "payment_amount_differs"
    message = "A payment for '{reference}' over another amount exists; cancel it and use a new reference."


class ReferenceTaken(Conflict):
    code = "payment_reference_taken"
    message = "A payment for '{reference}' by another customer exists; use another reference."


@dataclass(frozen=True, kw_only=True)
class PaymentRequest:
    """One payment to be asked for; ``reference`` is what it pays for and its idempotency key."""

    customer_id: uuid.UUID
    amount: Money
    reference: str
    description: str = ""
    method_id: uuid.UUID | None = None
    automatic: bool = True
    at: datetime | None = None


# --- asking for payments --------------------------------------------------------------------------
def request_payment(
    *,
    organisation: Organisation | uuid.UUID,
    customer_id: uuid.UUID,
    amount: Money,
    reference: str,
    description: str = "",
    method_id: uuid.UUID | None = None,
    automatic: bool = True,
    at: datetime | None = None,
) -> Payment:
    """Ask for ``amount`` once per ``reference``; collected at ``at`` (the organisation's clock), now when None.

    Nothing is called here. A second request returns the first payment; another customer raises ``ReferenceTaken``,
    another amount ``AmountChanged``.
    """
    wanted = PaymentRequest(
        customer_id=customer_id, amount=amount, reference=reference, description=description,
        method_id=method_id, automatic=automatic, at=at,
    )  # fmt: skip
    return request_payments(organisation=organisation, requests=[wanted])[0]


@transaction.atomic
def request_payments(*, organisation: Organisation | uuid.UUID, requests: Sequence[PaymentRequest]) -> list[Payment]:
    """Ask for many payments in two statements. Known references keep their payment."""
    organisation_id: uuid.UUID = organisation.pk if isinstance(organisation, Organisation) else organisation
    now = clock.now(organisation_id)
    for request in requests:
        _check(request)
    rows = [_row(organisation_id, request, now) for request in requests]
    Payment.objects.bulk_create(rows, ignore_conflicts=True, batch_size=2000)
    references = [request.reference for request in requests]
    found = Payment.objects.of(organisation_id).filter(reference__in=references)
    stored = {payment.reference: payment for payment in found}
    for request in requests:
        if stored[request.reference].customer_id != request.customer_id:
            raise ReferenceTaken(reference=request.reference, field="reference")
        if stored[request.reference].amount != request.amount:
            raise AmountChanged(reference=request.reference, field="amount")
    if any(row.next_attempt_at and row.next_attempt_at <= now for row in rows):
        _wake(organisation_id)
    return [stored[reference] for reference in references]


def _check(request: PaymentRequest) -> None:
    if request.amount.amount <= 0:
        raise InvalidInput("A payment is over more than nothing.", field="amount")
    to_minor_units(request.amount)
    if not request.reference or len(request.reference) > 100:
        raise InvalidInput("A reference has 1 to 100 characters.", field="reference")


def _row(organisation_id: uuid.UUID, request: PaymentRequest, now: datetime) -> Payment:
    nothing = zero(request.amount.currency.code)
    return Payment(
        organisation_id=organisation_id,
        customer_id=request.customer_id,
        reference=request.reference,
        description=request.description[:200],
        amount=request.amount,
        refunded=nothing,
        disputed=nothing,
        method_id=request.method_id,
        automatic=request.automatic,
        next_attempt_at=(request.at or now) if request.automatic else None,
        created_at=now,
    )


def _wake(organisation_id: uuid.UUID) -> None:
    if not waking.time_is_turning(organisation_id):
        waking.after_commit(DUE_TASK, str(organisation_id))


# --- cancelling -----------------------------------------------------------------------------------
@transaction.atomic
def cancel_payment(*, organisation_id: uuid.UUID, reference: str, actor: Actor | None = None) -> Payment | None:
    """Nobody wants the payment of ``reference`` any more. None when there is none; a succeeded one stays.

    An attempt under way is not called back: if it brings money, the payment succeeds and the customer has the credit;
    if not, the payment is cancelled then.
    """
    rows = Payment.objects.of(organisation_id).select_for_update(of=("self",))
    payment: Payment | None = rows.filter(reference=reference).first()
    if payment is None or payment.status in CLOSED:
        return payment
    payment.cancel_requested = True
    open_ones = payment.attempts.filter(status__in=PaymentAttempt.OPEN)
    if payment.status != Payment.Status.PROCESSING and not open_ones.exists():
        payment.cancel()
        outbox.publish("payment.cancelled", payment, **payment_facts(payment))
    elif payment.status == Payment.Status.REQUIRES_ACTION:
        waking.after_commit(attempts.CLOSE_TASK, str(payment.pk))  # the page is closed, then the payment
    payment.save()
    if actor is not None:
        audit.record(actor=actor, action="payment.cancel_requested", target=payment, after={"status": payment.status})
    return payment


# --- trying ---------------------------------------------------------------------------------------
def collect(payment_id: uuid.UUID) -> Payment:
    """Make the attempts of a payment that are due now: a debit, and the customer's page if the debit asks for it."""
    _make_attempts(payment_id)
    payment: Payment = Payment.objects.get(pk=payment_id)
    return payment


def _make_attempts(payment_id: uuid.UUID) -> None:
    for _ in range(MAX_STEPS):
        attempt = attempts.begin_attempt(payment_id=payment_id)
        if attempt is None or charging.carry_out(attempt).status != PaymentAttempt.Status.DECLINED:
            break


def retry_now(*, payment_id: uuid.UUID, actor: Actor, method_id: uuid.UUID | None = None) -> Payment:
    """Try a payment at once, with ``method_id`` or the usual method; raises what forbids it."""
    payment = Payment.objects.get(pk=payment_id)
    if method_id is not None:
        methods.usable_method_of(
            organisation=payment.organisation_id, customer_id=payment.customer_id, method_id=method_id
        )
    _make_ready(payment_id)
    with transaction.atomic():
        payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
        _must_be_collectable(payment)  # it may have been paid, or given up, since we looked
        if payment.status not in (Payment.Status.PENDING, Payment.Status.FAILED):
            raise PaymentNotCollectable(status=payment.get_status_display().lower())
        payment.wake(at=clock.now(payment.organisation_id))
        payment.save()
        audit.record(actor=actor, action="payment.retried", target=payment)
    attempt = attempts.begin_attempt(payment_id=payment_id, by_hand=True, method_id=method_id)
    if attempt is None and attempts.page_account(payment, None) is None:
        raise NoGateway
    if attempt is not None:
        charging.carry_out(attempt)
    return collect(payment_id)


@transaction.atomic
def make_due(*, payment_id: uuid.UUID, actor: Actor) -> bool:
    """Let a payment that waits for its next day, or was given up, be tried now; no call is made here.

    False where it is not to be collected by itself, is under way, is over, or is due already.
    """
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
    waits = payment.status in (Payment.Status.PENDING, Payment.Status.FAILED)
    if not waits or not payment.automatic or payment.cancel_requested:
        return False
    now = clock.now(payment.organisation_id)
    if payment.next_attempt_at is not None and payment.next_attempt_at <= now:
        return False
    declined = payment.decline_class, payment.decline_code
    payment.wake(at=now)
    payment.decline_class, payment.decline_code = declined
    payment.save()
    audit.record(actor=actor, action="payment.made_due", target=payment)
    _wake(payment.organisation_id)
    return True


def hosted_page(*, payment_id: uuid.UUID) -> str:
    """Address of a page where the customer pays this payment now. Raises what forbids it."""
    payment = Payment.objects.get(pk=payment_id)
    if payment.status == Payment.Status.REQUIRES_ACTION and payment.action_url:
        return payment.action_url
    _must_be_collectable(payment)
    if attempts.page_account(payment, None) is None:
        raise NoGateway
    if payment.status == Payment.Status.FAILED:
        with transaction.atomic():
            payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
            if payment.status == Payment.Status.FAILED:
                payment.wake(at=None)
                payment.save()
    attempt = attempts.begin_attempt(payment_id=payment_id, by_hand=True, page=True)
    if attempt is None:
        raise AttemptUnderWay
    charging.carry_out(attempt)
    payment = Payment.objects.get(pk=payment_id)
    if payment.status == Payment.Status.REQUIRES_ACTION and payment.action_url:
        return payment.action_url
    raise GatewayUnavailable("The gateway opened no page; try again in some minutes.")


def _must_be_collectable(payment: Payment) -> None:
    if payment.status == Payment.Status.PROCESSING:
        raise AttemptUnderWay
    if payment.status in CLOSED or payment.cancel_requested:
        raise PaymentNotCollectable(status="cancelled" if payment.cancel_requested else payment.status)


def _make_ready(payment_id: uuid.UUID) -> None:
    """A payment that waits on a page is taken off it first; one under way cannot be tried."""
    payment = Payment.objects.get(pk=payment_id)
    if payment.status == Payment.Status.REQUIRES_ACTION:
        for attempt in payment.attempts.filter(status__in=PaymentAttempt.OPEN):
            charging.close(attempt.pk)
        payment = Payment.objects.get(pk=payment_id)
    _must_be_collectable(payment)


# --- what is due ----------------------------------------------------------------------------------
def collect_due(*, organisation: Organisation, limit: int = 10_000) -> int:
    """Everything about payments that is due at the organisation's time; returns how many were worked on.

    Unknown outcomes are asked for first, ended pages closed, then due payments tried. Calls run in several threads.
    """
    now = clock.now(organisation)
    done = _each(_quietly(charging.resolve), charging.unresolved(organisation_id=organisation.pk))
    done += _each(_quietly(charging.close), charging.ended_pages(organisation_id=organisation.pk, now=now))
    due = Payment.objects.of(organisation).filter(status=Payment.Status.PENDING, next_attempt_at__lte=now)
    return done + _each(_quietly(_make_attempts), list(due.order_by("id").values_list("pk", flat=True)[:limit]))


def wake_payments_of(*, customer: Customer) -> list[uuid.UUID]:
    """A customer has a new method: what failed or waits for a page is tried again with it. Returns what is due now."""
    waiting = Payment.objects.of(customer.organisation_id).filter(
        customer=customer,
        automatic=True,
        cancel_requested=False,
        status__in=[Payment.Status.FAILED, Payment.Status.PENDING, Payment.Status.REQUIRES_ACTION],
    )
    woken = []
    for payment_id in waiting.values_list("pk", flat=True):
        _take_off_page(payment_id)
        if _wake_one(payment_id):
            woken.append(payment_id)
    return woken


def _take_off_page(payment_id: uuid.UUID) -> None:
    for attempt in PaymentAttempt.objects.filter(payment_id=payment_id, status=PaymentAttempt.Status.REQUIRES_ACTION):
        charging.close(attempt.pk)


@transaction.atomic
def _wake_one(payment_id: uuid.UUID) -> bool:
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
    if payment.status not in (Payment.Status.FAILED, Payment.Status.PENDING) or payment.cancel_requested:
        return False
    now = clock.now(payment.organisation_id)
    if payment.next_attempt_at is not None and not payment.decline_class:
        return False  # not tried yet: its own day stands
    payment.wake(at=now)
    payment.save()
    return True


def _quietly(work: Callable[[uuid.UUID], object]) -> Callable[[uuid.UUID], object]:
    """One row's failure does not stop the others; it stays due."""

    def guarded(row_id: uuid.UUID) -> object:
        try:
            return work(row_id)
        except Exception:
            logger.exception("%s failed for %s", getattr(work, "__name__", "work"), row_id)
            return None

    return guarded


def _each(work: Callable[[uuid.UUID], object], ids: Iterable[uuid.UUID]) -> int:
    """Do ``work`` for each id, in several threads where there are many, unless our own rows are not committed yet."""
    ids = list(ids)
    workers = min(getattr(settings, "PAYMENT_THREADS", 8), math.ceil(len(ids) / EACH_THREAD))
    if workers <= 1 or charging.in_transaction():
        for row_id in ids:
            work(row_id)
        return len(ids)
    correlation = correlation_id()

    def one(chunk: list[uuid.UUID]) -> None:
        try:
            with correlated(correlation):
                for row_id in chunk:
                    work(row_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="collect") as pool:
        list(pool.map(one, [ids[start::workers] for start in range(workers)]))
    return len(ids)
