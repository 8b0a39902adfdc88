"""One settlement that cannot be fetched or stored is set aside with its reason; the others of its pass are stored."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from billing.errors import InvalidInput
from payments.gateways import razorpay_wire, stripe_wire
from payments.gateways.base import SettlementRecord, SettlementStatus, UnreadableSettlement
from payments.gateways.faults import GatewayUnavailable
from payments.gateways.reading import read_settlements
from payments.models import ReconciliationException, Settlement
from payments.services import fetching, matching, resolving
from tests.payments.reconciliation_world import MANAGER, World, inr

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


class Gateway:
    """A gateway with some payouts; ``rows_of`` fails as told."""

    def __init__(self, *told):
        self.told, self.faults, self.since, self.asked = list(told), {}, None, []

    def settlements(self, *, since, until):
        self.since = since
        yield from [one for one, _ in self.told if one.created_at is None or since <= one.created_at < until]

    def settlement_lines(self, record):
        self.asked.append(record.gateway_ref)
        if record.gateway_ref in self.faults:
            raise self.faults[record.gateway_ref]
        yield from next(lines for one, lines in self.told if one.gateway_ref == record.gateway_ref)


@pytest.fixture
def world():
    return World(now=datetime(2025, 4, 10, 6, tzinfo=UTC))


@pytest.fixture
def gateway(world, monkeypatch):
    """Five payouts of 1,000.00 on five days, the newest one hour old."""
    told = []
    for number in range(1, 6):
        payment = world.payment("1000")
        at = world.now - timedelta(hours=1) - (5 - number) * DAY
        record = SettlementRecord(gateway_ref=f"setl_{number}", amount=inr(1000), status=SettlementStatus.PAID,
                                  created_at=at, settled_on=at.date(), utr=f"UTR{number}")  # fmt: skip
        told.append((record, [world.line("payment", payment.attempt.gateway_ref, "1000")]))
    made = Gateway(*told)
    monkeypatch.setattr(fetching, "gateway_for", lambda account: made)
    return made


def fetch(world):
    return fetching.fetch_settlements(organisation=world.organisation)


def stored():
    return dict(Settlement.objects.order_by("gateway_ref").values_list("gateway_ref", "status"))


def board():
    found = ReconciliationException.objects.filter(kind="settlement_set_aside").order_by("opened_at", "pk")
    return [(row.details["gateway_ref"], row.status, f"{row.amount.amount:.2f}", row.explanation) for row in found]


PAID = {f"setl_{number}": "paid" for number in range(1, 6)}


def test_rows_that_cannot_be_read_set_one_payout_aside_and_the_others_are_posted(world, gateway):
    gateway.faults = {"setl_2": KeyError("entity_id")}
    report = fetch(world)
    assert (report.seen, report.new, report.lines, report.errors) == (5, 5, 4, {})
    assert report.set_aside == {"setl_2": "its rows cannot be read: 'entity_id' is missing"}
    assert stored() == PAID | {"setl_2": "created"}
    assert world.balance("settlement_in_transit:rzp") == 4000
    said = "Payout setl_2 of 'rzp' could not be stored: its rows cannot be read: 'entity_id' is missing"
    assert board() == [("setl_2", "open", "1000.00", said)]
    row = ReconciliationException.objects.get()
    assert (row.source_type, row.source_id) == ("payout", Settlement.objects.get(gateway_ref="setl_2").pk)

    fetch(world)
    assert (len(board()), gateway.asked[5:]) == (1, ["setl_2"])


def test_what_was_set_aside_is_stored_once_its_fault_is_gone_and_its_exception_is_closed(world, gateway):
    gateway.faults = {"setl_2": KeyError("entity_id")}
    fetch(world)
    gateway.faults = {}
    report = fetch(world)
    matching.run_matching(organisation=world.organisation)
    assert (report.new, report.changed, report.lines, report.set_aside) == (0, 1, 1, {})
    assert stored() == PAID
    assert world.balance("settlement_in_transit:rzp") == 5000
    row = ReconciliationException.objects.get(kind="settlement_set_aside")
    assert (row.status, row.resolution) == ("resolved", "cause_gone")


def test_a_payout_that_the_database_refuses_is_set_aside_and_held_in_the_window(world, gateway):
    spoilt, lines = gateway.told[0]
    gateway.told[0] = (replace(spoilt, utr="U" * 70), lines)
    report = fetch(world)
    assert (report.new, report.set_aside) == (4, {"setl_1": "the database refuses it"})
    assert stored() == dict.fromkeys(("setl_2", "setl_3", "setl_4", "setl_5"), "paid")
    assert [row[:3] for row in board()] == [("setl_1", "open", "1000.00")]

    world.later(days=60)
    newest = replace(gateway.told[4][0], gateway_ref="setl_6", created_at=world.now - DAY)
    gateway.told.append((newest, [world.line("payment", world.payment("1000").attempt.gateway_ref, "1000")]))
    fetch(world)
    fetch(world)
    assert gateway.since == spoilt.created_at - 12 * DAY

    gateway.told[0] = (spoilt, lines)
    assert (fetch(world).new, stored()["setl_1"]) == (1, "paid")


def test_a_payout_that_cannot_be_read_at_all_is_before_a_person_and_held_in_the_window(world, gateway):
    at = gateway.told[0][0].created_at
    good = gateway.told[0]
    gateway.told[0] = (UnreadableSettlement(gateway_ref="setl_1", reason="'amount' is missing", created_at=at), [])
    report = fetch(world)
    assert (report.seen, report.new) == (4, 4)
    assert board() == [
        ("setl_1", "open", "0.00", "Payout setl_1 of 'rzp' could not be stored: it cannot be read: 'amount' is missing")
    ]
    world.later(days=60)
    fetch(world)
    assert gateway.since == at - 12 * DAY
    gateway.told[0] = good
    fetch(world)
    matching.run_matching(organisation=world.organisation)
    assert (stored(), board()[0][1]) == (PAID, "resolved")


def test_what_a_person_ended_no_longer_holds_the_window(world, gateway):
    gateway.told[0] = (UnreadableSettlement(gateway_ref="setl_1", reason="'amount' is missing"), [])
    fetch(world)
    row = ReconciliationException.objects.get(kind="settlement_set_aside")
    with pytest.raises(InvalidInput, match="moved no money"):
        resolving.resolve_exception(organisation=world.organisation, exception_id=row.pk, resolution="write_off",
                                    reason="A test payout of the gateway", actor=MANAGER)  # fmt: skip
    resolving.resolve_exception(organisation=world.organisation, exception_id=row.pk, resolution="handled",
                                reason="A test payout of the gateway", actor=MANAGER)  # fmt: skip
    fetch(world)
    assert gateway.since == gateway.told[4][0].created_at - 12 * DAY
    assert [line[1] for line in board()] == ["resolved"]


def test_a_payout_whose_rows_alone_stay_unanswered_is_set_aside_once_others_are_answered(world, gateway):
    gateway.faults = {"setl_4": GatewayUnavailable()}
    report = fetch(world)
    assert (stored(), list(report.set_aside), list(report.errors)) == (
        PAID | {"setl_4": "created"},
        ["setl_4"],
        ["rzp"],
    )
    assert [row[0] for row in board()] == ["setl_4"]


def test_a_gateway_that_falls_silent_is_left_alone_and_nobody_is_called_for_it(world, gateway):
    gateway.faults = {f"setl_{number}": GatewayUnavailable() for number in range(2, 6)}
    gateway.told = [(replace(one, created_at=world.now - DAY), rows) for one, rows in gateway.told]
    report = fetch(world)
    assert stored() == {"setl_1": "paid"} | {f"setl_{number}": "created" for number in range(2, 6)}
    assert (gateway.asked, report.set_aside, list(report.errors), board()) == (
        ["setl_1", "setl_2", "setl_3", "setl_4"], {}, ["rzp"], [],
    )  # fmt: skip
    gateway.faults = {}
    assert (fetch(world).changed, stored()) == (4, PAID)


def test_rows_that_stay_unanswered_for_three_days_are_before_a_person(world, gateway):
    gateway.faults = {f"setl_{number}": GatewayUnavailable() for number in range(1, 6)}
    fetch(world)
    assert [row[0] for row in board()] == ["setl_1", "setl_2"]  # four and three days old


def test_a_refusal_of_ours_is_told_in_its_words(world, gateway, monkeypatch):
    def refuse(**given):
        if given["record"].gateway_ref == "setl_3":
            raise InvalidInput("Accounts of this entry do not agree.", field="lines")
        return real(**given)

    real = fetching.record_settlement
    monkeypatch.setattr(fetching, "record_settlement", refuse)
    report = fetch(world)
    assert (report.new, report.set_aside) == (4, {"setl_3": "Accounts of this entry do not agree."})


def test_a_dry_run_tells_and_stores_nothing(world, gateway):
    gateway.faults = {"setl_2": KeyError("entity_id")}
    report = fetching.fetch_settlements(organisation=world.organisation, dry_run=True)
    assert (report.seen, list(report.set_aside), stored(), board()) == (5, ["setl_2"], {}, [])


@pytest.mark.parametrize(
    ("read", "created", "good", "bad"),
    [
        (razorpay_wire.settlement_record, "created_at",
         {"id": "setl_1", "amount": 100, "status": "processed", "created_at": 1_744_000_000},
         [{"id": "setl_2", "status": "processed", "created_at": 1_744_000_001}, {"id": "setl_3", "amount": "x", "created_at": 7}, "?"]),
        (stripe_wire.payout_record, "created",
         {"id": "po_1", "amount": 100, "currency": "eur", "status": "paid", "created": 1_744_000_000, "arrival_date": 1_744_000_000},
         [{"id": "po_2", "currency": "eur", "created": 1_744_000_001}, {"id": "po_3", "amount": 1, "currency": "xx", "created": None}, 5]),
    ],
)  # fmt: skip
def test_each_payout_of_a_list_is_read_for_itself(read, created, good, bad):
    found = list(read_settlements([*bad, good], read, created=created))
    assert [type(one).__name__ for one in found] == ["SettlementRecord"] + ["UnreadableSettlement"] * 3
    assert [one.gateway_ref for one in found] == [good["id"], bad[0]["id"], bad[1]["id"], "unnamed"]
    assert found[1].created_at == datetime.fromtimestamp(1_744_000_001, UTC)
    assert (found[1].reason, found[3].created_at) == ("'amount' is missing", None)
