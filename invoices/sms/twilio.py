"""Twilio's Messages API (2010-04-01): form in, JSON out, Basic authentication, no idempotency keys.

``twilio://<account sid>:<auth token>@api.twilio.com?from=+15005550006`` (or ``from=MG…``, a messaging service).
``twilio+http://`` is for a local stand-in. Because a repeated POST would be a second text, a lost answer is looked
for among the messages to the number since then.
"""

import base64
import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import structlog
from django.core.exceptions import ImproperlyConfigured

from invoices.sms.gateway import GatewaySilent, OutcomeUnknown, Sent, TextRefused

log = structlog.get_logger(__name__)
CONNECT_SECONDS = 5
ANSWER_SECONDS = 15
UNSUBSCRIBED = 21610
PASSING = frozenset({20429, 14107, 30001, 30022})  # too many at once; the same text may pass later
CLOCK_SLACK = 120  # seconds by which the two clocks may differ
BIGGEST_ANSWER = 2 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Twilio:
    """One account at one address."""

    secure: bool
    host: str
    port: int
    account: str
    token: str
    sender: str

    @classmethod
    def of(cls, url: str) -> "Twilio":
        """Read ``SMS_URL``; raises ``ImproperlyConfigured`` naming what is missing."""
        parts = urlsplit(url)
        sender = parse_qs(parts.query).get("from", [""])[0].strip()
        if not (parts.hostname and parts.username and parts.password and sender):
            raise ImproperlyConfigured("SMS_URL needs account, token, host and from: twilio://sid:token@host?from=+1…")
        if not sender.startswith("MG") and sender.isdigit():
            sender = f"+{sender}"  # a plus that was not escaped reads as a space
        secure = parts.scheme == "twilio"
        return cls(
            secure=secure,
            host=parts.hostname,
            port=parts.port or (443 if secure else 80),
            account=unquote(parts.username),
            token=unquote(parts.password),
            sender=sender,
        )

    @property
    def _path(self) -> str:
        return f"/2010-04-01/Accounts/{quote(self.account, safe='')}/Messages.json"

    def send(self, *, to: str, body: str) -> Sent:
        """Create one message."""
        named = "MessagingServiceSid" if self.sender.startswith("MG") else "From"
        form = urlencode({"To": to, named: self.sender, "Body": body})
        status, answer = self._call("POST", self._path, body=form, lost=OutcomeUnknown)
        if status in (200, 201) and answer.get("sid"):
            return Sent(gateway_ref=str(answer["sid"])[:80])
        if status == 429:
            raise GatewaySilent("429 too many requests")
        if 400 <= status < 500:
            code = answer.get("code")
            raise TextRefused(
                f"{code or status}: {answer.get('message', 'refused')}"[:300],
                final=code not in PASSING and status not in (401, 403),
                opted_out=code == UNSUBSCRIBED,
            )
        raise OutcomeUnknown(f"The gateway answered {status}.")

    def find(self, *, to: str, body: str, since: datetime) -> Sent | None:
        """The newest message to the number with exactly these words, made at ``since`` or later."""
        query = urlencode({"To": to, "DateSent>": since.date().isoformat(), "PageSize": 100})
        status, answer = self._call("GET", f"{self._path}?{query}", lost=GatewaySilent)
        if status != 200:
            raise GatewaySilent(f"The gateway answered {status}.")
        for message in answer.get("messages", []):
            if message.get("to") == to and message.get("body") == body and _made_since(message, since):
                return Sent(gateway_ref=str(message.get("sid", ""))[:80])
        return None

    def _call(
        self, method: str, path: str, *, body: str = "", lost: Callable[[str], Exception]
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer. No connection is ``GatewaySilent``; what happens after it is ``lost``."""
        started = time.monotonic()
        connection = self._connection()
        try:
            connection.connect()
        except OSError as exc:
            connection.close()
            raise GatewaySilent(f"No connection: {exc}"[:200]) from exc
        try:
            if connection.sock is not None:
                connection.sock.settimeout(ANSWER_SECONDS)
            connection.request(method, path, body=body or None, headers=self._headers(body))
            answer = connection.getresponse()
            text = answer.read(BIGGEST_ANSWER)
        except (OSError, http.client.HTTPException) as exc:
            raise lost(f"{type(exc).__name__}: {exc}"[:200]) from exc
        finally:
            connection.close()
            log.info("sms.called", method=method, seconds=round(time.monotonic() - started, 3))
        return answer.status, _parsed(text)

    def _connection(self) -> http.client.HTTPConnection:
        if self.secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self.port, timeout=CONNECT_SECONDS, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=CONNECT_SECONDS)

    def _headers(self, body: str) -> Mapping[str, str]:
        secret = base64.b64encode(f"{self.account}:{self.token}".encode()).decode()
        form = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        return {"Authorization": f"Basic {secret}", "Accept": "application/json", **form}


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _made_since(message: Mapping[str, Any], since: datetime) -> bool:
    try:
        made = parsedate_to_datetime(str(message.get("date_created")))
    except (TypeError, ValueError):
        return False
    return made.timestamp() >= since.timestamp() - CLOCK_SLACK
