"""Words of the texts, by kind and language: one or two segments, the amount, the number and the seller. Pure."""

from collections.abc import Mapping

MAX_LETTERS = 320  # two segments of the plain alphabet, four to five of any other
SELLER_LETTERS = 30

ENGLISH: Mapping[str, str] = {
    "reminder_1": "{seller}: {due} of invoice {number} was due on {due_on}. Paid already? Then thank you. STOP ends texts.",
    "reminder_2": "{seller}: {due} of invoice {number} is overdue since {due_on}. Please pay soon. STOP ends texts.",
    "final_notice": "{seller}: last notice. Pay {due} of invoice {number} now to keep your service. STOP ends texts.",
}
GERMAN: Mapping[str, str] = {
    "reminder_1": "{seller}: {due} der Rechnung {number} waren am {due_on} fällig. Schon gezahlt? Danke! STOP beendet SMS.",
    "reminder_2": "{seller}: {due} der Rechnung {number} sind seit {due_on} überfällig. Bitte zahlen. STOP beendet SMS.",
    "final_notice": "{seller}: letzte Mahnung. Bitte {due} der Rechnung {number} jetzt zahlen. STOP beendet SMS.",
}
HINDI: Mapping[str, str] = {
    "reminder_1": "{seller}: चालान {number} के {due} का भुगतान {due_on} तक देय था। STOP: संदेश बंद।",
    "reminder_2": "{seller}: चालान {number} के {due} {due_on} से बकाया हैं। कृपया भुगतान करें। STOP: संदेश बंद।",
    "final_notice": "{seller}: अंतिम सूचना। चालान {number} के {due} अभी चुकाएँ। STOP: संदेश बंद।",
}
KINDS = frozenset(ENGLISH)
_LANGUAGES = {"de": GERMAN, "hi": HINDI}


def language_of(language: str) -> str:
    """The language the texts of ``language`` are in: English where there are none."""
    code = language.split("-")[0].lower()
    return code if code in _LANGUAGES else "en"


def body(kind: str, *, language: str, seller: str, due: str, number: str, due_on: str) -> str:
    """The text of a kind. Raises ``KeyError`` for a kind that has none."""
    words = _LANGUAGES.get(language_of(language), ENGLISH)[kind]
    short = " ".join(seller.split())
    short = short if len(short) <= SELLER_LETTERS else short[: SELLER_LETTERS - 1].rstrip() + "…"
    amount = due.replace("\u00a0", " ")
    if language_of(language) != "hi":  # one letter outside of the plain alphabet doubles the segments of the whole text
        amount = amount.replace("₹", "Rs.").replace("−", "-")
    plain = {"due": amount, "due_on": due_on, "number": number}
    return words.format(seller=short, **plain)[:MAX_LETTERS]
