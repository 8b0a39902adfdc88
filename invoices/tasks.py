"""Celery's side of this app."""

from celery import shared_task

from billing.context import correlated
from billing.selectors import organisations_on_real_time
from invoices.services import installments, mailing, overdue, recognition


@shared_task(acks_late=True)
def send_due_mail(limit: int = 200) -> int:
    """Send what is due; a full batch asks for another one, so that a backlog drains without waiting for beat."""
    with correlated():
        done = mailing.send_due(limit=limit)
    if done >= limit:
        send_due_mail.delay(limit)
    return done


@shared_task(acks_late=True)
def mark_overdue() -> int:
    """What the day brings for organisations on real time: installments, overdue invoices, earned revenue."""
    done = 0
    for organisation in organisations_on_real_time():
        with correlated():
            done += installments.issue_due(organisation=organisation)
            done += overdue.mark_overdue(organisation=organisation)
            done += recognition.recognise_revenue(organisation=organisation)
    return done
