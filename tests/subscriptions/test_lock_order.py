"""Locks are taken in one order: dunning case, subscription, customer, invoice, payment. So nobody waits in a circle."""

import logging
import time

import pytest

from billing.models import Event, EventHandling
from billing.services import outbox
from billing.services.outbox import consumers
from invoices.services.overdue import mark_overdue
from payments.models import Payment
from payments.services.facts import payment_facts
from subscriptions.services import changing
from subscriptions.services.changing import Changed
from subscriptions.services.rows import Status
from tests.subscriptions.house import (
    CLERK,
    credit_notes_of,
    fresh,
    invoices_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
)
from tests.subscriptions.test_concurrency import together

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 50


@pytest.fixture
def slow_batch():
    """A consumer that makes the batch hold the customer for a moment longer."""
    before = list(consumers._consumers["payment.captured"])
    consumers.handles("payment.captured", consumer="test.slow")(lambda event: time.sleep(0.03))
    yield
    consumers._consumers["payment.captured"] = before


def test_changes_of_a_subscription_and_the_outbox_never_wait_for_each_other_in_a_circle(slow_batch, caplog):
    caplog.set_level(logging.WARNING, logger="billing.services.outbox")
    tenant = make_organisation(local("2026-04-01 09:00"))
    subscription = subscribe(make_customer(tenant), make_plan(tenant, seats("300.00")), quantity=ROUNDS + 1)
    run(tenant)
    invoice = invoices_of(subscription)[0]
    turn(tenant, local("2026-04-11 09:00"))
    outbox.dispatch(tenant.pk, wait=True)
    mark_overdue(organisation=tenant)
    outbox.dispatch(tenant.pk, wait=True)
    payment = Payment.objects.get(reference=f"invoice:{invoice.pk}")
    Payment.objects.filter(pk=payment.pk).update(status="succeeded", amount="1.00")
    payment = Payment.objects.get(pk=payment.pk)

    answers = []
    for left in range(ROUNDS, 0, -1):
        with outbox.quiet():  # one batch locks the customer (captured) and then asks for the subscription (overdue)
            outbox.publish("payment.captured", payment, **payment_facts(payment))
            outbox.publish("invoice.overdue", invoice, invoice_id=str(invoice.pk))
        answers += together(
            lambda: outbox.dispatch(tenant.pk, wait=True),
            lambda quantity=left: changing.change_subscription(
                subscription_id=subscription.pk, actor=CLERK, quantity=quantity
            ),
        )

    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    assert sum(isinstance(answer, Changed) for answer in answers) == ROUNDS
    assert "failed on" not in caplog.text
    assert (fresh(subscription).quantity, fresh(subscription).status) == (1, Status.PAST_DUE)
    assert len(credit_notes_of(subscription)) == ROUNDS
    outbox.dispatch(tenant.pk, wait=True)
    assert not Event.objects.filter(dispatched_at=None).exists()
    assert set(EventHandling.objects.values_list("status", flat=True)) == {"done"}
