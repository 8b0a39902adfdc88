"""One organisation with a few rows of everything the console shows, made by the services that make them in life."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.apps import apps
from django.test import Client, RequestFactory
from django.urls import reverse
from moneyed import Money

from billing import clock
from billing.admin.base import TenantAdmin, site
from billing.models import Customer, Event, EventHandling, Organisation, TestClock, User
from billing.services import customers, organisations, outbox, usage_imports, usage_revisions, webhooks
from billing.services import usage as usage_service
from billing.services.meters import create_meter
from invoices.drafts import LineInput
from invoices.models import Invoice
from invoices.services import (
    credit_notes,
    drafting,
    finalizing,
    installments,
    mailing,
    overdue,
    settling,
    tax_rates,
    texting,
)
from payments.gateways.base import DisputeRecord, DisputeState, SettlementLineRecord, SettlementRecord, SettlementStatus
from payments.gateways.base import LineKind as Kind
from payments.models import GatewayAccount, InboundWebhook, Payment, PaymentAttempt, PaymentMethod
from payments.services import accounts, disputes, offline, refunds, settlements, statements
from payments.services.matching import run_matching
from subscriptions.models import Plan
from subscriptions.services import coupons, dunning_pauses, plan_migrations
from subscriptions.services.billing_run import run_billing
from subscriptions.services.catalog import PriceInput, add_version, create_plan
from subscriptions.services.dunning import run_dunning
from subscriptions.services.entitlements import consuming, features, grants
from subscriptions.services.entitlements.terms import TermsInput, set_plan_entitlements
from subscriptions.services.experiments import drafting as experiments
from subscriptions.services.experiments import enrolling, running
from subscriptions.services.experiments.drafting import VariantInput
from subscriptions.services.lifecycle import create_subscription
from tests.subscriptions.house import CLERK

NOON = datetime(2026, 6, 1, 6, 30, tzinfo=UTC)
PASSWORD = "correct horse battery"
WATCHER = "watcher@munim.test"
STATEMENT = """Date,Narration,Ref,Debit,Credit,Balance
2026-06-03,NEFT RAZORPAY {utr},{utr},,{paid},{paid}
2026-06-04,BANK CHARGES JUNE,CHG1,59.00,,{left}
2026-06-04,UNKNOWN SENDER,XX9,,750.00,{end}
"""


@dataclass
class World:
    """The organisation and what tests look for."""

    organisation: Organisation
    customers: list[Customer]
    invoices: list[Invoice]

    def rows(self, limit: int = 1) -> list[tuple[str, Any]]:
        """Rows of the organisation that have a console page, a few of each kind: (model label, id)."""
        request, found = RequestFactory().get("/console/"), []
        request.user = User.objects.get(email=WATCHER)
        for model in apps.get_models():
            page = site.get_model_admin(model) if site.is_registered(model) else None
            if isinstance(page, TenantAdmin):
                own = page.get_queryset(request).filter(**{page.organisation_path: self.organisation.pk})
                found += [(model._meta.label_lower, pk) for pk in own.values_list("pk", flat=True)[:limit]]
        return found


def build(code: str = "school", *, name: str = "St. Xavier School") -> World:
    """Make the world; two of them do not touch each other."""
    organisation = organisations.create_organisation(
        code=code, name=name, currency="INR", country="IN", region="29", time_zone="Asia/Kolkata", financial_year_start=4,
        test_clock=TestClock.objects.create(name=f"{code} clock", now=NOON),
    )  # fmt: skip
    tax_rates.add_rate(organisation=organisation, category="saas", country="IN", rate=Decimal(18), code="998314",
                       valid_from=date(2017, 7, 1), actor=CLERK)  # fmt: skip
    people = [
        customers.create_customer(
            organisation=organisation, actor=CLERK, external_id=f"{code}-{n}", name=f"{given} Verma",
            email=f"{given.lower()}@{code}.example", address={"country": "IN", "region": "29"},
        )
        for n, given in enumerate(("Asha", "Bela", "Chand"), start=1)
    ]  # fmt: skip
    if not User.objects.filter(email=WATCHER).exists():
        User.objects.create_superuser(WATCHER)
    for role in ("clerk", "manager"):
        organisations.add_member(organisation=organisation, email=f"{role}@{code}.test", role=role, password=PASSWORD)
    world = World(organisation=organisation, customers=people, invoices=[])
    _platform(world)
    _subscriptions(world)
    _entitlements(world)
    _experiment(world)
    _invoices(world)
    _payments(world)
    _reconciliation(world)
    outbox.dispatch(organisation.pk)
    return world


def later(world: World, **delta: float) -> datetime:
    """Turn the organisation's clock on."""
    now = clock.now(world.organisation) + timedelta(**delta)
    TestClock.objects.filter(pk=world.organisation.test_clock_id).update(now=now)
    return now


