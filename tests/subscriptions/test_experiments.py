"""Price experiments: who is shown which price and keeps it, what counts as a conversion, and what is refused by name."""

from collections import Counter
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from billing.errors import NotFound
from billing.models import AuditRecord
from billing.services import clock_jobs
from invoices.models import Invoice
from subscriptions.experiments import figures, offers
from subscriptions.experiments.errors import (
    CurrenciesDiffer,
    ExperimentCodeTaken,
    ExperimentOverlaps,
    ExperimentState,
    InvalidExperiment,
    WeightsDoNotSum,
)
from subscriptions.models import Experiment, ExperimentExposure, ExperimentVariant
from subscriptions.services import catalog, lifecycle, preview
from subscriptions.services.experiments import drafting, enrolling, running
from subscriptions.services.experiments.drafting import VariantInput
from subscriptions.services.lifecycle import Agreement
from tests.subscriptions.house import (
    CLERK,
    flat,
    invoices_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    subscribe,
    turn,
)
from tests.subscriptions.test_concurrency import together

START = local("2026-04-01 09:00")
HALVES = (VariantInput(code="a", version=1, weight=50), VariantInput(code="b", version=2, weight=50))
PLANNED = {"baseline_rate": Decimal("0.2"), "minimum_effect": Decimal("0.1")}


@pytest.fixture
def tenant(db):
    return make_organisation(START)


def two_prices(tenant, *amounts, **about):
    """A plan whose version 1 costs the first amount, version 2 the next one."""
    first, *others = amounts or ("500.00", "600.00")
    plan = make_plan(tenant, flat(first), **about)
    for amount in others:
        catalog.add_version(plan_id=plan.pk, prices=[flat(amount)], actor=CLERK)
    return plan


def draft(plan, *variants, code="price", **about):
    return drafting.create_experiment(
        organisation=plan.organisation, plan=plan, code=code, name="Which price", variants=variants or HALVES, actor=CLERK, **about
    )  # fmt: skip


def started(plan, *variants, plan_for=None, **about):
    experiment = draft(plan, *variants, **about)
    return running.start_experiment(experiment_id=experiment.pk, actor=CLERK, **(PLANNED | (plan_for or {})))


def assign(experiment, customer):
    return enrolling.assign(experiment=Experiment.objects.get(pk=experiment.pk), customer=customer)


def customers_of(tenant, experiment, variant, count=1):
    """Customers who fall to a variant."""
    found = []
    while len(found) < count:
        one = make_customer(tenant)
        if assign(experiment, one).variant.code == variant:
            found.append(one)
    return found


# --- assignment -----------------------------------------------------------------------------------
def test_a_customer_is_shown_one_price_and_pays_it(tenant):
    plan = two_prices(tenant)
    experiment = started(plan)
    for code, amount, number in (("a", "500.00", 1), ("b", "600.00", 2)):
        (customer,) = customers_of(tenant, experiment, code)

        subscription = subscribe(customer, plan)
        run(tenant)

        assert subscription.plan_version.number == number
        assert [f"{one.net.amount:.2f}" for one in invoices_of(subscription)] == [amount]
        exposure = ExperimentExposure.objects.get(customer=customer)
        assert (exposure.variant.code, exposure.subscription_id) == (code, subscription.pk)
        assert (exposure.channel, exposure.converted_at) == ("assign", START)


def test_what_was_shown_is_kept_over_other_weights_a_stop_and_repetition(tenant):
    plan = two_prices(tenant)
    experiment = started(plan)
    (customer,) = customers_of(tenant, experiment, "b")

    running.reweigh(experiment_id=experiment.pk, weights={"a": 100, "b": 0}, actor=CLERK, reason="Complaints")
    assert assign(experiment, customer).variant.code == "b"
    assert {assign(experiment, make_customer(tenant)).variant.code for _ in range(8)} == {"a"}
    running.stop_experiment(experiment_id=experiment.pk, actor=CLERK)
    assert assign(experiment, customer).variant.code == "b"

    assert subscribe(customer, plan).plan_version.number == 2
    assert ExperimentExposure.objects.filter(customer=customer, converted_at=START).count() == 1
    assert assign(experiment, make_customer(tenant)).why == "not_running"


