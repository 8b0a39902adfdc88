"""Identifiers: UUID version 7 (RFC 9562), ordered by time so that b-tree pages stay warm."""

import os
import time
import uuid

_SIZE, _AT_ONCE = 10, 256
_randoms: list[bytes] = []
"""Random bytes fetched ahead from the kernel: a call for each id costs more than all the rest of it."""
os.register_at_fork(after_in_child=_randoms.clear)  # no two processes may draw the same


def uuid7() -> uuid.UUID:
    """Return a new UUIDv7: 48 bits of Unix milliseconds, then 74 random bits."""
    try:
        random = int.from_bytes(_randoms.pop())
    except IndexError:
        random = int.from_bytes(_fetched())
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (2**48 - 1)) << 80 | 0x7 << 76 | 0b10 << 62
    return uuid.UUID(int=value | ((random >> 62) & 0xFFF) << 64 | random & (2**62 - 1))


def _fetched() -> bytes:
    """Fetch ahead; returns one. Threads that come together each fetch their own."""
    block = os.urandom(_SIZE * _AT_ONCE)
    _randoms.extend(block[at : at + _SIZE] for at in range(_SIZE, len(block), _SIZE))
    return block[:_SIZE]
