"""Meters as rules: what each makes of events, whatever their order, and however they were added up before."""

import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.metering import MeterRule, Reading, Segment, Window, parts, quantity_of, segment_of

START = datetime(2026, 4, 1, tzinfo=UTC)
END = START + timedelta(days=10)
WINDOW = Window(uuid.UUID(int=1), uuid.UUID(int=2), START, END)
D = Decimal


def single(n: int, quantity: str, at: datetime, *, subject: str = "", values: tuple[str, ...] = ()) -> Reading:
    number = D(quantity)
    return Reading(values, subject, at < START, 1, number, number, number, at, n, D(0))


def at(days: float) -> datetime:
    return START + timedelta(days=days)


SEATS = [
    single(1, "1", at(-5), subject="ann"), single(2, "1", at(1), subject="bob"), single(3, "0", at(2), subject="ann"),
    single(4, "1", at(3), subject="cat"), single(5, "0", at(4), subject="cat"), single(6, "1", at(5), subject="cat"),
]  # fmt: skip
LEVEL = [single(1, "10", at(-3)), single(2, "5", at(2)), single(3, "-10", at(7))]


@pytest.mark.parametrize(
    ("rule", "events", "expected"),
    [
        (MeterRule("count"), [single(1, "3", at(1)), single(2, "4", at(2))], "2"),
        (MeterRule("sum"), [single(1, "3", at(1)), single(2, "4.5", at(2))], "7.5"),
        (MeterRule("sum", recurring=True), LEVEL, "5"),
        (MeterRule("max"), [single(1, "3", at(1)), single(2, "4.5", at(2))], "4.5"),
        (MeterRule("unique", recurring=True), SEATS, "2"),
        (MeterRule("unique"), SEATS[1:], "2"),
        (MeterRule("latest"), [single(2, "7", at(2)), single(1, "9", at(1))], "7"),
        (MeterRule("latest"), [single(2, "7", at(1)), single(1, "9", at(1))], "7"),
        (MeterRule("latest", recurring=True), [single(1, "9", at(-1))], "9"),
        # two days at 10, five at 15, three at 5: 20 + 75 + 15 over ten days
        (MeterRule("weighted", recurring=True), LEVEL, "11"),
        # five days at 5, three below zero
        (MeterRule("weighted"), LEVEL[1:], "2.5"),
        (MeterRule("sum", rounding="ceil"), [single(1, "7.01", at(1))], "8"),
        (MeterRule("sum", rounding="floor", rounding_decimals=1), [single(1, "7.19", at(1))], "7.1"),
        (MeterRule("sum", rounding="round", rounding_decimals=-2), [single(1, "750", at(1))], "800"),
    ],
)
def test_quantities(rule: MeterRule, events: list[Reading], expected: str) -> None:
    for seed in range(10):
        random.Random(seed).shuffle(events)
        assert quantity_of(WINDOW, rule, events) == D(expected)


def test_an_event_belongs_to_the_first_segment_that_fits() -> None:
    segments = (
        Segment("eu-gpu", (("region", ("eu",)), ("kind", ("gpu",)))),
        Segment("gpu", (("kind", ("gpu", "tpu")),)),
        Segment("eu", (("region", ("eu",)),)),
    )
    window = WINDOW._replace(segments=segments, group_by=("team",), with_values=True)
    assert window.split_by == ("region", "kind", "team")
    events = [
        single(1, "1", at(1), values=("eu", "gpu", "a")), single(2, "2", at(2), values=("us", "tpu", "a")),
        single(3, "4", at(3), values=("eu", "", "a")), single(4, "8", at(4), values=("us", "", "")),
        single(5, "16", at(5), values=("eu", "gpu", "b")), single(6, "32", at(1), values=("eu", "gpu", "a")),
    ]  # fmt: skip

    found = {(one.segment, one.group): (one.quantity, one.values) for one in parts(window, MeterRule("sum"), events)}

    assert found == {
        ("", ("",)): (D(8), (D(8),)),
        ("eu", ("a",)): (D(4), (D(4),)),
        ("eu-gpu", ("a",)): (D(33), (D(1), D(32))),
        ("eu-gpu", ("b",)): (D(16), (D(16),)),
        ("gpu", ("a",)): (D(2), (D(2),)),
    }
    assert segment_of((), {"region": "eu"}) == ""


MEASURED = st.lists(st.tuples(st.integers(0, 9999), st.integers(-50, 50)), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(MEASURED, st.integers(1, 9999), st.randoms())
def test_a_level_split_anywhere_weighs_as_much(
    measured: Sequence[tuple[int, int]], cut: int, shuffle: random.Random
) -> None:
    """A recurring level over a whole window is the mean of its two parts by their length."""
    events = [single(n, str(quantity), at(10 * moment / 10000)) for n, (moment, quantity) in enumerate(measured)]
    middle = at(10 * cut / 10000)
    first = WINDOW._replace(end=middle)
    second = WINDOW._replace(start=middle)
    rule = MeterRule("weighted", recurring=True)
    whole = quantity_of(WINDOW, rule, events)
    shuffle.shuffle(events)
    left = quantity_of(first, rule, [one for one in events if one.last_at < middle])
    right = quantity_of(second, rule, [one._replace(earlier=one.last_at < middle) for one in events])
    share = D(cut) / 10000
    assert abs(left * share + right * (1 - share) - whole) < D("0.000001")
