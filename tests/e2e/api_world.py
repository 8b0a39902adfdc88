"""Two organisations with one of everything the API shows, made through the services."""

import contextlib
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from django.apps import apps
from django.db import connection, transaction
from moneyed import Money
from rest_framework.test import APIClient

from billing import permissions
from billing.clock import wall_now
from billing.context import Actor
from billing.models import Event, Organisation, ParkedUsage, TestClock, WebhookDelivery
from billing.models.fields import lookup_hash
from billing.services import customers, meters, organisations, usage, usage_imports, usage_revisions, webhooks
from invoices.drafts import InvoiceDraft, LineInput
from invoices.models import Invoice
from invoices.services import credit_notes, drafting, finalizing, installments, mailing, tax_rates, texting
from invoices.services.settling import allocate_payment
from payments.gateways.base import LineKind, SettlementLineRecord, SettlementRecord, SettlementStatus
from payments.models import Dispute, GatewayAccount, InboundWebhook, PaymentMethod, ReconciliationException, Refund
from payments.services import accounts, collection, matching, offline, settlements, statements
from subscriptions.models import (
    DunningCase,
    FailedCycle,
    InterimInvoice,
    Plan,
    PlanMigration,
    PlanMigrationItem,
    Subscription,
)
from subscriptions.rules import Term
from subscriptions.services import (
    acting,
    billing_run,
    billing_terms,
    catalog,
    coupons,
    draft_editing,
    dunning,
    dunning_pauses,
    lifecycle,
    thresholds,
)
from subscriptions.services.entitlements import consuming, features, grants
from subscriptions.services.entitlements.terms import TermsInput, set_plan_entitlements
from subscriptions.services.experiments import drafting as experiments
from subscriptions.services.experiments import enrolling, running
from subscriptions.services.experiments.drafting import VariantInput

NOW = datetime(2026, 6, 15, 6, 30, tzinfo=UTC)
CLOSED_PORT = "http://127.0.0.1:9"  # nobody listens there: no call of a test leaves the machine
ACTOR = Actor.system("tests")
_serial = itertools.count(1)


@dataclass
class House:
    """One organisation, a client that may do everything in it, and the ids of its rows by resource and by name."""

    organisation: Organisation
    secret: str
    rows: dict[str, list[str]] = field(default_factory=dict)
    named: dict[str, Any] = field(default_factory=dict)

    def client(self) -> APIClient:
        """An API client with every permission."""
        return APIClient(HTTP_AUTHORIZATION=f"Bearer {self.secret}")

    def client_with(self, *scopes: str) -> APIClient:
        """An API client with these permissions."""
        _, secret = organisations.create_api_key(organisation=self.organisation, name="narrow", scopes=list(scopes))
        return APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")

    def add(self, resource: str, row: Any, name: str = "") -> Any:
        """Remember a row as one of ``resource`` (the part of the address after /api/v1/)."""
        self.rows.setdefault(resource, []).append(str(row.pk))
        if name:
            self.named[name] = row
        return row

    def id_for(self, path: str) -> str:
        """An id that fits the ``{id}`` of ``path``, of a row whose state lets it happen."""
        name = FITTING.get(path.removeprefix("/api/v1/"))
        return str(self.named[name].pk) if name else self.rows[resource_of(path)][0]

    def address(self, path: str) -> str:
        """``path`` with such an id in it."""
        return path.replace("{id}", self.id_for(path)) if "{id}" in path else path


FITTING = {
    "dunning-policies/{id}/archive": "spare_policy",
    "billing-cycles/{id}/retry": "failed",
    "billing-runs/{id}/retry": "failing_run",
    "experiments/{id}": "experiment_draft",
    "experiments/{id}/start": "experiment_draft",
    "experiments/{id}/conclude": "experiment_stopped",
    "invoices/{id}/finalize": "draft",
    "payments/{id}/refunds": "paid",
    "plan-migrations/{id}/retry": "moved_in_part",
    "subscriptions/{id}/cancel-change": "changing",
    "subscriptions/{id}/change-term": "termed",
    "subscriptions/{id}/resume": "paused",
    "subscriptions/{id}/reactivate": "suspended",
    "subscriptions/{id}/uncancel": "ending",
}


def resource_of(path: str) -> str:
    """What ``{id}`` names: ``/api/v1/invoices/{id}/void`` is about ``invoices``."""
    return path.removeprefix("/api/v1/").split("/{id}")[0]


