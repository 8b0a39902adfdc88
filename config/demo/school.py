"""Shanti Vidyalaya: a school in Bengaluru. Families, meals by day, week and month, robotics, the annual fee in four parts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from config.demo.household import House

SURNAMES = [
    "Rao",
    "Iyer",
    "Sharma",
    "Patil",
    "Nair",
    "Reddy",
    "Gowda",
    "Banerjee",
    "Kulkarni",
    "Menon",
    "Shetty",
    "Das",
    "Joshi",
    "Pillai",
    "Hegde",
    "Bhat",
    "Kapoor",
    "Chatterjee",
    "Naidu",
    "Desai",
]
FIRST = [
    "Aarav",
    "Diya",
    "Vihaan",
    "Ananya",
    "Arjun",
    "Ishaan",
    "Kavya",
    "Rohan",
    "Meera",
    "Kabir",
    "Saanvi",
    "Aditya",
    "Nisha",
    "Dev",
    "Tara",
    "Reyansh",
    "Anika",
    "Neel",
    "Riya",
    "Ira",
]
PARENTS = [
    "Lakshmi",
    "Suresh",
    "Priya",
    "Anil",
    "Deepa",
    "Ramesh",
    "Sunita",
    "Vikram",
    "Asha",
    "Mohan",
    "Kavita",
    "Sanjay",
    "Rekha",
    "Arun",
    "Geeta",
    "Prakash",
]
CARDS = ("4100280000001007", "5500670000001002", "6527658900001005")
SUMMER = 45  # day on which the first summer holidays begin: some pause
HOLIDAYS = timedelta(days=28)


@dataclass
class Family:
    """One family: how it pays, and what its students eat."""

    number: int
    id: str = ""
    kind: str = "upi"
    method: str = ""
    token: str = ""
    students: list[str] = field(default_factory=list)
    monthly_eaters: int = 0
    meals: list[str] = field(default_factory=list)


class School:
    """The year of the school, written into the script of its house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.families: list[Family] = []

    def prepare(self) -> None:
        """What the office sets up before the first day: gateway, bank, tax rates, plans, the dunning policy."""
        house = self.house
        house.open_bank("hdfc", "HDFC Bank, current account", "INR")
        start = house.script.first_day.isoformat()
        for category, rate, code, reason in (
            ("meals", "5", "996333", ""),
            ("activities", "18", "999293", ""),
            ("tuition", "0", "999210", "Educational services by a school: exempt (Notification 12/2017, entry 66)"),
        ):
            house.api.post(
                "/tax-rates",
                {
                    "category": category,
                    "country": "IN",
                    "rate": rate,
                    "code": code,
                    "exemption_reason": reason,
                    "valid_from": start,
                },
            )
        for code, name, interval, trial, price, category in (
            ("meals-monthly", "School meals, monthly", "month", 7, "3200", "meals"),
            ("meals-weekly", "School meals, weekly", "week", 0, "850", "meals"),
            ("meals-daily", "School meals, daily", "day", 0, "180", "meals"),
            ("robotics", "Robotics club", "month", 0, "1500", "activities"),
        ):
            self._plan(code, name, interval, trial, price, category)
        self._offers()
        for number in range(60 * house.scale):
            self.families.append(Family(number))

    def _offers(self) -> None:
        """Reminders by letter and by text, two months at a tenth less for who knows the word, and a tenth for siblings."""
        post = self.house.api.post
        stages = [
            {"after_days": 1, "actions": ["mail:reminder_1", "sms:reminder_1"]},
            {"after_days": 5, "actions": ["mail:reminder_2"]},
            {"after_days": 10, "actions": ["mail:final_notice", "sms:final_notice", "suspend"]},
            {"after_days": 21, "actions": ["cancel", "write_off"]},
        ]
        post("/dunning-policies", {"code": "school", "stages": stages, "is_default": True})
        offer = {"code": "welcome", "name": "Welcome", "kind": "percent", "percent": "10"}
        post("/coupons", offer | {"duration": "periods", "periods": 2})
        post("/promotion-codes", {"code": "WELCOME", "coupon": "welcome", "first_subscription_only": True})
        siblings = {"code": "siblings", "name": "Sibling discount", "kind": "percent", "percent": "10"}
        post("/coupons", siblings | {"duration": "forever", "plans": ["meals-monthly"]})

    def _plan(self, code: str, name: str, interval: str, trial: int, price: str, category: str) -> None:
        self.house.api.post(
            "/plans",
            {
                "code": code,
                "name": name,
                "interval": interval,
                "interval_count": 1,
                "trial_days": trial,
                "versions": [
                    {
                        "prices": [
                            {
                                "code": code,
                                "name": name,
                                "currency": "INR",
                                "model": "per_unit",
                                "unit_price": price,
                                "unit": "student",
                                "tax_category": category,
                            }
                        ],
                    }
                ],
            },
        )

    def write(self) -> None:
        """Who joins when, and what happens to whom."""
        script, dice = self.house.script, self.house.dice
        for family in self.families:
            joins = dice.randrange(0, 20) if dice.random() < 0.8 else dice.randrange(60, 250)
            script.on(joins, partial(self.join, family))
        for number, families in enumerate(_groups(self.families, 12)):
            self._fate(number, families)
        script.on(25, partial(self._for_some, 4, lambda family: self.soft_declines(family, ["insufficient_funds"])))
        script.on(26, partial(self._for_some, 3, lambda family: self.soft_declines(family, ["late:600"])))
        script.on(21, partial(self._for_some, 9, partial(self.lose_card, replaces=False)))
        script.on(40, partial(self._for_some, 2, lambda family: self.refund_last(family, share="0.5")))

    def _fate(self, number: int, families: list[Family]) -> None:
        """One of twelve fates for every twelfth family; the rest live quietly."""
        script = self.house.script
        fates: dict[int, tuple[int, Any]] = {
            0: (150, self.leave),
            1: (SUMMER, self.pause),
            2: (100, lambda f: self.soft_declines(f, ["insufficient_funds"])),
            3: (
                120,
                lambda f: self.soft_declines(f, ["insufficient_funds", "insufficient_funds", "payment_timed_out"]),
            ),
            4: (140, lambda f: self.lose_card(f, replaces=True)),
            5: (200, lambda f: self.lose_card(f, replaces=False)),
            6: (170, lambda f: self.refund_last(f, share="0.5")),
            7: (180, self.upgrade),
            8: (90, self.join_robotics),
            9: (110, lambda f: self.soft_declines(f, ["late:600"])),
        }
        if number not in fates:
            return
        day, act = fates[number]
        for offset, family in enumerate(families):
            if number in (4, 5, 6) and offset >= 3 * self.house.scale:
                break
            script.on(day + offset * 7 % 90, partial(self._once_joined, family, act))

    def _for_some(self, every: int, act: Callable[[Family], object]) -> None:
        """The same for each so manieth of the families that eat by the month, six at most."""
        eaters = [family for family in self.families if family.meals and family.monthly_eaters]
        for family in eaters[:: every * self.house.scale][: 6 * self.house.scale]:
            act(family)

    def _once_joined(self, family: Family, act: Callable[[Family], object]) -> None:
        if family.id:
            act(family)

    # --- what people do ---------------------------------------------------------------------------

    def join(self, family: Family) -> None:
        """A family registers, gives a mandate, and subscribes its students."""
        house, dice = self.house, self.house.dice
        surname, parent = SURNAMES[family.number % len(SURNAMES)], PARENTS[family.number * 7 % len(PARENTS)]
        customer = house.api.post(
            "/customers",
            {
                "external_id": f"family-{family.number + 1:04d}",
                "name": f"{parent} {surname}",
                "email": f"{parent.lower()}.{surname.lower()}{family.number + 1}@families.example",
                "phone": f"+9198450{family.number % 100000:05d}",
                "currency": "INR",
                "address": {
                    "line1": f"{dice.randrange(1, 200)}, {dice.randrange(1, 12)}th Main",
                    "city": "Bengaluru",
                    "region": "29",
                    "postal_code": f"5600{dice.randrange(10, 99)}",
                    "country": "IN",
                },
            },
        )
        family.id = customer["id"]
        family.kind = ("upi", "card", "upi", "emandate", "card")[family.number % 5]
        self._give_mandate(family)
        if family.number % 6 == 5:
            house.api.post("/applied-coupons", {"customer": family.id, "promotion_code": "welcome"})
        for index in range(1 + family.number % 3):
            self._student(family, index, surname)
        if family.monthly_eaters > 1:
            house.api.post("/applied-coupons", {"customer": family.id, "coupon": "siblings"})
        if family.monthly_eaters:
            name = f"meals-{family.number + 1:04d}"
            self._subscribe(family, family.students[0], "meals-monthly", name, quantity=family.monthly_eaters)
        if family.number % 3 != 2:
            self._annual_fee(family)

    def _give_mandate(self, family: Family) -> None:
        checkout: dict[str, Any] = {"method": family.kind}
        if family.kind == "card":
            checkout["card"] = {
                "number": CARDS[family.number % len(CARDS)],
                "exp_month": 12,
                "exp_year": 2030,
                "cvv": "123",
            }
        elif family.kind == "upi":
            checkout["vpa"] = f"family{family.number + 1}@okbank"
        limit = "100000.00" if family.kind == "emandate" else "15000.00"
        family.method, family.token = self.house.add_method(
            family.id, kind=family.kind, checkout=checkout, max_amount={"amount": limit, "currency": "INR"}
        )

    def _student(self, family: Family, index: int, surname: str) -> None:
        house = self.house
        name = FIRST[(family.number * 3 + index) % len(FIRST)]
        student = house.api.post(
            f"/customers/{family.id}/beneficiaries",
            {"external_id": f"student-{family.number + 1:04d}-{index + 1}", "name": f"{name} {surname}"},
        )
        family.students.append(student["id"])
        roll = (family.number * 5 + index * 3) % 20
        if roll < 9:
            family.monthly_eaters += 1  # siblings share one subscription, and one invoice a month
        elif roll == 13 and family.number % 30 == 10:
            self._subscribe(family, student["id"], "meals-weekly", f"meals-{family.number + 1:04d}-{index + 1}")
        elif roll == 16 and family.number % 48 == 2:
            ends = house.today + timedelta(days=21)
            self._subscribe(
                family, student["id"], "meals-daily", f"meals-{family.number + 1:04d}-{index + 1}", ends=ends
            )

    def _subscribe(
        self, family: Family, student: str, plan: str, external_id: str, *, quantity: int = 1, ends: date | None = None
    ) -> None:
        body: dict[str, Any] = {
            "external_id": external_id,
            "customer": family.id,
            "beneficiary": student,
            "plan": plan,
            "currency": "INR",
            "quantity": quantity,
        }
        if ends:
            body["ends_at"] = f"{ends.isoformat()}T00:00:00+05:30"
        subscription = self.house.api.post("/subscriptions", body)
        family.meals.append(subscription["id"])

    def _annual_fee(self, family: Family) -> None:
        self.house.api.post(
            "/installment-plans",
            {
                "customer": family.id,
                "beneficiary": family.students[0],
                "description": "Annual tuition fee 2025-26",
                "total": {"amount": "84000.00", "currency": "INR"},
                "tax_category": "tuition",
                "count": 4,
                "interval_months": 2,
                "first_due_on": (self.house.today + timedelta(days=10)).isoformat(),
            },
            **self.house.idempotency("fee", family.number),
        )

    def leave(self, family: Family) -> None:
        """Cancels everything at the end of the period."""
        for subscription in self._live(family):
            self.house.api.post(
                f"/subscriptions/{subscription['id']}/cancel", {"when": "period_end", "reason": "moved away"}
            )

    def pause(self, family: Family) -> None:
        """No meals in the summer holidays."""
        resume = (self.house.today + HOLIDAYS).isoformat()
        for subscription in self._live(family):
            if subscription["status"] == "active":
                self.house.api.post(
                    f"/subscriptions/{subscription['id']}/pause", {"resume_at": f"{resume}T00:00:00+05:30"}
                )

    def upgrade(self, family: Family) -> None:
        """From weekly to monthly meals at the end of the week; a monthly one doubles its portion now."""
        for subscription in self._live(family):
            if subscription["status"] not in ("active", "past_due"):
                continue
            if subscription["plan"] == "meals-weekly":
                change: dict[str, Any] = {"plan": "meals-monthly", "when": "period_end"}
            else:
                change = {"quantity": subscription["quantity"] + 1, "when": "now"}
            self.house.api.post(f"/subscriptions/{subscription['id']}/change", change)

    def join_robotics(self, family: Family) -> None:
        """The eldest joins the robotics club."""
        if family.students:
            self._subscribe(family, family.students[0], "robotics", f"robotics-{family.number + 1:04d}")

    def soft_declines(self, family: Family, answers: list[str]) -> None:
        """The account is short for a while."""
        self.house.behave(family.token, answers)

    def lose_card(self, family: Family, *, replaces: bool) -> None:
        """The mandate is refused for good; some families answer the letter, some never do."""
        self.house.behave(family.token, ["card_lost_or_stolen"] * 30)
        if replaces:
            day = (self.house.today - self.house.script.first_day).days
            self.house.script.on(min(day + 40, 355), lambda: self._new_card(family))
        else:
            self.house.idle_customers.add(family.id)

    def _new_card(self, family: Family) -> None:
        family.kind = "card"
        family.number += 1  # another card than before
        self._give_mandate(family)
        family.number -= 1
        self.house.api.post(f"/payment-methods/{family.method}/default")

    def refund_last(self, family: Family, *, share: str) -> None:
        """Meals that were not eaten are paid back."""
        payments = self.house.api.get("/payments", customer=family.id, status="succeeded", limit=1)["results"]
        if payments:
            self.house.give_back(payments[0], share=Decimal(share), reason="Meals not taken")

    def _live(self, family: Family) -> list[dict[str, Any]]:
        rows = self.house.api.pages("/subscriptions", customer=family.id)
        return [row for row in rows if row["status"] in ("active", "trialing", "past_due")]


def _groups(items: list[Family], count: int) -> list[list[Family]]:
    return [items[start::count] for start in range(count)]
