"""Named permissions, and which role holds which. Every page and endpoint asks for one of these names."""

from billing.models import Role

READ = frozenset(
    {
        "organisation.view", "customer.view", "plan.view", "subscription.view", "usage.view", "invoice.view", "payment.view",
        "payment_method.view", "refund.view", "dispute.view", "settlement.view", "reconciliation.view", "ledger.view",
        "dunning.view", "analytics.view", "event.view", "webhook.view", "mail.view", "test_clock.view", "gateway.view",
        "billing_run.view", "entitlement.view",
    }
)  # fmt: skip
CLERK = READ | {
    "customer.edit", "subscription.edit", "invoice.edit", "invoice.send", "payment.collect", "payment_method.edit",
    "refund.propose", "reconciliation.work", "statement.import", "export.run", "usage.ingest", "entitlement.grant",
}  # fmt: skip
MANAGER = CLERK | {
    "audit.view", "plan.edit", "refund.issue", "credit_note.issue", "invoice.void", "invoice.write_off", "billing_run.start",
    "dunning.edit", "reconciliation.resolve", "tax.edit", "webhook.replay", "customer.unmask",
}  # fmt: skip
AUDITOR = READ | {"audit.view", "export.run", "customer.unmask"}
SUPPORT = frozenset(
    {"customer.view", "subscription.view", "invoice.view", "payment.view", "payment_method.view", "refund.propose",
     "invoice.send", "usage.view", "plan.view", "entitlement.view"}
)  # fmt: skip
ADMIN = frozenset(
    {"organisation.view", "organisation.edit", "member.edit", "api_key.edit", "gateway.view", "gateway.edit", "webhook.view",
     "webhook.edit", "webhook.replay", "audit.view", "event.view", "test_clock.view", "test_clock.advance", "schedule.view"}
)  # fmt: skip
DEVELOPER = READ | {
    "customer.edit", "plan.edit", "subscription.edit", "usage.ingest", "webhook.edit", "webhook.replay", "test_clock.advance",
    "api_key.edit", "billing_run.start",
}  # fmt: skip

BY_ROLE: dict[str, frozenset[str]] = {
    Role.CLERK: frozenset(CLERK),
    Role.MANAGER: frozenset(MANAGER),
    Role.AUDITOR: frozenset(AUDITOR),
    Role.SUPPORT: SUPPORT,
    Role.ADMIN: ADMIN,
    Role.DEVELOPER: frozenset(DEVELOPER),
}
ALL: frozenset[str] = frozenset().union(*BY_ROLE.values())
# A superuser without a role looks at everything and looks after access; money moves only by a role.
SUPERUSER: frozenset[str] = frozenset(name for name in ALL if name.endswith(".view")) | ADMIN
