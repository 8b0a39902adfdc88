"""Billed usage windows: remembered when they are billed, looked at again while they are open, closed in the end.

The row of the subscription is locked by whoever bills it, so that a window is looked at by one at a time. A window remembers
how often its usage had changed when it was read: only one that changed since is read again. Events that come while a run
reads are found that way too, by the next one.
"""

import contextlib
import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import structlog
from django.db import connection
from django.db.models import Count, Exists, OuterRef

from billing import clock
from billing.arrays import among
from billing.errors import DomainError
from billing.ids import uuid7
from billing.metering import Used, Window
from billing.models import Organisation, UsageAdjustment, UsageWindow
from billing.selectors.usage import aggregate_parts, changes_of
from billing.services.usage_policy import policy_of
from invoices.claims import Stake
from invoices.drafts import LineInput
from subscriptions import late_usage
from subscriptions.arrears import MINIMUM, minimum_category
from subscriptions.late_usage import Correction
from subscriptions.lines import Component, PriceBook
from subscriptions.metering import windows_of
from subscriptions.models import DraftCycle
from subscriptions.selectors import PriceBooks, price_books
from subscriptions.services import claims, late_minimums
from subscriptions.services.late_minimums import days_of
from subscriptions.switching import as_paid

log = structlog.get_logger(__name__)
SLACK = timedelta(days=1)
"""How much longer a window stays open than it takes in late usage: what was just taken in is billed first."""
REMEMBER = """
INSERT INTO billing_usagewindow (id, recorded_at, organisation_id, customer_id, meter_id, subscription_ref, price_ref, component,
                                 starts_at, ends_at, parts, changes, least, owed, billed_at)
SELECT w.*, 0, %s
FROM unnest(%s::uuid[], %s::timestamptz[], %s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::text[],
            %s::timestamptz[], %s::timestamptz[], %s::jsonb[], %s::bigint[], %s::jsonb[]) AS w
ON CONFLICT DO NOTHING
"""


