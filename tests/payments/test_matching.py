"""Matching: one answer matches, two abstain, and every sum leads down to zero."""

import random
import threading
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st

from billing.models import Event, JournalEntry, Posting
from payments.bridge import Flows, identity
from payments.matching import Candidate, add_banking_days, arrival_window, decide, is_banking_day
from payments.models import BankLine, PaymentAttempt, ReconciliationException, Settlement, SettlementLine
from payments.selectors.reconciliation import summary
from payments.services import settlements
from payments.services.matching import run_matching
from tests.payments.reconciliation_world import World, copy_rows, inr

IDS = [uuid.UUID(int=n) for n in range(1, 30)]
A, B, C, S1, S2, S3 = IDS[:6]


def pair(line, settlement, *, ref=False, amount=True, window=True, **more):
    return Candidate(
        line=line, settlement=settlement, reference_agrees=ref, amount_agrees=amount, in_window=window, **more
    )


# --- the pure ladder ------------------------------------------------------------------------------


def test_a_reference_with_the_amount_wins_over_an_equal_amount():
    found = decide([pair(A, S1, ref=True), pair(B, S1), pair(B, S2)])
    assert found.matched == {A: (S1, "reference"), B: (S2, "amount_and_day")}


def test_two_payouts_for_one_line_or_two_lines_for_one_payout_are_never_guessed():
    assert decide([pair(A, S1), pair(A, S2)]).ambiguous == {A: (S1, S2)}
    assert decide([pair(A, S1), pair(B, S1)]).ambiguous == {A: (S1,), B: (S1,)}


def test_a_reference_with_another_amount_is_a_difference_and_takes_the_payout_out_of_the_running():
    found = decide([pair(A, S1, ref=True, amount=False), pair(B, S1)])
    assert (found.differing, found.matched, found.ambiguous) == ({A: S1}, {}, {})


def test_the_second_line_of_a_payout_is_a_duplicate_whether_together_or_later():
    first, second = (date(2025, 4, 1), 1), (date(2025, 4, 1), 2)
    found = decide([pair(B, S1, ref=True, order=second), pair(A, S1, ref=True, order=first)])
    assert (found.matched, found.duplicate) == ({A: (S1, "reference")}, {B: S1})
    assert decide([pair(B, S1, ref=True, arrived=True, window=False)]).duplicate == {B: S1}


def test_money_sent_back_matches_its_failed_payout():
    assert decide([pair(A, S1, ref=True, amount=False, reverse=True)]).matched == {A: (S1, "returned")}


candidates = st.lists(
    st.builds(pair, st.sampled_from(IDS[:5]), st.sampled_from(IDS[5:10]), ref=st.booleans(), amount=st.booleans(), window=st.booleans()),
    max_size=14, unique_by=lambda c: (c.line, c.settlement),
)  # fmt: skip


@given(candidates, st.randoms())
def test_the_ladder_gives_each_line_one_end_and_each_payout_one_line_in_any_order(rows, shuffle):
    found = decide(rows)
    shuffled = rows[:]
    shuffle.shuffle(shuffled)
    assert decide(shuffled) == found
    ends = [found.matched, found.differing, found.duplicate, found.ambiguous]
    assert sum(map(len, ends)) == len(set().union(*ends))
    settled = [settlement for settlement, _ in found.matched.values()]
    assert len(settled) == len(set(settled))
    for line, (settlement, rule) in found.matched.items():
        agreed = next(c for c in rows if (c.line, c.settlement) == (line, settlement))
        assert agreed.amount_agrees
        assert agreed.reference_agrees if rule == "reference" else agreed.in_window


def test_banking_days_know_sundays_and_indian_saturdays():
    friday, second_saturday, third_saturday = date(2025, 4, 11), date(2025, 4, 12), date(2025, 4, 19)
    assert not is_banking_day(second_saturday, country="IN")
    assert is_banking_day(third_saturday, country="IN")
    assert not is_banking_day(third_saturday, country="DE")
    assert add_banking_days(friday, 1, country="IN", holidays=[date(2025, 4, 14)]) == date(2025, 4, 15)
    assert arrival_window(friday, country="DE") == (date(2025, 4, 10), date(2025, 4, 17))


