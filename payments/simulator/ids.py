"""Seedable ids in the shape of the real ones."""

from __future__ import annotations

import random

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Ids:
    """Same seed and same order of calls, same ids."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def new(self, prefix: str, length: int = 14) -> str:
        """``prefix_`` and ``length`` letters and digits."""
        return f"{prefix}_{self.letters(length)}"

    def letters(self, length: int) -> str:
        """``length`` letters and digits without a prefix."""
        return "".join(self._random.choices(_ALPHABET, k=length))

    def digits(self, length: int) -> str:
        """``length`` decimal digits."""
        return "".join(self._random.choices("0123456789", k=length))