def build(code: str) -> House:
    """An organisation with one of everything, on a test clock that stands at ``NOW``."""
    organisation = organisations.create_organisation(
        code=code, name=code.title(), currency="INR", country="IN", region="29", time_zone="Asia/Kolkata",
        financial_year_start=4, test_clock=TestClock.objects.create(name=code, now=NOW - timedelta(days=60)),
        details={"address": {"line1": "1 Main Road", "city": "Bengaluru", "postal_code": "560001"}},
    )  # fmt: skip
    key, secret = organisations.create_api_key(organisation=organisation, name="all", scopes=sorted(permissions.ALL))
    house = House(organisation, secret)
    house.add("api-keys", organisations.create_api_key(organisation=organisation, name="idle", scopes=["plan.view"])[0])
    house.named["key"] = key
    house.add("test-clocks", organisation.test_clock, "clock")
    for furnish in (
        _customers,
        _catalogue,
        _entitlements,
        _experiments,
        _money,
        _invoices,
        _billing,
        _coupons,
        _dunning,
        _reconciliation,
        _messages,
        _books,
    ):
        furnish(house)
    return house


def _customers(house: House) -> None:
    organisation = house.organisation
    family = customers.create_customer(
        organisation=organisation, external_id="family-1", name="Asha Verma", email="asha@families.example",
        phone="+919845012345", address={"line1": "12, 3rd Main", "city": "Bengaluru", "region": "29"}, actor=ACTOR,
    )  # fmt: skip
    house.add("customers", family, "customer")
    child = customers.create_beneficiary(
        organisation=organisation, customer_id=family.pk, external_id="student-1", name="Ravi Verma", actor=ACTOR
    )
    house.named["beneficiary"] = child


def _catalogue(house: House) -> None:
    organisation, customer = house.organisation, house.named["customer"]
    rate = tax_rates.add_rate(
        organisation=organisation, category="saas", country="IN", rate=Decimal(18), valid_from=date(2017, 7, 1),
        code="9983", actor=ACTOR,
    )  # fmt: skip
    house.add("tax-rates", rate)
    meter = meters.create_meter(
        organisation=organisation, code="calls", name="Calls", aggregation="sum", unit="call", actor=ACTOR
    )
    house.add("meters", meter, "meter")
    measured = {"event_id": "u-1", "meter": "calls", "customer": "family-1", "quantity": "5"}
    usage.ingest(organisation=organisation, events=[
        measured | {"occurred_at": "2026-04-11T00:00:00Z"},
        measured | {"event_id": "u-2", "occurred_at": "2026-04-10T00:00:00Z"},
    ])  # fmt: skip
    unknown = measured | {"event_id": "u-3", "meter": "nowhere", "occurred_at": "2026-04-10T00:00:00Z"}
    usage.ingest(organisation=organisation, events=[unknown], park=True)
    house.add("parked-usage", ParkedUsage.objects.of(organisation).get())
    told = {"organisation": organisation, "actor": ACTOR}
    house.add("usage-revisions", usage_revisions.void_event(event_id="u-2", reason="Never happened", **told))
    file = b"event_id,meter,customer,occurred_at\nu-1,calls,family-1,2026-04-11T00:00:00Z\nu-4,calls,nobody,x\n"
    imported = usage_imports.begin_import(file_name="april.csv", content=file, **told)
    house.add("usage-imports", usage_imports.read_on(import_id=imported.pk))
    prices = [
        catalog.PriceInput(code="seats", name="Seats", currency="INR", model="per_unit", unit_price=Decimal(499),
                           unit="seat", tax_category="saas"),
        catalog.PriceInput(code="storage", name="Extra storage", currency="INR", model="per_unit", kind="add_on",
                           unit_price=Decimal(199), unit="GB", tax_category="saas"),
        catalog.PriceInput(code="calls", name="Calls", currency="INR", model="graduated", meter="calls",
                           tiers=[{"up_to": "1000", "unit_price": "0"}, {"up_to": None, "unit_price": "0.02"}]),
    ]  # fmt: skip
    plan = catalog.create_plan(
        organisation=organisation, code="team", name="Team", interval="month", prices=prices, actor=ACTOR
    )
    house.add("plans", plan, "plan")
    plain = catalog.create_plan(  # a customer's meter is billed by one subscription
        organisation=organisation, code="club", name="Club", interval="month", prices=prices[:2], actor=ACTOR
    )
    house.add("plans", plain)
    for name in ("subscription", "paused", "ending", "changing", "suspended"):
        chosen = plan if name == "subscription" else plain
        running = acting.subscribe(
            organisation=organisation, actor=ACTOR, customer_id=customer.pk, plan_id=chosen.pk, quantity=3
        )
        house.add("subscriptions", running, name)
    about = {"organisation": organisation, "actor": ACTOR}
    year = Term(interval="year", renewals=2, notice_days=30)
    house.add(
        "subscriptions", acting.subscribe(customer_id=customer.pk, plan_id=plain.pk, term=year, **about), "termed"
    )
    acting.pause(subscription_id=house.named["paused"].pk, **about)
    ahead = NOW + timedelta(days=10)  # when the house is asked, this still lies ahead
    acting.cancel(subscription_id=house.named["ending"].pk, on=ahead, **about)
    acting.change(subscription_id=house.named["changing"].pk, quantity=2, on=ahead, **about)
    lifecycle.suspend(subscription_id=house.named["suspended"].pk, actor=ACTOR, reason="Does not pay")
    _migrations(house, plain, plan)


