"""What is given away by hand, mixed at random with usage that changes after it was billed: nothing is given back twice.

Notes by hand, annulled and written-off invoices meet events that come late, are corrected or voided, over months of a metered
price. An oracle beside the code follows what each month's usage still claims (decision page 15): a charge adds to it, a gift
takes from it, and a credit for usage that fell takes no more than is left of it. A history is made from its seed alone.
"""

import os
import random
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from moneyed import Money

from billing import clock
from billing.errors import DomainError
from billing.models import UsageEvent, UsageRevision, UsageWindow
from billing.services import ledger, usage_policy, usage_revisions
from invoices.models import CreditNote, Invoice
from invoices.services import credit_notes, settling
from subscriptions.arrears import MINIMUM
from subscriptions.services import ended_usage, lifecycle, preview
from subscriptions.services.billing_run import run_billing
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.catalog import PriceInput
from subscriptions.services.draft_finalizing import finalize_due
from tests.subscriptions.house import (
    CLERK,
    KOLKATA,
    flat,
    invoices_of,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    run,
    subscribe,
    turn,
)
from tests.subscriptions.test_coupons import coupon, give
from tests.subscriptions.test_late_usage import send
from tests.subscriptions.test_mixed_histories import check_documents, check_periods, figures

pytestmark = pytest.mark.django_db
HISTORIES = int(os.environ.get("MUNIM_GIVEN_HISTORIES", "4"))
FIRST = int(os.environ.get("MUNIM_GIVEN_FIRST", "0"))
MONTHS = 4
FOUND = (17, 61)
"""Seeds that showed a fault: a minimum that was given up was given back again, at the price before its coupon."""
ZERO = Decimal(0)
TIERS = [{"up_to": "100", "unit_price": "2.00"}, {"up_to": None, "unit_price": "1.00"}]
USAGE = ("calls", MINIMUM)
GONE = ("void", "uncollectible")


