"""Entitlements over the database: what a customer may do, as plans, exceptions, states and time have it."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.cache import cache
from django.db import IntegrityError, connection, transaction

from billing import clock
from billing.errors import NotFound
from billing.models import AuditRecord, Customer, Event, Organisation
from invoices.models import Mail
from subscriptions.entitlements import catalogue, checking, upgrades
from subscriptions.entitlements.checking import Question
from subscriptions.entitlements.comparison import features_of_versions
from subscriptions.entitlements.errors import (
    InvalidFeature,
    InvalidGrant,
    InvalidTerms,
    KeyReused,
    NotConsumable,
    NothingToRelease,
    VersionSold,
)
from subscriptions.models import (
    Consumption,
    EntitlementAlert,
    EntitlementGrant,
    PlanEntitlement,
    QuotaCounter,
    Subscription,
)
from subscriptions.services import changing, lifecycle
from subscriptions.services.add_ons import set_add_ons
from subscriptions.services.catalog import PriceInput, add_version, archive_plan
from subscriptions.services.entitlements import alerts, consuming, features, grants
from subscriptions.services.entitlements.terms import TermsInput, set_plan_entitlements
from tests.subscriptions.house import (
    CLERK,
    flat,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
    use,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _empty_shelves():
    forget()


def forget():
    """As a new process with an empty shared cache."""
    catalogue.shelf.clear()
    upgrades.shelf.clear()
    cache.clear()


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


def feature(tenant, code="exports", kind="quota", **more):
    return features.create_feature(
        organisation=tenant, code=code, name=code.title(), kind=kind, actor=CLERK, unit="export", **more
    )


def gives(plan, code="exports", limit=None, **more):
    set_plan_entitlements(
        plan_id=plan.pk, actor=CLERK,
        entitlements=[TermsInput(feature=code, limit=None if limit is None else Decimal(limit), **more)],
    )  # fmt: skip


def plan_with(tenant, limit, price="100.00", code="exports", **more):
    plan = make_plan(tenant, flat(price))
    gives(plan, code, limit, **more)
    return plan


def ask(customer, code="exports", quantity=1, **more):
    return checking.check(
        organisation=customer.organisation, question=Question(customer.external_id, code, Decimal(quantity)), **more
    )


def told(customer, code="exports", quantity=1):
    verdict = ask(customer, code, quantity).verdict
    return (verdict.allowed, verdict.why, verdict.limit, verdict.used, verdict.remaining)


def consume(customer, quantity=1, key=None, code="exports", act=consuming.consume):
    key = key or f"k-{Consumption.objects.count()}-{quantity}"
    return act(
        organisation=customer.organisation,
        customer=customer.external_id,
        feature=code,
        quantity=Decimal(quantity),
        key=key,
    )


def give(customer, limit=None, code="exports", kind="grant", days=7, **more):
    terms = TermsInput(feature=code, limit=None if limit is None else Decimal(limit), **{
        name: more.pop(name) for name in ("enabled", "value", "is_soft", "per_unit") if name in more})  # fmt: skip
    expires_at = clock.now(customer.organisation) + timedelta(days=days) if days else None
    return grants.give(
        organisation=customer.organisation, customer_id=customer.pk, kind=kind, terms=terms, reason="Asked for it",
        actor=CLERK, expires_at=expires_at, **more,
    )  # fmt: skip


# --- what plans give -------------------------------------------------------------------------------
def test_a_quota_is_allowed_up_to_its_limit_and_full_again_with_the_next_period(tenant, customer):
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10))

    assert told(customer) == (True, "within_limit", 10, 0, 10)
    assert consume(customer, 7).answer.verdict.remaining == 3
    assert told(customer, quantity=4) == (False, "limit_reached", 10, 7, 3)
    assert ask(customer).resets_at == local("2026-05-01 00:00")
    refused = consume(customer, 4)
    assert (refused.consumption_id, refused.answer.verdict.allowed) == (None, False)
    turn(tenant, local("2026-05-01 00:00"))
    assert told(customer) == (True, "within_limit", 10, 0, 10)
    assert consume(customer, 10).answer.verdict.used == 10


def test_every_kind_has_its_answer(tenant, customer):
    feature(tenant, "sso", "boolean")
    feature(tenant, "level", "static", choices=["bronze", "gold"])
    feature(tenant, "projects", "static")
    feature(tenant, "calls", "metered", meter=make_meter(tenant).code)
    plan = make_plan(tenant, flat("100.00"))
    for code, more in (
        ("sso", {}),
        ("level", {"value": "gold"}),
        ("projects", {"value": "5"}),
        ("calls", {"limit": 100}),
    ):
        gives(plan, code, **more)
    subscribe(customer, plan)
    use(customer, make_meter(tenant, "other"), "50", local("2026-04-01 08:00"))

    assert told(customer, "sso") == (True, "included", None, None, None)
    assert ask(customer, "level").verdict.value == "gold"
    assert told(customer, "projects", 5)[:3] == (True, "included", 5)
    assert told(customer, "projects", 6)[:3] == (False, "limit_reached", 5)
    assert told(customer, "calls") == (True, "within_limit", 100, 0, 100)


def test_a_metered_feature_reads_what_its_meter_measured_in_the_window(tenant, customer):
    meter = make_meter(tenant)
    feature(tenant, "calls", "metered", meter="calls", is_soft=True)
    subscribe(customer, plan_with(tenant, 100, code="calls"))
    use(customer, meter, "500", local("2026-03-20 09:00"))
    turn(tenant, local("2026-04-20 09:00"))
    for at in ("2026-04-02 09:00", "2026-04-20 09:00"):
        use(customer, meter, "60", local(at))

    answer = ask(customer, "calls", 5)

    assert (answer.verdict.allowed, answer.verdict.why, answer.verdict.used) == (True, "overage", 120)
    assert (answer.verdict.overage, answer.resets_at) == (5, local("2026-05-01 00:00"))
    turn(tenant, local("2026-05-01 00:00"))
    assert told(customer, "calls") == (True, "within_limit", 100, 0, 100)


def test_limits_per_unit_follow_the_quantity_at_once(tenant, customer):
    feature(tenant)
    plan = make_plan(tenant, seats("10.00"))
    gives(plan, limit=5, per_unit=True)
    subscription = subscribe(customer, plan, quantity=3)
    run(tenant)

    assert told(customer)[2] == 15
    changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=7)
    assert told(customer)[2] == 35


def with_storage(tenant, **about):
    """A plan with two add-ons: storage and a pack."""
    add_ons = seats("20.00", code="storage", kind="add_on"), seats("50.00", code="pack", kind="add_on")
    return make_plan(tenant, flat("100.00"), *add_ons, **about)


def extra(feature, add_on, limit=None, **more):
    return TermsInput(feature=feature, add_on=add_on, limit=None if limit is None else Decimal(limit), **more)


def test_an_add_on_gives_to_who_took_it_as_much_and_as_long_as_it_is_taken(tenant, customer):
    feature(tenant)
    feature(tenant, "sso", kind="boolean")
    plan = with_storage(tenant)
    gives(plan, limit=10, per_unit=True)
    given = [extra("exports", "storage", 50, per_unit=True), extra("sso", "pack")]
    set_plan_entitlements(plan_id=plan.pk, actor=CLERK, entitlements=given)
    subscription = subscribe(customer, plan, quantity=2)
    run(tenant)

    def take(**wanted):
        set_add_ons(organisation=tenant, subscription_id=subscription.pk, add_ons=wanted, actor=CLERK)
        return told(customer)[2], told(customer, "sso")[:2]

    assert (told(customer)[2], told(customer, "sso")[:2]) == (20, (False, "not_included"))
    assert take(storage=3) == (170, (False, "not_included"))
    assert take(pack=1) == (170, (True, "included"))
    give(customer, 5)
    assert told(customer) == (True, "within_limit", 175, 0, 175)
    consume(customer, 175)
    assert told(customer) == (False, "limit_reached", 175, 175, 0)
    assert take(storage=1, pack=0) == (75, (False, "not_included"))
    assert told(customer)[3:] == (175, 0)
    give(customer, 7, kind="override", subscription_id=subscription.pk, days=None)
    assert told(customer)[2] == 7 + 50 + 5, "an override stands instead of the plan; the add-on is paid for"


def test_what_an_add_on_gives_is_compared_carried_over_and_refused_by_name(tenant, customer):
    feature(tenant)
    feature(tenant, "sso", kind="boolean")
    plan = with_storage(tenant, code="team")
    gives(plan, limit=10)
    given = [extra("exports", "storage", 50, per_unit=True), extra("sso", "pack")]
    set_plan_entitlements(plan_id=plan.pk, actor=CLERK, entitlements=given)
    version = plan.versions.get()
    rows = features_of_versions(organisation=tenant, version_ids=[version.pk])
    assert [(one.code, one.given[version.pk].text) for one in rows] == [
        ("exports", "10; with storage: 50 per unit"), ("sso", "not included; with pack: included"),
    ]  # fmt: skip

    for wrong, error in (
        ([extra("exports", "base", 50)], "add_on"), ([extra("exports", "nothing", 50)], "add_on"),
        ([extra("exports", "storage", 60), extra("exports", "storage", 70)], "feature"),
        ([extra("sso", "pack", 5)], "limit"),
    ):  # fmt: skip
        with pytest.raises(InvalidTerms) as refused:
            set_plan_entitlements(plan_id=plan.pk, actor=CLERK, entitlements=wrong)
        assert refused.value.field == error
    subscribe(customer, plan)
    with pytest.raises(VersionSold):
        set_plan_entitlements(
            plan_id=plan.pk, actor=CLERK, entitlements=[extra("exports", "storage", 49, per_unit=True)]
        )
    set_plan_entitlements(plan_id=plan.pk, actor=CLERK, entitlements=[extra("exports", "storage", 51, per_unit=True)])
    prices = [flat("120.00"), seats("20.00", code="storage", kind="add_on")]
    new = add_version(plan_id=plan.pk, prices=prices, actor=CLERK)  # without the pack
    kept = (
        PlanEntitlement.objects.filter(version=new).order_by("add_on").values_list("feature__code", "add_on", "limit")
    )
    assert list(kept) == [("exports", "", 10), ("exports", "storage", 51)]
    set_plan_entitlements(plan_id=plan.pk, actor=CLERK, entitlements=[extra("exports", "storage", remove=True)])
    assert PlanEntitlement.objects.filter(version=new).count() == 1
    audited = AuditRecord.objects.filter(action="plan.entitlements_set").latest("id")
    assert (audited.before, audited.after) == (
        {"exports with storage": "51 per unit"}, {"version": 2, "exports with storage": "not included"},
    )  # fmt: skip


@pytest.mark.parametrize(("choice", "limit"), [("add_up", 30), ("most_generous", 20)])
def test_several_subscriptions(tenant, customer, choice, limit):
    Organisation.objects.filter(pk=tenant.pk).update(settings={"entitlements": {"several_subscriptions": choice}})
    tenant.refresh_from_db()
    customer.organisation = tenant
    feature(tenant)
    for amount in (10, 20):
        subscribe(customer, plan_with(tenant, amount))

    assert told(customer)[2] == limit


def test_what_states_entitle_to_is_the_organisations_choice(tenant, customer):
    feature(tenant)
    subscription = subscribe(customer, plan_with(tenant, 10))
    run(tenant)

    def seen(status, **columns):
        Subscription.objects.filter(pk=subscription.pk).update(status=status, **columns)
        verdict = ask(customer).verdict
        return verdict.allowed or verdict.why

    assert [seen(status) for status in ("trialing", "active", "past_due")] == [True] * 3
    for status in ("pending", "incomplete", "suspended", "cancelled"):
        assert seen(status) == f"subscription_{status}"
    assert seen("paused") is True, "until the paid period is over"
    turn(tenant, local("2026-05-01 00:00"))
    assert seen("paused") == "subscription_paused"
    assert seen("expired") == "no_subscription"
    tenant.settings = {"entitlements": {"statuses": {"suspended": "full", "active": "nonsense"}}}
    tenant.save()
    customer.organisation = tenant
    assert [seen("suspended"), seen("active")] == [True, True]
    assert seen("active", cancel_at=local("2026-04-20 00:00")) == "subscription_active", "though no job has come by yet"
    past = {"cancel_at": None, "ends_at": local("2026-04-20 00:00")}
    assert seen("active", **past) == "subscription_active", "nor for a fixed end"
    term = {"term_interval": "month", "term_count": 1, "term_number": 2}
    assert seen("active", **term) is True, "another term follows"
    assert seen("active", last_term=3) is True, "and it was asked to end with the one after this"
    for stopped in ({"last_term": 2}, {"last_term": None, "renewals_left": 0}):
        assert seen("active", **stopped) == "subscription_active"
    assert seen("active", next_term={}) is True, "it goes on open-ended"
    assert seen("active", ends_at=None, restricted_at=local("2026-04-20 00:00")) == "subscription_restricted"
    assert seen("suspended") is True, "restriction is of what is served"


def test_a_trial_is_a_window_of_its_own(tenant, customer):
    feature(tenant)
    plan = make_plan(tenant, flat("100.00"), trial_days=10)
    gives(plan, limit=5)
    subscription = subscribe(customer, plan)
    assert subscription.status == "trialing"

    consume(customer, 5)
    assert ask(customer).resets_at == subscription.trial_ends_at
    turn(tenant, subscription.trial_ends_at)
    run(tenant)

    assert told(customer) == (True, "within_limit", 5, 0, 5)


# --- exceptions ------------------------------------------------------------------------------------
def test_a_grant_adds_for_a_time_and_ends_to_the_moment(tenant, customer):
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10))
    grant = give(customer, 5, days=2)

    assert told(customer)[2] == 15
    turn(tenant, grant.expires_at - timedelta(microseconds=1))
    assert told(customer)[2] == 15
    turn(tenant, grant.expires_at)
    assert told(customer)[2] == 10, "no job has come by yet"
    assert grants.expire_due(organisation=tenant, at=clock.now(tenant)) == 1
    assert grants.expire_due(organisation=tenant, at=clock.now(tenant)) == 0
    grant.refresh_from_db()
    assert (grant.ended, grant.ended_at) == ("expired", grant.expires_at)
    assert list(Event.objects.filter(aggregate_id=grant.pk).order_by("id").values_list("type", flat=True)) == [
        "entitlement.granted", "entitlement.expired"]  # fmt: skip


def test_an_override_stands_instead_and_a_new_one_replaces_it(tenant, customer):
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10))

    first = give(customer, 3, kind="override", days=None)
    assert told(customer)[2] == 3
    second = give(customer, None, kind="override", days=None)
    assert told(customer) == (True, "unlimited", None, 0, None)
    first.refresh_from_db()
    assert (first.ended, first.ended_label) == ("replaced", "asha@example.org")
    give(customer, kind="override", enabled=False)
    assert told(customer)[:2] == (False, "not_included")
    grants.revoke(grant_id=EntitlementGrant.objects.get(ended_at=None).pk, actor=CLERK, reason="Mistake")
    assert told(customer)[2] == 10
    assert EntitlementGrant.objects.filter(ended="replaced").count() == 2
    audited = AuditRecord.objects.filter(action__startswith="entitlement.").order_by("id")
    assert [row.reason for row in audited] == ["Asked for it"] * 3 + ["Mistake"]
    assert second.actor_label == "asha@example.org"


def test_exceptions_of_one_subscription_end_with_it(tenant, customer):
    feature(tenant)
    plan = make_plan(tenant, seats("10.00"))
    gives(plan, limit=5)
    one, other = subscribe(customer, plan, quantity=4), subscribe(customer, plan)
    run(tenant)
    give(customer, 2, per_unit=True, subscription_id=one.pk)
    give(customer, 50, kind="override", days=None, subscription_id=other.pk)

    assert told(customer)[2] == 5 + 8 + 50
    lifecycle.cancel(subscription_id=other.pk, actor=CLERK)
    assert told(customer)[2] == 13


def test_a_grant_holds_without_a_subscription_an_override_does_not(tenant, customer):
    feature(tenant)
    give(customer, 100, kind="override", days=None)
    assert told(customer)[:2] == (False, "no_subscription")
    grant = give(customer, 5)
    assert told(customer)[2] == 5
    assert ask(customer).resets_at == grant.expires_at


@pytest.mark.parametrize(
    ("more", "field"),
    [({"days": None}, "expires_at"), ({"days": -1}, "expires_at"), ({"days": 40_000}, "expires_at"), ({"enabled": False}, "enabled"),
     ({"per_unit": True}, "per_unit"), ({"value": "gold"}, "value"), ({"limit": -1}, "limit"), ({"kind": "gift"}, "kind"),
     ({"code": "nothing"}, "feature")],
)  # fmt: skip
def test_exceptions_that_are_refused_leave_nothing(tenant, customer, more, field):
    feature(tenant)
    with pytest.raises((InvalidGrant, InvalidTerms, NotFound)) as refused:
        give(customer, **({"limit": 5} | more))
    assert refused.value.field == field
    assert not EntitlementGrant.objects.exists()


def test_strangers_are_not_found(tenant, customer):
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10))
    other = make_organisation(local("2026-04-01 09:00"))
    feature(other)
    for name in (customer.external_id, str(customer.pk)):
        with pytest.raises(NotFound):
            checking.check(organisation=other, question=Question(name, "exports"))
        with pytest.raises(NotFound):
            consuming.consume(organisation=other, customer=name, feature="exports", quantity=Decimal(1), key="x")
    with pytest.raises(NotFound):
        grants.give(organisation=other, customer_id=customer.pk, kind="override", terms=TermsInput(feature="exports"),
                    reason="Mine", actor=CLERK)  # fmt: skip
    mine = subscribe(make_customer(tenant), make_plan(tenant, flat("1.00")))
    with pytest.raises(NotFound):
        give(customer, 5, subscription_id=mine.pk)
    assert checking.check(organisation=tenant, question=Question(str(customer.pk), "exports")).verdict.allowed


# --- editing plans ---------------------------------------------------------------------------------
def test_a_sold_version_only_becomes_more_generous(tenant, customer):
    feature(tenant)
    feature(tenant, "sso", "boolean")
    plan = plan_with(tenant, 10)
    gives(plan, limit=8)
    subscribe(customer, plan)

    gives(plan, limit=12)
    gives(plan, "sso")
    for refused in ({"limit": 11}, {"enabled": False}, {"remove": True}):
        with pytest.raises(VersionSold):
            gives(plan, **refused)
    assert told(customer)[2] == 12
    assert told(customer, "sso")[0]


@pytest.mark.parametrize(("choice", "less", "more"), [("any", True, True), ("never", False, False)])
def test_whether_sold_versions_change_is_the_organisations_choice(tenant, customer, choice, less, more):
    Organisation.objects.filter(pk=tenant.pk).update(settings={"entitlements": {"sold_versions": choice}})
    feature(tenant)
    plan = plan_with(tenant, 10)
    subscribe(customer, plan)
    for limit, allowed in ((5, less), (50, more)):
        try:
            gives(plan, limit=limit)
            assert allowed
        except VersionSold:
            assert not allowed


def test_a_new_version_carries_the_entitlements_over_and_subscribers_keep_theirs(tenant, customer):
    feature(tenant)
    plan = plan_with(tenant, 10)
    subscribe(customer, plan)
    add_version(plan_id=plan.pk, prices=[flat("120.00")], actor=CLERK)
    newcomer = make_customer(tenant)
    subscribe(newcomer, plan)

    assert told(newcomer)[2] == 10
    with pytest.raises(VersionSold):
        gives(plan, limit=4)
    add_version(plan_id=plan.pk, prices=[flat("130.00")], actor=CLERK)
    gives(plan, limit=4)
    latest = make_customer(tenant)
    subscribe(latest, plan)
    assert [told(one)[2] for one in (customer, newcomer, latest)] == [10, 10, 4]


@pytest.mark.parametrize(
    ("kind", "more", "field"),
    [("boolean", {"limit": 5}, "limit"), ("quota", {"value": "x"}, "value"), ("static", {}, "value"),
     ("boolean", {"per_unit": True}, "per_unit"), ("quota", {"limit": "1e20"}, "limit")],
)  # fmt: skip
def test_terms_that_do_not_fit_the_kind(tenant, kind, more, field):
    feature(tenant, kind=kind)
    with pytest.raises(InvalidTerms) as refused:
        gives(make_plan(tenant, flat("1.00")), **more)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("more", "field"),
    [({"kind": "gift"}, "kind"), ({"kind": "metered"}, "meter"), ({"meter": "calls"}, "meter"), ({"reset": "hour"}, "reset"),
     ({"kind": "metered", "meter": "calls", "reset": "never"}, "reset"), ({"choices": ["a"]}, "choices"), ({"code": "a b"}, "code"),
     ({"kind": "static", "choices": ["a", "a"]}, "choices"), ({"thresholds": [0]}, "thresholds"),
     ({"kind": "metered", "meter": "nothing"}, "meter")],
)  # fmt: skip
def test_features_that_are_refused(tenant, more, field):
    make_meter(tenant)
    with pytest.raises(InvalidFeature) as refused:
        feature(tenant, **more)
    assert refused.value.field == field


# --- which plan would allow it ---------------------------------------------------------------------
def test_the_cheapest_plan_that_would_allow_it_is_named(tenant, customer):
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10, "100.00"))
    plan_with(tenant, 20, "150.00")
    better, dear = plan_with(tenant, 50, "300.00"), plan_with(tenant, None, "900.00")
    make_plan(tenant, flat("1.00"))
    for hidden in (plan_with(tenant, 1000, "5.00", enabled=False), make_plan(tenant, flat("2.00", currency="EUR"))):
        if hidden.versions.first().prices.filter(currency="EUR").exists():
            gives(hidden, limit=1000)

    assert ask(customer).upgrade_to is None
    found = ask(customer, quantity=40).upgrade_to
    assert (found.plan, found.version, str(found.monthly.amount)) == (better.code, 1, "300.00")
    archive_plan(plan_id=better.pk, actor=CLERK)
    assert ask(customer, quantity=40).upgrade_to.plan == dear.code
    consume(customer, 10)
    assert consume(customer, 1).answer.upgrade_to is not None
    assert ask(make_customer(tenant), quantity=40).upgrade_to.plan == dear.code


def test_a_plan_with_a_minimum_costs_that_at_least(tenant, customer):
    """Free but for 400 to be used a month, or for 3,600 a year: dearer than 350; of a year's minimum a month counts."""
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10, "100.00"))
    make_meter(tenant)
    calls = PriceInput(
        code="calls", name="Calls", currency="INR", model="per_unit", unit_price=Decimal(1), meter="calls",
        min_commitment=Decimal("400.00"),
    )  # fmt: skip
    by_use, plain = make_plan(tenant, calls), make_plan(tenant, flat("350.00"))
    yearly = make_plan(tenant, flat("120.00"), interval="year", min_commitment={"INR": "3600.00"})
    for plan, limit in ((by_use, 50), (plain, 50), (yearly, 40)):
        gives(plan, limit=limit)

    def named(quantity):
        found = ask(customer, quantity=quantity).upgrade_to
        return found.plan, f"{found.monthly.amount:.2f}"

    assert (named(50), named(40)) == ((plain.code, "350.00"), (yearly.code, "300.00"))
    archive_plan(plan_id=plain.pk, actor=CLERK)
    assert named(50) == (by_use.code, "400.00")


