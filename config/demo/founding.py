"""Founding the two organisations: what an operator does once with ``manage.py``, through the same services."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from datetime import time as clock_time
from random import Random
from typing import Any

from billing import permissions
from billing.models import Role, TestClock, User
from billing.services import organisations
from config.demo.household import House
from config.demo.http import Api, Simulator
from config.demo.school import School
from config.demo.script import Script
from config.demo.software import SoftwareHouse

PASSWORD = "munim-demo-2025"  # noqa: S105  (of the demo's people, printed on purpose)
OPERATOR = "operator@munim.example"
SCHOOL, SOFTWARE = "shanti.example", "kranich.example"  # where the mail of their people goes

WEBHOOKS = {"duplicate": 2, "duplicate_every": 4, "lose": 23, "reorder": True}
"""Every fourth event twice, every 23rd not at all, in any order."""
RAZORPAY_EVENTS = [
    "payment.captured",
    "payment.failed",
    "payment_link.paid",
    "refund.processed",
    "refund.failed",
    "payment.dispute.created",
    "payment.dispute.won",
    "payment.dispute.lost",
    "token.cancelled",
    "settlement.processed",
]
STRIPE_EVENTS = [
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "checkout.session.completed",
    "charge.refunded",
    "refund.updated",
    "charge.dispute.created",
    "charge.dispute.closed",
    "payout.paid",
]


@dataclass(frozen=True)
class Life:
    """A house and the plot it lives."""

    house: House
    plot: Any


def found(*, simulator: Simulator, public_url: str, first_day: date, scale: int, seed: int) -> list[Life]:
    """Create both organisations with their people and keys, set up their offices, and write their scripts."""
    start = datetime.combine(first_day, clock_time(0), tzinfo=UTC)
    simulator.post("/_sim/reset", {"now": start.isoformat(), "seed": seed})
    lives = []
    for make in (_school, _software):
        house, plot = make(simulator, public_url, first_day, start, scale, seed)
        house.today = first_day
        plot.prepare()
        plot.write()
        lives.append(Life(house, plot))
    _operator()
    return lives


def address_of(role: str, domain: str) -> str:
    """The mail address by which a house's person of this role signs in."""
    return f"{role}@{domain}"


def logins_text() -> str:
    """Who can sign in to the console, and how."""
    lines = [f"[bold]Console logins[/bold] (password for all of them: [cyan]{PASSWORD}[/cyan])"]
    lines += [f"  {role:10}{address_of(role, SCHOOL):26}{address_of(role, SOFTWARE)}" for role in Role.values]
    lines.append(f"  {'operator':10}{OPERATOR} (sees both organisations)")
    return "\n".join(lines)


def _school(
    simulator: Simulator, public_url: str, first_day: date, start: datetime, scale: int, seed: int
) -> tuple[House, School]:
    house = _house(
        simulator,
        public_url,
        first_day,
        start,
        scale,
        seed,
        provider="razorpay",
        domain=SCHOOL,
        organisation={
            "code": "shanti-vidyalaya",
            "name": "Shanti Vidyalaya",
            "currency": "INR",
            "country": "IN",
            "region": "29",
            "time_zone": "Asia/Kolkata",
            "financial_year_start": 4,
            "language": "en",
            "details": {
                "name": "Shanti Vidyalaya Trust",
                "email": "accounts@shanti.example",
                "phone": "+918022334455",
                "address": {
                    "line1": "14, 3rd Cross, Jayanagar",
                    "city": "Bengaluru",
                    "region": "29",
                    "postal_code": "560041",
                    "country": "IN",
                },
                "tax_ids": {"gstin": gstin("29AABTS4417R1Z")},
                "upi_id": "shantividyalaya@hdfcbank",
                "bank": {"name": "HDFC Bank", "account": "50100044174417", "ifsc": "HDFC0000417"},
            },
            "settings": {"invoice_series": "SV", "credit_note_series": "SVC"},
        },
    )
    house.open_gateway(
        public_url=public_url,
        key_id="rzp_test_shanti",
        key_secret="shanti-secret",  # noqa: S106  (known to the simulator only)
        webhook_secret="whsec-shanti",  # noqa: S106
        currency="INR",
    )
    house.simulator.post("/_sim/webhooks", WEBHOOKS | {"account": house.account, "webhook_events": RAZORPAY_EVENTS})
    return house, School(house)


def _software(
    simulator: Simulator, public_url: str, first_day: date, start: datetime, scale: int, seed: int
) -> tuple[House, SoftwareHouse]:
    house = _house(
        simulator,
        public_url,
        first_day,
        start,
        scale,
        seed + 1,
        provider="stripe",
        domain=SOFTWARE,
        organisation={
            "code": "kranich-software",
            "name": "Kranich Software GmbH",
            "currency": "EUR",
            "country": "DE",
            "region": "",
            "time_zone": "Europe/Berlin",
            "financial_year_start": 1,
            "language": "en",
            "details": {
                "name": "Kranich Software GmbH",
                "email": "billing@kranich.example",
                "phone": "+493012345678",
                "address": {
                    "line1": "Kranichweg 7",
                    "city": "Berlin",
                    "region": "",
                    "postal_code": "10115",
                    "country": "DE",
                },
                "tax_ids": {"vat": "DE136695976"},
                "bank": {"name": "Commerzbank", "iban": "DE89370400440532013000", "bic": "COBADEFFXXX"},
            },
            "settings": {"invoice_series": "KS", "credit_note_series": "KSC"},
        },
    )
    house.open_gateway(
        public_url=public_url,
        key_id="pk_test_kranich",
        key_secret="sk_test_kranich",  # noqa: S106  (known to the simulator only)
        webhook_secret="whsec_kranich",  # noqa: S106
        currency="EUR",
    )
    house.simulator.post("/_sim/webhooks", WEBHOOKS | {"account": house.account, "webhook_events": STRIPE_EVENTS})
    return house, SoftwareHouse(house)


def _house(
    simulator: Simulator,
    public_url: str,
    first_day: date,
    start: datetime,
    scale: int,
    seed: int,
    *,
    provider: str,
    domain: str,
    organisation: dict[str, Any],
) -> House:
    clock = TestClock.objects.create(name=f"{organisation['code']} lives a year", now=start)
    created = organisations.create_organisation(**organisation, test_clock=clock)
    for role in Role:
        organisations.add_member(
            organisation=created, email=address_of(role, domain), role=role, password=PASSWORD, name=str(role.label)
        )
    _, key = organisations.create_api_key(organisation=created, name="demo", scopes=sorted(permissions.ALL))
    return House(
        code=organisation["code"],
        api=Api(public_url, key),
        simulator=Simulator(simulator.base),
        script=Script(first_day),
        dice=Random(seed),  # noqa: S311  (dice of a play)
        scale=scale,
        clock_id=str(clock.pk),
        provider=provider,
    )


def _operator() -> None:
    if not User.objects.filter(email=OPERATOR).exists():
        User.objects.create_superuser(OPERATOR, PASSWORD, name="Operator")


def gstin(body: str) -> str:
    """A well-formed GSTIN from its first 14 characters: the check character is computed (base 36, weights 1 and 2)."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    total = 0
    for index, sign in enumerate(body):
        product = alphabet.index(sign) * (1 + index % 2)
        total += product // 36 + product % 36
    return body + alphabet[(36 - total % 36) % 36]