amounts = st.integers(0, 10_000_00).map(lambda minor: inr(Decimal(minor).scaleb(-2)))


@given(
    st.lists(st.tuples(amounts, st.sampled_from(["captured", "refunded", "disputed", "settle", "bank"])), max_size=40)
)
def test_the_identity_is_zero_for_every_history_that_both_sides_record_and_not_for_a_lost_entry(history):
    zero, sums = inr(0), dict.fromkeys(Flows.__dataclass_fields__, inr(0))
    for amount, kind in history:
        if kind in ("captured", "refunded", "disputed"):
            sums[kind] += amount
            sums["ledger_clearing"] += amount if kind == "captured" else -amount
        elif kind == "settle":
            sums["gross_settled"] += amount + inr("1.18")
            sums["fees"] += inr("1.00")
            sums["tax"] += inr("0.18")
            sums["settled"] += amount
            sums["ledger_clearing"] -= amount + inr("1.18")
            sums["ledger_transit"] += amount
        else:
            sums["in_bank"] += amount
            sums["ledger_transit"] -= amount
    found = identity(Flows(**sums))
    assert found.unexplained == zero
    assert found.unsettled == sums["ledger_clearing"]
    for lost in ("captured", "ledger_clearing", "settled", "in_bank", "fees"):
        assert identity(Flows(**(sums | {lost: sums[lost] + inr("0.01")}))).unexplained >= inr("0.01")


# --- against the database -------------------------------------------------------------------------


def check_zero(world, **expected):
    found = summary(organisation=world.organisation, first=date(2025, 1, 1), last=date(2026, 12, 31))[0]
    assert found.unexplained == inr("0.00"), found
    assert found.clearing.amount == world.balance("gateway_clearing:rzp")
    assert found.in_transit.amount == world.balance("settlement_in_transit:rzp")
    for name, value in expected.items():
        assert getattr(found, name) == inr(value), name
    return found


@pytest.mark.django_db
def test_rows_meet_their_payments_refunds_and_disputes_and_the_payout_its_bank_line():
    world = World()
    first, second, third, later = (world.payment(amount) for amount in ("1000", "500", "250", "75"))
    refund, dispute = world.refund(first, "100"), world.dispute(second, "500", "10")
    done = world.settle(
        world.line("payment", first.attempt.gateway_ref, "1000", "20", "3.60"),
        world.line("payment", second.attempt.gateway_ref, "500", "10", "1.80"),
        world.line("payment", third.attempt.gateway_ref, "250", "5", "0.90"),
        world.line("refund", refund.gateway_ref, "-100"),
        world.line("dispute", dispute.gateway_ref, "-500", "10"),
        world.line("fee", "fee_1", "-2"),
    )
    utr = done.settlement.utr
    world.statement((date(2025, 4, 1), f"NEFT CR-{utr}-RAZORPAY", "1096.70"))
    dry = run_matching(organisation=world.organisation, dry_run=True)
    assert not SettlementLine.objects.filter(state="matched").exists()
    report = run_matching(organisation=world.organisation)
    assert dry == report
    assert (report.payments, report.refunds, report.disputes, report.bank, report.exceptions_opened) == (3, 1, 1, 1, 0)
    assert run_matching(organisation=world.organisation).total == 0
    assert set(SettlementLine.objects.values_list("state", "rule")) == {("matched", "gateway_id"), ("matched", "fee")}
    assert (Settlement.objects.get().status, BankLine.objects.get().rule) == ("in_bank", "reference")
    assert world.balance("bank:hdfc") == Decimal("1096.70")
    check_zero(world, captured="1825", refunded="100", disputes="510", fees="37", tax="6.30", settled="1096.70", in_bank="1096.70",
               in_transit="0", clearing=later.amount.amount)  # fmt: skip
    assert Event.objects.filter(type="settlement.matched").count() == 1