def test_who_subscribes_without_having_asked_is_shown_a_price_by_that(tenant):
    plan = two_prices(tenant)
    experiment = started(plan)

    rows = [subscribe(make_customer(tenant), plan) for _ in range(12)]

    shown = ExperimentExposure.objects.filter(experiment=experiment, channel="subscribe")
    assert shown.filter(subscription__in=[row.pk for row in rows]).count() == 12
    for exposure in shown.select_related("variant", "subscription"):
        assert exposure.variant.version_id == exposure.subscription.plan_version_id
    assert len({row.plan_version_id for row in rows}) == 2
    assert "12 customers were shown a price only when they subscribed" in " ".join(
        figures.figures_of(Experiment.objects.get(), at=START).verdict.cautions
    )


def test_the_preview_is_what_then_happens(tenant):
    plan = two_prices(tenant)
    started(plan)
    totals = set()
    for _ in range(8):
        customer = make_customer(tenant)

        previewed = preview.preview_new(
            organisation=tenant, agreement=Agreement(customer_id=customer.pk, plan_id=plan.pk), count=1
        )

        assert not ExperimentExposure.objects.filter(customer=customer).exists()
        subscription = subscribe(customer, plan)
        run(tenant)
        assert [one.priced.total for one in previewed.invoices] == [
            one.total.amount for one in invoices_of(subscription)
        ]
        totals.add(previewed.invoices[0].priced.total)
    assert len(totals) == 2


def test_a_variant_may_be_another_plan(tenant):
    monthly, yearly = two_prices(tenant, "500.00"), make_plan(tenant, flat("5000.00"), interval="year")
    experiment = started(
        monthly, VariantInput(code="month", weight=50), VariantInput(code="year", plan=yearly.code, weight=50)
    )
    (customer,) = customers_of(tenant, experiment, "year")
    (other,) = customers_of(tenant, experiment, "year")

    assert subscribe(customer, monthly).plan_version.plan_id == yearly.pk
    assert subscribe(other, yearly).plan_version.plan_id == yearly.pk  # asked for by its own name

    assert ExperimentExposure.objects.filter(converted_at=START).count() == 2
    assert (
        subscribe(make_customer(tenant), yearly).plan_version.plan_id == yearly.pk
    )  # and by a stranger: no part in it
    assert ExperimentExposure.objects.filter(channel="subscribe").count() == 0


def test_who_takes_no_part_gets_the_control_and_is_not_counted(tenant):
    plan = two_prices(tenant)
    experiment = started(plan, allocation_percent=1)

    found = Counter()
    for _ in range(25):
        customer = make_customer(tenant)
        offer = assign(experiment, customer)
        found[offer.why] += 1
        if not offer.takes_part:
            assert subscribe(customer, plan).plan_version.number == 1  # version 2 is the newest
    assert found["not_allocated"] >= 20
    assert ExperimentExposure.objects.count() == found["enrolled"]


def test_subscribers_take_no_part_unless_wanted(tenant):
    plan, other = two_prices(tenant), two_prices(tenant)
    old = make_customer(tenant)
    subscription = subscribe(old, plan)
    subscribe(old, other)

    excluding = started(plan)
    including = started(other, code="all", exclude_subscribers=False)

    assert assign(excluding, old).why == "existing_subscriber"
    assert assign(including, old).takes_part
    lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK)
    assert assign(excluding, old).takes_part


def test_only_within_its_dates(tenant):
    plan = two_prices(tenant)
    dates = {"starts_at": local("2026-04-03 00:00"), "ends_at": local("2026-04-05 00:00")}
    experiment = started(plan, plan_for=dates)
    customer = make_customer(tenant)

    assert assign(experiment, customer).why == "not_running"
    assert subscribe(make_customer(tenant), plan).plan_version.number == 2  # what the plan offers
    turn(tenant, local("2026-04-03 00:00"))
    assert assign(experiment, customer).takes_part
    turn(tenant, local("2026-04-05 00:00"))
    assert assign(experiment, make_customer(tenant)).why == "not_running"
    job = clock_jobs.run
    assert [job("subscriptions.experiments", tenant) for _ in range(2)] == [1, 0]
    assert Experiment.objects.get().status == "stopped"


def test_a_subscription_that_began_before_it_takes_no_part(tenant):
    plan = two_prices(tenant)
    started(plan)

    subscription = subscribe(make_customer(tenant), plan, start_at=local("2026-03-01 09:00"))

    assert ExperimentExposure.objects.count() == 0
    assert subscription.plan_version.number == 1  # the first one holds for the time before it


def test_a_refused_subscription_shows_nothing(tenant):
    plan = two_prices(tenant)
    started(plan)

    with pytest.raises(Exception, match="add-on"):
        subscribe(make_customer(tenant), plan, add_ons={"storage": 1})

    assert ExperimentExposure.objects.count() == 0


