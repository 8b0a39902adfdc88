"""Coupons in life: on the run's invoices, previews, drafts, changes and ends; their limits under concurrency."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError

from billing.errors import CurrencyMismatch, InvalidInput, NotFound
from billing.models import AuditRecord, Event
from billing.services import outbox
from invoices.models import Invoice
from invoices.services import settling
from subscriptions.models import AppliedCoupon, Coupon, CouponUse
from subscriptions.services import changing, coupons, lifecycle, preview
from subscriptions.services.billing_run import run_billing
from subscriptions.services.billing_run_cycles import Cycles
from subscriptions.services.billing_run_writing import bill_chunk
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.catalog import PriceInput
from subscriptions.services.coupon_book import CouponBook
from subscriptions.services.coupons import CouponNotForYou, CouponNotOffered, CouponUsedUp, InvalidCoupon, redeem
from subscriptions.services.draft_finalizing import finalize_due
from tests.subscriptions.house import (
    CLERK,
    amounts,
    credit_notes_of,
    flat,
    invoices_of,
    lines_of,
    live,
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
from tests.subscriptions.test_concurrency import together

pytestmark = pytest.mark.django_db
START = local("2026-04-01 09:00")


@pytest.fixture
def tenant(db):
    return make_organisation(START)


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


def coupon(tenant, code="ten", **terms):
    if "amount" in terms:
        terms = {
            "kind": "fixed",
            "amount": Decimal(terms.pop("amount")),
            "currency": terms.pop("currency", "INR"),
        } | terms
    else:
        terms = {"kind": "percent", "percent": Decimal(terms.pop("percent", "10"))} | terms
    return coupons.create_coupon(organisation=tenant, code=code, name=code.title(), actor=CLERK, **terms)


def give(customer, code="ten", **more):
    return redeem(organisation=customer.organisation, customer_id=customer.pk, coupon=code, actor=CLERK, **more)


def state(applied):
    row = AppliedCoupon.objects.get(pk=applied.pk)
    return row.status, row.periods_left, f"{row.left_over:.2f}", row.uses, f"{row.discounted:.2f}"


class TestOnInvoices:
    def test_a_percentage_is_taken_off_before_tax_once(self, tenant, customer):
        coupon(tenant)
        applied = give(customer)
        subscription = subscribe(customer, make_plan(tenant, flat("1000", tax_category="saas")))
        run(tenant)
        live(tenant, local("2026-05-02 09:00"), step=timedelta(days=15))

        first, second = invoices_of(subscription)
        assert (first.net.amount, first.tax.amount, first.total.amount) == (900, 162, 1062)
        assert (second.net.amount, second.total.amount) == (1000, 1180)
        assert state(applied) == ("used_up", 0, "0.00", 1, "100.00")
        [line] = first.lines.all()
        assert (line.unit_price, line.given.amount) == (1000, 900)
        assert line.details[-1] == {
            "kind": "discount", "coupon": "ten", "name": "Ten", "applied": str(applied.pk), "amount": "100.00",
        }  # fmt: skip
        [used] = CouponUse.objects.all()
        assert (used.invoice_id, used.amount) == (first.pk, 100)

    @pytest.mark.parametrize(("duration", "expected"), [
        ({"duration": "periods", "periods": 2}, ["900.00", "900.00", "1000.00", "1000.00"]),
        ({"duration": "forever"}, ["900.00"] * 4),
    ])  # fmt: skip
    def test_it_lasts_as_long_as_was_said(self, tenant, customer, duration, expected):
        coupon(tenant, **duration)
        give(customer)
        subscription = subscribe(customer, make_plan(tenant, flat("1000")))
        run(tenant)
        live(tenant, local("2026-07-02 09:00"), step=timedelta(days=15))
        assert amounts(invoices_of(subscription)) == expected

    @pytest.mark.parametrize(("carries", "expected", "end"), [
        (True, ["0.00", "0.00", "500.00"], ("used_up", 0, "0.00", 3, "2500.00")),
        (False, ["0.00", "1000.00", "1000.00"], ("used_up", 0, "0.00", 1, "1000.00")),
    ])  # fmt: skip
    def test_what_a_fixed_amount_has_left_is_carried_over_or_lost(self, tenant, customer, carries, expected, end):
        coupon(tenant, amount="2500", carries_over=carries)
        applied = give(customer)
        subscription = subscribe(customer, make_plan(tenant, flat("1000")))
        run(tenant)
        live(tenant, local("2026-06-02 09:00"), step=timedelta(days=15))
        assert amounts(invoices_of(subscription)) == expected
        assert invoices_of(subscription)[0].status == "paid", "an invoice of nothing"
        assert state(applied) == end

    def test_restricted_ones_go_first_and_touch_only_what_they_are_for(self, tenant, customer):
        meter = make_meter(tenant)
        calls = PriceInput(
            code="calls", name="Calls", currency="INR", model="per_unit", unit_price=Decimal(1), meter="calls"
        )
        plan = make_plan(tenant, flat("1000"), calls, code="team")
        other = make_plan(tenant, flat("300", code="other"), code="club")
        coupon(tenant, "all", percent="10", duration="forever")
        coupon(tenant, "club", amount="50", plans=["club"], duration="forever")
        coupon(tenant, "calls", percent="50", meters=["calls"], duration="forever")
        for code in ("all", "club", "calls"):
            give(customer, code)
        first, second = subscribe(customer, plan), subscribe(customer, other)
        run(tenant)
        use(customer, meter, "200", START + timedelta(days=3))
        live(tenant, local("2026-05-02 09:00"), step=timedelta(days=15))

        assert amounts(invoices_of(first)) == ["900.00", "990.00"]
        assert [amount for _, amount in lines_of(invoices_of(first)[1])] == ["900.00", "90.00"]
        assert amounts(invoices_of(second)) == ["225.00", "225.00"]

    def test_a_coupon_of_one_subscription_is_not_for_another(self, tenant, customer):
        coupon(tenant, duration="forever")
        plan, other = make_plan(tenant, flat("1000")), make_plan(tenant, flat("500"))
        first, second = subscribe(customer, plan), subscribe(customer, other)
        give(customer, subscription_id=second.pk)
        run(tenant)
        assert (amounts(invoices_of(first)), amounts(invoices_of(second))) == (["1000.00"], ["450.00"])

    def test_once_is_once_for_a_customer_of_many_subscriptions(self, tenant, customer):
        coupon(tenant, amount="100")
        applied = give(customer)
        rows = [subscribe(customer, make_plan(tenant, flat("1000"))) for _ in range(3)]
        run(tenant)
        assert sorted(amount for row in rows for amount in amounts(invoices_of(row))) == [
            "1000.00",
            "1000.00",
            "900.00",
        ]
        assert state(applied) == ("used_up", 0, "0.00", 1, "100.00")

    def test_an_invoice_of_several_subscriptions_uses_it_once(self, tenant, customer):
        set_terms(organisation=tenant, customer_id=customer.pk, actor=CLERK, consolidate=True)
        coupon(tenant, duration="periods", periods=2)
        applied = give(customer)
        for _ in range(2):
            subscribe(customer, make_plan(tenant, flat("1000"), code=f"p{_}"), start_at=START + timedelta(hours=1))
        turn(tenant, START + timedelta(hours=2))
        run(tenant)
        [invoice] = Invoice.objects.all()
        assert invoice.net.amount == 1800
        assert state(applied) == ("active", 1, "0.00", 1, "200.00")

    def test_a_fixed_one_of_another_currency_is_left_alone(self, tenant, customer):
        coupon(tenant, amount="100", currency="EUR")
        with pytest.raises(CurrencyMismatch):
            give(customer)

    def test_a_removed_one_takes_nothing_off_any_more(self, tenant, customer):
        coupon(tenant, duration="forever")
        applied = give(customer)
        subscription = subscribe(customer, make_plan(tenant, flat("1000")))
        run(tenant)
        coupons.remove(applied_coupon_id=applied.pk, actor=CLERK, reason="by mistake")
        live(tenant, local("2026-05-02 09:00"), step=timedelta(days=15))
        assert amounts(invoices_of(subscription)) == ["900.00", "1000.00"]
        assert AuditRecord.objects.filter(action="coupon.removed").get().reason == "by mistake"

    def test_a_void_invoice_gives_it_back(self, tenant, customer):
        coupon(tenant, amount="2500", carries_over=True)
        applied = give(customer)
        subscription = subscribe(customer, make_plan(tenant, flat("3000")))
        run(tenant)
        assert state(applied) == ("used_up", 0, "0.00", 1, "2500.00")
        outbox.dispatch(tenant.pk, wait=True)

        settling.void_invoice(invoice_id=invoices_of(subscription)[0].pk, reason="wrong", actor=CLERK)
        outbox.dispatch(tenant.pk, wait=True)

        assert state(applied) == ("active", 1, "0.00", 0, "0.00")
        assert not CouponUse.objects.exists()
        assert Event.objects.filter(type="coupon.given_back").count() == 1


class TestSameFigures:
    def test_a_dry_run_and_a_preview_say_what_then_happens(self, tenant, customer):
        coupon(tenant, duration="periods", periods=2)
        coupon(tenant, "gift", amount="1500", carries_over=True)
        applied = [give(customer), give(customer, "gift")]
        subscription = subscribe(customer, make_plan(tenant, flat("1000", tax_category="saas")))
        before = [state(one) for one in applied]

        seen = preview.preview_action(organisation=tenant, subscription_id=subscription.pk, count=4)
        dry = run_billing(organisation=tenant, due_at=local("2026-07-02 09:00"), dry_run=True)

        assert [state(one) for one in applied] == before
        run(tenant)
        live(tenant, local("2026-07-02 09:00"), step=timedelta(days=15))
        invoices = invoices_of(subscription)
        assert amounts(invoices) == ["0.00", "300.00", "1000.00", "1000.00"]
        assert [one.priced.total for one in seen.invoices] == [one.total.amount for one in invoices]
        assert dry.totals == {"INR": sum(one.total.amount for one in invoices)}

    def test_a_run_of_two_workers_uses_it_once(self, transactional_db):
        tenant = make_organisation(START)
        coupon(tenant, amount="100")
        plan = make_plan(tenant, flat("1000"))
        people = [make_customer(tenant) for _ in range(6)]
        for person in people:
            give(person)
            for _ in range(3):
                subscribe(person, plan)

        together(*[lambda: run_billing(organisation=tenant, chunk_size=2)] * 3)

        assert Invoice.objects.count() == 18
        assert CouponUse.objects.count() == 6
        assert {state(one) for one in AppliedCoupon.objects.all()} == {("used_up", 0, "0.00", 1, "100.00")}
        assert sum(invoice.net.amount for invoice in Invoice.objects.all()) == 18_000 - 600

    def test_a_draft_priced_anew_keeps_its_coupon(self, tenant, customer):
        meter = make_meter(tenant)
        calls = PriceInput(
            code="calls", name="Calls", currency="INR", model="per_unit", unit_price=Decimal(1), meter="calls"
        )
        set_terms(organisation=tenant, customer_id=customer.pk, actor=CLERK, grace_days=3)
        coupon(tenant)
        subscription = subscribe(customer, make_plan(tenant, calls))
        run(tenant)
        use(customer, meter, "200", START + timedelta(days=3))
        applied = give(customer)
        live(tenant, local("2026-05-01 09:00"), step=timedelta(days=15))
        [draft] = invoices_of(subscription)
        assert (draft.status, draft.net.amount) == ("draft", 180)
        assert state(applied) == ("used_up", 0, "0.00", 1, "20.00")

        use(customer, meter, "100", START + timedelta(days=4))
        turn(tenant, local("2026-05-05 09:00"))
        finalize_due(organisation=tenant)

        [invoice] = invoices_of(subscription)
        assert (invoice.status, invoice.net.amount) == ("open", 270)
        assert state(applied) == ("used_up", 0, "0.00", 1, "30.00")
        assert CouponUse.objects.get().amount == 30


class TestWithinAPeriod:
    def test_an_end_gives_back_what_was_paid_and_not_the_list_price(self, tenant, customer):
        coupon(tenant, percent="40")
        give(customer)
        subscription = subscribe(customer, make_plan(tenant, flat("3000", tax_category="saas")))
        run(tenant)
        turn(tenant, local("2026-04-16 00:00"))

        seen = preview.preview_action(
            organisation=tenant, subscription_id=subscription.pk, action="cancel", count=0, credit="prorated"
        )
        lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, credit="prorated")

        [note] = credit_notes_of(subscription)
        assert (note.net.amount, note.total.amount) == (900, 1062)  # 15 of 30 days of 1,800
        assert [one.priced.total for one in seen.credits] == [note.total.amount]

    def test_a_change_is_discounted_like_the_period_it_falls_into(self, tenant, customer):
        """1,000 at 10 % off; after half of the month 2,000: 450 back, 900 more."""
        coupon(tenant, percent="10")
        applied = give(customer)
        subscription = subscribe(customer, make_plan(tenant, seats("1000")), quantity=1)
        run(tenant)
        turn(tenant, local("2026-04-16 00:00"))

        seen = preview.preview_change(organisation=tenant, subscription_id=subscription.pk, quantity=2, count=0)
        changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, quantity=2)

        invoices = invoices_of(subscription)
        assert amounts(invoices) == ["900.00", "450.00"]
        assert [one.priced.total for one in seen.invoices] == [invoices[1].total.amount]
        assert state(applied) == ("used_up", 0, "0.00", 2, "200.00")
        live(tenant, local("2026-05-02 09:00"), step=timedelta(days=15))
        assert amounts(invoices_of(subscription))[-1] == "2000.00"

    def test_a_cheaper_plan_is_discounted_too_where_more_goes_back_than_is_charged(self, tenant, customer):
        """3,000 at 50 % off; after half of the month 1,000 instead: 750 back, 250 for the rest."""
        coupon(tenant, percent="50", duration="forever")
        give(customer)
        subscription = subscribe(customer, make_plan(tenant, flat("3000")))
        cheaper = make_plan(tenant, flat("1000"))
        run(tenant)
        turn(tenant, local("2026-04-16 00:00"))

        version = changing.version_for(organisation=tenant, plan_id=cheaper.pk)
        seen = preview.preview_change(organisation=tenant, subscription_id=subscription.pk, version=version, count=0)
        changing.change_subscription(subscription_id=subscription.pk, actor=CLERK, version=version)

        assert amounts(invoices_of(subscription)) == ["1500.00"]
        assert amounts(credit_notes_of(subscription)) == ["500.00"]
        assert [one.priced.net for one in seen.credits] == [500]

    def test_credits_never_exceed_what_was_paid_whatever_happens(self, tenant, customer):
        coupon(tenant, percent="100")
        give(customer)
        subscription = subscribe(customer, make_plan(tenant, flat("3000")))
        run(tenant)
        turn(tenant, local("2026-04-10 00:00"))
        lifecycle.cancel(subscription_id=subscription.pk, actor=CLERK, credit="prorated")
        assert credit_notes_of(subscription) == []


class TestLimits:
    def test_a_promotion_code_is_taken_however_it_is_written(self, tenant, customer):
        coupon(tenant)
        coupons.create_promotion_code(organisation=tenant, code="Summer-26", coupon="ten", actor=CLERK)
        applied = redeem(organisation=tenant, customer_id=customer.pk, promotion_code=" summer-26 ", actor=CLERK)
        assert (applied.promotion_code.code, applied.coupon.code) == ("SUMMER-26", "ten")
        assert Event.objects.get(type="coupon.redeemed").payload["promotion_code"] == "SUMMER-26"

    def test_a_hundred_at_once_take_no_more_than_there_are(self, transactional_db):
        tenant = make_organisation(START)
        coupon(tenant, max_redemptions=5)
        people = [make_customer(tenant) for _ in range(12)]

        results = together(*[lambda person=person: give(person) for person in people])

        assert sum(isinstance(one, AppliedCoupon) for one in results) == 5
        assert sum(isinstance(one, CouponUsedUp) for one in results) == 7
        assert AppliedCoupon.objects.count() == 5

    def test_a_customer_takes_it_as_often_as_may_be_and_what_was_taken_back_unused_does_not_count(
        self, tenant, customer
    ):
        coupon(tenant, max_redemptions=2)
        applied = give(customer)
        with pytest.raises(CouponNotForYou):
            give(customer)
        coupons.remove(applied_coupon_id=applied.pk, actor=CLERK)
        give(customer)
        assert AppliedCoupon.objects.count() == 2

    def test_a_code_has_limits_of_its_own(self, tenant, customer):
        coupon(tenant, max_per_customer=9)
        coupons.create_promotion_code(organisation=tenant, code="ONE", coupon="ten", max_redemptions=1, actor=CLERK)
        coupons.create_promotion_code(
            organisation=tenant, code="NEW", coupon="ten", first_subscription_only=True, actor=CLERK,
            expires_at=START + timedelta(days=9),
        )  # fmt: skip

        def say(word, who):
            return redeem(organisation=tenant, customer_id=who.pk, promotion_code=word, actor=CLERK)

        say("ONE", customer)
        with pytest.raises(CouponUsedUp):
            say("ONE", make_customer(tenant))
        subscribe(customer, make_plan(tenant, flat("10")))
        run(tenant)
        with pytest.raises(CouponNotForYou):
            say("NEW", customer)
        say("NEW", make_customer(tenant))
        turn(tenant, START + timedelta(days=10))
        with pytest.raises(CouponNotOffered):
            say("NEW", make_customer(tenant))

    def test_what_is_archived_or_expired_is_not_given_but_kept(self, tenant, customer):
        made = coupon(tenant, duration="forever", expires_at=START + timedelta(days=5))
        give(customer)
        subscription = subscribe(customer, make_plan(tenant, flat("1000")))
        turn(tenant, START + timedelta(days=6))
        with pytest.raises(CouponNotOffered):
            give(make_customer(tenant))
        coupons.archive_coupon(coupon_id=made.pk, actor=CLERK)
        run(tenant)
        assert amounts(invoices_of(subscription)) == ["900.00"]
        with pytest.raises(CouponNotOffered):
            coupons.create_promotion_code(organisation=tenant, code="LATE", coupon="ten", actor=CLERK)

    def test_others_have_nothing_to_do_with_it(self, tenant, customer):
        coupon(tenant, plans=[make_plan(tenant, flat("1"), code="team").code])
        other = make_organisation(START)
        stranger = make_customer(other)
        with pytest.raises(NotFound):
            redeem(organisation=tenant, customer_id=stranger.pk, coupon="ten", actor=CLERK)
        with pytest.raises(InvalidCoupon):
            redeem(organisation=other, customer_id=stranger.pk, coupon="ten", actor=CLERK)
        theirs = subscribe(stranger, make_plan(other, flat("1")))
        with pytest.raises(NotFound):
            give(customer, subscription_id=theirs.pk)
        mine = subscribe(customer, make_plan(tenant, flat("1")))
        with pytest.raises(CouponNotForYou):
            give(customer, subscription_id=mine.pk)
        assert not AppliedCoupon.objects.exists()

    @pytest.mark.parametrize(("terms", "field"), [
        ({"kind": "gift"}, "kind"), ({"percent": "0"}, "percent"), ({"percent": "100.01"}, "percent"),
        ({"percent": "NaN"}, "percent"), ({"percent": "1.00001"}, "percent"), ({"currency": "INR"}, "amount"),
        ({"carries_over": True}, "carries_over"), ({"amount": "0"}, "amount"), ({"amount": "1.005"}, "amount"),
        ({"amount": "5", "currency": "XXQ"}, "currency"), ({"duration": "periods"}, "periods"), ({"periods": 3}, "periods"),
        ({"duration": "always"}, "duration"), ({"max_redemptions": 0}, "max_redemptions"),
        ({"max_per_customer": 0}, "max_per_customer"), ({"plans": ["nobody"]}, "plans"), ({"meters": ["nobody"]}, "meters"),
        ({"expires_at": START}, "expires_at"),
    ])  # fmt: skip
    def test_bad_terms_are_named_and_nothing_is_written(self, tenant, terms, field):
        with pytest.raises(InvalidInput) as refused:
            coupon(tenant, **terms)
        assert refused.value.field in (field, None) or field == "currency"
        assert not Coupon.objects.exists()


def test_a_run_keeps_no_more_coupons_in_memory_than_a_chunk_has(tenant, monkeypatch):
    """Seven customers in chunks of three, one of which fails first: as many coupons are met as a chunk has, and none stay."""
    coupon(tenant, duration="once", percent=Decimal(10))
    plan = make_plan(tenant, flat("100.00"))
    held = []
    for _ in range(7):
        buyer = make_customer(tenant)
        subscribe(buyer, plan)
        held.append(give(buyer))
    cycles, claimed, kept = Cycles(organisation=tenant, at=START), [], []
    write = cycles.coupons.write

    def fails(*_, **__):
        raise IntegrityError("refused")

    def counted(*args, **more):
        kept.append(cycles.coupons.kept)
        write(*args, **more)

    def bill():
        about = {"organisation": tenant, "cycles": cycles, "due_at": START, "size": 3, "run": None, "only": None}
        return bill_chunk(**about, claimed=claimed)

    monkeypatch.setattr(cycles.coupons, "write", fails)
    with pytest.raises(IntegrityError):
        bill()
    assert cycles.coupons.kept == 0
    cycles.issuer.forget()
    monkeypatch.setattr(cycles.coupons, "write", counted)
    billed = []
    while (done := bill()) is not None:
        billed.append(done.billed)
        assert cycles.coupons.kept == 0

    assert billed == [3, 3, 1]
    assert kept == [9, 9, 3]  # a customer, a coupon and an invoice each
    assert {state(one) for one in held} == {("used_up", 0, "0.00", 1, "10.00")}
    assert [one.net.amount for one in Invoice.objects.all()] == [Decimal(90)] * 7


class TestDryRunsOfSeveralSubscriptions:
    """A coupon goes to the invoices that come first, whichever subscription they are of, and in whatever chunks they come."""

    @pytest.fixture
    def buyers(self, tenant):
        """Three customers with two weekly plans and a monthly one, begun on three days, and a coupon for the next four invoices."""
        coupon(tenant, duration="periods", periods=4, percent=Decimal(50))
        monthly = make_plan(tenant, flat("100.00"), code="monthly")
        weekly = make_plan(tenant, flat("8.00"), code="weekly", interval="week")
        found = [make_customer(tenant) for _ in range(3)]
        for day, plan in (("2026-04-01", weekly), ("2026-04-03", monthly), ("2026-04-09", weekly)):
            turn(tenant, local(f"{day} 09:00"))
            for buyer in found:
                subscribe(buyer, plan)
        for buyer in found:
            give(buyer)
        return found

    @pytest.mark.parametrize("size", [1, 2, 4, 500])
    def test_a_look_ahead_equals_what_is_billed_as_time_passes(self, tenant, buyers, size):
        """A week at half its price, the month, a week of each: 4 + 50 + 4 + 4 are taken off each customer's 13 invoices."""
        end = local("2026-05-08 09:00")
        dry = run_billing(organisation=tenant, due_at=end, dry_run=True, chunk_size=size)

        run(tenant)
        live(tenant, end)

        billed = Invoice.objects.all()
        assert (dry.invoices, dry.totals) == (39, {"INR": sum(one.total.amount for one in billed)})
        assert billed.count() == 39
        assert {one.discounted for one in AppliedCoupon.objects.all()} == {Decimal("62.00")}

    @pytest.mark.parametrize("size", [1, 4, 500])
    def test_so_does_a_run_that_comes_late(self, tenant, buyers, size):
        turn(tenant, local("2026-05-08 09:00"))

        dry = run_billing(organisation=tenant, dry_run=True, chunk_size=size)
        real = run_billing(organisation=tenant, chunk_size=size)

        assert (dry.invoices, dry.totals) == (real.invoices, real.totals)
        assert {one.discounted for one in AppliedCoupon.objects.all()} == {Decimal("62.00")}

    def test_it_keeps_no_more_in_memory_than_a_chunk(self, tenant, buyers, monkeypatch):
        kept = []
        forget = CouponBook.forget

        def counted(book):
            kept.append(len(book._of))
            forget(book)

        monkeypatch.setattr(CouponBook, "forget", counted)
        run_billing(organisation=tenant, due_at=local("2026-05-08 09:00"), dry_run=True, chunk_size=2)

        assert kept == [1, 1, 1]
