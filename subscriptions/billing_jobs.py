"""The billing run, and what goes with it, as the clock calls it."""

from billing.models import Organisation
from billing.services import clock_jobs
from subscriptions.services import billing_run, draft_finalizing, interim, plan_migrations


@clock_jobs.register(name="subscriptions.billing_run", order=10)
def run(organisation: Organisation) -> int:
    """Bill everything that is due, after the plan migrations that are; planned changes have their turn in between.

    Returns how many periods were billed.
    """
    plan_migrations.settle_due(organisation=organisation)
    return billing_run.bill_everything(organisation=organisation)


@clock_jobs.register(name="subscriptions.usage_thresholds", order=12)
def invoice_passed_thresholds(organisation: Organisation) -> int:
    """Invoice usage that has passed a threshold. Returns how many invoices were issued."""
    return interim.invoice_passed(organisation=organisation)


@clock_jobs.register(name="subscriptions.finalize_drafts", order=13)
def finalize_drafts(organisation: Organisation) -> int:
    """Finalise the drafts whose grace is over. Returns how many periods were settled."""
    return draft_finalizing.finalize_due(organisation=organisation)