def test_no_plan_is_named_where_none_would_help(tenant, customer):
    feature(tenant)
    subscription = subscribe(customer, plan_with(tenant, 10))
    plan_with(tenant, 100)
    give(customer, 1, kind="override", days=None)
    assert ask(customer, quantity=5).upgrade_to is None, "the override would stand"
    Subscription.objects.filter(pk=subscription.pk).update(status="suspended")
    assert ask(customer).upgrade_to is None, "paying would"


# --- consumption -----------------------------------------------------------------------------------
def test_a_soft_limit_is_passed_and_flagged(tenant, customer):
    feature(tenant, is_soft=True)
    subscribe(customer, plan_with(tenant, 10))
    consume(customer, 8)

    over = consume(customer, 5)

    assert (over.answer.verdict.why, over.answer.verdict.overage, over.answer.verdict.used) == ("overage", 3, 13)
    assert Consumption.objects.get(pk=over.consumption_id).overage == 3
    assert consume(customer, 2).answer.verdict.overage == 2


def test_the_same_key_counts_once_and_is_answered_alike(tenant, customer):
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10))

    first, again = consume(customer, 4, "one"), consume(customer, 4, "one")

    assert (again.consumption_id, again.replayed) == (first.consumption_id, True)
    assert again.answer.verdict == first.answer.verdict
    assert told(customer)[3] == 4
    for other in ({"quantity": 5}, {"customer": make_customer(tenant)}):
        with pytest.raises(KeyReused):
            consume(other.get("customer", customer), other.get("quantity", 4), "one")


