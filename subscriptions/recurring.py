"""Monthly recurring revenue of one subscription. Pure; rule P1 of docs/mrr.md.

Components without a meter only, add-ons by their own quantity, paid in advance or in arrears: net recurring price × quantity ×
factor ÷ interval count ÷ 12, rounded half up per component. Metered usage, minimums, one-off charges and taxes never count;
neither does a trial, a pause or what has ended. An unpaid subscription counts until dunning gives it up (P8).
"""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from moneyed import Money

from billing import money
from subscriptions.lines import Component, PriceBook
from subscriptions.pricing import to_money

PER_YEAR = {"day": 365, "week": 52, "month": 12, "year": 1}
COUNTING_STATUSES = frozenset({"active", "past_due", "suspended"})


def component_mrr(component: Component, *, quantity: int, interval: str, interval_count: int) -> Money:
    """MRR of one licensed component; zero for a metered one."""
    if component.meter_id is not None:
        return money.zero(component.currency)
    return _a_month(component.price(quantity).exact, component.currency, interval, interval_count)


def mrr(*, book: PriceBook, quantity: int, status: str) -> Money:
    """MRR of a subscription in its currency: zero in a trial, a pause and after the end."""
    total = money.zero(book.currency)
    if status not in COUNTING_STATUSES:
        return total
    return sum(_parts(book, quantity), start=total)


def least_a_month(*, book: PriceBook, quantity: int) -> Money:
    """What a month costs at least, before anything is used: components without a meter, and minimums. Without tax.

    To compare plans by; MRR leaves minimums out. Raises what pricing raises.
    """
    total = sum((component.price(quantity).amount for component in book.recurring), start=money.zero(book.currency))
    minimums = (component.min_commitment for component in book.metered if component.min_commitment is not None)
    total = sum((to_money(minimum, book.currency) for minimum in minimums), start=total)
    if book.min_commitment is not None:
        total = max(total, to_money(book.min_commitment, book.currency))
    return _a_month(total.amount, book.currency, book.interval, book.interval_count)


def _a_month(amount: Decimal, currency: str, interval: str, interval_count: int) -> Money:
    """What an amount of a period is by the month, rounded half up."""
    minor = Fraction(amount) * PER_YEAR[interval] / (interval_count * 12) * 10 ** money.exponent(currency)
    half_up = (2 * minor.numerator + minor.denominator) // (2 * minor.denominator)
    return money.from_minor_units(half_up, currency)


def _parts(book: PriceBook, quantity: int) -> Iterable[Money]:
    for component in book.recurring:
        yield component_mrr(component, quantity=quantity, interval=book.interval, interval_count=book.interval_count)
