"""What the process is told from outside: one place that reads the environment.

Three modes, chosen by ``MUNIM_ENV``:

``production``
    every secret must be given; the process refuses to start and names all that are missing.
``local``
    missing secrets are generated once and kept in ``var/local.env``; addresses come from the supervisor that runs in
    this checkout (``var/up.env``, ``var/services.env``), so that ``manage.py`` reaches what it started.
``test``
    missing secrets have fixed, worthless values.
"""

import base64
import contextlib
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("MUNIM_VAR_DIR", BASE_DIR / "var"))

MODES = ("production", "local", "test")
NEEDED_IN_PRODUCTION = (
    "SECRET_KEY",
    "FIELD_ENCRYPTION_KEYS",
    "DATABASE_URL",
    "REDIS_URL",
    "ALLOWED_HOSTS",
    "EMAIL_URL",
    "PUBLIC_URL",
)
SHORTEST_SECRET_KEY = 50
FERNET_KEY_BYTES = 32
TEST_VALUES = {
    "SECRET_KEY": "test-only-secret-key-of-no-value-to-anybody-at-all",
    "FIELD_ENCRYPTION_KEYS": "dGVzdC1vbmx5LWVuY3J5cHRpb24ta2V5LTAwMDAwMDA=",
}

env = environ.Env()


def mode() -> str:
    """Return the mode of this process; raise ``ImproperlyConfigured`` for a word we do not know."""
    chosen = os.environ.get("MUNIM_ENV", "local")
    if chosen not in MODES:
        raise ImproperlyConfigured(f"MUNIM_ENV is {chosen!r}; expected one of {', '.join(MODES)}.")
    return chosen


def load(mode_name: str) -> None:
    """Fill the gaps of the environment as the mode allows. What is set from outside always wins."""
    if mode_name == "production":
        refuse_missing_secrets()
        refuse_unusable_secrets()
        return
    running = ["services.env"] if mode_name == "test" else ["up.env", "services.env", "local.env"]
    for name in running:
        read_file(VAR_DIR / name)
    if mode_name == "test":
        for key, value in TEST_VALUES.items():
            os.environ.setdefault(key, value)
    else:
        generate_local_secrets(VAR_DIR / "local.env")


def refuse_missing_secrets() -> None:
    """Stop a production process that lacks a secret, naming every one that is missing."""
    missing = [name for name in NEEDED_IN_PRODUCTION if not os.environ.get(name)]
    if missing:
        raise ImproperlyConfigured(
            f"MUNIM_ENV=production needs {', '.join(missing)}. "
            "Set them in the environment; .env.example describes each."
        )


def refuse_unusable_secrets() -> None:
    """Stop a production process whose secrets would fail, or protect nothing, at the first customer."""
    wrong = []
    if len(os.environ["SECRET_KEY"]) < SHORTEST_SECRET_KEY:
        wrong.append(f"SECRET_KEY has fewer than {SHORTEST_SECRET_KEY} characters")
    if not all(map(_is_fernet_key, env.list("FIELD_ENCRYPTION_KEYS"))):
        wrong.append("FIELD_ENCRYPTION_KEYS is not a list of Fernet keys (32 bytes in URL-safe base64)")
    if wrong:
        raise ImproperlyConfigured(f"{'; '.join(wrong)}. .env.example says how they are made.")


def _is_fernet_key(text: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(text)) == FERNET_KEY_BYTES
    except ValueError:
        return False


def read_file(path: Path) -> None:
    """Read ``NAME=value`` lines; a name that is already in the environment keeps its value."""
    if path.is_file():
        environ.Env.read_env(path)


def generate_local_secrets(path: Path) -> None:
    """Make the secrets of this checkout once and keep them for the next start."""
    wanted = {
        "SECRET_KEY": lambda: secrets.token_urlsafe(50),
        "FIELD_ENCRYPTION_KEYS": lambda: base64.urlsafe_b64encode(os.urandom(32)).decode(),
    }
    missing = {name: make() for name, make in wanted.items() if not os.environ.get(name)}
    if not missing:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{name}={value}\n" for name, value in missing.items())
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    read_file(path)
    for name, value in missing.items():
        os.environ.setdefault(name, value)


def database(url: str) -> dict[str, Any]:
    """Turn ``postgres://…`` into Django's settings; ``?host=/directory`` names a unix socket."""
    settings: dict[str, Any] = dict(environ.Env.db_url_config(url))
    if settings["ENGINE"] != "django.db.backends.postgresql":
        raise ImproperlyConfigured(
            "DATABASE_URL must name a PostgreSQL database (postgres://…): triggers, exclusion "
            "constraints and row locks are part of the design."
        )
    options = settings.setdefault("OPTIONS", {})
    if "host" in options:
        settings["HOST"] = options.pop("host")
    if env.bool("DATABASE_PREPARED_STATEMENTS", True):  # only where ``billing.prepared`` asks for it
        options["prepare_threshold"] = 5
    settings["CONN_MAX_AGE"] = env.int("DATABASE_CONN_MAX_AGE", 600)
    settings["CONN_HEALTH_CHECKS"] = True
    settings["ATOMIC_REQUESTS"] = False
    return settings


def celery_broker(url: str) -> str:
    """Say a redis-py address in the words of Celery, which spells unix sockets differently."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    number = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.path}?virtual_host={number}"
