"""Documents on paper: what they say, in any script, and that they load nothing from outside."""

import base64
import io
import re
import uuid
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moneyed import Money
from pypdf import PdfReader

from billing.models import BillingParty
from invoices.models import Invoice
from invoices.rendering import engine, formats, lines, qr, render_credit_note, render_invoice
from invoices.rendering.documents import invoice_html, logo_of
from invoices.rendering.hindi import UNITS, hindi_number
from invoices.rendering.labels import labels
from invoices.rendering.words import in_words
from invoices.services.credit_notes import issue_credit_note
from invoices.services.drafting import create_invoice
from invoices.services.settling import allocate_payment, void_invoice, write_off_invoice

from .conftest import CLERK, capture, issue, line, make_customer, make_organisation

PIXEL = base64.b64encode(
    base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
).decode()


def pages(pdf: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages]


def fonts_of(pdf: bytes) -> set[str]:
    found = set()
    for page in PdfReader(io.BytesIO(pdf)).pages:
        for font in page["/Resources"].get("/Font", {}).values():
            found.add(str(font.get_object()["/BaseFont"]).split("+")[-1])
    return found


def missing_glyphs(pdf: bytes) -> int:
    """How often glyph 0 (.notdef) is drawn."""
    count = 0
    for page in PdfReader(io.BytesIO(pdf)).pages:
        for run in re.findall(rb"<([0-9A-Fa-f]+)>", page.get_contents().get_data()):
            count += sum(run[i : i + 4] == b"0000" for i in range(0, len(run), 4))
    return count


# --- Pure ---------------------------------------------------------------------------------------------------------


def test_amounts_are_written_as_people_write_them():
    assert formats.amount(Money("1234567.50", "INR"), "en") == "₹12,34,567.50"
    assert formats.number(Money("-1234567.50", "INR"), "hi") == "−12,34,567.50"
    assert formats.amount(Money("1234.5", "EUR"), "de") == "1.234,50\u00a0€"
    assert formats.amount(Money("1234.5", "EUR"), "en") == "€1,234.50"
    assert formats.amount(Money("1500", "JPY"), "xx") == "JP¥1,500"
    assert formats.unit_price(Decimal("0.000404192600"), "EUR", "en") == "0.0004041926"
    assert formats.unit_price(Decimal("12.500000000000"), "INR", "en") == "12.50"
    assert formats.quantity(Decimal("1000.000000000000"), "en") == "1,000"
    assert formats.day(date(2026, 6, 1), "hi") == "1 जून 2026"


@pytest.mark.parametrize(
    ("amount", "currency", "language", "words"),
    [
        ("1180.00", "INR", "en", "Rupees One Thousand One Hundred and Eighty Only"),
        (
            "1088896.40",
            "INR",
            "en",
            "Rupees Ten Lakh Eighty Eight Thousand Eight Hundred and Ninety Six and Forty Paise Only",
        ),
        ("55160.56", "INR", "hi", "पचपन हज़ार एक सौ साठ रुपये छप्पन पैसे मात्र"),
        ("10000000", "INR", "hi", "एक करोड़ रुपये मात्र"),
        ("116.82", "EUR", "de", "Einhundertsechzehn Euro und zweiundachtzig Cent"),
        ("12299.90", "EUR", "fr", "Douze mille deux cent quatre-vingt-dix-neuf euros et quatre-vingt-dix centimes"),
        ("21.01", "USD", "en", "Twenty One Dollars and One Cents"),
        ("5", "KWD", "en", "Five KWD"),
        ("5.125", "KWD", "en", "Five KWD and 125/1000"),
    ],
)
def test_amounts_in_words(amount, currency, language, words):
    assert in_words(Money(amount, currency), language) == words


def test_hindi_has_a_word_of_its_own_for_every_number_below_a_hundred():
    assert len(UNITS) == len(set(UNITS)) == 100
    assert hindi_number(10_05_060) == "दस लाख पाँच हज़ार साठ"


@given(st.integers(0, 10**12 - 1))
def test_hindi_numbers_have_words(value):
    assert set(hindi_number(value).split()) <= {*UNITS, "सौ", "हज़ार", "लाख", "करोड़", "अरब", "खरब"}


def test_payment_codes_say_exactly_what_is_due():
    invoice_id = uuid.UUID("01900000-0000-7000-8000-000000000001")
    india = {"name": "Shanti & Sons", "upi_id": "shanti@bank"}
    europe = {"name": "Kranich GmbH", "bank": {"iban": "DE89 3704 0044 0532 0130 00", "bic": "COBADEFFXXX"}}

    def payload(seller, amount, currency):
        return qr.payment_payload(
            seller=seller, invoice_id=invoice_id, number="SV/26-27/00001", due=Money(amount, currency)
        )

    assert payload(india, "1180", "INR") == (
        "upi://pay?pa=shanti%40bank&pn=Shanti%20%26%20Sons&tr=01900000000070008000000000000001"
        "&tn=Invoice%20SV%2F26-27%2F00001&am=1180.00&cu=INR"
    )
    assert payload(europe, "12.3", "EUR").split("\n") == [
        "BCD", "002", "1", "SCT", "COBADEFFXXX", "Kranich GmbH", "DE89370400440532013000", "EUR12.30", "", "", "SV/26-27/00001",
    ]  # fmt: skip
    assert payload(india, "0", "INR") == payload(india, "5", "EUR") == payload({"name": "x"}, "5", "INR") == ""