def _migrations(house: House, source: Any, target: Any) -> None:
    """A move that waits for its day, and one that was refused for one subscription."""
    moves = {
        "organisation": house.organisation,
        "from_plan": source,
        "to_version": target.versions.get(),
        "created_at": NOW,
    }
    house.add("plan-migrations", PlanMigration.objects.create(when="date", starts_at=NOW + timedelta(days=90), **moves))
    done = PlanMigration.objects.create(when="renewal", starts_at=NOW, status="done", heartbeat_at=NOW, **moves)
    PlanMigrationItem.objects.create(
        organisation=house.organisation, migration=done, subscription=house.named["paused"], status="refused", currency="INR",
        reason="transition_refused: The subscription is paused; it cannot be changed now.",
    )  # fmt: skip
    house.add("plan-migrations", done, "moved_in_part")


def _billing(house: House) -> None:
    """A customer with a grace, whose draft was edited; a threshold that was passed; a cycle that failed."""
    organisation = house.organisation
    about = {"organisation": organisation, "actor": ACTOR}
    patient = customers.create_customer(
        external_id="clinic-1", name="Meera Rao", email="meera@families.example", **about
    )
    house.named["patient"] = patient
    house.add(
        "billing-terms", billing_terms.set_terms(customer_id=patient.pk, grace_days=60, consolidate=True, **about)
    )
    club = Plan.objects.of(organisation).get(code="club")
    waiting = acting.subscribe(customer_id=patient.pk, plan_id=club.pk, quantity=2, **about)
    drafted = house.named["run_draft"] = Invoice.objects.get(subscription_ref=waiting.pk, status="draft")
    edit = draft_editing.edit_draft(
        invoice_id=drafted.pk, actor=ACTOR, kind="add", description="Training", amount=Decimal(50), reason="agreed"
    )
    house.add("draft-edits", edit)
    threshold = thresholds.add_threshold(plan_id=house.named["plan"].pk, amount=Money("5000.00", "INR"), **about)
    house.add("usage-thresholds", threshold)
    interim = InterimInvoice.objects.create(
        organisation=organisation, subscription=house.named["subscription"], usage_from=NOW - timedelta(days=90),
        usage_until=NOW - timedelta(days=80), number=1, threshold=Money("100.00", "INR"), used=Money("120.00", "INR"),
        invoice=issued(house, "120.00"), issued_at=NOW - timedelta(days=80),
    )  # fmt: skip
    house.add("interim-invoices", interim)
    run = house.add("billing-runs", billing_run.start_run(**about), "failing_run")
    broken = acting.subscribe(customer_id=patient.pk, plan_id=club.pk, **about)
    Subscription.objects.filter(pk=broken.pk).update(failure="missing_price: no price")
    failed = FailedCycle.objects.create(
        organisation=organisation, subscription=broken, run=run, starts_at=NOW - timedelta(days=30), code="missing_price",
        reason="missing_price: no price", failed_at=NOW - timedelta(days=30),
    )  # fmt: skip
    house.add("billing-cycles", failed, "failed")