def test_a_refused_key_is_free(tenant, customer):
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10))
    assert consume(customer, 11, "one").consumption_id is None
    give(customer, 1)
    assert consume(customer, 11, "one").consumption_id is not None


def test_what_is_released_can_be_taken_again(tenant, customer):
    feature(tenant, reset="never")
    subscribe(customer, plan_with(tenant, 3))
    consume(customer, 3)
    turn(tenant, local("2027-04-01 09:00"))
    assert told(customer)[:2] == (False, "limit_reached")
    assert ask(customer).resets_at is None

    freed = consume(customer, 2, act=consuming.release)

    assert (freed.answer.verdict.used, freed.answer.verdict.remaining) == (1, 2)
    with pytest.raises(NothingToRelease):
        consume(customer, 2, act=consuming.release)
    assert told(customer, quantity=2)[0]


def test_only_quotas_are_consumed(tenant, customer):
    feature(tenant, "sso", "boolean")
    feature(tenant, "calls", "metered", meter=make_meter(tenant).code)
    for code in ("sso", "calls"):
        with pytest.raises(NotConsumable):
            consume(customer, code=code)


def test_the_counter_follows_a_window_that_is_changed(tenant, customer):
    """What was consumed since the new window began counts, whatever the counter's old window was."""
    exports = feature(tenant)
    subscribe(customer, plan_with(tenant, 10))
    consume(customer, 2)
    turn(tenant, local("2026-04-20 09:00"))
    consume(customer, 3)

    seen = {}
    for reset in ("day", "week", "month", "year", "never", "billing_period"):
        features.update_feature(feature_id=exports.pk, actor=CLERK, changes={"reset": reset})
        seen[reset] = int(told(customer)[3])

    assert seen == {"day": 3, "week": 3, "month": 5, "year": 5, "never": 5, "billing_period": 5}
    features.update_feature(feature_id=exports.pk, actor=CLERK, changes={"reset": "day"})
    assert consume(customer, 1).answer.verdict.used == 4
    features.update_feature(feature_id=exports.pk, actor=CLERK, changes={"reset": "month"})
    assert (told(customer)[3], QuotaCounter.objects.get().used) == (6, 4)
    assert consume(customer, 1).answer.verdict.used == 7


