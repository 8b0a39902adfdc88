"""The simulator's state file: a process that is killed goes on where it was."""

import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import razorpay
import stripe

from payments.simulator import state
from payments.simulator.__main__ import move_webhooks
from payments.simulator.app import Simulator
from payments.simulator.server import Server
from payments.simulator.state import HEADER, StateFile, StateRefused, everything
from payments.simulator.world import World
from tests.simulator.conftest import KEY_ID, KEY_SECRET, ROOT, START, STRIPE_KEY, Received, Sim
from tests.simulator.test_fuzz import RazorpayFuzz, StripeFuzz, run

Endpoint = tuple[str, Received]


class Here:
    """A simulator with a state file, in this process, so that its world can be looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.world, self.server, self.base = self._start()

    def _start(self) -> tuple[World, Server, str]:
        self.state = StateFile(self.path)
        world = World(seed=1, now=0, state=self.state)
        with world.lock:
            pass
        server = Server("127.0.0.1", 0, Simulator(world))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return world, server, f"http://127.0.0.1:{server.port}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.world.lock.close()
        self.state.close()

    def known(self) -> dict[Any, Any]:
        """All that the living world knows."""
        with self.world.lock:
            return {place: json.loads(json.dumps(value)) for place, value in everything(self.world).items()}

    def written(self) -> dict[Any, Any]:
        """All that the file holds."""
        return self.state._read()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    one = Here(tmp_path / "state.db")
    yield one
    one.stop()


@pytest.fixture
def server(here: Here) -> str:
    return here.base


def sequences(world: World) -> list[Any]:
    """What has an order: objects, events and waiting lines, oldest first."""
    return [(list(account.outbox.events), [row.parent for row in account.unsettled],
             {name: list(table) for name, table in account.store.items() if table})
            for account in world.accounts.values()]  # fmt: skip


def same_after_restart(here: Here) -> None:
    """What is known, what is written and what another process would take up are one and the same."""
    known = here.known()
    assert here.written() == known
    assert len(known) > 300
    in_order = sequences(here.world)
    here.stop()

    here.world, here.server, here.base = here._start()

    assert here.known() == known
    assert sequences(here.world) == in_order
    for account in here.world.accounts.values():
        for row in account.rows.values():
            assert account.provider == "razorpay" or row.data is account.of("balance_transactions")[row.data["id"]]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_at_razorpay_is_kept(here: Here, sim: Sim, rzp: razorpay.Client, seed: int) -> None:
    dice = random.Random(seed)
    weights = {"order": 16, "debit": 24, "checkout": 12, "refund": 12, "capture": 5, "dispute": 3, "fail_refund": 2,
               "fault": 4, "wait": 8}  # fmt: skip
    run(RazorpayFuzz(sim, rzp, dice), dice, weights)
    same_after_restart(here)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_at_stripe_is_kept(
    here: Here,
    sim: Sim,
    st: stripe.StripeClient,
    stripe_customer: stripe.Customer,
    saved_card: Callable[[], str],
    seed: int,
) -> None:
    dice = random.Random(seed)
    weights = {"charge": 30, "capture": 6, "cancel": 3, "refund": 12, "dispute": 3, "fail_payout": 2, "fault": 4,
               "wait": 8}  # fmt: skip
    run(StripeFuzz(sim, st, stripe_customer.id, saved_card(), dice), dice, weights)
    sim.call("DELETE", "/_sim/faults")
    st.v1.payment_methods.detach(saved_card())
    st.v1.customers.delete(stripe_customer.id)
    same_after_restart(here)


def test_what_is_reset_is_gone(here: Here, sim: Sim, rzp: razorpay.Client, order: Callable[..., Any]) -> None:
    order()
    sim.post("/_sim/reset", {"seed": 3, "now": START})

    assert here.written() == here.known()
    assert len(here.written()) == 1  # the counters


def test_a_second_simulator_may_not_use_the_file(here: Here) -> None:
    with pytest.raises(StateRefused, match="Another simulator"):
        StateFile(here.path)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b'{"gateway simulator": 77}\n', "not written by this version"), (b"SQLite format 3\0\n", "not written by"),
     (HEADER + b"[[1,\n", "damaged"), (b"mine", "not written by")],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "state").write_bytes(content)

    with pytest.raises(StateRefused, match=says):
        World(seed=1, now=0, state=StateFile(tmp_path / "state"))

    assert (tmp_path / "state").read_bytes() == content


def test_a_line_that_was_not_ended_is_dropped(here: Here, sim: Sim, rzp: razorpay.Client) -> None:
    made = rzp.customer.create({"name": "A", "email": "a@example.in", "contact": "+91"})
    known = here.known()
    here.stop()
    with here.path.open("ab") as file:
        file.write(b'[["","world","counters",{"now":7')

    here.world, here.server, here.base = here._start()

    assert here.known() == known
    assert here.world.find_account(KEY_ID).of("customers").peek(made["id"])["name"] == "A"


def test_the_file_is_written_anew_when_it_has_grown(
    here: Here, sim: Sim, rzp: razorpay.Client, order: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "ROOM", 20_000)
    paid = order()
    sizes = []
    for number in range(200):
        rzp.order.edit(paid["id"], {"notes": {"n": str(number)}})
        sizes.append(here.path.stat().st_size)

    assert max(sizes) < 20_000 + 4 * min(sizes) + 2_000
    assert sizes != sorted(sizes), "it never shrank"
    assert here.written() == here.known()


def test_webhooks_follow_the_merchant_who_moved(here: Here, sim: Sim, rzp: razorpay.Client) -> None:
    sim.post("/_sim/webhooks", {"webhook_url": "http://127.0.0.1:80/in/1", "webhook_events": ["x"]})
    (account,) = here.world.accounts.values()

    move_webhooks(here.world, "http://127.0.0.1:8", "http://127.0.0.1:9")
    assert account.endpoint.url == "http://127.0.0.1:80/in/1"

    move_webhooks(here.world, "http://127.0.0.1:80/", "http://127.0.0.1:9090")
    assert account.endpoint.url == "http://127.0.0.1:9090/in/1"
    assert here.known() == here.written()


class Process:
    """A simulator with a state file as a process of its own, to be killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start()

    def start(self) -> str:
        command = [sys.executable, "-m", "payments.simulator", "--port", "0", "--now", START, "--state", self.path]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.sim = Sim(line.split()[3].rstrip(","))
        return line

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(5) == -signal.SIGKILL


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    one = Process(tmp_path / "sim" / "state.db")
    yield one
    one.process.kill()
    one.process.wait(5)


