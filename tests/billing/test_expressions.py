"""Expressions: what they come to, what they refuse, and that nothing but arithmetic is in them."""

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.expressions import ExpressionFailed, InvalidExpression, evaluate, names, parse, require_value


def value(text: str, **properties: Any) -> Decimal:
    return evaluate(parse(text), properties)


@pytest.mark.parametrize(
    ("text", "properties", "expected"),
    [
        ("1 + 2 * 3", {}, "7"),
        ("(1 + 2) * 3", {}, "9"),
        ("10 - 4 - 3", {}, "3"),
        ("8 / 4 / 2", {}, "1"),
        ("-2 * -3", {}, "6"),
        ("1 / 3", {}, "0.333333333333"),
        ("0.1 + 0.2", {}, "0.3"),
        ("ceil(bytes / 1024)", {"bytes": 3000}, "3"),
        ("floor(bytes / 1024)", {"bytes": "3000"}, "2"),
        ("round(x)", {"x": "2.5"}, "3"),
        ("round(x, 2)", {"x": 1.005}, "1.01"),
        ("ceil(x, -2)", {"x": 101}, "200"),
        ("min(a, b, 3)", {"a": 5, "b": 4}, "3"),
        ("max(a, b)", {"a": 5, "b": 4}, "5"),
        ("if(a > b, a - b, 0)", {"a": 5, "b": 4}, "1"),
        ("if(a <= b, 1, 2)", {"a": 5, "b": 4}, "2"),
        ('if(region = "eu", 2, 1) * n', {"region": "eu", "n": 4}, "8"),
        ("if(region != 'eu', 2, 1)", {"region": "eu"}, "1"),
        ("cpu.seconds * quantity", {"cpu.seconds": 2, "quantity": "1.5"}, "3"),
    ],
)
def test_what_it_comes_to(text: str, properties: dict[str, Any], expected: str) -> None:
    assert value(text, **properties) == Decimal(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "At the end: expected a number"),
        ("1 +", "At the end"),
        ("1 2", "Position 3: expected the end"),
        ("(1", "expected ')'"),
        ("a ** b", "Position 4"),
        ("a; b", "Position 2"),
        ("open(1)", "Position 1: expected one of round"),
        ("__import__('os')", "expected one of round"),
        ("a.b.__class__()", "expected one of round"),
        ("round()", "expected a number"),
        ("round(1, 2, 3)", "takes 1 to 2 arguments"),
        ("if(1, 2, 3)", "a comparison"),
        ("if(1 > 0, 2)", "takes 3 arguments, not 2"),
        ("a > b", "Position 3: expected the end"),
        ("lambda: 0", "Position 7"),
        ("(" * 30 + "1" + ")" * 30, "at most 20 deep"),
        ("1+" * 300 + "1", "at most 500 characters"),
        ('"unclosed', "is not expected"),
        ("1e5", "expected the end"),
    ],
)
def test_what_is_no_expression_says_where(text: str, said: str) -> None:
    with pytest.raises(InvalidExpression) as refused:
        parse(text)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "properties", "field"),
    [
        ("a + 1", {}, "a"),
        ("a + 1", {"a": None}, "a"),
        ("a + 1", {"a": "many"}, "a"),
        ("a + 1", {"a": True}, "a"),
        ("a + 1", {"a": [1]}, "a"),
        ("a + 1", {"a": float("inf")}, "a"),
        ("a + 1", {"a": "1e400"}, "a"),
        ("1 / (a - a)", {"a": 3}, "properties"),
        ("a * a", {"a": "99999999999"}, "properties"),
        ('"eu" + 1', {}, "properties"),
        ('if(a = "eu", 1, 2)', {"a": 3}, "properties"),
        ("round(a, 20)", {"a": 1}, "properties"),
        ("round(a, 0.5)", {"a": 1}, "properties"),
    ],
)
def test_an_event_without_a_value_is_refused_by_name(text: str, properties: dict[str, Any], field: str) -> None:
    with pytest.raises(ExpressionFailed) as refused:
        value(text, **properties)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bytes / 0", "divides by zero for every event"),
        ("bytes / (2 - 2)", "divides by zero for every event"),
        ("if(bytes > 5, bytes, 1 / 0)", "divides by zero for every event"),
        ("if(bytes > 1 / 0, 1, 2)", "divides by zero for every event"),
        ("max(bytes, 'eu')", "A text can only be compared"),
        ("'eu'", "A text can only be compared"),
        ("bytes * 'eu'", "A text can only be compared"),
        ("round(bytes, 20)", "round() rounds to -12 to 12 decimals"),
        ("ceil(bytes, 0.5)", "ceil() rounds to -12 to 12 decimals"),
        ("bytes + 99999999999 * 99999999999", "too large"),
    ],
)
def test_what_has_no_value_for_any_event_is_refused_before_there_is_one(text: str, said: str) -> None:
    with pytest.raises(InvalidExpression, match=re.escape(said)) as refused:
        require_value(parse(text))
    assert refused.value.field == "expression"


@pytest.mark.parametrize(
    "text",
    [
        "bytes / parts",
        "bytes / (a - a)",
        "if(region = 'eu', 2, 1)",
        "if('eu' = 'us', 1, n)",
        "round(n, d)",
        "-3",
        "max(a, 2)",
    ],
)
def test_what_some_event_may_have_a_value_for_is_taken(text: str) -> None:
    require_value(parse(text))


def test_the_properties_it_reads() -> None:
    assert names(parse('if(region = "eu", bytes, min(cpu.n, 3)) * quantity')) == {
        "region",
        "bytes",
        "cpu.n",
        "quantity",
    }


NUMBERS = st.integers(-1000, 1000)


@st.composite
def sums(draw: Any, depth: int = 3) -> tuple[str, Decimal]:
    """A text and what it comes to, made side by side."""
    if depth == 0 or draw(st.booleans()):
        number = draw(NUMBERS)
        return (f"{number}" if number >= 0 else f"(-{-number})"), Decimal(number)
    (left, a), (right, b) = draw(sums(depth - 1)), draw(sums(depth - 1))
    sign = draw(st.sampled_from("+-*"))
    return f"({left} {sign} {right})", {"+": a + b, "-": a - b, "*": a * b}[sign]


@settings(max_examples=300, deadline=None)
@given(sums())
def test_arithmetic_is_exact(made: tuple[str, Decimal]) -> None:
    text, expected = made
    if abs(expected) < 10**17:
        assert value(text) == expected


@settings(max_examples=500, deadline=None)
@given(
    st.text(alphabet="ab1.,+-*/()<>=!\"' _ifmnroud", max_size=60),
    st.dictionaries(st.sampled_from(["a", "b", "i"]), NUMBERS),
)
def test_any_text_is_a_value_or_a_named_refusal(text: str, properties: dict[str, int]) -> None:
    try:
        found = evaluate(parse(text), properties)
    except (InvalidExpression, ExpressionFailed):
        return
    assert found.is_finite()
