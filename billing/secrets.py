"""API keys: how they look, and what is stored of them."""

import hashlib

KEY_PREFIX = "mk_"


def hash_key(key: str) -> str:
    """What is stored of an API key. Keys carry 256 random bits, so a plain hash suffices."""
    return hashlib.sha256(key.encode()).hexdigest()
