"""Outgoing webhooks: signed, retried, dead after three days, replayed, and never led into private networks."""

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rest_framework.test import APIClient

from billing import outgoing
from billing.clock import wall_now
from billing.models import Event, Organisation, WebhookDelivery, WebhookEndpoint
from billing.services import customers, outbox, webhooks
from billing.services.organisations import SYSTEM

Clients = Callable[..., APIClient]
REDIRECT = 302


class Receiver(BaseHTTPRequestHandler):
    """Answers as the test says and keeps what it was sent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append((dict(self.headers), body))  # type: ignore[attr-defined]
        answers = self.server.answers  # type: ignore[attr-defined]
        status = answers.pop(0) if answers else 204
        self.send_response(status)
        if status == REDIRECT:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def receiver(settings: Any) -> Iterator[Any]:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    server: Any = HTTPServer(("127.0.0.1", 0), Receiver)
    server.calls, server.answers = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/hooks?x=1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def endpoint(organisation: Organisation, receiver: Any) -> WebhookEndpoint:
    return webhooks.create_endpoint(
        organisation=organisation, url=receiver.url, event_types=["customer.created"], actor=SYSTEM
    )


def happen(organisation: Organisation, external_id: str = "c-1") -> None:
    customer = customers.create_customer(organisation=organisation, external_id=external_id, name="Asha")
    customers.update_customer(organisation=organisation, customer_id=customer.pk, name="Not asked for")
    outbox.dispatch(organisation.pk)


def make_due() -> None:
    WebhookDelivery.objects.update(next_attempt_at=wall_now() - timedelta(seconds=1))


def is_signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """As a receiver following standardwebhooks.com would check."""
    key = base64.b64decode(secret.split("_", 1)[1])
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return expected in headers["webhook-signature"].split(" ")


def test_the_events_that_were_asked_for_arrive_signed(
    organisation: Organisation, endpoint: WebhookEndpoint, receiver: Any
) -> None:
    happen(organisation)

    assert webhooks.deliver_due() == 1

    ((headers, body),) = receiver.calls
    message = json.loads(body)
    event = Event.objects.get(type="customer.created")
    assert (message["type"], message["id"], message["timestamp"]) == (
        "customer.created",
        str(event.uid),
        "2026-04-01T06:30:00+00:00",
    )
    assert message["data"]["external_id"] == "c-1"
    assert headers["webhook-id"] == f"msg_{event.uid}"
    assert abs(int(headers["webhook-timestamp"]) - wall_now().timestamp()) < 5
    assert is_signed(endpoint.secret, headers, body)
    delivery = WebhookDelivery.objects.get()
    assert (delivery.status, delivery.attempts, delivery.response_status) == ("delivered", 1, 204)


def test_in_rotation_both_secrets_sign(organisation: Organisation, endpoint: WebhookEndpoint, receiver: Any) -> None:
    old = endpoint.secret
    new = webhooks.rotate_secret(organisation=organisation, endpoint_id=endpoint.pk, actor=SYSTEM).secret
    happen(organisation)

    webhooks.deliver_due()
    WebhookEndpoint.objects.update(previous_secret_until=wall_now())
    happen(organisation, "c-2")
    webhooks.deliver_due()

    (first, second) = receiver.calls
    assert is_signed(old, *first)
    assert is_signed(new, *first)
    assert not is_signed(old, *second)
    assert is_signed(new, *second)


def test_a_failing_receiver_is_tried_for_three_days_then_the_message_is_dead(
    organisation: Organisation, endpoint: WebhookEndpoint, receiver: Any
) -> None:
    receiver.answers.extend([500, REDIRECT, 404] + [503] * 20)
    happen(organisation)
    waited = timedelta(0)

    for _ in range(10):
        assert webhooks.deliver_due() == 1
        assert webhooks.deliver_due() == 0
        delivery = WebhookDelivery.objects.get()
        if delivery.status == "pending":
            waited += delivery.next_attempt_at - wall_now()
        make_due()

    assert WebhookDelivery.objects.get().status == "dead"
    assert len(receiver.calls) == 10
    assert timedelta(days=2.5) < waited < timedelta(days=4)
    assert len({headers["webhook-id"] for headers, _ in receiver.calls}) == 1
    assert len({body for _, body in receiver.calls}) == 1

    receiver.answers.clear()
    webhooks.replay(organisation_id=organisation.pk, delivery_id=delivery.pk, actor=SYSTEM)
    assert webhooks.deliver_due() == 1
    assert WebhookDelivery.objects.get().status == "delivered"


def test_gone_switches_the_endpoint_off(organisation: Organisation, endpoint: WebhookEndpoint, receiver: Any) -> None:
    receiver.answers.append(410)
    happen(organisation)

    webhooks.deliver_due()
    happen(organisation, "c-2")

    assert WebhookDelivery.objects.get().status == "dead"
    assert WebhookEndpoint.objects.get().active is False


def test_nobody_there_is_a_failed_attempt(organisation: Organisation, endpoint: WebhookEndpoint, receiver: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        webhooks.update_endpoint(
            organisation=organisation,
            endpoint_id=endpoint.pk,
            url=f"http://127.0.0.1:{free.getsockname()[1]}/",
            actor=SYSTEM,
        )
        happen(organisation)

        webhooks.deliver_due()

    delivery = WebhookDelivery.objects.get()
    assert (delivery.status, delivery.response_status) == ("pending", None)
    assert delivery.error.startswith("No connection")


def test_an_event_makes_one_delivery_per_endpoint_however_often_it_is_handed_over(
    organisation: Organisation, endpoint: WebhookEndpoint
) -> None:
    happen(organisation)
    Event.objects.update(dispatched_at=None)
    outbox.dispatch(organisation.pk)
    webhooks.enqueue(list(Event.objects.filter(type="customer.created")))

    assert WebhookDelivery.objects.count() == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a00:1]/",
        "https://[2002:7f00:1::]/",
        "https://169.254.169.254/latest/meta-data",
        "https://10.1.2.3/",
        "https://192.168.0.1/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://user:pass@example.com/",
        "https://2130706433/",
        "https://0x7f000001/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https:///nowhere",
        "https://[::1",
        "https://example.com:99999/",
    ],
)
def test_private_addresses_are_never_called(settings: Any, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = False
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a connection was opened"))

    with pytest.raises((outgoing.AddressRefused, outgoing.CallFailed)):
        outgoing.post(url, body=b"{}", headers={})


def test_a_name_that_leads_to_a_private_address_is_refused(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = False
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443)), (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443))]  # fmt: skip  # noqa: E501
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)

    with pytest.raises(outgoing.AddressRefused):
        outgoing.resolve("https://rebound.example/")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers[:1])
    assert outgoing.resolve("https://fine.example/x?y=1").path == "/x?y=1"


def test_endpoints_through_the_api(
    organisation: Organisation, client_of: Clients, receiver: Any, settings: Any
) -> None:
    client = client_of(organisation)
    made = client.post("/api/v1/webhook-endpoints", {"url": receiver.url, "event_types": ["customer.created"]})
    assert made.status_code == 201
    assert made.json()["secret"].startswith("whsec_")
    path = f"/api/v1/webhook-endpoints/{made.json()['id']}"
    assert "secret" not in client.get(path).json()
    happen(organisation)
    (row,) = client.get("/api/v1/webhook-deliveries", {"status": "pending"}).json()["results"]
    assert client.post(f"/api/v1/webhook-deliveries/{row['id']}/replay").json()["code"] == "webhook_delivery_pending"
    webhooks.deliver_due()
    assert client.post(f"/api/v1/webhook-deliveries/{row['id']}/replay").json()["status"] == "pending"
    assert client.patch(path, {"active": False}).json()["active"] is False
    assert client.post(f"{path}/rotate-secret").json()["secret"] != made.json()["secret"]
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    settings.WEBHOOK_ALLOW_PRIVATE = False
    refused = client.post("/api/v1/webhook-endpoints", {"url": "https://169.254.169.254/"})
    assert (refused.status_code, refused.json()["code"]) == (422, "webhook_address_refused")