def test_nothing_is_loaded_from_outside(caplog, tmp_path):
    secret = tmp_path / "secret.css"
    secret.write_text("body::before { content: 'SECRET' }")
    html = (
        f'<link rel="stylesheet" href="file://{secret}"><link rel="attachment" href="file://{secret}">'
        '<img src="http://169.254.169.254/x"><img src="munim:fonts/../engine.py"><img src="data:image/png;base64,AA==">'
        f"<style>@import url('file://{secret}'); p {{ background: url(http://127.0.0.1:1/x) }}</style><p>here</p>"
    )

    pdf = engine.pdf(html)

    assert "SECRET" not in pages(pdf)[0]
    assert b"EmbeddedFile" not in pdf
    assert sum("Documents load nothing from outside" in record.getMessage() for record in caplog.records) >= 5


# --- Invoices -----------------------------------------------------------------------------------------------------


@pytest.fixture
def payable_school(db):
    school = make_organisation()
    details = school.party.details | {"upi_id": "school@bank", "bank": {"name": "HDFC Bank", "ifsc": "HDFC0000417"}}
    school.party = BillingParty.objects.create(
        organisation=school, details=details, country="IN", region="29", registered=True
    )
    school.save()
    return school


def test_an_invoice_says_everything_the_law_asks_for(payable_school):
    customer = make_customer(
        payable_school, name="Meera <b>Iyer</b>", registered=True, region="33", tax_ids={"gstin": "33AAFCT2207K1ZJ"}
    )
    invoice = issue(customer, line("100000.00"), custom_fields={"Student": "Aarav"}, memo="Second term")

    pdf = render_invoice(invoice.pk)

    (text,) = pages(pdf)
    for part in (
        "Tax invoice", invoice.number, "Sunrise Valley School", "29AAACS1234F1Z5", "Meera <b>Iyer</b>", "33AAFCT2207K1ZJ",
        "1 Jun 2026", "15 Jun 2026", "Tamil Nadu (33)", "Tuition, June", "9992", "18 %", "IGST", "1,00,000.00", "18,000.00",
        "₹1,18,000.00", "Rupees One Lakh Eighteen Thousand Only", "Aarav", "Second term", "school@bank", "Page 1 of 1",
    ):  # fmt: skip
        assert part in text, part
    assert all("Sans" in name and "DejaVu" not in name for name in fonts_of(pdf))
    assert missing_glyphs(pdf) == 0


def test_a_long_invoice_repeats_its_head_and_counts_its_pages(payable_school):
    invoice = issue(make_customer(payable_school), *[line("10.00", description=f"Bus ticket {i}") for i in range(75)])

    found = pages(render_invoice(invoice.pk))

    assert len(found) == 3
    assert [("Description" in page, f"Page {i} of 3" in page) for i, page in enumerate(found, 1)][:2] == [
        (True, True)
    ] * 2
    assert all(any(re.search(rf"Bus ticket {i}\b", page) for page in found) for i in range(75))


def test_hindi_is_drawn_with_our_fonts(payable_school):
    customer = make_customer(payable_school, name="मीरा अय्यर", language="hi")
    invoice = issue(customer, line("45678.00", description="शिक्षण शुल्क"))

    pdf = render_invoice(invoice.pk)

    assert missing_glyphs(pdf) == 0
    assert not [name for name in fonts_of(pdf) if "DejaVu" in name]
    assert "रुपये" in invoice_html(invoice)
    assert "देय राशि" in invoice_html(invoice)


def test_states_are_watermarks_and_only_open_invoices_ask_for_money(payable_school):
    customer = make_customer(payable_school)
    unpaid, paid, void, credited = (issue(customer) for _ in range(4))
    draft = create_invoice(organisation=payable_school, customer_id=customer.pk, lines=[line()], currency="INR")
    allocate_payment(payment_id=capture(customer, "1180.00", invoice=paid).pk)
    void_invoice(invoice_id=void.pk, reason="x", actor=CLERK)
    issue_credit_note(invoice_id=credited.pk, amounts=None, reason="x", actor=CLERK)

    seen = {}
    for invoice in Invoice.objects.select_related("organisation__party", "customer__party"):
        html = invoice_html(invoice)
        marks = re.findall(r'class="watermark \w+">(\w+)<', html)
        seen[invoice.pk] = (marks, "Scan with any UPI app" in html)

    assert seen == {
        unpaid.pk: ([], True),
        paid.pk: (["PAID"], False),
        void.pk: (["VOID"], False),
        credited.pk: (["CREDITED"], False),
        draft.pk: (["DRAFT"], False),
    }


def test_a_part_paid_invoice_asks_for_the_rest(payable_school):
    customer = make_customer(payable_school)
    invoice = issue(customer)
    allocate_payment(payment_id=capture(customer, "1000.00", invoice=invoice).pk)

    text = pages(render_invoice(invoice.pk))[0]

    assert "−₹1,000.00" in text
    assert "₹180.00" in text


