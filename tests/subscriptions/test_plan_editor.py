"""The plan editor in the console: what one writes is priced by the server, saved as a version, or refused by field."""

import pytest

from billing.models import AuditRecord, Role
from subscriptions.models import Plan, PlanMigration, PlanVersion
from subscriptions.pricing import parse_tiers, tier_words
from subscriptions.pricing.errors import InvalidTiers
from subscriptions.services import catalog, plan_migrations
from subscriptions.services.catalog import FilterInput, PriceInput
from tests.subscriptions.house import (
    CLERK,
    flat,
    fresh,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
)
from tests.subscriptions.test_console import browser, page

pytestmark = pytest.mark.django_db
NEW, PREVIEW = "/console/subscriptions/plan/editor/", "/console/subscriptions/plan/editor/preview/"


@pytest.fixture
def tenant():
    organisation = make_organisation(local("2026-04-01 09:00"))
    make_meter(organisation)
    return organisation


@pytest.fixture
def manager(tenant):
    return browser(tenant, Role.MANAGER)


def form(*components, **more):
    data = {
        "c-TOTAL_FORMS": str(len(components)), "c-INITIAL_FORMS": "0", "c-MIN_NUM_FORMS": "1", "c-MAX_NUM_FORMS": "60",
        "plan-code": "team", "plan-name": "Team", "plan-interval": "month", "plan-interval_count": "1", "plan-trial_days": "0",
        "version-quantity": "3", "version-minimum": "",
    }  # fmt: skip
    for position, component in enumerate(components):
        defaults = {"currency": "INR", "kind": "recurring", "model": "flat", "prorated": "on"}
        data |= {f"c-{position}-{name}": value for name, value in (defaults | component).items()}
    return data | more


SEATS = {"code": "seats", "name": "Seats", "model": "per_unit", "unit_price": "100", "unit": "seat"}
CALLS = {"code": "calls", "name": "Calls", "model": "graduated", "meter": "calls", "tiers": "up to 1000: 0\nabove: 0.02 + 5",
         "sample": "2500"}  # fmt: skip


def text_of(answer):
    return " ".join(answer.content.decode().split())


def test_the_preview_is_priced_as_it_is_billed_and_writes_nothing(manager):
    shown = text_of(manager.post(PREVIEW, form(SEATS, CALLS, **{"version-minimum": "500 INR"})))

    assert "500.00" in shown  # 300 + 35, up to the minimum
    for part in ("300.00", "35.00", "up to 1,000", "1,500 × 0.02 + 5", "Up to the minimum", "165.00", "× 10"):
        assert part in shown, part
    assert Plan.objects.count() == 0


def test_what_is_previewed_of_a_component_counts_for_each_of_its_currencies(manager):
    dollars = [one | {"currency": "USD", "sample": ""} for one in (SEATS, CALLS)]

    shown = text_of(manager.post(PREVIEW, form(SEATS, CALLS, *dollars)))

    assert shown.count("1,500 × 0.02 + 5") == 2


def test_a_component_that_nobody_has_filled_in_is_left_out(manager):
    blank = {"code": "", "name": "", "currency": ""}

    assert "300.00" in text_of(manager.post(PREVIEW, form(SEATS, blank)))
    manager.post(NEW, form(SEATS, blank, {**CALLS, "DELETE": "on"}, save="yes"))

    assert list(Plan.objects.get().versions.get().prices.values_list("code", flat=True)) == ["seats"]


def test_add_ons_and_one_off_charges_are_previewed_by_their_own_quantity(manager):
    storage = {
        "code": "storage",
        "name": "Storage",
        "model": "per_unit",
        "unit_price": "20",
        "kind": "add_on",
        "sample": "4",
    }
    setup = {"code": "setup", "name": "Setup", "unit_price": "250", "kind": "one_off"}

    shown = text_of(manager.post(PREVIEW, form(SEATS, storage, setup)))

    assert "380.00" in shown
    assert "Once, with the first bill: " in shown


@pytest.mark.parametrize(
    ("component", "said"),
    [({**CALLS, "tiers": "nonsense"}, "Line 1: write"), ({**CALLS, "tiers": "up to 10: 1"}, "The last tier must be open"),
     ({**CALLS, "meter": "none"}, "There is no meter"), ({**SEATS, "unit_price": "-1"}, "greater than or equal to 0"),
     ({**SEATS, "code": ""}, "code: This field is required"), ({**SEATS, "filters": "{"}, "Not a JSON list"),
     ({**SEATS, "model": "percentage"}, "needs a meter"), ({**SEATS, "currency": "XXX"}, "XXX"),
     ({**SEATS, "as_used": "on"}, "Only usage is billed as used"), ({**CALLS, "as_used": "on", "in_arrears": "on"}, "not both"),
     ({**CALLS, "model": "volume", "as_used": "on"}, "is volume: its price falls")],
)  # fmt: skip
def test_what_is_wrong_is_said_and_nothing_is_saved(manager, component, said):
    for path, more in ((PREVIEW, {}), (NEW, {"save": "yes"})):
        answer = manager.post(path, form(component, **more))
        assert answer.status_code == 200
        assert said in text_of(answer).replace("&#x27;", "'").replace("&quot;", '"'), path
    assert Plan.objects.count() == 0


