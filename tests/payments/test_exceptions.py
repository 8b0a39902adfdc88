"""Exceptions end by a decision: each posts what it says, once, by permission, with a reason that is kept."""

import threading
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.db import connections

from billing.context import Actor
from billing.errors import Conflict, InvalidInput, NotFound, PermissionRefused
from billing.models import AuditRecord, JournalEntry, Membership, Organisation, User
from payments.exception_classes import CLASSES
from payments.models import BankLine, Dispute, ReconciliationException, Settlement, SettlementLine
from payments.services import exceptions
from payments.services.matching import run_matching
from payments.services.resolving import resolve_exception
from tests.payments.reconciliation_world import CLERK, MANAGER, World, inr
from tests.payments.test_matching import check_zero


def only(kind):
    return ReconciliationException.objects.get(kind=kind, status="open")


def decide(world, kind, resolution, actor=MANAGER, **more):
    return resolve_exception(organisation=world.organisation, exception_id=only(kind).pk, resolution=resolution,
                             reason="Checked with the bank.", actor=actor, **more)  # fmt: skip


@pytest.fixture
def world(db):
    return World()


def settled(world, amount="1000", **more):
    payment = world.payment(amount)
    return world.settle(world.line("payment", payment.attempt.gateway_ref, amount), **more).settlement


def test_a_bank_charge_is_posted_to_the_day_of_the_statement(world):
    world.statement((date(2025, 4, 1), "MONTHLY CHARGES", "-59.00"))
    run_matching(organisation=world.organisation)
    decide(world, "unknown_reference", "bank_charge")
    assert (world.balance("bank_charges"), world.balance("bank:hdfc")) == (Decimal(59), Decimal(-59))
    line = BankLine.objects.get()
    assert (line.state, line.rule) == ("resolved", "bank_charge")
    entry = JournalEntry.objects.get(kind="bank_line_bank_charge")
    assert entry.occurred_at.astimezone().date() == date(2025, 4, 1)
    record = AuditRecord.objects.get(action="reconciliation.exception_resolved")
    assert (record.reason, record.after["resolution"]) == ("Checked with the bank.", "bank_charge")


def test_a_payout_short_by_a_bank_charge_is_matched_with_the_charge_posted(world):
    settlement = settled(world)
    world.statement((date(2025, 4, 1), f"NEFT {settlement.utr}", "988.20"))
    run_matching(organisation=world.organisation)
    found = only("amount_differs")
    assert found.details["expected"] == {"amount": "1000.00", "currency": "INR"}
    decide(world, "amount_differs", "bank_charge")
    assert (world.balance("bank_charges"), world.balance("bank:hdfc")) == (Decimal("11.80"), Decimal("988.20"))
    assert Settlement.objects.get().status == "in_bank"
    check_zero(world, in_transit="0", in_bank="1000")


def test_an_ambiguous_line_is_matched_by_hand_and_the_other_finds_its_own(world):
    first, second = settled(world, "800"), settled(world, "800")
    world.statement((date(2025, 4, 2), "NEFT ONE", "800"), (date(2025, 4, 2), "NEFT TWO", "800"))
    run_matching(organisation=world.organisation)
    assert ReconciliationException.objects.filter(kind="ambiguous", status="open").count() == 2
    one = ReconciliationException.objects.filter(kind="ambiguous").first()
    resolve_exception(organisation=world.organisation, exception_id=one.pk, resolution="match", reason="By the advice.",
                      actor=MANAGER, settlement_id=second.pk)  # fmt: skip
    assert run_matching(organisation=world.organisation).bank == 1
    assert {(line.settlement_id, line.rule) for line in BankLine.objects.all()} == {
        (second.pk, "by_hand"),
        (first.pk, "amount_and_day"),
    }
    assert ReconciliationException.objects.filter(status="open").count() == 0
    check_zero(world, in_transit="0")


def test_an_adjustment_of_the_gateway_leaves_suspense_for_fees(world):
    payment = world.payment("1000")
    world.settle(
        world.line("payment", payment.attempt.gateway_ref, "1000"), world.line("adjustment", "adj_1", "-15.50")
    )
    run_matching(organisation=world.organisation)
    decide(world, "unknown_reference", "adjustment")
    assert (world.balance("suspense"), world.balance("gateway_fees")) == (0, Decimal("15.50"))
    check_zero(world)


@pytest.mark.parametrize(("resolution", "account"), [("adjustment", "suspense"), ("write_off", "bad_debt")])
def test_money_settled_for_an_unknown_payment_leaves_clearing_straight(world, resolution, account):
    world.settle(world.line("payment", "pay_stranger", "600", "12", "2.16"))
    run_matching(organisation=world.organisation)
    assert world.balance("gateway_clearing:rzp") == Decimal(-600)
    decide(world, "missing_in_books", resolution)
    assert (world.balance("gateway_clearing:rzp"), world.balance(account)) == (0, Decimal(-600))
    check_zero(world, clearing="0", not_in_books="0")


