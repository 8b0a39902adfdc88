"""Dunning and billing that lags behind: it is billed first; what cannot be billed holds the stage back, for all to see."""

from datetime import date

import pytest
from rest_framework.test import APIClient

from billing import permissions
from billing.context import Actor
from billing.models import Role
from billing.services import outbox
from billing.services.organisations import create_api_key
from invoices.models import Mail
from invoices.services.overdue import mark_overdue
from subscriptions.dunning_board import board
from subscriptions.errors import BillingBehind
from subscriptions.models import DunningCase
from subscriptions.services import acting, dunning, dunning_cases
from subscriptions.services.dunning import advance_case, run_dunning
from subscriptions.services.dunning_policies import create_policy
from tests.subscriptions.house import (
    amounts,
    flat,
    fresh,
    invoices_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    subscribe,
    turn,
)  # fmt: skip
from tests.subscriptions.test_console import browser
from tests.subscriptions.test_dunning import pay
from tests.subscriptions.test_set_aside import mend, rate_until

pytestmark = pytest.mark.django_db
ACTOR = Actor.system("test")
STAGES = [
    {"after_days": 5, "actions": ["mail:reminder_1"]},
    {"after_days": 40, "actions": ["mail:final_notice", "suspend"]},
    {"after_days": 80, "actions": ["cancel"]},
]


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def chased(tenant):
    """A subscription whose April is overdue since the 16th and chased; it was billed until the end of April."""
    create_policy(organisation=tenant, code="own", stages=STAGES, is_default=True, actor=ACTOR)
    plan = make_plan(tenant, flat("31.00", tax_category="short"))
    rate = rate_until(tenant, date(2026, 4, 20))
    subscription = subscribe(make_customer(tenant), plan)
    run(tenant)
    turn(tenant, local("2026-04-21 09:00"))
    mark_overdue(organisation=tenant)
    chase(tenant)
    assert case_of(subscription).stage == 1
    subscription.rate = rate
    return subscription


def chase(tenant, **more):
    outbox.dispatch(tenant.pk, wait=True)
    report = run_dunning(organisation=tenant, **more)
    outbox.dispatch(tenant.pk, wait=True)
    return report


def case_of(subscription):
    return DunningCase.objects.get(invoice=invoices_of(subscription)[0])


def letters(tenant):
    kinds = Mail.objects.of(tenant).filter(key__startswith="dunning:").order_by("id")
    return list(kinds.values_list("kind", flat=True))


@pytest.mark.parametrize(
    ("on", "stage", "status", "billed"),
    [("2026-05-26", 2, "suspended", ["31.00"] * 2), ("2026-07-05", 2, "suspended", ["31.00"] * 4)],
)
def test_what_is_due_is_billed_before_a_stage_ends_the_billing(tenant, chased, on, stage, status, billed):
    mend(chased.rate)
    turn(tenant, local(f"{on} 09:00"))

    report = chase(tenant)

    assert [(step.stage, report.failures) for step in report.steps] == [(stage, ())]
    assert (fresh(chased).status, amounts(invoices_of(chased))) == (status, billed)
    assert letters(tenant)[-1] == "final_notice"
    assert len(chase(tenant).steps) == 0
    assert amounts(invoices_of(chased)) == billed


def test_a_stage_that_only_writes_bills_nothing(tenant, chased):
    mend(chased.rate)
    letters_only = [
        {"after_days": 5, "actions": ["mail:reminder_1"]},
        {"after_days": 40, "actions": ["mail:final_notice"]},
    ]
    gentle = create_policy(organisation=tenant, code="letters", is_default=True, actor=ACTOR, stages=letters_only)
    DunningCase.objects.update(policy=gentle)
    turn(tenant, local("2026-05-26 09:00"))

    assert [step.stage for step in chase(tenant).steps] == [2]
    assert amounts(invoices_of(chased)) == ["31.00"]


