"""Webhooks: verified on the raw body, stored once, processed to the same end in any order."""

import gzip
import hashlib
import hmac
import json
import random
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client

from payments.models import InboundWebhook, PaymentAttempt, PaymentMethod, Refund
from payments.services import accounts, charging, collection, inbox, methods, refunds
from tests.payments.conftest import SYSTEM, again

pytestmark = pytest.mark.django_db


def sign(account, body, *, secret=None, at=None):
    """Headers as the provider sends them."""
    key = (secret or account.webhook_secret).encode()
    if account.provider == "razorpay":
        mark = hmac.new(key, body, hashlib.sha256).hexdigest()
        return {"X-Razorpay-Signature": mark, "X-Razorpay-Event-Id": f"evt_{hashlib.sha256(body).hexdigest()[:14]}"}
    at = int(time.time()) if at is None else at
    return {"Stripe-Signature": f"t={at},v1={hmac.new(key, f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"}


CLIENT = Client()


def send(account, body, headers):
    return CLIENT.post(
        f"/webhooks/{account.provider}/{account.pk}", data=body, content_type="application/json", headers=headers
    )


def razorpay_body(event, **entities):
    payload = {name: {"entity": entity} for name, entity in entities.items()}
    return json.dumps(
        {"entity": "event", "account_id": "acc_1", "event": event, "contains": list(payload), "payload": payload,
         "created_at": 1}
    ).encode()  # fmt: skip


def stripe_body(kind, entity, event_id=None):
    return json.dumps({"id": event_id or f"evt_{uuid.uuid4().hex}", "type": kind, "data": {"object": entity}}).encode()


def fact(account, attempt, simulator):
    """The provider's message that a charge was captured, as the object stands at the simulator."""
    if account.provider == "razorpay":
        got = simulator.session.get(f"{simulator.base}/v1/orders/{attempt.gateway_order_ref}/payments",
                                    auth=(account.key_id, account.key_secret)).json()  # fmt: skip
        payment = got["items"][0]
        return razorpay_body(f"payment.{payment['status']}", payment=payment)
    intent = simulator.session.get(f"{simulator.base}/v1/payment_intents/{attempt.gateway_order_ref}",
                                   headers={"Authorization": f"Bearer {account.key_secret}"}).json()  # fmt: skip
    return stripe_body("payment_intent.succeeded", intent)


@pytest.fixture
def lost(account, customer, save_method, ask, organisation, simulator, settings):
    """A payment whose charge happened while its answer was lost."""
    settings.GATEWAY_READ_SECONDS = 0.4
    save_method(customer, account)
    payment = ask("499.00")
    simulator.fault("timeout_after", "create/recurring" if account.provider == "razorpay" else "payment_intents$")
    collection.collect_due(organisation=organisation)
    attempt = payment.attempts.get()
    assert attempt.status == "unknown"
    return attempt


def find_order(account, attempt, simulator):
    """Where the lost charge is at the gateway (we do not know it)."""
    if account.provider == "razorpay":
        orders = simulator.session.get(f"{simulator.base}/v1/orders?receipt=pay_{attempt.payment_id.hex}",
                                       auth=(account.key_id, account.key_secret)).json()  # fmt: skip
        return orders["items"][0]["id"]
    intents = simulator.session.get(f"{simulator.base}/v1/payment_intents",
                                    headers={"Authorization": f"Bearer {account.key_secret}"}).json()  # fmt: skip
    return intents["data"][0]["id"]


def test_a_webhook_settles_what_a_lost_answer_left_open(account, lost, simulator, balance_of, published):
    lost.gateway_order_ref = find_order(account, lost, simulator)
    body = fact(account, lost, simulator)

    answer = send(account, body, sign(account, body))
    twice = send(account, body, sign(account, body))

    assert (answer.status_code, twice.status_code) == (200, 200)
    assert answer.json() == twice.json()
    webhook = InboundWebhook.objects.get()
    inbox.process(webhook.pk)
    inbox.process(webhook.pk)
    assert InboundWebhook.objects.get().status == "processed"
    assert PaymentAttempt.objects.get(pk=lost.pk).status == "captured"
    assert again(lost.payment).status == "succeeded"
    assert published("payment.") == ["payment.captured"]
    assert balance_of("customer_credit") == "-499.00"
    charging.resolve(lost.pk)
    assert balance_of("customer_credit") == "-499.00"


def test_both_secrets_are_accepted_during_a_rotation(account, simulator):
    account.previous_webhook_secret, account.webhook_secret = account.webhook_secret, "whsec_new"
    account.save()
    body = razorpay_body("payment.captured") if account.provider == "razorpay" else stripe_body("x.y", {"object": "z"})

    assert send(account, body, sign(account, body)).status_code == 200
    assert send(account, body, sign(account, body, secret=account.previous_webhook_secret)).status_code == 200
    assert send(account, body, sign(account, body, secret="another")).status_code == 400


