from payments.models.gateways import GatewayAccount, GatewayCustomer, InboundWebhook, PaymentMethod, Provider
from payments.models.payments import Dispute, Payment, PaymentAttempt, Refund
from payments.models.reconciliation import (
    BankAccount,
    BankLine,
    ReconciliationException,
    Settlement,
    SettlementLine,
    StatementImport,
)

__all__ = [
    "BankAccount",
    "BankLine",
    "Dispute",
    "GatewayAccount",
    "GatewayCustomer",
    "InboundWebhook",
    "Payment",
    "PaymentAttempt",
    "PaymentMethod",
    "Provider",
    "ReconciliationException",
    "Refund",
    "Settlement",
    "SettlementLine",
    "StatementImport",
]