def test_a_killed_razorpay_goes_on_where_it_was(process: Process, endpoint: Endpoint) -> None:
    url, received = endpoint
    received.answer = lambda number: 503  # the merchant is down
    sim = process.sim
    sim.post("/_sim/accounts", {"provider": "razorpay", "key_id": KEY_ID, "key_secret": KEY_SECRET, "name": "Asha"})
    rzp = razorpay.Client(auth=(KEY_ID, KEY_SECRET), base_url=sim.base)
    customer = rzp.customer.create({"name": "A", "email": "a@example.in", "contact": "+91"})["id"]
    token = sim.post("/_sim/tokens", {"account": KEY_ID, "customer_id": customer, "method": "upi"})["id"]
    sim.post(f"/_sim/tokens/{token}", {"behaviour": ["ok", "insufficient_funds"]})
    sim.post("/_sim/webhooks", {"webhook_url": url, "webhook_secret": "s", "quick_retries": 0, "duplicate": 2})
    sim.post("/_sim/faults", {"method": "DELETE", "path": "/never", "kind": "503"})

    def debit(receipt: str) -> Any:
        order = rzp.order.create({"amount": 50_000, "currency": "INR", "receipt": receipt, "unique_receipt": True})
        return rzp.payment.createRecurring({"email": "a@example.in", "contact": "+91", "amount": 50_000, "currency": "INR",
                                            "order_id": order["id"], "customer_id": customer, "token": token})  # fmt: skip

    payment = debit("one")["razorpay_payment_id"]
    key = {"X-Refund-Idempotency": "refund-key-1"}
    refund = rzp.payment.refund(payment, {"amount": 20_000}, headers=key)
    sim.settle_events()  # all are waiting for the virtual clock now
    before = [sim.get(path) for path in ("/_sim/accounts", "/_sim/clock", "/_sim/ledger", "/_sim/faults")]
    told = rzp.payment.fetch(payment)
    process.kill()

    line = process.start()
    sim, rzp = process.sim, razorpay.Client(auth=(KEY_ID, KEY_SECRET), base_url=process.sim.base)

    assert "entries taken up" in line
    assert [sim.get(path) for path in ("/_sim/accounts", "/_sim/clock", "/_sim/ledger", "/_sim/faults")] == before
    assert rzp.payment.fetch(payment) == told
    assert rzp.payment.refund(payment, {"amount": 20_000}, headers=key) == refund
    assert len(rzp.payment.fetch_multiple_refund(payment)["items"]) == 1
    assert (
        rzp.order.create({"amount": 50_000, "currency": "INR", "receipt": "one", "unique_receipt": True})["id"]
        == told["order_id"]
    )
    with pytest.raises(razorpay.errors.BadRequestError):  # the second programmed outcome
        debit("two")
    assert debit("three")["razorpay_payment_id"] not in {payment, None}
    received.requests.clear()
    received.answer = lambda number: 200
    sim.advance(minutes=3)
    assert sim.settle_events() == {"delivered": len(sim.get("/_sim/webhooks")["events"]) - 1, "unsent": 1}
    assert {"payment.captured", "refund.processed"} <= set(received.kinds)
    sim.advance(days=4)
    (settlement,) = rzp.settlement.all()["items"]
    assert settlement["amount"] == sum(
        row["credit"] - row["debit"] for row in rzp.settlement.report({"year": 2025, "month": 4, "count": 100})["items"]
    )


