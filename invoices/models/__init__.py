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
from invoices.models.texts import TextMessage, TextOptOut

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
    "TextMessage",
    "TextOptOut",
]
