"""Rows of payouts and bank statements are somebody else's word: the database keeps them as they were read."""

from datetime import date

import pytest
from django.db import IntegrityError, connection, transaction

from payments.models import BankLine, SettlementLine
from payments.services.matching import run_matching
from tests.payments.reconciliation_world import World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world():
    world = World()
    payment = world.payment("499.00")
    payout = world.settle(world.line("payment", payment.attempt.gateway_ref, "499.00", "9.98", "1.80")).settlement
    world.statement((date(2025, 4, 1), payout.utr, "487.22"))
    return world


def execute(statement):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize(
    "change",
    [
        "amount = amount + 1",
        "fee = 0",
        "net = net + 1",
        "currency = 'EUR'",
        "kind = 'refund'",
        "gateway_ref = 'pay_other'",
        "line_ref = 'other'",
        "settlement_id = gen_random_uuid()",
        "organisation_id = gen_random_uuid()",
        "occurred_at = now()",
        "raw = '{}'::jsonb || '{\"a\": 1}'",
        "state = 'matched', amount = amount - 1",
    ],
)
def test_a_row_of_a_payout_cannot_be_rewritten(world, change):
    with pytest.raises(IntegrityError, match="stays as it was read"):
        execute(f"UPDATE payments_settlementline SET {change}")


@pytest.mark.parametrize(
    "change",
    [
        "amount = -amount",
        "booked_on = booked_on - 1",
        "reference = 'other'",
        "description = ''",
        "line_key = 'other'",
        "bank_account_id = gen_random_uuid()",
        "statement_id = gen_random_uuid()",
        "currency = 'EUR'",
    ],
)
def test_a_line_of_a_bank_statement_cannot_be_rewritten(world, change):
    with pytest.raises(IntegrityError, match="stays as it was read"):
        execute(f"UPDATE payments_bankline SET {change}")


@pytest.mark.parametrize("table", ["payments_settlementline", "payments_bankline"])
def test_neither_is_deleted(world, table):
    with pytest.raises(IntegrityError, match="DELETE refused"):
        execute(f"DELETE FROM {table}")


def test_what_we_make_of_them_may_change(world):
    assert run_matching(organisation=world.organisation).total == 2

    assert (SettlementLine.objects.get().state, BankLine.objects.get().state) == ("matched", "matched")
    assert SettlementLine.objects.get().payment is not None
    assert BankLine.objects.get().settlement is not None
