"""Fees, settlements, payouts, disputes, statements: the simulator's money adds up."""

import csv
import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import mt940
import pytest
import razorpay
import stripe

from tests.simulator.conftest import KEY_ID, Sim

Make = Callable[..., Any]
CAMT = {"c": "urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"}


def pay(sim: Sim, order: Make, method: str, amount: int = 100_000) -> str:
    body = {"account": KEY_ID, "order_id": order(amount)["id"], "method": method}
    return str(sim.post("/_sim/checkout", body)["razorpay_payment_id"])


@pytest.mark.parametrize(
    ("method", "fee", "tax"),
    [("card", 2_360, 360), ("upi", 472, 72), ("emandate", 1_180, 180), ("netbanking", 2_360, 360)],
)
def test_razorpay_fees_by_method(sim: Sim, rzp: razorpay.Client, order: Make, method: str, fee: int, tax: int) -> None:
    payment = rzp.payment.fetch(pay(sim, order, method))

    assert (payment["method"], payment["fee"], payment["tax"]) == (method, fee, tax)


def test_international_payments_are_settled_in_rupees_a_week_later(sim: Sim, rzp: razorpay.Client, order: Make) -> None:
    payment = rzp.payment.fetch(pay(sim, lambda amount: order(amount, currency="USD"), "card", 1_000))
    assert (payment["base_amount"], payment["base_currency"], payment["fee"]) == (84_000, "INR", 2_974)

    sim.advance(days=7)
    assert rzp.settlement.all()["items"] == []
    sim.advance(days=3)

    assert rzp.settlement.all()["items"][0]["amount"] == 84_000 - 2_974


def test_a_settlement_comes_on_the_second_working_day_with_all_its_rows(
    sim: Sim, rzp: razorpay.Client, token: str, debit: Make
) -> None:
    first, second = debit(token, 50_000), debit(token, 70_000)  # on the first of April, a bank holiday
    refund = rzp.payment.refund(first["id"], {"amount": 10_000})
    sim.advance(days=1)
    assert rzp.settlement.all()["items"] == []

    sim.advance(days=1)

    settlement = rzp.settlement.all()["items"][0]
    rows = rzp.settlement.report({"year": 2025, "month": "04", "day": "03", "count": 1000, "skip": 0})["items"]
    assert [(r["type"], r["entity_id"], r["credit"], r["debit"]) for r in rows] == [
        ("payment", first["id"], 48_820, 0), ("payment", second["id"], 68_348, 0), ("refund", refund["id"], 0, 10_000)
    ]  # fmt: skip
    assert sum(r["credit"] - r["debit"] for r in rows) == settlement["amount"] == 107_168
    assert (settlement["fees"], settlement["tax"]) == (2_832, 432)
    assert {(r["settlement_id"], r["settlement_utr"], r["settled"]) for r in rows} == {
        (settlement["id"], settlement["utr"], True)
    }
    assert rzp.settlement.report({"year": 2025, "month": "04", "day": "02"})["items"] == []
    assert rzp.settlement.report({"year": 2025, "month": 4, "count": 2, "skip": 2})["items"] == rows[2:]
    truth = sim.truth(KEY_ID)["totals"]["INR"]
    assert (truth["settled"], truth["balances"]["gateway"], truth["balances"]["bank"]) == (107_168, 0, 107_168)


def test_refunds_larger_than_the_takings_wait_for_money(
    sim: Sim, rzp: razorpay.Client, token: str, debit: Make
) -> None:
    early = debit(token, 50_000)["id"]
    sim.advance(days=3)
    rzp.payment.refund(early, {})
    sim.advance(days=1)
    assert rzp.settlement.all()["count"] == 1

    debit(token, 90_000)
    sim.advance(days=5)

    assert [s["amount"] for s in rzp.settlement.all()["items"]] == [90_000 - 2_124 - 50_000, 48_820]


