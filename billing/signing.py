"""Signatures of Standard Webhooks (v1, HMAC-SHA256). Pure."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"


def new_secret() -> str:
    """A secret of 32 random bytes as the specification writes it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """``v1,`` and the signature of id, time and body."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def headers(secret_list: Iterable[str], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Headers of a message, signed with each secret in force."""
    signatures = [sign(secret, message_id=message_id, timestamp=timestamp, body=body) for secret in secret_list]
    return {
        "Content-Type": "application/json",
        "User-Agent": "Munim-Webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