def test_unknown_accounts_and_wrong_providers_are_not_found(razorpay, stripe):
    body = razorpay_body("payment.captured")
    assert (
        Client().post(f"/webhooks/razorpay/{uuid.uuid4()}", data=body, content_type="application/json").status_code
        == 404
    )
    wrong = Client().post(f"/webhooks/stripe/{razorpay.pk}", data=body, content_type="application/json")
    assert wrong.status_code == 404
    assert Client().get(f"/webhooks/razorpay/{razorpay.pk}").status_code == 405
    assert not InboundWebhook.objects.exists()


def test_an_account_that_is_stopped_still_tells_what_became_of_its_money(lost, account, simulator):
    """Stopping means to collect nothing new: a charge that was under way, a refund, a dispute are news all the same."""
    accounts.set_active(account=account, active=False, actor=SYSTEM, reason="We change the gateway")
    lost.gateway_order_ref = find_order(account, lost, simulator)
    body = fact(account, lost, simulator)

    answer = send(account, body, sign(account, body))
    inbox.process(InboundWebhook.objects.get().pk)

    assert answer.status_code == 200
    assert again(lost.payment).status == "succeeded"
    assert PaymentAttempt.objects.get().status == "captured"


def test_a_megabyte_is_enough(account):
    body = b'{"x": "' + b"a" * (1024 * 1024) + b'"}'
    assert send(account, body, sign(account, body)).status_code == 413


def test_times_far_off_in_both_directions_are_refused(stripe):
    body = stripe_body("customer.created", {"object": "customer"})
    now = int(time.time())
    for off, status in ((0, 200), (-290, 200), (290, 200), (-310, 400), (310, 400), (10 * 365 * 86400, 400)):
        assert send(stripe, body, sign(stripe, body, at=now + off)).status_code == status, off


def malformed(account, seed):
    """One of many ways to be wrong: body, headers."""
    rng = random.Random(seed)
    good = razorpay_body("payment.captured", payment={"id": "pay_1", "notes": {"attempt": str(uuid.uuid4())}})
    if account.provider == "stripe":
        good = stripe_body("payment_intent.succeeded", {"object": "payment_intent", "id": "pi_1", "metadata": {}})
    headers = sign(account, good)
    name = next(iter(headers))
    cases = [
        lambda: (good, {}),
        lambda: (good, {**headers, name: ""}),
        lambda: (good, {**headers, name: "ü" * rng.randint(1, 80)}),
        lambda: (good, {**headers, name: "0" * 64}),
        lambda: (good, {**headers, name: f"t={'9' * rng.randint(1, 4000)},v1=0"}),
        lambda: (good, {**headers, name: "t=,v1="}),
        lambda: (good, {**headers, name: "," * rng.randint(1, 99)}),
        lambda: (good, {**headers, name: "t=1=2=3,v1=="}),
        lambda: (good[: rng.randint(0, len(good) - 1)], headers),
        lambda: (good + bytes([rng.randrange(1, 256)]), headers),
        lambda: (bytes(rng.randrange(256) for _ in range(rng.randint(1, 200))), headers),
        lambda: (gzip.compress(good), {**headers, "Content-Encoding": "gzip"}),
        lambda: (good, sign(account, good, secret="wrong")),
        *(lambda body=body: (body, sign(account, body)) for body in (
            b"", b"null", b"[]", b"[" * 100_000, b"{}", b'"text"', b"1" * 5000, b'{"a":' * 50_000, b"\xff\xfe{}",
            b'{"id": 1, "event": 2, "type": 3, "payload": 4, "data": 5}', b'{"event": "", "payload": {}}',
            b'{"id": "evt", "type": "x", "data": {"object": []}}', b'{"event": ["payment.captured"], "payload": {}}',
            json.dumps({"id": "e\x00vt", "type": "a\x00b", "event": "a\x00b", "payload": {}, "data": {"object": {}}}).encode(),
            json.dumps({"id": "e" * 500, "type": "t" * 500, "event": "t" * 500, "payload": {}, "data": {"object": {}}}).encode(),
            b'{"id":"e","type":"payment_intent.succeeded","data":{"object":{"object":"payment_intent","id":"pi","amount":"NaN","currency":"??","status":"succeeded"}}}',
            b'{"event":"payment.captured","payload":{"payment":{"entity":{"id":"p","amount":1e400,"currency":"XX","status":"captured","captured":true}}}}',
            b'{"event":"payment.captured","payload":{"payment":{"entity":{"id":"p","amount":null,"currency":null,"status":"captured"}}}}',
            b'{"id":"e","type":"dispute","data":{"object":{"object":"refund","charge":{"id":{}}}}} trailing',
        )),
    ]  # fmt: skip
    return rng.choice(cases)()


