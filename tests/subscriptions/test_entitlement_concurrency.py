"""At the same instant, and over a crash: a hard limit holds, thresholds are told once, nothing is served after its time."""

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from decimal import Decimal

import pytest
from django.core.cache import cache
from django.db import connection

from billing.models import Event
from subscriptions.entitlements import catalogue, checking
from subscriptions.entitlements.checking import Question
from subscriptions.models import Consumption, EntitlementAlert, EntitlementGrant, QuotaCounter
from subscriptions.services.entitlements import alerts, consuming, grants
from subscriptions.services.entitlements.terms import TermsInput, set_plan_entitlements
from tests.subscriptions.house import CLERK, flat, local, make_customer, make_organisation, make_plan, subscribe, turn
from tests.subscriptions.test_concurrency import together
from tests.subscriptions.test_entitlements import feature, gives, plan_with

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _empty_cache():
    catalogue.shelf.clear()
    cache.clear()


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


def taking(customer, key, quantity=1, act=consuming.consume):
    def take():
        return act(
            organisation=customer.organisation, customer=customer.external_id, feature="exports", quantity=Decimal(quantity), key=key
        )  # fmt: skip

    return take


def ask(customer):
    return checking.check(
        organisation=customer.organisation, question=Question(customer.external_id, "exports")
    ).verdict


def test_32_threads_never_pass_a_hard_limit_and_each_threshold_is_told_once(tenant):
    feature(tenant)
    customer = make_customer(tenant)
    subscribe(customer, plan_with(tenant, 20))
    for attempt in range(2):
        answers = together(*[taking(customer, f"{attempt}-{n}") for n in range(32)])

        assert not [answer for answer in answers if isinstance(answer, Exception)]
        expected = {True: 20, False: 12} if attempt == 0 else {False: 32}
        assert Counter(answer.consumption_id is not None for answer in answers) == expected
        assert (QuotaCounter.objects.get().used, Consumption.objects.count()) == (20, 20)
    assert sorted(EntitlementAlert.objects.values_list("threshold", flat=True)) == [75, 90, 100]
    assert Event.objects.filter(type="entitlement.threshold_reached").count() == 3


def test_the_same_key_from_32_threads_counts_once(tenant):
    feature(tenant)
    customer = make_customer(tenant)
    subscribe(customer, plan_with(tenant, 100))

    answers = together(*[taking(customer, "one", 7)] * 32)

    assert Counter(answer.replayed for answer in answers) == {True: 31, False: 1}
    assert len({answer.consumption_id for answer in answers}) == 1
    assert {answer.answer.verdict.used for answer in answers} == {7}
    assert QuotaCounter.objects.get().used == 7


def test_taking_and_giving_back_at_once_adds_up(tenant):
    feature(tenant, reset="never")
    customer = make_customer(tenant)
    subscribe(customer, plan_with(tenant, 10))
    taking(customer, "first", 5)()

    works = [taking(customer, f"take-{n}") for n in range(16)]
    works += [taking(customer, f"back-{n}", act=consuming.release) for n in range(16)]
    together(*works)

    total = sum(Consumption.objects.values_list("quantity", flat=True))
    assert QuotaCounter.objects.get().used == total
    assert 0 <= total <= 10
    assert max(Consumption.objects.values_list("used", flat=True)) <= 10


def test_a_limit_that_is_lowered_meanwhile_holds_from_its_commit_on(tenant):
    feature(tenant)
    customer = make_customer(tenant)
    subscribe(customer, plan_with(tenant, 1000))
    lower = TermsInput(feature="exports", limit=Decimal(15))

    def override():
        return grants.give(
            organisation=tenant, customer_id=customer.pk, kind="override", terms=lower, reason="Abuse", actor=CLERK
        )

    together(override, *[taking(customer, f"k-{n}") for n in range(31)])
    grant = EntitlementGrant.objects.get()
    later = Consumption.objects.filter(limit=15)

    assert all(row.used <= 15 for row in later)
    assert ask(customer).limit == grant.limit
    assert ask(customer).allowed == (QuotaCounter.objects.get().used < 15)


def test_sweeps_at_once_tell_once(tenant):
    feature(tenant, thresholds=[50])
    customer = make_customer(tenant)
    subscribe(customer, plan_with(tenant, 100))
    taking(customer, "one", 40)()
    give = TermsInput(feature="exports", limit=Decimal(50))
    grants.give(organisation=tenant, customer_id=customer.pk, kind="override", terms=give, reason="Less", actor=CLERK)

    told = together(*[lambda: alerts.sweep(organisation=tenant)] * 6)

    assert sorted(told) == [0, 0, 0, 0, 0, 1]
    turn(tenant, local("2026-05-02 09:00"))
    assert alerts.sweep(organisation=tenant) == 0


CRASH = """
    import os, signal, sys
    import django
    django.setup()
    from django.db import connection
    connection.settings_dict["NAME"] = {database!r}
    connection.ensure_connection()
    from uuid import UUID
    from decimal import Decimal
    from django.db import transaction
    from billing.context import Actor
    from subscriptions.services.entitlements.terms import TermsInput, set_plan_entitlements
    transaction.on_commit(lambda: None)
    with transaction.atomic():
        transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))  # dies before anything else after the commit
        set_plan_entitlements(plan_id=UUID({plan!r}), actor=Actor.system(),
                              entitlements=[TermsInput(feature="exports", limit=Decimal(77))])
    sys.exit("the commit was survived")
"""


def test_a_process_that_dies_right_after_its_commit_leaves_nothing_stale(tenant):
    """Nothing has to run after a commit: the number of the catalogue is written with the change."""
    feature(tenant)
    customer = make_customer(tenant)
    plan = plan_with(tenant, 10)
    subscribe(customer, plan)
    assert ask(customer).limit == 10
    kept = catalogue.shelf._rows.copy()

    script = textwrap.dedent(CRASH.format(database=connection.settings_dict["NAME"], plan=str(plan.pk)))
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings_test"}
    died = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)

    assert died.returncode == -signal.SIGKILL, died.stderr
    assert catalogue.shelf._rows == kept, "what this process keeps was not touched"
    assert ask(customer).limit == 77


def test_a_check_beside_a_change_sees_the_old_state_until_the_commit_and_the_new_one_from_then_on(tenant):
    feature(tenant)
    customer = make_customer(tenant)
    plan = plan_with(tenant, 10)
    subscribe(customer, plan)
    for limit in range(11, 31):
        seen = []

        def change(limit=limit):
            set_plan_entitlements(
                plan_id=plan.pk, actor=CLERK, entitlements=[TermsInput(feature="exports", limit=Decimal(limit))]
            )

        def look(seen=seen):
            seen.append(ask(customer).limit)

        together(change, look, look, look)

        assert set(seen) <= {limit - 1, limit}
        assert ask(customer).limit == limit, "committed, and never served stale"


def test_a_changed_subscription_counts_at_once_for_another_process(tenant):
    feature(tenant)
    customer = make_customer(tenant)
    small, large = plan_with(tenant, 10), make_plan(tenant, flat("200.00"))
    gives(large, limit=500)
    subscription = subscribe(customer, small)
    assert ask(customer).limit == 10

    def elsewhere():
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE subscriptions_subscription SET plan_version_id = %s WHERE id = %s",
                [large.versions.get().pk, subscription.pk],
            )

    together(elsewhere)
    assert ask(customer).limit == 500
