"""Invoice PDFs a second beside WeasyPrint alone on a static page of like size."""

from decimal import Decimal
from functools import lru_cache

import segno
from django.db import transaction
from moneyed import Money
from weasyprint import CSS, HTML
from weasyprint.text.fonts import FontConfiguration

from bench import population
from bench.measuring import Line, compare, rate
from billing.models import Customer
from invoices.drafts import InvoiceDraft, LineInput
from invoices.rendering.documents import render_invoice
from invoices.services.bulk import issue_invoices

LINES = 15
STYLE = """
@page { size: A4; margin: 18mm; @bottom-right { content: counter(page) " / " counter(pages); font-size: 8pt; } }
body { font-family: sans-serif; font-size: 9pt; } h1 { font-size: 20pt; }
table { width: 100%; table-layout: fixed; border-spacing: 0; } td, th { padding: 2mm 1mm; text-align: left; }
tr + tr td { border-top: 0.2mm solid #ccc; } .n { text-align: right; } svg { width: 28mm; height: 28mm; }
"""


def measure(scale: float) -> list[Line]:
    """One page, 15 lines, tax table, QR code."""
    organisation = population.build(customers=1, code="pdf")
    customer = Customer.objects.of(organisation).get()
    lines = [
        LineInput(
            description=f"Service number {n} with a description of usual length",
            amount=Money("1234.50", "INR"),
            quantity=Decimal(n),
            unit="seat",
            unit_price=Decimal("123.45"),
            tax_category="saas",
        )
        for n in range(1, LINES + 1)
    ]
    count = max(int(12 * scale), 2)
    drafts = [InvoiceDraft(customer_id=customer.pk, currency="INR", lines=lines)] * count
    with transaction.atomic():
        invoices = [one.id for one in issue_invoices(organisation=organisation, drafts=drafts, at=population.NOW)]
    render_invoice(invoices[0])
    _draw_static()

    return [
        compare(
            name="invoice PDF, 1 worker",
            unit="PDF/s",
            limit_is="WeasyPrint alone on a static page of like size",
            aim=0.8,
            product=lambda _: rate(lambda: sum(bool(render_invoice(pk)) for pk in invoices)),
            limit=lambda _: rate(lambda: sum(bool(_draw_static()) for _ in range(count))),
        )
    ]


@lru_cache(maxsize=1)
def _shared() -> tuple[FontConfiguration, CSS, str]:
    fonts = FontConfiguration()
    rows = "".join(
        f"<tr><td>{n}</td><td>Service number {n} with a description of usual length</td><td>998315</td>"
        f"<td class=n>{n}</td><td class=n>123.45</td><td class=n>18 %</td><td class=n>1,234.50</td></tr>"
        for n in range(1, LINES + 1)
    )
    qr = segno.make("upi://pay?pa=bench@upi&pn=Bench&am=21850.65&cu=INR&tn=SB/26-27/00001").svg_inline(scale=3)
    page = (
        f"<h1>Tax invoice</h1><table><tr><td>Bench Works<br>12 Residency Road<br>560025 Bengaluru<br>GSTIN 29AAACS1234F1Z5"
        f"</td><td>Customer<br>4 Temple Street<br>570001 Mysuru</td><td>SB/26-27/00001<br>1 June 2026<br>15 June 2026</td></tr>"
        f"</table><table><tr><th>#<th>Description<th>SAC<th>Quantity<th>Price<th>Tax<th>Amount</tr>{rows}</table>"
        f"<table><tr><td>IGST</td><td>18 %</td><td class=n>18,517.50</td><td class=n>3,333.15</td></tr></table>"
        f"<p>Rupees twenty-one thousand eight hundred fifty and sixty-five paise only</p>{qr}"
    )
    return fonts, CSS(string=STYLE, font_config=fonts), page


def _draw_static() -> bytes:
    fonts, style, page = _shared()
    return HTML(string=page).write_pdf(stylesheets=[style], font_config=fonts) or b""
