"""What every address has in common: health, headers, the API's description."""

import json
import logging
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from billing.models import User
from config import health


def test_healthz_answers_without_a_database(client: Client) -> None:
    answer = client.get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.django_db
def test_readyz_is_ready_when_everything_answers(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(health.CHECKS, "broker", lambda: None)

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "checks": {"database": "ok", "migrations": "ok", "broker": "ok"}}


@pytest.mark.django_db
def test_readyz_names_what_does_not_answer_and_not_why(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def down() -> None:
        raise OperationalError("password of munim at db.internal refused")

    monkeypatch.setitem(health.CHECKS, "database", down)
    monkeypatch.setitem(health.CHECKS, "broker", lambda: None)

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "OperationalError"
    assert b"password" not in answer.content


def test_pages_load_nothing_from_elsewhere_and_run_no_inline_script(client: Client) -> None:
    policy = client.get("/healthz").headers["Content-Security-Policy"]

    assert "default-src 'self'" in policy
    assert "unsafe-inline" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.django_db
def test_only_the_console_and_the_api_reference_may_run_inline_script(client: Client) -> None:
    for path in ("/console/login/", "/api/docs/"):
        answer = client.get(path)

        assert answer.status_code == 200
        assert "script-src 'self' 'unsafe-inline' 'unsafe-eval'" in answer.headers["Content-Security-Policy"]


@pytest.mark.django_db
def test_the_api_reference_comes_from_this_server(client: Client) -> None:
    page = client.get("/api/docs/").content.decode()

    assert "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js" in page
    assert "https://cdn" not in page


@pytest.mark.django_db
def test_the_api_describes_itself_as_openapi_3_1(client: Client) -> None:
    schema = json.loads(client.get("/api/schema/", {"format": "json"}, headers={"Accept": "application/json"}).content)

    assert schema["openapi"] == "3.1.0"
    assert schema["info"]["title"] == "Munim"
    assert all(path.startswith("/api/v1/") for path in schema["paths"])


def test_a_request_has_one_line_in_the_log(client: Client) -> None:
    logger = logging.getLogger("django_structlog.middlewares.request")
    lines: list[tuple[str, Any]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.levelname, record.msg))  # type: ignore[method-assign]
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        client.get("/healthz", headers={"user-agent": "watcher"})
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)

    [(level, said)] = lines
    assert (level, said["event"], said["code"], said["request"]) == ("INFO", "request_finished", 200, "GET /healthz")
    assert (said["user_agent"], said["ip"], type(said["ms"])) == ("watcher", "127.0.0.1", float)


def test_the_bare_address_leads_to_the_console(client: Client) -> None:
    answer = client.get("/")

    assert (answer.status_code, answer.headers["Location"]) == (302, "/console/")


@pytest.mark.django_db
def test_who_may_not_is_told_on_a_page_like_any_other(client: Client) -> None:
    client.force_login(User.objects.create_user("nobody@munim.example", "correct horse battery", is_staff=True))

    answer = client.get("/console/billing/ledgeraccount/trial_balance/")

    assert answer.status_code == 403
    assert b"<h1>Permission denied</h1>" in answer.content
    assert b'href="/console/"' in answer.content


@pytest.mark.django_db
def test_a_form_from_elsewhere_is_refused_in_words() -> None:
    answer = Client(enforce_csrf_checks=True).post("/console/login/", {"username": "a@b.example", "password": "x"})

    assert answer.status_code == 403
    assert b"<h1>Form expired</h1>" in answer.content
    assert b"Nothing was changed." in answer.content
    assert b"DEBUG" not in answer.content
