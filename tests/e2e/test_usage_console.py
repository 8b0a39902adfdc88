"""The console's pages that act on usage: a file is uploaded, a measurement corrected, a parked event dismissed."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from billing.models import ParkedUsage, Role, UsageEvent, UsageImport, UsageRevision
from tests.e2e.console_world import World, build, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return build()


def test_usage_is_imported_corrected_and_dismissed(world: World) -> None:
    clerk = signed_in(world, Role.CLERK)
    content = b"event_id,meter,customer,occurred_at\nf-1,calls,nobody,2026-01-01T00:00:00Z\n"
    page = reverse("admin:billing_usageimport_upload")
    assert b"multipart/form-data" in clerk.get(page).content
    answer = clerk.post(
        page,
        {
            "organisation": world.organisation.pk,
            "file": SimpleUploadedFile("jan.csv", content),
            "dry_run": "on",
            "confirm": "1",
        },
    )
    made = UsageImport.objects.latest("id")
    assert (answer.status_code, made.file_name, made.dry_run) == (302, "jan.csv", True)

    event = UsageEvent.objects.get(event_id="u1")
    path = reverse("admin:billing_usageevent_void", args=[event.pk])
    assert clerk.post(path, {"reason": "Never happened", "confirm": "1"}).status_code == 302
    assert UsageRevision.objects.get(event_ref=event.pk, is_current=True).kind == "void"
    assert b"Never happened" in clerk.get(reverse("admin:billing_usageevent_change", args=[event.pk])).content

    parked = ParkedUsage.objects.get(event_id="u2")
    clerk.post(reverse("admin:billing_parkedusage_dismiss", args=[parked.pk]), {"reason": "A test", "confirm": "1"})
    parked.refresh_from_db()
    assert parked.status == "dismissed"
