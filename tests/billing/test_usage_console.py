"""Console pages of usage: a measurement is corrected by hand, a parked event taken in, a file brought and its errors fetched."""

import re
from decimal import Decimal

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from billing.admin.base import path_to
from billing.models import Customer, ParkedUsage, Role, UsageEvent, UsageImport, UsageRevision
from billing.services import usage_imports, usage_policy
from billing.services.meters import create_meter
from billing.services.usage import ingest
from tests.subscriptions.house import CLERK, local, make_customer, make_organisation
from tests.subscriptions.test_console import browser

HEADING = "event_id,meter,customer,occurred_at,quantity"
AT = "2026-03-31T10:00:00Z"


@pytest.fixture
def tenant(db):
    tenant = make_organisation(local("2026-04-01 09:00"))
    create_meter(organisation=tenant, code="calls", name="Calls", aggregation="sum", unit="call", actor=CLERK)
    usage_policy.change_policy(organisation=tenant, actor=CLERK, unknown="park")
    return tenant


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


def measure(tenant, customer, event_id, quantity="250"):
    told = {"event_id": event_id, "meter": "calls", "customer": customer, "quantity": quantity, "occurred_at": AT}
    ingest(organisation=tenant, events=[told])


def post(client, action, row, **given):
    model = row._meta.model_name
    return client.post(
        reverse(f"admin:billing_{model}_{action}", args=[row.pk]), {"confirm": "yes", **given}, follow=True
    )


def test_a_measurement_is_corrected_and_voided_with_a_reason(tenant, customer):
    measure(tenant, customer.external_id, "u1")
    event, manager = UsageEvent.objects.get(), browser(tenant, Role.MANAGER)

    post(manager, "correct", event, quantity="many", reason="Counted twice")
    assert not UsageRevision.objects.exists()
    post(manager, "correct", event, quantity="200.5", reason="Counted twice")
    corrected = manager.get(path_to(event)).content.decode()
    post(manager, "void", event, reason="A test of ours")

    kinds = list(UsageRevision.objects.order_by("number").values_list("kind", "quantity", "is_current"))
    assert kinds == [("replace", Decimal("200.5"), False), ("void", None, True)]
    assert "200.5" in corrected
    assert "Counted twice" in corrected
    assert "200.500" not in corrected


def test_only_who_may_send_usage_corrects_it(tenant, customer):
    measure(tenant, customer.external_id, "u1")
    auditor = browser(tenant, Role.AUDITOR)

    answer = post(auditor, "void", UsageEvent.objects.get(), reason="Looks odd")

    assert answer.status_code == 403
    assert not UsageRevision.objects.exists()


def test_a_parked_event_is_taken_in_once_its_customer_is_there(tenant):
    measure(tenant, "late-comer", "u1")
    row, manager = ParkedUsage.objects.get(), browser(tenant, Role.MANAGER)

    waits = post(manager, "retry", row).content.decode()
    Customer.objects.filter(pk=make_customer(tenant).pk).update(external_id="late-comer")
    taken = post(manager, "retry", row).content.decode()

    assert "still waits" in waits
    assert "is taken in" in taken
    assert UsageEvent.objects.get().event_id == "u1"


def test_a_parked_event_is_dismissed_with_a_reason(tenant):
    measure(tenant, "nobody", "u1")
    row = ParkedUsage.objects.get()

    post(browser(tenant, Role.MANAGER), "dismiss", row, reason="Sent by mistake")

    row.refresh_from_db()
    assert row.status == "dismissed"


def test_a_file_is_brought_and_its_refused_lines_are_fetched(tenant, customer):
    rows = [HEADING, f"u1,calls,{customer.external_id},{AT},250", f"=u2,calls,{customer.external_id},{AT},many"]
    manager = browser(tenant, Role.MANAGER)
    upload = SimpleUploadedFile("may.csv", "\n".join(rows).encode())

    manager.post(
        reverse("admin:billing_usageimport_upload"),
        {"confirm": "yes", "organisation": tenant.pk, "file": upload},
    )
    row = usage_imports.read_on(import_id=UsageImport.objects.get().pk)
    page = manager.get(path_to(row)).content.decode()
    errors = manager.get(reverse("admin:billing_usageimport_errors", args=[row.pk]))

    assert (row.status, row.accepted, row.rejected) == ("done", 1, 1)
    assert "may.csv" in page
    assert errors["Content-Disposition"].startswith("attachment")
    assert errors.content.decode().splitlines()[1].startswith("3,'=u2,quantity,")


def test_a_page_of_a_file_tells_parked_lines_from_refused_ones_and_loads_itself_while_it_is_read(tenant, customer):
    rows = [HEADING, f"u1,calls,nobody,{AT},250", f"u2,calls,{customer.external_id},{AT},many"]
    manager = browser(tenant, Role.MANAGER)
    upload = SimpleUploadedFile("may.csv", "\n".join(rows).encode())
    manager.post(
        reverse("admin:billing_usageimport_upload"), {"confirm": "yes", "organisation": tenant.pk, "file": upload}
    )

    begun = UsageImport.objects.get()
    reading = manager.get(path_to(begun)).content.decode()
    row = usage_imports.read_on(import_id=begun.pk)
    page = manager.get(path_to(row)).content.decode()

    assert 'http-equiv="refresh"' in reading
    assert "1 line, the heading among them" in reading
    assert 'http-equiv="refresh"' not in page
    assert "Lines that were refused or parked" in page
    assert re.findall(r"<td>(u\d)</td><td>(parked|refused)</td>", page) == [("u1", "parked"), ("u2", "refused")]


def test_a_file_without_the_right_heading_is_refused_in_words(tenant):
    manager = browser(tenant, Role.MANAGER)
    upload = SimpleUploadedFile("may.csv", b"a,b\n1,2\n")

    answer = manager.post(
        reverse("admin:billing_usageimport_upload"),
        {"confirm": "yes", "organisation": tenant.pk, "file": upload},
    )

    assert answer.status_code == 200
    assert "event_id" in answer.content.decode()
    assert not UsageImport.objects.exists()
