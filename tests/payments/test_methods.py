"""Payment methods: proved by the gateway, shown masked, followed when they end."""

import pytest

from billing.models import Event
from payments.errors import MethodUnusable, NoGateway, SetupFailed
from payments.models import Payment, PaymentMethod
from payments.services import collection, methods
from tests.payments.conftest import SYSTEM, again

pytestmark = pytest.mark.django_db


def test_the_first_method_is_the_default_and_the_token_is_encrypted(account, customer, save_method, published):
    first = save_method(customer, account)
    second = save_method(customer, account)

    assert (first.status, second.status) == ("active", "active")
    assert PaymentMethod.objects.get(is_default=True) == first
    stored = PaymentMethod.objects.filter(pk=first.pk).extra(select={"raw": "token"}).values_list("raw", flat=True)[0]
    assert first.token not in stored
    assert published("payment_method.") == ["payment_method.added"] * 2
    assert first.token not in str(list(Event.objects.values_list("payload", flat=True)))

    methods.make_default(method_id=second.pk, actor=SYSTEM)
    assert PaymentMethod.objects.get(is_default=True) == second


def test_what_the_browser_brings_twice_is_kept_once(organisation, razorpay, customer, simulator):
    session = methods.start_setup(
        organisation=organisation, customer=customer, account=razorpay, kind="upi", return_url="http://testserver/"
    )
    paid = simulator.post("checkout", account=razorpay.key_id, order_id=session.order_ref, method="upi", save=True)
    result = {name: paid[f"razorpay_{name}"] for name in ("payment_id", "order_id", "signature")}
    given = {"organisation": organisation, "customer": customer, "account": razorpay, "actor": SYSTEM}

    assert methods.attach(result=result, **given) == methods.attach(result=result, **given)
    assert PaymentMethod.objects.count() == 1
    assert simulator.captured(razorpay) == [], "the check of one rupee is not taken"
    for wrong in (
        {**result, "signature": "0" * 64},
        {**result, "signature": "ü" * 64},
        {**result, "signature": ""},
        {**result, "order_id": "order_other"},
        {**result, "payment_id": "pay_other"},
        {},
        {"setup_intent": "seti_1"},
    ):
        with pytest.raises(SetupFailed):
            methods.attach(result=wrong, **given)


def test_a_result_of_another_customer_is_refused(organisation, account, make_customer, simulator):
    mine, other = make_customer(), make_customer()
    session = methods.start_setup(
        organisation=organisation, customer=mine, account=account, kind="card", return_url="http://testserver/"
    )
    methods.ensure_gateway_customer(account=account, customer=other)
    if account.provider == "razorpay":
        paid = simulator.post("checkout", account=account.key_id, order_id=session.order_ref, method="card", save=True)
        result = {name: paid[f"razorpay_{name}"] for name in ("payment_id", "order_id", "signature")}
    else:
        simulator.post("checkout", account=account.key_secret, setup_intent=session.setup_ref)
        result = {"setup_intent": session.setup_ref}

    with pytest.raises(SetupFailed):
        methods.attach(organisation=organisation, customer=other, account=account, result=result, actor=SYSTEM)
    assert not PaymentMethod.objects.exists()


def test_the_same_customer_is_known_once_at_the_gateway(account, customer):
    first = methods.ensure_gateway_customer(account=account, customer=customer)
    assert methods.ensure_gateway_customer(account=account, customer=customer) == first


def test_a_mandate_that_is_confirmed_later(make_account, organisation, customer, simulator, save_method, published):
    account = make_account("razorpay", options={"mandate_seconds": 86_400})
    method = save_method(customer, account, kind="emandate")
    assert method.status == "pending"
    assert not published("payment_method.")

    simulator.post("clock", advance_seconds=86_401)
    methods.refresh_token(account=account, token=method.token)

    assert PaymentMethod.objects.get().status == "active"
    assert published("payment_method.") == ["payment_method.added"]


def test_detaching_twice_is_fine_and_the_method_is_gone_at_the_gateway(
    account, customer, save_method, ask, organisation
):
    method = save_method(customer, account)

    methods.detach(method_id=method.pk, actor=SYSTEM)
    methods.detach(method_id=method.pk, actor=SYSTEM)

    assert PaymentMethod.objects.get().status == "detached"
    with pytest.raises(MethodUnusable):
        methods.make_default(method_id=method.pk, actor=SYSTEM)
    payment = ask("499.00")
    with pytest.raises(MethodUnusable):
        collection.retry_now(payment_id=payment.pk, actor=SYSTEM, method_id=method.pk)


def test_methods_expire_and_are_told_of_once(stripe, make_customer, save_method, organisation, advance, published):
    method = save_method(make_customer("EUR"), stripe)
    PaymentMethod.objects.update(expires_on="2025-05-31")
    advance(days=23)  # 30 April

    assert methods.run_expiry(organisation=organisation) == 0
    advance(days=1)
    assert methods.run_expiry(organisation=organisation) == 1
    assert methods.run_expiry(organisation=organisation) == 0
    advance(days=30)  # 31 May: the last day
    assert methods.run_expiry(organisation=organisation) == 0
    advance(days=1)
    assert methods.run_expiry(organisation=organisation) == 1

    method = PaymentMethod.objects.get(pk=method.pk)
    assert (method.status, method.is_default) == ("expired", False)
    assert published("payment_method.")[1:] == ["payment_method.expiring", "payment_method.revoked"]


def test_without_a_gateway_nothing_is_set_up_and_payments_wait(organisation, customer, ask):
    with pytest.raises(NoGateway):
        methods.online_account(organisation)
    payment = ask("499.00")

    assert collection.collect_due(organisation=organisation) == 1
    assert collection.collect_due(organisation=organisation) == 0

    assert again(payment).status == "pending"
    with pytest.raises(NoGateway):
        collection.hosted_page(payment_id=payment.pk)
    with pytest.raises(NoGateway):
        collection.retry_now(payment_id=payment.pk, actor=SYSTEM)
    assert not Payment.objects.exclude(status="pending").exists()
