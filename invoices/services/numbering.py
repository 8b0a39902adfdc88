"""Taking document numbers: gapless, because the series' row stays locked until the documents are committed."""

from datetime import date

from django.db import connection, transaction

from billing.ids import uuid7
from billing.models import Organisation
from invoices import numbers
from invoices.models import NumberSeries

_TAKE = """
UPDATE invoices_numberseries SET next_number = next_number + %s
WHERE organisation_id = %s AND kind = %s AND code = %s AND financial_year = %s
RETURNING next_number - %s
"""


def series_code(organisation: Organisation, kind: str) -> str:
    """First part of the organisation's numbers: its setting, else initials; credit notes end in C by default."""
    invoice, note = numbers.series_codes(organisation.code, organisation.settings)
    return numbers.checked_code(note if kind == NumberSeries.Kind.CREDIT_NOTE else invoice)


def take_numbers(*, organisation: Organisation, kind: str, day: date, count: int = 1) -> list[str]:
    """``count`` consecutive numbers of the series of ``day``'s financial year, in the caller's transaction.

    Take them late: every other finalisation of the organisation waits from here until the commit. A rollback gives
    them back. Raises ``NumberTooLong``.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("Numbers are taken inside the transaction of their documents.")
    year = numbers.financial_year(day, organisation.financial_year_start)
    code = series_code(organisation, kind)
    first = _take(organisation, kind, code, year, count)
    if first is None:
        NumberSeries.objects.bulk_create(
            [NumberSeries(id=uuid7(), organisation=organisation, kind=kind, code=code, financial_year=year)],
            ignore_conflicts=True,
        )
        first = _take(organisation, kind, code, year, count) or 0
    return [numbers.format_number(code, year, first + i) for i in range(count)]


def _take(organisation: Organisation, kind: str, code: str, year: str, count: int) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, [count, organisation.pk, kind, code, year, count])
        row = cursor.fetchone()
    return row[0] if row else None
