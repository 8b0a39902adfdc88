"""Credit notes: part by part they add up to their invoice, to the cent and in every tax."""

from decimal import Decimal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from moneyed import Money

from billing.errors import InvalidInput
from invoices.credits import Creditable, CreditableTax, Standing, price_credit
from invoices.errors import CreditExceedsInvoice, InvoiceNotOpen, NothingToCredit
from invoices.models import CreditNote
from invoices.services.credit_notes import issue_credit_note
from invoices.services.drafting import create_invoice
from invoices.services.settling import allocate_payment

from .conftest import CLERK, books, capture, events, issue, line, make_customer, postings_of

D = Decimal


def give(invoice, amounts=None):
    asked = (
        None if amounts is None else {position: Money(amount, invoice.currency) for position, amount in amounts.items()}
    )
    return issue_credit_note(invoice_id=invoice.pk, amounts=asked, reason="agreed", actor=CLERK)


@pytest.mark.django_db
def test_a_full_credit_of_an_unpaid_invoice_undoes_it(school, family):
    invoice = issue(family, line("70.50"))

    note = give(invoice)

    invoice.refresh_from_db()
    assert note.number.split("/", 1)[1] == "26-27/00001"
    assert note.number != invoice.number
    assert (note.total, note.reduced_due, note.to_credit) == (
        Money("83.20", "INR"),
        Money("83.20", "INR"),
        Money("0.00", "INR"),
    )
    assert (invoice.status, invoice.due.amount, invoice.credited) == ("paid", 0, Money("83.20", "INR"))
    assert books(school) == {}
    assert events(school)[-2:] == ["invoice.paid", "credit_note.issued"]
    assert postings_of(note)[0] == ("D", "revenue", "70.50")


@pytest.mark.django_db
def test_parts_of_a_paid_invoice_become_credit_and_add_up(school, family):
    invoice = issue(family, line("70.50"), line("70.50"))
    allocate_payment(payment_id=capture(family, "166.40", invoice=invoice).pk)

    notes = [give(invoice, {1: "33.33"}), give(invoice, {1: "37.17", 2: "0.01"}), give(invoice)]

    assert sum((note.total for note in notes), Money(0, "INR")) == invoice.total
    assert sum((note.tax for note in notes), Money(0, "INR")) == invoice.tax
    assert [note.reduced_due.amount for note in notes] == [0, 0, 0]
    assert books(school)["customer_credit"] == "-166.40"
    assert "revenue" not in books(school)
    assert not [account for account in books(school) if account.startswith("tax")]
    with pytest.raises(NothingToCredit):
        give(invoice)


@pytest.mark.django_db
def test_a_part_paid_invoice_is_reduced_first_and_the_rest_is_credit(school, family):
    invoice = issue(family)
    allocate_payment(payment_id=capture(family, "1000.00", invoice=invoice).pk)

    note = give(invoice)

    invoice.refresh_from_db()
    assert (note.reduced_due.amount, note.to_credit.amount) == (180, 1000)
    assert (invoice.status, invoice.paid.amount, invoice.credited.amount) == ("paid", 1000, 180)


@pytest.mark.django_db
def test_an_inclusive_invoice_is_credited_with_its_round_off(school, family):
    invoice = issue(family, line("599.00"), prices_include_tax=True)

    first, last = give(invoice, {1: "500.00"}), give(invoice)

    assert (first.rounding.amount, last.rounding.amount) == (0, D("-0.01"))
    assert first.total + last.total == invoice.total
    assert books(school) == {}


@pytest.mark.django_db
def test_a_reverse_charge_is_credited_without_tax(nordlicht):
    customer = make_customer(nordlicht, name="Société Azur", country="FR", region="", registered=True)
    invoice = issue(customer, line("250.00", "EUR"))

    note = give(invoice)

    assert (note.tax.amount, note.total) == (0, Money("250.00", "EUR"))
    assert note.taxes == [{"component": "VAT", "category": "AE", "rate": "0.0000", "base": "250.00", "tax": "0.00"}]