@pytest.mark.django_db
def test_a_won_dispute_and_a_returned_payout_still_lead_to_zero():
    world = World()
    payment = world.payment("1000")
    dispute = world.dispute(payment, "1000", "15")
    other = world.payment("5000")
    world.settle(world.line("payment", payment.attempt.gateway_ref, "1000"), world.line("dispute", dispute.gateway_ref, "-1000", "15"),
                 world.line("payment", other.attempt.gateway_ref, "5000"), ref="po_000001")  # fmt: skip
    world.win(dispute)
    world.statement((date(2025, 4, 1), "PAYOUT po_000001 x", "4985"))
    run_matching(organisation=world.organisation)
    world.later(days=1)
    record = _failed(Settlement.objects.get())
    settlements.record_settlement(account=world.account, at=world.now, lines=None, record=record)
    world.statement((date(2025, 4, 2), "RETURN OF PAYOUT po_000001", "-4985"))
    world.settle(world.line("payment", payment.attempt.gateway_ref, "1000"), world.line("dispute", dispute.gateway_ref, "-1000", "15"),
                 world.line("payment", other.attempt.gateway_ref, "5000"), world.line("dispute_reversal", dispute.gateway_ref, "1000"),
                 ref="po_000002")  # fmt: skip
    world.statement((date(2025, 4, 3), "PAYOUT po_000002", "5985"))
    report = run_matching(organisation=world.organisation)
    assert (report.payments, report.disputes, report.bank, report.exceptions_opened) == (2, 2, 2, 0)
    assert sorted(BankLine.objects.values_list("rule", flat=True)) == ["reference", "reference", "returned"]
    check_zero(world, in_bank="5985", in_transit="0", clearing="0", disputes="15")


def _failed(settlement):
    from payments.gateways.base import SettlementRecord, SettlementStatus

    return SettlementRecord(gateway_ref=settlement.gateway_ref, amount=settlement.amount, status=SettlementStatus.FAILED,
                            created_at=settlement.created_at, settled_on=settlement.settled_on, utr=settlement.utr)  # fmt: skip


@pytest.mark.django_db
def test_a_mangled_reference_is_found_by_amount_and_day_but_not_when_two_fit():
    world = World()
    for amount in ("700", "800", "800"):
        world.settle(world.line("payment", world.payment(amount).attempt.gateway_ref, amount))
    world.statement((date(2025, 4, 2), "NEFT CR AXI SN0000", "700"), (date(2025, 4, 2), "NEFT CR ???", "800"))
    report = run_matching(organisation=world.organisation)
    assert (report.bank, BankLine.objects.get(state="matched").rule) == (1, "amount_and_day")
    exception = ReconciliationException.objects.get(status="open")
    assert (exception.kind, len(exception.details["candidates"])) == ("ambiguous", 2)


@pytest.mark.django_db
def test_an_attempt_of_unknown_outcome_is_recorded_when_the_gateway_settles_it():
    world = World()
    by_charge = world.payment("300", status="processing", attempt_status="unknown", ref="pay_x")
    by_order = world.payment("400", status="processing", attempt_status="unknown", ref="")
    declined = world.payment("500", status="failed", attempt_status="declined", ref="pay_z")
    world.settle(
        world.line("payment", "pay_x", "300"),
        world.line("payment", "pay_y", "400", order_ref=by_order.attempt.gateway_order_ref),
        world.line("payment", "pay_z", "500"),
        world.line("payment", "pay_stranger", "600"),
    )
    report = run_matching(organisation=world.organisation)
    assert (report.recorded, report.payments, report.exceptions_opened) == (3, 3, 1)
    for payment in (by_charge, by_order, declined):
        attempt = PaymentAttempt.objects.get(payment=payment)
        assert (attempt.status, attempt.payment.status) == ("captured", "succeeded")
    assert PaymentAttempt.objects.get(payment=by_order).gateway_ref == "pay_y"
    exception = ReconciliationException.objects.get()
    assert (exception.kind, exception.amount, exception.status) == ("missing_in_books", inr("600.00"), "open")
    found = check_zero(world, clearing="-600", captured="1200")
    assert found.not_in_books == inr("600.00")


