"""The whole product starts with one command, works, and leaves nothing behind."""

import contextlib
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.local import places
from tests.config.supervisor import family_of, nothing_left, supervisor

pytestmark = [pytest.mark.serial, pytest.mark.slow]
READY = r"Ctrl-C stops everything"


def address(output: str, name: str) -> str:
    found = re.search(rf"^  {name}\s+(http\S+)$", output, re.MULTILINE)
    assert found, output
    return found[1]


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:
        return bytes(response.read())


@contextlib.contextmanager
def busy(port: int) -> Iterator[None]:
    with places.socket.socket() as other:
        other.setsockopt(places.socket.SOL_SOCKET, places.socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


def test_everything_starts_works_and_does_not_survive_a_hard_kill(var_dir: Path) -> None:
    taken = places.free_port(preferred=18000)  # below the range that outgoing connections use
    with (
        busy(taken),
        supervisor("up", var_dir=var_dir, ready=READY, MUNIM_PORT=str(taken)) as (process, output),
    ):
        console, mail = address(output, "console"), address(output, "mail")
        web = console.removesuffix("/console/")
        family = family_of(process.pid)

        assert int(web.rsplit(":", 1)[1]) > taken
        assert f"PUBLIC_URL={web}\n" in (var_dir / "up.env").read_text()
        assert b'"status": "ok"' in get(f"{web}/readyz")
        assert b"csrfmiddlewaretoken" in get(f"{console}login/")
        assert b"tailwind" in get(f"{web}/static/unfold/css/styles.css").lower()
        assert b"swagger-ui" in get(f"{web}/api/docs/")
        assert b"0 messages" in get(mail)
        assert get(f"{address(output, 'gateways')}healthz")

        process.kill()
        process.wait(10)
        assert nothing_left(family) == set()
