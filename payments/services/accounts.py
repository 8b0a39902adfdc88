"""Gateway accounts: added with their secrets, which are encrypted and never shown again."""

from django.db import IntegrityError, transaction

from billing.context import Actor
from billing.errors import Conflict
from billing.models import Organisation
from billing.services import audit
from payments.models import GatewayAccount
from payments.services import misconfigured, waking

COLLECT_TASK = "payments.tasks.collect_organisation"


class GatewayAccountExists(Conflict):
    code = "gateway_account_exists"
    message = "There is a gateway account '{account}' already."


@transaction.atomic
def add_account(
    *,
    organisation: Organisation,
    provider: str,
    code: str,
    key_id: str,
    key_secret: str,
    webhook_secret: str,
    actor: Actor,
    is_default: bool = False,
) -> GatewayAccount:
    """Add an account; the first one, or one asked to be, becomes the default. Raises ``GatewayAccountExists``."""
    Organisation.objects.select_for_update().get(pk=organisation.pk)
    others = GatewayAccount.objects.of(organisation)
    if is_default:
        others.filter(is_default=True).update(is_default=False)
    try:
        with transaction.atomic():
            account = GatewayAccount.objects.create(
                organisation=organisation,
                provider=provider,
                code=code,
                key_id=key_id,
                key_secret=key_secret,
                webhook_secret=webhook_secret,
                is_default=is_default or not others.filter(is_default=True).exists(),
            )
    except IntegrityError as exc:
        raise GatewayAccountExists(account=code, field="code") from exc
    audit.record(
        actor=actor, action="gateway_account.added", target=account, after={"provider": provider, "code": code}
    )
    return account


@transaction.atomic
def rotate_webhook_secret(*, account: GatewayAccount, secret: str, actor: Actor, reason: str = "") -> GatewayAccount:
    """Take a new webhook secret; the present one stays valid beside it for messages that are under way."""
    row = GatewayAccount.objects.select_for_update().get(pk=account.pk)
    if secret != row.webhook_secret:
        row.previous_webhook_secret, row.webhook_secret = row.webhook_secret, secret
        row.save(update_fields=["previous_webhook_secret", "webhook_secret"])
    audit.record(actor=actor, action="gateway_account.webhook_secret_rotated", target=row, reason=reason)
    return row


@transaction.atomic
def change_keys(
    *, account: GatewayAccount, key_id: str, key_secret: str, actor: Actor, reason: str = ""
) -> GatewayAccount:
    """Call the gateway with other keys of the same account from now on; whoever holds an adapter makes a new one."""
    row = GatewayAccount.objects.select_for_update().get(pk=account.pk)
    before = {"key_id": row.key_id}
    row.key_id, row.key_secret = key_id, key_secret
    row.save(update_fields=["key_id", "key_secret"])
    audit.record(
        actor=actor,
        action="gateway_account.keys_changed",
        target=row,
        before=before,
        after={"key_id": key_id},
        reason=reason,
    )
    _try_again(row)
    return row


def _try_again(account: GatewayAccount) -> None:
    if account.active and misconfigured.try_again(account) and not waking.time_is_turning(account.organisation_id):
        waking.after_commit(COLLECT_TASK, str(account.organisation_id))


@transaction.atomic
def forget_previous_secret(*, account: GatewayAccount, actor: Actor, reason: str = "") -> GatewayAccount:
    """End a rotation: from now on only the new secret is accepted."""
    row = GatewayAccount.objects.select_for_update().get(pk=account.pk)
    row.previous_webhook_secret = ""
    row.save(update_fields=["previous_webhook_secret"])
    audit.record(actor=actor, action="gateway_account.previous_secret_forgotten", target=row, reason=reason)
    return row


@transaction.atomic
def set_active(*, account: GatewayAccount, active: bool, actor: Actor, reason: str = "") -> GatewayAccount:
    """Stop or resume collecting through an account. Money it took before is followed either way: what is under way,
    refunds, disputes, payouts and webhooks."""
    row = GatewayAccount.objects.select_for_update().get(pk=account.pk)
    before = {"active": row.active}
    row.active = active
    row.save(update_fields=["active"])
    audit.record(
        actor=actor,
        action="gateway_account.switched",
        target=row,
        before=before,
        after={"active": active},
        reason=reason,
    )
    _try_again(row)
    return row
