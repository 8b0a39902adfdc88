"""The console as each role sees it: what opens, what does not, what stays hidden, and how many queries a list takes."""

import json
import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import TaskResult
from pytest_django import DjangoDbBlocker

from billing import permissions
from billing.admin.base import TenantAdmin, path_to, site
from billing.context import Actor
from billing.models import AuditRecord, Role, User
from config import urls  # noqa: F401 - whoever serves the addresses registers the pages
from config.beat import MunimScheduler
from config.celery import app as celery_app
from config.console import GROUPS
from invoices.admin.forms import credit_by_line
from invoices.models import CreditNote, Invoice, Mail
from invoices.services import refunding
from payments.models import GatewayAccount, Refund
from tests.e2e.console_world import PASSWORD, World, build, draft, list_of, page_of, signed_in, view_permission, watcher

LISTS = sorted(
    model._meta.label_lower
    for model in apps.get_models()
    if site.is_registered(model) and isinstance(site.get_model_admin(model), TenantAdmin)
)
SCHEDULE = [
    "django_celery_beat.crontabschedule",
    "django_celery_beat.intervalschedule",
    "django_celery_beat.periodictask",
]
FAILED = "django_celery_results.taskresult"  # for the operators of the house alone
SUPPORT = {
    "billing.customer", "billing.beneficiary", "billing.meter", "billing.usageevent", "billing.usagerevision",
    "billing.parkedusage", "billing.usageimport", "invoices.creditnote",
    "invoices.installmentplan", "invoices.invoice", "invoices.numberseries", "invoices.taxrate", "payments.payment",
    "payments.paymentmethod", "subscriptions.entitlementalert", "subscriptions.entitlementgrant",
    "subscriptions.experiment", "subscriptions.feature",
    "subscriptions.appliedcoupon", "subscriptions.coupon", "subscriptions.promotioncode",
    "subscriptions.plan", "subscriptions.planmigration", "subscriptions.subscription",
}  # fmt: skip
ADMIN = {
    "billing.apikey", "billing.auditrecord", "billing.event", "billing.eventhandling", "billing.membership",
    "billing.organisation", "billing.testclock", "billing.webhookdelivery", "billing.webhookendpoint",
    "payments.gatewayaccount", "payments.inboundwebhook",
}  # fmt: skip
SEEN = {Role.SUPPORT: SUPPORT, Role.ADMIN: ADMIN}
SECRETS = ("key-secret-1", "hook-secret-1", "token_school", "asha@school.example", "Verma", "chand@school.example")


