"""What the invoices app refuses, by name."""

from billing.errors import Conflict, InvalidInput


class MissingTaxRate(InvalidInput):
    code = "missing_tax_rate"
    message = "No tax rate for category '{category}' in {country} {region} on {on}; add one under tax rates."


class EmptyInvoice(InvalidInput):
    code = "empty_invoice"
    message = "An invoice needs at least one line."


class NegativeInvoice(InvalidInput):
    code = "negative_invoice"
    message = "The lines come to {total}; an invoice cannot be negative, issue a credit note instead."


class InvoiceNotDraft(Conflict):
    code = "invoice_not_draft"
    message = "Only a draft can be finalised; this invoice is {status}."


class InvoiceNotOpen(Conflict):
    code = "invoice_not_open"
    message = "The invoice is {status}; {operation} needs one that is {expected}."


class InvoiceHasPayments(Conflict):
    code = "invoice_has_payments"
    message = "The invoice has payments or credits; issue a credit note instead of voiding it."


class CreditExceedsInvoice(Conflict):
    code = "credit_exceeds_invoice"
    message = "Only {left} of {what} is left to credit; {asked} was asked for."


class NothingToCredit(Conflict):
    code = "nothing_to_credit"
    message = "The invoice is fully credited already."


class NothingToRefund(Conflict):
    code = "nothing_to_refund"
    message = "The credit note would refund nothing: {why}. Issue it without a refund."


class NothingToSendAgain(Conflict):
    code = "nothing_to_send_again"
    message = "Nothing of {number} can be refunded again: {why}."


class NumberTooLong(Conflict):
    code = "number_too_long"
    message = "'{number}' has more than 16 characters; shorten the code of the number series."


class InvalidInstallments(InvalidInput):
    code = "invalid_installments"
    message = "The installments are not valid."


class MailRefused(InvalidInput):
    code = "mail_refused"
    message = "The mail cannot be sent."
