"""What both adapters need of HTTP: sessions per thread, reads repeated once, and whether a request was sent at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import requests
from urllib3.exceptions import NewConnectionError
from urllib3.util.retry import Retry

Client = TypeVar("Client")


class PerThread(Generic[Client]):
    """One client per thread and process: kept connections are never shared."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._local = threading.local()

    def get(self) -> Client:
        """This thread's client."""
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.client, self._local.pid = self._make(), os.getpid()
        client: Client = self._local.client
        return client


def reads_again() -> Retry:
    """Repeat what cannot do harm: reads, and calls whose connection could not be made. Never a write that was sent."""
    return Retry(total=2, connect=1, read=1, status=0, redirect=0, other=0,
                 allowed_methods=frozenset({"GET"}), backoff_factor=0.1, raise_on_status=False)  # fmt: skip


def never_sent(exc: BaseException | None) -> bool:
    """Whether ``exc`` says that no connection could be made, so that no byte of the request left us."""
    seen = 0
    while exc is not None and seen < 8:
        if isinstance(exc, requests.exceptions.ConnectTimeout | NewConnectionError):
            return True
        if isinstance(getattr(exc, "reason", None), NewConnectionError):
            return True
        inner = exc.args[0] if exc.args and isinstance(exc.args[0], BaseException) else None
        exc, seen = inner or exc.__cause__ or exc.__context__, seen + 1
    return False
