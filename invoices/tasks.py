"""Celery's side of this app."""

import structlog
from celery import shared_task

from billing.context import correlated
from billing.selectors import organisations_on_real_time
from invoices.services import installments, mailing, overdue, recognition, texting

log = structlog.get_logger(__name__)


@shared_task(acks_late=True)
def send_due_mail(limit: int = 200) -> int:
    """Send what is due; a full batch asks for another one, so that a backlog drains without waiting for beat."""
    with correlated():
        done = mailing.send_due(limit=limit)
    if done >= limit:
        send_due_mail.delay(limit)
    return done


@shared_task(acks_late=True)
def send_due_texts(limit: int = 100) -> int:
    """Send the texts that are due and ask for those whose answer was lost; a full batch asks for another one."""
    with correlated():
        done = texting.send_due(limit=limit)
    if done >= limit:
        send_due_texts.delay(limit)
    return done


@shared_task(acks_late=True)
def mark_overdue() -> int:
    """What the day brings for organisations on real time: installments, overdue invoices, earned revenue.

    What fails is logged and comes again with the schedule; it holds up neither the other work nor the others.
    """
    done = 0
    for organisation in organisations_on_real_time():
        for work in (installments.issue_due, overdue.mark_overdue, recognition.recognise_revenue):
            with correlated():
                try:
                    done += work(organisation=organisation)
                except Exception:
                    log.exception("daily_work.failed", work=work.__name__, organisation=organisation.code)
    return done
