"""The reading half of a billing run: what each billing moment comes to, which share an invoice. Writes nothing."""

import contextlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from billing import clock
from billing.errors import DomainError
from billing.models import Organisation
from billing.selectors.usage import Used, Window, aggregate_parts
from invoices.drafts import InvoiceDraft, LineInput
from invoices.services.bulk import Issuer
from subscriptions import late_usage
from subscriptions.arrears import Elapsed, arrears_lines, elapsed, least_of
from subscriptions.lines import Payer, PriceBook, billing_moment, draft_of, lines_in_advance
from subscriptions.metering import by_component, windows_of
from subscriptions.periods import local_date
from subscriptions.progressive import Earlier
from subscriptions.selectors import PriceBooks, price_books
from subscriptions.services import late_usage as late
from subscriptions.services.billing_run_lines import books_of, settled, shown_lines
from subscriptions.services.billing_run_rows import ALONE, Cycle, Due, PeriodStandsStill, Refusal, refusal
from subscriptions.services.billing_terms import TermsBook
from subscriptions.services.coupon_book import CouponBook
from subscriptions.services.interim_lines import lines_to_take_off
from subscriptions.services.zones import zone_named


class Cycles:
    """Prices billing moments; keeps what many subscriptions of one run share."""

    def __init__(self, *, organisation: Organisation, at: datetime, coupons: CouponBook | None = None) -> None:
        self.organisation = organisation
        self.at = at
        self.foreseen: dict[uuid.UUID, list[late_usage.Correction]] = {}
        """Subscriptions that were moved on in memory only, with what their billed windows still owe."""
        self.zone = clock.zone(organisation)
        self.today = at.astimezone(self.zone).date()
        self.issuer = Issuer(organisation=organisation, at=at)
        self.terms = TermsBook(organisation)
        self.coupons = coupons or CouponBook(organisation)
        self.interim: dict[tuple[uuid.UUID, datetime | None], Sequence[Earlier]] = {}
        """Lines of interim invoices that only a preview has issued, by subscription and start of the usage window."""
        self._books: dict[uuid.UUID, PriceBooks] = {}

    def price(self, rows: Sequence[Due]) -> tuple[list[Cycle], list[Refusal]]:
        """What each row owes at its billing moment, on the invoices they make. What cannot be priced is refused by itself.

        Of a customer who is consolidated, or has coupons, only the earliest day is billed; the other rows wait for the next call.
        """
        self.terms.meet(row.customer_id for row in rows)
        self.issuer.meet(row.customer_id for row in rows)
        self.coupons.meet(row.customer_id for row in rows)
        priced, refusals = self.lines(self.in_turn(rows))
        cycles: list[Cycle] = []
        for group in self._groups(priced):
            cycles += self._invoice(group, refusals)
        return cycles, refusals

    def lines(self, rows: Sequence[Due]) -> tuple[list[Cycle], list[Refusal]]:
        """Each row's billing moment with its lines, without invoices: ``settled`` takes off what was billed already."""
        self._read_books(rows)
        cycles: list[Cycle] = []
        refusals: list[Refusal] = []
        for row in rows:
            try:
                cycles.append(self._cycle(row))
            except Exception as exc:  # one broken subscription does not stop the others
                refusals.append(refusal(row, exc))
        changes = late.changes_before(window for cycle in cycles for window in cycle.windows.values())
        used = self._used(cycles)
        earlier = lines_to_take_off((cycle.row.id, cycle.moment.usage_start) for cycle in cycles)
        corrections = self._corrections(cycles)
        priced = []
        for cycle in cycles:
            try:
                row, corrected = cycle.row, corrections.get(cycle.row.id, [])
                cycle.lines = [*self._lines(cycle, used), *late_usage.charges(corrected)]
                window = row.id, cycle.moment.usage_start  # none when the first invoice is a draft and usage goes on
                cycle.earlier = [*earlier.get(window, ()), *self.interim.get(window, ())]
                cycle.reading = late.Reading(
                    late.Subject(row.id, row.customer_id, row.currency), row.usage_version_id or row.plan_version_id,
                    cycle.windows, used, changes, corrected, cycle.least,
                )  # fmt: skip
                priced.append(cycle)
            except Exception as exc:
                refusals.append(refusal(cycle.row, exc))
        return priced, refusals

    def usage_so_far(self, rows: Sequence[Due]) -> list[tuple[Cycle, list[LineInput]]]:
        """The lines for what each row has used in its open window, without minimums; rows without any are left out."""
        self._read_books(rows)
        cycles: list[Cycle] = []
        for row in rows:
            with contextlib.suppress(DomainError):
                cycles.append(self._cycle(row, used_until=self.at))
        used, found = self._used(cycles), []
        for cycle in cycles:
            assert cycle.row.usage_from is not None
            zone = self._zone(cycle.row)
            so_far = Elapsed(local_date(cycle.row.usage_from, zone), local_date(self.at, zone))
            with contextlib.suppress(DomainError):
                lines = arrears_lines(elapsed=so_far, book=cycle.usage_book, used=by_component(cycle.windows, used))
                if lines:
                    found.append((cycle, lines))
        return found

    def in_turn(self, rows: Sequence[Due]) -> list[Due]:
        """Without the rows that are due on a later day than another one of their customer, where the order matters."""
        first: dict[uuid.UUID, date] = {}
        for row in rows:
            if self._matters(row.customer_id):
                first[row.customer_id] = min(first.get(row.customer_id, date.max), self._day(row))
        if not first:
            return list(rows)
        return [row for row in rows if row.customer_id not in first or self._day(row) == first[row.customer_id]]

    def in_order(self, customer_id: uuid.UUID) -> bool:
        """Whether the customer's subscriptions are billed in the order of their days: they share invoices or coupons."""
        self.terms.meet([customer_id])
        self.coupons.meet([customer_id])
        return self._matters(customer_id)

    def _matters(self, customer_id: uuid.UUID) -> bool:
        return self.coupons.has(customer_id) or (self.terms.may_consolidate and self.terms.of(customer_id).consolidate)

    def forget(self) -> None:
        """The next rows are of other customers, or are read anew: what was noted of these is not needed any more."""
        self.coupons.forget()
        self.foreseen.clear()

    def _day(self, row: Due) -> date:
        return local_date(row.next_billing_at, self._zone(row))

    def _groups(self, cycles: Sequence[Cycle]) -> list[list[Cycle]]:
        """Cycles that share an invoice: of one consolidated customer, on one day, on the same payer's terms."""
        if not self.terms.may_consolidate:
            return [[cycle] for cycle in cycles]
        groups: dict[Any, list[Cycle]] = {}
        for cycle in cycles:
            row = cycle.row
            shared = (
                row.customer_id,
                self._day(row),
                row.currency,
                row.method_id,
                row.collect_automatically,
                row.net_days,
                cycle.book.inclusive,
            )
            together = self.terms.of(row.customer_id).consolidate and row.status not in ALONE
            groups.setdefault(shared if together else row.id, []).append(cycle)
        return [sorted(group, key=lambda cycle: cycle.row.external_id) for group in groups.values()]

    def _invoice(self, group: Sequence[Cycle], refusals: list[Refusal]) -> list[Cycle]:
        """Put the cycles of a group on one invoice, without those that cannot be priced alone: they are refused."""
        for cycle in group:
            if cycle.row.status not in ALONE:
                cycle.grace_days = self.terms.of(cycle.row.customer_id).grace_days
        billable = [cycle for cycle in group if any(line.amount.amount for line in cycle.lines)]
        for cycle in group:
            if not any(cycle is one for one in billable):
                settled([cycle], ())
        if not billable:
            return list(group)
        try:
            found = self.coupons.take_off(
                shown_lines(billable), customer_id=billable[0].row.customer_id, currency=billable[0].row.currency,
                books=books_of(billable),
            )  # fmt: skip
            invoice = self.issuer.prepare(self.draft(billable, settled(billable, found.lines)))
        except Exception as exc:
            if len(group) == 1:
                refusals.append(refusal(group[0].row, exc))
                return []
            good = [cycle for cycle in group if self.stands_alone(cycle, refusals)]
            if len(good) < len(group):
                return self._invoice(good, refusals) if good else []
            return [done for cycle in group for done in self._invoice([cycle], refusals)]
        for cycle in billable:
            cycle.invoice = invoice
        self.coupons.note(invoice.id, billable[0].row.customer_id, found.shares)
        return list(group)

    def stands_alone(self, cycle: Cycle, refusals: list[Refusal]) -> bool:
        """Whether the cycle can be invoiced by itself; notes why not."""
        try:
            if any(line.amount.amount for line in cycle.lines):
                self.issuer.prepare(self.draft([cycle], cycle.lines))
        except Exception as exc:
            refusals.append(refusal(cycle.row, exc))
            return False
        return True

    def draft(self, cycles: Sequence[Cycle], lines: Sequence[LineInput]) -> InvoiceDraft:
        """The invoice of one or several cycles, from ``lines``."""
        draft = draft_of(
            payer=_payer(cycles[0].row),
            lines=lines,
            period_start=min(cycle.moment.first_on for cycle in cycles),
            period_end=max(cycle.moment.last_on for cycle in cycles),
            issued_on=self.today,
            inclusive=cycles[0].book.inclusive,
        )
        return draft if len(cycles) == 1 else replace(draft, subscription_ref=None)

    def _read_books(self, rows: Sequence[Due]) -> None:
        wanted = {row.plan_version_id for row in rows} | {row.usage_version_id for row in rows if row.usage_version_id}
        wanted |= {uuid.UUID(noted["version"]) for row in rows for noted in row.earlier_terms}
        if missing := wanted - self._books.keys():
            self._books |= dict.fromkeys(missing, price_books(self.organisation, missing))

    def _book(self, version_id: uuid.UUID, currency: str, add_ons: Mapping[str, int] | None = None) -> PriceBook:
        return self._books[version_id].get(version_id, currency, add_ons)

    def _cycle(self, row: Due, *, used_until: datetime | None = None) -> Cycle:
        """The row's billing moment; its usage window ends there, or where ``used_until`` says.

        With ``used_until`` only that window is asked for: an end of the row before the next period does not matter to it.
        """
        book = self._book(row.plan_version_id, row.currency, row.add_ons)
        moment = billing_moment(
            anchor_on=row.anchor_on,
            interval=book.interval,
            interval_count=book.interval_count,
            zone=self._zone(row),
            next_billing_at=row.next_billing_at,
            period_number=row.period_number,
            period_start=row.period_start,
            usage_from=row.usage_from,
            ends_at=row.ends_at if used_until is None else None,
            proration=row.proration,
        )
        if moment.next_billing_at <= row.next_billing_at:
            raise PeriodStandsStill(at=row.next_billing_at.isoformat())
        old = row.usage_version_id
        cycle = Cycle(row, moment, book, self._book(old, row.currency) if old else book)
        if moment.usage_start is not None and moment.usage_end is not None:
            cycle.windows = windows_of(
                book=cycle.usage_book, customer_id=row.customer_id, subscription_id=row.id, start=moment.usage_start,
                end=used_until or moment.usage_end,
            )  # fmt: skip
        return cycle

    def _corrections(self, cycles: Iterable[Cycle]) -> Mapping[uuid.UUID, list[late_usage.Correction]]:
        """What changed in windows that were billed before, by subscription."""
        asked = [cycle.row for cycle in cycles if cycle.row.id not in self.foreseen]
        subjects = [late.Subject(row.id, row.customer_id, row.currency) for row in asked]
        moments = {row.id: row.next_billing_at for row in asked}
        found = late.corrections(organisation=self.organisation, subjects=subjects, moments=moments) if asked else {}
        return {**found, **self.foreseen}

    def foresee(self, cycles: Iterable[Cycle]) -> None:
        """Go on as if ``cycles`` were billed: what changed in earlier usage is on them and on none that follow."""
        for cycle in cycles:
            if cycle.reading is not None:
                self.foreseen[cycle.row.id] = [] if cycle.waits else late.carried(cycle.reading.corrections)

    @staticmethod
    def _used(cycles: Iterable[Cycle]) -> Mapping[Window, Sequence[Used]]:
        """Everything the cycles ask of the meters, in one query."""
        return aggregate_parts(window for cycle in cycles for window in cycle.windows.values())

    def _lines(self, cycle: Cycle, used: Mapping[Window, Sequence[Used]]) -> list[LineInput]:
        row = cycle.row
        ahead = lines_in_advance(
            moment=cycle.moment, book=cycle.book, quantity=row.quantity, is_first=row.period_start is None
        )
        return ahead + self._arrears(cycle, used)

    def _zone(self, row: Due) -> ZoneInfo:
        return zone_named(row.time_zone) if row.time_zone else self.zone

    def _arrears(self, cycle: Cycle, used: Mapping[Window, Sequence[Used]]) -> list[LineInput]:
        """What is charged afterwards: usage, components in arrears, minimums."""
        row, moment, book = cycle.row, cycle.moment, cycle.usage_book
        if moment.usage_end is None:
            return []
        past = elapsed(
            row=row,
            book=book,
            book_with=lambda version_id, add_ons: self._book(version_id, row.currency, add_ons),
            until=moment.usage_end,
            zone=self._zone(row),
        )
        cycle.least = least_of(elapsed=past, book=book)
        return arrears_lines(elapsed=past, book=book, used=by_component(cycle.windows, used))


def _payer(row: Due) -> Payer:
    return Payer(
        subscription_id=row.id,
        customer_id=row.customer_id,
        currency=row.currency,
        net_days=row.net_days,
        collect_automatically=row.collect_automatically,
        method_ref=row.method_id,
    )
