"""Which variant a customer gets: by the hash of the experiment's salt and the customer, never by chance. Pure.

Weighted rendezvous hashing: each variant draws a number for the customer, and the smallest wins. When one weight grows, customers
move to that variant only, and as few as the new share asks for; nobody moves between the others.
"""

import hashlib
import math
from collections.abc import Mapping

_RESOLUTION = 2**53  # as many steps as a float tells apart below one


def is_allocated(*, salt: str, customer: str, percent: int) -> bool:
    """Whether the customer takes part when ``percent`` of all do. A larger share keeps everybody of a smaller one."""
    return _draw(salt, "allocation", customer) * 100 <= percent


def variant_for(*, salt: str, customer: str, weights: Mapping[str, int]) -> str:
    """The variant (a key of ``weights``) of a customer; only the weights' proportions count, one of nothing is never taken.

    Raises ``ValueError`` when no variant has a weight.
    """
    chances = {variant: weight for variant, weight in weights.items() if weight > 0}
    if not chances:
        raise ValueError("No variant has a weight.")
    return min(chances, key=lambda variant: (-math.log(_draw(salt, variant, customer)) / chances[variant], variant))


def _draw(*parts: str) -> float:
    """A number in (0, 1], even over all customers and independent for each salt and purpose."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)  # lengths: no two lists of parts look alike
    number = int.from_bytes(hashlib.sha256(joined.encode()).digest()[:8]) >> 11
    return (number + 1) / _RESOLUTION