# --- what came of it ------------------------------------------------------------------------------
def test_figures_of_exposure_conversion_payment_and_revenue(tenant):
    plan = two_prices(tenant)
    experiment = started(plan)
    first, second = customers_of(tenant, experiment, "a", 3), customers_of(tenant, experiment, "b", 4)
    rows = [subscribe(one, plan) for one in (*first[:2], second[0])]
    run(tenant)
    paid = invoices_of(rows[0])[0]
    Invoice.objects.filter(pk=paid.pk).update(paid=paid.total, due=0, status="paid", paid_at=START)
    lifecycle.cancel(subscription_id=rows[1].pk, actor=CLERK, credit="prorated")

    a, b = figures.figures_of(fresh_experiment(experiment), at=START).variants

    assert a.counted.exposed >= 3
    assert (a.counted.converted, a.counted.paid, b.counted.converted, b.counted.paid) == (2, 1, 1, 0)
    assert a.counted.waiting == a.counted.exposed - 2
    credited = Decimal("500.00") * 29 / 30
    assert a.revenue[0].amount == Decimal("1000.00") - credited.quantize(Decimal("0.01"))
    assert [f"{one.amount:.2f}" for one in b.revenue] == ["600.00"]
    assert b.per_customer[0].amount == (Decimal("600.00") / b.counted.exposed).quantize(Decimal("0.01"))


def fresh_experiment(experiment):
    return Experiment.objects.get(pk=experiment.pk)


def test_a_subscription_counts_once_and_in_time_only(tenant):
    plan = two_prices(tenant)
    experiment = started(plan, conversion_days=10)
    early, late = customers_of(tenant, experiment, "a", 2)
    turn(tenant, local("2026-04-11 08:59"))
    first = subscribe(early, plan)
    subscribe(early, plan)
    turn(tenant, local("2026-04-11 09:00"))

    assert subscribe(late, plan).plan_version.number == 1  # it keeps the price all the same

    assert list(ExperimentExposure.objects.exclude(converted_at=None).values_list("subscription", flat=True)) == [
        first.pk
    ]


def test_looks_are_counted_once_for_what_is_new(tenant):
    plan = two_prices(tenant)
    experiment = started(plan, plan_for={"planned_sample": 3})
    running.read_figures(experiment=fresh_experiment(experiment))
    customers_of(tenant, experiment, "a", 1)
    for _ in range(3):
        found = running.read_figures(experiment=fresh_experiment(experiment))
    assert found.experiment.look_count == 1
    assert found.verdict.words.startswith("Not enough yet: ")

    customers_of(tenant, experiment, "a", 3)
    customers_of(tenant, experiment, "b", 3)
    found = running.read_figures(experiment=fresh_experiment(experiment))

    assert found.verdict.is_full
    assert found.experiment.look_count == 1
    assert "No difference shown" in found.verdict.words


# --- from draft to conclusion ---------------------------------------------------------------------
def test_from_draft_to_conclusion(tenant):
    plan = two_prices(tenant)
    experiment = draft(plan)
    with pytest.raises(ExperimentState, match="read: nobody"):
        running.read_figures(experiment=experiment)
    drafting.edit_experiment(experiment_id=experiment.pk, actor=CLERK, name="Another name", variants=(
        VariantInput(code="old", version=1, weight=70), VariantInput(code="new", version=2, weight=30)))  # fmt: skip
    running.start_experiment(experiment_id=experiment.pk, actor=CLERK, **PLANNED)
    assert fresh_experiment(experiment).planned_sample == 294
    with pytest.raises(ExperimentState, match="stop it first"):
        running.conclude_experiment(experiment_id=experiment.pk, variant="new", actor=CLERK, reason="It sells")
    running.stop_experiment(experiment_id=experiment.pk, actor=CLERK, reason="Enough")
    customer = make_customer(tenant)

    found = running.conclude_experiment(experiment_id=experiment.pk, variant="old", actor=CLERK, reason="As it was")

    assert (found.status, found.chosen.code, found.conclusion["reason"]) == ("concluded", "old", "As it was")
    assert found.conclusion["words"].startswith("Not enough yet: 0 of 294")
    assert subscribe(customer, plan).plan_version.number == 2  # what the plan offers
    assert list(AuditRecord.objects.filter(target_id=str(found.pk)).order_by("occurred_at", "id").values_list("action", flat=True)) == [
        "experiment.created", "experiment.edited", "experiment.started", "experiment.stopped", "experiment.concluded"]  # fmt: skip
    assert offers.offer_for(organisation=tenant, customer_id=customer.pk, plan=plan, at=START) is None


