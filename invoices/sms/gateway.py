"""What carries texts: one small interface, and the gateway that the environment names."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Protocol
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from billing.errors import DomainError


class TextRefused(Exception):
    """The gateway said no. ``final``: it will not say yes later. ``opted_out``: the number answered STOP."""

    def __init__(self, reason: str, *, final: bool, opted_out: bool = False) -> None:
        super().__init__(reason)
        self.final, self.opted_out = final, opted_out


class GatewaySilent(Exception):
    """It was certainly not sent: no connection, or refused before any work."""


class OutcomeUnknown(Exception):
    """It may have been sent: the answer was lost. Asked for, never sent again blindly."""


class NoTextGateway(DomainError):
    """No gateway is set up."""

    code = "no_text_gateway"
    http_status = 503
    message = "No text gateway is set up: the environment names none (SMS_URL)."


@dataclass(frozen=True, kw_only=True)
class Sent:
    """The gateway has it."""

    gateway_ref: str


class TextGateway(Protocol):
    """One provider in our words."""

    def send(self, *, to: str, body: str) -> Sent:
        """Hand a text over. Raises ``TextRefused``, ``GatewaySilent`` or ``OutcomeUnknown``."""

    def find(self, *, to: str, body: str, since: datetime) -> Sent | None:
        """The text that was handed over at ``since`` or later, if the gateway has it. Raises ``GatewaySilent``."""


def gateway() -> TextGateway:
    """The gateway of ``SMS_URL``. Raises ``NoTextGateway`` when none is set up."""
    if not settings.SMS_URL:
        raise NoTextGateway
    return _gateway(settings.SMS_URL)


@lru_cache(maxsize=4)
def _gateway(url: str) -> TextGateway:
    from invoices.sms.twilio import Twilio

    scheme = urlsplit(url).scheme
    if scheme not in ("twilio", "twilio+http"):
        raise ImproperlyConfigured(f"SMS_URL begins with {scheme!r}; expected twilio:// or twilio+http://.")
    return Twilio.of(url)
