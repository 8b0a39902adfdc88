"""API requests a second through granian: the list of 20 invoices beside views that do less."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench import population
from bench.load import requests_per_second
from bench.measuring import Line, compare
from billing.services.organisations import create_api_key
from subscriptions.services.billing_run import run_billing

HOST = "127.0.0.1"
PATIENCE = 30.0


def measure(scale: float) -> list[Line]:
    """The product's list has authentication, tenancy, throttles and all middleware on."""
    seconds = max(4 * scale, 1)
    organisation = population.build(customers=1000, code="api")
    run_billing(organisation=organisation)
    _, key = create_api_key(organisation=organisation, name="bench", scopes=["invoice.view"])
    headers = {"Authorization": f"Bearer {key}"}
    with serving("config.wsgi:application") as product, serving("bench.bare_wsgi:application") as bare:

        def list_invoices(_: int) -> float:
            return requests_per_second(
                host=HOST, port=product, path="/api/v1/invoices?limit=20", headers=headers, seconds=seconds
            )

        def ask_bare(path: str) -> float:
            return requests_per_second(host=HOST, port=bare, path=path, headers={}, seconds=seconds)

        list_invoices(0)
        ask_bare("/rows")
        return [
            compare(
                name="API, list of 20 invoices",
                unit="requests/s",
                limit_is="the same rows by a bare DRF ModelSerializer, no middleware, no authentication",
                aim=0.7,
                product=list_invoices,
                limit=lambda _: ask_bare("/rows"),
            ),
            compare(
                name="API, list of 20 invoices",
                unit="requests/s",
                limit_is="an empty DRF view, no database, no middleware, no authentication",
                aim=0.05,
                product=list_invoices,
                limit=lambda _: ask_bare("/nothing"),
            ),
        ]


@contextlib.contextmanager
def serving(application: str) -> Iterator[int]:
    """Granian with two workers of one thread on a free port."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "THROTTLE_READ": "100000000/min",
        "THROTTLE_INGEST": "100000000/min",
        "LOG_LEVEL": "ERROR",
    }
    server = subprocess.Popen(
        [
            str(Path(sys.executable).parent / "granian"),
            *("--interface", "wsgi", "--host", HOST, "--port", str(port), "--no-ws"),
            *("--workers", "2", "--blocking-threads", "1", "--log-level", "error", application),
        ],
        env=environment,
    )
    try:
        _wait(port, server)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=PATIENCE)


def _wait(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}/nothing", timeout=5).close()
            return
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("granian did not come up")