class Subject(NamedTuple):
    """A subscription that is being billed."""

    subscription_id: uuid.UUID
    customer_id: uuid.UUID
    currency: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What one subscription's usage was when it was read to be billed."""

    subject: Subject
    price_ref: uuid.UUID
    windows: Mapping[str, Window]
    """By component."""
    used: Mapping[Window, Sequence[Used]]
    changes: Mapping[Window, int]
    corrections: Sequence[Correction] = field(default=())
    least: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What minimums held the usage against, by component (``arrears.least_of``)."""


def plain(window: Window) -> Window:
    """The window without its split: what changes are counted of."""
    return window._replace(segments=(), group_by=(), with_values=False, at_peak=False)


def changes_before(windows: Iterable[Window]) -> dict[Window, int]:
    """How often each window had changed; to be asked before the windows are read."""
    return changes_of({plain(window) for window in windows})


def corrections(
    *, organisation: Organisation, subjects: Sequence[Subject], moments: Mapping[uuid.UUID, datetime] | None = None
) -> dict[uuid.UUID, list[Correction]]:
    """What changed in the open billed windows of the subscriptions, priced by the prices of their time. Reads only.

    It is borne once, by the earliest invoice to come: where a draft of the subscription waits, of a billing moment before its
    one in ``moments``, by that.
    """
    known = {subject.subscription_id: subject for subject in subjects}
    rows = list(UsageWindow.objects.filter(subscription_ref__in=among(known), closed_at=None).order_by("ends_at", "id"))
    if not rows:
        return {}
    plains = {row.pk: _window_of(row) for row in rows}
    changes = changes_of(plains.values())
    changed = _to_bear([row for row in rows if _has_changed(row, changes)], changes, moments or {})
    if not changed:
        return {}
    books = price_books(organisation, {row.price_ref for row in changed})
    asked = {row.pk: found for row in changed if (found := _asked(row, known, books))}
    used = aggregate_parts(window for _, window in asked.values())
    zone = clock.zone(organisation)
    result: dict[uuid.UUID, list[Correction]] = {}
    priced: list[tuple[UsageWindow, Component, Correction]] = []
    for row in changed:
        if row.pk in asked:
            component, window = asked[row.pk]
            with _without(row):
                book = books.get(row.price_ref, component.currency)
                one = _correction(row, component, book, used.get(window, ()), changes.get(plains[row.pk], 0), zone)
                priced.append((row, component, one))
                result.setdefault(row.subscription_ref, []).append(one)
    late_minimums.work_out(priced, books=books, zone=zone)
    _at_price_paid(priced, zone)
    return result


def _to_bear(
    rows: list[UsageWindow], changes: Mapping[Window, int], moments: Mapping[uuid.UUID, datetime]
) -> list[UsageWindow]:
    """Without the windows of subscriptions of which an earlier billing moment waits for the end of its grace.

    Read again after it is known who waits: a draft that is issued at this moment waits, or has billed what changed.
    """
    if not rows:
        return []
    waiting = DraftCycle.objects.filter(
        period__subscription__in={row.subscription_ref for row in rows}, finalized_at=None
    ).values_list("period__subscription", "period__starts_at")
    held = {pk for pk, starts_at in waiting if pk not in moments or starts_at < moments[pk]}
    again = UsageWindow.objects.filter(pk__in=[row.pk for row in rows], closed_at=None)
    again = again.exclude(subscription_ref__in=held).order_by("ends_at", "id")
    return [row for row in again if _has_changed(row, changes)]


def with_work(*, organisation: Organisation, subscription_ids: Any, at: datetime) -> list[uuid.UUID]:
    """Those of the subscriptions (ids or a query of them) with an open window that changed, owes, or is over; in order.

    Two queries however many there are. What changes while they run is found the next time.
    """
    rows = list(UsageWindow.objects.of(organisation).filter(subscription_ref__in=subscription_ids, closed_at=None))
    over, changes = _over(organisation, at), changes_before(_window_of(row) for row in rows)
    return sorted({row.subscription_ref for row in rows if row.ends_at < over or _has_changed(row, changes)})


def _window_of(row: UsageWindow) -> Window:
    return Window(row.customer_id, row.meter_id, row.starts_at, row.ends_at, subscription_id=row.subscription_ref)


def _has_changed(row: UsageWindow, changes: Mapping[Window, int]) -> bool:
    return changes.get(_window_of(row), 0) != row.changes or bool(row.owed)


def _over(organisation: Organisation, at: datetime) -> datetime:
    """Windows that ended before take in nothing any more."""
    return at - policy_of(organisation).lateness - SLACK


def carried(found: Iterable[Correction]) -> list[Correction]:
    """What is still owed once ``found`` is billed: a preview or a dry run finds it at the next billing moment."""
    return [left for one in found if (left := one.carried()) is not None]


def foresee(subscription: Any, found: Iterable[Correction]) -> None:
    """Note on a row that is moved on in memory that ``found`` is billed: looked up once, and never again for this row."""
    owe(subscription, carried(found))


def owe(subscription: Any, owed: list[Correction]) -> None:
    """Note on a row that is moved on in memory what is still owed for its billed windows, and that nothing else is."""
    subscription.owed_in_memory = owed


def foreseen(subscription: Any) -> list[Correction] | None:
    """What a row that was moved on in memory still owes for billed windows; None: it was not moved."""
    owed: list[Correction] | None = getattr(subscription, "owed_in_memory", None)
    return owed


def put_off_credits(found: Iterable[Correction]) -> None:
    """Owe what would be given back: it was billed on earlier invoices, so the next one of the run bears it, or after an end
    credit notes do."""
    for one in found:
        kept = [line for line in one.lines if line.amount.amount > 0]
        one.owe(one.lines, kept)
        one.lines = kept


def _at_price_paid(found: Sequence[tuple[UsageWindow, Component, Correction]], zone: Any) -> None:
    """Give back no more than was charged and still is: credits at the price that coupons left, what is owed from before with
    them, and nothing that was annulled, written off or credited otherwise. A few queries, where there are credits."""
    credits = [(row, one) for row, _, one in found if any(line.amount.amount < 0 for line in one.lines)]
    about: Any = _lines_about(credits)
    billed = claims.billed_lines(**about) if credits else {}
    for row, one in credits:
        first_on, last_on = days_of(row, zone)
        shares = {}
        for code in {line.code for line in one.lines}:
            lines = [line for line in billed.get((row.subscription_ref, code), ())
                     if line.first_on is None or line.last_on is None
                     or (line.first_on <= last_on and first_on <= line.last_on)]  # fmt: skip
            discount = sum((line.discount for line in lines), Decimal(0))
            charged = max(sum((line.given for line in lines), Decimal(0)), Decimal(0))
            if discount > 0:
                shares[code] = charged / (charged + discount)
        one.lines = as_paid(one.lines, shares)
    for row, _, one in found:
        one.lines = [*one.lines, *one.credits_of(row.owed, row.owed_minimum)]
    together: dict[Any, list[Correction]] = defaultdict(list)
    for row, _, one in found:
        together[row.subscription_ref, row.starts_at, row.ends_at].append(one)
    asked = {time: sum((one.amount for one in each), Decimal(0)) for time, each in together.items()}
    _within_claims([(row, one) for row, _, one in found if any(line.amount.amount < 0 for line in one.lines)], zone)
    for time, each in together.items():
        late_usage.hold_make_up(each, asked[time])


def _lines_about(credits: Sequence[tuple[UsageWindow, Correction]]) -> dict[str, set[Any]]:
    """Of which subscriptions and components invoice lines are asked for."""
    return {
        "subscription_ids": {row.subscription_ref for row, _ in credits},
        "codes": {line.code for _, one in credits for line in one.lines},
    }


def _within_claims(credits: Sequence[tuple[UsageWindow, Correction]], zone: Any) -> None:
    """Cut credits to what invoices still claim for the days of their windows; what one window gives back the next does not."""
    about: Any = _lines_about(credits)
    since = min((days_of(row, zone)[0] for row, _ in credits), default=date.max)
    stakes = claims.stakes_billed(**about, from_on=since) if credits else {}
    for row, one in credits:
        first_on, last_on = days_of(row, zone)
        left: dict[str, Decimal] = {}
        for code in {line.code for line in one.lines}:
            claimed = stakes.setdefault((row.subscription_ref, code), [])
            left[code] = sum((stake.amount for stake in claimed if _meets(stake, first_on, last_on)), Decimal(0))
        one.lines = late_usage.capped(one.lines, left)
        for line in one.lines:
            stakes[row.subscription_ref, line.code].append(Stake(line.code, line.amount.amount, first_on, last_on))


def _meets(stake: Stake, first_on: date, last_on: date) -> bool:
    """Whether a stake is of any of the days; one without days is of all."""
    if stake.first_on is None or stake.last_on is None:
        return True
    return stake.first_on <= last_on and first_on <= stake.last_on


def _asked(row: UsageWindow, known: Mapping[uuid.UUID, Subject], books: PriceBooks) -> tuple[Component, Window] | None:
    """The component a window was billed by, and the window as that component reads it."""
    with _without(row):
        book = books.get(row.price_ref, known[row.subscription_ref].currency)
        component = next((one for one in book.metered if one.code == row.component), None)
        windows = windows_of(
            book=book, customer_id=row.customer_id, subscription_id=row.subscription_ref, start=row.starts_at,
            end=row.ends_at,
        )  # fmt: skip
        return (component, windows[row.component]) if component else None
    return None


@contextlib.contextmanager
def _without(row: UsageWindow) -> Iterator[None]:
    """A window that cannot be priced any more stays open and is told of; it does not stop the present bill."""
    try:
        yield
    except DomainError as exc:
        log.warning("late_usage.not_priced", window=str(row.pk), error=exc.code)


def _correction(
    row: UsageWindow, component: Component, book: PriceBook, used: Sequence[Used], changes: int, zone: Any
) -> Correction:
    after = late_usage.dumped(used)
    lines = []
    if after != row.parts:
        before = late_usage.loaded(row.parts)
        about = _about(row, zone)
        lines = late_usage.lines_for(component=component, before=before, after=late_usage.loaded(after), **about)
    usage, minimum = _credits(row, component, book, zone)
    return Correction(
        row.pk, changes, component.currency, row.parts, after, lines=lines, credit=usage, minimum_credit=minimum
    )


def _credits(row: UsageWindow, component: Component, book: PriceBook, zone: Any) -> tuple[LineInput, LineInput]:
    """The lines that may give back later what finds no room now: for the usage, and for the version's minimum."""
    usage = late_usage.owed_line(
        said=f"{component.name}: credit for usage", code=component.code, tax_category=component.tax_category,
        currency=component.currency, **_about(row, zone),
    )  # fmt: skip
    minimum = late_usage.owed_line(
        said="Plan: credit for the minimum", code=MINIMUM, tax_category=minimum_category(book),
        currency=component.currency, **_about(row, zone),
    )  # fmt: skip
    return usage, minimum