def test_a_payment_settled_over_another_amount_leaves_only_the_difference_to_explain(world):
    payment = world.payment("100")
    world.settle(world.line("payment", payment.attempt.gateway_ref, "97"))
    run_matching(organisation=world.organisation)
    decide(world, "amount_differs", "adjustment")
    assert (world.balance("gateway_clearing:rzp"), world.balance("suspense")) == (0, Decimal(3))
    check_zero(world, clearing="0")


def test_a_payout_that_never_came_is_written_off_and_a_late_line_does_not_take_it_twice(world):
    settlement = settled(world)
    world.later(days=12)
    run_matching(organisation=world.organisation)
    decide(world, "missing_in_bank", "write_off")
    assert (world.balance("bad_debt"), world.balance("settlement_in_transit:rzp")) == (Decimal(1000), 0)
    check_zero(world, in_transit="0")
    world.statement((date(2025, 4, 3), f"NEFT {settlement.utr}", "1000"))
    run_matching(organisation=world.organisation)
    assert BankLine.objects.get().settlement_id is None
    assert only("unknown_reference").amount == inr("1000.00")
    assert world.balance("settlement_in_transit:rzp") == 0


def test_a_payment_no_settlement_ever_carried_is_written_off_without_its_refunds(world):
    payment = world.payment("100")
    refund = world.refund(payment, "30")
    world.settle(
        world.line("refund", refund.gateway_ref, "-30"),
        world.line("payment", world.payment("500").attempt.gateway_ref, "500"),
    )
    world.later(days=15)
    run_matching(organisation=world.organisation)
    decide(world, "missing_in_gateway", "write_off")
    run_matching(organisation=world.organisation)
    assert not ReconciliationException.objects.filter(kind="missing_in_gateway", status="open").exists()
    assert world.balance("bad_debt") == Decimal(70)
    check_zero(world)


def test_unexplained_of_a_payout_is_explained_by_a_person(world):
    payment = world.payment("1000")
    line = world.line("payment", payment.attempt.gateway_ref, "1000")
    world.settle(line, amount="990", ref="setl_000001")
    world.later(days=4)
    from tests.payments.test_settlements import _record_like, settlements

    settlements.record_settlement(
        account=world.account, at=world.now, lines=[line], record=_record_like(Settlement.objects.get())
    )
    run_matching(organisation=world.organisation)
    assert only("amount_differs").amount == inr("10.00")
    decide(world, "amount_differs", "adjustment")
    assert (world.balance("suspense"), world.balance("gateway_fees")) == (0, Decimal(10))
    check_zero(world)


def test_handled_posts_nothing_and_is_not_opened_again(world):
    world.statement((date(2025, 4, 1), "REFUND OF A STRANGER", "-10.00"))
    run_matching(organisation=world.organisation)
    before = JournalEntry.objects.count()
    decide(world, "unknown_reference", "handled")
    run_matching(organisation=world.organisation)
    assert (JournalEntry.objects.count(), ReconciliationException.objects.filter(status="open").count()) == (before, 0)


def test_investigating_keeps_it_open_on_the_persons_name_with_time_to_look(world):
    user = User.objects.create_user("clerk@example.com", "secret-word-1")
    Membership.objects.create(organisation=world.organisation, user=user, role="clerk")
    clerk = Actor(type="user", id=str(user.pk), label=user.email, permissions=CLERK.permissions)
    world.statement((date(2025, 4, 1), "???", "-10.00"))
    run_matching(organisation=world.organisation)
    found = decide(world, "unknown_reference", "investigate", actor=clerk)
    assert (found.status, found.owner, found.due_on) == ("open", user, date(2025, 4, 7))
    exceptions.assign(organisation=world.organisation, exception_id=found.pk, actor=clerk, owner=user)
    assert AuditRecord.objects.filter(action__startswith="reconciliation.exception_").count() == 2
    stranger = User.objects.create_user("stranger@example.com", "secret-word-1")
    with pytest.raises(InvalidInput, match="member"):
        exceptions.assign(organisation=world.organisation, exception_id=found.pk, actor=clerk, owner=stranger)


