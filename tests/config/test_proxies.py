"""Behind proxies that are ours the caller's address counts; what callers write themselves does not."""

import os
import subprocess
import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, RequestFactory
from rest_framework.test import APIClient

from billing.models import AuditRecord, User
from billing.services import organisations
from config import proxies
from config.middleware import BaseThrottle

OURS = proxies.networks(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])
PASSWORD = "correct horse battery"
LIMIT = 3


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("10.1.2.3", "198.51.100.4", "198.51.100.4"),
        ("10.1.2.3", "198.51.100.4, 192.0.2.7", "198.51.100.4"),
        ("10.1.2.3", "6.6.6.6, 198.51.100.4, 192.0.2.7", "198.51.100.4"),  # the first is what the caller wrote
        ("10.1.2.3", "10.9.9.9", "10.9.9.9"),  # all are ours: the one farthest away
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "nonsense", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.4, unknown", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.4:51000", "198.51.100.4"),
        ("10.1.2.3", "[2001:db9::1]:443", "2001:db9::1"),
        ("10.1.2.3", "2001:db9::1", "2001:db9::1"),
        ("::ffff:10.1.2.3", "::ffff:198.51.100.4", "198.51.100.4"),
        ("2001:db8::5", "198.51.100.4", "198.51.100.4"),
        ("198.51.100.9", "6.6.6.6", "198.51.100.9"),  # no proxy of ours: its header is not believed
        ("192.0.2.8", "6.6.6.6", "192.0.2.8"),
        ("", "6.6.6.6", ""),  # a socket without an address
    ],
)
def test_the_caller_is_the_last_address_that_is_no_proxy_of_ours(remote: str, forwarded: str, expected: str) -> None:
    assert proxies.caller(remote, forwarded, OURS) == expected


def test_without_proxies_no_header_is_believed() -> None:
    assert proxies.caller("10.1.2.3", "6.6.6.6", ()) == "10.1.2.3"
    assert BaseThrottle().get_ident(RequestFactory(HTTP_X_FORWARDED_FOR="6.6.6.6").get("/")) == "127.0.0.1"  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33"])
def test_what_names_no_network_stops_the_start(wrong: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"TRUSTED_PROXIES: .*{wrong}"):
        proxies.networks(["10.0.0.0/8", wrong])


def test_proxies_that_are_only_counted_stop_the_start() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"NUM_PROXIES is '2'.*TRUSTED_PROXIES"):
        proxies.refuse_a_count(" 2 ", ())


@pytest.mark.parametrize(("count", "trusted"), [("", ()), ("0", ()), ("2", OURS)])
def test_a_count_that_hides_nothing_is_let_be(count: str, trusted: Any) -> None:
    proxies.refuse_a_count(count, trusted)


def test_the_settings_themselves_refuse_a_count() -> None:
    given = {"MUNIM_ENV": "test", "NUM_PROXIES": "1", "TRUSTED_PROXIES": ""}
    done = subprocess.run(
        [sys.executable, "-c", "import config.settings"],
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "ImproperlyConfigured: NUM_PROXIES is '1', but proxies are not counted here." in done.stderr


@pytest.mark.django_db
def test_who_guesses_passwords_behind_our_proxy_does_not_lock_the_owner_out(settings: Any) -> None:
    settings.TRUSTED_PROXIES = OURS
    settings.AXES_ENABLED, settings.AXES_FAILURE_LIMIT = True, LIMIT
    User.objects.create_user("asha@munim.example", PASSWORD, is_staff=True)

    def sign_in(seen: str, password: str) -> int:
        client = APIClient(REMOTE_ADDR="10.0.0.5", HTTP_X_FORWARDED_FOR=seen)
        return int(client.post("/api/v1/auth/login", {"email": "asha@munim.example", "password": password}).status_code)

    assert [sign_in("6.6.6.6", "wrong") for _ in range(LIMIT)] == [401, 401, 429]
    assert sign_in("198.51.100.4, 6.6.6.6", PASSWORD) == 429, "what the guesser writes first changes nothing"
    assert sign_in("198.51.100.4", PASSWORD) == 200


@pytest.mark.django_db
def test_the_audit_trail_keeps_the_address_of_who_decided(settings: Any, client: Client) -> None:
    settings.TRUSTED_PROXIES = OURS
    school = organisations.create_organisation(
        code="school", name="School", currency="INR", country="IN", time_zone="Asia/Kolkata"
    )
    member = organisations.add_member(organisation=school, email="asha@munim.example", role="admin", password=PASSWORD)
    client.force_login(member.user, backend="django.contrib.auth.backends.ModelBackend")

    answer = client.post(
        f"/console/billing/organisation/{school.pk}/change_choices/",
        {"confirm": "1", "reason": "Because", "net_days": "9"},
        REMOTE_ADDR="10.0.0.5", HTTP_X_FORWARDED_FOR="198.51.100.4",
    )  # fmt: skip

    assert answer.status_code == 302
    assert AuditRecord.objects.get(action="organisation.choices_changed").address == "198.51.100.4"
