"""Invoice PDFs a second beside WeasyPrint alone on the same finished page."""

from decimal import Decimal

from django.db import transaction
from moneyed import Money

from bench import population
from bench.measuring import Line, compare, rate
from billing.models import Customer
from invoices.drafts import InvoiceDraft, LineInput
from invoices.models import Invoice
from invoices.rendering import engine
from invoices.rendering.documents import invoice_html, render_invoice
from invoices.services.bulk import issue_invoices

LINES = 15


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
    page = invoice_html(Invoice.objects.get(pk=invoices[0]))
    render_invoice(invoices[0])

    return [
        compare(
            name="invoice PDF, 1 worker",
            unit="PDF/s",
            limit_is="WeasyPrint alone on the same finished page",
            aim=0.85,
            product=lambda _: rate(lambda: sum(bool(render_invoice(pk)) for pk in invoices)),
            limit=lambda _: rate(lambda: sum(bool(engine.pdf(page)) for _ in range(count))),
        )
    ]
