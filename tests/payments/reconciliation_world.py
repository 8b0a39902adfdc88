"""A small world for reconciliation tests: payments as the collecting services leave them, settlements as gateways tell them."""

import itertools
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.db import connection
from moneyed import Money

from billing.context import Actor
from billing.models import Customer, Organisation, TestClock
from billing.money import zero
from billing.services import ledger
from payments.gateways.base import LineKind, SettlementLineRecord, SettlementRecord, SettlementStatus
from payments.models import BankAccount, Dispute, GatewayAccount, Payment, PaymentAttempt, Refund
from payments.services.settlements import Recorded, record_settlement
from payments.services.statements import import_statement

serial = itertools.count(1)
MANAGER = Actor(type="system", label="manager", permissions=frozenset({"*"}))
CLERK = Actor(type="user", id="", label="clerk", permissions=frozenset({"reconciliation.work", "statement.import"}))


def inr(amount) -> Money:
    return Money(Decimal(str(amount)), "INR")


class World:
    """One organisation on a test clock, with an online account and a bank account."""

    def __init__(
        self, *, now: datetime = datetime(2025, 4, 1, 6, tzinfo=UTC), country: str = "IN", zone: str = "Asia/Kolkata"
    ) -> None:
        number = next(serial)
        self.clock = TestClock.objects.create(name=f"clock {number}", now=now)
        self.organisation = Organisation.objects.create(
            code=f"org-{number}", name="Org", currency="INR", country=country, time_zone=zone, test_clock=self.clock
        )
        self.account = GatewayAccount.objects.create(organisation=self.organisation, provider="razorpay", code="rzp")
        self.offline = GatewayAccount.objects.create(organisation=self.organisation, provider="offline", code="offline")
        self.bank = BankAccount.objects.create(organisation=self.organisation, code="hdfc", name="HDFC", currency="INR")
        self.customer = Customer.objects.create(
            organisation=self.organisation, external_id=f"c{number}", name="A", currency="INR", created_at=now
        )

    @property
    def now(self) -> datetime:
        return TestClock.objects.values_list("now", flat=True).get(pk=self.clock.pk)

    def at(self, now: datetime) -> None:
        TestClock.objects.filter(pk=self.clock.pk).update(now=now)

    def later(self, **delta) -> None:
        self.at(self.now + timedelta(**delta))

    def post(self, kind: str, source_id, *lines: ledger.Line) -> None:
        ledger.post(organisation=self.organisation, entry=ledger.Entry(
            kind=kind, source_type="payments.payment", source_id=source_id, occurred_at=self.now, key=f"{kind}:{source_id}:{next(serial)}",
            lines=lines))  # fmt: skip

    def payment(
        self,
        amount,
        *,
        status="succeeded",
        attempt_status="captured",
        account=None,
        ref=None,
        reference=None,
        booked=True,
    ):
        """A payment with one attempt; captured and posted unless said otherwise."""
        account = account or self.account
        number, now = next(serial), self.now
        captured = attempt_status == "captured"
        payment = Payment.objects.create(
            organisation=self.organisation, customer=self.customer, reference=reference or f"ref:{number}", amount=inr(amount),
            refunded=inr(0), disputed=inr(0), gateway_account=account, status=status, captured_at=now if captured else None, created_at=now,
        )  # fmt: skip
        attempt = PaymentAttempt.objects.create(
            organisation=self.organisation, payment=payment, number=1, gateway_account=account, amount=inr(amount),
            idempotency_key=f"key{number}", status=attempt_status, gateway_ref=f"pay_{number}" if ref is None else ref,
            gateway_order_ref=f"order_{number}", started_at=now, finished_at=now if captured else None,
        )  # fmt: skip
        if captured and booked:
            self.post("payment_captured", payment.pk, ledger.debit(f"gateway_clearing:{account.code}", inr(amount)),
                      ledger.credit("customer_credit", inr(amount), customer_id=self.customer.pk))  # fmt: skip
        payment.attempt = attempt
        return payment

    def refund(self, payment, amount):
        refund = Refund.objects.create(
            organisation=self.organisation, payment=payment, amount=inr(amount), reason="test", status="succeeded",
            idempotency_key=f"rf{next(serial)}", gateway_ref=f"rfnd_{next(serial)}", created_at=self.now, finished_at=self.now,
        )  # fmt: skip
        Payment.objects.filter(pk=payment.pk).update(refunded=payment.refunded.amount + Decimal(str(amount)))
        self.post("refund_succeeded", refund.pk, ledger.debit("customer_credit", inr(amount), customer_id=self.customer.pk),
                  ledger.credit(f"gateway_clearing:{self.account.code}", inr(amount)))  # fmt: skip
        return refund

    def dispute(self, payment, amount, fee="0"):
        dispute = Dispute.objects.create(
            organisation=self.organisation, payment=payment, gateway_account=self.account, gateway_ref=f"disp_{next(serial)}",
            amount=inr(amount), fee=inr(fee), opened_at=self.now,
        )  # fmt: skip
        self.post("dispute_opened", dispute.pk, ledger.debit("dispute_pending", inr(amount)), ledger.debit("dispute_fees", inr(fee)),
                  ledger.credit(f"gateway_clearing:{self.account.code}", inr(amount) + inr(fee)))  # fmt: skip
        return dispute

    def win(self, dispute):
        Dispute.objects.filter(pk=dispute.pk).update(status="won", closed_at=self.now)
        self.post("dispute_won", dispute.pk, ledger.debit(f"gateway_clearing:{self.account.code}", dispute.amount),
                  ledger.credit("dispute_pending", dispute.amount))  # fmt: skip

    def line(self, kind, ref, amount, fee=0, tax=0, *, line_ref=None, order_ref="") -> SettlementLineRecord:
        amount, fee, tax = inr(amount), inr(fee), inr(tax)
        return SettlementLineRecord(
            line_ref=line_ref or f"{kind}:{ref}", kind=LineKind(kind), gateway_ref=ref, amount=amount, fee=fee, tax=tax,
            net=amount - fee - tax, occurred_at=self.now, order_ref=order_ref,
        )  # fmt: skip

    def settle(self, *lines, amount=None, status="paid", ref=None, utr=None) -> Recorded:
        """A settlement as the gateway tells it, stored; the amount is the sum of its rows unless said otherwise."""
        number, now = next(serial), self.now
        net = sum((line.net for line in lines), zero("INR"))
        record = SettlementRecord(
            gateway_ref=ref or f"setl_{number:06d}", amount=inr(amount) if amount is not None else net, status=SettlementStatus(status),
            created_at=now, settled_on=now.astimezone().date(), utr=f"AXISN{number:010d}" if utr is None else utr,
        )  # fmt: skip
        return record_settlement(account=self.account, record=record, lines=list(lines), at=now)

    def statement(self, *rows: tuple[date, str, object]):
        """Import a CSV with rows of (day, text, amount)."""
        body = "".join(f"{day.isoformat()},{text},{amount}\n" for day, text, amount in rows)
        return import_statement(organisation=self.organisation, bank_account=self.bank, file_name=f"s{next(serial)}.csv",
                                content=f"Date,Description,Amount\n{body}".encode(), actor=MANAGER)  # fmt: skip

    def balance(self, account: str) -> Decimal:
        return ledger.balance(organisation=self.organisation, account=account, currency="INR").amount


