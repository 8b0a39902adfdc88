"""From a gateway account to its gateway: one adapter per account and set of secrets, behind its circuit breaker."""

from __future__ import annotations

import functools
import hashlib
import threading
import uuid
from collections.abc import Iterator
from typing import Any, cast

from django.conf import settings
from redis import Redis

from payments.gateways.base import Gateway
from payments.gateways.breaker import CircuitBreaker, Fallback, LocalState, SharedState
from payments.gateways.faults import GatewayMisconfigured
from payments.gateways.offline import OfflineGateway
from payments.gateways.razorpay import RazorpayGateway
from payments.gateways.stripe import StripeGateway
from payments.models import GatewayAccount, Provider

_UNGUARDED = frozenset({"provider", "parse_webhook", "read_event"})  # they call nobody


class GuardedGateway:
    """A gateway whose calls go through a circuit breaker."""

    def __init__(self, gateway: Any, breaker: CircuitBreaker, *, has_keys: bool = True) -> None:
        self._gateway, self._has_keys = gateway, has_keys
        self.breaker = breaker

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._gateway, name)
        if name in _UNGUARDED:
            return found

        @functools.wraps(found)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if not self._has_keys:
                raise GatewayMisconfigured(fault="gateway_key_missing")
            return self.breaker.call(lambda: _drained(found(*args, **kwargs)))

        return guarded


def _drained(result: Any) -> Any:
    """A generator does its calls while it is read: read it inside the breaker."""
    return iter(list(result)) if isinstance(result, Iterator) else result


_known: dict[uuid.UUID, tuple[str, GuardedGateway]] = {}
_lock = threading.Lock()


def gateway_for(account: GatewayAccount) -> Gateway:
    """The gateway of ``account``. A change of its secrets makes a new one."""
    mark = _fingerprint(account)
    with _lock:
        known = _known.get(account.pk)
        if known is None or known[0] != mark:
            breaker = breaker_of(f"{account.pk}:{mark[:16]}")
            known = (mark, GuardedGateway(_adapter(account), breaker, has_keys=_has_keys(account)))
            _known[account.pk] = known
    return cast(Gateway, known[1])


def _has_keys(account: GatewayAccount) -> bool:
    """Whether there is what its provider asks a caller for."""
    needs_id = account.provider == Provider.RAZORPAY
    return account.provider == Provider.OFFLINE or bool(account.key_secret and (account.key_id or not needs_id))


def breaker_of(name: str) -> CircuitBreaker:
    """The breaker that all processes share under ``name``."""
    return CircuitBreaker(Fallback(SharedState(_redis(settings.REDIS_URL), name), LocalState()))


@functools.lru_cache(maxsize=4)
def _redis(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5)


def forget() -> None:
    """Drop all adapters of this process (tests, and after a change of settings)."""
    with _lock:
        _known.clear()


def _fingerprint(account: GatewayAccount) -> str:
    parts = (account.provider, account.key_id, account.key_secret, account.webhook_secret, account.previous_webhook_secret,
             settings.RAZORPAY_API_BASE, settings.STRIPE_API_BASE, str(_timeouts()))  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _timeouts() -> dict[str, float]:
    return {
        "connect_seconds": getattr(settings, "GATEWAY_CONNECT_SECONDS", 5.0),
        "read_seconds": getattr(settings, "GATEWAY_READ_SECONDS", 20.0),
    }


def _adapter(account: GatewayAccount) -> Any:
    given: dict[str, Any] = {
        "key_id": account.key_id,
        "key_secret": account.key_secret,
        "webhook_secrets": tuple(
            secret for secret in (account.webhook_secret, account.previous_webhook_secret) if secret
        ),
        **_timeouts(),
    }
    match account.provider:
        case Provider.RAZORPAY:
            return RazorpayGateway(api_base=settings.RAZORPAY_API_BASE, **given)
        case Provider.STRIPE:
            return StripeGateway(api_base=settings.STRIPE_API_BASE, **given)
        case _:
            return OfflineGateway()
