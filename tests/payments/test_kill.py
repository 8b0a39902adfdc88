"""SIGKILL at every point of a charge and of a refund: charged once, refunded once, nothing lost."""

import os
import signal

import pytest
from django.db import connections
from moneyed import Money

from billing.services import outbox
from payments.gateways import registry
from payments.models import PaymentAttempt, Refund
from payments.services import attempts, charging, collection, refunds
from tests.payments.conftest import SYSTEM, again

pytestmark = pytest.mark.django_db(transaction=True)


def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def killed(monkeypatch, place, name, work):
    """Run ``work`` in a child that is killed the moment it reaches ``place.name``."""
    connections.close_all()
    child = os.fork()
    if child == 0:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, die)
            try:
                work()
            finally:
                os._exit(3)  # it did not get there
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the child ended by itself ({status}) before {name}"
    assert os.WTERMSIG(status) == signal.SIGKILL


CHARGE_POINTS = {
    "before the call": (registry.GuardedGateway, "__getattr__", "abandoned"),
    "after the call, before the answer is recorded": (attempts, "settle_attempt", "captured"),
    "in the transaction that records it": (outbox, "publish", "captured"),
}


@pytest.mark.parametrize("point", CHARGE_POINTS)
def test_a_charge_survives_sigkill(
    account, point, monkeypatch, customer, save_method, ask, organisation, simulator, advance, balance_of, published
):
    save_method(customer, account)
    payment = ask("499.00")
    place, name, outcome = CHARGE_POINTS[point]

    killed(monkeypatch, place, name, lambda: collection.collect(payment.pk))

    attempt = PaymentAttempt.objects.get()
    assert (attempt.status, again(payment).status) == ("created", "processing"), "committed before the call"
    assert "payment.captured" not in published()

    advance(minutes=30)
    charging.resolve(attempt.pk)
    assert PaymentAttempt.objects.get(pk=attempt.pk).status == outcome
    advance(minutes=30)
    collection.collect_due(organisation=organisation)

    assert again(payment).status == "succeeded"
    assert simulator.captured(account) == [49900]
    assert published("payment.captured") == ["payment.captured"]
    assert balance_of("customer_credit") == "-499.00"


REFUND_POINTS = {
    "before the call": (registry.GuardedGateway, "__getattr__"),
    "after the call, before the answer is recorded": (refunds, "settle_refund"),
    "in the transaction that records it": (outbox, "publish"),
}


@pytest.mark.parametrize("point", REFUND_POINTS)
def test_a_refund_survives_sigkill(
    account, point, monkeypatch, customer, save_method, ask, organisation, simulator, balance_of, published
):
    save_method(customer, account)
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    place, name = REFUND_POINTS[point]

    def work():
        refunds.request_refund(payment_id=payment.pk, amount=Money("99.00", "INR"), reason="Meals", actor=SYSTEM)

    killed(monkeypatch, place, name, work)

    refund = Refund.objects.get()
    assert refund.status == "requested"
    assert str(again(payment).refunded.amount) == "99.0000"
    refunds.resolve(refund.pk)
    refunds.resolve(refund.pk)

    assert Refund.objects.get().status == "succeeded"
    assert published("refund.") == ["refund.succeeded"]
    assert balance_of("customer_credit") == "-400.00"
    objects = simulator.truth(account)["objects"].values()
    assert sum(item["refunded"] for item in objects) == 9900
