"""Payment methods: saved at the gateway by the customer's browser, known here by token and by what may be shown."""

import uuid
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from moneyed import Money

from billing import clock
from billing.context import Actor
from billing.errors import InvalidInput, NotFound
from billing.ids import uuid7
from billing.models import Customer, Organisation
from billing.models.fields import lookup_hash
from billing.services import audit, outbox
from payments.errors import MethodUnusable, NoGateway, SetupFailed
from payments.gateways.base import MethodDetails, SetupRequest, SetupSession
from payments.gateways.faults import InvalidSignature
from payments.gateways.registry import gateway_for
from payments.models import GatewayAccount, GatewayCustomer, PaymentMethod, Provider
from payments.services import requests

NOTICE_DAYS = 30
MANDATE_YEARS = 10


def online_account(organisation: Organisation, *, account_id: uuid.UUID | None = None) -> GatewayAccount:
    """The account named, or the organisation's default one; raises ``NoGateway``."""
    found = GatewayAccount.objects.of(organisation).filter(active=True).exclude(provider=Provider.OFFLINE)
    if account_id is not None:
        found = found.filter(pk=account_id)
    account: GatewayAccount | None = found.order_by("-is_default", "id").first()
    if account is None:
        raise NoGateway(field="gateway_account")
    return account


def usable_method_of(
    *, organisation: Organisation | uuid.UUID, customer_id: uuid.UUID, method_id: uuid.UUID
) -> PaymentMethod:
    """The customer's own active method; raises ``NotFound`` for anybody else's and ``MethodUnusable``."""
    found = PaymentMethod.objects.of(organisation).filter(pk=method_id, customer_id=customer_id).first()
    if found is None:
        raise NotFound("This customer has no such payment method.", field="method")
    method: PaymentMethod = found
    if method.status != PaymentMethod.Status.ACTIVE:
        raise MethodUnusable(status=method.status, field="method")
    return method


def start_setup(
    *,
    organisation: Organisation,
    customer: Customer,
    account: GatewayAccount,
    kind: str,
    return_url: str,
    max_amount: Money | None = None,
) -> SetupSession:
    """Begin to save a method of ``kind`` at ``account``; what the browser needs. Debits up to ``max_amount`` each."""
    currency = max_amount.currency.code if max_amount else customer.currency
    if max_amount is not None and max_amount.amount <= 0:
        raise InvalidInput("The limit of a debit is more than nothing.", field="max_amount")
    now = clock.now(organisation)
    return gateway_for(account).start_setup(
        SetupRequest(
            setup_id=uuid7(),
            payer=requests.payer_of(customer),
            gateway_customer_ref=ensure_gateway_customer(account=account, customer=customer),
            kind=kind,
            currency=currency,
            return_url=return_url,
            max_amount=max_amount,
            expires_at=now + timedelta(days=365 * MANDATE_YEARS) if kind != PaymentMethod.Kind.CARD else None,
        )
    )


def ensure_gateway_customer(*, account: GatewayAccount, customer: Customer) -> str:
    """The customer's id at the account, made there when it is the first time."""
    known = requests.customer_ref(account=account, customer=customer)
    if known:
        return known
    made = gateway_for(account).ensure_customer(requests.payer_of(customer))
    row, _ = GatewayCustomer.objects.get_or_create(
        gateway_account=account,
        customer=customer,
        defaults={"organisation_id": customer.organisation_id, "gateway_ref": made},
    )
    ref: str = row.gateway_ref
    return ref


def attach(
    *, organisation: Organisation, customer: Customer, account: GatewayAccount, result: Mapping[str, str], actor: Actor
) -> PaymentMethod:
    """Keep the method the browser says was saved, after the gateway has proved it. Safe to repeat."""
    ref = requests.customer_ref(account=account, customer=customer)
    if not ref:
        raise SetupFailed(reason="this customer began no setup at this gateway account.")
    try:
        details = gateway_for(account).finish_setup(result=result, gateway_customer_ref=ref)
    except InvalidSignature as exc:
        raise SetupFailed(reason=str(exc)) from exc
    return keep(customer=customer, account=account, details=details, actor=actor)


@transaction.atomic
def keep(*, customer: Customer, account: GatewayAccount, details: MethodDetails, actor: Actor) -> PaymentMethod:
    """Store a saved method once per token; the customer's first one becomes the default."""
    now = clock.now(customer.organisation_id)
    Customer.objects.select_for_update(no_key=True).get(pk=customer.pk)
    mark = lookup_hash(details.token)
    known = PaymentMethod.objects.filter(gateway_account=account, token_hash=mark).first()
    if known is not None:
        return _known(known, customer, details)
    first = not PaymentMethod.objects.filter(customer=customer, is_default=True).exists()
    method = PaymentMethod(
        organisation_id=customer.organisation_id,
        customer=customer,
        gateway_account=account,
        token=details.token,
        token_hash=mark,
        created_at=now,
        is_default=first and not details.rejected,
        **_shown(details),
    )
    if details.rejected:
        method.revoke()
    elif details.confirmed:
        method.activate()
    method.save(force_insert=True)
    audit.record(actor=actor, action="payment_method.added", target=method, after={"method": str(method)})
    if method.status == PaymentMethod.Status.ACTIVE:
        _announce(method, "payment_method.added")
    return method