def _about(row: UsageWindow, zone: Any) -> Any:
    first_on, last_on = days_of(row, zone)
    return {"first_on": first_on, "last_on": last_on, "window_id": row.pk}


def settle(*, organisation: Organisation, readings: Iterable[tuple[Reading, uuid.UUID | None]], at: datetime) -> None:
    """Remember what was billed, each reading with its invoice, in the transaction that bills it; close what is old."""
    readings = list(readings)
    _remember(organisation, [reading for reading, _ in readings], at)
    for reading, invoice_id in readings:
        _consume(organisation, reading.corrections, invoice_id, at)
    close(
        organisation=organisation, subscription_ids=[reading.subject.subscription_id for reading, _ in readings], at=at
    )


def close(*, organisation: Organisation, subscription_ids: Sequence[uuid.UUID], at: datetime) -> int:
    """Close the windows of the subscriptions that take in nothing any more and owe nothing.

    One that changed stays open while a draft of its subscription waits, which is to bear the change.
    """
    if not subscription_ids:
        return 0
    waits = DraftCycle.objects.filter(period__subscription=OuterRef("subscription_ref"), finalized_at=None)
    open_ones = UsageWindow.objects.filter(closed_at=None, owed=0)
    over = open_ones.filter(subscription_ref__in=among(subscription_ids), ends_at__lt=_over(organisation, at))
    rows = list(over.annotate(waits=Exists(waits)))
    changes = changes_before(_window_of(row) for row in rows if row.waits)
    done = [row.pk for row in rows if not row.waits or not _has_changed(row, changes)]
    return open_ones.filter(pk__in=done).update(closed_at=at) if done else 0