def _platform(world: World) -> None:
    organisation = world.organisation
    organisations.create_api_key(organisation=organisation, name="shop", scopes=["invoice.view"], actor=CLERK)
    webhooks.create_endpoint(organisation=organisation, url="https://93.184.216.34/hook", event_types=[], actor=CLERK)
    create_meter(organisation=organisation, code="calls", name="Calls", aggregation="sum", unit="call", actor=CLERK)
    usage_service.ingest(organisation=organisation, events=[
        {"event_id": "u1", "customer": world.customers[0].external_id, "meter": "calls", "quantity": "12",
         "occurred_at": (NOON - timedelta(hours=2)).isoformat()}])  # fmt: skip
    unknown = {
        "event_id": "u2",
        "customer": "nobody",
        "meter": "calls",
        "occurred_at": (NOON - timedelta(hours=2)).isoformat(),
    }
    usage_service.ingest(organisation=organisation, events=[unknown], park=True)
    usage_revisions.replace_quantity(
        organisation=organisation, event_id="u1", quantity="11", reason="Miscounted", actor=CLERK
    )
    file = b"event_id,meter,customer,occurred_at\nu3,calls,nobody,2026-01-01T00:00:00Z\n"
    begun = usage_imports.begin_import(organisation=organisation, file_name="calls.csv", content=file, actor=CLERK)
    usage_imports.read_on(import_id=begun.pk)


def _subscriptions(world: World) -> None:
    plan = create_plan(
        organisation=world.organisation, code="basic", name="Basic", interval="month", actor=CLERK,
        prices=[PriceInput(code="base", name="Base fee", currency="INR", model="flat", unit_price=Decimal(499), tax_category="saas")],
    )  # fmt: skip
    for customer in world.customers:
        create_subscription(organisation=world.organisation, actor=CLERK, customer_id=customer.pk, plan_id=plan.pk)
    _coupons(world)
    run_billing(organisation=world.organisation)
    other = create_plan(
        organisation=world.organisation, code="dearer", name="Dearer", interval="month", actor=CLERK,
        prices=[PriceInput(code="base", name="Base fee", currency="INR", model="flat", unit_price=Decimal(599))],
    )  # fmt: skip
    plan_migrations.plan_migration(
        organisation=world.organisation, from_plan=plan, to_version=other.versions.get(), actor=CLERK, when="date",
        starts_at=NOON + timedelta(days=200),
    )  # fmt: skip


def _entitlements(world: World) -> None:
    about = {"organisation": world.organisation, "actor": CLERK}
    for code, kind in (("exports", "quota"), ("sso", "boolean")):
        features.create_feature(code=code, name=code.title(), kind=kind, **about)
    plan = Plan.objects.of(world.organisation).get(code="basic")
    set_plan_entitlements(
        plan_id=plan.pk,
        actor=CLERK,
        entitlements=[TermsInput(feature="exports", limit=Decimal(10)), TermsInput(feature="sso")],
    )
    asha = world.customers[0]
    grants.give(
        customer_id=asha.pk, kind="grant", terms=TermsInput(feature="exports", limit=Decimal(2)), reason="Year-end reports",
        expires_at=NOON + timedelta(days=90), **about,
    )  # fmt: skip
    consuming.consume(
        organisation=world.organisation, customer=asha.external_id, feature="exports", quantity=Decimal(10), key="seed"
    )


def _experiment(world: World) -> None:
    """Two prices, one of which the first customer was shown."""
    about: dict[str, Any] = {"organisation": world.organisation, "actor": CLERK}
    prices = [PriceInput(code="base", name="Base fee", currency="INR", model="flat", unit_price=Decimal(499))]
    plan = create_plan(code="lab", name="Lab", interval="month", prices=prices, **about)
    add_version(plan_id=plan.pk, prices=prices, actor=CLERK)
    halves = [VariantInput(code="today", version=1, weight=50), VariantInput(code="dearer", version=2, weight=50)]
    made = experiments.create_experiment(plan=plan, code="price", name="Which price", variants=halves, **about)
    planned = {"baseline_rate": Decimal("0.1"), "minimum_effect": Decimal("0.05")}
    made = running.start_experiment(experiment_id=made.pk, actor=CLERK, **planned)
    enrolling.assign(experiment=made, customer=world.customers[0])