def _shown(details: MethodDetails) -> dict[str, Any]:
    names = ("kind", "brand", "last4", "handle", "expires_on", "max_amount")
    return {name: getattr(details, name) for name in names}


def _known(method: PaymentMethod, customer: Customer, details: MethodDetails) -> PaymentMethod:
    if method.customer_id != customer.pk or method.status in (
        PaymentMethod.Status.DETACHED,
        PaymentMethod.Status.REVOKED,
    ):
        raise MethodUnusable(status="another customer's" if method.customer_id != customer.pk else method.status)
    return _apply(method, details)


def _announce(method: PaymentMethod, event: str, **more: Any) -> None:
    outbox.publish(
        event,
        method,
        payment_method_id=str(method.pk),
        customer_id=str(method.customer_id),
        kind=method.kind,
        shown=str(method),
        **more,
    )


@transaction.atomic
def make_default(*, method_id: uuid.UUID, actor: Actor) -> PaymentMethod:
    """Debit this method first from now on."""
    method = PaymentMethod.objects.get(pk=method_id)
    Customer.objects.select_for_update(no_key=True).get(pk=method.customer_id)
    method = PaymentMethod.objects.select_for_update(of=("self",)).get(pk=method_id)
    if method.status != PaymentMethod.Status.ACTIVE:
        raise MethodUnusable(status=method.status)
    PaymentMethod.objects.filter(customer_id=method.customer_id, is_default=True).exclude(pk=method_id).update(
        is_default=False
    )
    method.is_default = True
    method.save(update_fields=["is_default"])
    audit.record(actor=actor, action="payment_method.made_default", target=method)
    return method


def detach(*, method_id: uuid.UUID, actor: Actor, reason: str = "") -> PaymentMethod:
    """Forget a method: here first, so that it is not debited any more, then at the gateway. Safe to repeat."""
    with transaction.atomic():
        rows = PaymentMethod.objects.select_for_update(of=("self",)).select_related("gateway_account", "customer")
        method: PaymentMethod = rows.get(pk=method_id)
        if method.status != PaymentMethod.Status.DETACHED:
            method.detach()
            method.save()
            audit.record(actor=actor, action="payment_method.detached", target=method, reason=reason)
            _announce(method, "payment_method.revoked", reason="detached")
    ref = requests.customer_ref(account=method.gateway_account, customer=method.customer)
    gateway_for(method.gateway_account).detach(token=method.token, gateway_customer_ref=ref)
    return method


# --- what the gateway says ------------------------------------------------------------------------
def refresh_token(*, account: GatewayAccount, token: str) -> PaymentMethod | None:
    """Ask the gateway about the method with ``token`` and follow; None when it is not one of ours."""
    rows = PaymentMethod.objects.filter(gateway_account=account, token_hash=lookup_hash(token))
    method: PaymentMethod | None = rows.select_related("customer").first()
    return None if method is None else refresh(method=method, account=account)


def refresh(*, method: PaymentMethod, account: GatewayAccount) -> PaymentMethod:
    """Follow what the gateway says about a method: confirmed, revoked, new expiry."""
    ref = requests.customer_ref(account=account, customer=method.customer)
    details = gateway_for(account).method(token=method.token, gateway_customer_ref=ref)
    with transaction.atomic():
        rows = PaymentMethod.objects.select_for_update(of=("self",))
        method = rows.select_related("customer").get(pk=method.pk)
        if details is None or details.rejected:
            return _revoke(method)
        return _apply(method, details)


def _apply(method: PaymentMethod, details: MethodDetails) -> PaymentMethod:
    for name, value in _shown(details).items():
        if value not in (None, ""):
            setattr(method, name, value)
    if details.confirmed and method.status == PaymentMethod.Status.PENDING:
        method.activate()
        _announce(method, "payment_method.added")
    method.save()
    return method


def _revoke(method: PaymentMethod) -> PaymentMethod:
    if method.status in (PaymentMethod.Status.PENDING, PaymentMethod.Status.ACTIVE):
        method.revoke()
        method.save()
        _announce(method, "payment_method.revoked", reason="revoked")
    return method


# --- expiry ---------------------------------------------------------------------------------------
def run_expiry(*, organisation: Organisation) -> int:
    """Expire what is over and tell once about what ends within 30 days; returns how many of both."""
    today = clock.today(organisation)
    return _expire(organisation, today) + _give_notice(organisation, today)


@transaction.atomic
def _expire(organisation: Organisation, today: date) -> int:
    rows = PaymentMethod.objects.of(organisation).select_for_update(of=("self",), skip_locked=True)
    over = rows.filter(status=PaymentMethod.Status.ACTIVE, expires_on__lt=today)
    for method in (found := list(over)):
        method.expire()
        method.save()
        _announce(method, "payment_method.revoked", reason="expired")
    return len(found)


@transaction.atomic
def _give_notice(organisation: Organisation, today: date) -> int:
    rows = PaymentMethod.objects.of(organisation).select_for_update(of=("self",), skip_locked=True)
    ending = rows.filter(
        Q(expiry_notified_on=None), status=PaymentMethod.Status.ACTIVE, expires_on__range=_window(today)
    )
    for method in (found := list(ending)):
        method.expiry_notified_on = today
        method.save(update_fields=["expiry_notified_on"])
        _announce(method, "payment_method.expiring", expires_on=str(method.expires_on))
    return len(found)


def _window(today: date) -> tuple[date, date]:
    return today, today + timedelta(days=NOTICE_DAYS)