@pytest.mark.django_db
def test_exact_classes_for_rows_that_do_not_agree():
    world = World()
    paid, twice = world.payment("100"), world.payment("200")
    world.settle(world.line("payment", twice.attempt.gateway_ref, "200"))
    run_matching(organisation=world.organisation)
    world.settle(
        world.line("payment", paid.attempt.gateway_ref, "99"),
        world.line("payment", twice.attempt.gateway_ref, "200"),
        world.line("refund", "rfnd_unknown", "-10"),
        world.line("adjustment", "adj_1", "-5"),
        world.line("dispute", "disp_unknown", "-20"),
        world.line("payment", "pay_unknown", "40"),
    )
    report = run_matching(organisation=world.organisation)
    assert (report.set_aside, report.exceptions_opened) == (6, 6)
    found = {row.amount.amount: row.kind for row in ReconciliationException.objects.all()}
    assert found == {
        Decimal(99): "amount_differs", Decimal(200): "duplicate", Decimal(-10): "refund_without_payment",
        Decimal(-5): "unknown_reference", Decimal(-20): "missing_in_books", Decimal(40): "missing_in_books",
    }  # fmt: skip
    assert run_matching(organisation=world.organisation).exceptions_opened == 0


@pytest.mark.django_db
def test_what_does_not_come_in_time_is_said_and_withdrawn_when_it_comes():
    world = World()
    payment = world.payment("100")
    world.later(days=3)
    world.settle(world.line("payment", world.payment("900").attempt.gateway_ref, "900"), ref="setl_late")
    run_matching(organisation=world.organisation)
    assert not ReconciliationException.objects.exists()
    world.later(days=10)
    run_matching(organisation=world.organisation)
    assert sorted(ReconciliationException.objects.values_list("kind", flat=True)) == [
        "missing_in_bank",
        "missing_in_gateway",
    ]
    world.settle(world.line("payment", payment.attempt.gateway_ref, "100"))
    world.statement((world.now.date(), "PAYOUT setl_late", "900"))
    report = run_matching(organisation=world.organisation)
    assert (report.payments, report.bank, report.exceptions_closed) == (1, 1, 2)
    assert set(ReconciliationException.objects.values_list("status", "resolution")) == {("resolved", "cause_gone")}


@pytest.mark.django_db
def test_offline_payments_meet_their_bank_lines_by_reference():
    world = World()
    cheque = world.payment("2500", account=world.offline, ref="CHQ-004711")
    world.payment("2500", account=world.offline, ref="CHQ-004712")
    world.statement(
        (date(2025, 4, 3), "CLEARING CHQ-004711 SHARMA", "2500"), (date(2025, 4, 3), "CLEARING CHQ-004713", "2500")
    )
    assert run_matching(organisation=world.organisation).offline == 1
    line = BankLine.objects.get(state="matched")
    assert (line.payment, line.rule) == (cheque, "our_reference")
    assert (world.balance("bank:hdfc"), world.balance("gateway_clearing:offline")) == (Decimal(2500), Decimal(2500))