def draft(world: World, customer: Customer, *amounts: str) -> Invoice:
    """A draft with one line per amount."""
    lines = [LineInput(description=f"Service {n}", amount=Money(amount, "INR"), tax_category="saas", code="service")
             for n, amount in enumerate(amounts, start=1)]  # fmt: skip
    return drafting.create_invoice(
        organisation=world.organisation, customer_id=customer.pk, lines=lines, currency="INR"
    )


def _invoices(world: World) -> None:
    organisation, (asha, bela, chand) = world.organisation, world.customers
    for customer, amounts in (
        (asha, ("1000", "250.50")),
        (bela, ("2000",)),
        (chand, ("300",)),
        (asha, ("80",)),
        (bela, ("45",)),
    ):
        world.invoices.append(finalizing.finalize_invoice(invoice_id=draft(world, customer, *amounts).pk, actor=CLERK))
    world.invoices.append(draft(world, chand, "77"))
    credit_notes.issue_credit_note(
        invoice_id=world.invoices[0].pk, amounts={2: Money("100", "INR")}, reason="Not delivered", actor=CLERK
    )
    settling.void_invoice(invoice_id=world.invoices[3].pk, reason="Written twice", actor=CLERK)
    installments.create_plan(
        organisation=organisation, customer_id=bela.pk, total=Money("12000", "INR"), count=3, interval_months=1,
        first_due_on=NOON.date(), down_payment=Money("3000", "INR"), description="Annual fee", tax_category="saas", actor=CLERK,
    )  # fmt: skip
    installments.issue_due(organisation=organisation)
    mailing.queue_mail(organisation=organisation, customer_id=asha.pk, kind="invoice", key=f"invoice:{world.invoices[0].pk}:first",
                       invoice_id=world.invoices[0].pk)  # fmt: skip
    outbox.dispatch(organisation.pk)


def _payments(world: World) -> None:
    organisation = world.organisation
    for invoice, note in ((world.invoices[0], "Cash, counter 2"), (world.invoices[1], "Cheque 114")):
        invoice.refresh_from_db()
        offline.record_offline_payment(
            organisation=organisation, customer_id=invoice.customer_id, amount=invoice.due, reference=f"invoice:{invoice.pk}:1",
            received_on=NOON.date(), note=note, actor=CLERK,
        )  # fmt: skip
    outbox.dispatch(organisation.pk)
    paid = Payment.objects.of(organisation).filter(status="succeeded").order_by("id").first()
    refunds.request_refund(payment_id=paid.pk, amount=Money("50", "INR"), reason="Meals not taken", actor=CLERK)
    account = accounts.add_account(
        organisation=organisation, provider="razorpay", code="razorpay", key_id="rzp_test_1", key_secret="key-secret-1",
        webhook_secret="hook-secret-1", actor=CLERK, is_default=True,
    )  # fmt: skip
    _card_payments(world, account)
    for n, status in enumerate(("dead", "processed")):
        InboundWebhook.objects.create(
            organisation=organisation, gateway_account=account, event_id=f"evt_{world.organisation.code}_{n}",
            type="payment.captured", body=json.dumps({"n": n}), status=status, received_at=NOON, error="Not known" * (n == 0),
        )  # fmt: skip
    for days in (9, 6, 15):  # a month, with the waits that lie between the stages of a chase
        later(world, days=days)
        overdue.mark_overdue(organisation=organisation)
        outbox.dispatch(organisation.pk)
        run_dunning(organisation=organisation)
    _left_alone(world)
    event = Event.objects.of(organisation).order_by("id").first()
    EventHandling.objects.create(
        event=event, consumer="tests.dead", status="dead", attempts=8, error="ValueError: broken"
    )


def _coupons(world: World) -> None:
    """A coupon with two words, in two hands."""
    offered = {"organisation": world.organisation, "name": "Spring", "actor": CLERK, "duration": "forever"}
    coupons.create_coupon(code="spring", kind="percent", percent=Decimal(10), **offered)
    coupons.create_coupon(code="gift", kind="fixed", amount=Decimal(50), currency="INR", carries_over=True, **offered)
    for n, customer in enumerate(world.customers[:2]):
        coupons.create_promotion_code(organisation=world.organisation, code=f"SPRING-{n}", coupon="spring", actor=CLERK)
        coupons.redeem(
            organisation=world.organisation, customer_id=customer.pk, promotion_code=f"SPRING-{n}", actor=CLERK
        )


