from billing.models.customers import Beneficiary, BillingParty, Customer
from billing.models.events import (
    AuditRecord,
    Event,
    EventHandling,
    IdempotencyRecord,
    WebhookDelivery,
    WebhookEndpoint,
)
from billing.models.ledger import AccountKind, JournalEntry, LedgerAccount, Posting
from billing.models.tenancy import ApiKey, Membership, Organisation, RefreshToken, Role, TestClock, User
from billing.models.usage import (
    Meter,
    ParkedUsage,
    UsageAdjustment,
    UsageEvent,
    UsageImport,
    UsageImportError,
    UsageNaming,
    UsageRevision,
    UsageWindow,
)

__all__ = [
    "AccountKind",
    "ApiKey",
    "AuditRecord",
    "Beneficiary",
    "BillingParty",
    "Customer",
    "Event",
    "EventHandling",
    "IdempotencyRecord",
    "JournalEntry",
    "LedgerAccount",
    "Membership",
    "Meter",
    "Organisation",
    "ParkedUsage",
    "Posting",
    "RefreshToken",
    "Role",
    "TestClock",
    "UsageAdjustment",
    "UsageEvent",
    "UsageImport",
    "UsageImportError",
    "UsageNaming",
    "UsageRevision",
    "UsageWindow",
    "User",
    "WebhookDelivery",
    "WebhookEndpoint",
]
