"""Celery's side of this app."""

from celery import shared_task

from billing.context import correlated
from billing.selectors import organisations_on_real_time
from billing.services import clock_jobs
from invoices.services import mailing, texting


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
    """What the day brings for organisations on real time: installments, overdue invoices, earned revenue."""
    daily = ("invoices.installments", "invoices.mark_overdue", "invoices.recognise_revenue")
    return clock_jobs.run_each(organisations_on_real_time(), *daily)
