"""Seedable ids in the shape of the real ones, and dice whose whole state is how often they were thrown."""

from __future__ import annotations

from hashlib import blake2b

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_LETTERS = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
_DIGITS = bytes(b"0123456789"[byte % 10] for byte in range(256))


class Dice:
    """Same seed and same number of throws, same result: so ``thrown`` is all that has to be kept."""

    def __init__(self, seed: int | str, thrown: int = 0) -> None:
        self._seed = str(seed).encode()[:64]
        self.thrown = thrown

    def throw(self) -> bytes:
        """The next 64 bytes."""
        self.thrown += 1
        return blake2b(b"%d" % self.thrown, key=self._seed).digest()

    def random(self) -> float:
        """The next number from 0 up to, not including, 1."""
        return int.from_bytes(self.throw()[:6], "big") / 2**48


class Ids:
    """Same seed and same order of calls, same ids. At most 64 signs each."""

    def __init__(self, seed: int) -> None:
        self.dice = Dice(seed)

    def new(self, prefix: str, length: int = 14) -> str:
        """``prefix_`` and ``length`` letters and digits."""
        return f"{prefix}_{self.letters(length)}"

    def letters(self, length: int) -> str:
        """``length`` letters and digits without a prefix."""
        return self.dice.throw()[:length].translate(_LETTERS).decode()

    def digits(self, length: int) -> str:
        """``length`` decimal digits."""
        return self.dice.throw()[:length].translate(_DIGITS).decode()
