"""Money rules: exact, one rounding, parts add up."""

import ast
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moneyed import Money

from billing import masking, money, taxids
from billing.errors import CurrencyMismatch, InvalidAllocation, InvalidAmount, UnknownCurrency
from billing.ids import uuid7

ROOT = Path(__file__).resolve().parents[2]
CODES = st.sampled_from(["INR", "EUR", "USD", "JPY", "KWD", "CLP", "BHD"])
MINOR = st.integers(-(10**13), 10**13)


@given(CODES, MINOR, st.lists(st.integers(0, 10**6), min_size=1, max_size=40).filter(any))
def test_parts_add_up_and_are_fair(code: str, minor: int, weights: list[int]) -> None:
    total = money.from_minor_units(minor, code)

    parts = money.allocate(total, weights)

    assert sum(money.to_minor_units(part) for part in parts) == minor
    for part, weight in zip(parts, weights, strict=True):
        exact = Decimal(minor) * weight / sum(weights)
        assert abs(money.to_minor_units(part) - exact) < 1
        assert weight or not part.amount


@given(CODES, MINOR, st.lists(st.integers(0, 1000), min_size=1, max_size=10).filter(any))
def test_a_credit_undoes_its_charge_part_by_part(code: str, minor: int, weights: list[int]) -> None:
    total = money.from_minor_units(minor, code)

    assert money.allocate(-total, weights) == [-part for part in money.allocate(total, weights)]


@given(CODES, MINOR)
def test_minor_units_there_and_back(code: str, minor: int) -> None:
    assert money.to_minor_units(money.from_minor_units(minor, code)) == minor


@given(CODES, st.decimals(-(10**12), 10**12, places=6))
def test_rounding_is_half_up_and_once_is_enough(code: str, amount: Decimal) -> None:
    rounded = money.quantize(amount, code)
    half = Decimal(5).scaleb(-money.exponent(code) - 1)

    assert abs(rounded - amount) <= half
    assert money.quantize(rounded, code) == rounded
    if abs(rounded - amount) == half:
        assert abs(rounded) > abs(amount)


@pytest.mark.parametrize(
    ("amount", "code", "expected"),
    [
        ("6.345", "INR", "6.35"),
        ("-6.345", "INR", "-6.35"),
        ("0.5", "JPY", "1"),
        ("1.0005", "KWD", "1.001"),
        ("2.675", "EUR", "2.68"),
    ],
)
def test_known_roundings(amount: str, code: str, expected: str) -> None:
    assert money.quantize(Decimal(amount), code) == Decimal(expected)


@pytest.mark.parametrize(
    ("text", "code"),
    [("NaN", "INR"), ("Infinity", "INR"), ("1e400", "INR"), ("0.001", "INR"), ("0.5", "JPY"), ("", "INR"), ("x", "INR"),
     ("0", "INR"), ("-1", "INR"), (1.5, "INR"), (True, "INR"), (None, "INR"), ("1000000000000000", "INR")],
)  # fmt: skip
def test_what_is_no_amount_is_refused(text: object, code: str) -> None:
    with pytest.raises(InvalidAmount):
        money.parse_amount(text, code)


@pytest.mark.parametrize("code", ["XXX", "XAU", "inr", "", "RUPEE", None])
def test_what_is_no_currency_is_refused(code: str) -> None:
    with pytest.raises(UnknownCurrency):
        money.currency_of(code)


def test_nothing_cannot_be_split_and_currencies_do_not_meet() -> None:
    for weights in ([], [0, 0], [-1, 2]):
        with pytest.raises(InvalidAllocation):
            money.allocate(Money("1", "INR"), weights)
    with pytest.raises(CurrencyMismatch):
        money.same_currency(Money("1", "INR"), Money("1", "EUR"))


def test_no_float_in_the_product() -> None:
    """``float(...)``, float fields and float literals have no place beside money; waits and pixels may be fractions."""
    banned = {"FloatField", "float"}
    for path in ROOT.glob("billing/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                assert name not in banned or path.name == "throttling.py", f"{path}:{node.lineno}"


def test_ids_are_ordered_by_time() -> None:
    ids = [uuid7() for _ in range(2000)]

    assert len(set(ids)) == 2000
    assert [one.int >> 80 for one in ids] == sorted(one.int >> 80 for one in ids)
    assert {one.version for one in ids} == {7}


def test_forked_processes_and_threads_draw_different_ids() -> None:
    uuid7()  # fetches ahead what a child would inherit
    with get_context("fork").Pool(3, maxtasksperchild=1) as pool:
        drawn = [one for many in pool.map(_many_ids, range(6), chunksize=1) for one in many]
    with ThreadPoolExecutor(4) as threads:
        drawn += [one for many in threads.map(_many_ids, range(8)) for one in many]
    assert len({one.int & (2**62 - 1) for one in drawn}) == len(drawn) == 14 * 500


def _many_ids(_: int) -> list[uuid.UUID]:
    return [uuid7() for _ in range(500)]


@pytest.mark.parametrize("good", ["33AAFCT2207K1ZJ", "38AAFCT2207K1Z9", " 33aafct2207k1zj "])
def test_wellformed_gstins(good: str) -> None:
    assert taxids.clean_gstin(good) == good.strip().upper()


@pytest.mark.parametrize("state", ["25", "28", "00", "39", "96"])
def test_a_gstin_of_no_state_is_refused(state: str) -> None:
    body = f"{state}AAFCT2207K1Z"

    with pytest.raises(taxids.InvalidTaxId, match="no state"):
        taxids.clean_gstin(body + taxids.gstin_check(body))


def test_a_gstin_of_other_territory_is_known() -> None:
    body = "97AAFCT2207K1Z"

    assert taxids.clean_gstin(body + taxids.gstin_check(body))[:2] == "97"


@given(st.integers(0, 13), st.sampled_from(taxids.ALPHABET))
def test_one_wrong_sign_in_a_gstin_is_noticed(place: int, sign: str) -> None:
    good = "33AAFCT2207K1ZJ"
    bad = good[:place] + sign + good[place + 1 :]

    if bad != good:
        with pytest.raises(taxids.InvalidTaxId):
            taxids.clean_gstin(bad)


@pytest.mark.parametrize(
    ("value", "masked"),
    [("jane@example.com", "j***@example.com"), ("", ""), ("x", "x***"), ("@a.b", "***@a.b")],
)
def test_masked_email(value: str, masked: str) -> None:
    assert masking.mask_email(value) == masked


def test_masks_hide_enough() -> None:
    assert masking.mask_phone("+919845012345") == "+91•••2345"
    assert masking.mask_phone("1234") == "•••34"
    assert masking.last4("123456789012") == "9012"
    assert masking.last4("12") == "2"
    assert masking.mask_name("Asha Verma") == "A••• V•••"
