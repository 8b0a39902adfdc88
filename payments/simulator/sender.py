"""One kept connection, and the answer to a POST on it."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

ANSWER_SECONDS = 5.0


class Sender:
    """A kept connection to one host."""

    def __init__(self) -> None:
        self._connection: http.client.HTTPConnection | None = None
        self._place: tuple[str, str] = ("", "")

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """Status of the answer; 0 when there was none within five seconds."""
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Content-Type": "application/json", **headers}
        for fresh in (False, True):  # a kept connection may have been closed by the other side
            connection = self._open(parts.scheme, parts.netloc, fresh=fresh)
            reused = connection.sock is not None
            try:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                answer.read()
                return answer.status
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if not reused or isinstance(error, TimeoutError):
                    return 0
        return 0

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, scheme: str, place: str, *, fresh: bool) -> http.client.HTTPConnection:
        if fresh or self._place != (scheme, place):
            self.close()
        if self._connection is None:
            kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
            self._connection = kind(place, timeout=ANSWER_SECONDS)
            self._place = (scheme, place)
        return self._connection
