from invoices.models.documents import (
    CreditNote,
    Installment,
    InstallmentPlan,
    Invoice,
    InvoiceLine,
    InvoiceTax,
    NumberSeries,
    PaymentAllocation,
    RecognitionEntry,
    TaxRate,
)
from invoices.models.mail import Mail

__all__ = [
    "CreditNote",
    "Installment",
    "InstallmentPlan",
    "Invoice",
    "InvoiceLine",
    "InvoiceTax",
    "Mail",
    "NumberSeries",
    "PaymentAllocation",
    "RecognitionEntry",
    "TaxRate",
]
