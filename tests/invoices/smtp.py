"""A real SMTP server in a thread, told how to misbehave."""

import socket
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

Answer = Callable[[int, EmailMessage], str | None]


class Post:
    """Keeps what it took; ``answer(n, message)`` says what the n-th DATA gets (None: 250, "drop": hang up)."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.taken: list[EmailMessage] = []
        self.tried: list[EmailMessage] = []
        self.connections = 0
        self.refuse: dict[str, str] = {}
        self.answer = answer or (lambda _n, _message: None)

    async def handle_HELO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:  # noqa: N802
        session.host_name = hostname
        self.connections += 1
        return "250 here"

    async def handle_EHLO(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.connections += 1
        return responses

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.tried.append(message)
        said = self.answer(len(self.tried), message)
        if said == "drop":
            server.transport.close()
            return "421 bye"
        if said == "take and drop":
            self.taken.append(message)
            server.transport.close()
            return "421 bye"
        if said is None:
            self.taken.append(message)
        return said or "250 OK"


class Server:
    """The server, as a context: sets Django's mail settings to it."""

    def __init__(self, settings: Any, post: Post) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.controller = Controller(post, hostname="127.0.0.1", port=self.port, data_size_limit=33_554_432)
        self.settings = settings

    def __enter__(self) -> "Server":
        self.controller.start()
        self.settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        self.settings.EMAIL_HOST, self.settings.EMAIL_PORT = "127.0.0.1", self.port
        self.settings.EMAIL_USE_TLS = self.settings.EMAIL_USE_SSL = False
        self.settings.EMAIL_HOST_USER = self.settings.EMAIL_HOST_PASSWORD = ""
        return self

    def __exit__(self, *_: Any) -> None:
        self.controller.stop()
