"""Tiers as people write them, one a line: ``up to 1000: 0.02 + 5`` and last ``above: 0.01``; rates with ``%``. Pure."""

import re
from collections.abc import Sequence

from subscriptions.pricing.errors import InvalidTiers
from subscriptions.pricing.values import Tier

NUMBER = r"[0-9][0-9,_]*(?:\.[0-9]+)?|\.[0-9]+"
LINE = re.compile(rf"(?:(?:up to|to|<=)?\s*(?P<bound>{NUMBER})|above|over|rest|\*)\s*[:;=]?\s+(?P<price>{NUMBER})\s*(?P<rate>%)?"
                  rf"(?:\s*\+\s*(?P<fee>{NUMBER}))?", re.IGNORECASE)  # fmt: skip


def read(text: str, *, rates: bool = False) -> list[dict[str, str | None]]:
    """Tiers as ``parse_tiers`` takes them. Raises ``InvalidTiers`` that names the line."""
    found = []
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), start=1):
        said = LINE.fullmatch(line)
        if said is None:
            raise InvalidTiers(
                f"Line {number}: write 'up to 1000: 0.02', and for the last tier 'above: 0.01'; a fee of the tier follows a +.",
                field="tiers",
            )
        price = {"rate" if rates else "unit_price": _plain(said["price"])}
        found.append(
            {"up_to": _plain(said["bound"]) if said["bound"] else None, **price, "flat_fee": _plain(said["fee"] or "0")}
        )
    return found


def say(tiers: Sequence[Tier]) -> str:
    """The words that ``read`` takes back."""
    lines = []
    for tier in tiers:
        bound = "above" if tier.up_to is None else f"up to {tier.up_to:f}"
        price = f"{tier.unit_price:f}" if tier.rate is None else f"{tier.rate:f} %"
        lines.append(f"{bound}: {price}" + (f" + {tier.flat_fee:f}" if tier.flat_fee else ""))
    return "\n".join(lines)


def _plain(number: str) -> str:
    return number.replace(",", "").replace("_", "")
