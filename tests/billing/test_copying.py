"""Rows written by COPY: every value comes back as it went in, and what cannot be written is refused."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.db import DataError, connection
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.services.copying import AT_ONCE, copy_rows, encoded
from invoices.models import Invoice

COLUMNS = "text text, number numeric, count bigint, yes boolean, at timestamptz, day date, id uuid, body jsonb"
NAMES = [column.split()[0] for column in COLUMNS.split(", ")]


Row = SimpleNamespace(_meta=SimpleNamespace(db_table="copied"))  # a table that is made by the test


@pytest.fixture
def table(db):
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE copied (n serial, {COLUMNS}) ON COMMIT DROP")


def written() -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(NAMES)} FROM copied ORDER BY n")
        return cursor.fetchall()


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.sampled_from(
    ["", r"\N", r"\.", "\\", "\\\\t", "a\tb", "a\nb", "a\r\nb", "नमस्ते ₹", "NULL", '"', "\x0b\x08\x0c"]
)
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=9, minutes=30))])
rows = st.tuples(
    st.none() | texts,
    st.none() | st.decimals(allow_infinity=False, allow_nan=False, places=4, min_value=-(10**12), max_value=10**12)
    | st.sampled_from([Decimal("1E+3"), Decimal("-0"), Decimal("0.0000"), Decimal("1E-9")]),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.booleans(),
    st.none() | st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=zones),
    st.none() | st.dates(),
    st.none() | st.uuids(),
)  # fmt: skip


BODY = {"sign": "₹\n", "slash": "\\"}


@pytest.mark.django_db
@settings(max_examples=400)
@given(many=st.lists(rows, min_size=1, max_size=12), shared=st.integers(0, 7))
def test_every_value_comes_back(many, shared):
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS copied (n serial, {COLUMNS})")
        cursor.execute("TRUNCATE copied")
    body = json.dumps(BODY)
    copy_rows(Row, NAMES, ((*row[:shared], encoded((*row[shared:], body))) for row in many))
    assert [(*row[:-1], json.loads(row[-1])) for row in written()] == [(*row, BODY) for row in many]


def test_more_rows_than_are_handed_over_at_once(table):
    copy_rows(Row, ["count"], ((number,) for number in range(2 * AT_ONCE + 1)))
    assert [row[2] for row in written()] == list(range(2 * AT_ONCE + 1))


def test_a_member_of_an_enumeration_is_its_value(table):
    copy_rows(Row, ["text"], [(Invoice.Status.PAID,)])
    assert written()[0][0] == "paid"


@pytest.mark.parametrize("value", [1.5, b"x", {"a": 1}, [1]])
def test_other_kinds_are_refused_before_anything_is_written(table, value):
    with pytest.raises(TypeError, match=f"A {type(value).__name__} has no place"):
        copy_rows(Row, ["text"], [("good",), (value,)])


def test_a_zero_byte_is_refused_by_the_database(table):
    with pytest.raises(DataError):
        copy_rows(Row, ["text"], [("a\0b",)])
