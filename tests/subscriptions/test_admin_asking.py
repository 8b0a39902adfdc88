"""What the console asks about a subscription: add-ons, other plans, and rows that are found while one writes."""

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from billing.admin.base import path_to
from billing.masking import mask_name
from billing.models import AuditRecord, Organisation
from billing.services import organisations
from subscriptions.models import EntitlementGrant, Subscription
from subscriptions.services.entitlements import features
from tests.subscriptions.house import (
    CLERK,
    amounts,
    flat,
    fresh,
    invoices_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
)

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


@pytest.fixture
def house() -> Organisation:
    return make_organisation(local("2026-04-01 09:00"))


def client_of(organisation: Organisation, role: str = "manager") -> Client:
    email = f"{role}@{organisation.code}.test"
    member = organisations.add_member(organisation=organisation, email=email, role=role, password=PASSWORD)
    client = Client()
    client.force_login(member.user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def subscription(house: Organisation) -> Subscription:
    """₹300 a month beside ₹60 for each storage, none of which is taken."""
    plan = make_plan(house, flat("300"), seats("60", code="storage", name="Storage", kind="add_on"))
    made = subscribe(make_customer(house), plan)
    run(house)
    turn(house, local("2026-04-16 00:00"))
    return fresh(made)


def asked(row: Subscription, action: str) -> str:
    return reverse(f"admin:subscriptions_subscription_{action}", args=[row.pk])


def text_of(page: Any) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page.content.decode())))


# --- add-ons ---------------------------------------------------------------------------------------
def test_add_ons_are_foretold_and_then_taken(house: Organisation, subscription: Subscription) -> None:
    client, said = client_of(house), {"confirm": "yes", "add_on_storage": "2", "prorate": "on", "reason": "They asked"}
    looked = client.post(asked(subscription, "change_add_ons"), {**said, "look": "1"})

    assert "Nothing is done yet." in text_of(looked)
    assert "₹60.00" in text_of(looked), "half of the month's ₹120.00"
    assert fresh(subscription).add_ons == {}
    assert amounts(invoices_of(subscription)) == ["300.00"]

    client.post(asked(subscription, "change_add_ons"), said)
    page = text_of(client.get(path_to(subscription)))

    assert fresh(subscription).add_ons == {"storage": 2}
    assert amounts(invoices_of(subscription)) == ["300.00", "60.00"]
    assert AuditRecord.objects.get(action="subscription.add_ons_changed").reason == "They asked"
    assert "Storage storage 2 ₹120.00" in page


def test_the_form_stands_as_it_is_and_changes_nothing_by_itself(
    house: Organisation, subscription: Subscription
) -> None:
    client = client_of(house)
    client.post(
        asked(subscription, "change_add_ons"),
        {"confirm": "yes", "add_on_storage": "2", "prorate": "on", "reason": "More"},
    )
    form = client.get(asked(subscription, "change_add_ons")).content.decode()
    again = client.post(
        asked(subscription, "change_add_ons"), {"confirm": "yes", "add_on_storage": "2", "prorate": "on", "reason": "Again"}, follow=True
    )  # fmt: skip

    assert re.search(r'name="add_on_storage"[^>]*value="2"|value="2"[^>]*name="add_on_storage"', form)
    assert "The subscription has these add-ons already." in text_of(again)
    assert amounts(invoices_of(subscription)) == ["300.00", "60.00"]


def test_a_plan_without_add_ons_offers_none(house: Organisation) -> None:
    plain = subscribe(make_customer(house), make_plan(house, flat("300")))
    page = text_of(client_of(house).get(path_to(plain)))

    assert "Add-ons" not in page
    assert "Change add-ons" not in page


def test_a_clerk_of_another_organisation_finds_nothing(house: Organisation, subscription: Subscription) -> None:
    stranger = client_of(make_organisation(local("2026-04-01 09:00")))

    assert stranger.get(asked(subscription, "change_add_ons")).status_code == 404
    assert (
        subscription.external_id not in stranger.get(reverse("admin:subscriptions_subscription_find")).content.decode()
    )


