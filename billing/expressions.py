"""A small language for quantities: ``ceil(bytes / 1024) * if(region = "eu", 2, 1)``. Parsed once, evaluated with decimals.

::

    sum        = product (("+" | "-") product)*
    product    = sign (("*" | "/") sign)*
    sign       = "-"? operand
    operand    = number | text | name | function "(" argument ("," argument)* ")" | "(" sum ")"
    argument   = sum (comparison sum)?          a comparison only as the first argument of ``if``
    comparison = "=" | "!=" | "<" | "<=" | ">" | ">="
    function   = round | ceil | floor (value[, decimals]) | min | max (values…) | if (comparison, then, else)

A name is a property of the event (``quantity`` is its quantity); a text in quotation marks may only be compared. Nothing of
Python is reachable: the text is read by hand into a tree of the nodes below, and no other node exists.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, DecimalException, InvalidOperation
from functools import lru_cache
from typing import Any

from billing.errors import InvalidInput

MAX_LENGTH = 500
MAX_DEPTH = 20
MAX_ARGUMENTS = 20
LARGEST = Decimal(10) ** 17
"""Values and results stay below it."""
CONTEXT = Context(prec=60, rounding=ROUND_HALF_UP)
TWELVE = Decimal(1).scaleb(-12)

TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d{1,20}(?:\.\d{1,20})?)|(?P<name>[A-Za-z_][A-Za-z0-9_.]{0,59})"""
    r"""|(?P<text>"[^"\\]{0,100}"|'[^'\\]{0,100}')|(?P<sign><=|>=|!=|[-+*/(),<>=]))"""
)
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
ROUNDINGS = {"round": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}
ARGUMENTS = {
    "round": (1, 2),
    "ceil": (1, 2),
    "floor": (1, 2),
    "min": (1, MAX_ARGUMENTS),
    "max": (1, MAX_ARGUMENTS),
    "if": (3, 3),
}


class InvalidExpression(InvalidInput):
    """The text is no expression; the message names the position."""

    code = "invalid_expression"


class ExpressionFailed(InvalidInput):
    """The expression has no value for this event; ``field`` is the property it failed on."""

    code = "expression_failed"


@dataclass(frozen=True, slots=True)
class Number:
    value: Decimal


@dataclass(frozen=True, slots=True)
class Text:
    value: str


@dataclass(frozen=True, slots=True)
class Name:
    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    sign: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Comparison:
    sign: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple["Node", ...]


Node = Number | Text | Name | Operation | Comparison | Call


@lru_cache(maxsize=1024)
def parse(text: str) -> Node:
    """The tree of ``text``. Raises ``InvalidExpression``."""
    if len(text) > MAX_LENGTH:
        raise InvalidExpression(f"An expression has at most {MAX_LENGTH} characters.", field="expression")
    return _Parser(text).whole()


def names(node: Node) -> frozenset[str]:
    """Properties the expression reads."""
    match node:
        case Name(name):
            return frozenset({name})
        case Operation(_, left, right) | Comparison(_, left, right):
            return names(left) | names(right)
        case Call(_, arguments):
            return frozenset().union(*map(names, arguments))
    return frozenset()


def require_value(node: Node) -> None:
    """Raise ``InvalidExpression`` for an expression that has no value whatever the event: what is wrong in it needs no event."""
    if isinstance(node, Text):
        raise InvalidExpression("A text can only be compared.", field="expression")
    if isinstance(node, Comparison):
        for side in (node.left, node.right):
            if not isinstance(side, Text):
                require_value(side)
        return
    children: tuple[Node, ...] = ()
    if isinstance(node, Operation):
        children = (node.left, node.right)
    elif isinstance(node, Call):
        children = node.arguments
    for child in children:
        require_value(child)
    try:
        if not names(node):
            _number(node, {})
        elif isinstance(node, Operation) and node.sign == "/" and not names(node.right):
            _computed("/", Decimal(1), _number(node.right, {}))
        elif isinstance(node, Call) and node.function in ROUNDINGS and not any(map(names, children[1:])):
            _called(node.function, [Decimal(0), *(_number(child, {}) for child in children[1:])])
    except (ExpressionFailed, DecimalException) as exc:
        said = str(exc) if isinstance(exc, ExpressionFailed) else "The expression has no value."
        raise InvalidExpression(said.replace(" for this event", " for every event"), field="expression") from exc


def evaluate(node: Node, properties: Mapping[str, Any]) -> Decimal:
    """The value for an event, with at most twelve decimals, half up. Raises ``ExpressionFailed``."""
    try:
        return CONTEXT.quantize(_within(_number(node, properties)), TWELVE).normalize(CONTEXT)
    except DecimalException as exc:
        raise ExpressionFailed("The expression has no value for this event.", field="properties") from exc


def _number(node: Node, properties: Mapping[str, Any]) -> Decimal:
    match node:
        case Number(value):
            return value
        case Name(name):
            return _property(name, properties)
        case Operation(sign, left, right):
            return _within(_computed(sign, _number(left, properties), _number(right, properties)))
        case Call("if", (Comparison() as condition, then, otherwise)):
            return _number(then if _holds(condition, properties) else otherwise, properties)
        case Call(function, arguments):
            return _called(function, [_number(argument, properties) for argument in arguments])
    raise ExpressionFailed("A text can only be compared.", field="properties")


