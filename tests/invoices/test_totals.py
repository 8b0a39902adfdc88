"""Tax and totals: the examples of the law's handbook, and what holds for every invoice."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moneyed import Money

from billing import places
from billing.errors import CurrencyMismatch
from invoices.drafts import InvoiceDraft, LineInput, Place, PricedInvoice, TaxContext
from invoices.errors import EmptyInvoice, MissingTaxRate, NegativeInvoice
from invoices.tax.rates import Rate, RateTable, rate_day
from invoices.totals import price_invoice, spread

DAY = date(2026, 6, 1)
CUSTOMER = "00000000-0000-7000-8000-000000000001"


def D(text: str) -> Decimal:  # noqa: N802
    return Decimal(text)


def rates(*rows: tuple[str, str, str]) -> RateTable:
    return RateTable.of(
        Rate(category=category, country=country, rate=D(rate), code="9992", valid_from=date(2025, 9, 22))
        for category, country, rate in rows
    )


INDIA = rates(("saas", "IN", "18"), ("books", "IN", "5"), ("milk", "IN", "0"))
EUROPE = rates(("saas", "DE", "19"), ("food", "DE", "7"), ("saas", "FR", "20"), ("five", "DE", "5"))


def india(buyer: Place, *, seller: str = "29", with_tax: bool = False) -> TaxContext:
    place = Place(country="IN", region=seller, registered=True)
    return TaxContext(seller=place, buyer=buyer, on=DAY, rates=INDIA, export_with_tax=with_tax)


def europe(buyer: Place) -> TaxContext:
    return TaxContext(seller=Place(country="DE", registered=True), buyer=buyer, on=DAY, rates=EUROPE)


KARNATAKA = Place(country="IN", region="29")
TAMIL_NADU = Place(country="IN", region="33", registered=True)
GERMAN = Place(country="DE")


def priced(
    context: TaxContext, *amounts: str, category: str = "saas", inclusive: bool = False, currency: str = ""
) -> PricedInvoice:
    currency = currency or ("INR" if context.seller.country == "IN" else "EUR")
    lines = [LineInput(description="x", amount=Money(amount, currency), tax_category=category) for amount in amounts]
    draft = InvoiceDraft(customer_id=CUSTOMER, currency=currency, lines=lines, prices_include_tax=inclusive)
    return price_invoice(draft, context)


def table(invoice: PricedInvoice) -> list[tuple[str, str, str]]:
    return [(row.component, f"{row.base:.2f}", f"{row.tax:.2f}") for row in invoice.taxes]


# --- India --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "buyer", "expected", "total"),
    [
        ("3995.00", KARNATAKA, [("CGST", "3995.00", "359.55"), ("SGST", "3995.00", "359.55")], "4714.10"),
        (
            "70.50",
            KARNATAKA,
            [("CGST", "70.50", "6.35"), ("SGST", "70.50", "6.35")],
            "83.20",
        ),  # half-even would say 6.34
        ("200.15", KARNATAKA, [("CGST", "200.15", "18.01"), ("SGST", "200.15", "18.01")], "236.17"),
        ("200.15", TAMIL_NADU, [("IGST", "200.15", "36.03")], "236.18"),
    ],
)
def test_gst_follows_the_place_of_supply(amount, buyer, expected, total):
    invoice = priced(india(buyer), amount)

    assert table(invoice) == expected
    assert invoice.total == D(total)


def test_a_price_that_includes_gst_is_paid_as_it_stands():
    invoice = priced(india(KARNATAKA), "599.00", inclusive=True)

    assert table(invoice) == [("CGST", "507.63", "45.69"), ("SGST", "507.63", "45.69")]
    assert (invoice.net, invoice.tax, invoice.rounding, invoice.total) == (
        D("507.63"),
        D("91.38"),
        D("-0.01"),
        D("599.00"),
    )


def test_gst_is_rounded_line_by_line():
    invoice = priced(india(KARNATAKA), "70.50", "70.50")

    assert table(invoice) == [("CGST", "141.00", "12.70"), ("SGST", "141.00", "12.70")]  # 12.69 on the sum


@pytest.mark.parametrize("seller", ["04", "26", "31", "35", "38", "97"])
def test_territories_without_a_legislature_levy_utgst(seller):
    invoice = priced(india(Place(country="IN", region=seller), seller=seller), "100.00")

    assert [row.component for row in invoice.taxes] == ["CGST", "UTGST"]


def test_a_special_economic_zone_is_another_state_even_at_home():
    zone = Place(country="IN", region="29", registered=True, treatment="sez")

    assert table(priced(india(zone, with_tax=True), "100.00")) == [("IGST", "100.00", "18.00")]
    assert table(priced(india(zone), "100.00")) == [("IGST", "100.00", "0.00")]


def test_an_export_under_undertaking_bears_no_tax_and_says_why():
    invoice = priced(india(Place(country="US")), "100.00", currency="USD")

    assert (invoice.total, invoice.place_of_supply) == (D("100.00"), "96")
    assert [(row.category, row.reason) for row in invoice.taxes] == [
        ("G", "Supply under letter of undertaking without payment of IGST")
    ]
    assert priced(india(Place(country="US"), with_tax=True), "100.00", currency="USD").tax == D("18.00")


def test_reverse_charge_states_the_tax_and_does_not_charge_it():
    buyer = Place(country="IN", region="29", registered=True, treatment="reverse_charge")
    invoice = priced(india(buyer), "1000.00")

    assert invoice.total == D("1000.00")
    assert invoice.reverse_charge
    assert [(row.component, row.tax, row.reverse_charged) for row in invoice.taxes] == [
        ("CGST", D("0"), D("90.00")),
        ("SGST", D("0"), D("90.00")),
    ]


def test_an_exempt_buyer_and_a_nil_rated_category_pay_no_gst():
    exempt = Place(country="IN", region="29", treatment="exempt")

    assert priced(india(exempt), "100.00").total == D("100.00")
    assert [row.category for row in priced(india(KARNATAKA), "100.00", category="milk").taxes] == ["Z"]


def test_a_buyer_without_a_state_is_served_where_the_seller_is():
    assert priced(india(Place(country="IN")), "100.00").place_of_supply == "29"
    assert places.state_code("IN-KA") == places.state_code("ka") == "29"


# --- Europe -------------------------------------------------------------------------------------------------------


def test_vat_is_levied_once_on_the_summed_base():
    invoice = priced(europe(GERMAN), "1.23", "1.23", "1.23", "1.23")

    assert table(invoice) == [("VAT", "4.92", "0.93")]  # adding rounded line taxes gives 0.92
    assert [line.tax for line in invoice.lines] == [D("0.24"), D("0.23"), D("0.23"), D("0.23")]


def test_vat_of_a_credit_mirrors_that_of_its_charge():
    invoice = priced(europe(GERMAN), "100.00", "-60.50", category="five")

    assert priced(europe(GERMAN), "60.50", category="five").tax == D("3.03")
    assert invoice.tax == D("1.98")


def test_gross_prices_have_the_vat_taken_out_once():
    invoice = priced(europe(GERMAN), "9.99", "9.99", "9.99", inclusive=True)

    assert (invoice.net, invoice.tax, invoice.rounding, invoice.total) == (D("25.18"), D("4.79"), D("0"), D("29.97"))


@pytest.mark.parametrize(
    ("buyer", "letter", "tax"),
    [
        (Place(country="DE", registered=True), "S", "19.00"),
        (Place(country="FR", registered=True), "AE", "0"),
        (Place(country="FR"), "S", "20.00"),  # the consumer's own state's rate
        (Place(country="IT"), "S", "19.00"),  # no rate kept for Italy: the seller's
        (Place(country="US"), "G", "0"),
        (Place(country="DE", treatment="exempt"), "E", "0"),
        (Place(country="DE", registered=True, treatment="reverse_charge"), "AE", "0"),
    ],
)
def test_vat_categories(buyer, letter, tax):
    invoice = priced(europe(buyer), "100.00")

    assert [row.category for row in invoice.taxes] == [letter]
    assert invoice.tax == D(tax)
    assert letter == "S" or invoice.taxes[0].reason
    assert invoice.reverse_charge == (letter == "AE")


def test_two_rates_make_two_rows():
    lines = [
        LineInput(description="app", amount=Money("10.00", "EUR"), tax_category="saas"),
        LineInput(description="bread", amount=Money("10.00", "EUR"), tax_category="food"),
        LineInput(description="deposit", amount=Money("5.00", "EUR")),
    ]
    invoice = price_invoice(InvoiceDraft(customer_id=CUSTOMER, currency="EUR", lines=lines), europe(GERMAN))

    assert table(invoice) == [("VAT", "10.00", "1.90"), ("VAT", "10.00", "0.70")]
    assert invoice.total == D("27.60")


def test_a_currency_without_decimals_is_taxed_in_whole_units():
    assert priced(europe(GERMAN), "999", currency="JPY").total == D("1189")


# --- Refusals -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_priced_is_refused_by_name():
    with pytest.raises(MissingTaxRate, match="'gold' in IN"):
        priced(india(KARNATAKA), "1.00", category="gold")
    with pytest.raises(EmptyInvoice):
        priced(india(KARNATAKA))
    with pytest.raises(NegativeInvoice):
        priced(india(KARNATAKA), "1.00", "-2.00")
    line = LineInput(description="x", amount=Money("1.00", "USD"))
    draft = InvoiceDraft(customer_id=CUSTOMER, currency="INR", lines=[line])
    with pytest.raises(CurrencyMismatch):
        price_invoice(draft, india(KARNATAKA))


def test_a_rate_holds_from_its_first_to_its_last_day():
    table_ = RateTable.of(
        [
            Rate(
                category="saas", country="IN", rate=D("12"), valid_from=date(2017, 7, 1), valid_until=date(2025, 9, 21)
            ),
            Rate(category="saas", country="IN", rate=D("18"), valid_from=date(2025, 9, 22)),
        ]
    )

    def on(day):
        return table_.get(category="saas", country="IN", region="", on=day).rate

    assert (on(date(2025, 9, 21)), on(date(2025, 9, 22))) == (D("12"), D("18"))
    with pytest.raises(MissingTaxRate):
        on(date(2017, 6, 30))


def test_two_of_supply_invoice_and_payment_choose_the_rate_around_a_change():
    before, after = date(2025, 9, 21), date(2025, 9, 23)

    assert rate_day(supplied_on=before, invoiced_on=after, paid_on=after) == after
    assert rate_day(supplied_on=before, invoiced_on=after, paid_on=before) == before
    assert rate_day(supplied_on=after, invoiced_on=before, paid_on=before) == before


# --- What always holds --------------------------------------------------------------------------------------------

amounts = st.decimals(min_value="-999.99", max_value="99999.99", places=2)
buyers = st.sampled_from([KARNATAKA, TAMIL_NADU, Place(country="US"), GERMAN, Place(country="FR", registered=True)])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(amounts, st.sampled_from(["saas", "books", "milk", ""])), min_size=1, max_size=12),
    buyers,
    st.booleans(),
)
def test_the_parts_of_an_indian_invoice_add_up(items, buyer, inclusive):
    lines = [
        LineInput(description="x", amount=Money(amount, "INR"), tax_category=category) for amount, category in items
    ]
    if sum(amount for amount, _ in items) < 1:
        lines.append(LineInput(description="x", amount=Money("20000.00", "INR"), tax_category="saas"))
    invoice = price_invoice(
        InvoiceDraft(customer_id=CUSTOMER, currency="INR", lines=lines, prices_include_tax=inclusive), india(buyer)
    )

    _adds_up(invoice)
    halves = {row.component: row.tax for row in invoice.taxes if row.rate == 9}
    assert halves.get("CGST") == halves.get("SGST")
    assert abs(invoice.rounding) <= D("0.02") * len(lines)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(amounts, st.sampled_from(["saas", "food", ""])), min_size=1, max_size=12), buyers, st.booleans()
)
def test_the_parts_of_a_european_invoice_add_up(items, buyer, inclusive):
    lines = [
        LineInput(description="x", amount=Money(amount, "EUR"), tax_category=category) for amount, category in items
    ]
    if sum(amount for amount, _ in items) < 1:
        lines.append(LineInput(description="x", amount=Money("20000.00", "EUR"), tax_category="saas"))
    invoice = price_invoice(
        InvoiceDraft(customer_id=CUSTOMER, currency="EUR", lines=lines, prices_include_tax=inclusive), europe(buyer)
    )

    _adds_up(invoice)
    assert invoice.rounding == 0
    for row in invoice.taxes:
        if not inclusive:
            assert row.tax == (row.base * row.rate / 100).quantize(D("0.01"), rounding="ROUND_HALF_UP")


def _adds_up(invoice: PricedInvoice) -> None:
    assert invoice.net == sum(line.amount for line in invoice.lines)
    assert invoice.tax == sum(line.tax for line in invoice.lines) == sum(row.tax for row in invoice.taxes)
    assert all(line.tax == sum(part for _, part in line.parts) for line in invoice.lines)
    assert invoice.total == invoice.net + invoice.tax + invoice.rounding
    if invoice.prices_include_tax:
        assert invoice.total == sum(line.given.amount.amount for line in invoice.lines)


@given(st.lists(st.decimals(min_value="-1000", max_value="1000", places=5), min_size=1, max_size=20))
def test_spreading_adds_up_and_moves_no_share_by_a_unit(shares):
    quantum = D("0.01")
    total = sum(shares).quantize(quantum, rounding="ROUND_HALF_UP")

    parts = spread(shares, total, quantum)

    assert sum(parts) == total
    assert all(abs(part - share) < quantum for part, share in zip(parts, shares, strict=True))