def _remember(organisation: Organisation, readings: Sequence[Reading], at: datetime) -> None:
    rows = [(reading, code, window) for reading in readings for code, window in reading.windows.items()]
    if not rows:
        return
    wall = clock.wall_now()
    columns = zip(
        *(
            (uuid7(), wall, organisation.pk, window.customer_id, window.meter_id, reading.subject.subscription_id,
             reading.price_ref, code, window.start, window.end, json.dumps(late_usage.dumped(reading.used.get(window, ()))),
             reading.changes.get(plain(window), 0), json.dumps(reading.least.get(code, {})))
            for reading, code, window in rows
        ),
        strict=True,
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(REMEMBER, [at, *map(list, columns)])


def _consume(
    organisation: Organisation, found: Sequence[Correction], invoice_id: uuid.UUID | None, at: datetime
) -> None:
    if not found:
        return
    numbers = dict(
        UsageWindow.objects.filter(pk__in=[one.window_id for one in found])
        .annotate(made=Count("adjustments"))
        .values_list("pk", "made")
    )
    UsageWindow.objects.bulk_update(
        [
            UsageWindow(
                pk=one.window_id, parts=one.after, changes=one.changes, owed=one.owed, owed_minimum=one.owed_minimum
            )
            for one in found
        ],
        ["parts", "changes", "owed", "owed_minimum"],
    )
    UsageAdjustment.objects.bulk_create(
        UsageAdjustment(
            organisation=organisation, window_id=one.window_id, number=numbers[one.window_id] + 1, before=one.before,
            after=one.after, changes=one.changes, amount=one.amount, currency=one.currency,
            invoice_ref=invoice_id if one.lines else None, made_at=at,
        )
        for one in found
        if one.lines or one.after != one.before
    )  # fmt: skip
