"""Stripe's search language, as far as payment intents need it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from payments.simulator.stripe_api.errors import StripeError

Json = dict[str, Any]

_CLAUSE = re.compile(
    r"""\s*(?P<not>-)?(?P<field>[a-z_]+)(\[(?P<q>["'])(?P<key>.+?)(?P=q)\])?\s*"""
    r"""(?P<op>:|>=|<=|>|<)\s*(?P<v>["'](?P<text>.*?)(?<!\\)["']|(?P<bare>[\w.-]+))\s*"""
)
_JOINT = re.compile(r"(AND|OR)\b", re.IGNORECASE)
FIELDS = frozenset({"metadata", "status", "customer", "currency", "amount", "created"})
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    ":": lambda a, b: a == b, ">": lambda a, b: a > b, "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b,
}  # fmt: skip


def matching(items: list[Json], query: str) -> list[Json]:
    """Items that fulfil ``query``: clauses joined by AND, or by OR, not both."""
    clauses, joint = _parse(query)
    combine = any if joint == "OR" else all
    return [item for item in items if combine(test(item) for test in clauses)]


def _parse(query: str) -> tuple[list[Callable[[Json], bool]], str]:
    clauses: list[Callable[[Json], bool]] = []
    joints: set[str] = set()
    position = 0
    while True:
        found = _CLAUSE.match(query, position)
        if found is None or found["field"] not in FIELDS:
            raise StripeError(f"We were unable to parse your search query: {query}", param="query")
        clauses.append(_test(found))
        position = found.end()
        if position >= len(query):
            break
        joint = _JOINT.match(query, position)
        if joint:
            joints.add(joint[1].upper())
            position = joint.end()
        else:
            joints.add("AND")
    if len(joints) > 1:
        raise StripeError("A search query joins its clauses by AND or by OR, not both.", param="query")
    return clauses, next(iter(joints), "AND")


def _test(found: re.Match[str]) -> Callable[[Json], bool]:
    name, key, operator, negative = found["field"], found["key"], found["op"], bool(found["not"])
    wanted = found["bare"] if found["text"] is None else found["text"].replace("\\'", "'").replace('\\"', '"')
    if name in {"amount", "created"}:
        compare = _COMPARE[operator]
        return lambda item: compare(item[name], int(wanted)) != negative
    if name == "metadata":
        return lambda item: (item["metadata"].get(key) == wanted) != negative
    return lambda item: (str(item[name]) == wanted) != negative
