"""Ends and terms changed over HTTP and in the console: exact answers, refusals by field, previews, tenants, repeats."""

import pytest

from billing.models import AuditRecord, Role
from subscriptions.rules import Term
from subscriptions.services.rows import Status
from tests.subscriptions.house import (
    amounts,
    credit_notes_of,
    flat,
    fresh,
    invoices_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    subscribe,
    turn,
)
from tests.subscriptions.test_admin_asking import text_of
from tests.subscriptions.test_api import API, client_of
from tests.subscriptions.test_console import browser, decide, page

pytestmark = pytest.mark.django_db
QUARTERS = Term(interval="month", count=3, renewals=4, notice_days=10)


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def client(tenant):
    return client_of(tenant)


def running(tenant, **agreed):
    subscription = subscribe(make_customer(tenant), make_plan(tenant, flat("300.00")), **agreed)
    run(tenant)
    turn(tenant, local("2026-04-10 10:00"))
    return subscription


def post(client, subscription, action, body, **headers):
    return client.post(f"{API}/subscriptions/{subscription.pk}/{action}", body, format="json", headers=headers)


def test_the_preview_of_an_end_is_what_then_happens(tenant, client):
    subscription = running(tenant)
    asked = {"ends_at": "2026-04-20T12:00:00Z", "credit": "prorated", "reason": "Moves out"}

    told = client.post(
        f"{API}/subscriptions/preview",
        {"change_end": {"subscription": str(subscription.pk), **asked}, "count": 1},
        format="json",
    ).json()
    done = post(client, subscription, "change-end", asked)

    assert done.status_code == 200, done.content
    body = done.json()
    assert (body["ends_at"], body["renews"], body["term"], body["period_end"]) == (
        "2026-04-20T12:00:00Z", False, None, "2026-04-20T18:30:00Z",
    )  # fmt: skip
    [note] = body["documents"]["credit_notes"]
    assert note["total"] == told["credits"][0]["total"] == {"amount": "100.00", "currency": "INR"}
    assert [(event["what"], event["status"]) for event in told["events"]] == [
        ("end_changed", "active"), ("expired", "expired"),
    ]  # fmt: skip
    assert told["invoices"] == []