def test_nothing_that_was_said_changes_while_it_runs(tenant):
    plan = two_prices(tenant)
    experiment = started(plan)
    customers_of(tenant, experiment, "a")

    with pytest.raises(ExperimentState, match="begin another one"):
        drafting.edit_experiment(experiment_id=experiment.pk, actor=CLERK, name="Other")
    with pytest.raises(ExperimentState):
        running.start_experiment(experiment_id=experiment.pk, actor=CLERK, **PLANNED)
    for rows, values in (
        (Experiment.objects, {"planned_sample": 5}), (Experiment.objects, {"minimum_effect": "0.3"}),
        (Experiment.objects, {"salt": "x"}), (ExperimentVariant.objects.filter(code="a"), {"code": "z"}),
        (ExperimentExposure.objects, {"variant": ExperimentVariant.objects.get(code="b")}),
    ):  # fmt: skip
        with pytest.raises(IntegrityError, match="cannot be changed"), transaction.atomic():
            rows.update(**values)
    for rows in (ExperimentExposure.objects.all(), ExperimentVariant.objects.filter(code="b")):
        with pytest.raises(IntegrityError, match="cannot be changed"), transaction.atomic():
            rows._raw_delete(rows.db)
    running.reweigh(experiment_id=experiment.pk, allocation_percent=50, actor=CLERK, reason="More carefully")
    assert "may come from the time" in figures.figures_of(fresh_experiment(experiment), at=START).verdict.cautions[0]


def variants(**changes):
    """Halves, with a changed second one."""
    return (HALVES[0], VariantInput(**({"code": "b", "version": 2, "weight": 50} | changes)))


@pytest.mark.parametrize(
    ("about", "refusal", "field"),
    [
        ({"variants": variants(weight=40)}, WeightsDoNotSum, "variants"),
        ({"variants": (VariantInput(code="a", weight=100),)}, InvalidExperiment, "variants"),
        ({"variants": variants(weight=0)}, InvalidExperiment, "variants"),
        ({"variants": variants(plan="nowhere")}, NotFound, "variants[1].plan"),
        ({"variants": variants(version=9)}, NotFound, "variants[1].version"),
        ({"variants": variants(version=1)}, InvalidExperiment, "variants[1].version"),
        ({"variants": variants(code="a")}, InvalidExperiment, "variants[1].code"),
        ({"variants": variants(code="a b")}, InvalidExperiment, "variants[1].code"),
        ({"variants": variants(plan="dollars", version=1)}, CurrenciesDiffer, "variants[1].version"),
        ({"variants": variants(plan="rupees", version=1, control=True)}, InvalidExperiment, "variants[1].plan"),
        ({"variants": variants(plan="with-tax", version=1)}, InvalidExperiment, "variants[1].plan"),
        ({"variants": variants(plan="gone", version=1)}, InvalidExperiment, "variants[1].plan"),
        ({"allocation_percent": 0}, InvalidExperiment, "allocation_percent"),
        ({"conversion_days": 0}, InvalidExperiment, "conversion_days"),
        ({"name": " "}, InvalidExperiment, "name"),
        ({"code": "no code"}, InvalidExperiment, "code"),
    ],
)
def test_drafts_that_are_refused(tenant, about, refusal, field):
    plan = two_prices(tenant)
    make_plan(tenant, flat("5.00", currency="USD"), flat("500.00"), code="dollars")
    make_plan(tenant, flat("500.00"), code="rupees")
    make_plan(tenant, flat("500.00"), code="with-tax", prices_include_tax=True)
    catalog.archive_plan(plan_id=make_plan(tenant, flat("500.00"), code="gone").pk, actor=CLERK)
    values = {
        "organisation": tenant,
        "plan": plan,
        "code": "price",
        "name": "Price",
        "variants": HALVES,
        "actor": CLERK,
    }

    with pytest.raises(refusal) as refused:
        drafting.create_experiment(**(values | about))

    assert refused.value.field == field
    assert Experiment.objects.count() == ExperimentVariant.objects.count() == 0