def test_a_dispute_takes_the_money_and_winning_brings_it_back(
    sim: Sim, rzp: razorpay.Client, token: str, debit: Make
) -> None:
    payment = debit(token, 50_000)["id"]
    dispute = sim.post("/_sim/disputes", {"payment": payment, "amount": 30_000, "reason": "goods_not_received"})
    assert rzp.dispute.fetch(dispute["id"])["amount_deducted"] == 30_000
    with pytest.raises(razorpay.errors.BadRequestError, match="dispute"):
        rzp.payment.refund(payment, {"amount": 1})
    sim.advance(days=3)

    sim.post(f"/_sim/disputes/{dispute['id']}/close", {"outcome": "won"})
    sim.advance(days=3)

    assert [s["amount"] for s in rzp.settlement.all()["items"]] == [30_000, 48_820 - 30_000]
    rows = rzp.settlement.report({"year": 2025, "month": 4})["items"]
    assert [(r["type"], r["dispute_id"], r["debit"], r["credit"]) for r in rows[1:]] == [
        ("adjustment", dispute["id"], 30_000, 0), ("adjustment", dispute["id"], 0, 30_000)
    ]  # fmt: skip
    assert sim.truth(KEY_ID)["objects"][payment] == {
        "currency": "INR", "captured": 50_000, "refunded": 0, "fees": 1_180, "tax": 180, "disputed": 0, "settled": 48_820,
    }  # fmt: skip
    sim.post(f"/_sim/disputes/{dispute['id']}/close", {"outcome": "lost"}, status=400)


def test_a_refund_that_fails_after_processed_gives_the_money_back(
    sim: Sim, rzp: razorpay.Client, token: str, debit: Make
) -> None:
    payment = debit(token, 50_000)["id"]
    refund = rzp.payment.refund(payment, {"amount": 20_000})

    sim.post(f"/_sim/refunds/{refund['id']}/fail")

    assert rzp.refund.fetch(refund["id"])["status"] == "failed"
    after = rzp.payment.fetch(payment)
    assert (after["status"], after["amount_refunded"], after["refund_status"]) == ("captured", 0, None)
    sim.advance(days=3)
    assert rzp.settlement.all()["items"][0]["amount"] == 48_820


def test_stripe_pays_out_each_currency_with_its_rows(
    sim: Sim, st: stripe.StripeClient, saved_card: Make, charge: Make
) -> None:
    card = saved_card()
    dollars, euros = charge(card, 10_000, "usd"), charge(card, 20_000, "eur")
    st.v1.refunds.create({"payment_intent": dollars.id, "amount": 1_000})
    assert st.v1.payouts.list().data == []

    sim.advance(days=3)

    payouts = {p.currency: p for p in st.v1.payouts.list().data}
    assert {c: (p.amount, p.status) for c, p in payouts.items()} == {"usd": (8_680, "paid"), "eur": (19_675, "paid")}
    rows = st.v1.balance_transactions.list({"payout": payouts["usd"].id}).data
    assert sorted((r.type, r.net) for r in rows) == [("charge", 9_680), ("payout", -8_680), ("refund", -1_000)]
    assert euros.status == "succeeded"
    truth = sim.truth("pk_test")["totals"]
    assert (truth["USD"]["settled"], truth["EUR"]["settled"]) == (8_680, 19_675)
    assert {c: t["balances"]["gateway"] for c, t in truth.items()} == {"USD": 0, "EUR": 0}


def test_a_lost_stripe_dispute_costs_amount_and_fee(
    sim: Sim, st: stripe.StripeClient, saved_card: Make, charge: Make
) -> None:
    intent = charge(saved_card(), 10_000)
    charge(saved_card(), 50_000)

    dispute = sim.post("/_sim/disputes", {"payment_intent": intent.id, "reason": "fraudulent"})
    sim.post(f"/_sim/disputes/{dispute['id']}/close", {"outcome": "lost"})
    sim.advance(days=3)

    told = st.v1.disputes.retrieve(dispute["id"])
    assert (told.status, told.balance_transactions[0].net, told.balance_transactions[0].fee) == ("lost", -11_500, 1_500)
    assert st.v1.payouts.list().data[0].amount == 10_000 - 320 + 50_000 - 1_480 - 11_500
    assert sim.truth("pk_test")["objects"][intent.latest_charge]["disputed"] == 10_000


def test_a_won_stripe_dispute_brings_the_amount_back_and_keeps_the_fee(
    sim: Sim, st: stripe.StripeClient, saved_card: Make, charge: Make
) -> None:
    intent = charge(saved_card(), 10_000)
    dispute = sim.post("/_sim/disputes", {"charge": intent.latest_charge})

    st.v1.disputes.update(dispute["id"], {"evidence": {"uncategorized_text": "was delivered"}})
    assert st.v1.disputes.retrieve(dispute["id"]).status == "under_review"
    sim.post(f"/_sim/disputes/{dispute['id']}/close", {"outcome": "won"})
    sim.advance(days=3)

    told = st.v1.disputes.retrieve(dispute["id"])
    assert (told.status, [txn.net for txn in told.balance_transactions]) == ("won", [-11_500, 10_000])
    assert st.v1.payouts.list().data[0].amount == 9_680 - 1_500
    mine = sim.truth("pk_test")["objects"][intent.latest_charge]
    assert (mine["disputed"], mine["fees"]) == (0, 1_820)