def test_consumptions_stay(tenant, customer):
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10))
    consume(customer, 4)
    for change in (lambda: Consumption.objects.update(quantity=1), lambda: Consumption.objects.all().delete()):
        with pytest.raises(IntegrityError, match="append only"), transaction.atomic():
            change()


# --- thresholds ------------------------------------------------------------------------------------
def alerted():
    return [(one.threshold, int(one.used)) for one in EntitlementAlert.objects.order_by("window_start", "threshold")]


def test_thresholds_are_told_once_per_window_by_event_and_letter(tenant, customer):
    feature(tenant)
    subscribe(customer, plan_with(tenant, 100))

    for quantity in (74, 1, 1, 20, 4):
        consume(customer, quantity)
    alerts.sweep(organisation=tenant)

    assert alerted() == [(75, 75), (90, 96), (100, 100)]
    events = Event.objects.filter(type="entitlement.threshold_reached").order_by("id")
    assert [(event.payload["threshold"], event.payload["used"]) for event in events] == [
        (75, "75"),
        (90, "96"),
        (100, "100"),
    ]
    letters = Mail.objects.filter(kind="entitlement_threshold").order_by("id")
    assert [letter.context["threshold"] for letter in letters] == [75, 90, 100]
    turn(tenant, local("2026-05-02 09:00"))
    consume(customer, 95)
    assert alerted()[3:] == [(75, 95), (90, 95)]
    assert Mail.objects.filter(kind="entitlement_threshold").count() == 4, "one letter, about the higher one"


