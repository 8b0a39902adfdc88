"""Words of the letters, by kind and language: subject, paragraphs, and the label of the button where there is one.

Placeholders are filled from the letter's values; a paragraph whose condition is not met is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """One kind of letter in one language."""

    subject: str
    paragraphs: tuple[str, ...]
    button: str = ""
    attaches_invoice: bool = False


ENGLISH: Mapping[str, Words] = {
    "invoice": Words(
        "Invoice {number} from {seller}",
        (
            "Please find attached invoice {number} over {total}.",
            "{due} is due by {due_on}.",
            "Thank you for your business.",
        ),
        attaches_invoice=True,
    ),
    "receipt": Words(
        "We received your payment of {amount}",
        ("Thank you: we received {amount} on {paid_on}.", "It was paid towards {number}."),
    ),
    "credit_note": Words(
        "Credit note {number} from {seller}",
        ("Please find attached credit note {number} over {total}.", "Reason: {reason}"),
    ),
    "reminder_1": Words(
        "Reminder: invoice {number} was due on {due_on}",
        (
            "This is a friendly reminder that {due} of invoice {number} was due on {due_on}.",
            "If you have paid in the last days, please take no notice of this letter.",
        ),
        attaches_invoice=True,
    ),
    "reminder_2": Words(
        "Second reminder: {due} of invoice {number} is overdue",
        (
            "{due} of invoice {number} has been overdue since {due_on}.",
            "Please pay it in the next days, or write to us if something is not right with it.",
        ),
        attaches_invoice=True,
    ),
    "final_notice": Words(
        "Final notice: invoice {number}",
        (
            "In spite of our reminders {due} of invoice {number} is still open; it was due on {due_on}.",
            "Please pay now. Otherwise we have to stop our service to you.",
        ),
        attaches_invoice=True,
    ),
    "new_method": Words(
        "Your payment of {due} could not be made",
        (
            "Your bank refused the payment of {due} for invoice {number}, and will refuse it again.",
            "Please give us another card, account or mandate; we then try once more by ourselves.",
        ),
    ),
    "expiry_notice": Words(
        "Your {method} expires soon",
        (
            "Your {method} expires on {expires_on}.",
            "Please give us a new one in time, so that your next payment succeeds.",
        ),
    ),
    "trial_ending": Words(
        "Your trial of {plan} ends on {trial_ends_on}",
        (
            "Your trial of {plan} ends on {trial_ends_on}.",
            "You do not have to do anything to go on; your first invoice follows then.",
        ),
    ),
    "entitlement_threshold": Words(
        "You have used {threshold} % of {feature}",
        (
            "You have used {used} of {limit} of {feature} in the present period.",
            "If you need more, a bigger plan may suit you better: write to us, and we look at it together.",
        ),
    ),
    "action_required": Words(
        "Please confirm your payment of {amount}",
        ("Your bank asks you to confirm the payment of {amount} yourself.", "It takes a minute on this page:"),
        button="Confirm payment",
    ),
}
GERMAN: Mapping[str, Words] = {
    "invoice": Words(
        "Rechnung {number} von {seller}",
        (
            "anbei erhalten Sie die Rechnung {number} über {total}.",
            "{due} sind bis zum {due_on} zu zahlen.",
            "Vielen Dank für Ihr Vertrauen.",
        ),
        attaches_invoice=True,
    ),
    "receipt": Words(
        "Ihre Zahlung über {amount} ist eingegangen",
        ("vielen Dank: {amount} sind am {paid_on} bei uns eingegangen.", "Die Zahlung gehört zu {number}."),
    ),
    "credit_note": Words(
        "Rechnungskorrektur {number} von {seller}",
        ("anbei erhalten Sie die Rechnungskorrektur {number} über {total}.", "Grund: {reason}"),
    ),
    "entitlement_threshold": Words(
        "Sie haben {threshold} % von {feature} verbraucht",
        (
            "im laufenden Zeitraum haben Sie {used} von {limit} von {feature} verbraucht.",
            "Wenn Sie mehr brauchen, passt vielleicht ein größerer Tarif: schreiben Sie uns.",
        ),
    ),
    "reminder_1": Words(
        "Zahlungserinnerung: Rechnung {number}",
        (
            "{due} der Rechnung {number} waren am {due_on} fällig.",
            "Sollten Sie in den letzten Tagen gezahlt haben, ist dieses Schreiben gegenstandslos.",
        ),
        attaches_invoice=True,
    ),
    "reminder_2": Words(
        "Mahnung: {due} der Rechnung {number} sind überfällig",
        ("{due} der Rechnung {number} sind seit dem {due_on} überfällig.", "Bitte zahlen Sie in den nächsten Tagen."),
        attaches_invoice=True,
    ),
    "final_notice": Words(
        "Letzte Mahnung: Rechnung {number}",
        (
            "trotz unserer Erinnerungen sind {due} der Rechnung {number} offen; sie waren am {due_on} fällig.",
            "Bitte zahlen Sie jetzt. Sonst müssen wir unsere Leistung einstellen.",
        ),
        attaches_invoice=True,
    ),
}
HINDI: Mapping[str, Words] = {
    "invoice": Words(
        "चालान {number}: {seller}",
        ("चालान {number} संलग्न है। कुल राशि {total}।", "{due} का भुगतान {due_on} तक करें।", "धन्यवाद।"),
        attaches_invoice=True,
    ),
    "receipt": Words(
        "{amount} का भुगतान प्राप्त हुआ", ("हमें {paid_on} को {amount} प्राप्त हुए।", "यह भुगतान {number} के लिए है।")
    ),
    "reminder_1": Words(
        "स्मरण: चालान {number}",
        ("चालान {number} के {due} का भुगतान {due_on} तक देय था।", "यदि आपने भुगतान कर दिया है तो इस पत्र पर ध्यान न दें।"),
        attaches_invoice=True,
    ),
    "reminder_2": Words(
        "दूसरा स्मरण: चालान {number}",
        ("चालान {number} के {due} {due_on} से बकाया हैं।", "कृपया शीघ्र भुगतान करें।"),
        attaches_invoice=True,
    ),
    "final_notice": Words(
        "अंतिम सूचना: चालान {number}",
        ("चालान {number} के {due} अब भी बकाया हैं; देय तिथि {due_on} थी।", "कृपया अभी भुगतान करें, अन्यथा सेवा रोकनी पड़ेगी।"),
        attaches_invoice=True,
    ),
}
GREETINGS = {
    "en": ("Dear {name},", "Kind regards"),
    "de": ("Guten Tag {name},", "Mit freundlichen Grüßen"),
    "hi": ("प्रिय {name},", "सादर"),
}
KINDS = frozenset(ENGLISH)
_LANGUAGES = {"de": GERMAN, "hi": HINDI}


def words(kind: str, language: str) -> tuple[Words, str]:
    """Words of a kind and the language they are in; English where the language lacks the kind."""
    language = language.split("-")[0].lower()
    found = _LANGUAGES.get(language, {}).get(kind)
    return (found, language) if found else (ENGLISH[kind], "en")
