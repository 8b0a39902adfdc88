"""What every test may rely on."""

import hashlib
import os
from pathlib import Path

import pytest
from django.db import connection
from hypothesis import settings
from pytest_django import DjangoDbBlocker

from config import memory
from tests import emptying

ROOT = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("MUNIM_VAR_DIR", ROOT / "var"))

if not os.environ.get("CI"):  # there Hypothesis has a profile of its own, without a deadline too
    settings.register_profile(
        "house", deadline=None
    )  # how long a case takes on a busy machine says nothing about the rule
    settings.load_profile("house")


def schema_fingerprint() -> str:
    """Hash every migration of the house, so that an old test database is noticed."""
    digest = hashlib.sha256(os.environ.get("DATABASE_URL", "").encode())
    for path in sorted(ROOT.glob("*/migrations/*.py")):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def schema_stamp(config: pytest.Config) -> Path:
    """Return where we note which schema this process's test database was made with."""
    worker = getattr(config, "workerinput", {}).get("workerid", "main")
    name = os.environ.get("MUNIM_TEST_DB", "test_munim")
    return VAR_DIR / "test-schema" / f"{name}_{worker}"


def pytest_configure(config: pytest.Config) -> None:
    """Reuse the test database, but make it anew when a migration changed since it was made."""
    stamp = schema_stamp(config)
    if not stamp.is_file() or stamp.read_text() != schema_fingerprint():
        config.option.create_db = True
        stamp.unlink(missing_ok=True)
    emptying.install()


def pytest_collection_finish() -> None:
    """What is loaded by now stays: no garbage collection looks it over again."""
    memory.settle()


def allow_truncate() -> None:
    """Switch off the triggers that refuse TRUNCATE: tests with real transactions clean up with it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgtype & 32 <> 0 AND NOT tgisinternal"
        )
        for table, trigger in cursor.fetchall():
            cursor.execute(f'ALTER TABLE {table} DISABLE TRIGGER "{trigger}"')


@pytest.fixture(scope="session")
def django_db_setup(request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Note the schema once pytest-django has made the database; let the test run empty the append-only tables."""
    with django_db_blocker.unblock():
        allow_truncate()
    stamp = schema_stamp(request.config)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(schema_fingerprint())
