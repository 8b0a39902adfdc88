"""Billing runs and dunning at the edges: API, console and commands."""

import json
import uuid
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from bench import population
from billing.context import Actor
from billing.models import TestClock
from billing.services import organisations, outbox
from invoices.models import Invoice
from invoices.services.overdue import mark_overdue
from subscriptions import tasks
from subscriptions.dunning_rules import DEFAULT_STAGES
from subscriptions.models import BillingRun, DunningCase, DunningPolicy, Subscription
from subscriptions.services import billing_run
from subscriptions.services.billing_run import run_billing
from subscriptions.services.dunning import create_policy, run_dunning

pytestmark = pytest.mark.django_db
API = "/api/v1"


@pytest.fixture
def works():
    return population.build(customers=3, code="works")


def client_of(organisation, *scopes):
    _, secret = organisations.create_api_key(organisation=organisation, name="test", scopes=scopes)
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")


@pytest.fixture
def client(works):
    return client_of(works, "billing_run.view", "billing_run.start", "dunning.view", "dunning.edit")


def chase(organisation):
    """Bill, and take the stages that are reached on each of the ten days that follow."""
    run_billing(organisation=organisation)
    for day in range(2, 12):
        TestClock.objects.filter(pk=organisation.test_clock_id).update(now=datetime(2026, 6, day, 6, tzinfo=UTC))
        mark_overdue(organisation=organisation)
        outbox.dispatch(organisation.pk, wait=True)
        run_dunning(organisation=organisation)


class TestRunsOverTheApi:
    def test_a_run_is_asked_for_done_and_read(self, works, client):
        asked = client.post(f"{API}/billing-runs", {}, format="json")
        assert asked.status_code == 202
        assert (asked.json()["status"], asked.json()["due_count"]) == ("pending", 3)

        assert tasks.work_on_run(asked.json()["id"]) == 3

        done = client.get(f"{API}/billing-runs/{asked.json()['id']}").json()
        total = sum(Invoice.objects.values_list("total", flat=True))
        assert (done["status"], done["billed_count"], done["totals"]) == ("done", 3, {"INR": f"{total:.2f}"})
        assert [row["id"] for row in client.get(f"{API}/billing-runs?status=done").json()["results"]] == [done["id"]]

    def test_the_same_key_asks_once(self, works, client):
        answers = [
            client.post(f"{API}/billing-runs", {}, format="json", HTTP_IDEMPOTENCY_KEY="monday") for _ in range(2)
        ]

        assert answers[0].content == answers[1].content
        assert BillingRun.objects.count() == 1

    def test_a_dry_run_answers_at_once_and_writes_nothing(self, works, client):
        Subscription.objects.filter(external_id="subscription-0000001").update(currency="EUR")

        answer = client.post(f"{API}/billing-runs", {"dry_run": True, "due_at": "2026-07-05T00:00:00Z"}, format="json")

        assert answer.status_code == 200
        body = answer.json()
        assert (body["due_count"], body["billed_count"], body["invoice_count"], body["failed_count"]) == (3, 4, 4, 1)
        assert body["failures"][0]["subscription"] == "subscription-0000001"
        assert not BillingRun.objects.exists()
        assert not Invoice.objects.exists()

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"due_at": "2026-07-01T00:00:00Z"}, "due_in_future"),
            ({"due_at": "0001-01-01T00:00:00+14:00"}, None),
            ({"due_at": "9999-12-31T23:59:59-12:00", "dry_run": True}, None),
            ({"due_at": "2031-01-01T00:00:00Z", "dry_run": True}, "due_too_far"),
            ({"due_at": "tomorrow"}, "invalid_input"),
            ({"dry_run": "perhaps"}, "invalid_input"),
            ({"unknown": 1}, "invalid_input"),
            ([], None),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, works, client, body, code):
        answer = client.post(f"{API}/billing-runs", body, format="json")

        assert answer.status_code == 422, answer.content
        assert code is None or answer.json()["code"] == code
        assert not BillingRun.objects.exists()

    def test_needs_the_permission(self, works):
        looker = client_of(works, "billing_run.view")

        assert looker.post(f"{API}/billing-runs", {}, format="json").status_code == 403
        assert looker.get(f"{API}/billing-runs").status_code == 200
        assert looker.get(f"{API}/dunning-cases").status_code == 403
        assert APIClient().get(f"{API}/billing-runs").status_code == 401

    def test_somebody_elses_run_is_not_found(self, works):
        run = billing_run.start_run(organisation=works, actor=Actor.system())
        stranger = client_of(population.build(customers=1, code="other"), "billing_run.view", "dunning.view")

        assert stranger.get(f"{API}/billing-runs/{run.pk}").status_code == 404
        assert stranger.get(f"{API}/billing-runs").json()["results"] == []


