"""When declined payments are tried again: the rules alone."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moneyed import Money

from payments.gateways import declines
from payments.gateways.base import DeclineClass, Recovery
from payments.retry_policy import (
    MAX_DEBITS,
    MAX_DEBITS_OF_METHOD,
    MAX_PAGES,
    History,
    Move,
    decide,
    needs_customer,
)

NOW = datetime(2025, 4, 7, 6, 30, tzinfo=UTC)
KOLKATA = ZoneInfo("Asia/Kolkata")
CLASSES = list(DeclineClass)
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"


def next_of(decline_class, *, seen=1, **history):
    given = History(declines={decline_class: seen}, first_declined_at=NOW, **history)
    return decide(decline_class=decline_class, history=given, now=NOW, zone=KOLKATA, seed="p1")


@given(
    decline_class=st.sampled_from(CLASSES),
    seen=st.integers(0, 30),
    debits=st.integers(0, 30),
    of_method=st.integers(0, 40),
    pages=st.integers(0, 10),
    now=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),
    zone=st.sampled_from(["Asia/Kolkata", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "UTC"]),
    seed=st.text(max_size=8),
)
def test_a_retry_lies_ahead_and_everything_ends(decline_class, seen, debits, of_method, pages, now, zone, seed):
    now = now.replace(tzinfo=UTC)
    history = History(
        declines={decline_class: seen},
        first_declined_at=now - timedelta(days=seen),
        debits=debits,
        debits_of_method=of_method,
        pages=pages,
    )

    decision = decide(decline_class=decline_class, history=history, now=now, zone=ZoneInfo(zone), seed=seed)

    assert decision == decide(decline_class=decline_class, history=history, now=now, zone=ZoneInfo(zone), seed=seed)
    if decision.move is Move.RETRY:
        assert now < decision.at <= now + timedelta(days=9)
        assert debits < MAX_DEBITS
        assert of_method < MAX_DEBITS_OF_METHOD
    if decision.move is Move.ASK_CUSTOMER:
        assert pages < MAX_PAGES
    if seen > 10:
        assert decision.move is not Move.RETRY
    if decline_class in (DeclineClass.HARD, DeclineClass.FRAUD):
        assert decision.move is Move.GIVE_UP


@given(seed=st.text(max_size=12), seen=st.integers(1, 4), zone=st.sampled_from(["Asia/Kolkata", "Europe/Berlin"]))
def test_soft_retries_fall_between_seven_and_eight_in_the_morning(seed, seen, zone):
    where = ZoneInfo(zone)
    history = History(declines={DeclineClass.SOFT: seen}, first_declined_at=NOW)

    at = decide(decline_class=DeclineClass.SOFT, history=history, now=NOW, zone=where, seed=seed).at

    assert at.astimezone(where).hour == 7
    assert (at.astimezone(where).date() - NOW.astimezone(where).date()).days == (1, 3, 5, 7)[seen - 1]


def test_the_hour_is_spread_over_payments():
    minutes = set()
    for n in range(300):
        history = History(declines={DeclineClass.SOFT: 1}, first_declined_at=NOW)
        at = decide(decline_class=DeclineClass.SOFT, history=history, now=NOW, zone=KOLKATA, seed=f"payment {n}").at
        minutes.add(at.minute)
    assert len(minutes) > 50


def test_technical_faults_wait_longer_each_time_and_end_after_five():
    waits = [next_of(DeclineClass.TECHNICAL, seen=n).at - NOW for n in range(1, 6)]
    assert waits == sorted(waits)
    assert timedelta(minutes=15) <= waits[0] <= timedelta(minutes=16, seconds=30)
    assert next_of(DeclineClass.TECHNICAL, seen=6).move is Move.GIVE_UP


@pytest.mark.parametrize(
    ("provider", "kind", "amount", "limit", "expected"),
    [
        ("razorpay", "card", "15000.00", None, False),
        ("razorpay", "card", "15000.01", None, True),
        ("razorpay", "upi", "15000.01", None, True),
        ("razorpay", "emandate", "99999.00", None, False),
        ("razorpay", "emandate", "99999.00", "50000.00", True),
        ("stripe", "card", "99999.00", None, False),
    ],
)
def test_who_has_to_be_asked(provider, kind, amount, limit, expected):
    bound = Money(limit, "INR") if limit else None
    assert needs_customer(provider=provider, kind=kind, amount=Money(amount, "INR"), limit=bound) is expected


@pytest.mark.parametrize(
    ("provider", "code", "advice", "expected"),
    [
        ("razorpay", "insufficient_fund", "", "soft"),
        ("razorpay", "Insufficient Funds", "", "soft"),
        ("razorpay", "invalid_otp", "", "customer_action"),
        ("razorpay", "payment_timed_out", "", "ambiguous"),
        ("razorpay", "never heard of it", "", "soft"),
        ("stripe", "insufficient_funds", "", "soft"),
        ("stripe", "insufficient_funds", "do_not_try_again", "hard"),
        ("stripe", "generic_decline", "confirm_card_data", "customer_action"),
        ("stripe", "authentication_required", "", "authentication"),
        ("stripe", "stolen_card", "", "hard"),
        ("stripe", "", "", "soft"),
    ],
)
def test_declines_in_our_words(provider, code, advice, expected):
    assert declines.classify(provider, code, advice=advice).decline_class == expected


def test_a_thief_is_not_told_why():
    told = {code: declines.classify("stripe", code).message for code in ("stolen_card", "lost_card", "fraudulent")}
    assert set(told.values()) == {declines.MESSAGES[DeclineClass.FRAUD]}


@pytest.mark.parametrize(("name", "provider", "column"), [
    ("razorpay_error_reasons.csv", "razorpay", "reason"), ("stripe_decline_codes.csv", "stripe", "code"),
])  # fmt: skip
def test_every_documented_code_is_known(name, provider, column):
    if not (SAMPLES / name).is_file():
        pytest.skip("no samples beside the checkout")
    with (SAMPLES / name).open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("kind") in (None, "decline_code", "advice_code")]
    known = declines.known_codes(provider)
    missing = {row[column] for row in rows if declines.normalise(row[column]) not in known}
    assert missing <= {"try_again_later"}
    never = {row["code"] for row in rows if row.get("stripe_auto_retry") == "no"}
    for code in never - {"incorrect_number"}:
        assert declines.classify(provider, code).recovery in (Recovery.NEW_METHOD, Recovery.ASK_CUSTOMER), code
