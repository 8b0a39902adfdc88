"""Stages as people write them, and policies made from the console."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.urls import reverse
from hypothesis import given

from billing.errors import Conflict
from billing.models import Role
from subscriptions import dunning_rules as rules
from subscriptions import dunning_words as words
from subscriptions.models import DunningPolicy
from subscriptions.services.dunning_policies import create_policy
from tests.e2e.console_world import signed_in
from tests.subscriptions.house import local, make_organisation

from .test_dunning import ACTOR
from .test_dunning_console import Somebody
from .test_dunning_rules import policies

ADDRESS = "admin:subscriptions_dunningpolicy_"


@given(policies())
def test_what_is_said_is_read_again(raw):
    stages = rules.parse_stages(raw)
    assert rules.parse_stages(words.read(words.say([stage.stored() for stage in stages]))) == stages


def test_lines_by_hand():
    text = """
    after 1 day: letter reminder 1, Text: reminder_1, debit again
    7 days or 3 attempts: restrict
    4 attempts: suspend the subscription
    9 days and 5 attempts: mail nothing
    """
    with pytest.raises(rules.InvalidDunningPolicy) as refused:
        words.read(text)
    assert (refused.value.field, str(refused.value)[:34]) == ("stages", "Line 4: 'mail nothing' is not know")
    assert words.read(text.replace("mail nothing", "cancel, write off")) == [
        {"after_days": 1, "actions": ["mail:reminder_1", "sms:reminder_1", "retry"]},
        {"after_days": 7, "after_attempts": 3, "match": "any", "actions": ["restrict"]},
        {"after_attempts": 4, "actions": ["suspend"]},
        {"after_days": 9, "after_attempts": 5, "match": "all", "actions": ["cancel", "write_off"]},
    ]


@pytest.mark.parametrize(
    "line", ["soon: cancel", "5 days", "5 days 3 attempts: cancel", ": cancel", "5 days or: cancel"]
)
def test_a_line_that_is_not_read_is_named(line):
    with pytest.raises(rules.InvalidDunningPolicy) as refused:
        words.read(f"1 day: letter reminder 1\n{line}")
    assert str(refused.value).startswith("Line 2: write")


@pytest.mark.django_db
def test_a_policy_is_made_and_put_away_in_the_console():
    tenant = make_organisation(local("2026-04-01 09:00"))
    client, address = signed_in(Somebody(tenant), Role.MANAGER), reverse(f"{ADDRESS}add_policy")
    assert address in client.get(reverse(f"{ADDRESS}changelist")).content.decode()
    assert "21 days: cancel the subscription, write the invoice off" in client.get(address).content.decode()
    given = {"organisation": tenant.pk, "code": "strict", "grace_days": "2", "scope": "customer", "plans": ""}

    page = client.post(address, given | {"stages": "5 days: shout"}).content.decode()
    assert "is not known; there is letter final notice" in page
    assert (
        "The last stage needs after_days"
        in client.post(address, given | {"stages": "2 attempts: cancel"}).content.decode()
    )
    assert not DunningPolicy.objects.exists()
    client.post(address, given | {"stages": "3 days: letter reminder 1\n9 days: cancel"})

    made = DunningPolicy.objects.get()
    assert (made.code, made.grace_days, made.scope, made.is_default) == ("strict", 2, "customer", False)
    assert made.stages == [
        {"after_days": 3, "actions": ["mail:reminder_1"]},
        {"after_days": 9, "actions": ["cancel"]},
    ]
    client.post(reverse(f"{ADDRESS}archive", args=[made.pk]), {"confirm": "yes", "reason": "too strict"})
    made.refresh_from_db()
    assert made.archived_at is not None
    assert signed_in(Somebody(tenant), Role.AUDITOR).get(address).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_of_policies_made_at_once_with_one_code_one_is_made():
    tenant, barrier = make_organisation(local("2026-04-01 09:00")), threading.Barrier(6)

    def make(n):
        try:
            barrier.wait()
            code = "same" if n < 3 else f"default-{n}"
            create_policy(organisation=tenant, code=code, stages=rules.DEFAULT_STAGES, is_default=n >= 3, actor=ACTOR)
        except Conflict as exc:
            return exc.field
        finally:
            connection.close()
        return "made"

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(make, range(6)))

    assert sorted(found[:3]) == ["code", "code", "made"]
    assert set(found[3:]) <= {"made", "is_default"}
    assert DunningPolicy.objects.filter(is_default=True).count() == 1
