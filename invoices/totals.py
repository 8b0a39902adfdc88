"""Pricing of an invoice: lines with tax, tax table, totals. Pure: values in, values out; one rounding rule.

India taxes every line and component by itself (CGST Rules 46), the two halves equal; value added tax is levied once on
the summed base of a category and rate (EN 16931) and spread back over the lines for the record.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal

from billing.errors import CurrencyMismatch
from billing.money import exponent
from invoices.drafts import InvoiceDraft, LineInput, PricedInvoice, PricedLine, PricedTax, TaxContext
from invoices.errors import EmptyInvoice, NegativeInvoice
from invoices.recognition import revenue_account
from invoices.tax import gst, vat
from invoices.tax.rates import TaxRule

ZERO = Decimal(0)
HUNDRED = Decimal(100)
UNTAXED = TaxRule(category="O", components=(), rate=ZERO, reason="")


@dataclass(slots=True)
class _Row:
    """A row of the tax table while it grows."""

    rule: TaxRule
    rate: Decimal
    base: Decimal = ZERO
    tax: Decimal = ZERO


@dataclass(slots=True)
class _Work:
    """One invoice while it is priced."""

    quantum: Decimal
    inclusive: bool
    lines: list[PricedLine] = field(default_factory=list)
    rows: dict[tuple[str, str, Decimal, str], _Row] = field(default_factory=dict)
    gross: Decimal = ZERO

    def round(self, value: Decimal) -> Decimal:
        return value.quantize(self.quantum, rounding=ROUND_HALF_UP)

    def row(self, rule: TaxRule, component: str, rate: Decimal) -> _Row:
        key = (component, rule.category, rate, rule.reason)
        found = self.rows.get(key)
        if found is None:
            found = self.rows[key] = _Row(rule, rate)
        return found


def price_invoice(draft: InvoiceDraft, context: TaxContext) -> PricedInvoice:
    """Tax and totals of ``draft``. Raises ``EmptyInvoice``, ``NegativeInvoice``, ``CurrencyMismatch``, ``MissingTaxRate``."""
    if not draft.lines:
        raise EmptyInvoice(field="lines")
    for line in draft.lines:
        if line.amount.currency.code != draft.currency:
            raise CurrencyMismatch(expected=draft.currency, got=line.amount.currency.code, field="lines")
    work = _Work(quantum=Decimal(1).scaleb(-exponent(draft.currency)), inclusive=draft.prices_include_tax)
    if context.seller.country == "IN":
        _price_gst(work, draft.lines, context)
        place = gst.place_of_supply(context)
    else:
        _price_vat(work, draft.lines, context)
        place = vat.place_of_supply(context)
    return _total(work, draft, place)


def rule_for(context: TaxContext, category: str) -> TaxRule:
    """The tax rule of a category, worked out once per context; an empty category is outside of tax."""
    if not category:
        return UNTAXED
    known: TaxRule | None = context.rules.get(category)
    if known is None:
        scheme = gst if context.seller.country == "IN" else vat
        known = context.rules[category] = scheme.rule(context, category)
    return known


def spread(exact: Sequence[Decimal], total: Decimal, quantum: Decimal) -> list[Decimal]:
    """Round ``exact`` shares to the quantum so that they add up to ``total``, which is their rounded sum.

    Spare units go to the largest fractions, the first on a tie; a negative total mirrors the positive one.
    """
    if total < 0:
        return [-share for share in spread([-share for share in exact], -total, quantum)]
    floors = [share.quantize(quantum, rounding=ROUND_FLOOR) for share in exact]
    spare = int((total - sum(floors, ZERO)) / quantum)
    largest_first = sorted(range(len(exact)), key=lambda i: floors[i] - exact[i])
    lucky = set(largest_first[:spare])
    return [floor + quantum if i in lucky else floor for i, floor in enumerate(floors)]


def _price_gst(work: _Work, lines: Sequence[LineInput], context: TaxContext) -> None:
    for position, line in enumerate(lines, start=1):
        rule = rule_for(context, line.tax_category)
        amount = line.amount.amount
        work.gross += amount
        if work.inclusive and not rule.reverse_charge:
            amount = work.round(amount * HUNDRED / (HUNDRED + rule.rate))
        parts, tax = [], ZERO
        for component, rate in rule.components:
            part = work.round(amount * rate / HUNDRED)
            row = work.row(rule, component, rate)
            row.base += amount
            row.tax += part
            if not rule.reverse_charge:
                parts.append((component, part))
                tax += part
        work.lines.append(_priced_line(position, line, rule, amount, tax, tuple(parts)))


def _price_vat(work: _Work, lines: Sequence[LineInput], context: TaxContext) -> None:
    rules = [rule_for(context, line.tax_category) for line in lines]
    taxes: list[Decimal] = [ZERO] * len(lines)
    for members in _by_rule(rules).values():
        rule = rules[members[0]]
        if not rule.components:
            continue
        exact = [_exact_vat(lines[i].amount.amount, rule.rate, inclusive=work.inclusive) for i in members]
        total = work.round(sum(exact, ZERO))
        for i, tax in zip(members, spread(exact, total, work.quantum), strict=True):
            taxes[i] = tax
    for i, (line, rule, tax) in enumerate(zip(lines, rules, taxes, strict=True), start=1):
        given = line.amount.amount
        work.gross += given
        amount = given - tax if work.inclusive else given
        for component, rate in rule.components:
            row = work.row(rule, component, rate)
            row.base += amount
            row.tax += tax
        parts = tuple((component, tax) for component, _ in rule.components)
        work.lines.append(_priced_line(i, line, rule, amount, tax, parts))


def _by_rule(rules: Sequence[TaxRule]) -> dict[tuple[str, Decimal, str], list[int]]:
    groups: dict[tuple[str, Decimal, str], list[int]] = {}
    for i, rule in enumerate(rules):
        groups.setdefault((rule.category, rule.rate, rule.reason), []).append(i)
    return groups


def _exact_vat(amount: Decimal, rate: Decimal, *, inclusive: bool) -> Decimal:
    return amount * rate / (HUNDRED + rate) if inclusive else amount * rate / HUNDRED


def _priced_line(
    position: int, line: LineInput, rule: TaxRule, amount: Decimal, tax: Decimal, parts: tuple[tuple[str, Decimal], ...]
) -> PricedLine:
    code = line.tax_code or rule.code
    return PricedLine(position, line, amount, tax, rule.rate, code, parts, revenue_account(line), rule.category)


def _total(work: _Work, draft: InvoiceDraft, place: str) -> PricedInvoice:
    net = sum((line.amount for line in work.lines), ZERO)
    tax = sum((line.tax for line in work.lines), ZERO)
    rounding = work.gross - net - tax if work.inclusive else ZERO
    total = net + tax + rounding
    if total < 0:
        raise NegativeInvoice(total=f"{total} {draft.currency}", field="lines")
    return PricedInvoice(
        currency=draft.currency,
        lines=tuple(work.lines),
        taxes=tuple(_tax_row(component, row) for (component, _, _, _), row in work.rows.items()),
        net=net,
        tax=tax,
        rounding=rounding,
        total=total,
        place_of_supply=place,
        reverse_charge=any(row.rule.reverse_charge for row in work.rows.values()),
        prices_include_tax=draft.prices_include_tax,
    )


def _tax_row(component: str, row: _Row) -> PricedTax:
    charged = not row.rule.reverse_charge
    return PricedTax(
        component=component,
        category=row.rule.category,
        rate=row.rate,
        base=row.base,
        tax=row.tax if charged else ZERO,
        reverse_charged=ZERO if charged else row.tax,
        reason=row.rule.reason,
    )
