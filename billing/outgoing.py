"""One POST to an address that a stranger named: resolved once, checked, connected to by that address; no redirects."""

import http.client
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from billing.errors import InvalidInput

CONNECT_SECONDS = 5
ANSWER_SECONDS = 10
WHOLE_SECONDS = 20
NAT64 = ipaddress.ip_network("64:ff9b::/96")
SIX_TO_FOUR = ipaddress.ip_network("2002::/16")


class AddressRefused(InvalidInput):
    """The address may not be called: not https, or it leads into a private network."""

    code = "webhook_address_refused"
    message = "Webhooks go to https addresses on the public internet; '{host}' is not one."


class CallFailed(Exception):
    """No answer came."""


@dataclass(frozen=True)
class Target:
    """Where a URL leads: checked address and what to ask for there."""

    secure: bool
    host: str
    port: int
    address: str
    path: str


def check_url(url: str) -> None:
    """Refuse what can be refused without asking the network. Raises ``AddressRefused``."""
    _parts(url)


def post(url: str, *, body: bytes, headers: dict[str, str]) -> int:
    """Status of the answer. Raises ``AddressRefused``, or ``CallFailed`` when none came in time."""
    target = resolve(url)
    connection = http.client.HTTPConnection(target.host, target.port)
    try:
        raw = socket.create_connection((target.address, target.port), timeout=CONNECT_SECONDS)
    except OSError as exc:
        raise CallFailed(f"No connection: {exc}") from exc
    end = threading.Timer(WHOLE_SECONDS, _hang_up, [raw])
    end.daemon = True
    end.start()
    try:
        raw.settimeout(ANSWER_SECONDS)
        connection.sock = _secured(raw, target.host) if target.secure else raw
        connection.request("POST", target.path, body=body, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise CallFailed(f"{type(exc).__name__}: {exc}"[:200]) from exc
    finally:
        end.cancel()
        connection.close()
        raw.close()


def resolve(url: str) -> Target:
    """Look the host up once; every address it has must be public."""
    parts = _parts(url)
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    try:
        port = parts.port or (443 if secure else 80)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, ValueError) as exc:
        raise CallFailed(f"'{host}' cannot be resolved.") from exc
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(_may_be_called(address) for address in addresses):
        raise AddressRefused(host=host, field="url")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(secure, host, port, addresses[0], path)


def is_public(address: str) -> bool:
    """Whether ``address`` lies on the public internet, also when it is an IPv4 address in IPv6 clothes."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or (ip.sixtofour if ip in SIX_TO_FOUR else None)
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _may_be_called(address: str) -> bool:
    return settings.WEBHOOK_ALLOW_PRIVATE or is_public(address)


def _parts(url: str):  # type: ignore[no-untyped-def]  # urlsplit's result
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise AddressRefused(host=url[:80], field="url") from exc
    schemes = ("https", "http") if settings.WEBHOOK_ALLOW_PRIVATE else ("https",)
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in schemes or not host or parts.username or parts.password or not plain:
        raise AddressRefused(host=(host or url)[:80], field="url")
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return parts
    if not _may_be_called(str(literal)):
        raise AddressRefused(host=host, field="url")
    return parts


def _secured(raw: socket.socket, host: str) -> ssl.SSLSocket:
    return ssl.create_default_context().wrap_socket(raw, server_hostname=host)


def _hang_up(raw: socket.socket) -> None:
    """End a call that drips on for ever."""
    try:
        raw.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