def test_the_sweep_tells_of_meters_and_of_limits_that_shrank(tenant, customer):
    meter = make_meter(tenant)
    feature(tenant, "calls", "metered", meter="calls", thresholds=[50])
    feature(tenant)
    plan = plan_with(tenant, 100, code="calls")
    gives(plan, limit=100)
    subscribe(customer, plan)
    use(customer, meter, "49", local("2026-04-01 09:00"))
    consume(customer, 10)
    assert alerts.sweep(organisation=tenant) == 0

    use(customer, meter, "1", local("2026-04-01 09:00"))
    give(customer, 11, kind="override", days=None)

    assert alerts.sweep(organisation=tenant) == 3
    assert sorted(alerted()) == [(50, 50), (75, 10), (90, 10)]
    assert alerts.sweep(organisation=tenant) == 0


def test_nobody_is_written_to_where_the_organisation_does_not_want_it(tenant, customer):
    tenant.settings = {"entitlements": {"mail_alerts": False, "thresholds": [10]}}
    tenant.save()
    customer.organisation = tenant
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10))
    consume(customer, 1)
    assert alerted() == [(10, 1)]
    assert not Mail.objects.filter(kind="entitlement_threshold").exists()


# --- queries and the cache -------------------------------------------------------------------------
def test_a_check_takes_two_queries_cold_and_one_warm(tenant, customer, django_assert_num_queries):
    feature(tenant)
    for limit in (10, 20, 30):
        subscribe(customer, plan_with(tenant, limit))
    give(customer, 5)
    forget()

    with django_assert_num_queries(2):
        ask(customer)
    with django_assert_num_queries(1):
        ask(customer)
    catalogue.shelf.clear()  # another process: the shared cache knows
    with django_assert_num_queries(1):
        ask(customer)
    asked = [Question(customer.external_id, "exports", Decimal(n)) for n in range(1, 30)]
    with django_assert_num_queries(1):
        checking.check_many(organisation=tenant, questions=asked)


