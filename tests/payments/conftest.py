"""What tests of payments rely on: the simulator as a process, accounts at it, customers with saved methods."""

import itertools
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from django.test import Client
from moneyed import Money
from rest_framework.test import APIClient

from billing import permissions
from billing.api.authentication import hash_key
from billing.context import Actor
from billing.models import ApiKey, Customer, Event, Membership, Organisation, TestClock, User
from billing.services import ledger
from payments.gateways import registry
from payments.models import GatewayAccount, Payment, PaymentMethod
from payments.services import collection, methods

ROOT = Path(__file__).resolve().parent.parent.parent
NOON = datetime(2025, 4, 7, 6, 30, tzinfo=UTC)  # a Monday, noon in Kolkata
SYSTEM = Actor.system("tests")
_serial = itertools.count(1)


class Simulator:
    """The gateway simulator and its control API."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "payments.simulator", "--port", "0", "--now", "2025-04-07T06:30:00Z"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
        found = re.search(r"http://[\d.:]+", self.process.stdout.readline())
        assert found, "the simulator did not start"
        self.base = found.group(0)
        self.session = requests.Session()

    def post(self, path: str, /, **body: Any) -> Any:
        """POST to the control API below /_sim/."""
        answer = self.session.post(f"{self.base}/_sim/{path}", json=body, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        """GET from the control API."""
        return self.session.get(f"{self.base}/_sim/{path}", timeout=10).json()

    def fault(self, kind: str, path: str, method: str = "POST", **more: Any) -> None:
        """Let the next matching call go wrong."""
        self.post("faults", kind=kind, path=path, method=method, **more)

    def program(self, token: str, *behaviour: str) -> None:
        """What the next charges of a token do."""
        self.post(f"tokens/{token}", behaviour=list(behaviour))

    def truth(self, account: GatewayAccount) -> dict[str, Any]:
        """The gateway's own books of one account."""
        (found,) = self.get(f"ledger?account={account.key_secret_of_tests}")["accounts"].values()
        return found

    def captured(self, account: GatewayAccount) -> list[int]:
        """Amounts (minor units) that the gateway captured, one per charge."""
        objects = self.truth(account)["objects"].values()
        return sorted(item["captured"] for item in objects if item.get("captured"))

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(timeout=10)


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[Simulator]:
    running = Simulator()
    yield running
    running.stop()


@pytest.fixture
def simulator(simulator_process: Simulator, settings: Any) -> Iterator[Simulator]:
    """The simulator, with the product pointed at it."""
    settings.RAZORPAY_API_BASE = settings.STRIPE_API_BASE = simulator_process.base
    settings.GATEWAY_READ_SECONDS = 1.0
    settings.PUBLIC_URL = "http://testserver"
    registry.forget()
    yield simulator_process
    simulator_process.session.delete(f"{simulator_process.base}/_sim/faults", timeout=10)
    registry.forget()


@pytest.fixture
def test_clock(db: None) -> TestClock:
    return TestClock.objects.create(name="tests", now=NOON)


@pytest.fixture
def organisation(test_clock: TestClock) -> Organisation:
    return Organisation.objects.create(
        code=f"school-{next(_serial)}", name="School", currency="INR", country="IN", region="29",
        time_zone="Asia/Kolkata", financial_year_start=4, test_clock=test_clock,
    )  # fmt: skip


@pytest.fixture
def advance(organisation: Organisation) -> Callable[..., datetime]:
    """Move the organisation's clock on."""

    def turn(**delta: float) -> datetime:
        clock = TestClock.objects.get(organisations=organisation)
        clock.now += timedelta(**delta)
        clock.save(update_fields=["now"])
        return clock.now

    return turn


@pytest.fixture
def make_customer(organisation: Organisation) -> Callable[..., Customer]:
    def make(currency: str = "INR") -> Customer:
        n = next(_serial)
        return Customer.objects.create(
            organisation=organisation, external_id=f"c{n}", name=f"Customer {n}", email=f"c{n}@example.com",
            phone=f"+9190000{n:05d}", currency=currency, created_at=NOON,
        )  # fmt: skip

    return make


@pytest.fixture
def customer(make_customer: Callable[..., Customer]) -> Customer:
    return make_customer()


