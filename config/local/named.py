"""Servers that ``DATABASE_URL`` and ``REDIS_URL`` name: used when they fit, refused with the reason when they do not."""

import os

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from config.local import broker, postgres
from config.local.errors import CannotStart

SECONDS_TO_ANSWER = 5
_ELSE = "Name another, unset it, or set MUNIM_FORCE_EMBEDDED=1 to use private servers."


def only_embedded() -> bool:
    """Tell whether only the servers of the wheels may be used (``MUNIM_FORCE_EMBEDDED=1``)."""
    return os.environ.get("MUNIM_FORCE_EMBEDDED", "") not in ("", "0")


def address(name: str) -> str:
    """Return the address in ``DATABASE_URL`` or ``REDIS_URL``; empty when none is given, or none may be used."""
    return "" if only_embedded() else os.environ.get(name, "")


def database() -> str:
    """Return the named database's address, empty if none; raise ``CannotStart`` when it cannot be used."""
    url = address("DATABASE_URL")
    if url:
        try:
            with psycopg.connect(url, connect_timeout=SECONDS_TO_ANSWER) as connection:
                major = connection.info.server_version // 10_000
                known = {row[0] for row in connection.execute("SELECT name FROM pg_available_extensions")}
        except psycopg.Error as error:
            raise CannotStart(f"The database named by DATABASE_URL does not answer: {error} {_ELSE}") from None
        if major < postgres.OLDEST_MAJOR:
            raise CannotStart(
                f"The database named by DATABASE_URL is PostgreSQL {major}; {postgres.OLDEST_MAJOR} or newer is needed. {_ELSE}"
            )
        if missing := sorted(set(postgres.NEEDED_EXTENSIONS) - known):
            raise CannotStart(f"The server named by DATABASE_URL has no {', '.join(missing)}. {_ELSE}")
    return url


def broker_url() -> str:
    """Return the named broker's address, empty if none; raise ``CannotStart`` when it cannot be used."""
    url = address("REDIS_URL")
    if url:
        try:
            with Redis.from_url(
                url, socket_timeout=SECONDS_TO_ANSWER, socket_connect_timeout=SECONDS_TO_ANSWER
            ) as client:
                version = str(client.info("server")["redis_version"])
        except (RedisError, ValueError) as error:
            raise CannotStart(f"The broker named by REDIS_URL does not answer: {error} {_ELSE}") from None
        if int(version.split(".")[0]) < broker.OLDEST_MAJOR:
            raise CannotStart(
                f"The broker named by REDIS_URL is Redis {version}; {broker.OLDEST_MAJOR} or newer is needed. {_ELSE}"
            )
    return url
