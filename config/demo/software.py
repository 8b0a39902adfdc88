"""Kranich Software GmbH: a software company in Berlin. Seats and usage, in euros and dollars, by month and by year."""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from config.demo import offers
from config.demo.companies import Company, Usage
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


class SoftwareHouse:
    """The year of the software company, written into the script of its house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.companies: list[Company] = []
        self.usage = Usage(house, self.companies)

    def prepare(self) -> None:
        """Gateway, bank accounts, tax rates, and all that is on offer."""
        house = self.house
        house.open_bank("commerz-eur", "Commerzbank, euro account", "EUR")
        house.open_bank("commerz-usd", "Commerzbank, dollar account", "USD")
        start = house.script.first_day.isoformat()
        house.api.post("/tax-rates", {"category": "saas", "country": "DE", "rate": "19", "valid_from": start})
        offers.offer(house)
        for number in range(40 * house.scale):
            dollars = number % 5 < 3
            country = "US" if dollars else ("DE", "FR", "AT", "NL")[number // 5 % 4]
            plan = "team-annual" if number % 7 == 3 else "business-monthly" if number % 8 == 5 else "team-monthly"
            currency = "USD" if dollars else "EUR"
            self.companies.append(Company(number, country, currency, seats=3 + number * 7 % 22, plan=plan))

    def write(self) -> None:
        """Who joins when, and what happens to whom."""
        script, dice = self.house.script, self.house.dice
        for company in self.companies:
            joins = dice.randrange(0, 25) if dice.random() < 0.6 else dice.randrange(40, 270)
            script.on(joins, partial(self.join, company))
        for week in range(1, 52):
            script.on(week * 7, self.usage.report)
            if week % 2:
                script.on(week * 7 + 1, self.usage.export_data)
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
        self._write_trade()

    def _write_trade(self) -> None:
        """What sales and the office do beside: promises, prices, a file of usage, a correction."""
        script = self.house.script
        for day, act in (
            (16, self.usage.grant_more),
            (18, self.usage.bring_files),
            (22, self.usage.correct),
            (23, self.take_support),
            (24, self.make_up_for),
            (27, lambda: offers.raise_prices(self.house)),
            (30, lambda: offers.move_subscribers(self.house)),
        ):
            script.on(day, act)

    def _once_joined(self, company: Company, act: Callable[[Company], object]) -> None:
        if company.subscription:
            act(company)

    def join(self, company: Company) -> None:
        """Register, give a card, subscribe."""
        house = self.house
        name = f"{NAMES[company.number % len(NAMES)]} {FORMS[company.country]}"
        body: dict[str, Any] = {
            "external_id": company.name_there,
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
        self._agree_on_terms(company)
        company.subscription = self._subscribe(company, f"sub-{company.number + 1:04d}", company.seats)
        if company.has_branch:
            self._subscribe(company, f"sub-{company.number + 1:04d}-branch", 2)

    def _subscribe(self, company: Company, name: str, seats: int) -> str:
        agreed = {"external_id": name, "customer": company.id, "plan": company.plan, "currency": company.currency}
        return str(self.house.api.post("/subscriptions", agreed | {"quantity": seats, "net_days": 0})["id"])

    def _agree_on_terms(self, company: Company) -> None:
        """What some ask for before they sign: the price of Business, a discount, one invoice for all, time to look at it."""
        if company.number % 4 == 1:
            self.house.api.post("/experiments/lower-minimum/assign", {"customer": company.name_there})
        if company.number % 5 == 2:
            self.house.api.post("/applied-coupons", {"customer": company.id, "promotion_code": "WELCOME20"})
        if company.has_branch:
            self.house.api.post("/billing-terms", {"customer": company.name_there, "consolidate": True})
        if company.number % 16 == 9:
            self.house.api.post("/billing-terms", {"customer": company.name_there, "grace_days": 2})

    def _give_card(self, company: Company, number: str) -> None:
        card = {"number": number, "exp_month": 11, "exp_year": 2031, "cvc": "123"}
        company.method, company.token = self.house.add_method(
            company.id, kind="card", checkout={"method": "card", "card": card}
        )

    # --- fates ------------------------------------------------------------------------------------

    def take_support(self) -> None:
        """Three companies that pay by the month add priority support, and pay for the days that are left."""
        for company in [one for one in self.companies if one.subscription and one.plan == "team-monthly"][:3]:
            self.house.api.post(f"/subscriptions/{company.subscription}/add-ons", {"add_ons": {"support": 1}})

    def make_up_for(self) -> None:
        """A fixed amount off the next invoices of a company whose data was slow to come, until it is used up."""
        company = next(one for one in self.companies if one.subscription and one.currency == "EUR")
        self.house.api.post("/applied-coupons", {"customer": company.id, "coupon": "sorry"})

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
        live = [one for one in self.companies if one.subscription and one.plan != "team-annual"]
        for company in live[:2]:
            self._act(company, "cancel", {"when": "now", "credit": "prorated", "reason": "merged with another company"})

    def _for_one_of_two(self, act: Callable[[Company], object]) -> None:
        for company in [one for one in self.companies if one.subscription and one.plan != "team-annual"][2:10:2]:
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
        payment = self._payments()[0]
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
        payment = next(one for one in self._payments() if self._is_uncredited(one))
        self.house.give_back(payment, share=Decimal(1), reason="Goodwill after an outage")

    def _is_uncredited(self, payment: dict[str, Any]) -> bool:
        notes = self.house.api.get("/credit-notes", invoice=payment["reference"].split(":")[1])
        return not notes["results"]

    def _payments(self) -> list[dict[str, Any]]:
        """Payments of late that nobody has touched, in no order."""
        rows = self.house.api.get("/payments", status="succeeded", limit=40)["results"]
        untouched = [row for row in rows if not any(Decimal(row[name]["amount"]) for name in ("refunded", "disputed"))]
        return self.house.dice.sample(untouched, len(untouched))

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
