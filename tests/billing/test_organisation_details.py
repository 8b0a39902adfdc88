"""What documents print about the organisation, and what it chooses: changed by those who may, on the record, checked first."""

import base64
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from PIL import Image, ImageFile
from rest_framework.test import APIClient

from billing.models import AuditRecord, BillingParty, Organisation
from billing.services import organisations

Clients = Callable[..., APIClient]
PATH = "/api/v1/organisation"
PASSWORD = "correct horse battery"


def picture(kind: str = "PNG", size: tuple[int, int] = (60, 20)) -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", size, "#0f766e").save(drawn, kind)
    return drawn.getvalue()


def uri(image: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


@pytest.fixture
def school(db: None) -> Organisation:
    return organisations.create_organisation(
        code="sunrise-valley", name="Sunrise Valley", currency="INR", country="IN", region="29",
        time_zone="Asia/Kolkata", financial_year_start=4, details={"email": "office@sunrise.example"},
    )  # fmt: skip


def test_a_change_makes_a_new_version_and_leaves_the_former_one(school: Organisation, client_of: Clients) -> None:
    before = BillingParty.objects.get(pk=school.party_id)
    body = {
        "name": "Sunrise Valley School",
        "phone": "080 2555 1234",
        "address": {"line1": "12 MG Road", "city": "Bengaluru", "postal_code": "560001"},
        "upi_id": "sunrise@hdfcbank",
        "bank": {"name": "HDFC Bank", "account": "50100044174417", "ifsc": "hdfc0000417"},
    }

    answer = client_of(school).patch(PATH, body)

    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert (told["name"], told["details"]["phone"]) == ("Sunrise Valley School", "+918025551234")
    assert told["details"]["email"] == "office@sunrise.example", "what is not named stays"
    assert told["details"]["bank"] == {"name": "HDFC Bank", "account": "50100044174417", "ifsc": "HDFC0000417"}
    school.refresh_from_db()
    assert school.party_id != before.pk
    assert BillingParty.objects.get(pk=before.pk).details["name"] == "Sunrise Valley"
    record = AuditRecord.objects.get(action="organisation.details_changed")
    assert record.after == {"changed": ["address", "bank", "name", "phone", "upi_id"]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bank": {"iban": "DE89370400440532013001"}}, "bank.iban"),
        ({"bank": {"ifsc": "HDFC1234"}}, "bank.ifsc"),
        ({"bank": {"bic": "X"}}, "bank.bic"),
        ({"upi_id": "nobody"}, "upi_id"),
        ({"tax_ids": {"gstin": "29AAFCT2207K1ZK"}}, "tax_ids.gstin"),
        ({"address": {"line1": "x", "country": "DE"}}, "address.country"),
        ({"language": "xx"}, "language"),
        ({"name": ""}, "name"),
        ({"currency": "EUR"}, "currency"),
        ({"settings": {"colour": "red"}}, "settings.colour"),
        ({"settings": {"net_days": -1}}, "settings.net_days"),
        ({"settings": {"net_days": "10"}}, "settings.net_days"),
        ({"settings": {"net_days": True}}, "settings.net_days"),
        ({"settings": {"mail_invoices": "yes"}}, "settings.mail_invoices"),
        ({"settings": {"gst_export": "none"}}, "settings.gst_export"),
        ({"settings": {"brand_color": "red"}}, "settings.brand_color"),
        ({"settings": {"logo": "data:image/png;base64,AAAA"}}, "settings.logo"),
        ({"settings": {"logo": uri(picture()[:-30])}}, "settings.logo"),
        ({"settings": {"logo": uri(picture(), "image/jpeg")}}, "settings.logo"),
        ({"settings": {"logo": uri(picture(size=(4000, 1001)))}}, "settings.logo"),
        ({"settings": {"invoice_series": "sv"}}, "settings.invoice_series"),
        ({"settings": {"invoice_series": "SUNR"}}, "settings.invoice_series"),
        ({"settings": {"credit_note_series": "SV"}}, "settings.credit_note_series"),
        ({"settings": {"invoice_series": "AB", "credit_note_series": "AB"}}, "settings.invoice_series"),
        ({"settings": {"reconciliation": {"bank_holidays": ["15 August"]}}}, "settings.reconciliation"),
        ({"settings": {"subscriptions": {"proration": "hour"}}}, "settings.subscriptions"),
        ({"settings": {"entitlements": {"statuses": {"active": "all"}}}}, "settings.entitlements"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(
    school: Organisation, client_of: Clients, change: dict[str, Any], field: str
) -> None:
    answer = client_of(school).patch(PATH, {"phone": "+918025551234"} | change)

    assert answer.status_code == 422, answer.content
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    row = Organisation.objects.get(pk=school.pk)
    assert (row.party_id, row.settings, row.name) == (school.party_id, {}, "Sunrise Valley")
    assert (
        not AuditRecord.objects.filter(action__startswith="organisation.")
        .exclude(action="organisation.created")
        .exists()
    )


def test_choices_are_kept_and_given_back(school: Organisation, client_of: Clients) -> None:
    logo = uri(picture("JPEG"), "image/jpeg")
    wanted = {
        "net_days": 10, "brand_color": "#0f766e", "logo": logo, "invoice_series": "SVS", "mail_invoices": False,
        "reconciliation": {"bank_holidays": ["2026-08-15", "2026-01-26"]}, "subscriptions": {"proration": "none"},
        "entitlements": {"thresholds": [80, 100], "statuses": {"past_due": "none"}},
    }  # fmt: skip

    chosen = client_of(school).patch(PATH, {"settings": wanted}).json()["settings"]
    back = client_of(school).patch(PATH, {"settings": {"net_days": None, "logo": None}}).json()["settings"]

    assert chosen == wanted | {"reconciliation": {"bank_holidays": ["2026-01-26", "2026-08-15"]}}
    assert set(back) == set(wanted) - {"net_days", "logo"}
    first = AuditRecord.objects.filter(action="organisation.choices_changed").earliest("pk")
    assert (first.before["net_days"], first.after["net_days"]) == (None, 10)
    assert first.after["logo"] == logo[:80], "a picture only by its beginning"


def test_only_who_may_changes_it(school: Organisation, client_of: Clients) -> None:
    answer = client_of(school, "organisation.view").patch(PATH, {"name": "Mine"})

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert Organisation.objects.get(pk=school.pk).name == "Sunrise Valley"


# --- in the console -------------------------------------------------------------------------------
def signed_in(school: Organisation, role: str) -> Client:
    organisations.add_member(organisation=school, email=f"{role}@sunrise.example", role=role, password=PASSWORD)
    client = Client()
    assert client.login(username=f"{role}@sunrise.example", password=PASSWORD)
    return client


def page(school: Organisation, action: str) -> str:
    return reverse(f"admin:billing_organisation_{action}", args=[school.pk])


def test_an_administrator_writes_details_and_choices_in_the_console(school: Organisation) -> None:
    client = signed_in(school, "admin")
    details = {
        "confirm": "1", "name": "Sunrise Valley", "language": "hi", "email": "office@sunrise.example",
        "upi_id": "sunrise@hdfcbank", "address_line1": "12 MG Road", "reason": "We moved",
    }  # fmt: skip
    logo = SimpleUploadedFile("logo.png", picture(), content_type="image/png")

    first = client.post(page(school, "change_details"), details)
    second = client.post(page(school, "change_choices"), {"confirm": "1", "net_days": "7", "mail_invoices": "false",
                                                           "logo": logo, "reason": "New brand"})  # fmt: skip

    assert (first.status_code, second.status_code) == (302, 302)
    school.refresh_from_db()
    assert (school.language, school.party.details["address"]["line1"]) == ("hi", "12 MG Road")
    assert school.settings == {"net_days": 7, "mail_invoices": False, "logo": uri(picture())}
    reasons = AuditRecord.objects.filter(action__in=["organisation.details_changed", "organisation.choices_changed"])
    assert sorted(reasons.values_list("reason", flat=True)) == ["New brand", "We moved"]
    shown = client.get(f"/console/billing/organisation/{school.pk}/change/").content.decode()
    assert "sunrise@hdfcbank" in shown
    assert "12 MG Road, Karnataka (29), India" in shown
    assert "a picture" in shown


def test_a_logo_that_is_cut_off_is_refused_when_documents_were_drawn_before(
    school: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as WeasyPrint leaves it
    client, where = signed_in(school, "admin"), page(school, "change_choices")

    for size in (-13, -30):
        logo = SimpleUploadedFile("logo.png", picture()[:size], content_type="image/png")
        answer = client.post(where, {"confirm": "1", "reason": "New brand", "logo": logo})
        assert "The picture is broken and cannot be read." in answer.content.decode()
    assert Organisation.objects.get(pk=school.pk).settings == {}


def test_a_logo_is_taken_away_in_the_console_and_another_one_wins_over_that(school: Organisation) -> None:
    client, where = signed_in(school, "admin"), page(school, "change_choices")
    assert "Take the logo away" not in client.get(where).content.decode(), "there is none"

    def send(**said: object) -> dict[str, object]:
        assert client.post(where, {"confirm": "1", "reason": "New brand", **said}).status_code == 302
        return Organisation.objects.get(pk=school.pk).settings

    def logo() -> SimpleUploadedFile:
        return SimpleUploadedFile("logo.png", picture(), content_type="image/png")

    assert send(logo=logo()) == {"logo": uri(picture())}
    assert "Take the logo away" in client.get(where).content.decode()
    assert send(net_days="9") == {"logo": uri(picture()), "net_days": 9}, "an empty file field says nothing"
    assert send(net_days="9", no_logo="on") == {"net_days": 9}
    assert send(net_days="9", logo=logo()) == {"logo": uri(picture()), "net_days": 9}
    assert send(net_days="9", no_logo="on", logo=logo()) == {"logo": uri(picture()), "net_days": 9}


def test_a_broken_logo_is_refused_in_the_console(school: Organisation) -> None:
    client = signed_in(school, "admin")
    broken = SimpleUploadedFile("logo.png", b"GIF89a", content_type="image/png")

    answer = client.post(page(school, "change_choices"), {"confirm": "1", "logo": broken, "reason": "New brand"})

    assert answer.status_code == 200
    assert "Expected a PNG or JPEG picture" in answer.content.decode()
    assert Organisation.objects.get(pk=school.pk).settings == {}


def test_a_manager_is_not_offered_what_administrators_do(school: Organisation) -> None:
    client = signed_in(school, "manager")

    shown = client.get(f"/console/billing/organisation/{school.pk}/change/").content.decode()

    assert "Change details" not in shown
    assert client.post(page(school, "change_choices"), {"confirm": "1", "reason": "Mine"}).status_code == 403
