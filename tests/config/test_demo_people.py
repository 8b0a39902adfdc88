"""The people of the demo: registrations that are well formed and each its own, and a report that counts what happened."""

from datetime import date
from decimal import Decimal
from typing import Any, cast

import pytest

from billing.taxids import clean_vat
from config.demo.household import House
from config.demo.registrations import vat_id
from config.demo.report import Outcome, outcome_of, table

COUNTRIES = ("DE", "FR", "AT", "NL")


@pytest.mark.parametrize("country", COUNTRIES)
def test_every_company_has_a_vat_id_of_its_own(country: str) -> None:
    ids = [vat_id(country, number) for number in range(400)]

    assert len(set(ids)) == 400
    assert [clean_vat(one) for one in ids] == ids
    assert "DE136695976" not in ids, "the house's own"


def test_there_are_none_of_other_countries() -> None:
    with pytest.raises(ValueError, match="US"):
        vat_id("US", 1)


def money(amount: str, currency: str = "EUR") -> dict[str, str]:
    return {"amount": amount, "currency": currency}


class Answers:
    """The API of a house, with answers as the product gives them."""

    def __init__(self, **found: Any) -> None:
        self.found = {
            "/analytics/overview": {
                "customers": 2, "invoices": {"paid": 3, "open": 1, "draft": 9}, "payments": {"failed": 1, "recovered": 2},
            },
            "/analytics/collection": {"months": [{"currency": "EUR", "invoiced": "100.00"}, {"currency": "EUR", "invoiced": "20.50"}]},
            "/reconciliation/summary": {"currencies": [{"currency": "EUR"} | {
                name: money(amount) for name, amount in (
                    ("captured", "110.00"), ("refunded", "10.00"), ("settled", "96.00"), ("in_bank", "90.00"),
                    ("in_transit", "6.00"), ("unexplained", "0.00"))
            }]},
            "/ledger/trial-balance": {"balanced": True},
            "/payments/late": {"attempts": [{"status": "captured", "decline_code": "payment_timed_out"}]},
            "/payments/short": {"attempts": [
                {"status": "declined", "decline_code": "insufficient_funds"}, {"status": "captured", "decline_code": ""}]},
        }  # fmt: skip
        self.rows = found

    def get(self, path: str, **_: Any) -> Any:
        return self.found[path]

    def pages(self, path: str, **wanted: Any) -> list[dict[str, Any]]:
        rows = self.rows.get(path.strip("/").replace("-", "_"), [])
        return [row for row in rows if row.get("status", "") == wanted.get("status", row.get("status", ""))]


def lived(**rows: Any) -> Outcome:
    house: Any = type("House", (), {"api": Answers(**rows)})()
    return outcome_of(house, name="house", first_day=date(2025, 4, 1), last_day=date(2025, 4, 30))


def test_the_report_counts_what_was_given_back_contested_and_came_late() -> None:
    found = lived(
        credit_notes=[{"total": money("5.00")}, {"total": money("2.50")}, {"total": money("1.00", "USD")}],
        refunds=[{"status": "succeeded"}, {"status": "failed"}],
        disputes=[{"status": "lost"}, {"status": "won"}, {"status": "won"}],
        events=[{"payload": {"payment_id": pk}} for pk in ("late", "late", "short")],
        mails=[{"status": "sent"}] * 4,
        reconciliation_exceptions=[{"status": "open"}, {"status": "resolved"}, {"status": "resolved"}],
    )  # fmt: skip

    assert (found.credit_notes, found.credited) == (3, {"EUR": Decimal("7.50"), "USD": Decimal("1.00")})
    assert (found.refunds, found.disputes, found.late) == (1, {"lost": 1, "won": 2}, 1)
    assert (found.invoices, found.invoiced, found.failed, found.recovered) == (4, {"EUR": Decimal("120.50")}, 1, 2)
    assert (found.collected, found.in_transit) == ({"EUR": Decimal("110.00")}, {"EUR": Decimal("6.00")})
    assert (found.exceptions_open, found.exceptions_resolved, found.mails) == (1, 2, 4)
    assert found.is_sound
    rows = dict(zip(table([found]).columns[0]._cells, table([found]).columns[1]._cells, strict=True))
    assert rows["Disputes"] == "1 lost, 2 won"
    assert rows["Credited"] == "7.50 EUR\n1.00 USD"


def test_a_quiet_year_shows_dashes_and_unexplained_money_is_not_sound() -> None:
    found = lived()

    assert dict(zip(table([found]).columns[0]._cells, table([found]).columns[1]._cells, strict=True))["Disputes"] == "–"
    found.unexplained = {"EUR": Decimal("0.01")}
    assert not found.is_sound


def test_what_is_refunded_is_credited_first() -> None:
    """Refunded alone, the invoice would be due again, be chased, and end the subscription."""
    asked: list[tuple[str, dict[str, Any]]] = []

    class Office:
        def get(self, path: str) -> Any:
            assert path == "/invoices/42"
            return {"lines": [{"position": 1, "amount": money("100.01")}, {"position": 2, "amount": money("-5.00")}]}

        def post(self, path: str, body: dict[str, Any], **_: Any) -> Any:
            asked.append((path, body))
            return {"to_credit": money("59.50")}

    unused: Any = None
    house = House(
        code="h", api=cast(Any, Office()), simulator=unused, script=unused, dice=unused, scale=1, clock_id="", provider=""
    )  # fmt: skip

    house.give_back({"id": "7", "reference": "invoice:42"}, share=Decimal("0.5"), reason="Not eaten")

    amounts = [{"position": 1, "amount": money("50.00")}, {"position": 2, "amount": money("-2.50")}]
    assert asked == [
        ("/invoices/42/credit-notes", {"amounts": amounts, "reason": "Not eaten"}),
        ("/payments/7/refunds", {"amount": money("59.50"), "reason": "Not eaten"}),
    ]