def test_deciding_needs_the_permission_a_reason_and_an_open_exception_of_ones_own(world):
    world.statement((date(2025, 4, 1), "CHARGES", "-10.00"))
    run_matching(organisation=world.organisation)
    found = only("unknown_reference")
    given = {
        "organisation": world.organisation,
        "exception_id": found.pk,
        "resolution": "bank_charge",
        "reason": "because",
        "actor": MANAGER,
    }
    for changed, refusal in (
        ({"actor": CLERK}, PermissionRefused), ({"reason": " x "}, InvalidInput), ({"resolution": "forget"}, InvalidInput),
        ({"resolution": "match"}, InvalidInput), ({"organisation": World().organisation}, NotFound),
    ):  # fmt: skip
        with pytest.raises(refusal):
            resolve_exception(**(given | changed))
    assert JournalEntry.objects.count() == 0
    resolve_exception(**given)
    with pytest.raises(Conflict, match="bank_charge"):
        resolve_exception(**given)
    assert JournalEntry.objects.count() == 1


def test_only_a_bank_line_can_be_a_bank_charge(world):
    world.settle(world.line("payment", "pay_stranger", "600"))
    run_matching(organisation=world.organisation)
    with pytest.raises(InvalidInput, match="bank statement"):
        decide(world, "missing_in_books", "bank_charge")


@pytest.mark.django_db(transaction=True)
def test_two_people_deciding_at_once_post_once():
    world = World()
    world.statement((date(2025, 4, 1), "CHARGES", "-10.00"))
    run_matching(organisation=world.organisation)
    found, outcomes, barrier = only("unknown_reference"), [], threading.Barrier(6)

    def work():
        barrier.wait()
        try:
            resolve_exception(organisation=world.organisation, exception_id=found.pk, resolution="bank_charge", reason="because",
                              actor=MANAGER)  # fmt: skip
            outcomes.append("done")
        except Conflict:
            outcomes.append("refused")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(outcomes) == ["done"] + ["refused"] * 5
    assert world.balance("bank_charges") == Decimal(10)


def test_a_cause_is_opened_once_and_unknown_classes_are_refused(world):
    finding = exceptions.Finding(
        kind="duplicate", source_type="bank_line", source_id=world.bank.pk, amount=inr(1), explanation="twice"
    )
    assert [
        exceptions.open_exceptions(organisation=world.organisation, findings=[finding, finding]) for _ in range(2)
    ] == [1, 0]
    assert only("duplicate").next_step == CLASSES["duplicate"].next_step[:200]
    with pytest.raises(InvalidInput, match="no class"):
        exceptions.open_exceptions(organisation=world.organisation, findings=[_with(finding, kind="odd")])


def _with(finding, **changes):
    from dataclasses import replace

    return replace(finding, **changes)


def test_every_class_says_what_to_do():
    for name, known in CLASSES.items():
        assert known.next_step.endswith("."), name
        assert len(known.next_step) <= 200
        assert 1 <= known.due_days <= 5


def test_settlement_rows_of_one_decision_stay_decided(world):
    world.settle(
        world.line("refund", "rfnd_x", "-10"), world.line("payment", world.payment("50").attempt.gateway_ref, "50")
    )
    run_matching(organisation=world.organisation)
    decide(world, "refund_without_payment", "adjustment")
    assert world.balance("gateway_clearing:rzp") == 0
    run_matching(organisation=world.organisation)
    assert SettlementLine.objects.get(kind="refund").state == "resolved"
    assert not ReconciliationException.objects.filter(status="open").exists()


def test_an_unanswered_dispute_is_said_three_days_ahead_and_closes_when_it_is_answered(world):
    dispute = world.dispute(world.payment("100"), "100")
    Dispute.objects.filter(pk=dispute.pk).update(respond_by=world.now + timedelta(days=5))
    run_matching(organisation=world.organisation)
    assert not ReconciliationException.objects.exists()
    world.later(days=3)
    run_matching(organisation=world.organisation)
    assert only("dispute_unanswered").amount == inr("100.00")
    with pytest.raises(InvalidInput, match="handled"):
        decide(world, "dispute_unanswered", "write_off")
    Dispute.objects.filter(pk=dispute.pk).update(status="under_review")
    assert run_matching(organisation=world.organisation).exceptions_closed == 1


def test_unreadable_holidays_do_not_stop_matching(world):
    Organisation.objects.filter(pk=world.organisation.pk).update(
        settings={"reconciliation": {"bank_holidays": ["soon", 7]}}
    )
    organisation = Organisation.objects.get(pk=world.organisation.pk)
    assert exceptions.bank_holidays(organisation) == frozenset()
    run_matching(organisation=organisation)
    Organisation.objects.filter(pk=organisation.pk).update(
        settings={"reconciliation": {"bank_holidays": ["2025-04-02"]}}
    )
    assert exceptions.banking_day(Organisation.objects.get(pk=organisation.pk), date(2025, 4, 1), 1) == date(2025, 4, 3)
