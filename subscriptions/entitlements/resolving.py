"""What one customer has of one feature at a time: terms, window and use, from the customer's standing and the catalogue."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from subscriptions.entitlements import rules, windows
from subscriptions.entitlements.catalogue import Catalogue, FeatureFacts, terms_of
from subscriptions.entitlements.policy import Policy
from subscriptions.entitlements.rules import Contribution, Terms
from subscriptions.entitlements.standing import Agreement, Exemption, Standing, consumed_since
from subscriptions.entitlements.windows import Cycle, Span

zone_named = lru_cache(maxsize=256)(ZoneInfo)


@dataclass(frozen=True, slots=True)
class Held:
    """What the customer has of a feature. ``leading``: the subscription whose periods the quota follows."""

    feature: FeatureFacts
    terms: Terms | None
    span: Span
    contributions: tuple[Contribution, ...]
    override: Terms | None
    grants: tuple[Terms, ...]
    leading: Agreement | None
    place: int = 0
    """Of the leading subscription among the contributions."""

    def with_plan(self, plan: Terms | None, *, several: str) -> Terms | None:
        """What the customer would have with other plan terms instead of the leading subscription's and of its add-ons'."""
        if self.leading is None:
            parts: tuple[Contribution, ...] = (Contribution(plan=plan),)
        else:
            mine = self.contributions[self.place]
            other = Contribution(plan=plan, quantity=mine.quantity, override=mine.override, grants=mine.grants)
            parts = (*self.contributions[: self.place], other, *self.contributions[self.place + 1 :])
        return rules.combined(self.feature.rule, parts, override=self.override, grants=self.grants, several=several)


class Resolver:
    """Resolves features of one customer at one time."""

    def __init__(
        self, *, standing: Standing, catalogue: Catalogue, policy: Policy, zone: ZoneInfo, at: datetime
    ) -> None:
        self.standing, self.catalogue, self.policy, self.zone, self.at = standing, catalogue, policy, zone, at
        self.entitling = [one for one in standing.agreements if self._entitles(one)]

    def _entitles(self, one: Agreement) -> bool:
        access = self.policy.access.get(one.status, rules.NONE)
        return rules.entitles(access=access, ends_at=one.ends_at, paid_until=one.paid_until, at=self.at)

    def held(self, feature: FeatureFacts) -> Held:
        """What the customer has of ``feature``."""
        mine = [
            one for one in self.standing.exemptions if one.feature_id == feature.id and one.holds(self.at)
        ]  # few: no index needed
        contributions = tuple(self._contribution(feature, one, mine) for one in self.entitling)
        override = next(
            (_terms(one, feature) for one in mine if one.subscription_id is None and one.kind == "override"), None
        )
        own = [one for one in mine if one.subscription_id is None and one.kind == "grant"]
        grants = tuple(_terms(one, feature) for one in own)
        terms = rules.combined(
            feature.rule, contributions, override=override, grants=grants, several=self.policy.several
        )
        place = next(
            (n for n, one in enumerate(contributions) if one.plan or one.override or one.grants or one.extras), 0
        )
        leading = self.entitling[place] if self.entitling else None
        return Held(
            feature=feature, terms=None if feature.archived else terms, span=self._span(feature, leading, own),
            contributions=contributions, override=override, grants=grants, leading=leading, place=place,
        )  # fmt: skip

    def _contribution(self, feature: FeatureFacts, one: Agreement, mine: Iterable[Exemption]) -> Contribution:
        about = [exemption for exemption in mine if exemption.subscription_id == one.id]
        given = self.catalogue.extras.get(one.version_id, {}).get(feature.id, {})
        return Contribution(
            plan=self.catalogue.terms.get(one.version_id, {}).get(feature.id),
            quantity=one.quantity,
            override=next((_terms(each, feature) for each in about if each.kind == "override"), None),
            grants=tuple(_terms(each, feature) for each in about if each.kind == "grant"),
            extras=tuple(
                rules.multiplied(terms, taken) for code, terms in given.items() if (taken := one.add_ons.get(code, 0))
            ),
        )

    def _span(self, feature: FeatureFacts, leading: Agreement | None, own: list[Exemption]) -> Span:
        cycle, otherwise = None, None
        if leading is not None and (billed := self.catalogue.versions.get(leading.version_id)) is not None:
            cycle = Cycle(
                anchor_on=leading.anchor_on, interval=billed.interval, count=billed.interval_count, started_at=leading.started_at,
                zone=zone_named(leading.time_zone) if leading.time_zone else self.zone, trial_ends_at=leading.trial_ends_at,
            )  # fmt: skip
        elif own:
            ends = [one.expires_at for one in own if one.expires_at is not None]
            otherwise = Span(min(one.starts_at for one in own), max(ends) if len(ends) == len(own) else None)
        return windows.window(reset=feature.reset, at=self.at, zone=self.zone, cycle=cycle, otherwise=otherwise)

    def consumed(self, held: Held) -> Decimal:
        """What was consumed of a quota in its window: by the counter, as long as that is of the same window."""
        counter = self.standing.counters.get(held.feature.id)
        if counter is None or counter.last_at < held.span.start:
            return rules.ZERO
        if counter.window_start == held.span.start:
            return counter.used
        return consumed_since(customer_id=self.standing.customer_id, feature_id=held.feature.id, since=held.span.start)

    def why_nothing(self, held: Held) -> str:
        """Why the customer has nothing of the feature."""
        if held.feature.archived:
            return "feature_archived"
        if self.entitling:
            return "not_included"
        status = next((one.status for one in self.standing.agreements), None)
        return f"subscription_{status}" if status else "no_subscription"


def _terms(one: Exemption, feature: FeatureFacts) -> Terms:
    return terms_of(list(one.columns), soft=feature.soft)
