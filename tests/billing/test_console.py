"""The console's pages of the foundation: who sees what, and that decisions ask for a reason."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from moneyed import Money

from billing.admin.base import TenantAdmin, path_to, site
from billing.models import (
    ApiKey,
    AuditRecord,
    Customer,
    Event,
    EventHandling,
    JournalEntry,
    LedgerAccount,
    Membership,
    Organisation,
    TestClock,
    User,
    WebhookDelivery,
)
from billing.services import (
    customers,
    ledger,
    meters,
    organisations,
    outbox,
    usage,
    usage_imports,
    usage_revisions,
    webhooks,
)
from billing.services.ledger import Entry, credit, debit
from billing.services.organisations import SYSTEM
from config import urls  # noqa: F401 - whoever serves the addresses registers the pages
from tests.billing.conftest import START

SignIn = Callable[..., Client]
OURS = [page for page in site._registry.values() if isinstance(page, TenantAdmin) and page.opts.app_label == "billing"]


@pytest.fixture
def sign_in(db: None) -> SignIn:
    def enter(organisation: Organisation | None, role: str = "") -> Client:
        email = f"{role or 'root'}-{uuid.uuid4().hex[:6]}@munim.example"
        if organisation is None:
            user = User.objects.create_superuser(email, "correct horse 7")
        else:
            user = organisations.add_member(
                organisation=organisation, email=email, role=role, password="correct horse 7"
            ).user
        client = Client()
        client.force_login(user)
        return client

    return enter


@pytest.fixture
def world(organisation: Organisation, customer: Customer, settings: Any, listening: Any) -> Organisation:
    """One row of every kind."""
    settings.WEBHOOK_ALLOW_PRIVATE = True
    lines = [debit("receivable", Money("5", "INR"), customer_id=customer.pk), credit("revenue", Money("5", "INR"))]
    ledger.post(organisation=organisation, entry=Entry(kind="t", source_type="t", source_id=customer.pk, occurred_at=START, key="k", lines=lines))  # fmt: skip  # noqa: E501
    meters.create_meter(organisation=organisation, code="calls", name="Calls", aggregation="sum", actor=SYSTEM)
    usage.ingest(organisation=organisation, events=[{"event_id": "e", "meter": "calls", "customer": "c-1", "occurred_at": "2026-03-01T00:00:00Z"}])  # fmt: skip  # noqa: E501
    usage.ingest(organisation=organisation, events=[{"event_id": "p", "meter": "none", "customer": "c-1", "occurred_at": "2026-03-01T00:00:00Z"}], park=True)  # fmt: skip  # noqa: E501
    usage_revisions.void_event(organisation=organisation, event_id="e", reason="A test", actor=SYSTEM)
    usage_imports.begin_import(
        organisation=organisation, file_name="f.csv", content=b"event_id,meter,customer,occurred_at\n", actor=SYSTEM
    )
    customers.create_beneficiary(organisation=organisation, customer_id=customer.pk, external_id="b", name="Ravi Verma")
    webhooks.create_endpoint(organisation=organisation, url="http://127.0.0.1:9/", actor=SYSTEM)
    organisations.create_api_key(organisation=organisation, name="k", scopes=["customer.view"])
    listening("customer.created", consumer="broken")(lambda event: 1 / 0)
    outbox.dispatch(organisation.pk)
    EventHandling.objects.filter(consumer="broken").update(status="dead", next_attempt_at=None)
    EventHandling.objects.exclude(consumer="broken").delete()  # the page shows dead letters only
    return organisation


def changelist(page: TenantAdmin) -> str:
    return reverse(f"admin:billing_{page.opts.model_name}_changelist")


@pytest.mark.parametrize("page", OURS, ids=lambda page: page.opts.model_name)
def test_every_page_opens_for_those_who_may_and_for_nobody_else(
    world: Organisation, other: Organisation, sign_in: SignIn, page: TenantAdmin
) -> None:
    organisations.add_member(
        organisation=world, email="somebody@acme.example", role="clerk", password="correct horse 7"
    )
    row = (
        page.model.objects.exclude(organisation=other).first()
        if hasattr(page.model, "organisation")
        else page.model.objects.first()
    )
    assert row is not None
    root, stranger = sign_in(None), sign_in(other, "manager")
    outsider = Client()

    assert root.get(changelist(page)).status_code == 200
    assert root.get(path_to(row)).status_code == 200
    assert outsider.get(path_to(row)).status_code == 302
    listing = stranger.get(changelist(page))
    assert listing.status_code in (200, 403)
    if listing.status_code == 200:
        assert path_to(row) not in listing.content.decode()
    assert stranger.get(path_to(row)).status_code in (302, 403, 404)
    for add_or_delete in ("add", "delete"):
        path = reverse(
            f"admin:billing_{page.opts.model_name}_{add_or_delete}", args=[row.pk] if add_or_delete == "delete" else []
        )
        assert root.get(path).status_code == 403


@pytest.mark.parametrize(
    ("role", "model", "expected"),
    [
        ("clerk", "journalentry", 200), ("support", "journalentry", 403), ("support", "customer", 200),
        ("clerk", "auditrecord", 403), ("auditor", "auditrecord", 200), ("clerk", "apikey", 403), ("admin", "apikey", 200),
        ("admin", "customer", 403), ("developer", "testclock", 200), ("manager", "testclock", 200), ("support", "event", 403),
    ],
)  # fmt: skip
def test_roles_open_their_pages_only(
    world: Organisation, sign_in: SignIn, role: str, model: str, expected: int
) -> None:
    assert sign_in(world, role).get(reverse(f"admin:billing_{model}_changelist")).status_code == expected


def test_personal_data_is_shown_for_a_reason_only(world: Organisation, customer: Customer, sign_in: SignIn) -> None:
    manager, clerk = sign_in(world, "manager"), sign_in(world, "clerk")
    path = reverse("admin:billing_customer_reveal", args=[customer.pk])

    for page in (manager.get(changelist(site._registry[Customer])), manager.get(path_to(customer))):
        text = page.content.decode()
        assert "asha@example.com" not in text
        assert "+919845012345" not in text
    assert clerk.get(path).status_code == 403
    assert "asha@example.com" not in manager.post(path, {"confirm": "yes", "reason": ""}).content.decode()
    shown = manager.post(path, {"confirm": "yes", "reason": "called back about the mandate"})

    assert "asha@example.com" in shown.content.decode()
    record = AuditRecord.objects.get(action="customer.unmasked")
    assert (record.reason, record.target_id) == ("called back about the mandate", str(customer.pk))
    assert record.actor_label.startswith("manager-")


@pytest.mark.parametrize(
    ("page", "title"),
    [("billing_eventhandling", "Dead letters"), ("analytics_mrrmovement", "MRR movements")],
)
def test_pages_are_titled_in_words(world: Organisation, sign_in: SignIn, page: str, title: str) -> None:
    shown = sign_in(world, "manager").get(reverse(f"admin:{page}_changelist")).content.decode()

    assert f'<span aria-current="page">{title}</span>' in shown


def test_a_dead_letter_is_replayed_from_the_list_with_a_reason(world: Organisation, sign_in: SignIn) -> None:
    dead = EventHandling.objects.get(status="dead")
    path = reverse("admin:billing_eventhandling_changelist")
    form = {"action": "replay", "_selected_action": [dead.pk]}

    asked = sign_in(world, "manager").post(path, form)
    assert b"Kept in the audit trail" in asked.content
    assert EventHandling.objects.get(pk=dead.pk).status == "dead"
    sign_in(world, "clerk").post(path, form | {"confirm": "yes", "reason": "cured"})
    assert EventHandling.objects.get(pk=dead.pk).status == "dead"

    done = sign_in(world, "manager").post(path, form | {"confirm": "yes", "reason": "cured"})
    assert done.status_code == 302
    assert EventHandling.objects.get(pk=dead.pk).status == "waiting"
    assert AuditRecord.objects.get(action="event.replayed").reason == "cured"


def test_an_organisations_other_member_cannot_decide_by_posting(
    world: Organisation, other: Organisation, sign_in: SignIn
) -> None:
    key = ApiKey.objects.of(world).get()
    path = reverse("admin:billing_apikey_revoke", args=[key.pk])

    assert sign_in(other, "admin").post(path, {"confirm": "yes", "reason": "mischief"}).status_code == 404
    assert sign_in(world, "clerk").post(path, {"confirm": "yes", "reason": "mischief"}).status_code in (403, 404)
    assert ApiKey.objects.get(pk=key.pk).revoked_at is None
    assert sign_in(world, "admin").post(path, {"confirm": "yes", "reason": "leaked"}).status_code == 302
    assert ApiKey.objects.get(pk=key.pk).revoked_at is not None


def test_members_and_keys_are_made_by_the_admin(world: Organisation, sign_in: SignIn) -> None:
    admin = sign_in(world, "admin")
    member = reverse("admin:billing_organisation_add_member", args=[world.pk])
    key = reverse("admin:billing_organisation_create_key", args=[world.pk])

    admin.post(
        member,
        {"confirm": "yes", "email": "new@acme.example", "role": "clerk", "password": "correct horse 7", "name": ""},
    )
    refused = admin.post(key, {"confirm": "yes", "name": "k2", "scopes": ["refund.issue"]})
    made = admin.post(key, {"confirm": "yes", "name": "k2", "scopes": ["event.view"]})

    assert Membership.objects.get(user__email="new@acme.example").role == "clerk"
    assert "mk_" not in refused.content.decode()
    assert "mk_" in made.content.decode()
    assert "no-store" in made["Cache-Control"]
    assert ApiKey.objects.get(name="k2").scopes == ["event.view"]


def test_the_clock_is_turned_from_the_console(world: Organisation, sign_in: SignIn) -> None:
    path = reverse("admin:billing_testclock_advance", args=[world.test_clock_id])

    asked = sign_in(world, "developer").get(path)
    sign_in(world, "clerk").post(path, {"confirm": "yes", "to_0": "2026-04-05", "to_1": "00:00:00"})
    assert TestClock.objects.get().status == "ready"
    sign_in(world, "developer").post(
        path, {"confirm": "yes", "to_0": "2026-04-05", "to_1": "00:00:00", "step_hours": ""}
    )

    assert asked.status_code == 200
    assert TestClock.objects.get().status == "advancing"


def test_the_trial_balance_page_says_that_it_is_balanced(world: Organisation, sign_in: SignIn) -> None:
    text = sign_in(world, "auditor").get(reverse("admin:billing_ledgeraccount_trial_balance")).content.decode()

    assert "Acme: balanced" in text
    assert "receivable" in text


def test_lists_do_not_ask_per_row(world: Organisation, sign_in: SignIn, django_assert_max_num_queries: Any) -> None:
    root = sign_in(None)
    for number in range(12):
        customers.create_customer(
            organisation=world, external_id=f"n-{number}", name="N", email=f"n{number}@example.com"
        )
    outbox.dispatch(world.pk)

    for model in (Customer, Event, EventHandling, AuditRecord, WebhookDelivery, LedgerAccount, JournalEntry):
        with django_assert_max_num_queries(14):
            root.get(reverse(f"admin:billing_{model._meta.model_name}_changelist"))