def test_a_killed_stripe_sends_what_it_had_not_sent(process: Process, endpoint: Endpoint) -> None:
    url, received = endpoint
    sim = process.sim
    sim.post("/_sim/accounts", {"provider": "stripe", "key_id": "pk", "key_secret": STRIPE_KEY, "webhook_url": url,
                                "webhook_secret": "s"})  # fmt: skip
    sim.post("/_sim/webhooks", {"delay_ms": 60_000})  # nothing leaves before the kill
    st = stripe.StripeClient(STRIPE_KEY, base_addresses={"api": sim.base}, max_network_retries=0)
    customer = st.v1.customers.create({"email": "a@example.com"}).id
    card = st.v1.payment_methods.attach("pm_card_visa", {"customer": customer}).id
    given: Any = {"amount": 900, "currency": "eur", "customer": customer, "payment_method": card, "confirm": True,
                  "off_session": True}  # fmt: skip
    intent = st.v1.payment_intents.create(given, {"idempotency_key": "k1"})
    session = st.v1.checkout.sessions.create({"mode": "setup", "customer": customer, "currency": "eur",
                                              "success_url": "http://shop.example/"})  # fmt: skip
    events = sim.get("/_sim/webhooks")["events"]
    process.kill()
    assert received.requests == []

    process.start()
    sim, st = process.sim, stripe.StripeClient(STRIPE_KEY, base_addresses={"api": process.sim.base})

    assert sim.settle_events() == {"delivered": len(events)}
    assert sorted(received.kinds) == sorted(event["type"] for event in events)
    assert st.v1.payment_intents.create(given, {"idempotency_key": "k1"}).id == intent.id
    assert len(st.v1.payment_intents.list().data) == 1
    sim.post("/_sim/pay", {"id": session.id})
    assert st.v1.checkout.sessions.retrieve(session.id).status == "complete"
    assert st.v1.refunds.create({"payment_intent": intent.id}).amount == 900
    second = st.v1.payment_intents.create(given, {"idempotency_key": "k2"})
    assert second.id != intent.id
    sim.advance(days=7)
    (payout,) = st.v1.payouts.list().data
    assert payout.status == "paid"
    process.process.terminate()
    assert process.process.wait(5) == 0