@pytest.fixture(scope="module")
def worlds(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[tuple[World, World]]:
    """Two organisations, made once for all tests of this module and rolled back after them."""
    with django_db_blocker.unblock():
        around = transaction.atomic()
        around._from_testcase = True
        around.__enter__()
        try:
            made = build(), build("club", name="Chess Club")
            connection.check_constraints()  # once, here: what is deferred would be checked again after each test
            yield made
        finally:
            transaction.set_rollback(True)
            around.__exit__(None, None, None)


@pytest.fixture
def world(worlds: tuple[World, World], db: None) -> World:
    return worlds[0]


@pytest.fixture
def other(worlds: tuple[World, World], db: None) -> World:
    return worlds[1]


# --- who sees what ---------------------------------------------------------------------------------
def test_the_world_has_rows_for_every_page(world):
    assert {label for label, _ in world.rows()} == set(LISTS) - {"billing.beneficiary"}


@pytest.mark.parametrize("role", Role.values)
def test_each_role_opens_the_pages_of_its_permissions_and_no_others(world, role):
    client = signed_in(world, role)
    allowed = {label for label in LISTS if view_permission(label) in permissions.BY_ROLE[role]}
    if role in SEEN:
        assert allowed == SEEN[role]
    for label in LISTS:
        assert client.get(list_of(label)).status_code == (200 if label in allowed else 403), label
    for label, pk in world.rows():
        answer = client.get(page_of(label, pk))
        assert answer.status_code == (200 if label in allowed else 403), f"{label}: {answer.status_code}"
        text = answer.content.decode()
        assert not [secret for secret in SECRETS if secret in text], f"{label} shows what should be masked"
        assert " object (" not in text, f"{label} has no name for people"


def test_every_state_of_invoices_and_payments_has_a_page(world):
    client = signed_in(world, Role.MANAGER)
    states = {}
    for label in ("invoices.invoice", "payments.payment"):
        for row in apps.get_model(label).objects.of(world.organisation):
            states.setdefault((label, row.status), row)
    assert {state for _, state in states} >= {
        "draft",
        "open",
        "paid",
        "void",
        "uncollectible",
        "succeeded",
        "pending",
        "cancelled",
    }
    assert {client.get(path_to(row)).status_code for row in states.values()} == {200}


def test_a_superuser_sees_both_organisations(world, other):
    client = watcher()
    text = client.get(list_of("invoices.invoice")).content.decode()
    assert world.invoices[0].number in text
    assert other.invoices[0].number in text
    assert client.get(path_to(other.invoices[0])).status_code == 200
    assert act(client, other.invoices[2], "void", reason="Because").status_code in (403, 404), (
        "money moves only by a role"
    )


def test_nothing_of_another_organisation_is_to_be_seen(world, other):
    client = signed_in(other, Role.MANAGER)
    for label in LISTS:
        text = client.get(list_of(label)).content.decode()
        assert "school" not in text, label
        assert "Xavier" not in text, label
    for label, pk in world.rows():
        assert client.get(page_of(label, pk)).status_code in (302, 403, 404), label


def test_nobody_gets_in_without_signing_in_or_without_a_role(world):
    stranger = Client()
    assert stranger.get(list_of("invoices.invoice")).status_code == 302
    stranger.force_login(User.objects.create_user("new@munim.test", PASSWORD, is_staff=True),
                         backend="django.contrib.auth.backends.ModelBackend")  # fmt: skip
    assert stranger.get(list_of("invoices.invoice")).status_code == 403
    assert "You have no role yet" in stranger.get(reverse("admin:index")).content.decode()


# --- navigation and search -------------------------------------------------------------------------
@pytest.mark.parametrize("role", Role.values)
def test_the_navigation_lists_just_the_pages_of_the_role(world, role):
    held = permissions.BY_ROLE[role]
    text = signed_in(world, role).get(reverse("admin:index")).content.decode()
    for page in (page for pages in GROUPS.values() for page in pages):
        assert page.address(), page.title
        if page.model == FAILED:
            assert f'href="{page.address()}"' not in text, role
            continue
        needs = page.permission or ("schedule.view" if page.model in SCHEDULE else view_permission(page.model))
        assert (f'href="{page.address()}"' in text) == (needs in held), f"{role}: {page.title}"


@pytest.mark.parametrize(
    "address",
    [
        "analytics_dashboard",
        "payments_today",
        "billing_ledgeraccount_trial_balance",
        "subscriptions_dunning_board",
        "billing_usage_policy",
        "analytics_services",
    ],
)
def test_pages_with_an_address_of_their_own(world, other, address):
    assert signed_in(world, Role.AUDITOR).get(reverse(f"admin:{address}")).status_code == 200
    assert signed_in(world, Role.ADMIN).get(reverse(f"admin:{address}")).status_code == 403
    assert "Xavier" not in signed_in(other, Role.AUDITOR).get(reverse(f"admin:{address}")).content.decode()


def test_lists_page_and_group_are_marked_in_the_navigation(world):
    text = signed_in(world, Role.MANAGER).get(list_of("invoices.creditnote")).content.decode()
    marked = re.findall(r'<a href="([^"]+)" class="[^"]*\bactive"', text)
    assert marked == [list_of("invoices.creditnote")]


def test_the_search_box_finds_own_rows_only(world, other):
    number = world.invoices[0].number
    found = signed_in(world, Role.CLERK).get("/console/search/", {"s": number, "extended": "1"}).content.decode()
    assert path_to(world.invoices[0]) in found
    unseen = signed_in(other, Role.CLERK).get("/console/search/", {"s": number, "extended": "1"}).content.decode()
    assert path_to(world.invoices[0]) not in unseen


def test_an_empty_list_says_what_to_do(world):
    client = signed_in(world, Role.MANAGER)
    assert "No invoices fit the search" in client.get(list_of("invoices.invoice"), {"q": "zzz"}).content.decode()
    assert "No beneficiaries yet" in client.get(list_of("billing.beneficiary")).content.decode()


# --- queries ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("label", LISTS)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_one(world, other, label, monkeypatch):
    client, page = watcher(), site.get_model_admin(apps.get_model(label))

    def queries(rows: int) -> tuple[int, int]:
        monkeypatch.setattr(page, "list_per_page", rows)
        with CaptureQueriesContext(connection) as seen:
            answer = client.get(list_of(label))
        return len(seen), len(answer.context["cl"].result_list)

    few, one = queries(1)
    many, rows = queries(100)
    if label != "billing.beneficiary":
        assert one == 1, "the world has rows"
        assert rows >= 2
    assert many <= few, f"{label}: {few} queries for a row, {many} for {rows}"


@pytest.mark.parametrize("label", ["invoices.invoice", "payments.payment", "billing.customer", "payments.settlement"])
def test_a_record_takes_a_bounded_number_of_queries(world, label):
    client = signed_in(world, Role.MANAGER)
    pk = dict(reversed(world.rows()))[label]
    with CaptureQueriesContext(connection) as seen:
        client.get(page_of(label, pk))
    assert len(seen) <= 35


# --- decisions on invoices -------------------------------------------------------------------------
def act(client: Client, row: Invoice, action: str, **values: object):
    return client.post(reverse(f"admin:invoices_invoice_{action}", args=[row.pk]), {"confirm": "yes", **values})


def again(row: Invoice) -> Invoice:
    return Invoice.objects.get(pk=row.pk)


def test_a_clerk_finalises_a_draft(world):
    row = draft(world, world.customers[0], "10")
    assert act(signed_in(world, Role.CLERK), row, "finalize").status_code == 302
    assert (again(row).status, bool(again(row).number)) == ("open", True)
    assert AuditRecord.objects.get(action="invoice.finalized", target_id=str(row.pk)).actor_label == "clerk@school.test"


def test_voiding_asks_for_a_reason_and_keeps_it(world):
    client, row = signed_in(world, Role.MANAGER), world.invoices[2]
    assert act(client, row, "void").status_code == 200
    assert again(row).status == "open"
    act(client, row, "void", reason="Wrong customer")
    assert again(row).status == "void"
    assert AuditRecord.objects.get(action="invoice.voided", target_id=str(row.pk)).reason == "Wrong customer"


def test_a_refusal_is_shown_and_changes_nothing(world):
    row = world.invoices[1]
    answer = signed_in(world, Role.MANAGER).post(
        reverse("admin:invoices_invoice_void", args=[row.pk]), {"confirm": "yes", "reason": "Wrong"}, follow=True
    )
    assert "issue a credit note instead of voiding it" in answer.content.decode()
    assert again(row).status == "paid"


@pytest.mark.parametrize("role", [Role.CLERK, Role.AUDITOR, Role.SUPPORT, Role.DEVELOPER, Role.ADMIN])
@pytest.mark.parametrize("action", ["void", "write_off", "credit"])
def test_money_decisions_need_a_manager(world, role, action):
    row = world.invoices[2]
    answer = act(signed_in(world, role), row, action, reason="Because", extent="whole")
    assert answer.status_code in (403, 404)
    assert again(row).status == "open"
    assert not CreditNote.objects.filter(invoice=row).exists()


def test_decisions_on_foreign_rows_are_not_found(world, other):
    row = world.invoices[2]
    for action in ("void", "write_off", "credit", "finalize", "send", "pdf"):
        assert act(signed_in(other, Role.MANAGER), row, action, reason="Because", extent="whole").status_code == 404
    assert again(row).status == "open"


def test_a_credit_note_by_line(world):
    client, row = signed_in(world, Role.MANAGER), world.invoices[0]
    refused = act(client, row, "credit", reason="Not delivered", extent="lines", line_1="1000.01")
    assert "less than or equal to 1000" in refused.content.decode()
    assert (
        "Give the amount of one line"
        in act(client, row, "credit", reason="Not delivered", extent="lines").content.decode()
    )
    before = set(CreditNote.objects.filter(invoice=row).values_list("pk", flat=True))

    answer = act(client, row, "credit", reason="Not delivered", extent="lines", line_1="40")

    note = CreditNote.objects.exclude(pk__in=before).get(invoice=row)
    assert answer["Location"] == path_to(note)
    assert (str(note.net.amount), str(note.total.amount), note.reason) == ("40.0000", "47.2000", "Not delivered")


def test_a_credit_note_over_all_that_is_left(world):
    row = world.invoices[2]
    act(signed_in(world, Role.MANAGER), row, "credit", reason="Cancelled", extent="whole")
    assert (str(again(row).due.amount), again(row).status) == ("0.0000", "paid")


def test_the_money_back_is_offered_where_there_is_some_to_who_may_refund(world):
    offered = "Give the money back"
    unpaid, paid = world.invoices[2], world.invoices[1]
    manager = signed_in(world, Role.MANAGER)
    assert offered not in act(manager, unpaid, "credit").content.decode()
    assert offered in act(manager, paid, "credit").content.decode()
    form = credit_by_line(paid, may_refund=False)
    assert "refund" not in form().fields

    answer = act(manager, paid, "credit", reason="Left", extent="whole", refund="on")
    note = CreditNote.objects.get(invoice=paid)
    assert (answer["Location"], again(paid).status) == (path_to(note), "paid")
    refunding.refund_credit(organisation_id=paid.organisation_id, credit_note_id=note.pk, actor=Actor.system("test"))

    page = manager.get(path_to(note)).content.decode()
    assert "Nothing went back for this credit note" not in page
    assert Refund.objects.get(reason=f"Credit note {note.number}").amount == note.to_credit


def test_support_sends_an_invoice_again(world):
    row = world.invoices[2]
    before = Mail.objects.filter(invoice=row).count()
    act(signed_in(world, Role.SUPPORT), row, "send")
    assert Mail.objects.filter(invoice=row).count() == before + 1


def test_the_pdf_opens_for_those_who_see_the_invoice(world):
    address = reverse("admin:invoices_invoice_pdf", args=[world.invoices[0].pk])
    answer = signed_in(world, Role.AUDITOR).get(address)
    assert (answer["Content-Type"], answer.content[:5]) == ("application/pdf", b"%PDF-")
    assert signed_in(world, Role.ADMIN).get(address).status_code in (403, 404)


def test_only_what_the_state_allows_is_offered(world):
    client = signed_in(world, Role.MANAGER)
    offered = {
        name: set(re.findall(r"/invoice/[^/]+/(\w+)/\"", client.get(path_to(row)).content.decode())) - {"change"}
        for name, row in {"draft": world.invoices[5], "open": world.invoices[2], "void": world.invoices[3]}.items()
    }
    assert offered == {
        "draft": {"pdf", "finalize"},
        "open": {"pdf", "send", "credit", "write_off", "void"},
        "void": {"pdf"},
    }


def test_a_tax_rate_is_added_once(world):
    client = signed_in(world, Role.MANAGER)
    address = reverse("admin:invoices_taxrate_add_rate")
    values = {
        "organisation": world.organisation.pk,
        "category": "meals",
        "country": "IN",
        "rate": "5",
        "valid_from": "2026-01-01",
    }
    assert client.post(address, values).status_code == 302
    assert "already" in client.post(address, values).content.decode()
    assert signed_in(world, Role.CLERK).post(address, values).status_code == 403


def test_rows_are_not_added_to_a_foreign_organisation(world, other):
    client = signed_in(other, Role.MANAGER)
    values = {
        "organisation": world.organisation.pk,
        "category": "meals",
        "country": "IN",
        "rate": "5",
        "valid_from": "2026-01-01",
    }
    assert "Select a valid choice" in client.post(reverse("admin:invoices_taxrate_add_rate"), values).content.decode()


def test_a_gateway_account_is_added_and_its_secrets_stay_hidden(world):
    client = signed_in(world, Role.ADMIN)
    values = {"organisation": world.organisation.pk, "provider": "stripe", "code": "eu", "key_id": "pk_live_1",
              "key_secret": "sk_live_secret", "webhook_secret": "whsec_secret"}  # fmt: skip
    answer = client.post(reverse("admin:payments_gatewayaccount_add_account"), values, follow=True)
    text, account = answer.content.decode(), GatewayAccount.objects.get(code="eu")
    assert f"/webhooks/stripe/{account.pk}" in text
    assert "sk_live_secret" not in text
    assert "whsec_secret" not in text
    assert (
        signed_in(world, Role.MANAGER).post(reverse("admin:payments_gatewayaccount_add_account"), values).status_code
        == 403
    )


# --- the schedule ----------------------------------------------------------------------------------
@pytest.fixture
def task(db: None) -> PeriodicTask:
    every = IntervalSchedule.objects.create(every=1, period="minutes")
    return PeriodicTask.objects.create(name=f"tests.{uuid.uuid4()}", task="billing.tasks.tidy", interval=every)


@pytest.mark.parametrize("role", Role.values)
def test_the_schedule_is_open_to_admins_only(world, task, role):
    client = signed_in(world, role)
    expected = 200 if role == Role.ADMIN else 403
    assert [client.get(list_of(label)).status_code for label in SCHEDULE] == [expected] * 3
    assert client.get(page_of("django_celery_beat.periodictask", task.pk)).status_code == expected


def test_an_organisations_admin_looks_at_the_schedule_and_changes_nothing_for_the_others(world, task):
    client = signed_in(world, Role.ADMIN)
    values = {"interval": task.interval_id, "description": "", "enabled": ""}
    assert client.post(page_of("django_celery_beat.periodictask", task.pk), values).status_code == 403
    for model in ("intervalschedule", "crontabschedule"):
        assert client.get(reverse(f"admin:django_celery_beat_{model}_add")).status_code == 403
    task.refresh_from_db()
    assert task.enabled


def test_what_failed_is_shown_to_operators_alone(world):
    asked = {"task_id": str(uuid.uuid4()), "task_name": "subscriptions.tasks.after_billing_of", "status": "FAILURE"}
    kept = {
        "exc_type": "JobsFailed",
        "exc_message": ["subscriptions.late_usage of xavier: ZeroDivisionError: by <zero>"],
    }
    failed = TaskResult.objects.create(**asked, result=json.dumps(kept), traceback="Traceback: in late_usage")
    odd = TaskResult.objects.create(**asked | {"task_id": "odd"}, result="not JSON")
    TaskResult.objects.create(task_id="fine", task_name="tests.that_went_well", status="SUCCESS", result='"2"')

    client = watcher()
    text = client.get(list_of(FAILED)).content.decode()
    assert "JobsFailed: subscriptions.late_usage of xavier: ZeroDivisionError: by &lt;zero&gt;" in text
    assert "not JSON" in text
    assert "tests.that_went_well" not in text
    assert "Traceback: in late_usage" in client.get(page_of(FAILED, failed.pk)).content.decode()
    assert client.get(reverse("admin:django_celery_results_taskresult_delete", args=[odd.pk])).status_code == 403
    assert f'href="{list_of(FAILED)}"' in client.get(reverse("admin:index")).content.decode()
    for role in Role.values:
        assert signed_in(world, role).get(list_of(FAILED)).status_code == 403
        assert signed_in(world, role).get(page_of(FAILED, failed.pk)).status_code == 403


def test_an_operator_stops_a_task_but_cannot_choose_what_runs(world, task):
    client = watcher()
    values = {"interval": task.interval_id, "description": "", "task": "os.system", "args": "[1]"}
    assert client.post(page_of("django_celery_beat.periodictask", task.pk), values).status_code == 302
    task.refresh_from_db()
    assert (task.enabled, task.task, task.args) == (False, "billing.tasks.tidy", "[]")
    assert client.get(reverse("admin:django_celery_beat_periodictask_add")).status_code == 403


def test_a_restart_of_beat_keeps_what_was_edited_and_adds_what_is_new(task):
    class Scheduler(MunimScheduler):
        schedule: ClassVar[dict[str, object]] = {}

    scheduler = Scheduler.__new__(Scheduler)
    scheduler.app = celery_app
    hourly = {"task": "billing.tasks.tidy", "schedule": timedelta(hours=1)}
    scheduler.update_from_dict({task.name: hourly, "tests.new": hourly})
    assert str(PeriodicTask.objects.get(name=task.name).interval) == "every minute"
    assert str(PeriodicTask.objects.get(name="tests.new").interval) == "every 3600 seconds"
