"""Column types of the house: amounts that share one currency column, and encrypted text."""

import hashlib
import hmac
import json
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models
from djmoney.models.fields import MoneyField
from moneyed import Money

from billing.errors import DomainError


class AmountField(MoneyField):
    """An amount of money, numeric(19, 4), in the row's one ``currency`` column."""

    # For the type checker only: what a model's attribute takes and gives.
    _pyi_private_set_type: Money | None  # type: ignore[assignment]
    _pyi_private_get_type: Money  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_digits", 19)
        kwargs.setdefault("decimal_places", 4)
        kwargs.setdefault("currency_field_name", "currency")
        kwargs.setdefault("default_currency", None)
        super().__init__(*args, **kwargs)


class UnitPriceField(models.DecimalField):
    """A price per unit of usage: 12 decimals, rounded only on the invoice line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_digits", 30)
        kwargs.setdefault("decimal_places", 12)
        super().__init__(*args, **kwargs)


class DecryptionFailed(DomainError):
    code = "decryption_failed"
    http_status = 500
    message = (
        "A stored secret cannot be read with the configured FIELD_ENCRYPTION_KEYS; add the key it was written with."
    )


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def cipher() -> MultiFernet:
    """The configured cipher: the first key encrypts, all of them decrypt."""
    return _cipher(tuple(settings.FIELD_ENCRYPTION_KEYS))


def lookup_hash(value: str) -> str:
    """Keyed hash of a personal value, for equality look-ups on encrypted columns."""
    normal = value.strip().casefold().encode()
    return hmac.new(settings.FIELD_ENCRYPTION_KEYS[-1].encode(), normal, hashlib.sha256).hexdigest()


class EncryptedTextField(models.TextField):
    """Text encrypted at rest with rotating Fernet keys; an empty string stays empty."""

    def get_prep_value(self, value: Any) -> Any:
        return cipher().encrypt(str(value).encode()).decode() if value else value

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if not value:
            return value
        try:
            return cipher().decrypt(value.encode()).decode()
        except InvalidToken as exc:
            raise DecryptionFailed from exc


class EncryptedJSONField(EncryptedTextField):
    """A JSON document encrypted at rest."""

    def get_prep_value(self, value: Any) -> Any:
        return super().get_prep_value(json.dumps(value, sort_keys=True, default=str)) if value is not None else None

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        text = super().from_db_value(value, expression, connection)
        return json.loads(text) if text else text

    def to_python(self, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) and value else value