def _experiments(house: House) -> None:
    """One that runs and was read, one that is stopped, and a draft, each on a plan of its own."""
    about: dict[str, Any] = {"organisation": house.organisation, "actor": ACTOR}
    prices = [catalog.PriceInput(code="base", name="Base", currency="INR", model="flat", unit_price=Decimal(499))]
    halves = [VariantInput(code="today", version=1, weight=50), VariantInput(code="dearer", version=2, weight=50)]
    for code in ("running", "stopped", "draft"):
        plan = catalog.create_plan(code=f"lab-{code}", name="Lab", interval="month", prices=prices, **about)
        catalog.add_version(plan_id=plan.pk, prices=prices, actor=ACTOR)
        made = experiments.create_experiment(plan=plan, code=code, name="Which price", variants=halves, **about)
        house.add("experiments", made, f"experiment_{code}")
        if code != "draft":
            planned = {"baseline_rate": Decimal("0.1"), "minimum_effect": Decimal("0.05")}
            made = running.start_experiment(experiment_id=made.pk, actor=ACTOR, **planned)
            enrolling.assign(experiment=made, customer=house.named["customer"])
            running.read_figures(experiment=made)
    running.stop_experiment(experiment_id=house.named["experiment_stopped"].pk, actor=ACTOR)


def _entitlements(house: House) -> None:
    about = {"organisation": house.organisation, "actor": ACTOR}
    for code, kind in (("exports", "quota"), ("sso", "boolean")):
        house.add("features", features.create_feature(code=code, name=code.title(), kind=kind, **about), code)
    set_plan_entitlements(
        plan_id=house.named["plan"].pk, actor=ACTOR, entitlements=[TermsInput(feature="exports", limit=Decimal(10))]
    )
    grant = grants.give(
        customer_id=house.named["customer"].pk, kind="grant", terms=TermsInput(feature="exports", limit=Decimal(5)),
        reason="Year-end reports", expires_at=NOW + timedelta(days=30), **about,
    )  # fmt: skip
    house.add("entitlement-grants", grant)
    consuming.consume(
        organisation=house.organisation,
        customer="family-1",
        feature="exports",
        quantity=Decimal(12),
        key="seed",
        at=NOW,
    )


def _money(house: House) -> None:
    organisation, customer = house.organisation, house.named["customer"]
    n = next(_serial)
    account = accounts.add_account(
        organisation=organisation, provider="razorpay", code="razorpay", key_id=f"rzp_test_{n}", key_secret="s",
        webhook_secret="w", actor=ACTOR,
    )  # fmt: skip
    house.add("gateway-accounts", account, "account")
    for index in (1, 2):
        token = f"token_{n}_{index}"
        method = PaymentMethod.objects.create(
            organisation=organisation, customer=customer, gateway_account=account, kind="upi", status="active", token=token,
            token_hash=lookup_hash(token), handle="as••@upi", is_default=index == 1, created_at=NOW,
            max_amount=Money("15000.00", "INR"),
        )  # fmt: skip
        house.add("payment-methods", method, "method" if index == 1 else "spare_method")
    waiting = collection.request_payment(
        organisation=organisation, customer_id=customer.pk, amount=Money("750.00", "INR"), reference="excursion-1",
        automatic=False,
    )  # fmt: skip
    house.add("payments", waiting, "waiting")
    paid = paid_offline(house, "1000.00", "receipt-1")
    house.add("payments", paid, "paid")
    refund = Refund.objects.create(
        organisation=organisation, payment=paid, amount=Money("100.00", "INR"), reason="Meals not taken", status="failed",
        idempotency_key=f"seed-{n}", error="no", created_at=NOW,
    )  # fmt: skip
    house.add("refunds", refund)
    dispute = Dispute.objects.create(
        organisation=organisation, payment=paid, gateway_account=account, gateway_ref=f"disp_{n}",
        amount=Money("50.00", "INR"), fee=Money("5.00", "INR"), opened_at=NOW,
    )  # fmt: skip
    house.add("disputes", dispute)


def paid_offline(house: House, amount: str, reference: str) -> Any:
    """A payment in cash."""
    return offline.record_offline_payment(
        organisation=house.organisation, customer_id=house.named["customer"].pk, amount=Money(amount, "INR"),
        reference=reference, received_on=date(2026, 4, 10), note="Cash", actor=ACTOR,
    )  # fmt: skip


