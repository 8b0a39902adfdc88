"""Console pages of payments: seen by whom may see, acting through services, no secret shown."""

import pytest
from django.urls import reverse

from billing.models import AuditRecord, Organisation, Role
from payments.models import GatewayAccount, InboundWebhook, Payment, Refund
from payments.services import collection
from tests.payments.conftest import NOON, SYSTEM, again
from tests.payments.test_webhooks import razorpay_body, send, sign

pytestmark = pytest.mark.django_db


@pytest.fixture
def paid(razorpay, customer, save_method, ask, organisation):
    save_method(customer, razorpay)
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    return again(payment)


PAGES = ["payment", "paymentmethod", "refund", "dispute", "gatewayaccount", "inboundwebhook"]


@pytest.mark.parametrize("page", PAGES)
def test_lists_open_for_a_manager(console, paid, page):
    answer = console(Role.MANAGER).get(reverse(f"admin:payments_{page}_changelist"))
    assert answer.status_code == 200


def test_a_payment_tells_its_story(console, paid):
    text = console(Role.MANAGER).get(reverse("admin:payments_payment_change", args=[paid.pk])).content.decode()

    assert paid.reference in text
    assert "payment.captured" in text
    assert paid.attempts.get().gateway_ref in text


def test_another_organisation_sees_nothing(console, paid):
    other = Organisation.objects.create(
        code="other", name="Other", currency="EUR", country="DE", time_zone="Europe/Berlin"
    )
    client = console(Role.MANAGER, where=other)

    assert paid.reference not in client.get(reverse("admin:payments_payment_changelist")).content.decode()
    assert client.get(reverse("admin:payments_payment_change", args=[paid.pk])).status_code in (302, 404)
    assert client.post(_refund(paid), {"confirm": "1", "reason": "mine"}).status_code in (403, 404)
    assert not Refund.objects.exists()


def _refund(payment):
    return reverse("admin:payments_payment_refund", args=[payment.pk])


def test_a_manager_refunds_with_a_reason(console, paid):
    client = console(Role.MANAGER)
    assert client.get(_refund(paid)).status_code == 200
    assert client.post(_refund(paid), {"confirm": "1", "amount": "99.00"}).status_code == 200, "the reason is asked for"
    assert not Refund.objects.exists()

    client.post(_refund(paid), {"confirm": "1", "amount": "99.00", "reason": "Meals not taken"})

    refund = Refund.objects.get()
    assert (refund.status, str(refund.amount.amount)) == ("succeeded", "99.0000")
    record = AuditRecord.objects.get(action="refund.requested")
    assert (record.actor_type, record.reason) == ("user", "Meals not taken")


@pytest.mark.parametrize("role", [Role.CLERK, Role.AUDITOR, Role.SUPPORT])
def test_others_do_not_refund(console, paid, role):
    client = console(role)
    answer = client.post(_refund(paid), {"confirm": "1", "amount": "99.00", "reason": "Meals"})
    assert answer.status_code in (302, 403)
    assert not Refund.objects.exists()


def test_new_keys_are_called_with_at_once(console, razorpay, customer, save_method, ask, organisation, simulator):
    """Keys are rotated at the gateway as well: an account must live through it with its payments."""
    save_method(customer, razorpay)
    former = {"key_id": razorpay.key_id, "key_secret": razorpay.key_secret}
    GatewayAccount.objects.filter(pk=razorpay.pk).update(key_secret="revoked at the gateway")
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    assert again(payment).status == "pending", "refused keys are tried again, not taken for a decline"

    url = reverse("admin:payments_gatewayaccount_change_keys", args=[razorpay.pk])
    answer = console(Role.ADMIN).post(url, {"confirm": "1", "reason": "Rotated by policy", **former})
    collection.retry_now(payment_id=payment.pk, actor=SYSTEM)

    assert answer.status_code == 302
    assert again(payment).status == "succeeded"
    record = AuditRecord.objects.get(action="gateway_account.keys_changed")
    assert (record.after, record.reason) == ({"key_id": razorpay.key_id}, "Rotated by policy")
    assert former["key_secret"] not in str(record.before) + str(record.after)
    shown = console(Role.MANAGER).post(url, {"confirm": "1", "reason": "Mine", **former})
    assert shown.status_code == 403


def test_secrets_are_not_shown_and_can_be_rotated(console, razorpay):
    client = console(Role.ADMIN)
    old = razorpay.webhook_secret
    page = client.get(reverse("admin:payments_gatewayaccount_change", args=[razorpay.pk])).content.decode()
    assert razorpay.key_secret not in page
    assert old not in page

    url = reverse("admin:payments_gatewayaccount_rotate_webhook_secret", args=[razorpay.pk])
    client.post(url, {"confirm": "1", "secret": "whsec_a_new_one", "reason": "yearly"})

    account = GatewayAccount.objects.get(pk=razorpay.pk)
    assert (account.webhook_secret, account.previous_webhook_secret) == ("whsec_a_new_one", old)
    audit = AuditRecord.objects.get(action="gateway_account.webhook_secret_rotated")
    assert "whsec" not in f"{audit.before}{audit.after}{audit.reason}"


def test_a_dead_letter_is_replayed(console, razorpay):
    body = razorpay_body("order.paid", order={"id": "order_x"})
    send(razorpay, body, sign(razorpay, body))
    InboundWebhook.objects.update(status="dead", processed_at=NOON)
    webhook = InboundWebhook.objects.get()

    url = reverse("admin:payments_inboundwebhook_replay", args=[webhook.pk])
    console(Role.MANAGER).post(url, {"confirm": "1", "reason": "gateway was down"})

    assert InboundWebhook.objects.get().status == "received"


def test_a_clerk_tries_a_payment_again(console, razorpay, customer, save_method, ask, organisation, simulator):
    method = save_method(customer, razorpay)
    simulator.program(method.token, "insufficient_funds")
    payment = ask("499.00")
    collection.collect_due(organisation=organisation)
    assert Payment.objects.get().status == "pending"

    console(Role.CLERK).post(reverse("admin:payments_payment_retry", args=[payment.pk]), {"confirm": "1"})

    assert again(payment).status == "succeeded"
