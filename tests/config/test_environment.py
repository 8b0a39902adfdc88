"""The environment decides what starts and what refuses to start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import environment

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "SECRET_KEY": "s" * 60,
    "FIELD_ENCRYPTION_KEYS": "dGVzdC1vbmx5LWVuY3J5cHRpb24ta2V5LTAwMDAwMDA=",
    "DATABASE_URL": "postgres://u:p@db.example/munim",
    "REDIS_URL": "redis://cache.example/0",
    "ALLOWED_HOSTS": "munim.example",
    "EMAIL_URL": "smtp://mail.example:25",
    "PUBLIC_URL": "https://munim.example",
}


def start(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Load the settings in a process of its own."""
    clean = {"PATH": os.environ["PATH"], "MUNIM_VAR_DIR": "/nonexistent/var"}
    return subprocess.run(
        [sys.executable, "-c", "from config import settings as s; print(s.SECURE_SSL_REDIRECT)"],
        cwd=ROOT,
        env=clean | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_production_starts_when_every_secret_is_given() -> None:
    done = start({"MUNIM_ENV": "production", **SECRETS})

    assert (done.returncode, done.stdout) == (0, "True\n")


def test_production_refuses_to_start_and_names_every_missing_secret() -> None:
    given = {k: v for k, v in SECRETS.items() if k not in ("SECRET_KEY", "REDIS_URL")}

    done = start({"MUNIM_ENV": "production", **given})

    assert done.returncode != 0
    assert "MUNIM_ENV=production needs SECRET_KEY, REDIS_URL." in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"SECRET_KEY": "s" * 49}, "SECRET_KEY has fewer than 50 characters"),
        ({"FIELD_ENCRYPTION_KEYS": "swordfish"}, "FIELD_ENCRYPTION_KEYS is not a list of Fernet keys"),
        (
            {"FIELD_ENCRYPTION_KEYS": SECRETS["FIELD_ENCRYPTION_KEYS"] + ",c2hvcnQ="},
            "FIELD_ENCRYPTION_KEYS is not a list",
        ),
    ],
    ids=["short", "no key", "a short one behind"],
)
def test_production_refuses_secrets_that_would_fail_later(change: dict[str, str], said: str) -> None:
    done = start({"MUNIM_ENV": "production", **SECRETS, **change})

    assert done.returncode != 0
    assert said in done.stderr
    assert not any(value in done.stderr for value in change.values()), "a secret is not printed"


def test_an_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUNIM_ENV", "staging")

    with pytest.raises(ImproperlyConfigured, match="expected one of production, local, test"):
        environment.mode()


def test_local_secrets_are_generated_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "var" / "local.env"
    for name in environment.TEST_VALUES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    environment.generate_local_secrets(path)
    first = path.read_text()
    for name in environment.TEST_VALUES:
        monkeypatch.delenv(name)
    environment.read_file(path)
    environment.generate_local_secrets(path)

    assert path.read_text() == first
    assert os.environ["SECRET_KEY"] in first
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("url", "host", "name", "port"),
    [
        ("postgres://munim@/munim?host=/tmp/sockets", "/tmp/sockets", "munim", ""),
        ("postgres://u:p@db.example:6543/books", "db.example", "books", 6543),
    ],
)
def test_a_database_address_may_name_a_host_or_a_socket(url: str, host: str, name: str, port: int | str) -> None:
    settings = environment.database(url)

    assert (settings["HOST"], settings["NAME"], settings["PORT"]) == (host, name, port)
    assert settings["OPTIONS"] == {"prepare_threshold": 5}


def test_statements_are_not_prepared_where_that_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PREPARED_STATEMENTS", "0")
    assert environment.database("postgres://munim@/munim")["OPTIONS"] == {}


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="must name a PostgreSQL database"):
        environment.database("sqlite:////tmp/x.db")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache.example:6379/3", "redis://cache.example:6379/3"),
        ("unix:///run/redis.sock?db=2", "redis+socket:///run/redis.sock?virtual_host=2"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
    ],
)
def test_the_broker_address_is_said_in_the_words_of_celery(url: str, expected: str) -> None:
    assert environment.celery_broker(url) == expected
