"""A console page of a row that is not there says so, names what was looked for, and leads back to the list."""

import re
import uuid

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from billing.clock import wall_now
from billing.models import Customer, Membership, Organisation, User

pytestmark = pytest.mark.django_db
NOBODY = "0198a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b"
PAGES = sorted(f"{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry)


def signed_in(**more: bool) -> Client:
    user = User.objects.create_user(f"{uuid.uuid4().hex}@munim.example", "a long password", is_staff=True, **more)
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    client.user = user
    return client


def organisation(code: str) -> Organisation:
    return Organisation.objects.create(code=code, name=code, currency="INR", country="IN")


def customer(of: Organisation) -> Customer:
    return Customer.objects.create(
        organisation=of, external_id="c1", name="Asha", currency="INR", created_at=wall_now()
    )


def test_every_page_of_a_row_that_is_not_there_answers_404_and_leads_to_its_list() -> None:
    organisation("house")
    operator = signed_in(is_superuser=True)
    for page in PAGES:
        for name, address in (("change", reverse(f"admin:{page}_change", args=[NOBODY])),
                              ("history", reverse(f"admin:{page}_history", args=[NOBODY]))):  # fmt: skip
            answer = operator.get(address)
            assert answer.status_code == 404, (page, name, answer.status_code)
            said = answer.content.decode()
            assert NOBODY in said, page
            assert f'<a href="{reverse(f"admin:{page}_changelist")}">To the list of ' in said, page


def test_another_organisation_s_row_cannot_be_told_from_one_that_never_was() -> None:
    mine, other = organisation("mine"), organisation("other")
    client = signed_in()
    Membership.objects.create(organisation=mine, user=client.user, role="manager")
    own, foreign = customer(mine), customer(other)
    page = "admin:billing_customer_change"
    assert client.get(reverse(page, args=[own.pk])).status_code == 200
    answers = [client.get(reverse(page, args=[one])) for one in (foreign.pk, NOBODY)]
    said = [
        re.sub(r"Correlation id: <code>[^<]*", "", answer.content.decode().replace(asked, "ID"))
        for answer, asked in zip(answers, (str(foreign.pk), NOBODY), strict=True)
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert said[0] == said[1]
    assert "There is no customer &#x27;ID&#x27; among the customers that you may see." in said[0]


def test_what_was_asked_for_is_shown_as_text_and_cut() -> None:
    organisation("house")
    operator = signed_in(is_superuser=True)
    said = operator.get("/console/billing/customer/<script>alert(1)<_2Fscript>/change/").content.decode()
    assert "<script>alert" not in said
    assert "&lt;script&gt;alert(1)" in said
    said = operator.get(f"/console/billing/customer/{'x' * 300}/change/").content.decode()
    assert f"&#x27;{'x' * 60}…&#x27;" in said
    assert "x" * 61 not in said


def test_an_action_on_a_row_that_is_not_there_answers_the_same() -> None:
    organisation("house")
    operator = signed_in(is_superuser=True)
    answer = operator.get(f"/console/payments/payment/{NOBODY}/retry/")
    assert answer.status_code == 404
    assert "To the list of payments" in answer.content.decode()
