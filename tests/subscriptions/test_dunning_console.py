"""The dunning board: columns by stage, cards with their next step, a pause from the page, the figures on top."""

from datetime import date, timedelta

import pytest
from django.urls import reverse

from billing.models import Role
from subscriptions.dunning_board import board
from subscriptions.models import DunningCase, DunningPause
from subscriptions.services.billing_run import run_billing
from tests.e2e.console_world import signed_in

from .test_dunning import case_of, invoice_of, live, nth, pay, works  # noqa: F401
from .test_dunning_measures import CARDS, policy
from .test_dunning_money import book

pytestmark = pytest.mark.django_db
BOARD = "/console/subscriptions/dunningcase/board/"


class Somebody:
    """Signed in with a role in the organisation."""

    def __init__(self, organisation):
        self.organisation = organisation


def manager(works):  # noqa: F811
    return signed_in(Somebody(works), Role.MANAGER)


def test_an_empty_board_says_so(works):  # noqa: F811
    text = manager(works).get(BOARD).content.decode()
    assert "Nobody is being chased" in text


def test_cards_stand_under_their_stage_with_what_comes_next(works, django_assert_num_queries):  # noqa: F811
    policy(works, CARDS)
    live(works, 2)
    pay(invoice_of(nth(works, 1)))

    found = board(organisation=works)
    text = manager(works).get(BOARD).content.decode()

    case = case_of(nth(works, 0))
    assert [(column.stage, column.cases, len(column.cards)) for column in found.columns] == [(0, 0, 0), (1, 1, 1)]
    [card] = found.columns[1].cards
    assert (card.case.pk, card.days, card.next_on, card.next_attempts) == (case.pk, 2, date(2026, 6, 21), 3)
    assert found.owed == (case.invoice.due,)
    assert (found.open, found.due_today, found.paused) == (1, 0, 0)
    assert "21 Jun 2026 or 3 attempts (0 so far): letter: final notice, restrict the service" in text
    assert case.invoice.number in text
    assert ">100.0 %<" in text
    with django_assert_num_queries(9):
        board(organisation=works)


def test_the_board_takes_as_many_queries_for_many_cards(works, django_assert_num_queries):  # noqa: F811
    live(works, 2)
    with django_assert_num_queries(9):
        assert sum(column.cases for column in board(organisation=works).columns) == 2


def test_a_younger_debt_waits_behind_the_older(works):  # noqa: F811
    policy(works, [{"after_days": 60, "actions": ["cancel"]}])
    live(works, 3)
    live(works, 30)
    run_billing(organisation=works)
    live(works, 35)

    cards = [card for column in board(organisation=works).columns for card in column.cards]

    assert [card.waits for card in cards] == [False, False, True, True]
    assert "an older debt" in manager(works).get(BOARD).content.decode()


def test_a_customer_is_paused_and_the_pause_lifted_from_the_page(works):  # noqa: F811
    live(works, 1)
    client, case = manager(works), case_of(nth(works, 0))
    pause = reverse("admin:subscriptions_dunningcase_pause", args=[case.pk])
    assert pause in client.get(BOARD).content.decode()
    assert "field is required" in client.post(pause, {"confirm": "yes", "reason": "Cheque"}).content.decode()
    assert not DunningPause.objects.exists()

    client.post(pause, {"confirm": "yes", "until": "2026-06-20", "reason": "Cheque is coming"})

    made = DunningPause.objects.get()
    assert (made.until, made.reason, made.customer_id) == (date(2026, 6, 20), "Cheque is coming", case.customer_id)
    text = client.get(BOARD).content.decode()
    assert "Paused until 20 Jun 2026: Cheque is coming" in text
    lift = reverse("admin:subscriptions_dunningcase_lift", args=[case.pk])
    assert lift in text
    again = client.post(pause, {"confirm": "yes", "until": "2026-06-20", "reason": "Again"})
    assert again.status_code == 200
    text = again.content.decode()
    assert "is paused until" in text
    assert (">Again</textarea>" in text, 'value="2026-06-20"' in text) == (True, True), "what was written stays"
    assert f"{case.invoice.number}, overdue since " in text
    client.post(lift, {"confirm": "yes", "reason": "The cheque bounced"})
    assert DunningPause.objects.get().lifted_on == date(2026, 6, 2)


def test_who_only_looks_gets_no_button(works):  # noqa: F811
    live(works, 1)
    client, case = signed_in(Somebody(works), Role.CLERK), case_of(nth(works, 0))
    address = reverse("admin:subscriptions_dunningcase_pause", args=[case.pk])
    assert address not in client.get(BOARD).content.decode()
    answer = client.post(address, {"confirm": "yes", "until": "2026-06-20", "reason": "Mine"})
    assert answer.status_code == 403
    assert not DunningPause.objects.exists()


def test_more_cards_than_fit_are_counted(works, monkeypatch):  # noqa: F811
    monkeypatch.setattr("subscriptions.dunning_board.CARDS", 1)
    live(works, 1)
    [_, column] = board(organisation=works).columns
    assert (column.cases, len(column.cards), column.left_out) == (2, 1, 1)
    assert "1 more" in manager(works).get(BOARD).content.decode()
    assert DunningCase.objects.get(pk=column.cards[0].case.pk).overdue_since == date(2026, 6, 2) - timedelta(days=1)


def test_the_page_of_a_case_says_when_money_came(works):  # noqa: F811
    live(works, 1)
    book(invoice_of(nth(works, 0)), "300.00", "one")

    text = (
        manager(works)
        .get(reverse("admin:subscriptions_dunningcase_change", args=[case_of(nth(works, 0)).pk]))
        .content.decode()
    )

    panel = text[text.index("Money that came") :]
    assert "After stage 1" in panel[:3000]
    assert "300.00" in panel[:3000]
