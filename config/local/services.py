"""Database and broker: what the environment names, else private ones for as long as this process lives."""

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from config.local import broker, named, places, postgres, pristine
from config.local.errors import CannotStart
from config.local.processes import Family
from config.local.progress import Progress


@contextlib.contextmanager
def only_one(mode: str) -> Iterator[None]:
    """Hold the lock of this mode: two supervisors would fight about one data folder."""
    path = places.var_dir() / f"{mode}.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"A supervisor ({mode}) already runs in this checkout. Stop it first, or give this one its own "
                "data with MUNIM_VAR_DIR=/some/folder."
            ) from None
        yield


@dataclass
class Services:
    """The addresses that every process of the product needs, and what to remove at the end."""

    mode: str
    family: Family
    progress: Progress
    env: dict[str, str] = field(default_factory=dict)
    sockets: Path | None = None
    leftovers: list[Path] = field(default_factory=list)
    is_migrated: bool = False  # the private database is a copy of a migrated one

    def start(self, *, fresh: bool = False) -> None:
        """Start what the environment does not name; ``fresh`` throws the private data of this mode away.

        Raises ``CannotStart`` when what it names does not fit.
        """
        self.env["DATABASE_URL"] = named.database() or self._start_postgres(fresh=fresh)
        self.env["REDIS_URL"] = named.broker_url() or self._start_broker(fresh=fresh)

    def stop(self) -> None:
        """Stop every child, then remove what only served them."""
        self.family.stop()
        for path in self.leftovers:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _socket_folder(self) -> Path:
        if self.sockets is None:
            self.sockets = places.socket_folder(places.database_user())
            self.leftovers.append(self.sockets)
        return self.sockets

    def _start_postgres(self, *, fresh: bool) -> str:
        run_as = places.database_user()
        server = postgres.find_server(force_embedded=named.only_embedded())
        with self.progress.step(f"PostgreSQL {server.major}"):
            server = postgres.reachable(server, run_as)
            data = postgres.data_dir(mode=self.mode, server=server, run_as=run_as)
            if self.mode == "test":
                self.leftovers.append(data)
            sockets = self._socket_folder()

            def start() -> None:
                postgres.start(self.family, mode=self.mode, server=server, data=data, sockets=sockets, run_as=run_as)

            if not fresh:
                start()
            elif not self._start_clean(start):
                self.family.stop()  # of an unusable cluster; nothing else runs yet
                postgres.remove_cluster(data)
                start()
        return postgres.url(sockets)

    def _start_clean(self, start: Callable[[], None]) -> bool:
        """Start the cluster with a clean database of ours; False when what lies there cannot be used."""
        try:
            start()
            self.is_migrated = pristine.take_clean(self._socket_folder())
        except (CannotStart, psycopg.Error):
            return False
        return True

    def keep_pristine(self) -> None:
        """Keep the database that was just migrated for the next clean start; a named one is not ours to copy."""
        if self.sockets is not None and not named.address("DATABASE_URL") and not self.is_migrated:
            pristine.keep(self.sockets)

    def _start_broker(self, *, fresh: bool) -> str:
        server = broker.find_server(force_embedded=named.only_embedded())
        data = places.var_dir() / "broker"
        if fresh:
            shutil.rmtree(data, ignore_errors=True)
        keep = data if self.mode == "up" else None
        with self.progress.step(server.name):
            broker.start(self.family, server=server, sockets=self._socket_folder(), data=keep)
        return broker.url(self._socket_folder())
