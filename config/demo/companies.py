"""The customers of the software company, and what they use of it."""

import base64
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from config.demo.household import House

READ_WEEKLY = 5  # events of calls of a company and week
WORKING_HOUR = "T11:00:00Z"


@dataclass
class Company:
    """One customer: where it sits, how many seats, how much it calls the interface."""

    number: int
    country: str
    currency: str
    seats: int
    plan: str
    id: str = ""
    token: str = ""
    method: str = ""
    subscription: str = ""
    calls: int = 0

    @property
    def name_there(self) -> str:
        """Its id in the company's own application."""
        return f"company-{self.number + 1:04d}"

    @property
    def has_branch(self) -> bool:
        """Whether it takes a second subscription, for a branch; both come on one invoice."""
        return self.number % 16 == 4 and self.plan == "team-monthly"


class Usage:
    """What the company's own application counts, and sends."""

    def __init__(self, house: House, companies: list[Company]) -> None:
        self.house = house
        self.companies = companies

    def report(self) -> None:
        """A week of usage of every company, in batches."""
        events: list[dict[str, Any]] = []
        for company in self._subscribed():
            events += [self._calls(company, back) for back in range(1, READ_WEEKLY + 1)]
            if company.plan != "team-annual":
                events.append(self._storage(company))
            if company.plan == "business-monthly":
                events += [self._payment(company, back) for back in (2, 4)]
        self._send(events)

    def export_data(self) -> None:
        """Two companies write out their data, each time as much as it likes and its plan allows."""
        for company in self._subscribed()[:2]:
            self.house.api.post(
                "/entitlements/consume",
                {
                    "customer": company.name_there,
                    "feature": "exports",
                    "quantity": str(self.house.dice.randrange(3, 9)),
                    "key": f"exports-{company.number + 1}-{self.house.today.isoformat()}",
                },
            )

    def grant_more(self) -> None:
        """Sales promises a company more exports for its year-end, and lets another try single sign-on."""
        year_end, tries = self._subscribed()[:2]
        for company, terms, reason in (
            (year_end, {"feature": "exports", "limit": "50"}, "Year-end reports, agreed with sales"),
            (tries, {"feature": "sso"}, "Tries single sign-on before it moves to Business"),
        ):
            expires = self.house.today + timedelta(days=45)
            self.house.api.post(
                "/entitlement-grants",
                {
                    "kind": "grant",
                    "customer": company.name_there,
                    "expires_at": f"{expires.isoformat()}T00:00:00Z",
                    "reason": reason,
                    **terms,
                },
            )

    def bring_files(self) -> None:
        """What an older system counted comes as a file, one line of it for a customer nobody knows."""
        known = self._subscribed()[0].name_there
        on = (self.house.today - timedelta(days=1)).isoformat() + WORKING_HOUR
        rows = ["event_id,meter,customer,occurred_at,quantity,properties.endpoint"]
        rows += [f"old-{n},api-calls,{known},{on},{100 + n},data" for n in range(1, 9)]
        rows += [f"old-9,api-calls,company-9999,{on},250,data", f"old-10,api-calls,{known},{on},many,data"]
        content = base64.b64encode("\n".join(rows).encode()).decode()
        self.house.api.post("/usage-imports", {"file_name": "older-system.csv", "content": content})

    def correct(self) -> None:
        """A week was counted too high at one company: the office lowers it, with a reason."""
        company = self._subscribed()[0]
        event = f"calls-{company.number + 1}-{company.calls}"
        self.house.api.post(
            "/usage-revisions",
            {"event_id": event, "kind": "replace", "quantity": "10", "reason": "A test script was counted"},
        )

    def _subscribed(self) -> list[Company]:
        return [company for company in self.companies if company.subscription]

    def _calls(self, company: Company, days_ago: int) -> dict[str, Any]:
        company.calls += 1
        return self._event(
            company,
            f"calls-{company.number + 1}-{company.calls}",
            "api-calls",
            self.house.dice.randrange(50, 900) * (1 + company.number % 9),
            days_ago,
            region="eu" if company.currency == "EUR" else "us",
            endpoint="reports" if days_ago == 2 else "data",
        )

    def _storage(self, company: Company) -> dict[str, Any]:
        stored = 40 + company.number * 13 % 300 + company.calls
        return self._event(company, f"storage-{company.number + 1}-{company.calls}", "storage", stored, 1)

    def _payment(self, company: Company, days_ago: int) -> dict[str, Any]:
        name = f"payment-{company.number + 1}-{company.calls}-{days_ago}"
        return self._event(company, name, "payments", self.house.dice.randrange(200, 4000), days_ago)

    def _event(
        self, company: Company, event: str, meter: str, quantity: int, days_ago: int, **properties: str
    ) -> dict[str, Any]:
        on: date = self.house.today - timedelta(days=days_ago)
        named = {"subscription": company.subscription} if company.has_branch else {}
        return named | {
            "event_id": event,
            "meter": meter,
            "customer": company.name_there,
            "quantity": str(quantity),
            "occurred_at": on.isoformat() + WORKING_HOUR,
            "properties": properties,
        }

    def _send(self, events: list[dict[str, Any]]) -> None:
        for start in range(0, len(events), 500):
            self.house.api.post("/usage-events/batch", {"events": events[start : start + 500]})
