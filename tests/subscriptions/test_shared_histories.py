"""Several subscriptions of a customer on one invoice, drafts that wait, late and corrected usage, all mixed at random.

Each step first does something beside (usage, late or not, or taken back), then previews an action on one of the subscriptions,
does it, and lets the time come that the preview spoke of. What the invoices of that time say of the subscription, line by line,
and the credits on them must be what was foretold, whichever invoices they share and however long these stay drafts. Drafts that
were there already must be issued as they were foretold, line by line and with their totals, after the action too. Each
billing run is first tried: due, billed, invoices, drafts, totals and what was set aside must be the same in the dry run. At the
end the books are checked. A history is made from its seed alone; a failure names it.
"""

import os
import random
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.db import transaction

from billing import clock
from billing.errors import DomainError
from billing.models import Meter, UsageEvent
from invoices.models import CreditNote, Invoice, TaxRate
from subscriptions.models import BilledPeriod, DraftCycle, Subscription
from subscriptions.services import preview
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.draft_finalizing import finalize_due
from subscriptions.services.rows import Status
from tests.subscriptions import test_mixed_histories as mixed
from tests.subscriptions.house import (
    CLERK,
    SEQUENCE,
    flat,
    fresh,
    local,
    make_customer,
    make_organisation,
    make_plan,
    subscribe,
    turn,
)

pytestmark = pytest.mark.django_db
HISTORIES = int(os.environ.get("MUNIM_SHARED_HISTORIES", "4"))
FIRST = int(os.environ.get("MUNIM_SHARED_FIRST", "0"))
STEPS = 4
DONE: Counter[str] = Counter()  # told when a history fails: what was tried
FOUND = (6,)
"""Seeds that show a fault when the code is broken: 6, two drafts that wait and both bill late usage."""
FAR = timedelta(days=400)  # after every grace


def run_as_foretold(tenant, told):
    """The runs, and the end of the grace of drafts."""
    mixed.run_as_foretold(tenant, told)
    finalize_due(organisation=tenant)


# --- what was said, and what happened -----------------------------------------------------------------
def said(found):
    """What a preview says of its subscription: the lines of each invoice, and the credits."""
    invoices = [
        [(line.given.description, line.given.period_start, line.given.period_end, line.amount, line.tax)
         for line in one.priced.lines]
        for one in found.invoices
    ]  # fmt: skip
    return invoices, sorted((one.priced.net, one.priced.tax) for one in found.credits)


def said_of_drafts(found):
    """What a preview says of the drafts that are there: their lines and totals, or that nothing is left of them."""
    said = {}
    for one in found.drafts:
        assert one.failure == "" or one.priced is None
        if one.invoice is not None and not one.failure:
            DONE["drafts"] += 1
            DONE["drafts that change"] += one.differs
            said[one.invoice.pk] = one.priced and (
                [(line.given.description, line.given.period_start, line.given.period_end, line.amount, line.tax)
                 for line in one.priced.lines],
                one.priced.net, one.priced.tax, one.priced.total,
            )  # fmt: skip
    return said


def issued_drafts(ids):
    """What became of drafts, as the same plain values."""
    found = dict.fromkeys(ids)
    for invoice in Invoice.objects.filter(pk__in=ids):
        assert invoice.status != "draft"
        found[invoice.pk] = (
            [(line.description, line.period_start, line.period_end, line.amount.amount, line.tax.amount)
             for line in invoice.lines.all()],
            invoice.net.amount, invoice.tax.amount, invoice.total.amount,
        )  # fmt: skip
    return found


def drafts_of(subscription):
    """Ids of the drafts of the run that bill a subscription."""
    waiting = DraftCycle.objects.filter(period__subscription=subscription, finalized_at=None)
    return set(waiting.exclude(invoice=None).values_list("invoice", flat=True))


def own_lines(invoice, subscription):
    """The lines of an invoice that bill the subscription."""
    return [
        line for line in invoice.lines.all()
        if (line.subscription_ref or invoice.subscription_ref) == subscription.pk
    ]  # fmt: skip


def happened(subscription, invoices_before, notes_before):
    """The same of what was issued since: its lines on each invoice that has any, its credits."""
    prefix, invoices = f"{subscription.external_id}: ", []
    for invoice in Invoice.objects.filter(customer=subscription.customer).order_by("id"):
        lines = own_lines(invoice, subscription)
        if invoice.pk not in invoices_before and lines:
            assert invoice.status != "draft"
            invoices.append(
                [(line.description.removeprefix(prefix), line.period_start, line.period_end, line.amount.amount,
                  line.tax.amount) for line in lines]
            )  # fmt: skip
    credits = []
    for note in CreditNote.objects.filter(invoice__customer=subscription.customer).exclude(pk__in=notes_before):
        positions = {line.position for line in own_lines(note.invoice, subscription)}
        if positions & {row["position"] for row in note.lines}:
            assert {row["position"] for row in note.lines} <= positions
            credits.append((note.net.amount, note.tax.amount))
    return invoices, sorted(credits)


def issued(customer):
    """What there is before something is done."""
    return (
        {one.pk for one in Invoice.objects.filter(customer=customer)},
        {one.pk for one in CreditNote.objects.filter(invoice__customer=customer)},
    )


