"""One suite for both adapters, the unmodified SDKs and the simulator: what a gateway promises the house."""

import logging
import threading
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from moneyed import Money
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from billing.context import correlated
from payments.gateways import registry
from payments.gateways.base import Outcome, RefundOutcome, SettlementStatus
from payments.gateways.breaker import (
    PROBE_SECONDS,
    REDIS_PAUSE_SECONDS,
    CircuitBreaker,
    Fallback,
    LocalState,
    SharedState,
)
from payments.gateways.faults import GatewayOutcomeUnknown, GatewayRejected, GatewayUnavailable
from payments.gateways.registry import gateway_for
from payments.models import GatewayAccount
from payments.services import attempts, collection, requests

pytestmark = pytest.mark.django_db


@pytest.fixture
def gateway(account):
    return gateway_for(account)


@pytest.fixture
def begun(account, customer, save_method, ask):
    """A committed attempt that nobody has carried out, as a request."""
    save_method(customer, account)

    def begin(amount="499.00", currency="INR"):
        attempt = attempts.begin_attempt(payment_id=ask(amount, currency).pk)
        return requests.charge_request(attempt)

    return begin


def test_a_charge_is_safe_to_repeat_and_can_be_found(account, gateway, begun, simulator):
    request = begun()

    results = [gateway.charge(request), gateway.charge(request), gateway.find(request)]

    assert {(r.outcome, r.gateway_ref, r.amount) for r in results} == {
        (Outcome.CAPTURED, results[0].gateway_ref, Money("499.00", "INR"))
    }
    again = gateway.fetch(order_ref=results[0].gateway_order_ref, charge_ref=results[0].gateway_ref)
    assert (again.outcome, again.gateway_ref) == (Outcome.CAPTURED, results[0].gateway_ref)
    assert simulator.captured(account) == [49900]


def test_what_was_never_sent_is_not_found(gateway, begun):
    assert gateway.find(begun()) is None


def test_16_threads_charge_the_same_attempt_once(account, gateway, begun, simulator):
    request = begun()
    barrier = threading.Barrier(16)

    def one(_):
        barrier.wait()
        try:
            return gateway.charge(request).outcome
        except GatewayOutcomeUnknown:
            return Outcome.UNKNOWN  # the key was in use at that moment

    with ThreadPoolExecutor(16) as pool:
        outcomes = set(pool.map(one, range(16)))

    assert outcomes <= {Outcome.CAPTURED, Outcome.UNKNOWN, Outcome.PROCESSING}
    assert simulator.captured(account) == [49900]
    assert gateway.find(request).outcome is Outcome.CAPTURED


def test_threads_refund_their_own_amounts(account, gateway, begun, simulator):
    charged = [gateway.charge(begun(f"{100 + n}.00")) for n in range(8)]

    def give_back(n):
        from payments.gateways.base import RefundRequest

        return gateway.refund(
            RefundRequest(refund_id=uuid.uuid4(), key=f"ref_{uuid.uuid4().hex}", gateway_ref=charged[n].gateway_ref,
                          gateway_order_ref=charged[n].gateway_order_ref, amount=Money(10 + n, "INR"))
        )  # fmt: skip

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(give_back, range(8)))

    assert [r.amount for r in results] == [Money(f"{10 + n}.00", "INR") for n in range(8)]
    assert {r.outcome for r in results} == {RefundOutcome.SUCCEEDED}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("timeout_before", GatewayOutcomeUnknown),
        ("timeout_after", GatewayOutcomeUnknown),
        ("drop", GatewayOutcomeUnknown),
        ("500", GatewayOutcomeUnknown),
        ("502_html", GatewayOutcomeUnknown),
        ("503", GatewayOutcomeUnknown),
        ("truncated", GatewayOutcomeUnknown),
        ("429", GatewayUnavailable),
    ],
)
def test_faults_of_a_debit_in_our_words(account, settings, begun, simulator, kind, expected, capsys):
    settings.GATEWAY_READ_SECONDS = 0.3
    gateway = gateway_for(account)
    request = begun()
    simulator.fault(kind, "create/recurring" if account.provider == "razorpay" else "payment_intents$")

    with pytest.raises(expected):
        gateway.charge(request)

    assert capsys.readouterr().out == "", "the SDK prints nothing"


def test_a_read_is_repeated_once_a_write_never(razorpay, settings, simulator, begun, account):
    settings.GATEWAY_READ_SECONDS = 0.5
    gateway = gateway_for(account)
    request = begun()
    charged = gateway.charge(request)
    simulator.fault("drop", "", method="GET")
    assert (
        gateway.fetch(order_ref=charged.gateway_order_ref, charge_ref=charged.gateway_ref).outcome is Outcome.CAPTURED
    )


def test_wrong_keys_are_a_matter_for_a_person(account, begun):
    request = begun()
    account.key_secret = "wrong"
    with pytest.raises(GatewayRejected):
        gateway_for(account).charge(request)