def draft(house: House, amount: str = "1000.00") -> Any:
    """A draft over ``amount`` before tax."""
    line = LineInput(description="Workshop", amount=Money(amount, "INR"), tax_category="saas")
    wanted = InvoiceDraft(
        customer_id=house.named["customer"].pk, currency="INR", lines=[line], net_days=7, collect_automatically=False
    )
    return drafting.write_draft(organisation=house.organisation, draft=wanted, at=NOW - timedelta(days=50))


def issued(house: House, amount: str = "1000.00") -> Any:
    """A finalised invoice."""
    made = draft(house, amount)
    return finalizing.finalize_invoice(invoice_id=made.pk, at=NOW - timedelta(days=50), actor=ACTOR)


def _invoices(house: House) -> None:
    organisation, customer = house.organisation, house.named["customer"]
    house.add("invoices", issued(house), "open")
    house.add("invoices", draft(house), "draft")
    house.add("invoices", issued(house, "200.00"), "late")
    closed = house.add("invoices", issued(house, "500.00"), "paid_invoice")
    payment = paid_offline(house, "590.00", f"invoice:{closed.pk}")
    allocate_payment(payment_id=payment.pk, at=NOW)
    note = credit_notes.issue_credit_note(
        invoice_id=house.add("invoices", issued(house, "300.00"), "credited").pk, amounts={1: Money("100.00", "INR")},
        reason="One day less", actor=ACTOR, at=NOW - timedelta(days=40),
    )  # fmt: skip
    house.add("credit-notes", note)
    plan = installments.create_plan(
        organisation=organisation, customer_id=customer.pk, total=Money("1200.00", "INR"), count=3, interval_months=1,
        first_due_on=date(2026, 9, 1), description="Annual fee", actor=ACTOR,
    )  # fmt: skip
    house.add("installment-plans", plan)
    mail = mailing.queue_mail(
        organisation=organisation, customer_id=customer.pk, kind="invoice", key="seed", invoice_id=closed.pk
    )
    house.add("mails", mail)


def _coupons(house: House) -> None:
    organisation = house.organisation
    offered = {
        "organisation": organisation,
        "name": "Spring",
        "kind": "percent",
        "percent": Decimal(10),
        "actor": ACTOR,
    }
    house.add("coupons", coupons.create_coupon(code="spring", max_per_customer=1000, **offered))
    word = coupons.create_promotion_code(organisation=organisation, code="WELCOME", coupon="spring", actor=ACTOR)
    house.add("promotion-codes", word)
    taken = coupons.redeem(
        organisation=organisation, customer_id=house.named["customer"].pk, coupon="spring", actor=ACTOR,
        subscription_id=house.named["subscription"].pk,
    )  # fmt: skip
    house.add("applied-coupons", taken)


def _dunning(house: House) -> None:
    organisation = house.organisation
    stages = [{"after_days": 1, "actions": ["mail:reminder_1"]}]
    policy = dunning.create_policy(
        organisation=organisation, code="gentle", stages=stages, actor=ACTOR, is_default=True
    )
    house.add("dunning-policies", policy)
    invoice = house.named["late"]
    put_away = dunning.create_policy(organisation=organisation, code="strict", stages=stages, actor=ACTOR)
    house.add("dunning-policies", put_away, "spare_policy")
    case = DunningCase.objects.create(
        organisation=organisation, policy=policy, customer=house.named["customer"], invoice=invoice, claimed=invoice.due,
        recovered=Money(0, "INR"), paid_before=invoice.paid, anchor=invoice.pk, overdue_since=date(2026, 5, 3),
        next_stage_on=date(2026, 7, 1), opened_at=NOW,
        history=[{"stage": 1, "on": "2026-05-04", "days_overdue": 1, "actions": ["mail:reminder_1"]}],
    )  # fmt: skip
    house.add("dunning-cases", case)
    quiet = customers.create_customer(organisation=organisation, external_id="family-2", name="Bela Rao",
                                      phone="+919845012346", actor=ACTOR)  # fmt: skip
    pause = dunning_pauses.pause(
        organisation=organisation, customer_id=quiet.pk, until=date(2026, 8, 1), reason="Cheque is coming", actor=ACTOR
    )
    house.add("dunning-pauses", pause)
    text = texting.queue_text(
        organisation=organisation,
        customer_id=house.named["customer"].pk,
        kind="reminder_1",
        key="seed",
        invoice_id=invoice.pk,
    )
    house.add("text-messages", text)
    house.add("text-opt-outs", texting.opt_out(organisation=organisation, customer_id=quiet.pk, actor=ACTOR))
    house.add("billing-runs", billing_run.start_run(organisation=organisation, actor=ACTOR))


