"""Where the supervisor keeps things, and as whom the database runs."""

import contextlib
import hashlib
import os
import pwd
import shutil
import socket
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.local.errors import CannotStart

ROOT = Path(__file__).resolve().parents[2]
LONGEST_SOCKET_PATH = 100
SOCKET_NAME_ROOM = len("/.s.PGSQL.5432")

_held: dict[int, socket.socket] = {}  # ports that are this process's until it ends


def var_dir() -> Path:
    """Return the folder of this checkout's own data (``var/``, or what ``MUNIM_VAR_DIR`` names)."""
    path = Path(os.environ.get("MUNIM_VAR_DIR", ROOT / "var"))
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass(frozen=True)
class RunAs:
    """The user that the database server runs as; ``None`` means: as ourselves."""

    uid: int
    gid: int

    def popen_arguments(self) -> dict[str, Any]:
        """Return what ``subprocess`` needs to start a process as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give a folder, not its content, to this user."""
        os.chown(path, self.uid, self.gid)

    def can_traverse(self, path: Path) -> bool:
        """Tell whether this user may walk through every folder above ``path`` and into it."""
        folders = [path, *path.parents] if path.is_dir() else list(path.parents)
        return all(self._may_enter(folder.stat()) for folder in folders)

    def _may_enter(self, status: os.stat_result) -> bool:
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


def database_user() -> RunAs | None:
    """PostgreSQL refuses to run as root: use ``postgres``, else ``nobody``. Anyone else runs it as themselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return RunAs(uid=user.pw_uid, gid=user.pw_gid)
    raise CannotStart(
        "PostgreSQL does not run as root and this machine has neither a user postgres nor nobody. "
        "Run this command as a normal user, or set DATABASE_URL."
    )


def data_home(run_as: RunAs | None) -> Path:
    """Return the folder under which the private database keeps its data.

    It is in ``var/`` when the database's user can get there, else in the machine's temporary folder under a
    name that belongs to this checkout.
    """
    home = var_dir() / "postgres"
    if run_as is not None and not run_as.can_traverse(var_dir()):
        home = private_temporary_folder()
    home.mkdir(parents=True, exist_ok=True)
    return home


def private_temporary_folder() -> Path:
    """Return this checkout's folder in the temporary folder: ours, readable by all, writable by nobody else."""
    key = hashlib.sha256(f"{ROOT}\n{var_dir()}".encode()).hexdigest()[:10]
    path = Path(tempfile.gettempdir()) / f"munim-{key}"
    path.mkdir(mode=0o755, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise CannotStart(f"{path} belongs to somebody else. Remove it, or set TMPDIR to another folder.")
    path.chmod(0o755)
    return path


def socket_folder(run_as: RunAs | None) -> Path:
    """Make a new folder for unix sockets that only the database's user and root can enter."""
    for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - macOS has long temporary paths
        path = Path(tempfile.mkdtemp(prefix="munim-", dir=base))
        if len(str(path)) + SOCKET_NAME_ROOM <= LONGEST_SOCKET_PATH:
            path.chmod(0o700)
            if run_as is not None:
                run_as.own(path)
            return path
        shutil.rmtree(path)
    raise CannotStart("No temporary folder has a path short enough for a unix socket. Set TMPDIR to a short one.")


def free_port(*, preferred: int | None = None, host: str = "127.0.0.1", tries: int = 100) -> int:
    """Return the first port that nobody listens on, from ``preferred`` upwards; any free one without it.

    A port that was preferred is this process's until it ends: another checkout that starts in the same seconds, before
    anything listens, takes the next one. (Web servers share a port that both of them ask for.)
    """
    if preferred is None:
        with socket.socket() as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    for port in range(preferred, preferred + tries):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, port))
                _hold(port)
                return port
    raise CannotStart(f"No free port between {preferred} and {preferred + tries - 1}. Set MUNIM_PORT to another.")


def _hold(port: int) -> None:
    """Note for all processes of this machine that ``port`` is spoken for; raises ``OSError`` when it is another one's."""
    if sys.platform != "linux" or port in _held:
        return  # names that end with their process are Linux's own
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0munim-port-{port}")
    except OSError:
        holder.close()
        raise
    _held[port] = holder
