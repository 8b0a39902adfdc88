"""The gateways' own deliveries, caught on the wire, then given to us doubled and in any order."""

import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.test import Client
from moneyed import Money

from payments.models import Dispute, InboundWebhook, Payment, Refund
from payments.services import collection, inbox, refunds
from tests.payments.conftest import SYSTEM

pytestmark = pytest.mark.django_db


@pytest.fixture
def letterbox():
    """A server that keeps what the simulator delivers: (headers, raw body)."""
    caught = []

    class Keeper(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            caught.append((dict(self.headers), body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keeper)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", caught
    server.shutdown()
    server.server_close()


def world(account, ask, make_customer, save_method, organisation, simulator, currency):
    """Three payments on the customer's page, a dispute won, a refund at the dashboard, a refund of ours that fails later."""
    payments, charges = [], []
    for n in range(3):
        customer = make_customer(currency)
        payment = ask(f"{100 + n}.00", currency, customer_id=customer.pk, automatic=False)
        collection.hosted_page(payment_id=payment.pk)
        page = payment.attempts.get().gateway_order_ref
        field = "payment_link" if account.provider == "razorpay" else "checkout_session"
        method = "upi" if account.provider == "razorpay" else "card"
        simulator.post("checkout", account=account.key_secret_of_tests, method=method, **{field: page})
        payments.append(payment)
    wanted = {f"{n + 100}00" for n in range(3)}
    for ref, item in simulator.truth(account)["objects"].items():
        if str(item.get("captured")) in wanted:
            charges.append((item["captured"], ref))
    charges = [ref for _, ref in sorted(charges)]
    dispute = simulator.post("disputes", payment=charges[0])
    simulator.post(f"disputes/{dispute['id']}/close", outcome="won")
    _refund_at_dashboard(account, charges[1], simulator)
    return payments, charges


def _refund_at_dashboard(account, charge, simulator):
    if account.provider == "razorpay":
        simulator.session.post(f"{simulator.base}/v1/payments/{charge}/refund", json={"amount": 2500},
                               auth=(account.key_id, account.key_secret))  # fmt: skip
    else:
        simulator.session.post(f"{simulator.base}/v1/refunds", data={"charge": charge, "amount": 2500},
                               headers={"Authorization": f"Bearer {account.key_secret}"})  # fmt: skip


def drained(simulator, caught):
    for _ in range(100):
        if simulator.get("webhooks/pending")["pending"] == 0:
            break
        time.sleep(0.05)
    return list(caught)


def deliver(account, messages):
    client = Client()
    for headers, body in messages:
        kept = {name: value for name, value in headers.items() if "ignature" in name or "vent" in name}
        url = f"/webhooks/{account.provider}/{account.pk}"
        answer = client.post(url, data=body, content_type="application/json", headers=kept)
        assert answer.status_code == 200, answer.content
        for webhook_id in InboundWebhook.objects.filter(status="received").values_list("pk", flat=True):
            inbox.process(webhook_id)
    for _ in range(inbox.EARLY_ATTEMPTS):
        InboundWebhook.objects.filter(status="received").update(next_attempt_at=None)
        for webhook_id in InboundWebhook.objects.filter(status="received").values_list("pk", flat=True):
            inbox.process(webhook_id)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("provider", ["razorpay", "stripe"])
def test_doubled_and_shuffled_deliveries_end_where_the_gateway_stands(
    provider,
    seed,
    make_account,
    letterbox,
    make_customer,
    ask,
    save_method,
    organisation,
    simulator,
    balance_of,
    published,
):
    address, caught = letterbox
    currency = "INR" if provider == "razorpay" else "EUR"
    account = make_account(provider, webhook_url=address, webhook_secret="whsec_wire")
    account.webhook_secret = "whsec_wire"
    account.save()
    payments, _ = world(account, ask, make_customer, save_method, organisation, simulator, currency)
    messages = drained(simulator, caught)
    assert len(messages) >= 8

    rng = random.Random(seed)
    rng.shuffle(messages)
    deliver(account, [message for message in messages for _ in range(2)] if seed % 2 else messages + messages[::-1])

    stored = {p.pk: p for p in Payment.objects.all()}
    assert [stored[p.pk].status for p in payments] == ["succeeded"] * 3
    assert Dispute.objects.get().status == "won"
    refund = Refund.objects.get()
    assert (refund.status, refund.amount) == ("succeeded", Money("25.00", currency))
    assert published("payment.captured") == ["payment.captured"] * 3
    assert published("dispute.") == ["dispute.opened", "dispute.won"]
    assert published("refund.") == ["refund.succeeded"]
    assert balance_of("customer_credit", currency) == "-278.00"
    assert balance_of("dispute_pending", currency) == "0.00"
    assert not InboundWebhook.objects.filter(status__in=["received", "dead"]).exists()

    ours = refunds.request_refund(
        payment_id=payments[2].pk, amount=Money("10.00", currency), reason="Meals", actor=SYSTEM
    )
    simulator.post(f"refunds/{ours.gateway_ref}/fail")
    later = drained(simulator, caught)[len(messages) :]
    rng.shuffle(later)
    deliver(account, later + later)
    assert Refund.objects.get(pk=ours.pk).status == "failed"
    assert balance_of("customer_credit", currency) == "-278.00"
