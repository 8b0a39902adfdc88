"""The rules of MRR movements, one test a rule, and the identity that always holds."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from analytics import mrr

ZONE = ZoneInfo("Asia/Kolkata")
A, B = UUID(int=1), UUID(int=2)
START = datetime(2026, 1, 10, 9, tzinfo=UTC)


def level(days, amount, *, sub=A, active=True, minutes=0):
    at = START + timedelta(days=days, minutes=minutes)
    return mrr.Level(subscription_id=sub, at=at, order=days * 100 + minutes, mrr=Decimal(amount), active=active)


def kinds(*levels):
    return [(move.kind, move.amount) for move in mrr.movements(levels, zone=ZONE)]


def test_first_mrr_is_new_business_and_more_is_expansion():
    assert kinds(level(0, "100"), level(30, "150")) == [("new_business", Decimal(100)), ("expansion", Decimal(50))]


def test_a_second_subscription_expands_and_cancelling_it_contracts():
    found = kinds(level(0, "100"), level(5, "40", sub=B), level(9, "0", sub=B, active=False))

    assert found == [("new_business", Decimal(100)), ("expansion", Decimal(40)), ("contraction", Decimal(-40))]


def test_cancelling_the_last_subscription_is_churn_and_coming_back_reactivation():
    found = kinds(level(0, "100"), level(40, "0", active=False), level(300, "80", sub=B))

    assert found == [("new_business", Decimal(100)), ("churn", Decimal(-100)), ("reactivation", Decimal(80))]


def test_a_pause_contracts_to_nothing_and_the_customer_stays():
    found = kinds(level(0, "100"), level(10, "0"), level(40, "100"))

    assert found == [("new_business", Decimal(100)), ("contraction", Decimal(-100)), ("expansion", Decimal(100))]


def test_a_cancelled_pause_moves_nothing_more():
    assert kinds(level(0, "100"), level(10, "0"), level(40, "0", active=False))[2:] == []


def test_changes_within_an_hour_of_the_first_are_one_movement():
    found = kinds(level(0, "100"), level(5, "150", minutes=0), level(5, "120", minutes=59), level(5, "130", minutes=60))

    assert found == [("new_business", Decimal(100)), ("expansion", Decimal(20)), ("expansion", Decimal(10))]


def test_a_move_and_its_undoing_within_the_hour_is_no_movement():
    assert kinds(level(0, "100"), level(5, "900"), level(5, "100", minutes=30)) == [("new_business", Decimal(100))]


def test_months_end_in_the_organisations_zone():
    late = mrr.Level(subscription_id=A, at=datetime(2026, 1, 31, 19, tzinfo=UTC), order=1, mrr=Decimal(5), active=True)

    assert mrr.movements([late], zone=ZONE)[0].month == date(2026, 2, 1)
    assert mrr.movements([late], zone=ZoneInfo("UTC"))[0].month == date(2026, 1, 1)


def test_a_month_row_and_its_rates():
    one = [(A, move) for move in mrr.movements([level(0, "100"), level(30, "0", active=False)], zone=ZONE)]
    two = [(B, move) for move in mrr.movements([level(0, "300"), level(31, "360")], zone=ZONE)]

    january, february = mrr.month_rows([*one, *two], first=date(2026, 1, 1), last=date(2026, 2, 1))

    assert (january.opening, january.new, january.closing) == (Decimal(0), Decimal(400), Decimal(400))
    assert (february.expansion, february.churn, february.closing) == (Decimal(60), Decimal(100), Decimal(360))
    assert february.gross_churn_rate == Decimal("25.00")
    assert february.net_churn_rate == Decimal("10.00")
    assert february.customer_churn_rate == Decimal("50.00")
    assert february.quick_ratio == Decimal("0.60")
    assert january.gross_churn_rate is None


histories = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 90), st.sampled_from([A, B]), st.integers(0, 5000), st.booleans()),
    max_size=12,
)


@given(histories, histories)
def test_opening_and_movements_make_closing_in_every_month(first, second):
    moves = []
    for customer, history in ((A, first), (B, second)):
        levels = [
            level(day, Decimal(cents) / 100 if active else 0, sub=sub, active=active, minutes=minute)
            for day, minute, sub, cents, active in history
        ]
        moves += [(customer, move) for move in mrr.movements(levels, zone=ZONE)]

    rows = mrr.month_rows(moves, first=date(2026, 1, 1), last=date(2027, 6, 1))

    for before, row in zip([None, *rows], rows, strict=False):
        assert row.opening == (before.closing if before else 0)
        assert row.opening + row.new + row.expansion + row.reactivation - row.contraction - row.churn == row.closing
        assert row.closing >= 0


@given(histories)
def test_the_order_in_which_levels_arrive_does_not_matter(history):
    levels = {
        (day, minute): level(day, Decimal(cents) / 100 if active else 0, sub=sub, active=active, minutes=minute)
        for day, minute, sub, cents, active in history
    }
    listed = list(levels.values())

    assert mrr.movements(listed, zone=ZONE) == mrr.movements(reversed(listed), zone=ZONE)
