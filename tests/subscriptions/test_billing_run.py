"""The billing run: every due period once, on its own invoice, and what cannot be billed set aside."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.apps import apps
from django.db import connection
from django.db.models import Count
from django.test.utils import CaptureQueriesContext
from moneyed import Money

from bench import population
from billing import clock
from billing.context import Actor
from billing.models import Event, JournalEntry, Posting, TestClock
from invoices.models import Invoice
from subscriptions.models import BilledPeriod, BillingRun, PlanVersion, Price, Subscription
from subscriptions.services import billing_run, billing_run_records, billing_run_worker
from subscriptions.services.acting import take_up_again
from subscriptions.services.billing_run import DueInFuture, run_billing

pytestmark = pytest.mark.django_db

AUGUST = datetime(2026, 8, 1, 6, 0, tzinfo=UTC)


@pytest.fixture
def works(db):
    """Six customers whose June is due: 499 base, 149.50 a seat, 40 + 65 n calls, 18 % IGST."""
    return population.build(customers=6, code="works")


def turn(organisation, to):
    TestClock.objects.filter(pk=organisation.test_clock_id).update(now=to)


def nth(organisation, n):
    return Subscription.objects.of(organisation).get(external_id=f"subscription-{n:07d}")


def invoices_of(subscription):
    return list(Invoice.objects.filter(subscription_ref=subscription.pk).order_by("number"))


def with_other_prices(*subscriptions, **changes):
    """Put subscriptions on a plan version of their own, with some columns of some prices changed."""
    old = subscriptions[0].plan_version
    version = PlanVersion.objects.create(
        organisation=old.organisation,
        plan=old.plan,
        number=2,
        effective_from=old.effective_from,
        created_at=old.created_at,
    )
    for price in old.prices.all():
        columns = {field.attname: getattr(price, field.attname) for field in Price._meta.fields if field.name != "id"}
        Price.objects.create(**columns | {"version_id": version.pk} | changes.get(price.code, {}))
    Subscription.objects.filter(pk__in=[one.pk for one in subscriptions]).update(plan_version=version)


def everything():
    """How many rows each table of the house has."""
    return {model._meta.label: model._default_manager.count() for model in apps.get_models() if model._meta.managed}


def test_a_due_period_becomes_one_exact_invoice(works):
    report = run_billing(organisation=works)

    assert (report.due, report.billed, report.invoices, report.failed) == (6, 6, 6, 0)
    subscription = nth(works, 0)
    [invoice] = invoices_of(subscription)
    assert [(line.code, line.quantity, line.amount.amount, line.tax.amount) for line in invoice.lines.all()] == [
        ("base", 1, Decimal("499.0000"), Decimal("89.8200")),
        ("seat", 1, Decimal("149.5000"), Decimal("26.9100")),
        ("calls", 45 - 5, Decimal("4.0000"), Decimal("0.7200")),
    ]
    assert (invoice.net, invoice.tax, invoice.total) == (
        Money("648.50", "INR") + Money("4", "INR"),
        Money("117.45", "INR"),
        Money("769.95", "INR"),
    )
    assert (invoice.status, invoice.issued_on, invoice.period_start, invoice.period_end) == (
        "open", date(2026, 6, 1), date(2026, 6, 1), date(2026, 6, 30),
    )  # fmt: skip
    june = (datetime(2026, 5, 31, 18, 30, tzinfo=UTC), datetime(2026, 6, 30, 18, 30, tzinfo=UTC))
    assert (subscription.period_number, subscription.period_start, subscription.period_end) == (1, *june)
    assert (subscription.next_billing_at, subscription.usage_from) == (june[1], june[0])
    [period] = subscription.billed_periods.all()
    assert (period.starts_at, period.ends_at, period.invoice_id, period.run_id) == (*june, invoice.pk, report.run_id)
    [renewed] = Event.objects.filter(aggregate_id=subscription.pk)
    assert renewed.type == "subscription.renewed"
    assert renewed.payload["mrr"] == {"amount": "648.50", "currency": "INR"}
    assert (renewed.payload["plan"], renewed.payload["status"]) == ("team", "active")


def test_numbers_are_gapless_and_the_books_balance(works):
    report = run_billing(organisation=works, chunk_size=2)

    numbers = sorted(Invoice.objects.of(works).values_list("number", flat=True))
    assert [number[-5:] for number in numbers] == [f"{n:05d}" for n in range(1, 7)]
    assert JournalEntry.objects.of(works).annotate(n=Count("postings")).filter(n=3).count() == 6
    sides = {"D": Decimal(0), "C": Decimal(0)}
    for posting in Posting.objects.of(works):
        sides[posting.side] += posting.amount.amount
    assert (
        sides["D"]
        == sides["C"]
        == report.totals["INR"]
        == sum(Invoice.objects.of(works).values_list("total", flat=True))
    )


def test_a_second_run_finds_nothing(works):
    run_billing(organisation=works)
    before = everything()

    report = run_billing(organisation=works)

    assert (report.due, report.billed, report.run_id) == (0, 0, None)
    assert everything() == before


def test_overdue_periods_are_billed_one_after_the_other(works):
    turn(works, AUGUST)

    report = run_billing(organisation=works)

    assert (report.due, report.billed, report.invoices) == (6, 18, 18)
    subscription = nth(works, 0)
    assert [(one.period_start, one.period_end, one.net.amount) for one in invoices_of(subscription)] == [
        (date(2026, 6, 1), date(2026, 6, 30), Decimal("652.5")),
        (date(2026, 7, 1), date(2026, 7, 31), Decimal("648.5")),
        (date(2026, 8, 1), date(2026, 8, 31), Decimal("648.5")),
    ]
    assert subscription.billed_periods.count() == 3
    assert subscription.period_number == 3


def test_a_period_of_nothing_makes_no_invoice(works):
    with_other_prices(*Subscription.objects.of(works), base={"unit_price": 0}, seat={"unit_price": 0})
    turn(works, datetime(2026, 7, 2, tzinfo=UTC))

    report = run_billing(organisation=works)

    assert (report.billed, report.invoices) == (12, 6)  # May's calls are invoiced, June had none
    assert list(nth(works, 3).billed_periods.order_by("starts_at").values_list("invoice__net", flat=True)) == [
        Decimal("23.5"), None,
    ]  # fmt: skip


def test_a_dry_run_shows_the_same_and_writes_nothing(works):
    turn(works, AUGUST)
    Subscription.objects.filter(pk=nth(works, 4).pk).update(currency="EUR")
    before = everything()
    rows = list(Subscription.objects.values().order_by("id"))

    dry = run_billing(organisation=works, dry_run=True, chunk_size=4)

    assert everything() == before
    assert list(Subscription.objects.values().order_by("id")) == rows
    real = run_billing(organisation=works)
    assert (dry.due, dry.billed, dry.invoices, dry.totals) == (real.due, real.billed, real.invoices, real.totals)
    assert dry.failures == real.failures
    assert (real.billed, real.failed) == (15, 1)


def test_only_a_dry_run_looks_ahead(works):
    later = clock.now(works) + timedelta(days=31)

    with pytest.raises(DueInFuture):
        run_billing(organisation=works, due_at=later)

    assert run_billing(organisation=works, due_at=later, dry_run=True).billed == 12
    assert not Invoice.objects.exists()


class TestSetAside:
    """What cannot be billed does not stop the others."""

    def billed_but(self, works, broken, code, **options):
        report = run_billing(organisation=works, **options)
        assert report.billed == 5
        [failure] = report.failures
        assert failure.subscription_id == broken.pk
        assert failure.reason.startswith(f"{code}: ")
        broken = Subscription.objects.get(pk=broken.pk)
        assert broken.failure == failure.reason
        assert not invoices_of(broken)
        assert broken.billed_periods.count() == 0
        run = BillingRun.objects.get()
        assert (run.status, run.billed_count, run.failed_count, run.invoice_count) == ("done", 5, 1, 5)
        assert run.failures == [{"subscription": broken.external_id, "reason": failure.reason}]
        return report

    def test_a_plan_without_a_price_in_the_currency(self, works):
        broken = nth(works, 2)
        Subscription.objects.filter(pk=broken.pk).update(currency="EUR")

        self.billed_but(works, broken, "missing_price", chunk_size=2)

    def test_broken_tiers(self, works):
        broken = nth(works, 1)
        with_other_prices(broken, calls={"tiers": [{"up_to": "1000", "unit_price": "0.10"}]})

        self.billed_but(works, broken, "invalid_tiers")

    def test_a_tax_category_without_a_rate(self, works):
        broken = nth(works, 5)
        with_other_prices(broken, seat={"tax_category": "unheard-of"})

        self.billed_but(works, broken, "missing_tax_rate")

    def test_what_the_database_refuses_is_found_by_halves(self, works):
        broken = nth(works, 3)
        BilledPeriod.objects.create(
            organisation=works, subscription=broken, starts_at=broken.next_billing_at,
            ends_at=broken.next_billing_at, billed_at=broken.next_billing_at,
        )  # fmt: skip

        report = run_billing(organisation=works)

        assert report.billed == 5
        assert [one.subscription_id for one in report.failures] == [broken.pk]
        assert "period_billed_once" in report.failures[0].reason
        assert not invoices_of(broken)
        assert sorted(n[-5:] for n in Invoice.objects.values_list("number", flat=True)) == [
            f"{n:05d}" for n in range(1, 6)
        ]

    def test_a_row_that_was_mended_meanwhile_is_billed_not_set_aside(self, works, monkeypatch):
        """Between the refused transaction and the mark nobody holds the row."""
        broken = nth(works, 3)
        blocking = BilledPeriod.objects.create(
            organisation=works, subscription=broken, starts_at=broken.next_billing_at,
            ends_at=broken.next_billing_at, billed_at=broken.next_billing_at,
        )  # fmt: skip
        real = billing_run_worker.refusal

        def mend(row, exc):
            blocking.delete()
            Subscription.objects.filter(pk=row.id).update(quantity=row.quantity + 1)
            return real(row, exc)

        monkeypatch.setattr(billing_run_worker, "refusal", mend)

        report = run_billing(organisation=works)

        assert (report.billed, report.failures) == (6, ())
        assert nth(works, 3).failure == ""
        assert len(invoices_of(broken)) == 1

    def test_it_is_left_alone_until_somebody_clears_it(self, works):
        broken = nth(works, 2)
        Subscription.objects.filter(pk=broken.pk).update(currency="EUR")
        run_billing(organisation=works)
        Subscription.objects.filter(pk=broken.pk).update(currency="INR")
        assert run_billing(organisation=works).due == 0

        take_up_again(organisation=works, subscription_id=broken.pk, actor=Actor.system())

        assert len(invoices_of(broken)) == 1

    def test_an_error_nobody_foresaw(self, works, monkeypatch):
        broken = nth(works, 0)
        real = billing_run.Cycles._cycle

        def explode(cycles, row):
            if row.id == broken.pk:
                raise ZeroDivisionError("by zero")
            return real(cycles, row)

        monkeypatch.setattr(billing_run.Cycles, "_cycle", explode)

        self.billed_but(works, broken, "unexpected")


@pytest.mark.parametrize("status", ["pending", "trialing", "paused", "suspended", "cancelled", "expired"])
def test_only_running_subscriptions_are_billed(works, status):
    resting = nth(works, 2)
    Subscription.objects.filter(pk=resting.pk).update(status=status)

    assert run_billing(organisation=works).billed == 5
    assert not invoices_of(resting)


def test_a_planned_change_comes_first(works):
    changing = nth(works, 1)
    Subscription.objects.filter(pk=changing.pk).update(next_change_at=changing.next_billing_at)

    assert run_billing(organisation=works).billed == 5
    assert not invoices_of(changing)


def test_another_organisation_is_not_touched(works):
    other = population.build(customers=2, code="other")

    run_billing(organisation=works)

    assert not Invoice.objects.of(other).exists()
    assert run_billing(organisation=other).billed == 2


def test_single_subscriptions_leave_no_run_behind(works):
    chosen = nth(works, 4)

    report = run_billing(organisation=works, subscription_ids=[chosen.pk])

    assert (report.billed, report.run_id) == (1, None)
    assert not BillingRun.objects.exists()
    assert Invoice.objects.count() == 1


def test_progress_is_told_and_noted(works):
    seen = []

    def note(progress):
        run = BillingRun.objects.get()
        seen.append((progress.billed, progress.due, run.billed_count, run.status))

    run_billing(organisation=works, chunk_size=2, progress=note)

    assert seen == [(2, 6, 2, "running"), (4, 6, 4, "running"), (6, 6, 6, "running")]
    run = BillingRun.objects.get()
    assert (run.status, run.due_count, run.totals) == (
        "done",
        6,
        {"INR": f"{sum(Invoice.objects.values_list('total', flat=True)):.2f}"},
    )
    finished = Event.objects.get(type="billing_run.finished")
    assert (finished.payload["billed"], finished.payload["totals"]) == (6, run.totals)


def test_a_run_that_was_asked_for_is_done_once(works):
    run = billing_run.start_run(organisation=works, actor=Actor.system())
    assert run.status == "pending"

    billing_run.work_on(run_id=run.pk)
    again = billing_run.work_on(run_id=run.pk)

    run = BillingRun.objects.get()
    assert (run.status, run.billed_count) == ("done", 6)
    assert again.billed == 0
    assert Event.objects.filter(type="billing_run.finished").count() == 1


def test_a_dead_workers_run_is_closed_by_the_next(works):
    dead = billing_run.start_run(organisation=works, actor=Actor.system())
    dead.begin(heartbeat_at=clock.wall_now() - billing_run_records.STALE_AFTER * 2)
    dead.save()
    assert billing_run_records.waiting_runs() == [dead.pk]

    report = run_billing(organisation=works)

    dead = BillingRun.objects.get(pk=dead.pk)
    assert dead.status == "failed"
    assert "took over" in dead.error
    assert report.billed == 6


def test_a_run_that_breaks_says_so(works, monkeypatch):
    monkeypatch.setattr(billing_run_worker, "bill_chunk", lambda **_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        run_billing(organisation=works)

    run = BillingRun.objects.get()
    assert (run.status, run.error) == ("failed", "ZeroDivisionError: division by zero")


def test_the_number_of_queries_does_not_grow_with_the_subscriptions(works):
    many = population.build(customers=60, code="many-works")

    with CaptureQueriesContext(connection) as for_six:
        run_billing(organisation=works)
    with CaptureQueriesContext(connection) as for_sixty:
        assert run_billing(organisation=many).billed == 60

    assert len(for_sixty) == len(for_six)


def test_a_quiet_day_costs_two_queries(works, django_assert_num_queries):
    run_billing(organisation=works)

    with django_assert_num_queries(2):
        run_billing(organisation=works)
