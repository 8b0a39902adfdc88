"""To start clean again is to copy a migrated database; what cannot be used is made anew."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from config.local import pristine
from config.local.processes import Family
from config.local.progress import Progress
from config.local.services import Services


@contextmanager
def clean_start(folder: Path) -> Iterator[Services]:
    services = Services(mode="demo", family=Family(log_dir=folder / "log"), progress=Progress())
    try:
        services.start(fresh=True)
        yield services
    finally:
        services.stop()


def tables(services: Services) -> set[str]:
    with psycopg.connect(services.env["DATABASE_URL"]) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row[0] for row in rows}


def run(services: Services, statement: str) -> None:
    with psycopg.connect(services.env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(statement)


@pytest.mark.serial
def test_a_clean_start_copies_what_was_migrated_before(var_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MUNIM_VAR_DIR", str(var_dir))

    with clean_start(var_dir) as first:
        assert not first.is_migrated
        run(first, "CREATE TABLE of_the_migrations ()")
        first.keep_pristine()
        run(first, "CREATE TABLE of_the_year ()")

    with clean_start(var_dir) as second:
        assert second.is_migrated
        assert tables(second) == {"of_the_migrations"}

    with monkeypatch.context() as changed, clean_start(var_dir) as other_schema:
        assert other_schema.is_migrated
        changed.setattr(pristine, "name", lambda: "pristine_of_other_migrations")
        assert pristine.take_clean(other_schema.sockets or Path()) is False
        assert tables(other_schema) == set()

    next((var_dir / "postgres").glob("*/global/pg_control")).unlink()
    with clean_start(var_dir) as repaired:
        assert not repaired.is_migrated
        assert tables(repaired) == set()
