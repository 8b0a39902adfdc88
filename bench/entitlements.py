"""Entitlement checks: how long the slowest one in a hundred takes, in the process and over HTTP, beside 5 ms."""

import http.client
import random
import time
from collections.abc import Callable, Sequence
from decimal import Decimal

from django.db import connection

from bench import population
from bench.api import HOST, serving
from bench.database import analyze
from bench.measuring import Line, compare
from billing.context import Actor
from billing.models import Customer, Organisation
from billing.services.organisations import create_api_key
from subscriptions.entitlements import checking
from subscriptions.entitlements.checking import Question
from subscriptions.models import Plan
from subscriptions.services.entitlements import consuming, features
from subscriptions.services.entitlements.terms import TermsInput, set_plan_entitlements

FEATURES = 20
WITHIN = 0.005
"""Seconds; a rate of 200 a second of what takes just as long."""
ACTOR = Actor.system("bench")


def measure(scale: float) -> list[Line]:
    """Random customers and features, one question at a time; a quarter of the customers have consumed something."""
    asked = max(int(4000 * scale), 500)
    organisation, names = _furnish(int(2000 * max(scale, 0.5)))
    codes = [f"feature-{n}" for n in range(FEATURES)]
    chance = random.Random(7)  # noqa: S311 - the same questions in every round
    questions = [Question(chance.choice(names), chance.choice(codes)) for _ in range(asked)]
    _, key = create_api_key(organisation=organisation, name="bench", scopes=["entitlement.view"])
    with serving("config.wsgi:application") as port:
        ask = _asker(port, key)
        for question in questions[:100]:
            ask(question)
        return [
            _line("entitlement check, slowest 1 %", questions, lambda one: _check(organisation, one)),
            _line("entitlement check over HTTP, slowest 1 %", questions[: asked // 2], ask),
        ]


def _line(name: str, questions: Sequence[Question], ask: Callable[[Question], None]) -> Line:
    def product(_: int) -> float:
        took = sorted(_seconds(ask, question) for question in questions)
        half, slow = took[len(took) // 2], took[int(len(took) * 0.99)]
        print(f"    {name}: median {half * 1000:.2f} ms, 99th percentile {slow * 1000:.2f} ms", flush=True)
        return 1 / slow

    return compare(
        name=name,
        unit="a second",
        limit_is="5 ms each, one after the other",
        aim=1.0,
        product=product,
        limit=lambda _: 1 / WITHIN,
    )


def _seconds(ask: Callable[[Question], None], question: Question) -> float:
    began = time.perf_counter()
    ask(question)
    return time.perf_counter() - began


def _check(organisation: Organisation, question: Question) -> None:
    checking.check(organisation=organisation, question=question)


def _asker(port: int, key: str) -> Callable[[Question], None]:
    """Asks over one connection that is kept."""
    kept = http.client.HTTPConnection(HOST, port)
    headers = {"Authorization": f"Bearer {key}"}

    def ask(question: Question) -> None:
        kept.request(
            "GET",
            f"/api/v1/entitlements/check?customer={question.customer}&feature={question.feature}",
            headers=headers,
        )
        answer = kept.getresponse()
        body = answer.read()
        assert answer.status == 200, body

    return ask


def _furnish(customers: int) -> tuple[Organisation, list[str]]:
    organisation = population.build(customers=customers, code="entitled", events_each=0)
    kinds = ("quota", "boolean", "static")
    for n in range(FEATURES):
        features.create_feature(
            organisation=organisation, code=f"feature-{n}", name=f"Feature {n}", kind=kinds[n % 3], actor=ACTOR
        )
    given = [
        TermsInput(
            feature=f"feature-{n}", limit=Decimal(10**6) if n % 3 == 0 else None, value="gold" if n % 3 == 2 else ""
        )
        for n in range(FEATURES)
        if n % 5
    ]  # every fifth is refused
    set_plan_entitlements(plan_id=Plan.objects.of(organisation).get().pk, entitlements=given, actor=ACTOR)
    names = list(Customer.objects.of(organisation).values_list("external_id", flat=True))
    for n, name in enumerate(names[: customers // 4]):
        consuming.consume(
            organisation=organisation,
            customer=name,
            feature="feature-3",
            quantity=Decimal(1 + n % 50),
            key=f"bench-{n}",
        )
    analyze()
    connection.ensure_connection()
    return organisation, names
