"""What an organisation chose about entitlements: ``settings["entitlements"]``, with the house's defaults for the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.errors import InvalidInput
from billing.models import Organisation
from subscriptions.entitlements import rules

MORE_GENEROUS, ANY, NEVER = "more_generous", "any", "never"
SOLD_VERSIONS = (MORE_GENEROUS, ANY, NEVER)
SEVERAL = (rules.ADD_UP, rules.MOST_GENEROUS)
ACCESS = (rules.FULL, rules.PAID_PERIOD, rules.NONE)


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
        several=_one_of(given.get("several_subscriptions"), SEVERAL),
        access=_access(given.get("statuses")),
        thresholds=clean_thresholds(given.get("thresholds")) or rules.DEFAULT_THRESHOLDS,
        mails_alerts=given.get("mail_alerts") is not False,
        sold_versions=_one_of(given.get("sold_versions"), SOLD_VERSIONS),
    )


def parse_policy(raw: object) -> dict[str, Any]:
    """``settings["entitlements"]`` as it may be chosen; raises ``InvalidInput`` that names what does not fit."""
    if not isinstance(raw, Mapping):
        raise InvalidInput("Expected an object of names and values.")
    words = {"several_subscriptions": SEVERAL, "sold_versions": SOLD_VERSIONS}
    known = {*words, "statuses", "thresholds", "mail_alerts"}
    unknown = sorted(str(name)[:40] for name in raw if name not in known)
    if unknown:
        raise InvalidInput(f"There is no '{unknown[0]}'; use {', '.join(sorted(known))}.")
    for name, choices in words.items():
        if name in raw and raw[name] not in choices:
            raise InvalidInput(f"{name} is one of {', '.join(choices)}.")
    if "mail_alerts" in raw and not isinstance(raw["mail_alerts"], bool):
        raise InvalidInput("mail_alerts is true or false.")
    if "thresholds" in raw and not clean_thresholds(raw["thresholds"]):
        raise InvalidInput("thresholds is a list of percentages from 1 to 1000.")
    statuses = raw.get("statuses", {})
    if not isinstance(statuses, Mapping) or set(statuses) - set(rules.DEFAULT_STATUSES):
        raise InvalidInput(f"statuses is an object of {', '.join(rules.DEFAULT_STATUSES)}.")
    if any(access not in ACCESS for access in statuses.values()):
        raise InvalidInput(f"A status entitles to {', '.join(ACCESS)}.")
    return dict(raw)


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
    chosen = {status: access for status, access in given.items() if access in ACCESS}
    return rules.DEFAULT_STATUSES | chosen
