"""One simulator process for all tests of a worker; every test starts with an empty world of the same seed."""

import http.server
import itertools
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import razorpay
import stripe

ROOT = Path(__file__).resolve().parents[2]
START = "2025-04-01T06:00:00Z"
KEY_ID, KEY_SECRET, STRIPE_KEY = "rzp_test_key", "rzp_test_secret", "sk_test_51simulator"


class Sim:
    """The control API of a running simulator."""

    def __init__(self, base: str) -> None:
        self.base = base

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def get(self, path: str) -> Any:
        status, body = self.call("GET", path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, body: Any = None, *, status: int = 200) -> Any:
        got, answer = self.call("POST", path, body or {})
        assert got == status, answer
        return json.loads(answer)

    def advance(self, **span: int) -> int:
        seconds = sum(value * {"minutes": 60, "hours": 3600, "days": 86_400}[unit] for unit, value in span.items())
        return int(self.post("/_sim/clock", {"advance_seconds": seconds})["unix"])

    def truth(self, account: str) -> Any:
        return next(iter(self.get(f"/_sim/ledger/{account}")["accounts"].values()))

    def settle_events(self) -> dict[str, int]:
        """Wait until nothing is queued; the events by state."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            answer = self.get("/_sim/webhooks/pending")
            if answer["pending"] == 0:
                return answer["events"]
            time.sleep(0.01)
        raise AssertionError("webhooks are still pending")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "payments.simulator", "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    yield line.split()[3].rstrip(",")
    process.terminate()
    assert process.wait(5) == 0


@pytest.fixture
def sim(server: str) -> Sim:
    control = Sim(server)
    control.post("/_sim/reset", {"seed": 7})
    return control


@pytest.fixture
def at_start(sim: Sim) -> Sim:
    """The same, on the first of April 2025 (a bank holiday) at 11:30 in India."""
    sim.post("/_sim/reset", {"seed": 7, "now": START})
    return sim


@pytest.fixture
def rzp(at_start: Sim) -> razorpay.Client:
    at_start.post("/_sim/accounts", {"provider": "razorpay", "key_id": KEY_ID, "key_secret": KEY_SECRET})
    return razorpay.Client(auth=(KEY_ID, KEY_SECRET), base_url=at_start.base)


@pytest.fixture
def st(at_start: Sim) -> stripe.StripeClient:
    at_start.post("/_sim/accounts", {"provider": "stripe", "key_id": "pk_test", "key_secret": STRIPE_KEY})
    return stripe.StripeClient(STRIPE_KEY, base_addresses={"api": at_start.base}, max_network_retries=0)


@pytest.fixture
def order(rzp: razorpay.Client) -> Callable[..., Any]:
    numbers = itertools.count(1)

    def make(amount: int = 50_000, **fields: Any) -> Any:
        body = {"amount": amount, "currency": "INR", "receipt": f"r-{next(numbers)}", "unique_receipt": True, **fields}
        return rzp.order.create(body)

    return make


@pytest.fixture
def customer(rzp: razorpay.Client) -> Any:
    return rzp.customer.create({"name": "Asha", "email": "asha@example.in", "contact": "+919876543210"})


@pytest.fixture
def token(sim: Sim, rzp: razorpay.Client, customer: Any) -> str:
    made = sim.post("/_sim/tokens", {"account": KEY_ID, "customer_id": customer["id"], "method": "card"})
    return str(made["id"])


@pytest.fixture
def debit(rzp: razorpay.Client, customer: Any, order: Callable[..., Any]) -> Callable[..., Any]:
    """Charge a token for a new order; returns the payment."""

    def charge(token_id: str, amount: int = 50_000, into: Any = None) -> Any:
        target = into or order(amount)
        answer = rzp.payment.createRecurring({
            "email": "asha@example.in", "contact": "+919876543210", "amount": target["amount"],
            "currency": "INR", "order_id": target["id"], "customer_id": customer["id"], "token": token_id,
            "recurring": "1",
        })  # fmt: skip
        return rzp.payment.fetch(answer["razorpay_payment_id"])

    return charge


@pytest.fixture
def stripe_customer(st: stripe.StripeClient) -> stripe.Customer:
    return st.v1.customers.create({"email": "ada@example.com"})


@pytest.fixture
def saved_card(st: stripe.StripeClient, stripe_customer: stripe.Customer) -> Callable[[str], str]:
    def save(alias: str = "pm_card_visa") -> str:
        return st.v1.payment_methods.attach(alias, {"customer": stripe_customer.id}).id

    return save


@pytest.fixture
def charge(st: stripe.StripeClient, stripe_customer: stripe.Customer) -> Callable[..., stripe.PaymentIntent]:
    def make(method: str, amount: int = 5_000, currency: str = "usd", **fields: Any) -> stripe.PaymentIntent:
        options = fields.pop("options", {})
        return st.v1.payment_intents.create(
            {"amount": amount, "currency": currency, "customer": stripe_customer.id, "payment_method": method,
             "confirm": True, "off_session": True, **fields}, options,
        )  # fmt: skip

    return make


class Received:
    """What a webhook endpoint got, in order."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[int], int] = lambda number: 200
        self.pause = 0.0

    @property
    def kinds(self) -> list[str]:
        return [json.loads(body).get("event") or json.loads(body)["type"] for _, body in self.requests]


@pytest.fixture
def endpoint() -> Iterator[tuple[str, Received]]:
    received = Received()
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                received.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
                number = len(received.requests)
            time.sleep(received.pause)
            self.send_response(received.answer(number))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook", received
    server.shutdown()
    server.server_close()
