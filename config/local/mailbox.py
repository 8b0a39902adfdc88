"""What the mail catcher keeps: every message as a file, its headers in memory."""

import email
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from pathlib import Path


@dataclass(frozen=True)
class Summary:
    """One line of the inbox."""

    number: int
    received_at: datetime
    sender: str
    recipients: str
    subject: str
    attachments: int
    size: int


@dataclass(frozen=True)
class Attachment:
    """One file of a message."""

    filename: str
    content_type: str
    content: bytes


class Mailbox:
    """Messages in the order they arrived, numbered from 1. Threads may share it."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.spool.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._summaries: dict[int, Summary] = {}
        for path in sorted(self.spool.glob("*.eml")):
            arrived = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
            self._summaries[int(path.stem)] = summarise(int(path.stem), path.read_bytes(), arrived)

    def add(self, raw: bytes) -> int:
        """Keep one message as it came; return its number."""
        with self._lock:
            number = max(self._summaries, default=0) + 1
            self._path(number).write_bytes(raw)
            self._summaries[number] = summarise(number, raw, datetime.now(tz=UTC))
        return number

    def summaries(self, *, search: str = "") -> list[Summary]:
        """Return the newest first; ``search`` looks at sender, recipients and subject."""
        wanted = search.casefold()
        with self._lock:
            newest_first = sorted(self._summaries.values(), key=lambda summary: -summary.number)
        return [
            summary
            for summary in newest_first
            if wanted in f"{summary.sender} {summary.recipients} {summary.subject}".casefold()
        ]

    def summary(self, number: int) -> Summary | None:
        """Return one line of the inbox."""
        with self._lock:
            return self._summaries.get(number)

    def raw(self, number: int) -> bytes:
        """Return a message as it came; raise ``KeyError`` for a number we never gave."""
        if self.summary(number) is None:
            raise KeyError(number)
        return self._path(number).read_bytes()

    def message(self, number: int) -> EmailMessage:
        """Return a message, parsed."""
        return parse(self.raw(number))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for number in self._summaries:
                self._path(number).unlink(missing_ok=True)
            self._summaries.clear()

    def _path(self, number: int) -> Path:
        return self.spool / f"{number:08d}.eml"


def parse(raw: bytes) -> EmailMessage:
    """Parse bytes into a message of the modern kind."""
    message = email.message_from_bytes(raw, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def summarise(number: int, raw: bytes, received_at: datetime) -> Summary:
    """Read what the inbox shows of a message."""
    message = parse(raw)
    return Summary(
        number=number,
        received_at=received_at,
        sender=str(message.get("From", "")),
        recipients=str(message.get("To", message.get("X-RcptTo", ""))),
        subject=str(message.get("Subject", "(no subject)")),
        attachments=len(attachments(message)),
        size=len(raw),
    )


def attachments(message: EmailMessage) -> list[Attachment]:
    """Return the files of a message."""
    return [
        Attachment(
            filename=part.get_filename() or "attachment",
            content_type=part.get_content_type(),
            content=part.get_payload(decode=True) or b"",  # type: ignore[arg-type]
        )
        for part in message.iter_attachments()
    ]


def body(message: EmailMessage, kind: str) -> str | None:
    """Return the text of the ``plain`` or ``html`` body, if the message has one."""
    part = message.get_body(preferencelist=(kind,))
    return str(part.get_content()).replace("\r\n", "\n") if part is not None else None