def test_money_of_zero_and_three_decimals(make_account, make_customer, save_method, ask, simulator, organisation):
    account = make_account("stripe", settlement_currency="USD")
    for currency, amount, minor in (("JPY", "1234", 1234), ("KWD", "1.230", 1230), ("EUR", "19.90", 1990)):
        customer = make_customer(currency)
        save_method(customer, account)
        payment = ask(amount, currency, customer_id=customer.pk)
        collection.collect(payment.pk)
        ref = payment.attempts.get().gateway_ref
        assert simulator.truth(account)["objects"][ref]["captured"] == minor
        assert payment.attempts.get().amount == Money(amount, currency)


def test_the_correlation_id_reaches_the_gateway(account, gateway, begun, customer, save_method, ask, simulator):
    save_method(customer, account)
    payment = ask("7.00")
    with correlated("corr-4711"):
        collection.collect(payment.pk)
    ref = payment.attempts.get()
    if account.provider == "razorpay":
        got = simulator.session.get(
            f"{simulator.base}/v1/payments/{ref.gateway_ref}", auth=(account.key_id, account.key_secret)
        ).json()["notes"]
    else:
        headers = {"Authorization": f"Bearer {account.key_secret}"}
        got = simulator.session.get(
            f"{simulator.base}/v1/payment_intents/{ref.gateway_order_ref}", headers=headers
        ).json()["metadata"]
    assert got["correlation_id"] == "corr-4711"
    assert got["attempt"] == str(ref.pk)


def test_settlements_add_up_to_what_they_pay(
    make_account, provider_currency, customer, save_method, simulator, organisation, make_customer, ask
):
    provider, currency = provider_currency
    account = make_account(provider, settlement_currency=currency)
    customer = make_customer(currency)
    save_method(customer, account, **({"kind": "card"} if provider == "razorpay" else {}))
    gateway = gateway_for(account)
    charged = []
    for n in range(4):
        payment = ask(f"{1000 + n}.00", currency, customer_id=customer.pk)
        collection.collect(payment.pk)
        charged.append(payment.attempts.get())
    refunded = _refund(gateway, charged[0])
    dispute = simulator.post("disputes", payment=charged[1].gateway_ref)
    start = datetime.fromtimestamp(simulator.get("clock")["unix"], UTC)
    simulator.post("clock", advance_seconds=6 * 86_400)
    end = datetime.fromtimestamp(simulator.get("clock")["unix"] + 1, UTC)

    settlements = list(gateway.settlements(since=start, until=end))

    assert settlements
    assert settlements == sorted(settlements, key=lambda s: s.created_at)
    rows = defaultdict(list)
    for settlement in settlements:
        lines = list(gateway.settlement_lines(settlement))
        assert sum((line.net.amount for line in lines), Decimal(0)) == settlement.amount.amount
        for line in lines:
            assert line.net == line.amount - line.fee - line.tax
            rows[line.kind].append(line)
    assert {line.gateway_ref for line in rows["payment"]} == {attempt.gateway_ref for attempt in charged}
    assert sum(line.amount.amount for line in rows["payment"]) == 4006
    assert [(line.gateway_ref, line.amount.amount) for line in rows["refund"]] == [(refunded, Decimal("-10.00"))]
    assert [line.gateway_ref for line in rows["dispute"]] == [dispute["id"]]
    assert {s.status for s in settlements} <= {SettlementStatus.PAID, SettlementStatus.CREATED}
    assert all(s.utr for s in settlements if s.status is SettlementStatus.PAID)


@pytest.fixture(params=[("razorpay", "INR"), ("stripe", "EUR")])
def provider_currency(request):
    return request.param


def _refund(gateway, attempt):
    from payments.gateways.base import RefundRequest

    made = gateway.refund(
        RefundRequest(refund_id=uuid.uuid4(), key=f"ref_{uuid.uuid4().hex}", gateway_ref=attempt.gateway_ref,
                      gateway_order_ref=attempt.gateway_order_ref, amount=Money("10.00", attempt.amount.currency))
    )  # fmt: skip
    return made.gateway_ref


# --- registry and breaker -------------------------------------------------------------------------
def test_one_gateway_per_account_until_its_secrets_change(account):
    first = gateway_for(account)
    assert gateway_for(GatewayAccount.objects.get(pk=account.pk)) is first
    account.key_secret = "rotated"
    assert gateway_for(account) is not first


def test_repeated_silence_opens_the_circuit_of_one_account_only(make_account, begun, settings, account):
    request = begun()
    settings.RAZORPAY_API_BASE = settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    gateway = gateway_for(account)
    for _ in range(5):
        with pytest.raises(GatewayUnavailable):
            gateway.find(request)
    assert gateway.breaker.is_open
    with pytest.raises(GatewayUnavailable, match="left alone"):
        gateway.find(request)
    assert not gateway_for(make_account(account.provider)).breaker.is_open
    registry.forget()  # another process finds the same
    with pytest.raises(GatewayUnavailable, match="left alone"):
        gateway_for(account).find(request)
    account.key_secret = "rotated"
    assert not gateway_for(account).breaker.is_open


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def fail(error):
    def work():
        raise error

    return work


