"""What an organisation chooses about entitlements, some of it at a time. What may be chosen is said in ``policy.parse_policy``."""

from dataclasses import asdict
from typing import Any

from django.db import transaction

from billing.context import Actor
from billing.models import Organisation
from billing.services import choices
from subscriptions.entitlements.policy import Policy, clean_thresholds, policy_of


@transaction.atomic
def change_choices(*, organisation: Organisation, actor: Actor, reason: str = "", **changes: Any) -> Policy:
    """Set some of ``several_subscriptions``, ``statuses`` (some of them), ``thresholds``, ``mail_alerts``, ``sold_versions``.

    Checks count them from the commit on. Raises ``InvalidInput``; then nothing is changed.
    """
    row = Organisation.objects.select_for_update().get(pk=organisation.pk)
    before = said(policy_of(row))
    chosen = before | changes
    if "statuses" in changes:
        chosen["statuses"] = before["statuses"] | changes["statuses"]
    chosen["thresholds"] = list(clean_thresholds(chosen["thresholds"]))
    if chosen != before:
        row = choices.change(organisation_id=row.pk, changes={"entitlements": chosen}, actor=actor, reason=reason)
    organisation.settings = row.settings
    return policy_of(row)


def said(policy: Policy) -> dict[str, Any]:
    """The choices by the names they have in the settings and over the API."""
    values = asdict(policy)
    return {
        "several_subscriptions": values["several"], "statuses": dict(values["access"]), "thresholds": list(values["thresholds"]),
        "mail_alerts": values["mails_alerts"], "sold_versions": values["sold_versions"],
    }  # fmt: skip
