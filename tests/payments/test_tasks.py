"""What is sent to workers exists there, and each task does its work."""

import pytest
from celery import current_app

from billing.models import Event
from config.schedule import TASKS
from payments import tasks
from payments.handlers import try_again_with_new_method
from payments.models import InboundWebhook, PaymentAttempt
from payments.services import attempts, charging, collection, inbox, methods, refunds
from tests.payments.conftest import SYSTEM, again
from tests.payments.test_webhooks import razorpay_body, send, sign

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(monkeypatch):
    """What was sent to workers, in order."""
    messages = []
    monkeypatch.setattr(current_app, "send_task", lambda name, args, **_: messages.append((name, *args)))
    return messages


def test_every_task_that_is_sent_or_scheduled_exists():
    named = {
        attempts.CLOSE_TASK,
        charging.COLLECT_TASK,
        charging.RESOLVE_TASK,
        collection.DUE_TASK,
        inbox.PROCESS_TASK,
        inbox.SETTLEMENTS_TASK,
        refunds.RESOLVE_TASK,
        *(name for name in TASKS if name.startswith("payments.")),
    }
    assert named <= set(current_app.tasks)


def test_payments_are_collected_by_the_tasks(
    razorpay, customer, save_method, ask, organisation, simulator, settings, sent, django_capture_on_commit_callbacks
):
    settings.GATEWAY_READ_SECONDS = 0.4
    save_method(customer, razorpay)
    with django_capture_on_commit_callbacks(execute=True):
        payment = ask("499.00")
    assert (collection.DUE_TASK, str(organisation.pk)) in sent
    simulator.fault("timeout_after", "create/recurring")

    tasks.collect_organisation(str(organisation.pk))
    attempt = payment.attempts.get()
    assert (charging.RESOLVE_TASK, str(attempt.pk)) in sent
    tasks.resolve_attempt(str(attempt.pk))

    assert again(payment).status == "succeeded"
    assert tasks.resolve_unknown() == 0
    assert tasks.close_attempts(str(payment.pk)) == 0


def test_tasks_of_real_time_leave_test_clocks_alone(razorpay, customer, save_method, ask, organisation):
    save_method(customer, razorpay)
    payment = ask("499.00")
    assert tasks.retry_due_payments() == 0
    assert tasks.expiry_notices() == 0
    organisation.test_clock = None
    organisation.save()
    assert tasks.retry_due_payments() == 1
    assert again(payment).status == "succeeded"


def test_webhooks_are_processed_by_the_tasks(razorpay, sent, django_capture_on_commit_callbacks, monkeypatch):
    body = razorpay_body("settlement.processed", settlement={"id": "setl_1"})
    with django_capture_on_commit_callbacks(execute=True):
        send(razorpay, body, sign(razorpay, body))
    webhook = InboundWebhook.objects.get()
    assert sent == [(inbox.PROCESS_TASK, str(webhook.pk))]

    tasks.process_webhook(str(webhook.pk))
    assert sent[-1] == (inbox.SETTLEMENTS_TASK, str(razorpay.organisation_id))
    tasks.fetch_settlements_of(sent[-1][1])
    assert InboundWebhook.objects.get().status == "processed"

    InboundWebhook.objects.update(status="received", received_at="2025-01-01T00:00:00Z", next_attempt_at=None)
    assert tasks.process_stuck_webhooks() == 1
    assert InboundWebhook.objects.get().status == "processed"


def test_a_broker_that_is_away_loses_nothing(razorpay, customer, save_method, ask, organisation, monkeypatch):
    def away(*args, **kwargs):
        raise ConnectionError("no broker")

    monkeypatch.setattr(current_app, "send_task", away)
    save_method(customer, razorpay)
    body = razorpay_body("order.paid", order={"id": "order_x"})
    assert send(razorpay, body, sign(razorpay, body)).status_code == 200
    assert InboundWebhook.objects.get().status == "received"


def test_a_new_method_wakes_what_failed(razorpay, customer, save_method, ask, organisation, simulator, sent):
    first = save_method(customer, razorpay)
    simulator.program(first.token, "card_expired")
    failed = ask("499.00")
    waiting = ask("20000.00")  # above the limit: on a page
    collection.collect_due(organisation=organisation)
    assert (again(failed).status, again(waiting).status) == ("failed", "requires_action")
    methods.detach(method_id=first.pk, actor=SYSTEM)
    save_method(customer, razorpay, kind="emandate")
    try_again_with_new_method(Event.objects.filter(type="payment_method.added").latest("id"))

    assert sent[-1] == (collection.DUE_TASK, str(organisation.pk))
    tasks.collect_organisation(str(organisation.pk))
    assert (again(failed).status, again(waiting).status) == ("succeeded", "succeeded")
    assert set(PaymentAttempt.objects.filter(payment=waiting).values_list("status", flat=True)) == {
        "declined",
        "captured",
    }
    assert simulator.captured(razorpay) == [49900, 2000000]