def test_a_plan_is_saved_and_a_version_begins_with_the_newest_prices(tenant, manager):
    answer = manager.post(NEW, form(SEATS, CALLS, save="yes"), follow=True)
    plan = Plan.objects.get()
    editor = f"/console/subscriptions/plan/{plan.pk}/editor/"
    shown = manager.get(editor).content.decode()

    assert "team is offered" in text_of(answer)
    assert 'value="seats"' in shown
    assert "up to 1000: 0\nabove: 0.02 + 5" in shown
    later = {"version-effective_from": "2026-05-01T00:00", "save": "yes"}
    manager.post(editor, form({**SEATS, "unit_price": "120"}, **later))
    second = plan.versions.order_by("-number").first()
    assert second.effective_from == local("2026-05-01 00:00")  # the organisation's midnight
    assert (second.number, [price.unit_price for price in second.prices.all()]) == (2, [120])


def test_a_plan_is_written_with_its_window_and_rules_and_edited_with_a_reason(tenant, manager):
    said = {
        "plan-available_until": "2026-12-31", "plan-prices_include_tax": "on", "plan-proration": "second",
        "plan-trial_prices": "49 INR", "plan-term_interval": "year", "plan-term_notice_days": "30", "plan-payment_gate_days": "7",
    }  # fmt: skip
    manager.post(NEW, form(SEATS, save="yes", **said))
    plan = Plan.objects.get()
    assert (plan.prices_include_tax, f"{plan.available_until}") == (True, "2026-12-31")
    assert plan.rules == {
        "proration": "second", "trial_prices": {"INR": "49"}, "payment_gate_days": 7,
        "term": {"interval": "year", "notice_days": 30},
    }  # fmt: skip
    plan.rules |= {"term": None}
    plan.save()

    shown = text_of(manager.get(page(plan, "plan")))
    edit = f"/console/subscriptions/plan/{plan.pk}/edit/"
    asked = text_of(manager.get(edit))
    for text in ("parts of a period: by the second", "payment gate days: 7", "contain the tax", "trial costs 49 INR"):
        assert text in shown
    assert 'value="49 INR"' in asked
    assert '<option value="second" selected' in asked
    changed = {"confirm": "1", "reason": "Longer sold", "name": "Team", "trial_days": "3", "available_until": "2027-12-31",
               "cycle": "calendar", "trial_prices": "", "payment_gate_days": ""}  # fmt: skip
    refused = text_of(manager.post(edit, changed | {"available_from": "2028-01-01"}))
    assert "available_until must not come before available_from." in refused
    assert "Say in what the term is counted" in text_of(manager.post(edit, changed | {"term_count": "2"}))
    assert Plan.objects.get().trial_days == 0
    manager.post(edit, changed)

    plan = Plan.objects.get()
    assert (plan.trial_days, f"{plan.available_until}") == (3, "2027-12-31")
    assert plan.rules == {"cycle": "calendar", "term": None}, "what the form cannot say stays"
    assert AuditRecord.objects.get(action="plan.changed").reason == "Longer sold"
    looker = browser(tenant, Role.AUDITOR)
    assert looker.get(edit).status_code in (302, 403, 404)
    assert looker.post(edit, changed | {"name": "Mine"}).status_code in (302, 403, 404)
    assert Plan.objects.get().name == "Team"
    stranger = browser(make_organisation(local("2026-04-01 09:00")), Role.MANAGER)
    assert stranger.post(edit, changed | {"name": "Mine"}).status_code in (302, 403, 404)
    assert Plan.objects.get().name == "Team"


