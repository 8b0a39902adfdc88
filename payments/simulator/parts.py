"""Dictionaries and lists that note which of their entries somebody took hold of.

What is noted in one hold of the world's lock is looked at when the lock is given back, and written to the state
file if it has changed (``state.py``). So nobody who changes an object has to remember to save it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

V = TypeVar("V")
D = TypeVar("D")

Encode = Callable[[Any], Any]  # to what JSON can hold; None: not worth keeping
Decode = Callable[[Any], Any]


def plain(value: Any) -> Any:
    """Itself."""
    return value


class Marks(list[tuple["Part", str]]):
    """Entries that were touched since the last look, oldest first."""


class Part:
    """One named piece of the state: entries under text keys."""

    kind: str
    marks: Marks
    encode: Encode
    decode: Decode
    owner: str = ""  # id of the merchant account, if it belongs to one

    def kept(self, key: str) -> Any:
        """What the state file has to hold for ``key``: JSON-able, None when the entry is gone."""
        raise NotImplementedError

    def restore(self, key: str, value: Any) -> None:
        """Put back what the state file held, without noting it."""
        raise NotImplementedError

    def all_keys(self) -> list[str]:
        """Keys of every entry, oldest first."""
        raise NotImplementedError


class Table(dict[str, V], Part):
    """A dictionary; reading an entry notes it, as the reader may change it. Walking over values does not."""

    def __init__(self, marks: Marks, kind: str, encode: Encode = plain, decode: Decode = plain) -> None:
        super().__init__()
        self.marks, self.kind, self.encode, self.decode = marks, kind, encode, decode

    def touch(self, key: str) -> None:
        """Note that the entry may have changed."""
        self.marks.append((self, key))

    def peek(self, key: str) -> V | None:
        """The entry, not noted: for who only looks."""
        return super().get(key)

    def __getitem__(self, key: str) -> V:
        value = super().__getitem__(key)
        self.marks.append((self, key))
        return value

    def __setitem__(self, key: str, value: V) -> None:
        super().__setitem__(key, value)
        self.marks.append((self, key))

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.marks.append((self, key))

    @overload
    def get(self, key: str, default: None = None, /) -> V | None: ...
    @overload
    def get(self, key: str, default: D, /) -> V | D: ...
    def get(self, key: str, default: Any = None, /) -> Any:
        """The entry, noted, or ``default``."""
        if key not in self:
            return default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        """Take the entry out."""
        self.marks.append((self, key))
        return super().pop(key, *default)

    def setdefault(self, key: str, default: V, /) -> V:  # type: ignore[override]
        """The entry, put in first if it is not there."""
        if key not in self:
            super().__setitem__(key, default)
        return self[key]

    def kept(self, key: str) -> Any:
        """See Part."""
        value = super().get(key)
        return None if value is None else self.encode(value)

    def restore(self, key: str, value: Any) -> None:
        """See Part."""
        super().__setitem__(key, self.decode(value))

    def all_keys(self) -> list[str]:
        """See Part."""
        return list(self)


class Facts(Table[V]):
    """A table whose entries never change: reading one is not noted."""

    def __getitem__(self, key: str) -> V:
        return dict.__getitem__(self, key)

    def get(self, key: str, default: Any = None, /) -> Any:
        """The entry or ``default``."""
        return dict.get(self, key, default)


class Log(list[V], Part):
    """A list that only grows."""

    def __init__(self, marks: Marks, kind: str, encode: Encode, decode: Decode) -> None:
        super().__init__()
        self.marks, self.kind, self.encode, self.decode = marks, kind, encode, decode

    def append(self, value: V) -> None:
        """Add at the end."""
        self.marks.append((self, str(len(self))))
        super().append(value)

    def kept(self, key: str) -> Any:
        """See Part."""
        return self.encode(self[int(key)])

    def restore(self, key: str, value: Any) -> None:
        """See Part."""
        super().append(self.decode(value))

    def all_keys(self) -> list[str]:
        """See Part."""
        return [str(index) for index in range(len(self))]