class History:
    """A subscription, what happened to it, and what each month's usage still claims by the decision page."""

    def __init__(self, seed):
        self.dice = dice = random.Random(seed)
        self.told = [("seed", seed)]
        self.tenant = make_organisation(local("2026-04-01 09:00"))
        usage_policy.change_policy(organisation=self.tenant, actor=CLERK, late_days=dice.choice([35, 90, 90]))
        self.customer = make_customer(self.tenant)
        make_meter(self.tenant)
        self.graduated = dice.random() < 0.5
        self.half = dice.random() < 0.35
        self.least = dice.choice(["", "", "own", "whole"])
        self.base = Decimal(dice.choice(["500.00", "500.00", "20.00"]))
        if self.half:
            coupon(self.tenant, code="half", percent="50", duration="forever")
            give(self.customer, code="half")
        self.subscription = self._subscribed()
        self.claims = defaultdict(Decimal)
        self.cost = defaultdict(Decimal)
        self.quantity = defaultdict(Decimal)
        self.given_away = ZERO
        self.sent = 0
        self.owed = {}
        self.restored = False
        self.told.append((self.graduated, self.half, self.least, self.base))

    def _subscribed(self):
        terms = (
            {"model": "graduated", "tiers": TIERS}
            if self.graduated
            else {"model": "per_unit", "unit_price": Decimal(2)}
        )
        own = {"min_commitment": Decimal(300)} if self.least == "own" else {}
        calls = PriceInput(
            code="calls", name="Calls", currency="INR", meter="calls", tax_category="saas", **terms, **own
        )
        whole = {"min_commitment": {"INR": f"{self.base + 300}"}} if self.least == "whole" else {}
        plan = make_plan(self.tenant, flat(f"{self.base}", tax_category="saas"), calls, **whole)
        subscription = subscribe(self.customer, plan)
        run(self.tenant)
        return subscription

    def price(self, quantity):
        """What a month's usage costs, its minimum included."""
        amount = 2 * quantity - max(quantity - 100, ZERO) if self.graduated else 2 * quantity
        return max(amount, Decimal(300) if self.least else ZERO) / (2 if self.half else 1)

    # --- what happens ------------------------------------------------------------------------------
    def happen(self):
        what = self.dice.choice(
            ("usage",) * 4 + ("void", "void", "correct", "correct", "note", "note", "annul", "lose")
        )
        try:
            with transaction.atomic():
                done = getattr(self, f"_{what}")()
        except DomainError as refused:
            done = refused.code
        self.told.append((str(clock.now(self.tenant)), what, done))

    def _usage(self):
        now = clock.now(self.tenant)
        day = max(now - timedelta(days=self.dice.choice([1, 2, 20, 40])), local("2026-04-02 12:00"))
        if day > now:
            return None
        self.sent += 1
        verdict = send(self.tenant, self.customer, f"e-{self.sent}", str(self.dice.randint(1, 150)), f"{day:%Y-%m-%d}")
        return verdict.status, f"{day:%Y-%m-%d}"

    def _event(self):
        gone = UsageRevision.objects.filter(organisation=self.tenant, kind="void").values_list("event_id", flat=True)
        rows = UsageEvent.objects.filter(customer=self.customer).exclude(event_id__in=gone)
        events = sorted({row.event_id for row in rows})
        return self.dice.choice(events) if events else None

    def _void(self):
        event = self._event()
        if event:
            usage_revisions.void_event(organisation=self.tenant, event_id=event, reason="Wrong", actor=CLERK)
        return event

    def _correct(self):
        event, quantity = self._event(), str(self.dice.randint(1, 150))
        if event:
            usage_revisions.replace_quantity(
                organisation=self.tenant, event_id=event, quantity=quantity, reason="Wrong", actor=CLERK
            )
        return event, quantity

    def _issued(self):
        return [one for one in invoices_of(self.subscription) if one.status not in ("draft", *GONE)]

    def _note(self):
        issued = self._issued()
        if not issued:
            return None
        invoice = self.dice.choice(issued)
        lines = credit_notes.creditable_lines(invoice)
        room = sum((line.left for line in lines), ZERO)
        wanted = {}
        for line in self.dice.sample(lines, len(lines)):
            amount = (max(min(line.left, room), ZERO) * self.dice.choice([0, 1, Decimal("0.4")])).quantize(
                Decimal("0.01")
            )
            if amount:
                wanted[line.position], room = Money(amount, "INR"), room - amount
        if not wanted:
            return None
        credit_notes.issue_credit_note(invoice_id=invoice.pk, amounts=wanted, reason="Goodwill", actor=CLERK)
        for line in invoice.lines.all():
            if line.position in wanted:
                self.claims[self._time(line)] -= wanted[line.position].amount
        self.given_away += sum(one.amount for one in wanted.values())
        return invoice.number, {position: str(amount.amount) for position, amount in wanted.items()}

    def _gone(self, decide):
        issued = self._issued()
        if not issued:
            return None
        invoice = self.dice.choice(issued)
        decide(invoice_id=invoice.pk, reason="Given up", actor=CLERK)
        left = lines_left(invoice)
        for line in invoice.lines.all():
            self.claims[self._time(line)] -= left[line.position]
            self.restored |= line.amount.amount < 0
        self.given_away += sum(left.values())
        return invoice.number

    def _annul(self):
        return self._gone(settling.void_invoice)

    def _lose(self):
        return self._gone(settling.write_off_invoice)

    @staticmethod
    def _time(line):
        return line.period_start if line.code in USAGE else "base"

    # --- time passes -------------------------------------------------------------------------------
    def to(self, at):
        """Turn the clock; what is due happens once, however often it is asked for, and as a dry run said."""
        turn(self.tenant, at)
        finalize_due(organisation=self.tenant)
        self.observe()
        dry, real = run_billing(organisation=self.tenant, dry_run=True), run_billing(organisation=self.tenant)
        assert figures(dry) == figures(real), self.told
        self.observe()
        run(self.tenant)
        ended_usage.settle_ended(organisation=self.tenant)
        self.observe()
        if self.dice.random() < 0.7:
            return
        counts = self._counts()
        run(self.tenant)
        finalize_due(organisation=self.tenant)
        ended_usage.settle_ended(organisation=self.tenant)
        assert self._counts() == counts, self.told

    def _counts(self):
        return Invoice.objects.of(self.tenant).count(), CreditNote.objects.of(self.tenant).count()

    def observe(self):
        """Follow what was billed since: each month's claim by the rule, and the documents must come to the same."""
        for row in UsageWindow.objects.of(self.tenant).order_by("starts_at"):
            day = row.starts_at.astimezone(KOLKATA).date()
            quantity = sum((Decimal(one["quantity"]) for one in row.parts), ZERO)
            cost = self.price(quantity)
            change, debt = cost - self.cost[day], self.owed.get(day, ZERO)
            claim = self.claims[day] + max(change, ZERO)
            asked = debt + max(-change, ZERO)
            self.claims[day] = claim - max(min(asked, claim), ZERO) + row.owed
            self.cost[day], self.quantity[day] = cost, quantity
        self.owed = {row.starts_at.astimezone(KOLKATA).date(): row.owed for row in UsageWindow.objects.of(self.tenant)}
        self.claims["base"] = self._base()
        claimed = sum(sum(lines_left(one).values()) for one in self._issued())
        if not self.least:
            assert claimed == sum(self.claims.values()), (self.claims, self.owed, claimed, self.told)

    def _base(self):
        """Base fees claim what is left of their lines; no correction is of them."""
        return sum(
            (left for one in self._issued() for line in one.lines.all() if line.code == "base"
             for left in [lines_left(one)[line.position]]), ZERO,
        )  # fmt: skip

    def foretold_month(self, at):
        """The next bill as the preview says it now, compared with what comes."""
        drafts = any(one.status == "draft" for one in invoices_of(self.subscription))
        found = preview.preview_change(organisation=self.tenant, subscription_id=self.subscription.pk, count=1)
        before = {one.pk for one in invoices_of(self.subscription)}
        self.to(at)
        new = [one for one in invoices_of(self.subscription) if one.pk not in before]
        if drafts or any(one.status == "draft" for one in new):
            return
        said = [[(line.given.description, line.amount) for line in one.priced.lines] for one in found.invoices]
        done = [[(line.description, line.amount.amount) for line in one.lines.all()] for one in new]
        assert said == done, self.told

    # --- the whole ---------------------------------------------------------------------------------
    def live(self):
        for month in range(1, MONTHS + 1):
            for _ in range(2):
                if self.dice.random() < 0.15:
                    set_terms(organisation=self.tenant, actor=CLERK, grace_days=self.dice.choice([0, 3, 12]))
                at = clock.now(self.tenant) + timedelta(days=self.dice.randint(4, 12))
                self.to(at)
                for _ in range(self.dice.randint(1, 6)):
                    self.happen()
            nxt = local(f"2026-{4 + month:02}-01 00:00")
            if month == MONTHS:
                lifecycle.cancel(subscription_id=self.subscription.pk, actor=CLERK, on=nxt)
                self.observe()
            self.foretold_month(nxt + timedelta(hours=1))
        for _ in range(3):
            self.to(clock.now(self.tenant) + timedelta(days=self.dice.randint(3, 8)))
            for _ in range(self.dice.randint(0, 2)):
                self.happen()
        for _ in range(2):
            self.to(clock.now(self.tenant) + timedelta(days=70))

    def check(self):
        rows = UsageWindow.objects.of(self.tenant)
        assert not rows.exclude(owed=0).exists(), self.told
        for row in rows:  # the last look saw what counts
            counts = counted(self.customer, row)
            assert self.quantity[row.starts_at.astimezone(KOLKATA).date()] == counts, (row.starts_at, self.told)
        claimed = sum(sum(lines_left(one).values()) for one in self._issued())
        fees = MONTHS * self.base / (2 if self.half else 1)
        cost = fees + sum(self.cost.values())
        assert claimed + self.given_away >= cost, (claimed, self.given_away, cost, self.told)
        if not self.given_away:
            assert claimed == cost, (claimed, cost, self.told)
        if not self.restored:
            assert claimed <= cost, (claimed, cost, self.told)
        check_documents(self.subscription, self.told)
        check_periods(self.subscription, self.told)
        owed = sum((one.due.amount for one in self._issued()), ZERO)
        balance = ledger.balance(organisation=self.tenant, account="receivable", currency="INR").amount
        assert balance == owed, self.told


def lines_left(invoice):
    """What notes left of each line, by position."""
    left = {line.position: line.amount.amount for line in invoice.lines.all()}
    for note in CreditNote.objects.filter(invoice=invoice):
        for row in note.lines:
            left[row["position"]] -= Decimal(row["amount"])
    return left


def counted(customer, row):
    """The quantity of the events of a window as they stand, read row by row."""
    events = UsageEvent.objects.filter(customer=customer, occurred_at__gte=row.starts_at, occurred_at__lt=row.ends_at)
    found = {one.event_id: one.quantity for one in events}
    for revision in UsageRevision.objects.filter(event_id__in=found, organisation_id=customer.organisation_id).order_by(
        "id"
    ):
        found[revision.event_id] = ZERO if revision.kind == "void" else revision.quantity
    return sum(found.values(), ZERO)


@pytest.mark.parametrize("seed", [*FOUND, *range(FIRST, FIRST + HISTORIES)])
def test_what_is_given_away_is_not_given_back_again(seed):
    history = History(seed)
    history.live()
    history.check()
