"""Idempotency-Key: one effect, one answer."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from psycopg.errors import DeadlockDetected
from rest_framework.test import APIClient

from billing.clock import wall_now
from billing.errors import DomainError
from billing.models import ApiKey, Customer, IdempotencyRecord, Organisation
from billing.services import customers

Clients = Callable[..., APIClient]
PATH = "/api/v1/customers"
BODY = {"external_id": "c-1", "name": "Asha Verma"}


def post(client: APIClient, body: dict[str, Any], key: str = "k-1", path: str = PATH) -> Any:
    return client.post(path, body, headers={"Idempotency-Key": key})


def test_the_same_request_gets_the_same_bytes_and_happens_once(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation)

    first, second = post(client, BODY), post(client, {"name": "Asha Verma", "external_id": "c-1"})

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert first["Content-Type"] == second["Content-Type"]
    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"
    assert Customer.objects.count() == 1


def test_the_kept_answer_tells_nothing_to_who_reads_the_table(organisation: Organisation, client_of: Clients) -> None:
    """Answers carry names, addresses and secrets that are shown once; those are nowhere stored as they are."""
    client = client_of(organisation)
    person, key = BODY | {"email": "asha@families.example"}, {"name": "shop", "scopes": ["invoice.view"]}

    shown = [post(client, person, "k-1"), post(client, key, "k-2", path="/api/v1/api-keys")]
    again = [post(client, person, "k-1"), post(client, key, "k-2", path="/api/v1/api-keys")]

    kept = b"".join(bytes(row.response_body) for row in IdempotencyRecord.objects.all())
    assert [answer.content for answer in again] == [answer.content for answer in shown]
    for told in (b"Asha", b"asha@families.example", shown[1].json()["secret"].encode()):
        assert told in shown[0].content + shown[1].content
        assert told not in kept
    assert ApiKey.objects.filter(name="shop").count() == 1


def test_an_answer_kept_by_an_earlier_version_is_still_given(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation)
    first = post(client, BODY)
    IdempotencyRecord.objects.update(response_body=first.content)

    assert post(client, BODY).content == first.content


def test_a_refusal_is_repeated_too(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation)

    first, second = post(client, BODY | {"name": ""}), post(client, BODY | {"name": ""})

    assert (first.status_code, second["Idempotent-Replayed"]) == (422, "true")
    assert first.content == second.content


def test_another_body_or_address_under_the_key_is_refused(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation)
    made = post(client, BODY).json()

    other_body = post(client, BODY | {"external_id": "c-2"})
    other_path = post(client, BODY, path=f"{PATH}/{made['id']}/beneficiaries")

    assert [(r.status_code, r.json()["code"]) for r in (other_body, other_path)] == [
        (422, "idempotency_key_reused")
    ] * 2
    assert Customer.objects.count() == 1


def test_a_running_request_answers_409(
    organisation: Organisation, client_of: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(organisation)
    during: list[Any] = []
    real = customers.create_customer

    def slow(**values: Any) -> Customer:
        during.append(post(client, BODY))
        return real(**values)

    monkeypatch.setattr(customers, "create_customer", slow)
    done = post(client, BODY)

    assert done.status_code == 201
    assert (during[0].status_code, during[0].json()["code"], during[0]["Retry-After"]) == (
        409,
        "idempotency_key_in_use",
        "2",
    )


def test_a_failure_of_ours_is_not_kept(
    organisation: Organisation, client_of: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(organisation)
    client.raise_request_exception = False
    with monkeypatch.context() as broken:
        broken.setattr(customers, "create_customer", lambda **_: 1 / 0)
        assert post(client, BODY).status_code == 500

    assert post(client, BODY).status_code == 201
    assert IdempotencyRecord.objects.get().response_status == 201


class Passing(DomainError):
    code = "passing"
    is_transient = True


def deadlock(**_: Any) -> None:
    victim = OperationalError("deadlock detected")
    raise victim from DeadlockDetected()


def passing(**_: Any) -> None:
    raise Passing


@pytest.mark.parametrize(("trouble", "code"), [(deadlock, "busy"), (passing, "passing")])
def test_a_refusal_that_passes_gives_the_key_back(
    organisation: Organisation,
    client_of: Clients,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Callable[..., None],
    code: str,
) -> None:
    client = client_of(organisation)
    with monkeypatch.context() as troubled:
        troubled.setattr(customers, "create_customer", trouble)
        refused = post(client, BODY)
    again = post(client, BODY)

    assert (refused.status_code, refused.json()["code"]) == (409, code)
    assert again.status_code == 201
    assert "Idempotent-Replayed" not in again.headers


def test_a_key_whose_holder_died_is_taken_over(organisation: Organisation, client_of: Clients) -> None:
    client = client_of(organisation)
    post(client, BODY)
    IdempotencyRecord.objects.update(
        response_status=None, response_body=None, locked_until=wall_now() + timedelta(seconds=5)
    )
    Customer.objects.all().update(external_id="before the crash")
    assert post(client, BODY).status_code == 409

    IdempotencyRecord.objects.update(locked_until=wall_now() - timedelta(seconds=1))

    assert post(client, BODY).status_code == 201
    assert post(client, BODY)["Idempotent-Replayed"] == "true"


def test_a_holder_that_was_given_up_and_lives_changes_nothing(
    organisation: Organisation, client_of: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slower than its lock: the request that took the key over does the work, the late one takes its own back."""
    client = client_of(organisation)
    real = customers.create_customer

    def slow(**values: Any) -> Customer:
        made = real(**values)
        IdempotencyRecord.objects.update(locked_until=wall_now() + timedelta(hours=1))  # another one has it now
        return made

    with monkeypatch.context() as late:
        late.setattr(customers, "create_customer", slow)
        answer = post(client, BODY)

    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_in_use")
    assert Customer.objects.count() == 0
    assert IdempotencyRecord.objects.get().response_status is None


def test_keys_of_organisations_are_apart(organisation: Organisation, other: Organisation, client_of: Clients) -> None:
    first, second = post(client_of(organisation), BODY), post(client_of(other), BODY)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "ümlaut"])
def test_malformed_keys_are_refused(organisation: Organisation, client_of: Clients, key: str) -> None:
    response = post(client_of(organisation), BODY, key=key)

    assert (response.status_code, response.json()["code"]) == (422, "invalid_idempotency_key")
    assert not Customer.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_thirty_two_at_once_have_one_effect(make_organisation: Callable[..., Organisation], client_of: Clients) -> None:
    organisation = make_organisation()
    client_of(organisation)
    credentials = client_of(organisation)._credentials or client_of(organisation).defaults
    barrier = threading.Barrier(32)
    answers: list[tuple[int, bytes, str]] = []

    def send() -> None:
        try:
            barrier.wait()
            response = post(APIClient(**credentials), BODY)
            answers.append((response.status_code, response.content, response.get("Idempotent-Replayed", "")))
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 32
    assert {status for status, _, _ in answers} <= {201, 409}
    created = [body for status, body, _ in answers if status == 201]
    assert len(set(created)) == 1
    assert len([1 for status, _, again in answers if status == 201 and not again]) == 1
    assert Customer.objects.count() == 1
