"""The console's page of price experiments: drafted in words, decided by forms, figures with drawn intervals."""

import random
from collections import Counter

import pytest
from django.urls import reverse

from billing.admin.base import path_to
from billing.models import Role
from subscriptions.admin import experiment_bars as bars
from subscriptions.experiments import statistics
from subscriptions.experiments.verdicts import Rate
from subscriptions.models import Experiment, ExperimentExposure
from tests.subscriptions.house import make_customer, make_organisation
from tests.subscriptions.test_console import browser
from tests.subscriptions.test_experiments import START, assign, draft, started, subscribe, two_prices

ADD = "admin:subscriptions_experiment_add_draft"


@pytest.fixture
def tenant(db):
    return make_organisation(START)


def decide(client, row, action, **values):
    address = reverse(f"admin:subscriptions_experiment_{action}", args=[row.pk])
    return client.post(address, {"confirm": "yes", **values}, follow=True).content.decode()


def test_an_experiment_is_drafted_in_words_and_lived_through(tenant):
    plan = two_prices(tenant, code="team")
    client = browser(tenant, Role.MANAGER)
    said = {"organisation": tenant.pk, "plan": "team", "code": "price", "name": "Team at 600", "allocation_percent": "100",
            "variants": "today = v1, 60 %\n\ndearer = team v2, 40\n"}  # fmt: skip

    client.post(reverse(ADD), said)

    made = Experiment.objects.get()
    assert [(one.code, one.version.number, one.weight) for one in made.variants.all()] == [
        ("today", 1, 60),
        ("dearer", 2, 40),
    ]
    assert "Nobody is shown anything before it starts" in client.get(path_to(made)).content.decode()
    assert "294 customers" in decide(client, made, "start", baseline_rate="0.2", minimum_effect="0.1")
    text = client.get(path_to(made)).content.decode()
    assert "Nobody was shown a price yet" in text
    assert "Not enough yet: 0 of 294 planned customers have seen “today”." in text
    assert "other shares" in decide(client, made, "reweigh", weights="today = 90\ndearer = 10", reason="Carefully")
    assert [one.weight for one in made.variants.all()] == [90, 10]
    assert "still gets it" in decide(client, made, "stop", reason="Enough")
    assert "has no variant" in decide(client, made, "conclude", variant="other", reason="As it was")
    assert "is concluded for today" in decide(client, made, "conclude", variant="today", reason="As it was")
    assert "As it was" in client.get(path_to(made)).content.decode()
    assert subscribe(make_customer(tenant), plan).plan_version.number == 2


@pytest.mark.parametrize(
    ("variants", "answer"),
    [("today = v1, 50\nwhat?", "is not read"), ("today = v1, 50\nb = v2, 40", "come to 90"), ("a = v7, 50\nb = , 50", "no version 7")],
)  # fmt: skip
def test_words_that_are_refused(tenant, variants, answer):
    two_prices(tenant, code="team")
    said = {
        "organisation": tenant.pk,
        "plan": "team",
        "code": "price",
        "name": "Team",
        "allocation_percent": "100",
        "variants": variants,
    }

    assert answer in browser(tenant, Role.MANAGER).post(reverse(ADD), said).content.decode()
    assert not Experiment.objects.exists()


def test_who_may_look_decides_nothing(tenant):
    experiment = draft(two_prices(tenant))
    for role in (Role.AUDITOR, Role.SUPPORT, Role.CLERK):
        client = browser(tenant, role)
        assert client.get(path_to(experiment)).status_code == 200
        assert client.get(reverse(ADD)).status_code == 403
        address = reverse("admin:subscriptions_experiment_start", args=[experiment.pk])
        assert client.post(address, {"confirm": "yes"}).status_code in (403, 404)
    assert browser(make_organisation(START), Role.MANAGER).get(path_to(experiment)).status_code in (302, 404)


def test_the_page_shows_figures_with_intervals_and_is_a_look(tenant):
    experiment = started(two_prices(tenant), plan_for={"planned_sample": 5})
    shown = Counter()
    while min(shown["a"], shown["b"]) < 6:  # who sees which is a matter of the customers' ids
        customer = make_customer(tenant)
        variant = assign(experiment, customer).variant.code
        if shown[variant] % 3 == 0:
            subscribe(customer, experiment.plan)
        shown[variant] += 1
    client = browser(tenant, Role.AUDITOR)

    text = client.get(path_to(experiment)).content.decode()

    rows = ExperimentExposure.objects.filter(variant__code="b")
    count, taken = rows.count(), rows.exclude(subscription=None).count()
    low, high = statistics.wilson(taken, count)
    assert f"{taken} · {taken / count * 100:.1f} % ({low * 100:.1f} % to {high * 100:.1f} %)" in text
    assert text.count("<svg") >= 5
    assert "No difference shown" in text


def test_bars_stay_in_their_frame():
    draw = random.Random(3)
    for _ in range(300):
        count = draw.randint(1, 500)
        shown = Rate(draw.randint(0, count), count, statistics.wilson(draw.randint(0, count), count))
        for svg in (
            bars.rate(shown, draw.uniform(0.01, 1)),
            bars.difference(draw.uniform(-1, 1), statistics.Interval(-0.4, 0.9), 0.9),
        ):
            places = [
                float(part.split('"')[1]) for part in str(svg).split(" ") if part.startswith(("x1=", "x2=", "cx="))
            ]
            assert all(4 <= place <= 146 for place in places)
    assert bars.rate(Rate(0, 0, statistics.Interval(0, 1)), 0.5) == "–"