def test_why_is_asked_last(house: Organisation, subscription: Subscription) -> None:
    client = client_of(house)

    for action, first in (("change_quantity", "plan"), ("pause", "on_0"), ("change_add_ons", "add_on_storage")):
        names = re.findall(
            r'<(?:input|select|textarea)[^>]* name="([a-z_0-9]+)"',
            client.get(asked(subscription, action)).content.decode(),
        )
        asks = [name for name in names if name not in ("csrfmiddlewaretoken", "confirm", "look", "s")]
        assert (asks[0], asks[-1]) == (first, "reason"), action


# --- another plan ----------------------------------------------------------------------------------
def test_plans_are_chosen_from_those_that_it_could_have(house: Organisation, subscription: Subscription) -> None:
    make_plan(house, flat("450"), code="larger")
    make_plan(house, flat("9", currency="USD"), code="abroad")
    make_plan(make_organisation(local("2026-04-01 09:00")), flat("1"), code="theirs")
    page = client_of(house).get(asked(subscription, "change_quantity")).content.decode()

    assert re.search('<option value="larger">larger: Plan [0-9]+</option>', page)
    assert "abroad" not in page, "it has no price in the subscription's currency"
    assert "theirs" not in page


# --- finding ---------------------------------------------------------------------------------------
def test_a_customer_is_found_while_one_writes_and_stays_masked(house: Organisation) -> None:
    first, other = make_customer(house), make_customer(house)
    make_customer(make_organisation(local("2026-04-01 09:00")))
    client = client_of(house)
    where = reverse("admin:billing_customer_find")

    [found] = client.get(where, {"q": first.external_id}).json()["rows"]
    assert found == {"value": first.external_id, "text": mask_name(first.name)}
    assert first.name not in client.get(where).content.decode()
    assert {row["value"] for row in client.get(where).json()["rows"]} == {first.external_id, other.external_id}
    assert client.get(where, {"q": "nobody"}).json() == {"rows": []}


def test_who_may_not_see_a_list_finds_nothing_in_it(house: Organisation) -> None:
    make_customer(house)

    assert client_of(house, "admin").get(reverse("admin:billing_customer_find")).status_code == 403
    assert Client().get(reverse("admin:billing_customer_find")).status_code == 302


def test_the_fields_say_where_they_find(house: Organisation) -> None:
    page = client_of(house).get(reverse("admin:subscriptions_entitlementgrant_add_grant")).content.decode()

    assert f'data-find="{reverse("admin:billing_customer_find")}"' in page
    assert f'data-find="{reverse("admin:subscriptions_subscription_find")}" data-beside="customer"' in page
    assert "console/find.js" in page


# --- exceptions ------------------------------------------------------------------------------------
def test_the_feature_of_an_exception_is_chosen(house: Organisation) -> None:
    features.create_feature(organisation=house, actor=CLERK, code="sso", name="Single sign-on", kind="boolean")
    old = features.create_feature(organisation=house, actor=CLERK, code="fax", name="Fax", kind="boolean")
    features.archive_feature(feature_id=old.pk, actor=CLERK, reason="Nobody has one")
    customer = make_customer(house)
    client, where = client_of(house), reverse("admin:subscriptions_entitlementgrant_add_grant")
    said = {"confirm": "yes", "organisation": str(house.pk), "customer": customer.external_id, "kind": "override", "what": "included",
            "reason": "Promised"}  # fmt: skip

    page = client.get(where).content.decode()
    refused = client.post(where, {**said, "feature": "fax"})
    client.post(where, {**said, "feature": "sso"})

    assert '<option value="sso">Single sign-on (sso)</option>' in page
    assert "fax" not in page
    assert "Select a valid choice" in text_of(refused)
    assert [one.feature.code for one in EntitlementGrant.objects.of(house)] == ["sso"]
