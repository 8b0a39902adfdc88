"""Kranich Software GmbH: a software company in Berlin. Seats and usage, in euros and dollars, by month and by year."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from config.demo.household import House
from config.demo.registrations import vat_id

NAMES = [
    "Alder",
    "Birch",
    "Cedar",
    "Dogwood",
    "Elm",
    "Fir",
    "Gingko",
    "Hazel",
    "Ivy",
    "Juniper",
    "Katsura",
    "Larch",
    "Maple",
    "Nettle",
    "Oak",
    "Pine",
    "Quince",
    "Rowan",
    "Spruce",
    "Teak",
    "Umbra",
    "Vetch",
    "Willow",
    "Xylia",
    "Yew",
    "Zelkova",
    "Acacia",
    "Beech",
    "Cypress",
    "Dahlia",
]
FORMS = {"US": "Inc.", "FR": "SARL", "AT": "GmbH", "DE": "GmbH", "NL": "B.V."}


@dataclass
class Company:
    """One customer: where it sits, how many seats, how much it calls the interface."""

    number: int
    country: str
    currency: str
    seats: int
    annual: bool
    id: str = ""
    token: str = ""
    method: str = ""
    subscription: str = ""
    calls: int = 0


class SoftwareHouse:
    """The year of the software company, written into the script of its house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.companies: list[Company] = []

    def prepare(self) -> None:
        """Gateway, bank accounts, tax rates, the meter, the plans."""
        house = self.house
        house.open_bank("commerz-eur", "Commerzbank, euro account", "EUR")
        house.open_bank("commerz-usd", "Commerzbank, dollar account", "USD")
        start = house.script.first_day.isoformat()
        house.api.post("/tax-rates", {"category": "saas", "country": "DE", "rate": "19", "valid_from": start})
        house.api.post("/meters", {"code": "api-calls", "name": "API calls", "aggregation": "sum", "unit": "call"})
        self._plan("team-monthly", "Team, monthly", "month", 14, {"EUR": "25", "USD": "28"})
        self._plan("team-annual", "Team, annual", "year", 0, {"EUR": "250", "USD": "280"})
        for number in range(40 * house.scale):
            dollars = number % 5 < 3
            country = "US" if dollars else ("DE", "FR", "AT", "NL")[number // 5 % 4]
            self.companies.append(
                Company(number, country, "USD" if dollars else "EUR", seats=3 + number * 7 % 22, annual=number % 7 == 3)
            )

    def _plan(self, code: str, name: str, interval: str, trial: int, seat: dict[str, str]) -> None:
        prices: list[dict[str, Any]] = []
        for currency, price in seat.items():
            prices.append(
                {
                    "code": "seat",
                    "name": "Seats",
                    "currency": currency,
                    "model": "per_unit",
                    "unit_price": price,
                    "unit": "seat",
                    "tax_category": "saas",
                }
            )
            prices.append(
                {
                    "code": "api-calls",
                    "name": "API calls",
                    "currency": currency,
                    "model": "graduated",
                    "meter": "api-calls",
                    "unit": "call",
                    "tax_category": "saas",
                    "tiers": [
                        {"up_to": "10000", "unit_price": "0", "flat_fee": "0"},
                        {"up_to": "100000", "unit_price": "0.002", "flat_fee": "0"},
                        {"up_to": None, "unit_price": "0.0009", "flat_fee": "0"},
                    ],
                }
            )
        self.house.api.post(
            "/plans",
            {
                "code": code,
                "name": name,
                "interval": interval,
                "interval_count": 1,
                "trial_days": trial,
                "versions": [{"prices": prices}],
            },
        )

    def write(self) -> None:
        """Who joins when, and what happens to whom."""
        script, dice = self.house.script, self.house.dice
        for company in self.companies:
            joins = dice.randrange(0, 25) if dice.random() < 0.6 else dice.randrange(40, 270)
            script.on(joins, partial(self.join, company))
        for week in range(1, 52):
            script.on(week * 7, self.report_usage)
        acts: list[Any] = [
            self.add_seats,
            self.short_of_funds,
            self.lost_card,
            self.needs_3ds,
            self.remove_seats,
            self.leave,
        ]
        for index, company in enumerate(self.companies):
            if index % 3 == 1:
                act = acts[index // 3 % len(acts)]
                script.on(280 + index % 60, partial(self._once_joined, company, act))
            if index % 8 == 2:
                script.on(120 + index % 100, partial(self._once_joined, company, self.short_of_funds))
        script.on(32, self.leave_at_once)
        for first_on, outcome in ((36, "lost"), (210, "won")):
            script.on(first_on, partial(self.dispute_one, outcome, first_on + 40))
        for day in (40, 230):
            script.on(day, self.refund_one)
        script.on(20, lambda: self._for_one_of_two(self.short_of_funds))

    def _once_joined(self, company: Company, act: Callable[[Company], object]) -> None:
        if company.subscription:
            act(company)

    def join(self, company: Company) -> None:
        """Register, give a card, subscribe."""
        house = self.house
        name = f"{NAMES[company.number % len(NAMES)]} {FORMS[company.country]}"
        body: dict[str, Any] = {
            "external_id": f"company-{company.number + 1:04d}",
            "name": name,
            "email": f"accounts{company.number + 1}@{NAMES[company.number % len(NAMES)].lower()}.example",
            "currency": company.currency,
            "address": {
                "line1": f"{company.number + 1} Main Street",
                "city": "Springfield",
                "postal_code": "10115",
                "country": company.country,
            },
        }
        if company.country != "US":
            body["tax_ids"] = {"vat": vat_id(company.country, company.number)}
        company.id = house.api.post("/customers", body)["id"]
        self._give_card(company, "4242424242424242" if company.number % 2 else "5555555555554444")
        subscription = house.api.post(
            "/subscriptions",
            {
                "external_id": f"sub-{company.number + 1:04d}",
                "customer": company.id,
                "plan": "team-annual" if company.annual else "team-monthly",
                "currency": company.currency,
                "quantity": company.seats,
                "net_days": 0,
            },
        )
        company.subscription = subscription["id"]

    def _give_card(self, company: Company, number: str) -> None:
        card = {"number": number, "exp_month": 11, "exp_year": 2031, "cvc": "123"}
        company.method, company.token = self.house.add_method(
            company.id, kind="card", checkout={"method": "card", "card": card}
        )

    def report_usage(self) -> None:
        """A week of usage of every company, in batches, as its own application would send it."""
        events: list[dict[str, Any]] = []
        for company in self.companies:
            if not company.subscription:
                continue
            for hour in range(5):
                company.calls += 1
                at = self.house.today - timedelta(days=hour + 1)
                events.append(
                    {
                        "event_id": f"calls-{company.number + 1}-{company.calls}",
                        "meter": "api-calls",
                        "customer": f"company-{company.number + 1:04d}",
                        "quantity": str(self.house.dice.randrange(50, 900) * (1 + company.number % 9)),
                        "occurred_at": f"{at.isoformat()}T11:00:00Z",
                        "properties": {"region": "eu" if company.currency == "EUR" else "us"},
                    }
                )
        for start in range(0, len(events), 500):
            self.house.api.post("/usage-events/batch", {"events": events[start : start + 500]})

    # --- fates ------------------------------------------------------------------------------------

    def add_seats(self, company: Company) -> None:
        """More seats now, prorated."""
        self._change(company, {"quantity": company.seats + 4, "when": "now"})

    def remove_seats(self, company: Company) -> None:
        """Fewer seats from the next period."""
        self._change(company, {"quantity": max(1, company.seats - 2), "when": "period_end"})

    def leave(self, company: Company) -> None:
        """Cancels: half of them at the end of the period, half at once with a credit for the days left."""
        ways = {"when": "period_end"}, {"when": "now", "credit": "prorated"}
        self._act(company, "cancel", ways[company.number // 2 % 2] | {"reason": "switched to another product"})

    def leave_at_once(self) -> None:
        """Two companies that pay by the month end in the middle of one and get the rest of it back."""
        live = [one for one in self.companies if one.subscription and not one.annual]
        for company in live[:2]:
            self._act(company, "cancel", {"when": "now", "credit": "prorated", "reason": "merged with another company"})

    def _for_one_of_two(self, act: Callable[[Company], object]) -> None:
        for company in [one for one in self.companies if one.subscription and not one.annual][2:10:2]:
            act(company)

    def short_of_funds(self, company: Company) -> None:
        """Two refusals that heal."""
        self.house.behave(company.token, ["insufficient_funds", "insufficient_funds"])

    def lost_card(self, company: Company) -> None:
        """A hard decline; the company gives another card three weeks later."""
        self.house.behave(company.token, ["lost_card"] * 20)
        day = (self.house.today - self.house.script.first_day).days
        self.house.script.on(min(day + 45, 355), lambda: self._give_card_and_use_it(company))

    def needs_3ds(self, company: Company) -> None:
        """The bank wants the customer to confirm the next charge."""
        self.house.behave(company.token, ["authentication_required"])

    def dispute_one(self, outcome: str, decided_on: int) -> None:
        """One payer contests a charge; the bank decides on a later day, for or against the house."""
        payment = self._some_payment()
        dispute = self.house.simulator.post(
            "/_sim/disputes", {"account": self.house.account, "charge": payment["gateway_ref"], "reason": "fraudulent"}
        )
        self.house.script.on(
            decided_on,
            lambda: self.house.simulator.post(
                f"/_sim/disputes/{dispute['id']}/close", {"account": self.house.account, "outcome": outcome}
            ),
        )

    def refund_one(self) -> None:
        """A goodwill refund of one payment, whole."""
        self.house.give_back(self._some_payment(), share=Decimal(1), reason="Goodwill after an outage")

    def _some_payment(self) -> dict[str, Any]:
        rows = self.house.api.get("/payments", status="succeeded", limit=40)["results"]
        untouched = [
            row
            for row in rows
            if row["refunded"]["amount"] in ("0", "0.00") and row["disputed"]["amount"] in ("0", "0.00")
        ]
        return self.house.dice.choice(untouched)

    def _give_card_and_use_it(self, company: Company) -> None:
        self._give_card(company, "4242424242424242")
        self.house.api.post(f"/payment-methods/{company.method}/default")

    def _change(self, company: Company, change: dict[str, Any]) -> None:
        company.seats = change.get("quantity", company.seats)
        self._act(company, "change", change)

    def _act(self, company: Company, action: str, body: dict[str, Any]) -> None:
        now = self.house.api.get(f"/subscriptions/{company.subscription}")
        if now["status"] in ("active", "past_due"):
            self.house.api.post(f"/subscriptions/{company.subscription}/{action}", body)