def test_a_check_is_planned_once_by_whatever_name_and_for_however_many(tenant, customer):
    """By external id or id, one or a batch, and where a quota is taken: four texts in all, each prepared, however often."""
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10))
    names = {
        "one": ["c"],
        "id": [str(customer.pk)],
        "many": ["c", "nobody"],
        "mixed": ["nobody", str(customer.pk), "c"],
    }
    Customer.objects.filter(pk=customer.pk).update(external_id="c")
    customer.refresh_from_db()

    def answers(asked):
        found = checking.check_many(organisation=tenant, questions=[Question(one, "exports") for one in asked])
        return [one.verdict.remaining for one in found]

    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    connection.connection._prepared.clear()
    for _ in range(3):
        assert {kind: answers(asked) for kind, asked in names.items()} == {
            "one": [10], "id": [10], "many": [10, None], "mixed": [None, 10, 10],
        }  # fmt: skip
    consume(customer, 1)

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT parameter_types::text, generic_plans + custom_plans FROM pg_prepared_statements "
            "WHERE statement LIKE '%subscriptions_quotacounter q%'"
        )
        planned = dict(cursor.fetchall())
    assert planned == {"{uuid,text}": 4, "{uuid,text[],uuid[]}": 6, "{uuid,text[]}": 3, "{uuid,uuid[]}": 1}


