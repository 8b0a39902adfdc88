"""Who really asks, where requests come through proxies: the caller's address in place of the proxy's.

A header of a request is the caller's to write, so it is believed only as far as proxies that are ours wrote it: of
``X-Forwarded-For`` the last address that is not one of ``TRUSTED_PROXIES``. Sign-in locks, limits, log lines and the
audit trail then all read the same ``REMOTE_ADDR``.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_WITH_PORT = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<four>[0-9.]+))(?::[0-9]+)?")


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks (``10.0.0.0/8``) and single addresses named; ``ImproperlyConfigured`` names one that is neither."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text.strip()))
        except ValueError as exc:
            raise ImproperlyConfigured(
                f"TRUSTED_PROXIES: {exc}; name addresses or networks such as 10.0.0.0/8."
            ) from exc
    return tuple(found)


def refuse_a_count(count: str, trusted: Sequence[Network]) -> None:
    """Stop the start where proxies are only counted (``NUM_PROXIES``): callers would go by the proxy's address unnoticed."""
    if count.strip() not in ("", "0") and not trusted:
        raise ImproperlyConfigured(
            f"NUM_PROXIES is {count.strip()!r}, but proxies are not counted here. Name their addresses or networks in "
            "TRUSTED_PROXIES, such as 10.0.0.0/8, and take NUM_PROXIES away."
        )


def caller(remote: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """The address of who asks: ``remote`` itself unless it is a trusted proxy, else what the proxies saw."""
    known = _address(remote)
    if known is None:
        return remote
    for text in reversed(forwarded.split(",")):
        if not _is_in(known, trusted):
            break
        before = _address(text)
        if before is None:
            break
        known = before
    return str(known)


def _address(text: str) -> Address | None:
    """An address as proxies write it, perhaps with a port; an IPv4 address that is wrapped in IPv6 is unwrapped."""
    written = _WITH_PORT.fullmatch(text.strip())
    try:
        found = ipaddress.ip_address((written["six"] or written["four"]) if written else text.strip())
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _is_in(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


class CallerMiddleware:
    """Put the caller's address into ``REMOTE_ADDR``; nothing to do where no proxy is trusted."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        if not settings.TRUSTED_PROXIES:
            raise MiddlewareNotUsed
        self.get_response = get_response
        self.trusted: tuple[Network, ...] = settings.TRUSTED_PROXIES

    def __call__(self, request: HttpRequest) -> HttpResponse:
        forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
        request.META["REMOTE_ADDR"] = caller(request.META.get("REMOTE_ADDR", ""), forwarded, self.trusted)
        return self.get_response(request)
