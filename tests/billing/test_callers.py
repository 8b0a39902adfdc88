"""What stands before every request of an application: whose key it is, and how often it came. Few trips, and none of them stale."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from redis.connection import AbstractConnection
from rest_framework.test import APIClient

from billing.api import throttling
from billing.clock import wall_now
from billing.counters import CountingLocalCache, CountingRedisCache
from billing.ids import uuid7
from billing.models import ApiKey, Customer, Organisation
from billing.prepared import prepared_cursor
from billing.secrets import hash_key
from billing.selectors.callers import first_read, holder_of_key
from billing.services import organisations

Clients = Callable[..., APIClient]


@pytest.fixture(autouse=True)
def _fresh_limits() -> None:
    cache.clear()


def test_a_key_brings_its_organisation_along_in_one_query(
    organisation: Organisation, client_of: Clients, django_assert_num_queries: Any
) -> None:
    organisation.settings = {"net_days": 30}
    organisation.save(update_fields=["settings"])
    client = client_of(organisation, "customer.view")
    client.get("/api/v1/customers")

    with django_assert_num_queries(2):  # the key, the list
        assert client.get("/api/v1/customers").status_code == 200
    _, secret = organisations.create_api_key(organisation=organisation, name="k", scopes=["customer.view"])
    holder = holder_of_key(key_hash=hash_key(secret), now=wall_now())
    assert (holder.organisation, holder.organisation.settings) == (organisation, {"net_days": 30})
    assert (holder.name, holder.scopes) == ("k", frozenset({"customer.view"}))
    assert {field.attname: getattr(holder.organisation, field.attname) for field in Organisation._meta.concrete_fields} == {
        field.attname: getattr(Organisation.objects.get(), field.attname) for field in Organisation._meta.concrete_fields
    }  # fmt: skip


def test_a_key_that_has_expired_is_nobodys(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation, "customer.view")
    ApiKey.objects.update(expires_at=wall_now() - timedelta(seconds=1))

    assert client.get("/api/v1/customers").status_code == 401


def test_when_a_key_was_used_is_noted_every_five_minutes(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation, "customer.view")

    client.get("/api/v1/customers")
    first = ApiKey.objects.get().last_used_at
    client.get("/api/v1/customers")
    assert ApiKey.objects.get().last_used_at == first
    ApiKey.objects.update(last_used_at=wall_now() - timedelta(minutes=6))
    client.get("/api/v1/customers")

    assert first is not None
    assert ApiKey.objects.get().last_used_at >= first


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_died_meanwhile_is_made_anew_without_being_asked_each_time(
    make_organisation: Callable[..., Organisation], client_of: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(make_organisation(), "customer.view")
    asked: list[bool] = []
    is_usable = type(connection._connections[connection._alias]).is_usable  # type: ignore[attr-defined]
    monkeypatch.setattr(
        type(connection._connections[connection._alias]),  # type: ignore[attr-defined]
        "is_usable",
        lambda self: (asked.append(True), is_usable(self))[1],
    )

    def request() -> int:
        connection.health_check_enabled, connection.health_check_done = True, False  # as at the start of a request
        return client.get("/api/v1/customers").status_code

    assert request() == 200
    assert asked == []
    _kill(connection.connection.info.backend_pid)
    assert request() == 200
    assert Customer.objects.count() == 0


def _kill(backend_pid: int) -> None:
    """End a connection of the server's, as a restart would."""
    with psycopg.connect(**_address(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [backend_pid])


def _address() -> dict[str, Any]:
    given = connection.get_connection_params()
    return {name: given[name] for name in ("dbname", "host", "port", "user", "password") if name in given}


# --- how often -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_look_up_is_planned_once_and_survives_a_migration_under_its_feet() -> None:
    def read() -> Any:
        with prepared_cursor() as cursor:
            cursor.execute("SELECT word FROM prepared_words WHERE word <> %s", ["b"])
            return cursor.fetchall()

    def plans() -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE statement LIKE '%prepared_words%'"
            )
            return cursor.fetchall()

    def change(statement: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)

    change("CREATE TABLE prepared_words (word varchar(5))")
    try:
        change("INSERT INTO prepared_words VALUES ('a'), ('b')")
        assert [first_read(read) for _ in range(3)] == [[("a",)]] * 3
        assert plans() == [(3,)]
        other = psycopg.connect(
            **connection.get_connection_params() | {"autocommit": True}
        )  # does not know of the plan
        other.execute("ALTER TABLE prepared_words ALTER COLUMN word TYPE varchar(9)")
        other.close()
        assert first_read(read) == [("a",)]
        assert plans() == [(1,)]  # of the new connection
    finally:
        change("DROP TABLE prepared_words")


@pytest.mark.django_db(transaction=True)
def test_nothing_is_prepared_where_another_process_answers_than_was_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pooler gives its clients numbers of its own."""
    connection.close()
    connection.ensure_connection()
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda _: 4711))

    for _ in range(3):
        with prepared_cursor() as cursor:
            cursor.execute("SELECT %s::int", [1])
            assert cursor.fetchall() == [(1,)]

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        assert cursor.fetchone() == (0,)
    connection.close()


def test_a_limit_is_counted_in_one_trip_and_forgotten_after_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = CountingRedisCache(settings.REDIS_URL, {"KEY_PREFIX": f"test-{uuid7()}"})
    shared.count_up("limit", seconds=65)
    trips: list[Any] = []
    send = AbstractConnection.send_packed_command
    monkeypatch.setattr(
        AbstractConnection,
        "send_packed_command",
        lambda self, command, *args, **kwargs: (trips.append(command), send(self, command, *args, **kwargs))[1],
    )

    assert shared.count_up("limit", seconds=65) == 2
    assert len(trips) == 1
    assert shared.count_up("another", seconds=65) == 1
    redis = shared._cache.get_client()
    assert 0 < redis.ttl(shared.make_key("limit")) <= 65
    assert redis is shared._cache.get_client()
    shared.delete_many(["limit", "another"])


def test_requests_go_on_while_the_counter_is_away(
    organisation: Organisation, client_of: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = CountingRedisCache("redis://127.0.0.1:9/0", {"OPTIONS": {"socket_connect_timeout": 0.2}})
    monkeypatch.setattr(throttling, "cache", away)

    assert client_of(organisation, "customer.view").get("/api/v1/customers").status_code == 200


def test_a_counter_of_the_cache_begins_anew_once_it_is_forgotten() -> None:
    local = CountingLocalCache("counters", {})

    assert [local.count_up("limit", seconds=65) for _ in range(3)] == [1, 2, 3]
    local.delete("limit")
    assert local.count_up("limit", seconds=65) == 1
