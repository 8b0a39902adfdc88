"""Celery tasks of payments: thin, they call services. All are safe to repeat."""

import logging
import uuid
from collections.abc import Callable, Iterable

from celery import shared_task

from billing.models import Organisation
from billing.selectors import organisations_on_real_time
from billing.services import clock_jobs
from payments.services import charging, collection, inbox, refunds, waking

logger = logging.getLogger(__name__)


def _each(work: Callable[[uuid.UUID], object], ids: Iterable[uuid.UUID]) -> int:
    """Do ``work`` for each; one that fails is noted and comes again with the schedule."""
    done = 0
    for row_id in ids:
        try:
            work(row_id)
            done += 1
        except Exception as exc:
            logger.warning("%s of %s failed, it comes again: %s", getattr(work, "__name__", "work"), row_id, exc)
    return done


@shared_task
def collect_payment(payment_id: str) -> None:
    """Try one payment that is due."""
    collection.collect(uuid.UUID(payment_id))


@shared_task
def collect_organisation(organisation_id: str) -> int:
    """Try what is due in one organisation; woken when payments were asked for."""
    return collection.collect_due(organisation=Organisation.objects.get(pk=organisation_id))


@shared_task
def retry_due_payments() -> int:
    """Try what is due in every organisation on real time."""
    return _each(_collect, [organisation.pk for organisation in organisations_on_real_time()])


@shared_task
def resolve_attempt(attempt_id: str) -> None:
    """Ask what became of one attempt whose answer was lost."""
    _each(charging.resolve, [uuid.UUID(attempt_id)])


@shared_task
def resolve_refund(refund_id: str) -> None:
    """Ask what became of one refund whose answer was lost."""
    _each(refunds.resolve, [uuid.UUID(refund_id)])


@shared_task
def resolve_unknown() -> int:
    """Ask for every open outcome: attempts and refunds, of all organisations."""
    return _each(charging.resolve, charging.unresolved()) + _each(refunds.resolve, refunds.unresolved())


@shared_task
def close_attempts(payment_id: str) -> int:
    """Close what is still open at the gateway of a payment that is over."""
    return charging.close_attempts(uuid.UUID(payment_id))


@shared_task
def process_webhook(webhook_id: str) -> None:
    """Process one stored message of a gateway."""
    inbox.process(uuid.UUID(webhook_id))


@shared_task
def process_stuck_webhooks() -> int:
    """Process messages that wait for another try, or whose worker was lost."""
    return _each(inbox.process, inbox.stuck())


@shared_task
def expiry_notices() -> int:
    """Expire methods that are over and tell about those that end soon."""
    return _each(_expire, [organisation.pk for organisation in organisations_on_real_time()])


@shared_task
def fetch_settlements() -> int:
    """Ask the gateways of every organisation on real time for payouts."""
    return _each(_fetch_settlements, [organisation.pk for organisation in organisations_on_real_time()])


@shared_task
def fetch_settlements_of(organisation_id: str) -> None:
    """A gateway said that it paid out: ask it for the payout, unless the test clock is being turned and will."""
    if not waking.time_is_turning(uuid.UUID(organisation_id)):
        _each(_fetch_settlements, [uuid.UUID(organisation_id)])


@shared_task
def run_matching() -> int:
    """Match payouts with books and bank in every organisation on real time."""
    return _each(_match, [organisation.pk for organisation in organisations_on_real_time()])


def _collect(organisation_id: uuid.UUID) -> None:
    clock_jobs.run("payments.collect_due", Organisation.objects.get(pk=organisation_id))


def _expire(organisation_id: uuid.UUID) -> None:
    clock_jobs.run("payments.expiry_notices", Organisation.objects.get(pk=organisation_id))


def _fetch_settlements(organisation_id: uuid.UUID) -> None:
    clock_jobs.run("payments.fetch_settlements", Organisation.objects.get(pk=organisation_id))


def _match(organisation_id: uuid.UUID) -> None:
    clock_jobs.run("payments.match", Organisation.objects.get(pk=organisation_id))