_COPIES = {
    "payments_payment": ("payment", "id", {"id": "md5('p' || n)::uuid", "reference": "'copy:' || n"}),
    "payments_paymentattempt": ("payment", "payment_id", {
        "id": "md5('a' || n)::uuid", "payment_id": "md5('p' || n)::uuid", "idempotency_key": "'copy' || n",
        "gateway_ref": "'pay_copy' || n", "gateway_order_ref": "''"}),
    "payments_settlementline": ("settlement", "settlement_id", {
        "id": "md5('l' || n)::uuid", "line_ref": "'copy' || n", "gateway_ref": "'pay_copy' || n", "state": "'unmatched'",
        "payment_id": "NULL"}),
}  # fmt: skip


def copy_rows(payment, settlement, count: int) -> None:
    """Many more payments like ``payment`` with attempts, and rows of ``settlement`` for them, made by the database itself."""
    params = {"payment": payment.pk, "settlement": settlement.pk, "count": count}
    with connection.cursor() as cursor:
        for table, (source, key, changed) in _COPIES.items():
            cursor.execute("SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table])
            names = [name for (name,) in cursor.fetchall()]
            values = ", ".join(changed.get(name, f't."{name}"') for name in names)
            columns = ", ".join(f'"{name}"' for name in names)
            cursor.execute(
                f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table} t, generate_series(1, %(count)s) AS n "
                f"WHERE t.{key} = %({source})s",
                params,
            )
        cursor.execute("ANALYZE payments_settlementline, payments_paymentattempt, payments_payment")
