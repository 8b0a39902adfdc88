"""Failures on command: rules that match requests and say what goes wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from payments.simulator.ids import Dice
from payments.simulator.wire import Request

Json = dict[str, Any]

KINDS = frozenset({
    "timeout_before", "timeout_after", "drop", "500", "502_html", "503", "429", "409", "slow", "truncated",
})  # fmt: skip


class BadRule(Exception):
    """The rule cannot be understood."""


@dataclass
class Rule:
    """Which calls, and what happens to them."""

    id: str
    kind: str
    method: str | None
    path: re.Pattern[str]
    first: int  # the first matching call (1 = the next one) that is hit
    count: int | None  # how many from there on; None = all
    probability: float
    seconds: float
    effect: bool  # for 5xx: whether the work is done before the failure is told
    seen: int = 0
    fired: int = 0

    def as_json(self) -> Json:
        """For the control API."""
        shown = dict(self.__dict__)
        shown["path"] = self.path.pattern
        return shown


@dataclass
class Faults:
    """The rules in force. The caller holds the world's lock."""

    seed: int
    rules: list[Rule] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = Dice(f"faults {self.seed}")
        self._made = 0

    def kept(self) -> Json:
        """What a state file has to hold."""
        return {"made": self._made, "thrown": self._dice.thrown, "rules": [rule.as_json() for rule in self.rules]}

    def restore(self, kept: Json) -> None:
        """Take up what ``kept`` told."""
        self._made, self._dice.thrown = kept["made"], kept["thrown"]
        self.rules = [Rule(**{**raw, "path": re.compile(raw["path"])}) for raw in kept["rules"]]

    def add(self, raw: Json) -> Rule:
        """Add a rule. Without nth, count and probability it hits the next matching call once."""
        kind = str(raw.get("kind", ""))
        if kind not in KINDS:
            raise BadRule(f"kind is one of {', '.join(sorted(KINDS))}")
        unknown = set(raw) - {"kind", "method", "path", "nth", "count", "probability", "seconds", "effect"}
        if unknown:
            raise BadRule(f"unknown fields: {', '.join(sorted(unknown))}")
        try:
            path = re.compile(str(raw.get("path", "")))
        except re.error as error:
            raise BadRule(f"path is a regular expression: {error}") from error
        once = "probability" not in raw
        count = int(raw["count"]) if "count" in raw else 1 if once else None
        self._made += 1
        rule = Rule(
            id=f"fault_{self._made}", kind=kind, method=str(raw["method"]).upper() if raw.get("method") else None,
            path=path, first=int(raw.get("nth", 1)), count=count, probability=float(raw.get("probability", 1)),
            seconds=float(raw.get("seconds", 6 if kind == "slow" else 0)), effect=bool(raw.get("effect", False)),
        )  # fmt: skip
        self.rules.append(rule)
        return rule

    def match(self, request: Request) -> Rule | None:
        """The rule that hits this request, if any; counts the call in every rule that matches."""
        hit: Rule | None = None
        for rule in self.rules:
            if rule.method not in (None, request.method) or not rule.path.search(request.target):
                continue
            rule.seen += 1
            in_window = rule.seen >= rule.first and (rule.count is None or rule.seen < rule.first + rule.count)
            if hit is None and in_window and (rule.probability >= 1 or self._dice.random() < rule.probability):
                rule.fired += 1
                hit = rule
        return hit
