"""Too many wrong passwords: then not even the right one opens, over the API and the console alike."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from rest_framework.test import APIClient

from billing.models import User

PASSWORD = "correct horse battery"
LIMIT = 3

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def watched(settings: Any) -> None:
    settings.AXES_ENABLED = True
    settings.AXES_FAILURE_LIMIT = LIMIT
    cache.clear()
    for name in ("asha", "bela"):
        User.objects.create_user(f"{name}@munim.example", PASSWORD, is_staff=True)


def over_the_api(name: str, password: str) -> Any:
    return APIClient().post("/api/v1/auth/login", {"email": name, "password": password})


def in_the_console(name: str, password: str) -> Any:
    return Client().post("/console/login/?next=/console/", {"username": name, "password": password})


WAYS = pytest.mark.parametrize(
    ("sign_in", "opens", "refuses"), [(over_the_api, 200, 401), (in_the_console, 302, 200)], ids=["api", "console"]
)


@WAYS
def test_the_right_password_does_not_open_after_too_many_wrong_ones(
    sign_in: Callable[..., Any], opens: int, refuses: int
) -> None:
    answers = [sign_in("asha@munim.example", "wrong").status_code for _ in range(LIMIT)]

    locked = sign_in("asha@munim.example", PASSWORD)

    assert answers == [refuses] * (LIMIT - 1) + [429]
    assert locked.status_code == 429
    assert locked["Retry-After"] == "900"
    assert b"15 minutes" in locked.content
    assert sign_in("Asha@Munim.example", PASSWORD).status_code == 429, "written otherwise it is the same name"
    assert sign_in("bela@munim.example", PASSWORD).status_code == opens, "others sign in as ever"


@WAYS
def test_signing_in_forgets_the_wrong_ones_before(sign_in: Callable[..., Any], opens: int, refuses: int) -> None:
    for _ in range(2):
        for _ in range(LIMIT - 1):
            assert sign_in("asha@munim.example", "wrong").status_code == refuses
        assert sign_in("asha@munim.example", PASSWORD).status_code == opens


def test_programs_are_told_in_a_problem_document_and_people_on_a_page() -> None:
    for _ in range(LIMIT):
        over_the_api("asha@munim.example", "wrong")

    problem = over_the_api("asha@munim.example", PASSWORD)
    page = in_the_console("asha@munim.example", PASSWORD)

    assert problem["Content-Type"] == "application/problem+json"
    assert problem.json()["code"] == "sign_in_locked"
    assert page["Content-Type"] == "text/html; charset=utf-8"
    assert b"<h1>Sign in locked</h1>" in page.content


def test_people_write_their_address_as_they_like() -> None:
    assert in_the_console("ASHA@munim.example", PASSWORD).status_code == 302
    assert over_the_api("ASHA@munim.example", PASSWORD).status_code == 200


def test_an_address_that_does_not_exist_is_a_page_for_people(client: Client) -> None:
    page = client.get("/nowhere")

    assert (page.status_code, b"There is nothing at this address." in page.content) == (404, True)
