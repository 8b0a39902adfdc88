"""The two HTTP clients of the demo: Munim's API as an application sees it, and the simulator's controls."""

from typing import Any

import requests


class DemoFailed(Exception):
    """An answer the demo did not expect: what was asked, and what came back."""


class JsonClient:
    """A kept connection to one server that speaks JSON."""

    def __init__(self, base: str, headers: dict[str, str] | None = None) -> None:
        self.base = base.rstrip("/")
        self.session = requests.Session()
        self.session.headers.update(headers or {})

    def call(
        self, method: str, path: str, body: Any = None, *, ok: tuple[int, ...] = (200, 201, 202, 204), **options: Any
    ) -> Any:
        """The JSON answer of one request; raises ``DemoFailed`` for a status outside ``ok``."""
        answer = self.session.request(method, self.base + path, json=body, timeout=60, **options)
        if answer.status_code not in ok:
            raise DemoFailed(f"{method} {path} → {answer.status_code}: {answer.text[:600]}\n  sent: {str(body)[:400]}")
        if answer.status_code == 204 or not answer.content:
            return None
        return answer.json() if "json" in answer.headers.get("Content-Type", "") else answer.text

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, params=params)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.call("POST", path, {} if body is None else body, **options)


class Api(JsonClient):
    """Munim's API under an organisation's key."""

    def __init__(self, base: str, key: str) -> None:
        super().__init__(f"{base.rstrip('/')}/api/v1", {"Authorization": f"Bearer {key}"})

    def pages(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """All rows of a list, page by page."""
        rows: list[dict[str, Any]] = []
        page = self.get(path, limit=200, **params)
        while True:
            rows += page["results"]
            if not page.get("next"):
                return rows
            page = self.call("GET", page["next"].split("/api/v1", 1)[1])


class Simulator(JsonClient):
    """The simulator's controls: its clock, the customers' side of checkout, faults and the bank."""

    def set_clock(self, now: str) -> None:
        self.post("/_sim/clock", {"now": now})

    def pending_webhooks(self) -> int:
        answer = self.get("/_sim/webhooks/pending")
        return int(answer["pending"])