@pytest.mark.django_db
def test_one_organisation_never_matches_with_another():
    ours, theirs = World(), World()
    payment = theirs.payment("100", ref="pay_same")
    done = ours.settle(ours.line("payment", "pay_same", "100"))
    theirs.statement((date(2025, 4, 1), f"NEFT {done.settlement.utr}", "100"))
    run_matching(organisation=theirs.organisation)
    run_matching(organisation=ours.organisation)
    assert SettlementLine.objects.get().payment_id is None
    assert BankLine.objects.get().settlement_id is None
    assert payment.settlement_lines.count() == 0


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(4))
def test_random_histories_lead_to_zero_with_every_fact_in_its_place(seed):
    chance = random.Random(seed)
    world = World()
    open_rows, captured, due = [], [world.payment("1")], []
    open_rows.append(world.line("payment", captured[0].attempt.gateway_ref, "1"))
    for _ in range(14):
        world.later(hours=chance.randrange(6, 30))
        for _ in range(chance.randrange(0, 4)):
            amount = Decimal(chance.randrange(100, 500_00)) / 100
            payment = world.payment(amount)
            captured.append(payment)
            open_rows.append(
                world.line(
                    "payment", payment.attempt.gateway_ref, amount, round(amount / 50, 2), round(amount / 250, 2)
                )
            )
        if captured and chance.random() < 0.3:
            payment = captured.pop(chance.randrange(len(captured)))
            part = round(payment.amount.amount / chance.choice([1, 2, 4]), 2)
            open_rows.append(world.line("refund", world.refund(payment, part).gateway_ref, -part))
        if captured and chance.random() < 0.15:
            payment = captured.pop(chance.randrange(len(captured)))
            dispute = world.dispute(payment, payment.amount.amount, "12.50")
            open_rows.append(world.line("dispute", dispute.gateway_ref, -payment.amount.amount, "12.50"))
            if chance.random() < 0.5:
                world.win(dispute)
                open_rows.append(world.line("dispute_reversal", dispute.gateway_ref, payment.amount.amount))
        if sum(row.net.amount for row in open_rows) > 0 and chance.random() < 0.5:
            done = world.settle(*open_rows)
            open_rows = []
            due.append(done.settlement)
        if due and chance.random() < 0.4:
            settlement = due.pop(0)
            world.statement((world.now.date(), f"NEFT {settlement.utr}", settlement.amount.amount))
        assert run_matching(organisation=world.organisation).set_aside == 0
        check_zero(world)
    assert set(ReconciliationException.objects.values_list("kind", flat=True)) <= {
        "missing_in_gateway",
        "missing_in_bank",
    }
    assert SettlementLine.objects.exclude(state="matched").count() == 0
    unsettled = sum((row.amount.amount if row.kind != "dispute" else row.net.amount) for row in open_rows)
    assert world.balance("gateway_clearing:rzp") == unsettled
    sides = {
        side: sum(p.amount.amount for p in Posting.objects.of(world.organisation).filter(side=side)) for side in "DC"
    }
    assert sides["D"] == sides["C"]


@pytest.mark.django_db
def test_a_posting_that_is_lost_shows_as_unexplained():
    world = World()
    world.payment("100")
    world.payment("55.55", booked=False)
    found = summary(organisation=world.organisation, first=date(2025, 1, 1), last=date(2025, 12, 31))[0]
    assert (found.unexplained, found.identity.clearing_difference) == (inr("55.55"), inr("55.55"))


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_match_and_post_once():
    world = World()
    rows = [world.line("payment", world.payment("10").attempt.gateway_ref, "10") for _ in range(120)]
    done = [world.settle(*rows[n : n + 40]) for n in (0, 40, 80)]
    world.statement(*((date(2025, 4, 1), f"NEFT {one.settlement.utr}", "400") for one in done))
    errors, barrier = [], threading.Barrier(4)

    def work():
        try:
            barrier.wait()
            run_matching(organisation=world.organisation)
        except Exception as exc:
            errors.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    run_matching(organisation=world.organisation)
    assert errors == []
    assert SettlementLine.objects.filter(state="matched").count() == 120
    assert JournalEntry.objects.filter(kind="settlement_in_bank").count() == 3
    assert world.balance("bank:hdfc") == Decimal(1200)
    check_zero(world, clearing="0", in_transit="0")


@pytest.mark.django_db
def test_ten_thousand_rows_are_matched_set_by_set_in_seconds():
    world = World()
    template, settlement = world.payment("10", ref="pay_0"), None
    settlement = world.settle(world.line("payment", "pay_0", "10")).settlement
    copy_rows(template, settlement, 10_000)
    started = datetime.now(UTC)
    report = run_matching(organisation=world.organisation)
    assert report.payments == 10_001
    assert datetime.now(UTC) - started < timedelta(seconds=20)