@pytest.fixture
def make_account(organisation: Organisation, simulator: Simulator) -> Callable[..., GatewayAccount]:
    """A gateway account, known to the simulator as well."""

    def make(provider: str, **more: Any) -> GatewayAccount:
        n = uuid.uuid4().hex[:10]
        key_id, secret = (f"rzp_test_{n}", f"secret_{n}") if provider == "razorpay" else (f"pk_{n}", f"sk_test_{n}")
        at_simulator = key_id if provider == "razorpay" else secret
        simulator.post("accounts", provider=provider, key_id=at_simulator, key_secret=secret, **more)
        account = GatewayAccount.objects.create(
            organisation=organisation, provider=provider, code=f"{provider}-{n}", key_id=key_id, key_secret=secret,
            webhook_secret=f"whsec_{n}", is_default=not GatewayAccount.objects.filter(organisation=organisation).exists(),
        )  # fmt: skip
        GatewayAccount.key_secret_of_tests = property(
            lambda self: self.key_id if self.provider == "razorpay" else self.key_secret
        )
        return account

    return make


@pytest.fixture
def razorpay(make_account: Callable[..., GatewayAccount]) -> GatewayAccount:
    return make_account("razorpay")


@pytest.fixture
def stripe(make_account: Callable[..., GatewayAccount]) -> GatewayAccount:
    return make_account("stripe", settlement_currency="EUR")


@pytest.fixture(params=["razorpay", "stripe"])
def account(request: pytest.FixtureRequest, make_account: Callable[..., GatewayAccount]) -> GatewayAccount:
    """Each test of it runs against both providers."""
    return make_account(request.param)


@pytest.fixture
def save_method(organisation: Organisation, simulator: Simulator) -> Callable[..., PaymentMethod]:
    """Let the customer save a method in the provider's page, and attach it."""

    def save(customer: Customer, account: GatewayAccount, kind: str = "", **details: Any) -> PaymentMethod:
        kind = kind or ("upi" if account.provider == "razorpay" else "card")
        session = methods.start_setup(
            organisation=organisation, customer=customer, account=account, kind=kind, return_url="http://testserver/back"
        )  # fmt: skip
        if account.provider == "razorpay":
            paid = simulator.post(
                "checkout", account=account.key_id, order_id=session.order_ref, method=kind, save=True, **details
            )
            result = {name: paid[f"razorpay_{name}"] for name in ("payment_id", "order_id", "signature")}
        else:
            card = details.get("card", "4242424242424242")
            simulator.post("checkout", account=account.key_secret, setup_intent=session.setup_ref, card=card)
            result = {"setup_intent": session.setup_ref}
        return methods.attach(
            organisation=organisation, customer=customer, account=account, result=result, actor=SYSTEM
        )

    return save


@pytest.fixture
def ask(organisation: Organisation, customer: Customer) -> Callable[..., Payment]:
    """Ask for a payment."""

    def request(amount: str = "499.00", currency: str = "INR", **more: Any) -> Payment:
        given = {"customer_id": customer.pk, "reference": f"invoice:{uuid.uuid4()}"} | more
        return collection.request_payment(organisation=organisation, amount=Money(amount, currency), **given)

    return request


@pytest.fixture
def balance_of(organisation: Organisation) -> Callable[..., str]:
    """Debits less credits of a ledger account, as text."""

    def balance(account: str, currency: str = "INR") -> str:
        return f"{ledger.balance(organisation=organisation, account=account, currency=currency).amount:.2f}"

    return balance


@pytest.fixture
def published(organisation: Organisation) -> Callable[..., list[str]]:
    """Types of the events of payments so far, in order."""

    def types(prefix: str = "payment.") -> list[str]:
        rows = Event.objects.filter(organisation=organisation, type__startswith=prefix).order_by("id")
        return [row.type for row in rows]

    return types


def again(payment: Payment) -> Payment:
    """The payment as it stands in the database."""
    return Payment.objects.get(pk=payment.pk)


@pytest.fixture
def client_of():
    """A client with an API key of an organisation."""

    def make(organisation, *scopes):
        key = f"mk_{uuid.uuid4().hex}"
        ApiKey.objects.create(organisation=organisation, name="tests", prefix=key[:8], key_hash=hash_key(key),
                              scopes=list(scopes or permissions.ALL))  # fmt: skip
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        return client

    return make


@pytest.fixture
def console(organisation):
    """Sign somebody in with a role."""

    def sign_in(role, where=None):
        user = User.objects.create_user(f"{role}-{User.objects.count()}@example.com", "a long password", is_staff=True)
        Membership.objects.create(organisation=where or organisation, user=user, role=role)
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return sign_in