def _computed(sign: str, left: Decimal, right: Decimal) -> Decimal:
    if sign == "+":
        return CONTEXT.add(left, right)
    if sign == "-":
        return CONTEXT.subtract(left, right)
    if sign == "*":
        return CONTEXT.multiply(left, right)
    if not right:
        raise ExpressionFailed("The expression divides by zero for this event.", field="properties")
    return CONTEXT.divide(left, right)


def _called(function: str, values: list[Decimal]) -> Decimal:
    if function == "min":
        return min(values)
    if function == "max":
        return max(values)
    decimals = values[1] if len(values) > 1 else Decimal(0)
    if decimals != int(decimals) or not -12 <= decimals <= 12:
        raise ExpressionFailed(f"{function}() rounds to -12 to 12 decimals.", field="properties")
    return values[0].quantize(Decimal(1).scaleb(-int(decimals)), ROUNDINGS[function], CONTEXT)


def _holds(condition: Comparison, properties: Mapping[str, Any]) -> bool:
    if isinstance(condition.left, Text) or isinstance(condition.right, Text):
        return COMPARISONS[condition.sign](_text(condition.left, properties), _text(condition.right, properties))
    return COMPARISONS[condition.sign](_number(condition.left, properties), _number(condition.right, properties))


def _text(node: Node, properties: Mapping[str, Any]) -> str:
    if isinstance(node, Text):
        return node.value
    value = properties.get(node.name) if isinstance(node, Name) else None
    if not isinstance(value, str):
        raise ExpressionFailed(f"The property '{getattr(node, 'name', '?')}' has to be a text.", field="properties")
    return value


def _property(name: str, properties: Mapping[str, Any]) -> Decimal:
    value = properties.get(name)
    if value is None:
        raise ExpressionFailed(f"The property '{name}' is missing.", field=name)
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
            raise InvalidOperation
        number = Decimal(value if not isinstance(value, float) else repr(value))
        if not number.is_finite() or (number and not -40 <= number.adjusted() < 18):
            raise InvalidOperation
    except (InvalidOperation, ValueError) as exc:
        raise ExpressionFailed(f"The property '{name}' is not a number below {LARGEST:.0e}.", field=name) from exc
    return number


def _within(value: Decimal) -> Decimal:
    if not value.is_finite() or abs(value) >= LARGEST:
        raise ExpressionFailed("The expression's value is too large.", field="properties")
    return value


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str, int]] = []
        self.next, self.depth, at = 0, 0, 0
        text = text.rstrip()
        while at < len(text):
            found = TOKEN.match(text, at)
            if found is None:
                raise InvalidExpression(
                    f"Position {at + 1}: '{text[at : at + 10]}' is not expected.", field="expression"
                )
            kind = str(found.lastgroup)
            self.tokens.append((kind, found[kind], found.start(kind)))
            at = found.end()

    def whole(self) -> Node:
        tree = self.sum()
        if self.next < len(self.tokens):
            raise self.trouble("the end")
        return tree

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise InvalidExpression(f"An expression is nested at most {MAX_DEPTH} deep.", field="expression")
        left = self.product()
        while sign := self.take("+", "-"):
            left = Operation(sign, left, self.product())
        self.depth -= 1
        return left

    def product(self) -> Node:
        left = self.signed()
        while sign := self.take("*", "/"):
            left = Operation(sign, left, self.signed())
        return left

    def signed(self) -> Node:
        if self.take("-"):
            return Operation("-", Number(Decimal(0)), self.operand())
        return self.operand()

    def operand(self) -> Node:
        if self.take("("):
            inner = self.sum()
            self.expect(")")
            return inner
        kind, word, _ = self.tokens[self.next] if self.next < len(self.tokens) else ("", "", 0)
        if kind not in ("number", "name", "text"):
            raise self.trouble("a number, a property or a function")
        self.next += 1
        if kind == "number":
            return Number(Decimal(word))
        if kind == "text":
            return Text(word[1:-1])
        return self.call(word) if self.take("(") else Name(word)

    def call(self, function: str) -> Node:
        if function not in ARGUMENTS:
            self.next -= 2
            raise self.trouble(f"one of {', '.join(ARGUMENTS)}")
        arguments = [self.argument(comparing=function == "if")]
        while self.take(","):
            arguments.append(self.argument(comparing=False))
        self.expect(")")
        least, most = ARGUMENTS[function]
        if not least <= len(arguments) <= most:
            many = str(least) if least == most else f"{least} to {most}"
            raise InvalidExpression(f"{function}() takes {many} arguments, not {len(arguments)}.", field="expression")
        return Call(function, tuple(arguments))

    def argument(self, *, comparing: bool) -> Node:
        left = self.sum()
        if not comparing:
            return left
        sign = self.take(*COMPARISONS)
        if not sign:
            raise self.trouble("a comparison such as a > 5")
        return Comparison(sign, left, self.sum())

    def take(self, *signs: str) -> str:
        if self.next < len(self.tokens):
            kind, word, _ = self.tokens[self.next]
            if kind == "sign" and word in signs:
                self.next += 1
                return word
        return ""

    def expect(self, sign: str) -> None:
        if not self.take(sign):
            raise self.trouble(f"'{sign}'")

    def trouble(self, expected: str) -> InvalidExpression:
        if self.next < len(self.tokens):
            _, word, at = self.tokens[self.next]
            return InvalidExpression(f"Position {at + 1}: expected {expected}, not '{word[:20]}'.", field="expression")
        return InvalidExpression(f"At the end: expected {expected}.", field="expression")