class TestDunningOverTheApi:
    def test_policies_are_made_and_listed(self, works, client):
        made = client.post(
            f"{API}/dunning-policies",
            {
                "code": "strict",
                "plans": ["team"],
                "stages": [{"after_days": 2, "actions": ["mail:final_notice", "suspend"]}],
            },
            format="json",
        )

        assert made.status_code == 201
        [listed] = client.get(f"{API}/dunning-policies").json()["results"]
        assert (listed["code"], listed["plans"], listed["is_default"]) == ("strict", ["team"], False)
        assert listed["stages"] == [{"after_days": 2, "actions": ["mail:final_notice", "suspend"]}]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"stages": []}, "invalid_input"),
            ({"stages": [{"after_days": 10**30, "actions": ["suspend"]}]}, "invalid_input"),
            ({"stages": [{"after_days": 1, "actions": ["dance"]}]}, "invalid_input"),
            ({"stages": "soon"}, "invalid_input"),
            ({"plans": ["nobody"]}, "unknown_plan"),
            ({"code": "no slug\x00"}, "invalid_input"),
            ({"stages": [DEFAULT_STAGES[1], DEFAULT_STAGES[0]]}, "invalid_dunning_policy"),
        ],
    )
    def test_malformed_policies_are_refused(self, works, client, change, code):
        answer = client.post(f"{API}/dunning-policies", {"code": "p", "stages": DEFAULT_STAGES} | change, format="json")

        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert not DunningPolicy.objects.exists()

    def test_a_second_policy_of_the_same_code_is_a_conflict(self, works, client):
        body = {"code": "p", "stages": DEFAULT_STAGES}

        assert [client.post(f"{API}/dunning-policies", body, format="json").status_code for _ in range(2)] == [201, 409]

    def test_cases_tell_where_they_stand(self, works, client):
        chase(works)
        invoice = Invoice.objects.order_by("id").first()

        [case] = client.get(f"{API}/dunning-cases?invoice={invoice.pk}").json()["results"]

        assert (case["status"], case["stage"], case["invoice_number"]) == ("open", 3, invoice.number)
        assert case["claimed"] == {"amount": f"{invoice.total.amount:.2f}", "currency": "INR"}
        assert [taken["actions"][0] for taken in case["history"]] == [
            "mail:reminder_1",
            "mail:reminder_2",
            "mail:final_notice",
        ]
        assert case["history"][-1]["actions"] == ["mail:final_notice", "suspend"]
        assert client.get(f"{API}/dunning-cases/{case['id']}").json() == case
        assert len(client.get(f"{API}/dunning-cases?status=open").json()["results"]) == 3
        assert client.get(f"{API}/dunning-cases/{uuid.uuid4()}").status_code == 404


