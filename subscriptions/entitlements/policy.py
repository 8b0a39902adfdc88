"""What an organisation chose about entitlements: ``settings["entitlements"]``, with the house's defaults for the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.models import Organisation
from subscriptions.entitlements import rules

MORE_GENEROUS, ANY, NEVER = "more_generous", "any", "never"


@dataclass(frozen=True, slots=True)
class Policy:
    """The choices. ``sold_versions``: how the entitlements of a plan version may change once somebody has it."""

    several: str
    access: Mapping[str, str]
    thresholds: tuple[int, ...]
    mails_alerts: bool
    sold_versions: str


def policy_of(organisation: Organisation) -> Policy:
    """The organisation's choices; what is missing, or is none of the words known here, has its default."""
    chosen = organisation.settings.get("entitlements")
    given: Mapping[str, Any] = chosen if isinstance(chosen, Mapping) else {}
    return Policy(
        several=_one_of(given.get("several_subscriptions"), (rules.ADD_UP, rules.MOST_GENEROUS)),
        access=_access(given.get("statuses")),
        thresholds=clean_thresholds(given.get("thresholds")) or rules.DEFAULT_THRESHOLDS,
        mails_alerts=given.get("mail_alerts") is not False,
        sold_versions=_one_of(given.get("sold_versions"), (MORE_GENEROUS, ANY, NEVER)),
    )


def clean_thresholds(given: Any) -> tuple[int, ...]:
    """Percentages from 1 to 1000 in order; nothing when they are none."""
    if not isinstance(given, list | tuple) or not all(type(one) is int and 1 <= one <= 1000 for one in given):
        return ()
    return tuple(sorted(set(given)))


def _one_of(given: Any, words: tuple[str, ...]) -> str:
    """``given`` if it is one of the words, else the first of them."""
    return given if given in words else words[0]


def _access(given: Any) -> Mapping[str, str]:
    if not isinstance(given, Mapping):
        return rules.DEFAULT_STATUSES
    known = (rules.FULL, rules.PAID_PERIOD, rules.NONE)
    chosen = {status: access for status, access in given.items() if access in known}
    return rules.DEFAULT_STATUSES | chosen