@pytest.mark.django_db
def test_credit_refusals(school, family):
    invoice = issue(family, line("100.00"), line("-60.00"))
    draft = create_invoice(organisation=school, customer_id=family.pk, lines=[line()], currency="INR")

    with pytest.raises(CreditExceedsInvoice, match=r"Only 100 of line 1 is left"):
        give(invoice, {1: "100.01"})
    with pytest.raises(CreditExceedsInvoice):
        give(invoice, {1: "100.00"})  # more than the invoice as a whole
    with pytest.raises(CreditExceedsInvoice):
        give(invoice, {2: "10.00"})
    with pytest.raises(NothingToCredit):
        give(invoice, {2: "-10.00"})
    with pytest.raises(InvalidInput, match="no line 9"):
        give(invoice, {9: "1.00"})
    with pytest.raises(InvoiceNotOpen):
        give(draft)
    with pytest.raises(InvalidInput, match="Say why"):
        issue_credit_note(invoice_id=invoice.pk, amounts=None, reason=" ", actor=CLERK)
    assert not CreditNote.objects.exists()
    assert give(invoice).total == Money("47.20", "INR")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.decimals(min_value="0.01", max_value="9999.99", places=2), min_size=1, max_size=4),
    st.lists(st.lists(st.decimals(min_value="0", max_value="1", places=3), min_size=4, max_size=4), max_size=6),
    st.booleans(),
)
def test_any_sequence_of_credits_ends_exactly_at_the_invoice(amounts, steps, by_line):
    quantum = D("0.01")
    names = ("CGST", "SGST") if by_line else ("VAT",)
    rate = D(9) if by_line else D(19)

    def taxed(nets):
        if by_line:
            return sum((net * rate / 100).quantize(quantum, "ROUND_HALF_UP") for net in nets)
        return (sum(nets) * rate / 100).quantize(quantum, "ROUND_HALF_UP")

    left, bases, left_tax = list(amounts), sum(amounts), {name: taxed(amounts) for name in names}
    total, credited = sum(amounts) + sum(left_tax.values()), D(0)
    for step in [*steps, None]:
        lines = [
            Creditable(i, "x", amount, rest, "S", rate * len(names), "revenue")
            for i, (amount, rest) in enumerate(zip(amounts, left, strict=True))
        ]
        rows = [CreditableTax(name, "S", rate, bases, left_tax[name]) for name in names]
        asked = (
            None
            if step is None
            else {i: (rest * step[i]).quantize(quantum, "ROUND_DOWN") for i, rest in enumerate(left)}
        )
        try:
            priced = price_credit(
                lines=lines, taxes=rows, asked=asked, left_rounding=D(0), quantum=quantum, by_line=by_line
            )
        except NothingToCredit:
            continue
        credited += priced.total
        assert priced.tax == sum(tax for _, _, tax in priced.lines)
        for item, net, _ in priced.lines:
            left[item.position] -= net
        for row in priced.taxes:
            assert row.tax >= 0
            left_tax[row.component] -= row.tax
    assert left == [0] * len(amounts)
    assert set(left_tax.values()) == {0}
    assert credited == total


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.tuples(st.decimals("-999.99", "9999.99", places=2), st.sampled_from([0, 5, 18])), min_size=1, max_size=5
    ),
    st.lists(st.decimals(min_value="0", max_value="1", places=3), min_size=5, max_size=5),
    st.sampled_from(["IGST", "VAT"]),
)
def test_credits_are_cut_to_what_the_invoice_claims_in_all(given_lines, parts, component):
    """A line below zero at another rate leaves less to credit, tax included, than the other lines could bear."""
    quantum = D("0.01")
    taxes = [
        CreditableTax(component, f"R{rate}", D(rate), base, (base * rate / 100).quantize(quantum, "ROUND_HALF_UP"))
        for rate in (0, 5, 18)
        if (base := sum((amount for amount, of in given_lines if of == rate), D(0)))
    ]
    total = sum((amount for amount, _ in given_lines), D(0)) + sum((row.left_tax for row in taxes), D(0))
    assume(total > 0)
    lines = tuple(
        Creditable(i, "x", amount, amount, f"R{rate}", D(rate), "revenue")
        for i, (amount, rate) in enumerate(given_lines)
    )
    standing = Standing(lines, tuple(taxes), D(0), total, quantum)
    asked = {
        i: (amount * parts[i]).quantize(quantum, "ROUND_DOWN")
        for i, (amount, _) in enumerate(given_lines)
        if amount > 0
    }

    cut = standing.within(asked)

    assert all(0 < cut[i] <= asked[i] for i in cut)
    if cut:
        assert 0 < standing.price(cut).total <= total
    if sum(asked.values()) and price_credit(
        lines=lines, taxes=taxes, asked=asked, left_rounding=D(0), quantum=quantum, by_line=component == "IGST"
    ).total <= total:  # fmt: skip
        assert cut == {i: amount for i, amount in asked.items() if amount}
    elif sum(asked.values()):
        assert standing.price(cut).total >= total - D("0.02"), "as much as there is"


def test_a_credit_at_no_tax_is_cut_where_a_taxed_line_is_below_zero():
    lines = (
        Creditable(1, "x", D("-100"), D("-100"), "S", D(18), "revenue"),
        Creditable(2, "y", D("300"), D("300"), "Z", D(0), "revenue"),
    )
    standing = Standing(lines, (CreditableTax("IGST", "S", D(18), D("-100"), D("-18")),), D(0), D("182"), D("0.01"))

    assert standing.within({2: D("200")}) == {2: D("182")}
    assert standing.within({2: D("150")}) == {2: D("150")}
