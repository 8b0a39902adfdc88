"""A mail from its row: values, words, templates, attachment. Nothing is sent and nothing is written here."""

from datetime import date
from email.headerregistry import Address
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from moneyed import Money

from billing.models import Organisation
from invoices.mail.words import GREETINGS, words
from invoices.models import Mail
from invoices.rendering import formats, render_credit_note, render_invoice
from invoices.rendering.view import brand_color


class Values(dict[str, str]):
    """Values of a letter; what is not known is printed as a dash."""

    def __missing__(self, key: str) -> str:
        return "–"


def message_id(mail: Mail) -> str:
    """The same for every try of one letter, so that a doubled one can be told."""
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or "munim.example"
    return f"<{mail.pk}@{domain}>"


def letter(mail: Mail, connection: Any = None) -> EmailMultiAlternatives:
    """The message of ``mail`` with its organisation, customer, invoice and credit note loaded."""
    organisation = mail.organisation
    chosen, language = words(mail.kind, mail.customer.language or organisation.language)
    values = values_of(mail, language)
    greeting, regards = (text.format_map(values) for text in GREETINGS[language])
    context: dict[str, Any] = {
        "subject": _one_line(chosen.subject.format_map(values)),
        "greeting": greeting,
        "paragraphs": [paragraph.format_map(values) for paragraph in chosen.paragraphs],
        "button": chosen.button,
        "link": _link(mail.context.get("action_url")) if chosen.button else "",
        "regards": regards,
        "seller": values["seller"],
        "color": brand_color(organisation),
        "language": language,
    }
    message = EmailMultiAlternatives(
        subject=context["subject"],
        body=render_to_string("mail/letter.txt", context),
        from_email=_sender(organisation, values["seller"]),
        to=[mail.recipient],
        reply_to=_reply_to(organisation),
        headers={"Message-ID": mail.message_id or message_id(mail), "Auto-Submitted": "auto-generated"},
        connection=connection,
    )
    message.attach_alternative(render_to_string("mail/letter.html", context), "text/html")
    for name, pdf in _attachments(mail, attaches_invoice=chosen.attaches_invoice):
        message.attach(name, pdf, "application/pdf")
    return message


def values_of(mail: Mail, language: str) -> Values:
    """What the words of a letter may name: the letter's own context, its invoice and its credit note."""
    seller = _party_of(mail.organisation).get("name") or mail.organisation.name
    values = Values(name=mail.customer.name or "", seller=str(seller))
    invoice, note = mail.invoice, mail.credit_note
    if invoice is not None:
        values |= {
            "number": invoice.number,
            "total": formats.amount(invoice.total, language),
            "due": formats.amount(invoice.due, language),
            "due_on": formats.day(invoice.due_on, language, invoice.currency),
        }
    if note is not None:
        values |= {"number": note.number, "total": formats.amount(note.total, language), "reason": note.reason}
    values |= {
        key: _shown(key, value, language) for key, value in mail.context.items() if isinstance(value, str | int | dict)
    }
    return values


def _shown(key: str, value: Any, language: str) -> str:
    """Amounts and days of a context in the letter's language."""
    if isinstance(value, dict) and set(value) == {"amount", "currency"}:
        return formats.amount(Money(value["amount"], value["currency"]), language)
    if key.endswith("_on") and isinstance(value, str):
        try:
            return formats.day(date.fromisoformat(value[:10]), language)
        except ValueError:
            return value
    return str(value)


def _attachments(mail: Mail, *, attaches_invoice: bool) -> list[tuple[str, bytes]]:
    if mail.credit_note is not None:
        return [(_file_name(mail.credit_note.number), render_credit_note(mail.credit_note.pk))]
    if mail.invoice is not None and attaches_invoice:
        return [(_file_name(mail.invoice.number), render_invoice(mail.invoice.pk))]
    return []


def _file_name(number: str) -> str:
    return f"{number.replace('/', '-')}.pdf"


def _link(url: Any) -> str:
    """Only web addresses become buttons."""
    text = str(url or "")
    return text if text.startswith(("https://", "http://")) else ""


def _sender(organisation: Organisation, seller: str) -> str:
    """The seller's name with our address: mail is sent in its name, answers go to it."""
    address = parseaddr(settings.DEFAULT_FROM_EMAIL)[1]
    user, _, domain = address.rpartition("@")
    return str(Address(display_name=_one_line(seller)[:80], username=user, domain=domain))


def _reply_to(organisation: Organisation) -> list[str]:
    email = str(_party_of(organisation).get("email") or "")
    return [email] if "@" in email and _one_line(email) == email else []


def _party_of(organisation: Organisation) -> dict[str, Any]:
    details: Any = organisation.party.details if organisation.party else None
    return details or {}


def _one_line(text: str) -> str:
    """Without line breaks: a header is one line."""
    return " ".join(text.split())
