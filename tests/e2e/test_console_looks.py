"""Where one is in the console, what things are called, and how amounts look: the same on every page."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoDbBlocker

from billing.admin.base import path_to
from billing.admin.panels import told
from billing.models import AuditRecord, JournalEntry, Role
from billing.services import audit
from config import urls  # noqa: F401 - whoever serves the addresses registers the pages
from config.console import GROUPS, place
from invoices.models import CreditNote
from payments.models import Payment
from subscriptions.models import BillingCycle, Subscription
from tests.e2e.console_world import World, build, list_of, signed_in, watcher
from tests.subscriptions.house import CLERK


@pytest.fixture(scope="module")
def worlds(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """One organisation, made once for all tests of this module and rolled back after them."""
    with django_db_blocker.unblock():
        around = transaction.atomic()
        around._from_testcase = True
        around.__enter__()
        try:
            made = build()
            connection.check_constraints()  # once, here: what is deferred would be checked again after each test
            yield made
        finally:
            transaction.set_rollback(True)
            around.__exit__(None, None, None)


@pytest.fixture
def world(worlds: World, db: None) -> World:
    return worlds


@pytest.fixture
def manager(world: World) -> Client:
    return signed_in(world, Role.MANAGER)


def trail(page: Any) -> list[str]:
    """The steps of the trail on a page."""
    found = re.search(r'<nav aria-label="Where you are".*?</nav>', page.content.decode(), re.DOTALL)
    assert found, "no trail"
    text = re.sub(r'<span class="material.*?</span>', "|", found[0])
    return [unescape(part).strip() for part in re.sub(r"<[^>]+>", "", text).split("|")]


def title(page: Any) -> str:
    found = re.search(r"<title>(.*?)</title>", page.content.decode(), re.DOTALL)
    assert found
    return unescape(found[1]).strip()


def cells(page: Any) -> str:
    return unescape(re.sub(r"<[^>]+>", " ", page.content.decode()))


@pytest.mark.parametrize(("group", "page"), [(group, page) for group, pages in GROUPS.items() for page in pages])
def test_every_page_says_where_it_stands_as_the_navigation_does(world: World, group: str, page: Any) -> None:
    answer = watcher().get(page.address())

    assert answer.status_code == 200
    assert trail(answer) == [group, page.title]
    assert title(answer) == f"{page.title} · {group} | Munim"
    assert "Show all)" not in cells(answer), "only a search or a filter hides anything"


def test_a_row_and_what_is_done_to_it_stand_at_the_end(world: World, manager: Client) -> None:
    row = Subscription.objects.of(world.organisation).order_by("id")[0]
    page = manager.get(path_to(row))
    asked = manager.get(reverse("admin:subscriptions_subscription_pause", args=[row.pk]))

    assert trail(page) == ["Subscriptions", "Subscriptions", row.external_id]
    assert trail(asked) == ["Subscriptions", "Subscriptions", row.external_id, "Pause"]
    assert title(asked) == f"Pause · {row.external_id} | Munim"


def test_the_longest_address_is_where_one_is() -> None:
    assert [place(path)[1].title for path in (  # type: ignore[index]
        "/console/analytics/mrrmovement/services/x/", "/console/analytics/mrrmovement/", "/console/billing/meter/policy/",
    )] == ["Services", "MRR movements", "Usage policy"]  # fmt: skip
    assert place("/console/") is None


def test_an_empty_list_calls_its_rows_as_the_navigation_does(manager: Client) -> None:
    page = manager.get(list_of("billing.beneficiary"))

    assert "No beneficiaries yet" in cells(page)


def test_what_a_search_leaves_is_counted(world: World, manager: Client) -> None:
    page = manager.get(list_of("subscriptions.subscription"), {"q": "nobody-at-all"})

    assert "0 found (" in cells(page)
    assert "Nothing matches" in cells(page)


def test_rows_that_happen_at_a_time_are_called_by_the_organisations_wall(world: World, manager: Client) -> None:
    cycle = BillingCycle.objects.of(world.organisation).order_by("id")[0]
    entry = JournalEntry.objects.of(world.organisation).order_by("id")[0]

    assert trail(manager.get(path_to(cycle)))[-1] == f"{cycle.subscription} from 1 Jun 2026, 12:00"
    assert trail(manager.get(path_to(entry)))[-1] == "invoice finalized, 1 Jun 2026, 12:00"


def test_a_credit_note_shows_rates_and_amounts_as_everywhere(world: World, manager: Client) -> None:
    text = cells(manager.get(path_to(CreditNote.objects.of(world.organisation).order_by("id")[0])))

    assert "18 %" in text
    assert "18.0000" not in text
    assert not re.search(r"(?<![₹,\d.])\d+\.\d\d(?!\d)", text), "an amount without its currency"


def test_a_payment_names_the_invoice_that_it_pays(world: World, manager: Client) -> None:
    payment = Payment.objects.of(world.organisation).filter(reference__startswith="invoice:").order_by("id")[0]
    text = manager.get(path_to(payment)).content.decode()

    assert re.search(rf'href="/console/invoices/invoice/[^"]+/change/">{re.escape(payment.description)}</a>', text)


def test_the_journal_shows_what_was_moved(world: World, manager: Client) -> None:
    page = manager.get(list_of("billing.journalentry")).content.decode()
    table = page[page.index('id="result_list"') :]
    text = unescape(re.sub(r"<[^>]+>", " ", table[: table.index("</table>")]))
    entry = JournalEntry.objects.of(world.organisation).filter(kind="invoice_finalized").order_by("-id")[0]
    debits = entry.postings.filter(side="D").values_list("amount", flat=True)

    assert "invoice finalized" in text
    assert "invoice_finalized" not in text
    assert f"₹{sum(debits):,.2f}" in text


def test_the_source_of_an_entry_and_the_object_of_a_decision_are_links(world: World, manager: Client) -> None:
    entry = JournalEntry.objects.of(world.organisation).filter(kind="invoice_finalized").order_by("id")[0]
    invoice = apps.get_model("invoices.invoice").objects.get(pk=entry.source_id)
    audit.record(
        actor=CLERK, action="invoice.looked_at", target=invoice, before={"total": "–"}, after={"total": "1 INR"}
    )
    record = AuditRecord.objects.of(world.organisation).latest("id")

    assert f'href="{path_to(invoice)}">{invoice.number}</a>' in manager.get(path_to(entry)).content.decode()
    page = manager.get(path_to(record)).content.decode()
    assert f'href="{path_to(invoice)}">{invoice.number}</a>' in page
    assert '"1 INR"' not in unescape(page), "words of a change are no JSON"


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"total": "21000.00", "due": "0.00", "currency": "INR"}, "total ₹21,000.00, due ₹0.00"),
        ({"amount": {"amount": "84000.00", "currency": "INR"}}, "amount ₹84,000.00"),
        ({"amount": "12.50"}, "amount 12.50"),
        ({"amount": "much", "currency": "INR"}, "amount much INR"),
    ],
)
def test_amounts_in_a_story_look_like_amounts(payload: dict[str, Any], said: str) -> None:
    assert told(payload) == said


def test_a_state_is_read_by_its_name_not_by_its_digits_alone(world: World, manager: Client) -> None:
    invoice, customer = world.invoices[0], world.customers[0]

    assert (invoice.place_of_supply, customer.party.region) == ("29", "29")  # type: ignore[union-attr]
    assert re.search(r"Place of supply\s+Karnataka \(29\)\s", cells(manager.get(path_to(invoice))))
    assert re.search(r"Place\s+Karnataka \(29\), India\s", cells(manager.get(path_to(customer))))
    assert re.search(r"Address\s+Karnataka \(29\), India\s", cells(manager.get(path_to(world.organisation))))