def test_a_failed_payout_comes_again(sim: Sim, st: stripe.StripeClient, saved_card: Make, charge: Make) -> None:
    charge(saved_card(), 10_000)
    sim.advance(days=3)
    first = st.v1.payouts.list().data[0]

    sim.post(f"/_sim/payouts/{first.id}/fail")
    sim.advance(days=4)

    again = st.v1.payouts.list().data[0]
    assert (st.v1.payouts.retrieve(first.id).status, again.amount, again.id != first.id) == (
        "failed",
        first.amount,
        True,
    )
    lines = list(csv.DictReader(io.StringIO(sim.call("GET", "/_sim/bank/pk_test?format=csv")[1].decode())))
    assert [(row["Withdrawal Amt."], row["Deposit Amt."]) for row in lines] == [
        ("", "96.80"),
        ("96.80", ""),
        ("", "96.80"),
    ]


@pytest.fixture
def month(sim: Sim, rzp: razorpay.Client, token: str, debit: Make) -> list[Any]:
    """Two settlements in April."""
    debit(token, 50_000)
    sim.advance(days=3)
    debit(token, 70_000)
    sim.advance(days=30)
    return list(rzp.settlement.all()["items"])[::-1]


def test_the_bank_tells_the_same_money_in_three_formats(sim: Sim, month: list[Any]) -> None:
    wanted = [(Decimal(s["amount"]) / 100, s["utr"]) for s in month]
    query = f"/_sim/bank/{KEY_ID}?from=2025-04-01&to=2025-04-30&format="

    camt = ElementTree.fromstring(sim.call("GET", query + "camt053")[1])
    rows = list(csv.DictReader(io.StringIO(sim.call("GET", query + "csv")[1].decode())))
    swift = mt940.models.Transactions(processors={})
    swift.parse(sim.call("GET", query + "mt940")[1].decode())

    entries = camt.findall(".//c:Ntry", CAMT)
    assert [(Decimal(e.findtext("c:Amt", "", CAMT)), e.findtext("c:AcctSvcrRef", "", CAMT)) for e in entries] == wanted
    assert all(utr in e.findtext(".//c:Ustrd", "", CAMT) for e, (_, utr) in zip(entries, wanted, strict=True))
    balances = [Decimal(b.findtext("c:Amt", "", CAMT)) for b in camt.findall(".//c:Bal", CAMT)]
    assert balances == [Decimal("0.00"), sum(amount for amount, _ in wanted)]
    assert [(Decimal(r["Deposit Amt."]), r["Chq./Ref.No."]) for r in rows] == wanted
    assert [(t.data["amount"].amount, t.data["customer_reference"]) for t in swift] == wanted
    assert swift.data["final_closing_balance"].amount.amount == sum(amount for amount, _ in wanted)


def test_noise_is_a_monthly_charge_a_short_credit_a_missing_and_a_mangled_line(sim: Sim, month: list[Any]) -> None:
    def lines(extra: str) -> list[dict[str, str]]:
        text = sim.call("GET", f"/_sim/bank/{KEY_ID}?to=2025-05-01&format=csv&{extra}")[1].decode()
        return list(csv.DictReader(io.StringIO(text)))

    assert [row["Withdrawal Amt."] for row in lines("noise=1")] == ["", "", "118.00"]
    assert Decimal(lines("short=500")[0]["Deposit Amt."]) == Decimal(month[0]["amount"] - 500) / 100
    assert len(lines("missing=2")) == 1
    assert [month[n]["utr"] in row["Narration"] for n, row in enumerate(lines("mangle=2"))] == [True, False]


def test_statement_balances_chain_over_months(sim: Sim, month: list[Any]) -> None:
    def balances(query: str) -> list[Decimal]:
        tree = ElementTree.fromstring(sim.call("GET", f"/_sim/bank/{KEY_ID}?noise=1&{query}")[1])
        return [Decimal(b.findtext("c:Amt", "", CAMT)) for b in tree.findall(".//c:Bal", CAMT)]

    assert balances("from=2025-04-03&to=2025-04-03") == [Decimal("0.00"), Decimal(month[0]["amount"]) / 100]
    april, may = balances("from=2025-04-01&to=2025-04-30"), balances("from=2025-05-01&to=2025-05-04")

    assert april[1] == may[0] == Decimal(sum(s["amount"] for s in month)) / 100 - 118
