"""What the local stand-in for the text gateway keeps: it speaks the part of Twilio's Messages API that we use.

Nothing is sent anywhere. Numbers that end in 0009 have answered STOP; those that end in 0008 are no numbers.
"""

import json
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

NOT_A_NUMBER, UNSUBSCRIBED, NO_RECIPIENT, NO_BODY, TOO_LONG = 21211, 21610, 21604, 21602, 21617
MAX_LETTERS = 1600
PLAIN = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstu"
    "vwxyzäöñüà^{}\\[~]|€"
)


@dataclass(frozen=True)
class Text:
    """One text as it was handed over."""

    sid: str
    sender: str
    to: str
    body: str
    received_at: datetime

    @property
    def segments(self) -> int:
        """How many texts a telephone company would count."""
        one, many = (160, 153) if set(self.body) <= PLAIN else (70, 67)
        return 1 if len(self.body) <= one else -(-len(self.body) // many)

    def resource(self, account: str) -> dict[str, Any]:
        """As the API shows it."""
        made = format_datetime(self.received_at)
        return {
            "sid": self.sid,
            "account_sid": account,
            "from": self.sender,
            "to": self.to,
            "body": self.body,
            "status": "delivered",
            "num_segments": str(self.segments),
            "direction": "outbound-api",
            "date_created": made,
            "date_sent": made,
            "error_code": None,
        }


class Textbox:
    """Texts in the order they arrived; a line of JSON each in one file. Threads may share it."""

    def __init__(self, spool: Path) -> None:
        spool.mkdir(parents=True, exist_ok=True)
        self._file = spool / "texts.jsonl"
        self._lock = threading.Lock()
        self._texts = [_read(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []

    def handle(self, form: dict[str, str], account: str) -> tuple[int, dict[str, Any]]:
        """Answer the creation of a message: status and JSON."""
        to, body = form.get("To", ""), form.get("Body", "")
        sender = form.get("From") or form.get("MessagingServiceSid", "")
        refusal = _refusal(to, body)
        if refusal is not None:
            code, message = refusal
            return 400, {"code": code, "message": message, "status": 400}
        text = Text(f"SM{uuid.uuid4().hex}", sender, to, body, datetime.now(tz=UTC).replace(microsecond=0))
        with self._lock:
            self._texts.append(text)
            with self._file.open("a") as file:
                file.write(json.dumps(text.resource(account)) + "\n")
        return 201, text.resource(account)

    def newest(self, *, search: str = "", to: str = "") -> list[Text]:
        """The newest first; ``search`` looks at number and words, ``to`` is a whole number."""
        wanted = search.casefold()
        with self._lock:
            found = [text for text in self._texts if wanted in f"{text.to} {text.body}".casefold()]
        return [text for text in reversed(found) if not to or text.to == to]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._texts.clear()
            self._file.unlink(missing_ok=True)


def _refusal(to: str, body: str) -> tuple[int, str] | None:
    if not to:
        return NO_RECIPIENT, "A 'To' phone number is required."
    if not body:
        return NO_BODY, "Message body is required."
    if len(body) > MAX_LETTERS:
        return TOO_LONG, "The concatenated message body exceeds the 1600 character limit"
    if not to.startswith("+") or not to[1:].isdigit() or to.endswith("0008"):
        return NOT_A_NUMBER, f"Invalid 'To' Phone Number: {to}"
    if to.endswith("0009"):
        return UNSUBSCRIBED, "Attempt to send to unsubscribed recipient"
    return None


def _read(line: str) -> Text:
    found = json.loads(line)
    return Text(found["sid"], found["from"], found["to"], found["body"], parsedate_to_datetime(found["date_created"]))