def test_a_cache_that_is_away_costs_a_query_and_nothing_else(tenant, customer, monkeypatch, django_assert_num_queries):
    feature(tenant)
    subscribe(customer, plan_with(tenant, 10))
    forget()

    def away(*_args, **_more):
        raise ConnectionError("no redis")

    monkeypatch.setattr(catalogue.cache, "get", away)
    monkeypatch.setattr(catalogue.cache, "set", away)
    with django_assert_num_queries(2):
        assert ask(customer).verdict.allowed
    with django_assert_num_queries(1):
        assert ask(customer).verdict.allowed


def test_what_was_rolled_back_is_never_served(tenant, customer):
    """A state that was taken back leaves nothing behind under a number that could come again."""
    feature(tenant)
    plan = plan_with(tenant, 10)
    subscribe(customer, plan)
    with transaction.atomic():
        gives(plan, limit=99)
        assert told(customer)[2] == 99, "one's own change is seen at once, and kept under its number"
        transaction.set_rollback(True)
    assert told(customer)[2] == 10
    gives(plan, limit=11)
    assert told(customer)[2] == 11


def test_raw_sql_counts_too(tenant, customer):
    feature(tenant)
    plan = plan_with(tenant, 10)
    subscribe(customer, plan)
    assert told(customer)[2] == 10
    with connection.cursor() as cursor:
        cursor.execute('UPDATE subscriptions_planentitlement SET "limit" = 12')
    assert told(customer)[2] == 12
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM subscriptions_planentitlement")
    assert told(customer)[:2] == (False, "not_included")


def test_the_list_shows_every_feature_with_its_use(tenant, customer):
    feature(tenant)
    feature(tenant, "sso", "boolean")
    old = feature(tenant, "old", "boolean")
    features.archive_feature(feature_id=old.pk, actor=CLERK)
    subscribe(customer, plan_with(tenant, 10))
    consume(customer, 4)

    found = checking.entitlements_of(organisation=tenant, customer=customer.external_id)

    assert [(one.feature, one.verdict.allowed, one.verdict.used) for one in found] == [
        ("exports", True, 4),
        ("sso", False, None),
    ]
    assert told(customer, "old")[:2] == (False, "feature_archived")