@pytest.mark.parametrize("block", range(5))
def test_500_malformed_messages_are_refused_and_do_nothing(account, block):
    statuses = set()
    for seed in range(block * 50, block * 50 + 50):
        body, headers = malformed(account, seed)
        answer = send(account, body, headers)
        assert answer.status_code in (400, 401, 413), (seed, answer.status_code)
        statuses.add(answer.status_code)
    assert statuses == {400}
    assert not InboundWebhook.objects.exists()
    assert not PaymentAttempt.objects.exists()


def test_a_message_about_nothing_of_ours_is_ignored_and_can_be_replayed(account):
    kind = "order.paid" if account.provider == "razorpay" else "customer.created"
    body = (
        razorpay_body(kind, order={"id": "order_x"})
        if account.provider == "razorpay"
        else stripe_body(kind, {"object": "customer"})
    )
    send(account, body, sign(account, body))
    webhook = inbox.process(InboundWebhook.objects.get().pk)
    assert webhook.status == "ignored"
    assert webhook.error

    inbox.replay(webhook_id=webhook.pk, actor=SYSTEM)
    assert InboundWebhook.objects.get().status == "received"
    assert inbox.process(webhook.pk).status == "ignored"
    with pytest.raises(inbox.NotReplayable):
        inbox.replay(webhook_id=_processed(account).pk, actor=SYSTEM)


def _processed(account):
    webhook = InboundWebhook.objects.get()
    InboundWebhook.objects.filter(pk=webhook.pk).update(status="processed")
    return webhook


def test_a_message_that_cannot_be_processed_becomes_a_dead_letter(account, lost, simulator, settings):
    lost.gateway_order_ref = find_order(account, lost, simulator)
    body = fact(account, lost, simulator).replace(b"captured", b"failed").replace(b"succeeded", b"payment_failed")
    send(account, body, sign(account, body))
    webhook = InboundWebhook.objects.get()
    settings.RAZORPAY_API_BASE = settings.STRIPE_API_BASE = "http://127.0.0.1:9"

    for _ in range(inbox.MAX_ATTEMPTS):
        InboundWebhook.objects.update(next_attempt_at=None)
        inbox.process(webhook.pk)

    webhook = InboundWebhook.objects.get()
    assert (webhook.status, webhook.attempts) == ("dead", inbox.MAX_ATTEMPTS)
    assert "GatewayUnavailable" in webhook.error
    settings.RAZORPAY_API_BASE = settings.STRIPE_API_BASE = simulator.base
    inbox.replay(webhook_id=webhook.pk, actor=SYSTEM)
    assert inbox.process(webhook.pk).status == "processed"
    assert again(lost.payment).status == "succeeded", "what the gateway says now counts, not what the message said"


def test_an_old_failure_does_not_overwrite_a_capture(razorpay, customer, save_method, ask, organisation, simulator):
    save_method(customer, razorpay)
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    attempt = payment.attempts.get()
    old = {"id": attempt.gateway_ref, "order_id": attempt.gateway_order_ref, "status": "failed", "amount": 49900,
           "currency": "INR", "error_reason": "payment_timed_out", "notes": {"attempt": str(attempt.pk)}}  # fmt: skip
    body = razorpay_body("payment.failed", payment=old)
    send(razorpay, body, sign(razorpay, body))

    inbox.process(InboundWebhook.objects.get().pk)

    assert again(payment).status == "succeeded"
    assert PaymentAttempt.objects.get().status == "captured"


def test_a_revoked_mandate_comes_by_webhook(razorpay, customer, save_method, simulator):
    method = save_method(customer, razorpay)
    simulator.post(f"tokens/{method.token}", status="cancelled")
    body = razorpay_body("token.cancelled", token={"id": method.token, "recurring_details": {"status": "cancelled"}})
    send(razorpay, body, sign(razorpay, body))

    inbox.process(InboundWebhook.objects.get().pk)

    method = PaymentMethod.objects.get()
    assert (method.status, method.is_default) == ("revoked", False)


