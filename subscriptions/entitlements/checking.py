"""May this customer do that? One statement reads the customer, the rest is in memory (``catalogue``).

A check of a metered feature reads the meter's usage in one statement more, for all questions of a batch together. The first
refusal after a change of plans reads prices once, to say which plan would allow it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from billing import clock
from billing.errors import NotFound
from billing.models import Organisation
from billing.selectors.usage import Window, aggregate
from subscriptions.entitlements import rules, upgrades
from subscriptions.entitlements.catalogue import FeatureFacts, catalogue
from subscriptions.entitlements.policy import policy_of
from subscriptions.entitlements.resolving import Held, Resolver
from subscriptions.entitlements.rules import Verdict
from subscriptions.entitlements.standing import Standing, standings
from subscriptions.entitlements.upgrades import Upgrade

ONE = Decimal(1)
TICK = timedelta(microseconds=1)
NO_CUSTOMER, NO_FEATURE = "unknown_customer", "unknown_feature"


@dataclass(frozen=True, slots=True)
class Question:
    """May ``customer`` (external id or id) use ``quantity`` more of the feature?"""

    customer: str
    feature: str
    quantity: Decimal = ONE


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered. ``remaining`` None: unlimited or not counted; ``resets_at`` None: never, or not counted."""

    customer: str
    feature: str
    quantity: Decimal
    verdict: Verdict
    kind: str = ""
    name: str = ""
    unit: str = ""
    resets_at: datetime | None = None
    upgrade_to: Upgrade | None = None
    held: Held | None = None


def check(*, organisation: Organisation, question: Question, at: datetime | None = None) -> Answer:
    """The answer to one question. Raises ``NotFound`` for a customer or feature the organisation does not have."""
    (answer,) = check_many(organisation=organisation, questions=[question], at=at)
    if answer.verdict.why == NO_CUSTOMER:
        raise NotFound(f"There is no customer '{question.customer}' in this organisation.", field="customer")
    if answer.verdict.why == NO_FEATURE:
        raise NotFound(f"There is no feature '{question.feature}' in this organisation.", field="feature")
    return answer


def check_many(
    *, organisation: Organisation, questions: Sequence[Question], at: datetime | None = None
) -> list[Answer]:
    """Answers in the order of the questions; what is not known is answered so, and does not stop the others."""
    found = standings(organisation.pk, [question.customer for question in questions])
    resolvers = {name: resolver_of(organisation, standing, at=at) for name, standing in found.items()}
    asked = [_asked(resolvers.get(question.customer), question) for question in questions]
    measured = _measured(one for one in asked if isinstance(one, tuple))
    return [
        _answer(organisation, *one, question.quantity, question.customer, measured) if isinstance(one, tuple) else one
        for question, one in zip(questions, asked, strict=True)
    ]


def entitlements_of(*, organisation: Organisation, customer: str, at: datetime | None = None) -> list[Answer]:
    """Every feature of the organisation, as this customer has it. Raises ``NotFound``."""
    found = standings(organisation.pk, [customer]).get(customer)
    if found is None:
        raise NotFound(f"There is no customer '{customer}' in this organisation.", field="customer")
    resolver = resolver_of(organisation, found, at=at)
    held = [resolver.held(one) for one in resolver.catalogue.features.values() if not one.archived]
    measured = _measured((resolver, one) for one in held)
    return [_answer(organisation, resolver, one, ONE, customer, measured, upgrade=False) for one in held]


def resolver_of(organisation: Organisation, standing: Standing, *, at: datetime | None = None) -> Resolver:
    """A resolver for one customer at ``at``, or at the organisation's time as the standing was read."""
    return Resolver(
        standing=standing,
        catalogue=catalogue(organisation.pk, standing.catalogue_number),
        policy=policy_of(organisation),
        zone=clock.zone(organisation),
        at=at or standing.stands_at or clock.wall_now(),
    )


def used_of(resolver: Resolver, held: Held, measured: Mapping[Window, Decimal]) -> Decimal:
    """What is used of a counted feature in its window."""
    if held.feature.kind == rules.METERED:
        return measured.get(usage_window(resolver, held), rules.ZERO)
    return resolver.consumed(held) if held.feature.kind == rules.QUOTA else rules.ZERO


def usage_window(resolver: Resolver, held: Held) -> Window:
    """What the meter has to be asked for: the window as far as it has passed."""
    assert held.feature.meter_id is not None
    until = resolver.at + TICK
    end = until if held.span.end is None else min(held.span.end, until)
    return Window(resolver.standing.customer_id, held.feature.meter_id, held.span.start, end)


def _asked(resolver: Resolver | None, question: Question) -> tuple[Resolver, Held] | Answer:
    if resolver is None:
        return _unknown(question, NO_CUSTOMER)
    feature: FeatureFacts | None = resolver.catalogue.features.get(question.feature)
    return _unknown(question, NO_FEATURE) if feature is None else (resolver, resolver.held(feature))


def _unknown(question: Question, why: str) -> Answer:
    return Answer(question.customer, question.feature, question.quantity, Verdict(allowed=False, why=why))


def _measured(asked: Iterable[tuple[Resolver, Held]]) -> Mapping[Window, Decimal]:
    """The usage behind all metered features that are asked for, in one statement."""
    return aggregate(
        usage_window(resolver, held)
        for resolver, held in asked
        if held.feature.kind == rules.METERED and held.terms is not None
    )


def _answer(
    organisation: Organisation, resolver: Resolver, held: Held, quantity: Decimal, customer: str,
    measured: Mapping[Window, Decimal], *, upgrade: bool = True,
) -> Answer:  # fmt: skip
    used = used_of(resolver, held, measured)
    verdict = verdict_of(resolver, held, used=used, quantity=quantity)
    refused_for_good = verdict.why.startswith(("subscription_", "feature_"))
    better = None
    if upgrade and not verdict.allowed and not refused_for_good:
        better = upgrades.cheapest(
            organisation_id=organisation.pk, resolver=resolver, held=held, used=used, quantity=quantity
        )
    return answer_of(held, customer=customer, quantity=quantity, verdict=verdict, upgrade_to=better)


def verdict_of(resolver: Resolver, held: Held, *, used: Decimal, quantity: Decimal) -> Verdict:
    """The verdict on ``quantity`` more, with the reason why there is nothing where there is nothing."""
    verdict = rules.decide(held.feature.rule, held.terms, used=used, quantity=quantity)
    if verdict.allowed or verdict.why != "not_included":
        return verdict
    return Verdict(allowed=False, why=resolver.why_nothing(held), used=verdict.used)


def answer_of(
    held: Held, *, customer: str, quantity: Decimal, verdict: Verdict, upgrade_to: Upgrade | None = None
) -> Answer:
    """The answer about a feature that is known."""
    feature = held.feature
    counted = feature.kind in rules.COUNTED and held.terms is not None
    return Answer(
        customer=customer, feature=feature.code, quantity=quantity, verdict=verdict, kind=feature.kind, name=feature.name,
        unit=feature.unit, resets_at=held.span.end if counted else None, upgrade_to=upgrade_to, held=held,
    )  # fmt: skip
