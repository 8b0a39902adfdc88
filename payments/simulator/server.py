"""A small threaded HTTP/1.1 server: one thread per connection, kept alive, no waiting for full packets."""

from __future__ import annotations

import socketserver
import time
from collections.abc import Callable
from http import HTTPStatus
from io import BufferedIOBase

from payments.simulator.wire import Request, Response

App = Callable[[Request], Response]

MAX_BODY = 8 * 1024 * 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class _BadRequest(Exception):
    """Not HTTP as we understand it."""


def read_request(stream: BufferedIOBase) -> Request | None:
    """The next request of a connection; None when the other side has closed it."""
    line = stream.readline(65_536)
    while line in (b"\r\n", b"\n"):
        line = stream.readline(65_536)
    if not line:
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise _BadRequest("request line")
    headers: dict[str, str] = {}
    while (raw := stream.readline(65_536)) not in (b"\r\n", b"\n"):
        if not raw:
            return None
        name, colon, value = raw.decode("latin-1").partition(":")
        if not colon or len(headers) > 200:
            raise _BadRequest("header")
        headers[name.strip().lower()] = value.strip()
    if parts[2] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return Request(parts[0], parts[1], headers)


def render(response: Response, *, close: bool, head: bool = False) -> bytes:
    """The bytes of an answer."""
    lines = [
        f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        *(f"{name}: {value}" for name, value in response.headers.items()),
        f"Connection: {'close' if close else 'keep-alive'}",
        "\r\n",
    ]
    return "\r\n".join(lines).encode("latin-1") + (b"" if head else response.body)


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    rbufsize = 65_536
    server: Server

    def handle(self) -> None:
        """Answer requests until one side closes."""
        try:
            while self._one():
                pass
        except (OSError, ValueError):
            pass  # the other side went away; nothing to tell anybody

    def _one(self) -> bool:
        try:
            request = read_request(self.rfile)
            if request is None:
                return False
            self._read_body(request)
        except _BadRequest as error:
            self.wfile.write(render(Response(400, f"bad {error}".encode(), "text/plain"), close=True))
            return False
        response = self.server.app(request)
        if response.drop:
            return False
        close = request.headers.get("connection", "").lower() == "close"
        self.wfile.write(render(response, close=close, head=request.method == "HEAD"))
        return not close

    def _read_body(self, request: Request) -> None:
        if "chunked" in request.headers.get("transfer-encoding", "").lower():
            raise _BadRequest("transfer encoding")
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            raise _BadRequest("content length")
        if request.headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.body = self.rfile.read(int(length))


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens and hands requests to ``app``."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, host: str, port: int, app: App) -> None:
        self.app = app
        super().__init__((host, port), _Connection)

    @property
    def port(self) -> int:
        """The port in use (of interest when 0 was asked for)."""
        return int(self.server_address[1])


def nap(seconds: float) -> None:
    """Let real time pass: a slow or hanging gateway."""
    if seconds > 0:
        time.sleep(seconds)
