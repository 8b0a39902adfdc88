"""Days as people write them, the same in the console and in the texts of invoice lines."""

from datetime import date


def in_words(day: date) -> str:
    """``3 Jun 2026``."""
    return f"{day.day} {day:%b %Y}"


def span_in_words(first_on: date, last_on: date) -> str:
    """``3 Jun 2026 to 2 Jul 2026``."""
    return f"{in_words(first_on)} to {in_words(last_on)}"