# --- beside -------------------------------------------------------------------------------------------
def use_some(dice, pair):
    """Usage of one of them: now, or in days that were billed already."""
    one = fresh(dice.choice(pair))
    now, given = clock.now(one.organisation), []
    for _ in range(dice.randint(1, 3)):
        meter = Meter.objects.of(one.organisation).get(code=dice.choice(["calls", "storage"]))
        at = now - timedelta(minutes=dice.choice([1, 60 * 24 * 2, 60 * 24 * 6, 60 * 24 * 12]))
        if at > one.started_at:
            UsageEvent.objects.create(
                organisation=one.organisation, event_id=f"u-{next(SEQUENCE)}", meter=meter, customer=one.customer,
                quantity=Decimal(dice.randint(1, 90)), occurred_at=at, subscription_ref=one.pk,
            )  # fmt: skip
            given.append((one.external_id, meter.code, str(at)))
    return given


def happen(dice, pair):
    what = dice.choice(["usage", "usage", "usage", "void", "pass"])
    done = use_some(dice, pair) if what == "usage" else mixed.BESIDE[what](dice, fresh(pair[0]), ())
    DONE[what] += bool(done)
    return what, done


# --- steps --------------------------------------------------------------------------------------------
def live_one_step(dice, pair, plans, told):
    subscription = fresh(dice.choice(pair))
    tenant = subscription.organisation
    for _ in range(dice.randint(0, 4)):
        told.append((str(clock.now(tenant)), *happen(dice, pair)))
    if subscription.status == Status.EXPIRED or (subscription.status == Status.CANCELLED and dice.random() < 0.7):
        return
    now, subscription = clock.now(tenant), fresh(subscription)
    action, options = mixed.ask(dice, now, subscription, plans)
    told.append((str(now), subscription.external_id, action, options))
    before, about = issued(subscription.customer), {"organisation": tenant, "subscription_id": subscription.pk}
    try:
        drafts = drafts_of(subscription)
        with transaction.atomic():
            found = preview.preview_action(**about, action=action, count=2, **options)
        assert {one.invoice.pk for one in found.drafts if one.invoice is not None} == drafts, told
    except DomainError as refused:
        with pytest.raises(type(refused)), transaction.atomic():
            mixed.do(action, options, subscription)
        DONE["refused " + action] += 1
        return
    mixed.do(action, options, subscription)
    run_as_foretold(tenant, told)
    DONE[action] += 1
    last = max([now, *(one.at for one in (*found.invoices, *found.credits))])
    for at in sorted({one.at for one in (*found.events, *found.invoices) if now < one.at <= last} | {last}):
        turn(tenant, at)
        run_as_foretold(tenant, told)
    finalize_due(organisation=tenant, due_at=last + FAR)
    assert said(found) == happened(subscription, *before), (told, DONE)
    drafts = said_of_drafts(found)
    assert drafts == issued_drafts(drafts), (told, DONE)
    turn(tenant, last + timedelta(hours=dice.randint(0, 400)))
    run_as_foretold(tenant, told)


def poison(tenant, customer):
    """A subscription with a tax that ends: it is set aside, and holds up nobody."""
    now = clock.now(tenant)
    TaxRate.objects.create(
        organisation=tenant, category="short", country="IN", rate="18", code="9983", valid_from=date(2017, 7, 1),
        valid_until=now.date() + timedelta(days=9),
    )  # fmt: skip
    return subscribe(customer, make_plan(tenant, flat("31.00", tax_category="short"), interval="week"))


def one_history(seed):
    dice = random.Random(seed)
    told = [("seed", seed)]
    tenant = make_organisation(
        local(f"2027-0{dice.randint(1, 9)}-{dice.randint(1, 28):02} {dice.randint(0, 23):02}:20")
    )
    plans = mixed.plans_of(tenant, dice, inclusive=dice.random() < 0.35)
    customer = make_customer(tenant)
    terms = {"consolidate": dice.random() < 0.6, "grace_days": dice.choice([0, 2, 2, 5, 12])}
    set_terms(organisation=tenant, customer_id=customer.pk, actor=CLERK, **terms)
    told.append(terms)
    pair = []
    for _ in range(2):
        agreed = {
            "quantity": dice.randint(1, 9),
            "add_ons": dice.choice([{}, {"extra": 2}]),
            "cycle": dice.choice(["anniversary", "anniversary", "calendar"]),
            "proration": dice.choice(["day", "day", "second", "none"]),
        }
        told.append(agreed)
        pair.append(subscribe(customer, dice.choice(plans), **agreed))
    poisoned = [poison(tenant, customer)] if dice.random() < 0.3 else []
    run_as_foretold(tenant, told)
    for _ in range(STEPS):
        live_one_step(dice, pair, plans, told)
    finalize_due(organisation=tenant, due_at=clock.now(tenant) + FAR)
    assert [fresh(one).failure.partition(":")[0] for one in poisoned] in ([], [""], ["missing_tax_rate"]), told
    TaxRate.objects.filter(organisation=tenant, category="short").update(valid_until=None)
    finalize_due(organisation=tenant, due_at=clock.now(tenant) + FAR)
    assert not DraftCycle.objects.filter(finalized_at=None).exists(), told
    for one in pair:
        mixed.check_documents(one, told)
        mixed.check_periods(one, told)
    for invoice in Invoice.objects.of(tenant):
        assert len({line.subscription_ref for line in invoice.lines.all()} - {None}) != 1 or terms["consolidate"], told
    assert Subscription.objects.exclude(failure="").count() <= len(poisoned), told
    assert BilledPeriod.objects.filter(kind="cycle", invoice__status="draft").count() == 0, told
    mixed.check_ledger(tenant, told)


@pytest.mark.parametrize("seed", [*FOUND, *range(FIRST, FIRST + HISTORIES)])
def test_a_shared_history_was_foretold_and_adds_up(seed):
    one_history(seed)