def test_a_change_sent_twice_is_made_once(tenant, client):
    subscription = running(tenant)
    body = {"ends_at": "2026-04-20T12:00:00Z", "credit": "prorated"}

    answers = [post(client, subscription, "change-end", body, **{"Idempotency-Key": "once"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert amounts(credit_notes_of(subscription)) == ["100.00"]
    again = post(client, subscription, "change-end", {"ends_at": None}, **{"Idempotency-Key": "once"})
    assert again.status_code == 422
    assert fresh(subscription).ends_at == local("2026-04-20 17:30")


def test_renewal_is_switched_off_and_on_again(tenant, client):
    subscription = running(tenant, term=QUARTERS)
    term = {
        "interval": "month", "count": 3, "number": 0, "renewals_left": 4, "last_number": None, "notice_days": 10,
        "notice_until": "2026-06-20T18:30:00Z", "ends_at": "2026-06-30T18:30:00Z",
    }  # fmt: skip

    off = post(client, subscription, "change-term", {"renews": False}).json()
    on = post(client, subscription, "change-term", {"renews": True}).json()
    planned = post(
        client, subscription, "change-term", {"term": {"interval": "year", "notice_days": 30}, "when": "term_end"}
    ).json()
    opened = post(client, subscription, "change-term", {"term": None, "when": "term_end"}).json()

    assert (off["renews"], off["term"]) == (False, term | {"last_number": 0})
    assert (on["renews"], on["term"], on["next_term"]) == (True, term, None)
    assert planned["next_term"] == {"interval": "year", "count": 1, "renewals": None, "notice_days": 30}
    assert opened["next_term"] == {"interval": None, "count": None, "renewals": None, "notice_days": None}
    assert opened["term"] == term


def test_too_late_for_the_notice_is_said(tenant, client):
    subscription = running(tenant, term=QUARTERS)
    turn(tenant, local("2026-06-25 10:00"))
    run(tenant)

    refused = post(client, subscription, "change-term", {"renewals": 0})

    assert (refused.status_code, refused.json()["code"]) == (409, "notice_passed")
    assert refused.json()["errors"][0]["field"] == "renewals"
    assert fresh(subscription).renewals_left == 4


REFUSED = {
    "no end": ("change-end", {}, 422, "ends_at"),
    "an end that is no time": ("change-end", {"ends_at": "soon"}, 422, "ends_at"),
    "an end that is over": ("change-end", {"ends_at": "2026-04-10T04:00:00Z"}, 422, "ends_at"),
    "a credit of another kind": ("change-end", {"ends_at": "2026-05-10T04:00:00Z", "credit": "half"}, 422, "credit"),
    "a field too many": ("change-end", {"ends_at": None, "quantity": 3}, 422, "quantity"),
    "nothing of a term": ("change-term", {}, 422, "term"),
    "two things of a term": ("change-term", {"renews": True, "renewals": 2}, 422, "renewals"),
    "renewals below none": ("change-term", {"renewals": -1}, 422, "renewals"),
    "a term of no interval": ("change-term", {"term": {"count": 3}}, 422, "term.interval"),
    "a term for later after none": ("change-term", {"term": {"interval": "year"}, "when": "term_end"}, 422, "when"),
    "no renewal of no term": ("change-term", {"renews": False}, 422, "renews"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_by_field_and_changes_nothing(tenant, client, case):
    action, body, status, field = REFUSED[case]
    subscription = running(tenant)
    before = fresh(subscription).version

    answer = post(client, subscription, action, body)

    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert field in [one["field"] for one in answer.json()["errors"]], answer.json()
    assert fresh(subscription).version == before


def test_another_tenants_subscription_is_not_found_and_a_reader_may_not(tenant, client):
    theirs = running(make_organisation(local("2026-04-01 09:00")), term=QUARTERS)
    own = running(tenant, term=QUARTERS)
    reader = client_of(tenant, "subscription.view")

    for action, body in (("change-end", {"ends_at": None}), ("change-term", {"renews": False})):
        assert post(client, theirs, action, body).status_code == 404
        assert post(reader, own, action, body).status_code == 403
        name = action.replace("-", "_")
        looked = client.post(
            f"{API}/subscriptions/preview", {name: {"subscription": str(theirs.pk), **body}}, format="json"
        )
        assert looked.status_code == 404
    assert fresh(theirs).last_term is fresh(own).last_term is None


def test_lists_are_filtered_by_what_ends_and_what_renews(tenant, client):
    ending, renewing = running(tenant, ends_at=local("2026-06-01 00:00")), running(tenant, term=QUARTERS)
    before = {"ends_before": "2026-09-01T00:00:00Z"}, {"renews_before": "2026-09-01T00:00:00Z"}

    found = [[one["id"] for one in client.get(f"{API}/subscriptions", query).json()["results"]] for query in before]

    assert found == [[str(ending.pk)], [str(renewing.pk)]]
    assert client.get(f"{API}/subscriptions", {"ends_before": "soon"}).status_code == 422


# --- the console ----------------------------------------------------------------------------------
def test_the_console_moves_an_end_with_a_preview_and_shows_it(tenant):
    manager, subscription = browser(tenant, Role.MANAGER), running(tenant)
    form = {"ends_at_0": "2026-04-20", "ends_at_1": "15:00", "credit": "prorated"}
    path = f"/console/subscriptions/subscription/{subscription.pk}/change_end/"

    looked = text_of(manager.post(path, {"look": "1", "confirm": "1", "reason": "Moves out", **form}))
    assert (fresh(subscription).ends_at, "end changed" in looked, "expired" in looked) == (None, True, True)
    said = decide(manager, subscription, "change_end", **form).content.decode()

    assert credit_notes_of(subscription)[0].number in said
    assert fresh(subscription).ends_at == local("2026-04-20 15:00")
    shown = text_of(manager.get(page(subscription)))
    assert "20 Apr 2026, 15:00 end ends" in shown
    assert AuditRecord.objects.get(action="subscription.end_changed").reason == "as agreed"


def test_the_console_changes_terms_and_says_what_follows(tenant):
    manager, subscription = browser(tenant, Role.MANAGER), running(tenant, term=QUARTERS)
    plain = {"when": "now", "credit": "none"}

    def shown():
        return text_of(manager.get(page(subscription)))

    assert "renewal renews its term, until 1 Jul 2027" in shown()
    assert "3 months, renews itself 4 times, 10 days of notice" in shown()
    decide(manager, subscription, "change_term", what="stop", **plain)
    assert "end ends, its term does not renew" in shown()
    decide(manager, subscription, "change_term", what="renew", **plain)
    decide(manager, subscription, "change_term", what="renewals", renewals="1", **plain)
    assert "renewal renews its term, until 1 Oct 2026" in shown()
    decide(manager, subscription, "change_term", what="term", interval="year", **plain | {"when": "term_end"})
    assert "goes on with a term of year, renews itself for ever, 0 days of notice" in shown()
    kept = text_of(decide(manager, subscription, "change_term", what="term", **plain))
    assert "Say in what the term is counted." in kept
    decide(manager, subscription, "change_term", what="open", **plain)
    found = fresh(subscription)
    assert (found.ends_at, found.term_interval, found.status) == (None, "", Status.ACTIVE)
    assert len(invoices_of(subscription)) == 1


def test_the_console_asks_only_where_it_can_be(tenant):
    manager, subscription = browser(tenant, Role.MANAGER), running(tenant)
    path = f"/console/subscriptions/subscription/{subscription.pk}/change_term/"

    assert "does not renew" not in manager.get(path).content.decode()
    assert "Change end" in text_of(manager.get(page(subscription)))
    decide(manager, subscription, "cancel", when="period_end", credit="none")
    shown = text_of(manager.get(page(subscription)))
    assert ("Change end" in shown, "1 May 2026, 00:00 end cancelled" in shown) == (False, True)
    stranger = browser(make_organisation(local("2026-04-01 09:00")), Role.MANAGER)
    assert stranger.get(path).status_code == 404