def test_a_refund_made_at_the_gateway_is_followed(
    account, customer, save_method, ask, organisation, simulator, balance_of
):
    save_method(customer, account)
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    charge = payment.attempts.get().gateway_ref
    if account.provider == "razorpay":
        made = simulator.session.post(f"{simulator.base}/v1/payments/{charge}/refund", json={"amount": 9900},
                                      auth=(account.key_id, account.key_secret)).json()  # fmt: skip
        body = razorpay_body("refund.processed", refund=made, payment={"id": charge})
    else:
        made = simulator.session.post(f"{simulator.base}/v1/refunds", data={"charge": charge, "amount": 9900},
                                      headers={"Authorization": f"Bearer {account.key_secret}"}).json()  # fmt: skip
        body = stripe_body("refund.created", made)
    for event in range(2):
        twice = body.replace(b'"created_at": 1}', b'"created_at": %d}' % event)
        if account.provider == "stripe":
            twice = stripe_body("refund.created", made)  # a second Event object for one fact
        send(account, twice, sign(account, twice))
    for webhook in InboundWebhook.objects.all():
        assert inbox.process(webhook.pk).status == "processed"

    refund = Refund.objects.get()
    assert (refund.status, str(refund.amount.amount), refund.gateway_ref) == ("succeeded", "99.0000", made["id"])
    assert str(again(payment).refunded.amount) == "99.0000"
    assert balance_of("customer_credit") == "-400.00"


@pytest.mark.django_db(transaction=True)
def test_the_same_message_32_times_at_once_has_one_effect(account, lost, simulator, balance_of, published):
    lost.gateway_order_ref = find_order(account, lost, simulator)
    body = fact(account, lost, simulator)
    headers = sign(account, body)
    barrier = threading.Barrier(32)

    def one(_):
        barrier.wait()
        try:
            status = send(account, body, headers).status_code
            inbox.process(InboundWebhook.objects.get().pk)
            return status
        finally:
            connection.close()

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(one, range(32))) == {200}

    assert InboundWebhook.objects.count() == 1
    webhook = InboundWebhook.objects.get()
    assert (webhook.status, webhook.attempts) == ("processed", 1), "one of 32 did the work"
    assert published("payment.") == ["payment.captured"]
    assert balance_of("customer_credit") == "-499.00"
    assert simulator.captured(account) == [49900]


def test_coming_back_from_the_page_says_thanks_and_trusts_nothing(razorpay, ask):
    payment = ask("499.00", automatic=False)
    collection.hosted_page(payment_id=payment.pk)
    attempt = payment.attempts.get()

    thanks = Client().get(f"/webhooks/return/{attempt.pk}?razorpay_payment_link_status=paid&x=<script>")

    assert thanks.status_code == 200
    assert b"Thank you" in thanks.content
    assert b"<script>" not in thanks.content
    assert again(payment).status == "requires_action"
    assert Client().get(f"/webhooks/return/{uuid.uuid4()}").status_code == 404


def test_a_refund_message_before_its_payment_is_known_waits(razorpay):
    body = razorpay_body("refund.processed", refund={"id": "rfnd_1"}, payment={"id": "pay_unknown"})
    send(razorpay, body, sign(razorpay, body))
    webhook = InboundWebhook.objects.get()

    first = inbox.process(webhook.pk)
    assert (first.status, first.attempts) == ("received", 1)
    for _ in range(inbox.EARLY_ATTEMPTS):
        InboundWebhook.objects.update(next_attempt_at=None)
        last = inbox.process(webhook.pk)
    assert last.status == "ignored"
    assert not refunds.unresolved()


@pytest.mark.parametrize("event", ["payment.authorized", "payment.captured", "refund.processed", "refund.created"])
def test_what_a_new_mandate_was_checked_with_is_recognised_at_once(razorpay, customer, organisation, simulator, event):
    session = methods.start_setup(
        organisation=organisation, customer=customer, account=razorpay, kind="upi", return_url="http://testserver/back"
    )
    paid = simulator.post("checkout", account=razorpay.key_id, order_id=session.order_ref, method="upi", save=True)
    payment = {"id": paid["razorpay_payment_id"], "order_id": session.order_ref, "amount": 100, "status": "refunded"}
    entities = {"refund": {"id": "rfnd_1", "payment_id": payment["id"]}} if event.startswith("refund") else {}
    body = razorpay_body(event, payment=payment, **entities)
    send(razorpay, body, sign(razorpay, body))

    webhook = inbox.process(InboundWebhook.objects.get().pk)

    assert (webhook.status, webhook.attempts) == ("ignored", 1)
    assert not Refund.objects.exists()


def test_a_refund_of_an_order_nobody_knows_still_waits(razorpay):
    payment = {"id": "pay_unknown", "order_id": "order_unknown"}
    body = razorpay_body("refund.processed", refund={"id": "rfnd_1"}, payment=payment)
    send(razorpay, body, sign(razorpay, body))

    assert inbox.process(InboundWebhook.objects.get().pk).status == "received"