def test_a_dry_run_bills_and_holds_nothing(tenant, chased):
    turn(tenant, local("2026-05-26 09:00"))

    report = chase(tenant, dry_run=True)

    assert [step.stage for step in report.steps] == [2]
    assert (fresh(chased).status, amounts(invoices_of(chased))) == ("past_due", ["31.00"])
    assert (fresh(chased).failure, case_of(chased).held_because) == ("", "")


def test_what_cannot_be_billed_holds_the_stage_back_until_it_is_mended(tenant, chased):
    turn(tenant, local("2026-05-26 09:00"))

    for _ in range(2):
        report = chase(tenant)
        assert (report.steps, [case for case, _ in report.failures]) == ((), [case_of(chased).pk])
    case = case_of(chased)
    assert (case.stage, fresh(chased).status, letters(tenant)) == (1, "past_due", ["reminder_1"])
    assert case.held_because.startswith("The period that began on 2026-05-01 could not be billed (missing_tax_rate")
    assert fresh(chased).failure.startswith("missing_tax_rate")

    mend(chased.rate)
    acting.take_up_again(organisation=tenant, subscription_id=chased.pk, actor=ACTOR)
    report = chase(tenant)

    assert [(step.stage, step.actions) for step in report.steps] == [(2, ("mail:final_notice", "suspend"))]
    assert (case_of(chased).held_because, fresh(chased).status) == ("", "suspended")
    assert (amounts(invoices_of(chased)), letters(tenant)) == (["31.00"] * 2, ["reminder_1", "final_notice"])


def test_a_case_that_is_paid_while_it_is_held_back_ends(tenant, chased):
    turn(tenant, local("2026-05-26 09:00"))
    chase(tenant)

    pay(invoices_of(chased)[0])
    chase(tenant)

    assert (case_of(chased).status, fresh(chased).status) == ("recovered", "active")
    assert case_of(chased).held_because == ""


def test_a_stage_that_another_worker_took_meanwhile_is_not_called_held_back(tenant, chased):
    turn(tenant, local("2026-05-26 09:00"))
    seen = case_of(chased)
    DunningCase.objects.filter(pk=seen.pk).update(stage=2)  # the other worker, who had what this one misses

    dunning_cases.hold_back(seen, reason="It could not be billed.")

    assert case_of(chased).held_because == ""


def test_what_nobody_foresaw_is_said_too_and_forgotten_once_it_goes(tenant, chased, monkeypatch):
    mend(chased.rate)
    turn(tenant, local("2026-05-26 09:00"))
    with monkeypatch.context() as broken:
        broken.setattr(dunning, "advance_case", lambda **_: 1 / 0)
        (failure,) = run_dunning(organisation=tenant).failures
    assert failure == (case_of(chased).pk, "ZeroDivisionError: division by zero")
    assert case_of(chased).held_because == dunning.UNFORESEEN

    run_dunning(organisation=tenant)
    assert (case_of(chased).held_because, fresh(chased).status) == ("", "suspended")


def test_the_board_the_case_and_the_api_say_why(tenant, chased):
    turn(tenant, local("2026-05-26 09:00"))
    chase(tenant)
    case = case_of(chased)

    (card,) = [card for column in board(organisation=tenant).columns for card in column.cards]
    assert card.held_because == case.held_because
    shown = browser(tenant, Role.MANAGER).get("/console/subscriptions/dunningcase/board/").content.decode()
    assert "Held back, tried again by every run: The period that began on 2026-05-01 could not be billed" in shown
    _, secret = create_api_key(organisation=tenant, name="test", scopes=sorted(permissions.ALL))
    answer = APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}").get(f"/api/v1/dunning-cases/{case.pk}")
    assert answer.data["held_because"] == case.held_because


def test_without_the_bill_it_is_refused_as_before(tenant, chased):
    """Who takes a stage without billing first loses nothing: it is refused, and nothing is written."""
    mend(chased.rate)
    turn(tenant, local("2026-05-26 09:00"))

    with pytest.raises(BillingBehind):
        advance_case(case_id=case_of(chased).pk, at=local("2026-05-26 09:00"), today=date(2026, 5, 26))
    assert (case_of(chased).stage, letters(tenant)) == (1, ["reminder_1"])