def _reconciliation(house: House) -> None:
    organisation, account = house.organisation, house.named["account"]
    bank = statements.create_bank_account(
        organisation=organisation, code="hdfc", name="HDFC Bank", currency="INR", last4="4417", actor=ACTOR
    )
    house.add("bank-accounts", bank, "bank")
    zero = Money(0, "INR")
    line = SettlementLineRecord(
        line_ref="row-1", kind=LineKind.PAYMENT, gateway_ref="pay_unknown", amount=Money(500, "INR"), fee=zero, tax=zero,
        net=Money(500, "INR"), occurred_at=NOW - timedelta(days=20), order_ref="",
    )  # fmt: skip
    record = SettlementRecord(
        gateway_ref=f"setl_{next(_serial)}", amount=Money(500, "INR"), status=SettlementStatus.PAID,
        created_at=NOW - timedelta(days=19), settled_on=date(2026, 5, 27), utr=f"UTR{next(_serial):08d}",
    )  # fmt: skip
    recorded = settlements.record_settlement(account=account, record=record, lines=[line], at=NOW - timedelta(days=19))
    house.add("settlements", recorded.settlement, "settlement")
    statements.import_statement(
        organisation=organisation, bank_account=bank, file_name="may.csv", actor=ACTOR,
        content=b"Date,Description,Amount\n2026-05-28,Unknown transfer,123.00\n2026-05-29,Monthly fee,-25.00\n",
    )  # fmt: skip
    for found in bank.lines.order_by("row_number"):
        house.add("bank-lines", found)
    TestClock.objects.filter(pk=organisation.test_clock_id).update(now=NOW)
    matching.run_matching(organisation=organisation)
    for exception in ReconciliationException.objects.of(organisation).order_by("id"):
        house.add("reconciliation-exceptions", exception, f"exception of a {exception.source_type}")


def _messages(house: House) -> None:
    organisation = house.organisation
    endpoint = webhooks.create_endpoint(
        organisation=organisation, url="https://app.example.com/hooks", event_types=["invoice.paid"], actor=ACTOR
    )
    house.add("webhook-endpoints", endpoint)
    event = Event.objects.of(organisation).order_by("id").first()
    delivery = WebhookDelivery.objects.create(
        organisation=organisation, endpoint=endpoint, event=event, status="dead", next_attempt_at=wall_now()
    )
    house.add("webhook-deliveries", delivery)
    message = InboundWebhook.objects.create(
        organisation=organisation, gateway_account=GatewayAccount.objects.get(pk=house.named["account"].pk),
        event_id=f"evt_{next(_serial)}", type="payment.captured", body="{}", status="dead", error="no",
        received_at=wall_now(),
    )  # fmt: skip
    house.add("inbound-webhooks", message)


def _books(house: House) -> None:
    from billing.models import AuditRecord, JournalEntry

    house.add("ledger/entries", JournalEntry.objects.of(house.organisation).order_by("id").first())
    house.add("audit-records", AuditRecord.objects.of(house.organisation).order_by("id").first())


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """What happens inside is taken back. For services that must be outermost, this transaction is none."""
    around = transaction.atomic()
    around._from_testcase = True
    with around:
        yield
        transaction.set_rollback(True)


def fingerprint(*, without: Collection[str] = ()) -> dict[str, str]:
    """Number of rows and where they lie, by table: every insert, update and delete changes it."""
    tables = [
        model._meta.db_table for model in apps.get_models()
        if model._meta.managed and not model._meta.proxy and model._meta.db_table not in without
    ]  # fmt: skip
    parts = [
        f"SELECT '{t}', count(*), coalesce(sum(hashtext(ctid::text)), 0) FROM \"{t}\"" for t in sorted(set(tables))
    ]
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        found = cursor.execute(" UNION ALL ".join(parts), prepare=True)  # planning it takes ten times as long
        return {table: f"{count}:{places}" for table, count, places in found}


def changed(before: dict[str, str], **options: Any) -> set[str]:
    """Tables that differ from ``before``."""
    return {table for table, value in fingerprint(**options).items() if before.get(table) != value}