def test_starts_that_are_refused(tenant):
    plan = two_prices(tenant)
    experiment = draft(plan)
    for field, values in {
        "baseline_rate": {"baseline_rate": Decimal(1)}, "minimum_effect": {"minimum_effect": Decimal("0.0001")},
        "significance": {"significance": Decimal("0.5")}, "power": {"power": Decimal("0.1")},
        "planned_sample": {"planned_sample": 1}, "starts_at": {"starts_at": local("2026-03-31 00:00")},
        "ends_at": {"ends_at": START},
    }.items():  # fmt: skip
        with pytest.raises(InvalidExperiment) as refused:
            running.start_experiment(experiment_id=experiment.pk, actor=CLERK, **(PLANNED | values))
        assert refused.value.field == field
    assert fresh_experiment(experiment).status == "draft"
    running.start_experiment(experiment_id=experiment.pk, actor=CLERK, **PLANNED)
    for field, values in {
        "weights": {"weights": {"a": 100}}, "allocation_percent": {"allocation_percent": 101},
    }.items():  # fmt: skip
        with pytest.raises(InvalidExperiment) as refused:
            running.reweigh(experiment_id=experiment.pk, actor=CLERK, reason="Why not", **values)
        assert refused.value.field == field
    with pytest.raises(WeightsDoNotSum):
        running.reweigh(experiment_id=experiment.pk, actor=CLERK, reason="Why not", weights={"a": 60, "b": 60})


def test_experiments_on_one_plan_do_not_overlap(tenant):
    plan, other = two_prices(tenant), two_prices(tenant)
    first = started(plan)
    with pytest.raises(ExperimentCodeTaken):
        draft(plan)
    second = draft(
        other,
        VariantInput(code="a", version=1, weight=50),
        VariantInput(code="b", plan=plan.code, weight=50),
        code="two",
    )

    for status in ("running", "stopped"):
        with pytest.raises(ExperimentOverlaps, match=f"uses the plan '{plan.code}' and is {status}"):
            running.start_experiment(experiment_id=second.pk, actor=CLERK, **PLANNED)
        if status == "running":
            running.stop_experiment(experiment_id=first.pk, actor=CLERK)
    running.conclude_experiment(experiment_id=first.pk, variant="a", actor=CLERK, reason="As it was")
    running.start_experiment(experiment_id=second.pk, actor=CLERK, **PLANNED)


def test_organisations_do_not_meet(tenant):
    other = make_organisation(START)
    theirs = two_prices(other, code="same")
    mine = two_prices(tenant, code="same")
    experiment = started(theirs)
    stranger = make_customer(tenant)

    with pytest.raises(NotFound):
        drafting.create_experiment(
            organisation=tenant, plan=theirs, code="x", name="x", variants=HALVES, actor=CLERK
        )  # fmt: skip
    assert subscribe(stranger, mine).plan_version.number == 2
    with pytest.raises(NotFound):
        enrolling.assign(experiment=experiment, customer=stranger)
    assert enrolling.enrol(
        organisation=other, customer_id=stranger.pk, plan_id=theirs.pk, channel="quote", at=START
    ) is None  # fmt: skip
    assert ExperimentExposure.objects.count() == 0


# --- at once --------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_many_ask_for_one_customer_at_once_and_see_one_price():
    tenant = make_organisation(START)
    experiment = started(two_prices(tenant))
    for _ in range(3):
        customer = make_customer(tenant)

        answers = together(*[lambda one=customer: assign(experiment, one).variant.code] * 32)

        kept = ExperimentExposure.objects.get(customer=customer)
        assert set(answers) == {kept.variant.code}
    assert ExperimentExposure.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_weights_stops_and_subscriptions_at_once_leave_one_price():
    """What was shown, what is billed and what is counted agree, however they fall."""
    tenant = make_organisation(START)
    plan = two_prices(tenant)
    experiment = started(plan)
    for weights in ({"a": 100, "b": 0}, {"a": 0, "b": 100}):
        customer = make_customer(tenant)
        found = together(
            *[lambda one=customer: assign(experiment, one)] * 6,
            lambda one=customer: subscribe(one, plan),
            lambda w=weights: running.reweigh(experiment_id=experiment.pk, weights=w, actor=CLERK, reason="Turned"),
        )
        assert not [one for one in found if isinstance(one, Exception)]
        exposure = ExperimentExposure.objects.select_related("subscription", "variant").get(customer=customer)
        assert exposure.subscription.plan_version_id == exposure.variant.version_id
        assert {one.variant.code for one in found[:6]} == {exposure.variant.code}


@pytest.mark.django_db(transaction=True)
def test_of_two_that_start_at_once_on_one_plan_one_is_refused():
    tenant = make_organisation(START)
    plan = two_prices(tenant)
    drafts = [draft(plan, code=f"e{n}") for n in range(4)]

    found = together(
        *[lambda pk=one.pk: running.start_experiment(experiment_id=pk, actor=CLERK, **PLANNED) for one in drafts]
    )

    assert Counter(type(one) for one in found) == {Experiment: 1, ExperimentOverlaps: 3}
