"""What is given of a feature, in a few words that people read and write: ``1,000 per unit, soft``. Pure."""

import re
from dataclasses import dataclass
from decimal import Decimal

from subscriptions.entitlements import rules
from subscriptions.entitlements.errors import InvalidTerms
from subscriptions.entitlements.rules import Terms

NOTHING = "not included"
INCLUDED, UNLIMITED = "included", "unlimited"
_NO = frozenset({"", "-", "–", "no", "none", NOTHING})
LIMIT = re.compile(r"(unlimited|[0-9][0-9,]{0,20}(?:\.[0-9]{1,6})?)( per unit)?(?:,? (soft|hard))?")
_YES = frozenset({"yes", "x", INCLUDED})


@dataclass(frozen=True, slots=True)
class Said:
    """What words say; ``terms`` None: nothing is given. ``soft`` None: as the feature says."""

    terms: Terms | None
    soft: bool | None = None


def say(kind: str, terms: Terms | None) -> str:
    """The words for ``terms``; ``read`` takes them back."""
    if terms is None or not terms.enabled:
        return NOTHING
    if kind == rules.BOOLEAN:
        return INCLUDED
    if kind == rules.STATIC:
        return terms.value
    if terms.limit is None:
        return UNLIMITED
    return (
        f"{terms.limit.normalize() + 0:,f}" + (" per unit" if terms.per_unit else "") + (", soft" if terms.soft else "")
    )


def read(kind: str, text: str) -> Said:
    """What ``text`` says of a feature of ``kind``: a number, ``unlimited``, ``per unit``, ``soft``, ``hard``, a value, yes or no.

    Raises ``InvalidTerms``.
    """
    words = " ".join(text.split())
    if words.casefold() in _NO:
        return Said(None)
    if kind == rules.STATIC:
        return Said(Terms(value=words))
    if kind == rules.BOOLEAN:
        if words.casefold() not in _YES:
            raise InvalidTerms(f"Write {INCLUDED} or {NOTHING}.", field="what")
        return Said(Terms())
    return _read_limit(words.casefold())


def _read_limit(words: str) -> Said:
    found = LIMIT.fullmatch(words)
    if found is None:
        raise InvalidTerms(
            "Write a number, such as 1000, 1000 per unit or 1000, soft; or unlimited, or not included.", field="what"
        )
    number, per_unit, firmness = found.groups()
    soft = None if firmness is None else firmness == "soft"
    if number == UNLIMITED:
        return Said(Terms(), soft)
    return Said(Terms(limit=Decimal(number.replace(",", "")), per_unit=per_unit is not None, soft=bool(soft)), soft)


EXAMPLES = "1000 · 50 per unit · 1000, soft · unlimited · not included"