def test_the_breaker_probes_with_one_call_and_closes_again():
    clock = Clock()
    breaker = CircuitBreaker(LocalState(fail_max=2, rest_seconds=30, clock=clock))
    for _ in range(2):
        with pytest.raises(GatewayOutcomeUnknown):
            breaker.call(fail(GatewayOutcomeUnknown()))
    with pytest.raises(GatewayUnavailable):
        breaker.call(lambda: "not called")
    clock.now = 31
    with pytest.raises(GatewayUnavailable):
        breaker.call(fail(GatewayUnavailable()))
    with pytest.raises(GatewayUnavailable):
        breaker.call(lambda: "rests again")
    clock.now = 62
    assert breaker.call(lambda: "well") == "well"
    assert not breaker.is_open


def test_a_probe_that_died_is_not_waited_for():
    clock = Clock()
    state = LocalState(fail_max=1, rest_seconds=30, clock=clock)
    state.failed()
    clock.now = 31
    assert [state.enter(), state.enter()] == [True, False]
    clock.now = 31 + PROBE_SECONDS
    assert state.enter()


@pytest.fixture
def redis(settings):
    return Redis.from_url(settings.REDIS_URL)


def shared(redis, name, **options):
    return SharedState(redis, name, **{"fail_max": 2, "rest_seconds": 0.2} | options)


def test_processes_share_what_they_know_of_a_gateway(redis):
    name = uuid.uuid4().hex
    one, other = shared(redis, name), shared(redis, name)
    one.failed()
    assert other.enter()
    other.failed()
    assert (one.is_open(), one.enter(), other.enter()) == (True, False, False)

    time.sleep(0.25)
    assert [one.enter(), other.enter(), one.enter()] == [True, False, False]  # one probe
    other.failed()
    assert not one.enter()
    time.sleep(0.25)
    assert one.enter()
    one.answered()

    assert (other.is_open(), other.enter()) == (False, True)
    other.failed()
    assert not one.is_open(), "the count begins anew"


def test_of_many_processes_one_probes(redis):
    name = uuid.uuid4().hex
    shared(redis, name, fail_max=1, rest_seconds=0.01).failed()
    time.sleep(0.05)

    with ThreadPoolExecutor(8) as pool:
        allowed = list(pool.map(lambda _: shared(redis, name).enter(), range(16)))

    assert allowed.count(True) == 1


def test_without_redis_each_process_goes_by_what_it_sees():
    clock = Clock()
    away = Redis.from_url("redis://127.0.0.1:9/0", socket_connect_timeout=0.2)
    state = Fallback(shared(away, "x"), LocalState(fail_max=2, rest_seconds=30, clock=clock), clock=clock)
    breaker = CircuitBreaker(state)
    for _ in range(2):
        with pytest.raises(GatewayOutcomeUnknown):
            breaker.call(fail(GatewayOutcomeUnknown()))
    with pytest.raises(GatewayUnavailable, match="left alone"):
        breaker.call(lambda: "not called")
    clock.now = 31
    assert breaker.call(lambda: "well") == "well"


def test_redis_that_comes_back_is_asked_again(redis):
    clock, name = Clock(), uuid.uuid4().hex

    class Away:
        def enter(self):
            raise RedisConnectionError

    state = Fallback(Away(), LocalState(), clock=clock)
    assert state.enter()
    state._shared = shared(redis, name, fail_max=1)
    state._shared.failed()
    assert state.enter(), "not asked again at once"
    clock.now = REDIS_PAUSE_SECONDS
    assert not state.enter()


def test_a_refusal_is_an_answer():
    breaker = CircuitBreaker(LocalState(fail_max=1))
    for _ in range(3):
        with pytest.raises(GatewayRejected):
            breaker.call(fail(GatewayRejected(reason="no")))
    assert not breaker.is_open


def test_the_breaker_does_not_make_calls_wait_for_each_other():
    breaker = CircuitBreaker()
    barrier = threading.Barrier(4, timeout=5)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda _: breaker.call(barrier.wait), range(4)))) == 4


def test_secrets_and_personal_data_stay_out_of_the_log(account, begun, caplog, settings, simulator):
    caplog.set_level(logging.DEBUG)
    request = begun()
    gateway_for(account).charge(request)
    settings.RAZORPAY_API_BASE = settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    with pytest.raises(GatewayUnavailable):
        gateway_for(account).charge(request)
    for canary in (account.key_secret, account.webhook_secret, request.payer.email, request.payer.phone):
        assert canary not in caplog.text
