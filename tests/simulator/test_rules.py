"""The simulator's pure rules and its wire format."""

import io
from datetime import date
from urllib.parse import parse_qsl, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as some
from stripe._encode import _api_encode

from payments.simulator import fees, server, wire, workdays
from payments.simulator.clock import ClockWentBack, VirtualClock, iso, parse_iso
from payments.simulator.idempotency import IdempotencyStore, KeyInUse, KeyMismatch
from payments.simulator.instruments import luhn_ok, network_of
from payments.simulator.parts import Marks
from payments.simulator.stripe_api import search
from payments.simulator.stripe_api.errors import StripeError
from payments.simulator.truth import TruthLedger


def test_indian_working_days_skip_sundays_two_saturdays_and_holidays() -> None:
    closed = [day for day in range(1, 32) if not workdays.indian_workday(date(2025, 8, day))]

    assert closed == [3, 9, 10, 15, 17, 23, 24, 31]
    assert not workdays.indian_workday(date(2025, 8, 27), [date(2025, 8, 27)])


@pytest.mark.parametrize(
    ("start", "count", "end"),
    [(date(2025, 8, 6), 2, date(2025, 8, 8)), (date(2025, 8, 8), 2, date(2025, 8, 12)),
     (date(2025, 8, 9), 0, date(2025, 8, 11)), (date(2025, 8, 13), 2, date(2025, 8, 16))],
)  # fmt: skip
def test_working_days_are_counted_after_the_day(start: date, count: int, end: date) -> None:
    assert workdays.add_workdays(start, count, workdays.indian_workday) == end


@given(some.integers(1, 10**12), some.sampled_from(["card", "upi", "emandate", "netbanking"]), some.booleans())
def test_a_fee_contains_its_tax_and_never_exceeds_the_amount(amount: int, method: str, international: bool) -> None:
    fee = fees.razorpay_fee(base_amount=amount, method=method, international=international)

    assert 0 <= fee.tax <= fee.total <= amount


@pytest.mark.parametrize(
    ("amount", "currency", "fee"),
    [(10_000, "USD", 320), (10_000, "EUR", 175), (10_000, "JPY", 290), (10_000, "KWD", 590)],
)
def test_stripe_fees_follow_the_currency_exponent(amount: int, currency: str, fee: int) -> None:
    assert fees.stripe_fee(amount=amount, currency=currency).total == fee


def test_jobs_run_in_order_at_their_own_time() -> None:
    seen = list[tuple[str, int]]()

    def run(name: str, arguments: tuple[int, ...]) -> None:
        seen.append((name, clock.now))
        for seconds in arguments:
            clock.after(seconds, "c")

    clock = VirtualClock(100, run, Marks())
    clock.at(130, "b")
    clock.at(110, "a", 5)

    assert clock.advance_to(150) == 3

    assert (seen, clock.now) == ([("a", 110), ("c", 115), ("b", 130)], 150)
    with pytest.raises(ClockWentBack):
        clock.advance_to(149)


def test_times_are_read_with_any_offset() -> None:
    assert parse_iso("2025-04-01T05:30:00+05:30") == parse_iso("2025-04-01") == parse_iso("2025-04-01T00:00:00Z")
    assert iso(parse_iso("2025-04-01T06:00:00Z")) == "2025-04-01T06:00:00Z"


names = some.text("abcdefgh_", min_size=1, max_size=6)
plain = some.dictionaries(names, some.text("xyz 1&=[]", min_size=1, max_size=5), min_size=1, max_size=3)


@given(
    some.dictionaries(
        names, some.one_of(some.text("xyz1", min_size=1), some.lists(plain, min_size=1, max_size=3), plain)
    )
)
def test_nested_forms_are_read_as_the_sdk_writes_them(body: dict[str, object]) -> None:
    encoded = "&".join(f"{quote_plus(str(k))}={quote_plus(str(v))}" for k, v in _api_encode(body))

    assert wire.nested(parse_qsl(encoded, keep_blank_values=True)) == body


def test_metadata_with_number_keys_stays_a_mapping() -> None:
    assert wire.nested([("metadata[1]", "a"), ("list[0]", "b")]) == {"metadata": {"1": "a"}, "list": ["b"]}


INTENTS = [
    {"id": "a", "amount": 100, "status": "succeeded", "metadata": {"k": "it's"}, "created": 5, "customer": "cus_1"},
    {"id": "b", "amount": 200, "status": "canceled", "metadata": {}, "created": 6, "customer": None},
    {"id": "c", "amount": 300, "status": "succeeded", "metadata": {"k": "x"}, "created": 7, "customer": "cus_2"},
]


@pytest.mark.parametrize(
    ("query", "found"),
    [("amount>100", "bc"), ("amount>=200 AND status:'succeeded'", "c"), ("-status:'succeeded'", "b"), ("created<7", "ab"),
     ("metadata['k']:'x' OR amount:200", "bc"), (r"metadata['k']:'it\'s'", "a"), ("-amount:200", "ac"),
     ('customer:"cus_1" status:"succeeded"', "a"), ("-metadata['k']:'x'", "ab")],
)  # fmt: skip
def test_search_clauses(query: str, found: str) -> None:
    assert "".join(item["id"] for item in search.matching(INTENTS, query)) == found


@pytest.mark.parametrize("query", ["", "colour:'red'", "amount>1 AND", "amount>1 AND status:'x' OR amount<1"])
def test_search_refuses_what_it_cannot_read(query: str) -> None:
    with pytest.raises(StripeError):
        search.matching(INTENTS, query)


def test_the_ledger_refuses_an_unbalanced_entry() -> None:
    truth = TruthLedger(Marks())
    with pytest.raises(AssertionError, match="unbalanced"):
        truth.post(at=0, kind="x", ref="r", parent="p", currency="INR", moves={"a": 1, "b": -2})
    assert not truth.entries


def test_idempotency_claims_replays_refuses_and_forgets() -> None:
    store, answer = IdempotencyStore(Marks(), 100), wire.Response(200)
    assert store.begin(key="k", fingerprint="f", now=0) is None
    with pytest.raises(KeyInUse):
        store.begin(key="k", fingerprint="f", now=1)
    store.finish(key="k", response=answer)
    assert store.begin(key="k", fingerprint="f", now=99) is answer
    with pytest.raises(KeyMismatch):
        store.begin(key="k", fingerprint="other", now=99)
    assert store.begin(key="k", fingerprint="other", now=100) is None
    store.release("k")
    assert store.begin(key="k", fingerprint="f", now=101) is None


@pytest.mark.parametrize("raw", [b"nonsense\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])
def test_bad_http_is_refused(raw: bytes) -> None:
    with pytest.raises(server._BadRequest):
        server.read_request(io.BytesIO(raw))  # type: ignore[arg-type]


def test_card_numbers() -> None:
    assert luhn_ok("4242424242424242")
    assert not luhn_ok("4242424242424241")
    assert [network_of(n) for n in ("4", "55", "37", "6527", "3608")] == [
        "Visa", "MasterCard", "American Express", "RuPay", "Diners Club"
    ]  # fmt: skip
