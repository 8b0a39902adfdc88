"""From gross to net: what a settlement is made of, and the sums that lead down to an explicit zero. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Protocol

from moneyed import Money

from billing.money import zero

PAYMENT, REFUND, DISPUTE, DISPUTE_REVERSAL, ADJUSTMENT, FEE = (
    "payment", "refund", "dispute", "dispute_reversal", "adjustment", "fee",
)  # fmt: skip


class Row(Protocol):
    """A row of a settlement report: gross amount (signed), fee without tax, tax; net = amount − fee − tax."""

    @property
    def kind(self) -> str: ...
    @property
    def amount(self) -> Money: ...
    @property
    def fee(self) -> Money: ...
    @property
    def tax(self) -> Money: ...


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """gross − refunds − fees − tax − disputes + adjustments − unexplained = net."""

    gross: Money
    refunds: Money
    fees: Money
    tax: Money
    disputes: Money
    adjustments: Money
    unexplained: Money
    net: Money

    @property
    def from_clearing(self) -> Money:
        """What leaves the clearing account: the gross of what the books already know as captured, refunded, disputed."""
        return self.gross - self.refunds - self.disputes


def bridge_of(rows: Iterable[Row], *, net: Money) -> Bridge:
    """Explain ``net`` by ``rows``; what the rows do not explain is a sum of its own, never hidden.

    What a dispute took includes its fee; rows of the kind fee are fees of the account itself.
    """
    nothing = zero(net.currency.code)
    gross = refunds = fees = tax = disputes = adjustments = nothing
    for row in rows:
        if row.kind in (DISPUTE, DISPUTE_REVERSAL):
            disputes -= row.amount - row.fee - row.tax
            continue
        fees += row.fee
        tax += row.tax
        if row.kind == PAYMENT:
            gross += row.amount
        elif row.kind == REFUND:
            refunds -= row.amount
        elif row.kind == FEE:
            fees -= row.amount
        else:
            adjustments += row.amount
    explained = gross - refunds - fees - tax - disputes + adjustments
    return Bridge(gross=gross, refunds=refunds, fees=fees, tax=tax, disputes=disputes, adjustments=adjustments,
                  unexplained=explained - net, net=net)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Flows:
    """Sums of one currency up to a moment. Documents on one side, ledger balances on the other."""

    captured: Money
    refunded: Money
    disputed: Money  # taken, less given back; fees of disputes included
    gross_settled: Money  # of what left clearing: payments less refunds and disputes of paid settlements
    fees: Money
    tax: Money
    adjustments: Money
    explained_by_people: Money  # of what settlements' rows did not explain: resolved with a reason
    settled: Money  # net, paid out
    sent_back: Money  # settlements that failed after they were paid
    in_bank: Money
    resolved_clearing: Money  # moved out of clearing by decisions of people
    resolved_transit: Money
    ledger_clearing: Money
    ledger_transit: Money

    def __post_init__(self) -> None:
        codes = {getattr(self, item.name).currency.code for item in fields(self)}
        if len(codes) != 1:
            raise ValueError(f"sums of one currency, not of {sorted(codes)}")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The three equations of reconciliation. All differences are nothing when the books tell what happened."""

    unsettled: Money  # captured less refunded and disputed, not yet in a settlement
    in_transit: Money  # paid out, not yet on the statement
    clearing_difference: Money
    transit_difference: Money
    bridge_difference: Money

    @property
    def unexplained(self) -> Money:
        """The sum of all differences without their signs, so that none hides another."""
        return abs(self.clearing_difference) + abs(self.transit_difference) + abs(self.bridge_difference)


def identity(flows: Flows) -> Identity:
    """Compare documents with the ledger.

    Captured less refunded, disputed and settled is the balance of clearing; settled less what came to the bank is in
    transit; and what left clearing is fees, tax and the money paid out.
    """
    unsettled = (flows.captured - flows.refunded - flows.disputed - flows.gross_settled + flows.sent_back
                 - flows.resolved_clearing)  # fmt: skip
    in_transit = flows.settled - flows.sent_back - flows.in_bank - flows.resolved_transit
    made_of = (
        flows.gross_settled - flows.fees - flows.tax + flows.adjustments - flows.settled - flows.explained_by_people
    )
    return Identity(
        unsettled=unsettled,
        in_transit=in_transit,
        clearing_difference=unsettled - flows.ledger_clearing,
        transit_difference=in_transit - flows.ledger_transit,
        bridge_difference=made_of,
    )