def test_every_model_survives_the_editor(tenant, manager):
    prices = [
        flat("9.50", pay_in_advance=False, prorated=False),
        PriceInput(code="packs", name="Packs", currency="INR", model="package", unit_price=7, properties={"package_size": "250"}),
        PriceInput(
            code="fees", name="Fees", currency="INR", model="percentage", meter="calls", group_by=["team"],
            properties={"rate": "2.5", "free_events": "3", "max_per_event": "20"}, min_commitment="50.00",
            filters=[FilterInput(key="eu", conditions={"region": ["eu"]}, properties={"rate": "3"})],
        ),
        PriceInput(code="rates", name="Rates", currency="INR", model="graduated_percentage", meter="calls",
                   tiers=[{"up_to": "10", "rate": "2"}, {"up_to": None, "rate": "1", "flat_fee": "4"}]),
        PriceInput(code="dynamic", name="Dynamic", currency="INR", model="dynamic", meter="calls", pay_in_advance=True),
    ]  # fmt: skip
    plan = make_plan(tenant, *prices, min_commitment={"INR": "75.00"})
    editor = f"/console/subscriptions/plan/{plan.pk}/editor/"
    forms = manager.get(editor).context["draft"].components.forms
    filled = [{name: value for name, value in one.initial.items() if value not in (False, None)} for one in forms]
    sent = form(
        *({name: "on" if value is True else value for name, value in one.items()} for one in filled),
        **{"version-minimum": "75.00 INR", "save": "yes"},
    )
    sent.pop("c-0-prorated")

    answer = manager.post(editor, sent)

    assert answer.status_code == 302, text_of(answer)
    columns = (
        "code", "kind", "model", "unit_price", "tiers", "properties", "meter_id", "pay_in_advance", "prorated", "min_commitment",
        "group_by", "unit",
    )  # fmt: skip
    first, second = (list(version.prices.values(*columns)) for version in plan.versions.order_by("number"))
    assert first == second
    assert list(PlanVersion.objects.values_list("min_commitment", flat=True)) == [{"INR": "75.00"}] * 2
    conditions = [
        list(price.filters.values_list("key", "conditions", "properties"))
        for price in plan.versions.first().prices.all()
    ]
    assert conditions[2] == [("eu", {"region": ["eu"]}, {"rate": "3"})]


def test_the_plans_page_shows_words_revenue_and_moves(tenant, manager):
    plan = make_plan(tenant, seats("100.00"), PriceInput(code="rates", name="Rates", currency="INR", model="graduated_percentage",
                     meter="calls", tiers=[{"up_to": None, "rate": "1"}]))  # fmt: skip
    subscribe(make_customer(tenant), plan, quantity=4)
    run(tenant)

    shown = text_of(manager.get(page(plan, "plan")))

    for part in ("MRR INR", "400.00", "1 paying", "above: 1 %", "by usage", "everybody keeps the prices"):
        assert part in shown, part


def test_subscribers_are_moved_after_a_preview(tenant, manager):
    plan = make_plan(tenant, seats("100.00"))
    subscription = subscribe(make_customer(tenant), plan, quantity=4)
    run(tenant)
    second = catalog.add_version(plan_id=plan.pk, prices=[seats("150.00")], actor=CLERK)
    path = f"/console/subscriptions/plan/{plan.pk}/move/"
    asked = {"to_version": str(second.pk), "when": "renewal"}

    shown = text_of(manager.post(path, asked | {"preview": "yes"}))
    assert PlanMigration.objects.count() == 0
    moved = manager.post(path, asked | {"move": "yes"}, follow=True)
    migration = PlanMigration.objects.get()
    plan_migrations.carry_out(migration_id=migration.pk)
    record = text_of(manager.get(page(migration, "planmigration")))

    assert "200.00" in shown
    assert "1 pay more than before" in shown
    assert "Decided" in text_of(moved)
    assert subscription.external_id in record
    assert fresh(subscription).changes.count() == 1
    later = manager.post(path, asked | {"when": "date", "move": "yes"})
    assert "starts_at belongs to when=date" in text_of(later)


def test_only_those_who_may_edit_plans_get_in_and_only_to_their_own(tenant, manager):
    plan, foreign = (
        make_plan(tenant, flat("1.00")),
        make_plan(make_organisation(local("2026-04-01 09:00")), flat("1.00")),
    )
    clerk = browser(tenant, Role.CLERK)
    for path in (NEW, f"/console/subscriptions/plan/{plan.pk}/editor/", f"/console/subscriptions/plan/{plan.pk}/move/"):
        assert clerk.get(path).status_code == 403
        assert manager.get(path).status_code == 200
    for path in (
        f"/console/subscriptions/plan/{foreign.pk}/editor/",
        f"/console/subscriptions/plan/{foreign.pk}/move/",
    ):
        assert manager.get(path).status_code == 404


@pytest.mark.parametrize(
    ("text", "rates"),
    [("up to 1000: 0\nup to 5,000: 0.02 + 5\nabove: 0.01", False), ("10 2%\n* 1 % + 4", True), ("above: 3", False)],
)
def test_tiers_are_read_from_words_and_said_again(text, rates):
    tiers = parse_tiers(tier_words.read(text, rates=rates), rates=rates)

    assert parse_tiers(tier_words.read(tier_words.say(tiers), rates=rates), rates=rates) == tiers


@pytest.mark.parametrize("text", ["5", "up to ten: 1", "above: -1", "above: 1 +", "1000 0 0 0"])
def test_other_words_are_refused(text):
    with pytest.raises(InvalidTiers):
        tier_words.read(text)
