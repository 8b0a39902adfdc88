"""Stages of dunning as people write them, one a line: ``7 days or 3 attempts: letter final notice, restrict the service``. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from subscriptions import dunning_rules as rules

CHANNELS = {"mail": "letter", "sms": "text"}
MEASURES = {
    rules.RETRY: "debit again",
    rules.RESTRICT: "restrict the service",
    rules.SUSPEND: "suspend the subscription",
    rules.CANCEL: "cancel the subscription",
    rules.WRITE_OFF: "write the invoice off",
}
LINE = re.compile(
    r"(?:after\s+)?(?:(?P<days>\d{1,4})\s*days?)?(?:\s*(?P<match>or|and)\s*)?(?:(?P<attempts>\d{1,3})\s*attempts?)?\s*:\s*(?P<actions>.+)",
    re.IGNORECASE | re.ASCII,
)


def in_words(action: str) -> str:
    """``mail:reminder_1`` as ``letter: reminder 1``."""
    channel, _, kind = action.partition(":")
    return f"{CHANNELS[channel]}: {kind.replace('_', ' ')}" if kind else MEASURES.get(action, action.replace("_", " "))


def reached_when(stage: Mapping[str, Any]) -> str:
    """When a stored stage is reached: ``5 days or 3 attempts``."""
    said = []
    if stage.get("after_days") is not None:
        said.append(counted(stage["after_days"], "day"))
    if stage.get("after_attempts") is not None:
        said.append(counted(stage["after_attempts"], "attempt"))
    return (" and " if stage.get("match") == rules.ALL else " or ").join(said)


def counted(number: int, what: str) -> str:
    """``1 day``, ``2 days``."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def say(stages: Sequence[Mapping[str, Any]]) -> str:
    """The words that ``read`` takes back."""
    return "\n".join(
        f"{reached_when(stage)}: " + ", ".join(_bare(in_words(action)) for action in stage["actions"])
        for stage in stages
    )


def read(text: str) -> list[dict[str, Any]]:
    """Stages as ``parse_stages`` takes them. Raises ``InvalidDunningPolicy`` that names the line."""
    return [
        _stage(number, line) for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), start=1)
    ]


def _stage(number: int, line: str) -> dict[str, Any]:
    said = LINE.fullmatch(line)
    both = said is not None and bool(said["days"]) and bool(said["attempts"])
    if said is None or not (said["days"] or said["attempts"]) or both != bool(said["match"]):
        raise rules.InvalidDunningPolicy(
            f"Line {number}: write '5 days: letter reminder 1' or '7 days or 3 attempts: restrict the service'.",
            field="stages",
        )
    stage: dict[str, Any] = {"actions": [_action(number, word) for word in said["actions"].split(",")]}
    if said["days"]:
        stage["after_days"] = int(said["days"])
    if said["attempts"]:
        stage["after_attempts"] = int(said["attempts"])
    if both:
        stage["match"] = rules.ALL if said["match"].lower() == "and" else rules.ANY
    return stage


def _bare(words: str) -> str:
    return " ".join(words.replace(":", " ").replace("_", " ").lower().split())


KNOWN = {_bare(in_words(action)): action for action in sorted(rules.ACTIONS)} | {
    _bare(action): action for action in rules.MEASURES
}


def _action(number: int, word: str) -> str:
    found = KNOWN.get(_bare(word))
    if found is None:
        known = ", ".join(
            _bare(in_words(action)) for action in (*sorted(rules.ACTIONS - {*rules.MEASURES}), *rules.MEASURES)
        )
        raise rules.InvalidDunningPolicy(
            f"Line {number}: '{word.strip()[:40]}' is not known; there is {known}.", field="stages"
        )
    return found
