"""A small HTTP load generator: some connections that are kept, each with one request under way at a time."""

import asyncio
import time
from collections.abc import Mapping

CHUNKED = -1


class Client(asyncio.Protocol):
    """Asks for the same address again and again until the time is over."""

    def __init__(self, request: bytes, until: float) -> None:
        self.request, self.until = request, until
        self.done, self.buffer, self.need = 0, bytearray(), 0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.need:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                self._end(RuntimeError(bytes(self.buffer[:400]).decode(errors="replace")))
                return
            self.need = _length(head, end + 4)
        if len(self.buffer) < self.need or (self.need == CHUNKED and not self.buffer.endswith(b"\r\n0\r\n\r\n")):
            return
        self.done += 1
        self.buffer.clear()
        self.need = 0
        if time.perf_counter() < self.until:
            self.transport.write(self.request)
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionError("The server closed the connection."))

    def _end(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_result(None) if exc is None else self.finished.set_exception(exc)
        self.transport.close()


def _length(head: bytes, start: int) -> int:
    """How long the whole answer is; ``CHUNKED`` when its last chunk says so."""
    if b"transfer-encoding: chunked" in head:
        return CHUNKED
    return start + int(head.split(b"content-length:")[1].split(b"\r\n")[0])


def requests_per_second(
    *, host: str, port: int, path: str, headers: Mapping[str, str], seconds: float, connections: int = 8
) -> float:
    """How many answers of 200 a second come back. Raises on any other answer."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{head}\r\n".encode()

    async def work() -> float:
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        clients = [
            (await loop.create_connection(lambda: Client(request, began + seconds), host, port))[1]
            for _ in range(connections)
        ]
        await asyncio.gather(*(client.finished for client in clients))
        return sum(client.done for client in clients) / (time.perf_counter() - began)

    return asyncio.run(work())
