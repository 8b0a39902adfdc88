"""A debit that our own configuration prevents is not the customer's decline: the case stays where it is until it is mended."""

import pytest

from invoices.models import Mail
from payments.gateways.faults import SETUP_FAULTS
from payments.models import Payment, PaymentAttempt
from subscriptions.models import DunningCase
from subscriptions.services.dunning import run_dunning
from tests.subscriptions.test_dunning import case_of, invoice_of, letters, live, nth, works  # noqa: F401

pytestmark = pytest.mark.django_db
WHY = f"Not the customer's decline: {SETUP_FAULTS['gateway_key_refused']}"


@pytest.fixture
def refused(works):  # noqa: F811
    """An overdue invoice whose debit was refused because the gateway does not take our key; another one is simply unpaid."""
    invoice = invoice_of(nth(works, 1))
    payment = Payment.objects.of(works).filter(reference=f"invoice:{invoice.pk}").first() or Payment.objects.create(
        organisation=works, customer=invoice.customer, reference=f"invoice:{invoice.pk}", amount=invoice.total,
        refunded=invoice.total * 0, disputed=invoice.total * 0, created_at=invoice.created_at,
    )  # fmt: skip
    say(payment, "config", "gateway_key_refused")
    return payment


def say(payment, decline_class, code, status="failed"):
    Payment.objects.filter(pk=payment.pk).update(
        status=status, automatic=True, decline_class=decline_class, decline_code=code
    )


def test_the_case_does_not_advance_and_says_why(works, refused):  # noqa: F811
    live(works, 60)
    held, other = case_of(nth(works, 1)), case_of(nth(works, 0))
    assert (held.status, held.stage, held.attempts, held.history) == ("open", 0, 0, [])
    assert held.held_because == WHY
    assert letters(nth(works, 1)) == []
    assert nth(works, 1).status == "past_due"  # not suspended
    assert other.stage > 0
    assert Mail.objects.filter(key__startswith="dunning:", customer_id=nth(works, 0).customer_id).exists()


def test_a_dry_run_foresees_nothing_for_it_and_writes_nothing(works, refused):  # noqa: F811
    live(works, 1)
    DunningCase.objects.update(held_because="", stage=0, history=[])
    report = run_dunning(organisation=works, dry_run=True)
    held = case_of(nth(works, 1))
    assert [said for case, said in report.failures if case == held.pk] == [WHY]
    assert held.pk not in {step.case_id for step in report.steps}
    assert held.held_because == ""


def test_once_the_bank_itself_refuses_the_case_goes_on(works, refused):  # noqa: F811
    live(works, 5)
    assert case_of(nth(works, 1)).stage == 0
    say(refused, "soft", "insufficient_funds")
    live(works, 6)
    case = case_of(nth(works, 1))
    assert (case.stage > 0, case.held_because == WHY) == (True, False)
    assert letters(nth(works, 1)) != []


def test_a_page_that_the_customer_can_pay_is_the_customer_s_again(works, refused):  # noqa: F811
    say(refused, "config", "gateway_key_refused", status="requires_action")
    live(works, 1)
    assert case_of(nth(works, 1)).stage == 1
    assert PaymentAttempt.objects.count() == 0