class TestCommands:
    def run(self, name, *arguments):
        out = StringIO()
        call_command(name, *arguments, stdout=out, stderr=StringIO())
        return out.getvalue()

    def test_run_billing_says_what_it_would_do_and_did(self, works):
        foreseen = json.loads(self.run("run_billing", "--organisation", "works", "--dry-run", "--json"))
        text = self.run("run_billing", "--organisation", "works", "--chunk-size", "2")

        assert (foreseen["billed"], foreseen["dry_run"], Invoice.objects.count()) == (3, True, 3)
        assert text == f"works: 3 due, 3 periods made 3 invoices over {foreseen['totals']['INR']} INR; 0 set aside\n"

    @pytest.mark.parametrize(
        "arguments", [("--organisation", "nobody"), ("--due-at", "2026-06-01"), ("--due-at", "2027-01-01T00:00:00Z")]
    )
    def test_run_billing_refuses_what_makes_no_sense(self, works, arguments):
        with pytest.raises(CommandError):
            self.run("run_billing", *arguments)

    def test_run_dunning_lists_the_stages(self, works):
        run_billing(organisation=works)
        TestClock.objects.filter(pk=works.test_clock_id).update(now=datetime(2026, 6, 2, 6, tzinfo=UTC))
        mark_overdue(organisation=works)
        outbox.dispatch(works.pk, wait=True)

        foreseen = json.loads(self.run("run_dunning", "--organisation", "works", "--dry-run", "--json"))
        text = self.run("run_dunning", "--organisation", "works")

        assert [step["actions"] for step in foreseen["steps"]] == [["mail:reminder_1"]] * 3
        assert text.startswith("works on 2026-06-02: 3 stages taken\n")
        assert text.count("stage 1, 1 days: mail:reminder_1") == 3
        with pytest.raises(CommandError):
            self.run("run_dunning", "--organisation", "nobody")


class TestTasks:
    """Beat's tasks work for organisations on real time; the clock's jobs for all."""

    def test_only_organisations_on_real_time_are_billed_by_beat(self, works, monkeypatch):
        sent = []
        monkeypatch.setattr(tasks.bill_organisation, "delay", sent.append)
        monkeypatch.setattr(tasks.work_on_run, "delay", sent.append)
        assert tasks.billing_run() == 0

        type(works).objects.filter(pk=works.pk).update(test_clock=None)
        Subscription.objects.update(next_billing_at=datetime(2026, 6, 1, tzinfo=UTC))

        assert tasks.billing_run() == 1
        assert sent == [str(works.pk)]
        assert tasks.bill_organisation(sent[0]) >= 3

    def test_dunning_goes_to_each_organisation(self, works, monkeypatch):
        chase(works)
        sent = []
        monkeypatch.setattr(tasks.dun_organisation, "delay", sent.append)
        assert tasks.dunning() == 0

        assert tasks.dun_organisation(str(works.pk)) == 0

    def test_the_clock_takes_changes_and_periods_in_turn(self, works):
        TestClock.objects.filter(pk=works.test_clock_id).update(now=datetime(2026, 8, 1, 6, tzinfo=UTC))
        leaving = Subscription.objects.get(external_id="subscription-0000002")
        july = datetime(2026, 6, 30, 18, 30, tzinfo=UTC)
        Subscription.objects.filter(pk=leaving.pk).update(cancel_at=july, next_change_at=july)

        assert billing_run.bill_everything(organisation=works) == 7

        assert Subscription.objects.get(pk=leaving.pk).status == "cancelled"
        assert leaving.billed_periods.filter(kind="cycle").count() == 1


@pytest.mark.parametrize("model", ["billingrun", "dunningpolicy", "dunningcase"])
def test_the_console_shows_them_to_those_who_may_look(works, model):
    create_policy(organisation=works, code="strict", stages=DEFAULT_STAGES, plans=["team"], actor=Actor.system())
    Subscription.objects.filter(external_id="subscription-0000001").update(currency="EUR")
    chase(works)
    row = {"billingrun": BillingRun, "dunningpolicy": DunningPolicy, "dunningcase": DunningCase}[model].objects.first()

    def enter(organisation, role):
        member = organisations.add_member(
            organisation=organisation,
            email=f"{role}{uuid.uuid4().hex[:4]}@munim.example",
            role=role,
            password="correct horse 7",
        )
        browser = Client()
        browser.force_login(member.user)
        return browser

    clerk, support = enter(works, "clerk"), enter(works, "support")
    stranger = enter(population.build(customers=1, code="other"), "clerk")
    changelist = reverse(f"admin:subscriptions_{model}_changelist")
    page = reverse(f"admin:subscriptions_{model}_change", args=[row.pk])

    assert clerk.get(changelist).status_code == 200
    shown = clerk.get(page)
    assert shown.status_code == 200
    expected = {
        "billingrun": "missing_price",
        "dunningpolicy": "letter: reminder 1",
        "dunningcase": "suspend the subscription",
    }
    assert expected[model] in shown.content.decode()
    assert support.get(changelist).status_code == 403
    assert stranger.get(page).status_code == 404
