"""Dunning policies: made, put away, and which of them an invoice follows."""

import itertools
import uuid
from collections.abc import Sequence

from django.db import IntegrityError, transaction

from billing import clock
from billing.context import Actor
from billing.errors import Conflict, DomainError, InvalidInput
from billing.models import Organisation
from billing.services import audit
from subscriptions import dunning_rules as rules
from subscriptions.models import DunningPolicy, Plan, Subscription

DEFAULT_CODE = "default"


class UnknownPlans(DomainError):
    """A policy names plans that the organisation does not have."""

    code = "unknown_plan"
    http_status = 422
    message = "No such plan: {codes}. Name plans of this organisation by their code."


class DefaultPolicyNeeded(Conflict):
    """The default policy is put away only by making another the default."""

    code = "default_policy_needed"
    message = "'{policy}' is the default; make another policy the default, then this one can be archived."


@transaction.atomic
def create_policy(
    *,
    organisation: Organisation,
    code: str,
    stages: object,
    actor: Actor,
    plans: Sequence[str] = (),
    is_default: bool = False,
    grace_days: int = 0,
    scope: str = DunningPolicy.Scope.SUBSCRIPTION,
) -> DunningPolicy:
    """Add a policy for the plans named by code. A new default takes the place of the old one.

    ``grace_days`` after the due date do not count. ``scope``: whether each subscription's debts are chased for
    themselves or all of a customer as one. Raises ``InvalidDunningPolicy`` naming the field and ``UnknownPlans``. Open
    cases keep their policy.
    """
    parsed = rules.parse_stages(stages)
    if not 0 <= grace_days <= rules.MAX_GRACE:
        raise rules.InvalidDunningPolicy(f"grace_days is 0 to {rules.MAX_GRACE}.", field="grace_days")
    if scope not in DunningPolicy.Scope.values:
        raise InvalidInput(f"scope is {' or '.join(DunningPolicy.Scope.values)}.", field="scope")
    chosen = list(Plan.objects.of(organisation).filter(code__in=plans))
    if missing := sorted(set(plans) - {plan.code for plan in chosen}):
        raise UnknownPlans(codes=", ".join(missing), field="plans")
    if is_default:
        DunningPolicy.objects.of(organisation).filter(is_default=True).update(is_default=False)
    policy = DunningPolicy(
        organisation=organisation,
        code=code,
        stages=[stage.stored() for stage in parsed],
        grace_days=grace_days,
        scope=scope,
        is_default=is_default,
        created_at=clock.now(organisation),
    )
    _insert(policy)
    policy.plans.set(chosen)
    after = {"code": code, "stages": policy.stages, "grace_days": grace_days, "scope": scope, "is_default": is_default}
    audit.record(actor=actor, action="dunning_policy.created", target=policy, after=after)
    return policy


def _insert(policy: DunningPolicy) -> None:
    try:
        with transaction.atomic():
            policy.save(force_insert=True)
    except IntegrityError as exc:
        if "one_default_policy" in str(exc):
            raise Conflict(
                "Another policy was made the default this moment; look at it first.", field="is_default"
            ) from exc
        raise Conflict(
            f"There is a dunning policy '{policy.code}' already; choose another code.", field="code"
        ) from exc


@transaction.atomic
def archive_policy(*, policy_id: uuid.UUID, actor: Actor, reason: str = "") -> DunningPolicy:
    """No new case follows the policy from now on; open ones go on with it. Raises ``DefaultPolicyNeeded``."""
    policy = DunningPolicy.objects.select_for_update(of=("self",)).get(pk=policy_id)
    if policy.is_default:
        raise DefaultPolicyNeeded(policy=policy.code)
    if policy.archived_at is None:
        policy.archived_at = clock.now(policy.organisation_id)
        policy.save(update_fields=["archived_at"])
        audit.record(actor=actor, action="dunning_policy.archived", target=policy, reason=reason)
    return policy


def policy_for(*, organisation: Organisation, subscription: Subscription | None) -> DunningPolicy:
    """The newest policy of the subscription's plan, else the default one, which is made when it is first needed."""
    policies = DunningPolicy.objects.of(organisation)
    if subscription is not None:
        own = policies.filter(plans__versions=subscription.plan_version_id, archived_at=None).order_by("-id").first()
        if own is not None:
            return own
    default = policies.filter(is_default=True).first()
    if default is not None:
        return default
    return _house_default(organisation)


def _house_default(organisation: Organisation) -> DunningPolicy:
    """The house's stages as the organisation's default; under another code where a policy of its own is called so."""
    policies = DunningPolicy.objects.of(organisation)
    taken = set(policies.filter(code__startswith=DEFAULT_CODE).values_list("code", flat=True))
    codes = (DEFAULT_CODE if n == 1 else f"{DEFAULT_CODE}-{n}" for n in itertools.count(1))
    made = DunningPolicy(
        organisation=organisation,
        code=next(code for code in codes if code not in taken),
        stages=rules.DEFAULT_STAGES,
        is_default=True,
        created_at=clock.now(organisation),
    )
    try:
        with transaction.atomic():
            made.save(force_insert=True)
    except IntegrityError:  # another worker was faster
        return policies.get(is_default=True)
    return made
