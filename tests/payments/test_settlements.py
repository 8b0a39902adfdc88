"""Settlements are stored once, explained from gross to net, and posted so that clearing is what is not settled yet."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moneyed import Money

from billing.models import Event
from payments.bridge import bridge_of
from payments.gateways.base import LineKind, SettlementLineRecord
from payments.gateways.faults import GatewayUnavailable
from payments.models import Settlement, SettlementLine
from payments.services import fetching, settlements
from tests.payments.reconciliation_world import World, inr

cents = st.integers(0, 10_000_00).map(lambda minor: Money(Decimal(minor).scaleb(-2), "INR"))
kinds = st.sampled_from(list(LineKind))


def record(kind, amount, fee, tax):
    sign = -1 if kind in (LineKind.REFUND, LineKind.DISPUTE, LineKind.FEE) else 1
    return SettlementLineRecord(line_ref="x", kind=kind, gateway_ref="x", amount=sign * amount, fee=fee, tax=tax,
                                net=sign * amount - fee - tax, occurred_at=datetime(2025, 4, 1, tzinfo=UTC))  # fmt: skip


@given(st.lists(st.tuples(kinds, cents, cents, cents), max_size=30), cents)
def test_the_bridge_always_leads_from_gross_to_net(rows, net):
    rows = [record(*row) for row in rows]
    bridge = bridge_of(rows, net=net)
    assert (
        bridge.gross
        - bridge.refunds
        - bridge.fees
        - bridge.tax
        - bridge.disputes
        + bridge.adjustments
        - bridge.unexplained
        == bridge.net
    )
    explained = sum((row.net for row in rows), Money(0, "INR"))
    assert bridge.unexplained == explained - net


@pytest.mark.django_db
def test_a_settlement_posts_once_and_leaves_clearing_with_what_is_not_settled():
    world = World()
    first, second, third = world.payment("1000"), world.payment("500"), world.payment("250")
    refund = world.refund(first, "100")
    lines = [
        world.line("payment", first.attempt.gateway_ref, "1000", "20", "3.60"),
        world.line("payment", second.attempt.gateway_ref, "500", "10", "1.80"),
        world.line("refund", refund.gateway_ref, "-100"),
    ]
    done = world.settle(*lines, ref="setl_1")
    again = world.settle(*lines, ref="setl_1")
    settlement = Settlement.objects.get()
    assert (done.created, done.lines, again.created, again.lines) == (True, 3, False, 0)
    assert settlement.status == "paid"
    assert [settlement.gross, settlement.refunds, settlement.fees, settlement.tax, settlement.amount, settlement.unexplained] == [
        inr("1500.00"), inr("100.00"), inr("30.00"), inr("5.40"), inr("1364.60"), inr("0.00")]  # fmt: skip
    assert world.balance("gateway_clearing:rzp") == third.amount.amount == Decimal(250)
    assert world.balance("settlement_in_transit:rzp") == Decimal("1364.60")
    assert (world.balance("gateway_fees"), world.balance("input_tax")) == (Decimal(30), Decimal("5.40"))
    assert Event.objects.filter(type="settlement.received").count() == 1


@pytest.mark.django_db
def test_what_rows_do_not_explain_rests_in_suspense_and_is_said():
    world = World()
    payment = world.payment("1000")
    line = world.line("payment", payment.attempt.gateway_ref, "1000", "20", "3.60")
    world.settle(line, amount="970", ref="setl_1")
    assert not Settlement.objects.get().lines_complete  # rows may still come
    world.later(days=4)
    settlements.record_settlement(account=world.account, at=world.now, lines=[line],
                                  record=_record_like(Settlement.objects.get()))  # fmt: skip
    settlement = Settlement.objects.get()
    assert (settlement.status, settlement.unexplained) == ("paid", inr("6.40"))
    assert world.balance("suspense") == Decimal("6.40")
    assert world.balance("gateway_clearing:rzp") == 0


def _record_like(settlement, status="paid", lines=None):
    from payments.gateways.base import SettlementRecord, SettlementStatus

    return SettlementRecord(gateway_ref=settlement.gateway_ref, amount=settlement.amount, status=SettlementStatus(status),
                            created_at=settlement.created_at, settled_on=settlement.settled_on, utr=settlement.utr)  # fmt: skip


@pytest.mark.django_db
def test_an_adjustment_rests_in_suspense_until_somebody_explains_it():
    world = World()
    payment = world.payment("1000")
    world.settle(
        world.line("payment", payment.attempt.gateway_ref, "1000"), world.line("adjustment", "adj_1", "-15.50")
    )
    assert world.balance("suspense") == Decimal("15.50")
    assert world.balance("gateway_clearing:rzp") == 0
    assert world.balance("settlement_in_transit:rzp") == Decimal("984.50")


@pytest.mark.django_db
def test_a_failed_payout_comes_back_and_its_rows_may_come_again():
    world = World()
    payment = world.payment("1000")
    line = world.line("payment", payment.attempt.gateway_ref, "1000", "20", "3.60", line_ref="txn_1")
    world.settle(line, ref="po_1")
    settlement = Settlement.objects.get()
    settlements.record_settlement(
        account=world.account, at=world.now, lines=None, record=_record_like(settlement, "failed")
    )
    settlements.record_settlement(
        account=world.account, at=world.now, lines=None, record=_record_like(settlement, "failed")
    )
    assert (world.balance("settlement_in_transit:rzp"), world.balance("gateway_clearing:rzp")) == (0, Decimal("976.40"))
    world.settle(line, ref="po_2")
    assert (world.balance("settlement_in_transit:rzp"), world.balance("gateway_clearing:rzp")) == (Decimal("976.40"), 0)
    assert (world.balance("gateway_fees"), world.balance("input_tax")) == (Decimal(20), Decimal("3.60"))
    assert sorted(SettlementLine.objects.values_list("state", flat=True)) == ["returned", "unmatched"]


@pytest.mark.django_db
def test_a_failed_payout_that_is_an_adjustment_of_the_next_goes_through_clearing():
    world = World()
    payment, other = world.payment("1000"), world.payment("50")
    world.settle(world.line("payment", payment.attempt.gateway_ref, "1000"), ref="po_1")
    settlements.record_settlement(account=world.account, at=world.now, lines=None,
                                  record=_record_like(Settlement.objects.get(), "failed"))  # fmt: skip
    world.settle(
        world.line("payment", other.attempt.gateway_ref, "50"), world.line("adjustment", "po_1", "1000"), ref="po_2"
    )
    assert [world.balance(name) for name in ("settlement_in_transit:rzp", "gateway_clearing:rzp", "suspense")] == [
        1050,
        0,
        0,
    ]


@pytest.mark.django_db
def test_a_failed_settlement_may_be_processed_after_all():
    world = World()
    world.settle(world.line("payment", world.payment("1000").attempt.gateway_ref, "1000"), ref="setl_1")
    settlement = Settlement.objects.get()
    for status in ("failed", "paid", "failed", "paid"):
        settlements.record_settlement(
            account=world.account, at=world.now, lines=None, record=_record_like(settlement, status)
        )
    assert Settlement.objects.get().status == "paid"
    assert (world.balance("settlement_in_transit:rzp"), world.balance("gateway_clearing:rzp")) == (1000, 0)


class Gateway:
    """A gateway that lists what it is given, and counts how often rows are asked for."""

    def __init__(self, *settled) -> None:
        self.settled, self.asked, self.since = settled, 0, None

    def settlements(self, *, since, until):
        self.since = since
        yield from (record for record, _ in self.settled if since <= record.created_at < until)

    def settlement_lines(self, record):
        self.asked += 1
        yield from next(lines for known, lines in self.settled if known.gateway_ref == record.gateway_ref)


@pytest.mark.django_db
def test_fetching_is_incremental_and_one_dead_gateway_does_not_hold_up_the_other(monkeypatch):
    from payments.gateways.base import SettlementRecord, SettlementStatus
    from payments.models import GatewayAccount

    world = World()
    dead = GatewayAccount.objects.create(organisation=world.organisation, provider="stripe", code="stripe")
    payment = world.payment("1000")
    record = SettlementRecord(gateway_ref="setl_1", amount=inr(1000), status=SettlementStatus.PAID, created_at=world.now,
                              settled_on=date(2025, 4, 1), utr="U123456")  # fmt: skip
    gateway = Gateway((record, [world.line("payment", payment.attempt.gateway_ref, "1000")]))

    def gateway_for(account):
        if account == dead:
            raise GatewayUnavailable
        return gateway

    monkeypatch.setattr(fetching, "gateway_for", gateway_for)
    dry = fetching.fetch_settlements(organisation=world.organisation, dry_run=True)
    assert (dry.seen, dry.new, Settlement.objects.count()) == (1, 0, 0)
    first = fetching.fetch_settlements(organisation=world.organisation)
    second = fetching.fetch_settlements(organisation=world.organisation)
    assert (first.new, first.lines, second.seen, second.new, gateway.asked) == (1, 1, 0, 0, 2)
    assert list(first.errors) == ["stripe"]
    assert gateway.since == record.created_at - timedelta(days=12)


@pytest.mark.django_db
def test_however_many_settlements_are_known_they_are_looked_up_at_once(monkeypatch, django_assert_num_queries):
    from payments.gateways.base import SettlementRecord, SettlementStatus

    world = World()
    told = []
    for number in range(5):
        payment = world.payment("1000")
        record = SettlementRecord(gateway_ref=f"setl_{number}", amount=inr(1000), status=SettlementStatus.PAID,
                                  created_at=world.now, settled_on=date(2025, 4, 1), utr=f"U{number}")  # fmt: skip
        told.append((record, [world.line("payment", payment.attempt.gateway_ref, "1000")]))
    gateway = Gateway(*told)
    monkeypatch.setattr(fetching, "gateway_for", lambda account: gateway)
    assert fetching.fetch_settlements(organisation=world.organisation).new == 5

    with django_assert_num_queries(
        6
    ):  # the time, the accounts, the newest known, what is set aside, the oldest unsure, all five
        again = fetching.fetch_settlements(organisation=world.organisation)

    assert (again.seen, gateway.asked) == (0, 5)