def _left_alone(world: World) -> None:
    """A text, a number that wants none, and customers who are not chased for now."""
    asha, bela, _ = world.customers
    for n, customer in enumerate((asha, bela)):
        customers.update_customer(
            organisation=world.organisation, customer_id=customer.pk, phone=f"+91984501234{n}", actor=CLERK
        )
        texting.queue_text(organisation=world.organisation, customer_id=customer.pk, kind="reminder_1", key=f"seed-{n}",
                           invoice_id=world.invoices[n].pk)  # fmt: skip
        texting.opt_out(organisation=world.organisation, customer_id=customer.pk, actor=CLERK)
        dunning_pauses.pause(organisation=world.organisation, customer_id=customer.pk, reason="Cheque is coming", actor=CLERK,
                             until=clock.today(world.organisation) + timedelta(days=9))  # fmt: skip


def _card_payments(world: World, account: GatewayAccount) -> None:
    """A captured payment by card as collecting leaves it, disputed later; and one that was refused."""
    from payments.gateways.base import ChargeResult, Decline, DeclineClass, Outcome, Recovery
    from payments.services import attempts, collection

    refusal = Decline(decline_class=DeclineClass.SOFT, code="insufficient_funds", recovery=Recovery.RETRY_LATER)
    customer = world.customers[2]
    method = PaymentMethod.objects.create(
        organisation=world.organisation, gateway_account=account, customer=customer, kind="card", status="active", brand="visa",
        last4="4242", token=f"token_{world.organisation.code}", token_hash=f"hash-{world.organisation.code}", is_default=True,
        expires_on=date(2029, 1, 31), created_at=NOON,
    )  # fmt: skip
    for n, outcome in enumerate((Outcome.CAPTURED, Outcome.DECLINED), start=1):
        payment = collection.request_payment(
            organisation=world.organisation, customer_id=customer.pk, amount=Money("900", "INR"), reference=f"order-{n}",
            description=f"Order {n}", method_id=method.pk,
        )  # fmt: skip
        attempt = attempts.begin_attempt(payment_id=payment.pk)
        result = ChargeResult(
            outcome=outcome, gateway_ref=f"pay_{world.organisation.code}_{n}", amount=payment.amount,
            decline=None if outcome is Outcome.CAPTURED else refusal,
        )  # fmt: skip
        attempts.settle_attempt(attempt_id=attempt.pk, result=result)
    charge = PaymentAttempt.objects.get(organisation=world.organisation, status="captured", gateway_account=account)
    disputes.record(account=account, found=DisputeRecord(
        gateway_ref=f"disp_{world.organisation.code}", charge_ref=charge.gateway_ref, amount=Money("100", "INR"), fee=Money("0", "INR"),
        reason="not received", state=DisputeState.OPEN, respond_by=NOON + timedelta(days=7)))  # fmt: skip


def _reconciliation(world: World) -> None:
    organisation, code = world.organisation, world.organisation.code
    account = GatewayAccount.objects.of(organisation).get(code="razorpay")
    line = SettlementLineRecord(
        line_ref=f"pay_{code}_1", kind=Kind.PAYMENT, gateway_ref=f"pay_{code}_1", amount=Money("900", "INR"), fee=Money("18", "INR"),
        tax=Money("3.24", "INR"), net=Money("878.76", "INR"), occurred_at=NOON, order_ref="",
    )  # fmt: skip
    record = SettlementRecord(
        gateway_ref=f"setl_{code}", utr=f"UTR{code.upper()}1", amount=Money("878.76", "INR"), status=SettlementStatus.PAID,
        settled_on=date(2026, 6, 3), created_at=NOON + timedelta(days=2),
    )  # fmt: skip
    settlements.record_settlement(account=account, record=record, lines=[line], at=clock.now(organisation))
    bank = statements.create_bank_account(
        organisation=organisation, code="hdfc", name="HDFC main", currency="INR", last4="1234", actor=CLERK
    )
    text = STATEMENT.format(utr=record.utr, paid="878.76", left="819.76", end="1569.76")
    statements.import_statement(
        organisation=organisation, bank_account=bank, file_name="june.csv", content=text.encode(), actor=CLERK
    )
    run_matching(organisation=organisation)


# --- looking at it ---------------------------------------------------------------------------------
def signed_in(world: World, role: str) -> Client:
    member = organisations.add_member(
        organisation=world.organisation, email=f"{role}@{world.organisation.code}.test", role=role, password=PASSWORD
    )
    client = Client()
    client.force_login(member.user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def watcher() -> Client:
    """A superuser who is there already: what is read once per process has been read."""
    client = Client()
    client.force_login(User.objects.get(email=WATCHER), backend="django.contrib.auth.backends.ModelBackend")
    return client


def list_of(label: str) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_changelist")


def page_of(label: str, pk: object) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_change", args=[pk])


def view_permission(label: str) -> str:
    return site.get_model_admin(apps.get_model(label)).view_permission