def test_a_written_off_invoice_says_why_nothing_is_due(payable_school):
    invoice = issue(make_customer(payable_school))
    allocate_payment(payment_id=capture(invoice.customer, "1000.00", invoice=invoice).pk)
    write_off_invoice(invoice_id=invoice.pk, reason="Moved away", actor=CLERK)

    text = re.sub(r"\s+", " ", pages(render_invoice(invoice.pk))[0])

    assert "Total ₹1,180.00 Paid −₹1,000.00 Written off −₹180.00" in text
    assert "Amount due ₹0.00" in text
    assert "Written off" not in pages(render_invoice(issue(invoice.customer).pk))[0]


@pytest.mark.parametrize(
    ("last", "said"), [(date(2026, 4, 1), "1 Apr 2026"), (date(2026, 4, 30), "1 Apr 2026 – 30 Apr 2026")]
)
def test_a_period_of_one_day_is_that_day(payable_school, last, said):
    invoice = issue(make_customer(payable_school))
    invoice.period_start, invoice.period_end = date(2026, 4, 1), last

    html = invoice_html(invoice)

    assert re.search(rf">{said}<", html)


@pytest.mark.django_db
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("words", "days"),
    [
        ("Calls: usage recorded later, 1 Apr 2026 to 30 Apr 2026", []),
        ("Calls: usage recorded later, 1 Apr 2026 to 10 Apr 2026", ["1 Apr 2026 – 30 Apr 2026"]),
        ("Calls", ["1 Apr 2026 – 30 Apr 2026"]),
    ],
)
def test_a_line_whose_words_name_its_days_says_them_once(payable_school, words, days):
    invoice = issue(
        make_customer(payable_school),
        line(description=words, period_start=date(2026, 4, 1), period_end=date(2026, 4, 30)),
    )

    assert lines.printed(invoice.lines.get(), "INR", "en").notes == days


@pytest.mark.django_db
def test_a_reverse_charge_says_so_in_the_buyers_language(nordlicht):
    customer = make_customer(nordlicht, name="Société Azur", country="FR", region="", registered=True, language="fr")
    invoice = issue(customer, line("12250.00", "EUR"))

    text = pages(render_invoice(invoice.pk))[0]

    assert "Autoliquidation de la TVA par le preneur." in text
    assert "12\u00a0250,00" in text


def test_a_credit_note_names_its_invoice(payable_school):
    invoice = issue(make_customer(payable_school))
    note = issue_credit_note(invoice_id=invoice.pk, amounts={1: Money("400.00", "INR")}, reason="Late bus", actor=CLERK)

    (text,) = pages(render_credit_note(note.pk))
    assert "Unit price" not in text, "a column that stays empty"
    assert "Unit price" in pages(render_invoice(invoice.pk))[0]

    for part in ("Credit note", note.number, invoice.number, "Late bus", "₹472.00", "36.00"):
        assert part in text, part


@pytest.mark.django_db
def test_only_a_picture_is_a_logo(school):
    def logo(text):
        school.settings = {"logo": text}
        return logo_of(school)

    assert logo(f"data:image/png;base64,{PIXEL}")[0] == "image/png"
    assert logo("data:image/svg+xml;base64,PHN2Zy8+") is None
    assert logo("data:image/png;base64,AAAA") is None
    assert logo("file:///etc/passwd") is None
    assert logo("data:image/png;base64,***") is None
    school.settings = {"logo": f"data:image/png;base64,{PIXEL}", "brand_color": "red;} body {display:none"}
    school.save()
    invoice = issue(make_customer(school))
    html = invoice_html(Invoice.objects.get(pk=invoice.pk))
    assert "display:none" not in html
    assert b"/Image" in render_invoice(invoice.pk)


@pytest.mark.django_db
def test_a_line_of_several_tiers_says_each_price_and_no_average():
    tiers = tuple(
        {"kind": "tier", "up_to": up_to, "quantity": quantity, "unit_price": price, "flat_fee": "0", "amount": amount}
        for up_to, quantity, price, amount in (
            ("10000", "10000", "0.5", "5000.00"),
            (None, "1000", "0.25", "250.00"),
        )
    )
    calls = line(
        "5250.00",
        description="API calls",
        quantity=Decimal(11000),
        unit_price=Decimal("0.477272727273"),
        details=tiers,
    )

    text = pages(render_invoice(issue(make_customer(make_organisation()), calls).pk))[0]

    assert "10,000 × 0.50 = 5,000.00" in text
    assert "1,000 × 0.25 = 250.00" in text
    assert "0.477272727273" not in text


@pytest.mark.parametrize("language", ["de", "fr", "hi"])
def test_no_word_of_a_document_is_missing_in_a_language(language):
    """Only what is printed for India or for euros alone, and what is the same in every language, is English there."""
    of_other_countries = {"bill_of_supply", "pay_upi"} if language != "hi" else {"pay_epc"}

    missing = set(labels("en")) - set(labels(language).maps[0])

    assert missing - {"code"} == of_other_countries
